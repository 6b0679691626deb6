//! Keys under which commands are applied once (STORE-6, INTENT-1, INTENT-2).

use proptest::prelude::*;

use super::*;
use crate::actors::metadata::intents::KEPT;

fn keyed(key: u128, command: Command) -> Keyed<Command> {
    Keyed { key, command }
}

/// Applies one command under a key.
fn once(catalog: &mut Catalog, key: u128, command: Command) -> Outcome {
    let next = catalog.applied_index() + 1;
    catalog.apply_batch(next, &[keyed(key, command)], b"").unwrap().remove(0)
}

/// Applies so many commands without keys and effects.
fn pass(catalog: &mut Catalog, count: u64) {
    let nothing = Command::AckOutbox { ids: Vec::new() };
    let first = catalog.applied_index() + 1;
    apply(catalog, first, &vec![nothing; count as usize]).unwrap();
}

fn create(name: &str) -> Command {
    Command::CreateBucket { name: name.to_owned(), owner: "me".to_owned(), now_ms: 1 }
}

#[test]
fn a_repeat_answers_as_the_first_time_also_where_that_was_a_refusal() {
    let bench = &mut Bench::new();
    let first = once(&mut bench.catalog, 1, put(1, "k", "", 1)).unwrap();
    let refused = once(&mut bench.catalog, 2, create("b"));
    assert_eq!(refused, Err(Refused::BucketAlreadyOwnedByYou));
    bench.delete("k", None, "");
    // In a batch of their own, in one with others, and after the cause of the refusal is gone.
    assert_eq!(once(&mut bench.catalog, 1, put(1, "k", "", 1)), Ok(first.clone()));
    assert_eq!(bench.shows("k", None), "absent");
    bench.ok(Command::DeleteBucket { name: "b".to_owned(), owner: None, now_ms: 1, grace_ms: 0 });
    let commands = [
        keyed(2, create("b")),
        keyed(3, create("c")),
        keyed(3, create("c")),
        keyed(1, put(1, "k", "", 1)),
        keyed(0, create("c")),
    ];
    let next = bench.catalog.applied_index() + 1;
    let outcomes = bench.catalog.apply_batch(next, &commands, b"").unwrap();
    let again = Err(Refused::BucketAlreadyOwnedByYou);
    let done = || Ok(Applied::Done);
    assert_eq!(outcomes, [refused, done(), done(), Ok(first.clone()), again]);
    // The index in memory comes back from the table.
    bench.catalog = reopened(bench);
    assert_eq!(once(&mut bench.catalog, 1, put(1, "k", "", 1)), Ok(first));
}

fn reopened(bench: &Bench) -> Catalog {
    Catalog::open(bench.dir.path().join("meta.db")).unwrap()
}

#[test]
fn a_key_is_known_for_so_many_indexes_and_then_no_row_is_left_of_it() {
    for (passed, known) in [(KEPT - 1, true), (KEPT, false)] {
        let bench = &mut Bench::new();
        once(&mut bench.catalog, 7, create("c")).unwrap();
        pass(&mut bench.catalog, passed);
        let answer = once(&mut bench.catalog, 7, create("c"));
        let anew = Err(Refused::BucketAlreadyOwnedByYou);
        assert_eq!(answer, if known { Ok(Applied::Done) } else { anew.clone() });
        // Once more from its second use, or not at all.
        pass(&mut bench.catalog, 1);
        assert_eq!(once(&mut bench.catalog, 7, create("c")), anew, "{passed}");
        pass(&mut bench.catalog, KEPT);
        let sql = "SELECT count(*) FROM intent";
        assert_eq!(bench.catalog.db.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap(), 0);
    }
}

#[test]
fn a_batch_that_failed_leaves_no_key_behind() {
    let bench = &mut Bench::new();
    let next = bench.catalog.applied_index() + 1;
    bench.catalog.db.execute_batch("ALTER TABLE state RENAME TO away").unwrap();
    let failed = bench.catalog.apply_batch(next, &[keyed(5, create("c"))], b"new");
    assert!(matches!(failed, Err(Fatal::Sql(_))));
    bench.catalog.db.execute_batch("ALTER TABLE away RENAME TO state").unwrap();
    assert_eq!(bench.catalog.mark().unwrap(), b"mark");
    assert_eq!(once(&mut bench.catalog, 5, create("c")), Ok(Applied::Done));
    assert!(bench.query(Query::GetBucket { bucket: "c".to_owned() }).is_ok());
}

/// Keys that repeat across the end of what is kept: (key, indexes that pass before it).
fn uses() -> impl Strategy<Value = Vec<(u128, u64)>> {
    prop::collection::vec((0..3_u128, prop::sample::select(vec![0, 1, KEPT - 2, KEPT - 1])), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn what_is_known_does_not_depend_on_the_batches(uses in uses(), cut in 1..40_000usize) {
        let nothing = Command::AckOutbox { ids: Vec::new() };
        let mut log: Vec<_> = setup().into_iter().map(|command| keyed(0, command)).collect();
        for (n, (key, passed)) in uses.iter().enumerate() {
            log.extend((0..*passed).map(|_| keyed(0, nothing.clone())));
            log.push(keyed(*key, put(n as u128 + 1, "k", "", n as u64)));
        }
        let run = |cut: usize| {
            let dir = tempfile::tempdir().unwrap();
            let mut catalog = Catalog::open(dir.path().join("meta.db")).unwrap();
            let mut outcomes = Vec::new();
            for batch in log.chunks(cut) {
                let next = catalog.applied_index() + 1;
                outcomes.extend(catalog.apply_batch(next, batch, b"").unwrap());
            }
            (outcomes, dump(&catalog))
        };
        prop_assert!(run(cut) == run(log.len()));
    }
}
