//! Images, syncs and digests: what replicas do with one another's state.

use std::path::{Path, PathBuf};

use super::*;
use crate::replica::Machine;

/// State, objects and search: enough that every table has rows and pages.
fn filled(objects: u128) -> Bench {
    let mut bench = Bench::new();
    for n in 1..=objects {
        bench.put(&format!("photos/{n}.jpg"), "");
    }
    for n in 1..=objects / 3 {
        bench.delete(&format!("photos/{n}.jpg"), None, "");
    }
    bench
}

fn digest(reader: &CatalogReader) -> (u64, [u8; 16]) {
    match reader.query(&Query::Digest).unwrap().unwrap() {
        QueryReply::Digest { applied, digest } => (applied, digest),
        other => panic!("{other:?}"),
    }
}

fn image(bench: &Bench) -> PathBuf {
    bench.dir.path().join("image")
}

fn export(bench: &Bench, to: &Path) -> Vec<u8> {
    bench.catalog.exporter().unwrap()(to).unwrap()
}

fn hits(reader: &CatalogReader) -> usize {
    let (bucket, text) = (Some("b".to_owned()), "photos jpg".to_owned());
    match reader.query(&Query::Search { bucket, text, after: None, max: 1000 }).unwrap().unwrap() {
        QueryReply::Found { hits, .. } => hits.len(),
        other => panic!("{other:?}"),
    }
}

fn check_whole(catalog: &Catalog) {
    let sound: String = catalog.db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let check = "INSERT INTO search(search) VALUES('integrity-check')";
    catalog.db.execute_batch(check).unwrap();
}

#[test]
fn the_digest_covers_every_table_and_no_batch_boundary() {
    let mut bench = filled(20);
    let sql = "SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'search%'";
    let mut statement = bench.catalog.db.prepare(sql).unwrap();
    let tables: Vec<String> =
        statement.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    drop(statement);
    assert_eq!(tables.len(), ROWS.len());
    for table in tables {
        assert!(ROWS.iter().any(|sql| sql.contains(&format!("FROM {table}"))), "{table}");
    }
    let before = digest(&bench.reader);
    assert_eq!(before.0, bench.catalog.applied_index());
    // The mark is not part of it, nor how pages lie; one value is.
    bench.catalog.apply_batch(before.0 + 1, &[], b"elsewhere").unwrap();
    bench.catalog.db.execute_batch("VACUUM").unwrap();
    assert_eq!(digest(&bench.reader), before);
    bench.catalog.db.execute_batch("UPDATE blob SET crc64=crc64+1 WHERE data=x''").unwrap();
    assert_eq!(digest(&bench.reader), before);
    let one = "UPDATE blob SET crc64=crc64+1 WHERE data=(SELECT max(data) FROM blob)";
    bench.catalog.db.execute_batch(one).unwrap();
    assert_ne!(digest(&bench.reader), before);
}

#[test]
fn replicas_with_the_same_commands_in_other_batches_have_the_same_digest() {
    let log: Vec<Keyed<Command>> = setup()
        .into_iter()
        .chain((1..60).map(|n| match n % 4 {
            3 => delete(&format!("k{}", n % 5), None, "", n as u64),
            _ => put(n, &format!("k{}", n % 7), "", n as u64),
        }))
        .enumerate()
        .map(|(n, command)| Keyed { key: n as u128 % 40, command })
        .collect();
    let run = |cut: usize| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        let mut catalog = Catalog::open(&path).unwrap();
        for batch in log.chunks(cut) {
            let next = catalog.applied_index() + 1;
            catalog.apply_batch(next, batch, &cut.to_le_bytes()).unwrap();
        }
        digest(&CatalogReader::open(&path).unwrap())
    };
    let whole = run(log.len());
    for cut in [1, 2, 7] {
        assert_eq!(run(cut), whole, "batches of {cut}");
    }
}

