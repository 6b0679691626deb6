//! The records against a map, their limits, and the same state on every replica.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::command::{
    BODY_LIMIT_BYTES, Command, Expected, ID_LIMIT_BYTES, Outcome, RECORD_LIMIT, Refused,
};
use super::super::machine::RecordMachine;
use super::*;
use crate::actors::redb_state::encoded_size;
use crate::actors::redb_state::tests::{comes_to_the_same, open};
use crate::replica::{Keyed, Machine as _};

const RULES: Collection = Collection::Rules;

fn machine(dir: &TempDir) -> (RecordMachine, Arc<RecordStore>) {
    let machine: RecordMachine = open(&dir.path().join("records.redb"));
    let store = machine.store().clone();
    (machine, store)
}

fn put(id: &str, body: &str, expected: Expected) -> Command {
    let (id, body) = (id.to_owned(), body.to_owned());
    Command::Put { collection: RULES, id, body, expected, now_ms: 5 }
}

fn delete(id: &str, expected: Expected) -> Command {
    Command::Delete { collection: RULES, id: id.to_owned(), expected }
}

fn run(machine: &mut RecordMachine, command: Command) -> Outcome {
    let next = machine.applied() + 1;
    machine.apply(next, &[Keyed { key: 0, command }], b"").unwrap().remove(0)
}

fn invalid(field: &str) -> Outcome {
    Outcome::Refused(Refused::Invalid { field: field.to_owned() })
}

#[test]
fn a_record_changes_only_where_what_was_expected_stands_there() {
    let dir = TempDir::new().unwrap();
    let (mut machine, store) = machine(&dir);
    let stored = |version| Outcome::Stored { version };
    let conflict = |version| Outcome::Refused(Refused::Conflict { version });
    let unknown = || Outcome::Refused(Refused::NoSuchRecord);
    let rows = [
        (put("a", "1", Expected::Version(1)), unknown()),
        (put("a", "1", Expected::Absent), stored(2)),
        (put("a", "2", Expected::Absent), conflict(2)),
        (put("a", "2", Expected::Version(1)), conflict(2)),
        (put("a", "2", Expected::Version(2)), stored(5)),
        (put("a", "3", Expected::Any), stored(6)),
        (delete("a", Expected::Absent), conflict(6)),
        (delete("a", Expected::Version(5)), conflict(6)),
        (delete("b", Expected::Any), unknown()),
        (delete("a", Expected::Version(6)), Outcome::Deleted),
        (delete("a", Expected::Absent), unknown()),
        (put("a", "4", Expected::Any), stored(12)),
    ];
    for (command, expected) in rows {
        assert_eq!(run(&mut machine, command.clone()), expected, "{command:?}");
    }
    let expected =
        Record { id: "a".into(), version: 12, created_ms: 5, changed_ms: 5, body: "4".into() };
    assert_eq!(store.get(RULES, "a").unwrap(), Some(expected));
    assert_eq!(store.get(Collection::Runs, "a").unwrap(), None);
}

