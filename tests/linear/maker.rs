//! Histories made up: small ones of any kind, right or wrong, and large ones that really happened.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::history::{Act, Operation, When};

/// One operation of a small history, before values are given out.
#[derive(Clone, Debug)]
struct Draft {
    begun: u64,
    length: u64,
    unknown: bool,
    key: usize,
    kind: u8,
    /// Which operation's value it names; one past all of them: a value that nobody wrote.
    other: usize,
    others: (usize, usize),
}

const KEYS: [&str; 2] = ["a", "b"];

/// Small histories on up to two keys; values are 1.. by the operation that writes them.
pub fn small(at_most: usize) -> impl Strategy<Value = Vec<Operation>> {
    let draft = (0..10u64, 0..7u64, 0..5u8, 0..2usize, 0..12u8, 0..8usize, (0..8usize, 0..8usize))
        .prop_map(|(begun, length, unknown, key, kind, other, others)| {
            let unknown = unknown == 0;
            Draft { begun, length, unknown, key, kind, other, others }
        });
    let drafts = prop::collection::vec(draft, 1..=at_most);
    (drafts, 1..=2usize).prop_map(|(drafts, keys)| finish(&drafts, keys))
}

fn finish(drafts: &[Draft], keys: usize) -> Vec<Operation> {
    let puts = |draft: &Draft| draft.kind < 5;
    // a value that was written to that key, nothing, or (seldom) one that was not
    let value = |key: usize, other: usize| {
        let n = other % (drafts.len() + 1);
        let there = drafts.get(n).is_none_or(|d| puts(d) && d.key % keys == key);
        there.then_some(n as u64 + 1)
    };
    let operation = |(n, draft): (usize, &Draft)| {
        let key = draft.key % keys;
        let named = value(key, draft.other);
        let put = |when, refused| {
            let (key, value) = (KEYS[key].to_owned(), n as u64 + 1);
            Act::Put { key, value, when, refused: refused && !draft.unknown }
        };
        let act = match draft.kind {
            0 => put(When::Always, false),
            1 | 2 => put(When::Absent, draft.kind == 2),
            3 | 4 => put(When::Holds(named.unwrap_or(99)), draft.kind == 4),
            5 | 6 => Act::Delete { key: KEYS[key].to_owned() },
            7 | 8 => {
                let saw = [draft.others.0, draft.others.1];
                let saw = (0..keys).filter_map(|k| Some((KEYS[k].to_owned(), value(k, saw[k])?)));
                Act::List { from: "a".into(), to: "c".into(), saw: saw.collect() }
            }
            _ => Act::Read { key: KEYS[key].to_owned(), saw: named },
        };
        let open = draft.unknown && act.writes();
        let ended = (!open).then_some(draft.begun + draft.length);
        Operation { client: n as u32, begun: draft.begun, ended, act }
    };
    drafts.iter().enumerate().map(operation).collect()
}

/// What a large history is made of.
pub struct Shape {
    pub operations: usize,
    pub keys: usize,
    pub clients: u32,
    /// Of a hundred writes, whose outcome is not learned.
    pub unknown: u32,
}

/// A history that happened: each operation took effect at one moment of its time, on one copy of
/// the state; unknown writes much later, or (half of them) never.
pub fn happened(shape: &Shape, seed: u64) -> Vec<Operation> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut free = vec![0u64; shape.clients as usize];
    let mut planned = Vec::new(); // moment, operation, answer still open
    for n in 0..shape.operations {
        let client = dice.random_range(0..shape.clients);
        let begun = free[client as usize] + dice.random_range(0..20);
        let ended = begun + dice.random_range(1..100);
        free[client as usize] = ended + 1;
        let key = format!("k{:02}", dice.random_range(0..shape.keys));
        let act = draw(&mut dice, key, n as u64 + 1);
        let unknown = act.writes() && dice.random_range(0..100) < shape.unknown;
        let late = if dice.random() { begun + dice.random_range(0..2_000) } else { u64::MAX };
        let moment = if unknown { late } else { dice.random_range(begun..=ended) };
        let ended = (!unknown).then_some(ended);
        planned.push((moment, Operation { client, begun, ended, act }));
    }
    planned.sort_by_key(|(moment, _)| *moment);
    let mut state = BTreeMap::new();
    for (moment, operation) in &mut planned {
        if *moment < u64::MAX {
            happen(&mut state, operation);
        }
    }
    planned.into_iter().map(|(_, operation)| operation).collect()
}

fn draw(dice: &mut StdRng, key: String, value: u64) -> Act {
    let when = match dice.random_range(0..100) {
        0..30 => return Act::Read { key, saw: None },
        30..40 => return Act::Delete { key },
        40..45 => {
            return Act::List { from: "k".into(), to: "l".into(), saw: BTreeMap::new() };
        }
        45..55 => When::Absent,
        55..70 => When::Holds(0), // of what it holds by then
        _ => When::Always,
    };
    Act::Put { key, value, when, refused: false }
}

fn happen(state: &mut BTreeMap<String, u64>, operation: &mut Operation) {
    let known = operation.ended.is_some();
    match &mut operation.act {
        Act::Put { key, value, when, refused } => {
            let held = state.get(key).copied();
            if let (When::Holds(expected), Some(held)) = (&mut *when, held) {
                *expected = held - u64::from(*value % 4 == 0); // now and then a wrong one
            }
            let goes = match when {
                When::Always => true,
                When::Absent => held.is_none(),
                When::Holds(expected) => held == Some(*expected),
            };
            *refused = known && !goes;
            if goes {
                state.insert(key.clone(), *value);
            }
        }
        Act::Delete { key } => drop(state.remove(key)),
        Act::Read { key, saw } => *saw = state.get(key).copied(),
        Act::List { saw, .. } => *saw = state.clone(),
    }
}