#[test]
fn an_imported_image_is_the_same_state_for_open_readers_and_goes_on_alike() {
    // A smaller state in place of a larger one, and the other way round.
    for (there, here) in [(30, 600), (600, 30)] {
        let (mut source, mut target) = (filled(there), filled(here));
        source.catalog.checkpoint().unwrap(); // pages in the file, which readers map
        target.catalog.checkpoint().unwrap();
        assert_eq!(export(&source, &image(&source)), b"mark");
        assert_ne!(digest(&source.reader), digest(&target.reader));
        let second = CatalogReader::open(target.dir.path().join("meta.db")).unwrap();
        assert_eq!(hits(&second), here as usize - here as usize / 3);

        target.catalog.import(&image(&source)).unwrap();
        check_whole(&target.catalog);
        assert_eq!(target.catalog.applied_index(), source.catalog.applied_index());
        for reader in [&target.reader, &second] {
            assert_eq!(digest(reader), digest(&source.reader));
            assert_eq!(hits(reader), there as usize - there as usize / 3);
        }
        for n in 1..200_u128 {
            let command = match n % 3 {
                0 => delete(&format!("photos/{}.jpg", n * 2), None, "", n as u64),
                _ => put(10_000 + n, &format!("photos/{n}.jpg"), "", n as u64),
            };
            assert_eq!(source.apply(command.clone()), target.apply(command));
        }
        target.catalog.checkpoint().unwrap();
        check_whole(&target.catalog);
        assert_eq!(hits(&target.reader), hits(&source.reader));
        assert_eq!(digest(&second), digest(&source.reader));
        assert_eq!(dump(&target.catalog), dump(&source.catalog));
    }
}

#[test]
fn keys_come_with_an_image() {
    let (mut source, mut target) = (Bench::new(), Bench::new());
    let once = |bench: &mut Bench, key, command| {
        let next = bench.catalog.applied_index() + 1;
        bench.catalog.apply_batch(next, &[Keyed { key, command }], b"at 5").unwrap().remove(0)
    };
    let outcome = once(&mut source, 9, put(1, "k", "", 1));
    once(&mut target, 8, put(2, "gone", "", 1)).unwrap();
    assert_eq!(export(&source, &image(&source)), b"at 5");
    target.catalog.import(&image(&source)).unwrap();
    assert_eq!(Machine::mark(&target.catalog).unwrap(), b"at 5");
    assert_eq!(once(&mut target, 9, put(1, "k", "", 1)), outcome);
    // This one's first use went with the old state.
    assert!(once(&mut target, 8, put(3, "k", "", 1)).is_ok());
    assert_eq!(target.shows("k", None), "e3");
    assert_eq!(target.shows("gone", None), "absent");
}

#[test]
fn a_reader_keeps_its_snapshot_while_an_image_is_taken() {
    let (source, mut target) = (filled(300), filled(30));
    export(&source, &image(&source));
    let old = digest(&target.reader);
    let path = target.dir.path().join("meta.db");
    let slow = rusqlite::Connection::open(path).unwrap();
    slow.execute_batch("BEGIN").unwrap();
    let count = |db: &rusqlite::Connection| -> i64 {
        db.query_row("SELECT count(*) FROM version", [], |r| r.get(0)).unwrap()
    };
    let before = count(&slow);
    target.catalog.import(&image(&source)).unwrap();
    assert_eq!(count(&slow), before);
    slow.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&slow), count(&source.catalog.db));
    assert_ne!(digest(&target.reader), old);
}

