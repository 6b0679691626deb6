//! Histories as long as a run of the nemesis makes them.

use std::time::{Duration, Instant};

use crate::checker::{Fault, check};
use crate::history::{Act, Operation, of_key};
use crate::maker::{Shape, happened};

const LONG: Shape = Shape { operations: 10_000, keys: 50, clients: 16, unknown: 10 };
/// In the dev profile, with other tests beside it.
const LIMIT: Duration = Duration::from_secs(20);

fn timed(what: &str, history: &[Operation]) -> Result<(), Fault> {
    let begun = Instant::now();
    let found = check(history);
    eprintln!("{what}: {} operations in {:?}", history.len(), begun.elapsed());
    assert!(begun.elapsed() < LIMIT, "{what} took {:?}", begun.elapsed());
    found
}

#[test]
fn ten_thousand_operations_that_happened_are_accepted_in_seconds() {
    for seed in 0..3 {
        let found = timed("50 keys", &happened(&LONG, seed));
        found.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
}

#[test]
fn a_key_that_everybody_fights_for_is_decided_too() {
    let one = Shape { operations: 3_000, keys: 1, clients: 8, unknown: 10 };
    timed("1 key", &happened(&one, 4)).unwrap_or_else(|fault| panic!("{fault}"));
    let mostly_unknown = Shape { operations: 3_000, keys: 10, clients: 16, unknown: 60 };
    timed("unknown", &happened(&mostly_unknown, 5)).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn one_stale_read_among_ten_thousand_operations_is_found_with_its_key() {
    let mut history = happened(&LONG, 6);
    let stale = history.iter().rposition(|o| {
        let seen = |key: &String, value: &u64| {
            let of_key = of_key(&history, key);
            let read =
                |o: &&Operation| matches!(&o.act, Act::Read { saw: Some(v), .. } if v < value);
            of_key.iter().filter(read).count() > 10
        };
        matches!(&o.act, Act::Read { key, saw: Some(value) } if seen(key, value))
    });
    let stale = stale.unwrap();
    let Act::Read { key, saw } = history[stale].act.clone() else { unreachable!() };
    let older = history.iter().find_map(|o| match &o.act {
        Act::Read { key: other, saw: Some(value) } if *other == key && Some(*value) < saw => {
            Some(*value)
        }
        _ => None,
    });
    history[stale].act = Act::Read { key: key.clone(), saw: older };
    let Err(Fault::Broken(broken)) = timed("stale", &history) else { panic!("not found") };
    assert_eq!(broken.keys, [key]);
    assert_eq!(broken.culprit, history[stale]);
}
