//! A crash at any byte of the write-ahead log: index and effects agree (STORE-1).

use proptest::prelude::*;

use super::*;

/// Files as a crash leaves them: the database, and the first `keep` bytes of its write-ahead log.
fn crash_image(bench: &Bench, keep: usize) -> (tempfile::TempDir, Catalog) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    std::fs::copy(bench.dir.path().join("meta.db"), &path).unwrap();
    let log = std::fs::read(bench.dir.path().join("meta.db-wal")).unwrap();
    std::fs::write(dir.path().join("meta.db-wal"), &log[..keep.min(log.len())]).unwrap();
    let catalog = Catalog::open(&path).unwrap();
    (dir, catalog)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_log_cut_at_any_byte_leaves_whole_batches(batch in 1..6usize, part in 0.0..1.0f64) {
        let mut bench = Bench::new();
        let mut log = setup();
        for n in 0..30u128 {
            let key = format!("k{}", n % 7);
            log.push(match n % 5 {
                4 => delete(&key, None, "", n as u64),
                _ => put(n, &key, "", n as u64),
            });
        }
        for commands in log[4..].chunks(batch) {
            let index = bench.catalog.applied_index() + 1;
            apply(&mut bench.catalog, index, commands).unwrap();
        }
        let bytes = std::fs::metadata(bench.dir.path().join("meta.db-wal")).unwrap().len();
        // The log also holds the making of the tables: cut behind that.
        let keep = (bytes as f64 * (0.3 + 0.7 * part)) as usize;
        let (_dir, crashed) = crash_image(&bench, keep);
        let applied = crashed.applied_index() as usize;
        prop_assert!(applied <= log.len());
        prop_assert!(applied <= 4 || (applied - 4).is_multiple_of(batch) || applied == log.len());
        let twin_dir = tempfile::tempdir().unwrap();
        let mut twin = Catalog::open(twin_dir.path().join("twin.db")).unwrap();
        apply(&mut twin, 1, &log[..applied]).unwrap();
        prop_assert_eq!(dump(&crashed), dump(&twin));
    }
}

#[test]
fn what_was_answered_survives_a_kill_and_a_gap_is_refused() {
    let mut bench = Bench::new();
    bench.put("k", "");
    let (_dir, mut crashed) = crash_image(&bench, usize::MAX);
    assert_eq!(crashed.applied_index(), bench.catalog.applied_index());
    assert_eq!(dump(&crashed), dump(&bench.catalog));
    let next = crashed.applied_index() + 1;
    let gap = apply(&mut crashed, next + 1, &[put(9, "k", "", 1)]);
    assert!(matches!(gap, Err(Fatal::Gap { .. })));
    assert_eq!(apply(&mut crashed, next, &[put(9, "k", "", 1)]).unwrap().len(), 1);
}

#[test]
fn a_file_of_another_format_is_refused() {
    let bench = Bench::new();
    bench.catalog.db.pragma_update(None, "user_version", 99).unwrap();
    let refused = Catalog::open(bench.dir.path().join("meta.db"));
    assert!(matches!(refused, Err(Fatal::Format { found: 99, .. })));
}