#[test]
fn values_out_of_bounds_are_refused_and_those_at_the_bounds_are_not() {
    let dir = TempDir::new().unwrap();
    let (mut machine, store) = machine(&dir);
    let json = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    let too_large = Outcome::Refused(Refused::TooLarge);
    let rows = [
        (put("", "1", Expected::Any), invalid("id")),
        (put(&"i".repeat(ID_LIMIT_BYTES + 1), "1", Expected::Any), invalid("id")),
        (put("a", "", Expected::Any), invalid("body")),
        (put("a", "{\"a\":1} x", Expected::Any), invalid("body")),
        (put("a", &json(BODY_LIMIT_BYTES + 1), Expected::Any), too_large),
    ];
    for (command, expected) in rows {
        assert_eq!(run(&mut machine, command), expected);
    }
    assert_eq!(store.stats().unwrap().counts, [0; 4], "RECORD-2");
    for n in 0..9 {
        let id = format!("{n}{}", "i".repeat(ID_LIMIT_BYTES - 1));
        let outcome = run(&mut machine, put(&id, &json(BODY_LIMIT_BYTES), Expected::Absent));
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }
    let (mut seen, mut after) = (0, None);
    loop {
        let page = store.list(RULES, after.as_deref(), 1_000).unwrap();
        assert!(encoded_size(&page) < PAGE_BYTES, "PAGE-1: {}", encoded_size(&page));
        seen += page.records.len();
        after = page.records.last().map(|record| record.id.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, 9);
}

#[test]
fn a_full_collection_takes_changes_but_no_further_record() {
    let dir = TempDir::new().unwrap();
    let (mut machine, store) = machine(&dir);
    let of = |n: u64| Keyed { key: 0, command: put(&format!("{n:06}"), "1", Expected::Absent) };
    for from in (0..RECORD_LIMIT).step_by(5_000) {
        let batch: Vec<_> = (from..from + 5_000).map(of).collect();
        machine.apply(from + 1, &batch, b"").unwrap();
    }
    assert_eq!(store.stats().unwrap().counts, [RECORD_LIMIT, 0, 0, 0]);
    assert_eq!(run(&mut machine, put("new", "1", Expected::Any)), Outcome::Refused(Refused::Full));
    let known = run(&mut machine, put("000001", "2", Expected::Any));
    assert!(matches!(known, Outcome::Stored { .. }), "{known:?}");
    run(&mut machine, delete("000002", Expected::Any));
    let new = run(&mut machine, put("new", "1", Expected::Any));
    assert!(matches!(new, Outcome::Stored { .. }), "{new:?}");
}

fn op() -> impl Strategy<Value = (Keyed<Command>, u64)> {
    let expected = prop_oneof![
        Just(Expected::Absent),
        Just(Expected::Any),
        (1..40_u64).prop_map(Expected::Version)
    ];
    let (collection, id) = (proptest::sample::select(&Collection::ALL[1..3]), 0..5_u8);
    let body = proptest::option::weighted(0.7, 0..9_999_u32);
    (0..30_u128, collection, id, expected, body, 0..99_u64).prop_map(
        |(key, collection, id, expected, body, wait_ms)| {
            let id = format!("r{id}");
            let command = match body.map(|n| n.to_string()) {
                Some(body) => Command::Put { collection, id, body, expected, now_ms: 0 },
                None => Command::Delete { collection, id, expected },
            };
            (Keyed { key, command }, wait_ms)
        },
    )
}

type Model = BTreeMap<(Collection, String), Record>;

/// The rules again, on a map.
fn model(records: &mut Model, index: u64, command: &Command) -> Outcome {
    let (collection, id, expected) = match command {
        Command::Put { collection, id, expected, .. }
        | Command::Delete { collection, id, expected } => (*collection, id.clone(), *expected),
    };
    let found = records.get(&(collection, id.clone())).cloned();
    let version = found.as_ref().map(|record| record.version);
    let is_put = matches!(command, Command::Put { .. });
    match (expected, version) {
        (Expected::Version(_), None) => return Outcome::Refused(Refused::NoSuchRecord),
        (_, None) if !is_put => return Outcome::Refused(Refused::NoSuchRecord),
        (Expected::Absent, Some(version)) => {
            return Outcome::Refused(Refused::Conflict { version });
        }
        (Expected::Version(wanted), Some(version)) if wanted != version => {
            return Outcome::Refused(Refused::Conflict { version });
        }
        _ => {}
    }
    let Command::Put { body, now_ms, .. } = command else {
        records.remove(&(collection, id));
        return Outcome::Deleted;
    };
    let (version, changed_ms, body) = (index, *now_ms, body.clone());
    let created_ms = found.map_or(changed_ms, |record| record.created_ms);
    let record = Record { id: id.clone(), version, created_ms, changed_ms, body };
    records.insert((collection, id), record);
    Outcome::Stored { version }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_records_are_those_of_a_map_and_the_same_on_every_replica(
        ops in proptest::collection::vec(op(), 2..60),
        limit in 1..4_usize,
    ) {
        let dir = TempDir::new().unwrap();
        let (mut machine, store) = machine(&dir);
        let (mut records, mut now, mut log) = (Model::new(), 1_000, Vec::new());
        for (index, (mut keyed, wait_ms)) in (1..).zip(ops) {
            now += wait_ms;
            if let Command::Put { now_ms, .. } = &mut keyed.command {
                *now_ms = now;
            }
            let outcome = run(&mut machine, keyed.command.clone());
            prop_assert_eq!(outcome, model(&mut records, index, &keyed.command));
            log.push(keyed);
        }
        for (place, collection) in Collection::ALL.into_iter().enumerate() {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = store.list(collection, after.as_deref(), limit).unwrap();
                prop_assert!(page.records.len() <= limit);
                after = page.records.last().map(|record| record.id.clone());
                found.extend(page.records);
                if !page.more { break }
            }
            let of = records.iter().filter(|((of, _), _)| *of == collection);
            let expected: Vec<Record> = of.map(|(_, record)| record.clone()).collect();
            prop_assert_eq!(store.stats().unwrap().counts[place], expected.len() as u64);
            prop_assert_eq!(found, expected);
        }
        let bytes: u64 = records.values().map(encoded_size).sum();
        prop_assert_eq!(store.stats().unwrap().bytes, bytes, "COUNT-1");
        comes_to_the_same::<Records>(&log);
    }
}