#[test]
fn an_image_that_is_none_leaves_the_state_as_it_was() {
    let (source, mut target) = (filled(100), filled(10));
    let path = image(&source);
    export(&source, &path);
    let good = std::fs::read(&path).unwrap();
    let mut other_format = good.clone();
    other_format[60..64].copy_from_slice(&2_u32.to_be_bytes()); // user_version
    let bad = [
        b"".to_vec(),
        b"garbage".to_vec(),
        vec![7; 1 << 16],
        good[..good.len() / 2].to_vec(),
        good[..good.len() - 1].to_vec(),
        other_format,
    ];
    let before = (digest(&target.reader), dump(&target.catalog));
    for bytes in bad {
        std::fs::write(&path, &bytes).unwrap();
        assert!(target.catalog.import(&path).is_err(), "{} bytes", bytes.len());
        assert_eq!((digest(&target.reader), dump(&target.catalog)), before);
    }
    assert!(target.catalog.import(Path::new("/nowhere/image")).is_err());
    target.put("goes-on", "");
    assert!(hits(&target.reader) > 0);
    // Left over from before: exported over.
    export(&source, &path);
    target.catalog.import(&path).unwrap();
    assert_eq!(digest(&target.reader), digest(&source.reader));
}

#[test]
fn an_image_that_does_not_fit_leaves_the_state_as_it_was() {
    let (source, mut target) = (filled(300), filled(10));
    export(&source, &image(&source));
    let before = (digest(&target.reader), dump(&target.catalog));
    let pages: i64 = target.catalog.db.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
    target.catalog.db.execute_batch(&format!("PRAGMA max_page_count={}", pages + 10)).unwrap();
    assert!(matches!(target.catalog.import(&image(&source)), Err(Fatal::Full)));
    assert_eq!((digest(&target.reader), dump(&target.catalog)), before);
    target.catalog.db.execute_batch("PRAGMA max_page_count=1000000").unwrap();
    target.put("goes-on", "");
    target.catalog.import(&image(&source)).unwrap();
    assert_eq!(digest(&target.reader), digest(&source.reader));
}

#[test]
fn an_export_beside_a_writer_is_one_moment_of_it() {
    let mut bench = filled(300);
    let (export, to) = (bench.catalog.exporter().unwrap(), image(&bench));
    let mut digests = std::collections::HashMap::new();
    let mut write = || {
        let next = bench.catalog.applied_index() + 1;
        let commands = [Keyed { key: 0, command: put(u128::from(next) << 32, "k", "", next) }];
        bench.catalog.apply_batch(next, &commands, &next.to_le_bytes()).unwrap();
        digests.insert(next, digest(&bench.reader));
    };
    write();
    let mark = std::thread::scope(|scope| {
        let exporting = scope.spawn(|| export(&to).unwrap());
        while !exporting.is_finished() {
            write();
        }
        exporting.join().unwrap()
    });
    let index = u64::from_le_bytes(mark.try_into().unwrap());
    let exported = digest(&CatalogReader::open(&to).unwrap());
    assert_eq!((exported.0, exported), (index, digests[&index]), "MACHINE-1");
}

#[test]
fn the_log_that_is_synced_is_the_one_that_is_written_whatever_happened_to_it() {
    use std::os::unix::fs::MetadataExt;
    let (source, mut target) = (filled(30), filled(30));
    export(&source, &image(&source));
    let path = target.dir.path().join("meta.db");
    let check = |catalog: &mut Catalog| {
        Machine::sync(catalog).unwrap();
        let synced = catalog.log.metadata().unwrap();
        let written = std::fs::metadata(path.with_extension("db-wal")).unwrap();
        assert_eq!((synced.dev(), synced.ino()), (written.dev(), written.ino()));
        assert!(written.len() > 0);
    };
    check(&mut target.catalog);
    target.catalog.checkpoint().unwrap();
    target.put("begins the log anew", "");
    check(&mut target.catalog);
    target.catalog.import(&image(&source)).unwrap();
    check(&mut target.catalog);
    target.reader = CatalogReader::open(&path).unwrap();
    target.put("after the last reader was closed", "");
    check(&mut target.catalog);
    target.catalog = Catalog::open(&path).unwrap();
    target.put("after it was opened anew", "");
    check(&mut target.catalog);
}
