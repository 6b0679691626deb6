//! Crashes of every kind, and what the strategy makes of them.

use std::time::{Duration, Instant};

use mocks3::actors::supervisor::restart::{Limits, Strategy};
use mocks3::events::EventKind;
use proptest::prelude::*;

use crate::harness::{CRASHES, Crash, tree};

const PATIENT: Limits = Limits {
    max_restarts: 1000,
    window: Duration::from_secs(10),
    backoff: Duration::from_millis(10),
    backoff_max: Duration::from_millis(40),
};

#[tokio::test]
async fn every_kind_of_crash_is_seen_with_its_cause_and_the_child_comes_back_after_its_backoff() {
    let tree = tree(Strategy::OneForOne, PATIENT, 2).await;
    for (n, crash) in CRASHES.into_iter().enumerate() {
        let begun = Instant::now();
        tree.slots[0].crash(crash).await;
        tree.until_started(0, n + 2).await;
        assert!(begun.elapsed() >= Duration::from_millis(7), "{crash:?}: before its backoff");
        tree.until_running().await;
        assert_eq!(tree.slots[1].starts(), 1, "{crash:?} touched the sibling");
    }
    let ended: Vec<String> = tree
        .events
        .since(0, 100)
        .into_iter()
        .filter(|e| e.kind == EventKind::ActorEnded)
        .map(|e| e.detail)
        .collect();
    assert_eq!(ended.len(), CRASHES.len());
    assert!(ended[0].contains("injected") && ended[1].contains("injected"), "{ended:?}");
    assert!(ended[2].contains("kill") && ended[3].contains("kill"), "{ended:?}");
    tree.stop().await;
}

#[tokio::test]
async fn one_for_all_and_rest_for_one_take_the_right_siblings_along() {
    for (strategy, expected) in
        [(Strategy::OneForAll, [2, 2, 2]), (Strategy::RestForOne, [1, 2, 2])]
    {
        let tree = tree(strategy, PATIENT, 3).await;
        tree.slots[1].crash(Crash::Panic).await;
        tree.until_started(2, 2).await;
        tree.until_running().await;
        let starts: Vec<usize> = tree.slots.iter().map(|s| s.starts()).collect();
        assert_eq!(starts, expected, "{strategy:?}");
        tree.stop().await;
    }
}

#[tokio::test]
async fn too_many_crashes_end_the_supervisor_and_all_its_children() {
    let limits = Limits { max_restarts: 3, ..PATIENT };
    let tree = tree(Strategy::OneForOne, limits, 2).await;
    for n in 0..4 {
        tree.slots[0].crash(Crash::Error).await;
        if n < 3 {
            tree.until_started(0, n + 2).await;
            tree.until_running().await;
        }
    }
    tokio::time::timeout(Duration::from_secs(5), tree.ended).await.expect("it gave up").unwrap();
    let events = tree.events.since(0, 100);
    assert_eq!(events.iter().filter(|e| e.kind == EventKind::Escalated).count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Any sequence of crashes: in the end all children run, and each was started once more for each
    /// of its own ends (one-for-one).
    #[test]
    fn after_random_crashes_every_child_runs_again(
        crashes in proptest::collection::vec((0usize..3, 0usize..4, 0u64..15), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let tree = tree(Strategy::OneForOne, PATIENT, 3).await;
            for (child, how, pause) in crashes {
                tree.slots[child].crash(CRASHES[how]).await;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
            tree.until_running().await;
            let nodes = tree.observe().await;
            for (slot, node) in tree.slots.iter().zip(&nodes) {
                assert_eq!(slot.starts() as u64, node.restarts + 1);
            }
            tree.stop().await;
        });
    }
}
