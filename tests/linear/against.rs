//! The checker against two others that share nothing with it but the history: all orders tried one
//! after another, and `stateright`'s tester. Histories are small and of any kind.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::checker::{Fault, check, check_together};
use crate::history::{Act, Operation, When};
use crate::maker::small;

const CASES: u32 = 20_000;

/// One copy of everything; tells whether an act may happen so, and lets it happen.
#[derive(Clone, Debug, Default)]
struct Bucket(BTreeMap<String, u64>);

impl Bucket {
    fn happens(&mut self, act: &Act) -> bool {
        match act {
            Act::Put { key, value, when, refused } => {
                let held = self.0.get(key);
                let goes = match when {
                    When::Always => true,
                    When::Absent => held.is_none(),
                    When::Holds(expected) => held == Some(expected),
                };
                if goes {
                    self.0.insert(key.clone(), *value);
                }
                goes != *refused
            }
            Act::Delete { key } => {
                self.0.remove(key);
                true
            }
            Act::Read { key, saw } => self.0.get(key) == saw.as_ref(),
            Act::List { saw, .. } => self.0 == *saw,
        }
    }
}

/// Every order of the answered operations, with any of the others between them.
fn brute(left: &[&Operation], state: &Bucket) -> bool {
    if left.iter().all(|o| o.ended.is_none()) {
        return true;
    }
    left.iter().enumerate().any(|(n, next)| {
        let late = |o: &&Operation| o.ended.is_some_and(|ended| ended < next.begun);
        let mut after = state.clone();
        if left.iter().any(late) || !after.happens(&next.act) {
            return false;
        }
        let rest = [&left[..n], &left[n + 1..]].concat();
        brute(&rest, &after)
    })
}

/// The same as a sequential specification: an answer is what the act would have had to be told.
#[derive(Clone, Debug)]
struct Spec(Bucket);

impl SequentialSpec for Spec {
    type Op = Act;
    type Ret = bool;

    fn invoke(&mut self, act: &Act) -> bool {
        self.0.happens(act)
    }
}

fn stateright_accepts(history: &[Operation]) -> bool {
    let calls = history.iter().enumerate().map(|(n, o)| (o.begun, 0, n));
    let answers = history.iter().enumerate().filter_map(|(n, o)| Some((o.ended?, 1, n)));
    let mut events: Vec<(u64, u8, usize)> = calls.chain(answers).collect();
    events.sort_unstable();
    let mut tester = LinearizabilityTester::new(Spec(Bucket::default()));
    for (_, kind, n) in events {
        let done = match kind {
            0 => tester.on_invoke(n, history[n].act.clone()),
            _ => tester.on_return(n, true),
        };
        done.map(drop).unwrap();
    }
    tester.is_consistent()
}

fn accepts(found: Result<(), Fault>) -> bool {
    match found {
        Ok(()) => true,
        Err(Fault::Broken(_)) => false,
        Err(undecided) => panic!("{undecided}"),
    }
}

/// Runs many histories of up to so many operations; a good part of each kind must be among them.
fn agree(at_most: usize, ours: fn(&[Operation]) -> bool, theirs: fn(&[Operation]) -> bool) {
    let (cases, accepted) = (Cell::new(0), Cell::new(0));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&small(at_most), |history| {
        let expected = theirs(&history);
        prop_assert_eq!(ours(&history), expected);
        cases.set(cases.get() + 1);
        accepted.set(accepted.get() + u32::from(expected));
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    eprintln!("{} of {} histories are linearizable", accepted.get(), cases.get());
    let share = f64::from(accepted.get()) / f64::from(cases.get());
    assert!((0.1..0.9).contains(&share), "one-sided histories: {share}");
}

fn together(history: &[Operation]) -> bool {
    accepts(check_together(history, 1_000_000))
}

fn by_all_orders(history: &[Operation]) -> bool {
    brute(&history.iter().collect::<Vec<_>>(), &Bucket::default())
}

/// One key after another, each list as reads: what `check` claims.
fn by_all_orders_of_each_key(history: &[Operation]) -> bool {
    crate::history::keys(history).iter().all(|key| {
        let alone = crate::history::of_key(history, key);
        brute(&alone.iter().collect::<Vec<_>>(), &Bucket::default())
    })
}

#[test]
fn all_orders_tried_one_after_another_say_the_same() {
    agree(7, together, by_all_orders);
}

#[test]
fn all_orders_of_each_key_say_the_same() {
    agree(9, |history| accepts(check(history)), by_all_orders_of_each_key);
}

#[test]
fn the_tester_of_stateright_says_the_same() {
    agree(6, together, stateright_accepts);
}

#[test]
fn a_beginning_of_what_was_accepted_is_accepted() {
    let config = Config { cases: CASES / 4, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&(small(8), 0..16u64), |(history, moment)| {
        let beginning: Vec<Operation> = history.iter().filter_map(|o| o.as_of(moment)).collect();
        prop_assert!(!together(&history) || together(&beginning));
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}
