//! What is done to the cluster, and when: decided beforehand from a seed alone.
//!
//! - `PLAN-1` the same seed, duration and nodes give the same plan;
//! - `PLAN-2` every fault ends within the duration: what it did is undone;
//! - `PLAN-3` no node is hurt by two steps at once, and what hurts nodes that are not known
//!   beforehand, or all of them, overlaps with nothing;
//! - `PLAN-4` kinds take turns: each happens once before any happens again.

use std::time::Duration;

use mocks3::types::Service;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

/// One trouble; nodes by their place in the list of services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9; started again at the end.
    Kill(usize),
    /// SIGSTOP; SIGCONT at the end.
    Freeze(usize),
    /// Nothing gets through from one node to the other; the way back is open.
    CutOneWay { from: usize, to: usize },
    /// Nothing gets through between two nodes.
    CutBothWays(usize, usize),
    /// Nothing gets through between a node and any other.
    Isolate(usize),
    /// kill -9 of whoever leads this service's group then.
    KillLeader(Service),
    /// kill -9 of two storage nodes at once; both return.
    KillTwo(usize, usize),
    /// kill -9 of everything, and everything starts again.
    RestartAll,
}

const KINDS: usize = 9;

/// A fault with its time, from the beginning of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub begin: Duration,
    pub end: Duration,
    pub fault: Fault,
}

impl Fault {
    /// The nodes that it hurts; None: any or all.
    fn hurt(&self) -> Option<Vec<usize>> {
        match self {
            Fault::Kill(n) | Fault::Freeze(n) => Some(vec![*n]),
            Fault::CutOneWay { from: a, to: b } | Fault::CutBothWays(a, b) => Some(vec![*a, *b]),
            Fault::KillTwo(a, b) => Some(vec![*a, *b]),
            Fault::Isolate(_) | Fault::KillLeader(_) | Fault::RestartAll => None,
        }
    }
}

/// The plan for nodes that run these services, in the order of begin.
pub fn plan(seed: u64, duration: Duration, nodes: &[Service]) -> Vec<Step> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut steps: Vec<Step> = Vec::new();
    let mut bag: Vec<usize> = Vec::new();
    let mut begin = millis(&mut dice, 500..1500);
    loop {
        if bag.is_empty() {
            bag = (0..KINDS).collect();
            bag.shuffle(&mut dice);
        }
        let kind = bag.pop().expect("it was filled");
        let (fault, lasts) = draw(&mut dice, kind, nodes);
        // PLAN-3: where it does not go beside the one that runs, it waits for its end
        let running = steps.iter().filter(|s| s.end > begin);
        let begin_now = running.filter(|s| clash(&s.fault, &fault)).map(|s| s.end).max();
        begin = begin_now.map_or(begin, |end| end.max(begin) + Duration::from_millis(500));
        let end = begin + lasts;
        if end > duration {
            return steps;
        }
        let rest = match fault {
            Fault::RestartAll => millis(&mut dice, 4000..6000),
            _ => millis(&mut dice, 1000..4000),
        };
        let beside = fault.hurt().is_some() && dice.random_ratio(1, 4);
        steps.push(Step { begin, end, fault });
        begin = if beside { begin + lasts / 2 } else { end + rest };
    }
}

fn clash(one: &Fault, other: &Fault) -> bool {
    match (one.hurt(), other.hurt()) {
        (Some(one), Some(other)) => one.iter().any(|n| other.contains(n)),
        _ => true,
    }
}

fn draw(dice: &mut StdRng, kind: usize, nodes: &[Service]) -> (Fault, Duration) {
    let all: Vec<usize> = (0..nodes.len()).collect();
    let storage: Vec<usize> =
        all.iter().copied().filter(|n| nodes[*n] == Service::Storage).collect();
    let two = |dice: &mut StdRng, of: &[usize]| {
        let chosen: Vec<usize> = of.sample(dice, 2).copied().collect();
        (chosen[0], chosen[1])
    };
    let one = dice.random_range(0..nodes.len());
    match kind {
        0 => (Fault::Kill(one), millis(dice, 500..4000)),
        1 => (Fault::Freeze(one), millis(dice, 1000..6000)),
        2 => {
            let (from, to) = two(dice, &all);
            (Fault::CutOneWay { from, to }, millis(dice, 2000..8000))
        }
        3 => {
            let (a, b) = two(dice, &all);
            (Fault::CutBothWays(a, b), millis(dice, 2000..8000))
        }
        4 => (Fault::Isolate(one), millis(dice, 2000..6000)),
        5 => (Fault::KillLeader(Service::Metadata), millis(dice, 1000..4000)),
        6 => (Fault::KillLeader(Service::Queue), millis(dice, 1000..4000)),
        7 => {
            let (a, b) = two(dice, &storage);
            (Fault::KillTwo(a, b), millis(dice, 1000..5000))
        }
        _ => (Fault::RestartAll, millis(dice, 200..1000)),
    }
}

fn millis(dice: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [Service; 6] = [
        Service::Metadata,
        Service::Storage,
        Service::Storage,
        Service::Storage,
        Service::Queue,
        Service::ThirdParty,
    ];
    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        for seed in 0..50 {
            assert_eq!(plan(seed, LONG, &NODES), plan(seed, LONG, &NODES));
            assert_ne!(plan(seed, LONG, &NODES), plan(seed + 1, LONG, &NODES));
        }
    }

    #[test]
    fn two_minutes_hold_every_kind_and_every_fault_ends_in_time() {
        for seed in 0..200 {
            let steps = plan(seed, LONG, &NODES);
            let kind = |s: &Step| match &s.fault {
                Fault::KillLeader(service) => format!("{service}"),
                other => format!("{other:?}").split(['(', ' ']).next().unwrap().to_owned(),
            };
            let kinds: std::collections::BTreeSet<String> = steps.iter().map(kind).collect();
            assert_eq!(kinds.len(), KINDS, "seed {seed}: {kinds:?}");
            assert!(steps.iter().all(|s| s.begin < s.end && s.end <= LONG), "{steps:?}");
            assert!(steps.is_sorted_by_key(|s| s.begin), "{steps:?}");
        }
    }

    #[test]
    fn no_node_is_hurt_twice_at_once() {
        for seed in 0..200 {
            let steps = plan(seed, LONG, &NODES);
            for (n, late) in steps.iter().enumerate() {
                let beside = steps[..n].iter().filter(|early| early.end > late.begin);
                for early in beside {
                    assert!(!clash(&early.fault, &late.fault), "{early:?} {late:?}");
                }
            }
        }
    }

    #[test]
    fn some_faults_overlap() {
        let overlap = |seed| {
            let steps = plan(seed, LONG, &NODES);
            steps.windows(2).any(|pair| pair[1].begin < pair[0].end)
        };
        assert!((0..20).any(overlap));
    }
}
