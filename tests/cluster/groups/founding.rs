//! A group comes to be exactly once, whoever is there first.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{RngExt, SeedableRng};

use super::{HEALED, SOON, Town, eventually};
use crate::harness::until;

/// Longer than anything takes that comes before founding.
const LONG_ENOUGH: Duration = Duration::from_secs(6);

#[tokio::test]
async fn three_fresh_nodes_found_one_group_and_keep_it_when_all_restart_at_once() {
    let mut town = Town::of(3, &["--wanted", "metadata=3"], &[]);
    let group = town.stands(0, &[0, 1, 2], &[]).await;
    assert!(group["warning"].is_null(), "{group}");
    for n in 0..3 {
        town.stands(n, &[0, 1, 2], &[]).await;
    }
    eventually("all keep its id on their disks", SOON, async || {
        let known: BTreeSet<_> = (0..3).map(|n| town.known(n)).collect();
        let one = known.len() == 1 && known.first().unwrap().as_deref() == group["group"].as_str();
        if one { Ok(()) } else { Err(format!("{known:?}")) }
    })
    .await;
    town.create_within(1, "kept", HEALED).await;
    for n in 0..3 {
        town.all[n].node.kill();
    }
    for n in 0..3 {
        town.restart(n, false);
    }
    town.create_within(2, "kept-too", HEALED).await;
    let after = town.stands(0, &[0, 1, 2], &[]).await;
    assert_eq!(after["group"], group["group"]);
    for n in 0..3 {
        assert!(town.has(n, "kept").await && town.has(n, "kept-too").await);
    }
    town.are_equal(0, 3).await;
}

#[tokio::test]
async fn nobody_founds_beside_a_group_whose_replicas_are_all_dead() {
    let mut town = Town::of(1, &[], &[]);
    town.create_within(0, "kept", SOON).await;
    let storage = town.join("storage");
    eventually("storage has heard of the group", SOON, async || {
        town.known(storage).ok_or("no".into())
    })
    .await;
    town.all[0].node.kill();
    founds_nothing(town, storage, async |town| town.restart(0, false)).await;
}

#[tokio::test]
async fn nobody_founds_beside_a_group_whose_replicas_are_all_frozen() {
    let mut town = Town::of(1, &[], &[]);
    town.create_within(0, "kept", SOON).await;
    let storage = town.join("storage");
    eventually("storage has heard of the group", SOON, async || {
        town.known(storage).ok_or("no".into())
    })
    .await;
    town.all[0].node.freeze();
    founds_nothing(town, storage, async |town| {
        town.all[0].node.signal(nix::sys::signal::Signal::SIGCONT);
    })
    .await;
}

/// A fresh metadata node that meets only a storage node waits, and joins when the others are back.
async fn founds_nothing(mut town: Town, storage: usize, heal: impl AsyncFnOnce(&mut Town)) {
    let one = town.join_one("metadata", storage);
    let all = town.join("metadata");
    tokio::time::sleep(LONG_ENOUGH).await;
    for fresh in [one, all] {
        assert!(!town.all[fresh].node.log().contains("group founded"), "{}", town.logs());
        town.create(fresh, "other").await.assert_refused("without a group");
        let path = "/buckets/kept";
        town.ask(fresh, path, None).await.assert_refused("a read without a group");
    }
    heal(&mut town).await;
    town.stands(one, &[0, one, all], &[]).await;
    assert!(town.has(one, "kept").await && !town.has(all, "other").await);
}

#[tokio::test]
async fn whoever_crashes_while_a_group_is_founded_there_is_one_in_the_end() {
    let seed = std::env::var("MOCKS3TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    eprintln!("MOCKS3TEST_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut town = Town::of(3, &["--wanted", "metadata=3"], &[]);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        let victims: Vec<usize> = (0..3).filter(|_| random.random()).collect();
        for n in &victims {
            town.all[*n].node.kill();
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        for n in victims {
            town.restart(n, false);
        }
    }
    let group = town.stands(0, &[0, 1, 2], &[]).await;
    for n in 1..3 {
        assert_eq!(town.stands(n, &[0, 1, 2], &[]).await["group"], group["group"]);
    }
    town.create_within(0, "kept", HEALED).await;
    assert!(town.has(1, "kept").await && town.has(2, "kept").await);
}

#[tokio::test]
async fn a_founder_that_dies_at_once_leaves_no_second_group_behind() {
    let mut town = Town::of(3, &[], &[]);
    let founded = |town: &Town, n: usize| town.all[n].node.log().contains("group founded");
    let mut found = None;
    until("somebody founds", SOON, || {
        found = (0..3).find(|n| founded(&town, *n));
        found.is_some()
    })
    .await;
    let founder = found.unwrap();
    town.all[founder].node.kill();
    tokio::time::sleep(LONG_ENOUGH).await; // longer than the promises that it was given
    town.restart(founder, false);
    let group = town.stands(founder, &[0, 1, 2], &[]).await;
    for n in 0..3 {
        assert_eq!(town.stands(n, &[0, 1, 2], &[]).await["group"], group["group"]);
    }
}
