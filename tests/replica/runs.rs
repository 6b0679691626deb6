//! The runs: many seeds, each its own world.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::world::{Mutant, World};

/// How many seeds CI runs.
const SEEDS: u64 = 500;
/// Steps of a run; in a third of them something happens.
const STEPS: usize = 300;

thread_local! {
    /// Whether a panic of this thread is nothing to speak of.
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// One run from its seed: what happened, and how many operations were answered.
fn run(seed: u64, mutant: Option<Mutant>) -> (Vec<String>, usize) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let nodes = if seed.is_multiple_of(4) { 5 } else { 3 };
        let mut world = World::new(seed, nodes, mutant).await;
        let clients: Vec<_> = (0..4).map(|n| tokio::spawn(world.client(n).work())).collect();
        for _ in 0..STEPS {
            world.observe().await;
            if world.dice.chance(0.3) {
                world.misfortune().await;
            }
        }
        for client in clients {
            client.abort();
            let _ = client.await;
        }
        let took = world.heal().await;
        assert!(took <= Duration::from_secs(10), "whole again only after {took:?}");
        world.observe().await;
        world.judge();
        (world.observer.story(), world.operations())
    })
}

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_raft_promises_holds_on_every_seed() {
    let first = given("MOCKS3TEST_SEED").unwrap_or(0);
    let end = first + given("MOCKS3TEST_SEEDS").unwrap_or(SEEDS);
    let (next, answered) = (AtomicU64::new(first), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let Ok((_, operations)) = std::panic::catch_unwind(|| run(seed, None)) else {
                        panic!("MOCKS3TEST_SEED={seed} MOCKS3TEST_SEEDS=1 repeats it");
                    };
                    answered.fetch_add(operations, Ordering::Relaxed);
                }
            });
        }
    });
    let mean = answered.into_inner() as u64 / (end - first);
    eprintln!("{} seeds, {mean} operations answered in each", end - first);
    assert!(mean > 100, "nothing happened: {mean} operations a seed");
}

#[test]
fn one_seed_twice_is_the_same_run() {
    for seed in [1, 4, 7] {
        let (first, second) = (run(seed, None).0, run(seed, None).0);
        let differs = first.iter().zip(&second).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed}, step {at}: {:?} and {:?}", &first[at], &second[at]);
        }
        assert_eq!(first.len(), second.len());
    }
}

#[test]
fn every_mutant_is_caught() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !SILENT.get() {
            usual(info);
        }
    }));
    SILENT.set(true); // they are to fail
    let mutants = [Mutant::SyncLies, Mutant::ReadsAnywhere, Mutant::MarkApart, Mutant::NewKeys];
    let caught_at = |mutant| {
        (0..2000).find(|seed| std::panic::catch_unwind(|| run(*seed, Some(mutant))).is_err())
    };
    let caught = mutants.map(|mutant| (mutant, caught_at(mutant)));
    SILENT.set(false);
    eprintln!("caught by seed: {caught:?}");
    assert!(caught.iter().all(|(_, seed)| seed.is_some()), "{caught:?}");
}
