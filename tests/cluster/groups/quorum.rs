//! Without a quorum everything is refused in time; nothing that is stale is ever answered.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{HEALED, SOON, Town};

/// The promise: from the death of a leader to the first write.
const GAP: Duration = Duration::from_secs(5);

async fn three() -> (Town, usize) {
    let town = Town::of(3, &["--wanted", "metadata=3"], &[]);
    town.stands(0, &[0, 1, 2], &[]).await;
    town.create_within(0, "kept", SOON).await;
    let leader = town.leader(0).await;
    (town, leader)
}

/// Reads and commands at one node, again and again while the others go: right or refused, in time.
async fn is_refused(town: &Town, n: usize, round: &str) {
    for again in 0..3 {
        let name = format!("{round}-{again}");
        let (read, list, made) = tokio::join!(
            town.ask(n, "/buckets/kept", None),
            town.ask(n, "/buckets", None),
            town.create(n, &name)
        );
        read.assert_refused("a read");
        list.assert_refused("a listing");
        made.assert_refused("a command");
    }
}

#[tokio::test]
async fn without_a_quorum_everything_is_refused_in_time_and_goes_on_when_it_is_back() {
    let (mut town, leader) = three().await;
    let [a, b] = [(leader + 1) % 3, (leader + 2) % 3];
    // the leader is left alone by frozen ones
    town.all[a].node.freeze();
    town.all[b].node.freeze();
    is_refused(&town, leader, "frozen").await;
    town.all[a].node.signal(Signal::SIGCONT);
    town.all[b].node.signal(Signal::SIGCONT);
    town.create_within(leader, "thawed", HEALED).await;
    assert!(town.has(a, "thawed").await);
    // a follower is left alone by killed ones
    town.all[leader].node.kill();
    town.all[b].node.kill();
    is_refused(&town, a, "killed").await;
    town.restart(b, false);
    town.create_within(a, "after", HEALED).await;
    town.restart(leader, false);
    for n in [leader, a, b] {
        for bucket in ["kept", "thawed", "after"] {
            assert!(town.has(n, bucket).await, "{bucket} at {n}");
        }
    }
    town.are_equal(a, 3).await;
}

#[tokio::test]
async fn another_leads_soon_after_the_death_of_the_leader() {
    let (mut town, _) = three().await;
    for round in 0..2 {
        let leader = town.leader(0).await;
        let (a, b) = ((leader + 1) % 3, (leader + 2) % 3);
        town.all[leader].node.kill();
        let bucket = format!("round-{round}");
        town.create_within(a, &bucket, GAP).await;
        assert!(town.has(b, &bucket).await);
        town.restart(leader, false);
        assert!(town.has(leader, &bucket).await);
        town.stands(leader, &[0, 1, 2], &[]).await;
    }
}

#[tokio::test]
async fn a_leader_that_slept_while_others_went_on_answers_nothing_stale() {
    let (town, leader) = three().await;
    let [a, b] = [(leader + 1) % 3, (leader + 2) % 3];
    town.all[leader].node.freeze();
    town.create_within(a, "later", HEALED).await;
    town.all[a].node.freeze();
    town.all[b].node.freeze();
    town.all[leader].node.signal(Signal::SIGCONT);
    let (read, list) =
        tokio::join!(town.ask(leader, "/buckets/later", None), town.ask(leader, "/buckets", None));
    read.assert_refused("what it cannot know");
    list.assert_refused("a listing");
    is_refused(&town, leader, "alone").await;
    town.all[a].node.signal(Signal::SIGCONT);
    town.all[b].node.signal(Signal::SIGCONT);
    assert!(town.has(leader, "later").await);
    town.create_within(leader, "goes-on", HEALED).await;
}
