//! The runs: many seeds, each its own world.

use std::cell::Cell;
use std::fmt::Debug;
use std::panic::{RefUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::registers::{Kind, Mutant, world};

/// How many seeds CI runs.
const SEEDS: u64 = 500;
/// Steps of a run; in a third of them something happens.
const STEPS: usize = 300;

thread_local! {
    /// Whether a panic of this thread is nothing to speak of.
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// What happened in a run, and how many operations were answered.
pub type Run = (Vec<String>, usize);

/// Lets a world run on this thread, on a clock of its own.
pub fn simulated<T>(run: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(run)
}

/// One run from its seed.
fn run(seed: u64, mutant: Option<Mutant>) -> Run {
    simulated(async {
        let nodes = if seed.is_multiple_of(4) { 5 } else { 3 };
        let mut world = world(seed, nodes, mutant).await;
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
        let mut client = world.client(1000);
        let took = world.heal(async || client.act(0, Kind::Put).await).await;
        assert!(took <= Duration::from_secs(10), "whole again only after {took:?}");
        world.settle().await;
        world.judge();
        (world.observer.story(), world.operations())
    })
}

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs many seeds, or those of `MOCKS3TEST_SEED` and `MOCKS3TEST_SEEDS`; gives how many operations
/// were answered in each of them on average.
pub fn on_every_seed(run: impl Fn(u64) -> Run + Sync + std::panic::RefUnwindSafe) -> u64 {
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
                    let Ok((_, operations)) = catch_unwind(|| run(seed)) else {
                        panic!("MOCKS3TEST_SEED={seed} MOCKS3TEST_SEEDS=1 repeats it");
                    };
                    answered.fetch_add(operations, Ordering::Relaxed);
                }
            });
        }
    });
    let mean = answered.into_inner() as u64 / (end - first);
    eprintln!("{} seeds, {mean} operations answered in each", end - first);
    mean
}

/// Fails unless the same seed gives the same run.
pub fn the_same_twice(seed: u64, run: impl Fn(u64) -> Run) {
    let (first, second) = (run(seed).0, run(seed).0);
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    if let Some(at) = differs {
        panic!("seed {seed}, step {at}: {:?} and {:?}", &first[at], &second[at]);
    }
    assert_eq!(first.len(), second.len());
}

/// Fails unless each mutant makes some run fail, with these words.
pub fn all_are_caught<T: Copy + Debug + RefUnwindSafe>(
    mutants: &[(T, &str)],
    run: impl Fn(u64, T) -> Run + RefUnwindSafe,
) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !SILENT.get() {
            usual(info);
        }
    }));
    SILENT.set(true); // they are to fail
    let caught_at = |mutant: T, words: &str| {
        (0..2000).find_map(|seed| {
            let why = catch_unwind(|| run(seed, mutant)).err()?;
            let why = why.downcast_ref::<String>().filter(|why| why.contains(words))?;
            Some((seed, why.chars().take(300).collect::<String>()))
        })
    };
    let caught: Vec<_> =
        mutants.iter().map(|(mutant, words)| (*mutant, caught_at(*mutant, words))).collect();
    SILENT.set(false);
    eprintln!("caught by seed: {caught:#?}");
    assert!(caught.iter().all(|(_, seed)| seed.is_some()), "{caught:?}");
}

#[test]
fn what_raft_promises_holds_on_every_seed() {
    let mean = on_every_seed(|seed| run(seed, None));
    assert!(mean > 100, "nothing happened: {mean} operations a seed");
}

#[test]
fn one_seed_twice_is_the_same_run() {
    for seed in [1, 4, 7] {
        the_same_twice(seed, |seed| run(seed, None));
    }
}

#[test]
fn every_mutant_is_caught() {
    let mutants = [
        (Mutant::SyncLies, "voted"), // and the vote is gone
        (Mutant::ReadsAnywhere, "is not linearizable"),
        (Mutant::MarkApart, "another one"),
        (Mutant::NewKeys, "is not linearizable"),
    ];
    all_are_caught(&mutants, |seed, mutant| run(seed, Some(mutant)));
}
