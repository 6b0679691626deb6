//! Random commands: determinism (STORE-3), references (BLOB-1, BLOB-2), and what follows the
//! newest row (OBJECT-2), against recounts of the tables.

use proptest::prelude::*;

use super::*;
use crate::actors::metadata::rebalance::RebalanceStep;

#[derive(Clone, Debug)]
enum Act {
    Put { id: u8, key: u8, condition: u8 },
    Delete { key: u8, pick: u8 },
    Copy { from: u8, to: u8 },
    Tags { key: u8 },
    Versioning { on: bool },
    Fallback { on: bool },
    Create { upload: u8 },
    Part { upload: u8, no: u8, id: u8 },
    Complete { upload: u8, parts: Vec<(u8, u8)> },
    AbortUpload { upload: u8 },
    Abort { id: u8 },
    Move { id: u8, node: u8, how: u8 },
    Member { node: u8, joins: bool },
    Ack { index: u8, n: u8 },
    Purge,
    DropBucket,
    MakeBucket,
}

fn act() -> impl Strategy<Value = Act> {
    let (id, key, upload) = (0..40u8, 0..4u8, 0..3u8);
    prop_oneof![
        8 => (id.clone(), key.clone(), 0..4u8)
            .prop_map(|(id, key, condition)| Act::Put { id, key, condition }),
        4 => (key.clone(), 0..8u8).prop_map(|(key, pick)| Act::Delete { key, pick }),
        3 => (0..40u8, key.clone()).prop_map(|(from, to)| Act::Copy { from, to }),
        1 => key.clone().prop_map(|key| Act::Tags { key }),
        1 => any::<bool>().prop_map(|on| Act::Versioning { on }),
        1 => any::<bool>().prop_map(|on| Act::Fallback { on }),
        3 => upload.clone().prop_map(|upload| Act::Create { upload }),
        6 => (upload.clone(), 1..4u8, id.clone())
            .prop_map(|(upload, no, id)| Act::Part { upload, no, id }),
        4 => (upload.clone(), prop::collection::vec((1..4u8, id.clone()), 1..3))
            .prop_map(|(upload, parts)| Act::Complete { upload, parts }),
        1 => upload.prop_map(|upload| Act::AbortUpload { upload }),
        2 => id.clone().prop_map(|id| Act::Abort { id }),
        4 => (id, 1..4u8, 0..4u8).prop_map(|(id, node, how)| Act::Move { id, node, how }),
        1 => (1..4u8, any::<bool>()).prop_map(|(node, joins)| Act::Member { node, joins }),
        1 => (0..60u8, 0..2u8).prop_map(|(index, n)| Act::Ack { index, n }),
        1 => Just(Act::Purge),
        1 => Just(Act::DropBucket),
        1 => Just(Act::MakeBucket),
    ]
}

/// Turns an act into a command; `now` doubles as a source of fresh ids.
fn command(act: &Act, now_ms: u64, bench: &Bench) -> Command {
    let bucket = "b".to_owned();
    let name = |key: &u8| format!("k{key}");
    let upload_id = |upload: &u8| format!("u{upload}");
    let grace_ms = 5;
    match act {
        Act::Put { id, key, condition } => {
            let mut command = put(*id as u128, &name(key), &format!("v{now_ms}"), now_ms);
            if let Command::Commit { precondition, .. } = &mut command {
                *precondition = match condition {
                    0 => Precondition::IfNoneMatchAny,
                    1 => Precondition::StillAbsent,
                    _ => Precondition::Always,
                };
            }
            command
        }
        Act::Delete { key, pick } => {
            let versions = bench.reader.query(&Query::ListVersions {
                bucket,
                prefix: name(key),
                delimiter: String::new(),
                key_marker: None,
                version_marker: None,
                max: 10,
            });
            let vid = match versions.unwrap() {
                Ok(QueryReply::Versions { entries, .. }) => {
                    entries.get(*pick as usize).map(|entry| match entry {
                        VersionEntry::Version { version_id, .. }
                        | VersionEntry::DeleteMarker { version_id, .. } => version_id.clone(),
                        VersionEntry::CommonPrefix { prefix } => prefix.clone(),
                    })
                }
                _ => None,
            };
            delete(&name(key), vid.as_deref(), &format!("v{now_ms}"), now_ms)
        }
        Act::Copy { from, to } => {
            let from = name(&(from % 4));
            let row = match bench.reader.query(&Query::Lookup {
                bucket: bucket.clone(),
                key: from.clone(),
                version_id: None,
            }) {
                Ok(Ok(QueryReply::Object { found: Found::Object { info, .. }, .. })) => info.row,
                _ => 1,
            };
            Command::Copy {
                source: CopySource { bucket: bucket.clone(), key: from, row },
                bucket,
                key: name(to),
                version_id: format!("v{now_ms}"),
                owner: "me".to_owned(),
                head: None,
                tags: None,
                storage_class: None,
                precondition: Precondition::Always,
                request: now_ms as u128 / 7,
                now_ms,
                grace_ms,
            }
        }
        Act::Tags { key } => Command::PutObjectTags {
            bucket,
            key: name(key),
            version_id: None,
            tags: vec![Tag { key: "t".to_owned(), value: now_ms.to_string() }],
        },
        Act::Versioning { on } => {
            let state = if *on { Versioning::Enabled } else { Versioning::Suspended };
            Command::ConfigureBucket { name: bucket, change: BucketChange::Versioning { state } }
        }
        Act::Fallback { on } => {
            let change = BucketChange::Fallback { on: *on };
            Command::ConfigureBucket { name: bucket, change }
        }
        Act::Create { upload } => Command::CreateUpload {
            bucket,
            key: "k0".to_owned(),
            upload_id: upload_id(upload),
            object: NewObject { version_id: format!("v{now_ms}"), ..Default::default() },
            checksum: None,
            now_ms,
        },
        Act::Part { upload, no, id } => Command::AddPart {
            bucket,
            key: "k0".to_owned(),
            upload_id: upload_id(upload),
            no: *no as u32,
            data: data(*id as u128, 3),
            checksum: None,
            now_ms,
            grace_ms,
        },
        Act::Complete { upload, .. } => {
            complete_as_stored(bucket, upload_id(upload), act, bench, now_ms)
        }
        Act::AbortUpload { upload } => Command::AbortUpload {
            bucket,
            key: "k0".to_owned(),
            upload_id: upload_id(upload),
            now_ms,
            grace_ms,
        },
        Act::Abort { id } => Command::Abort { data_ids: vec![DataId(*id as u128)], now_ms },
        Act::Move { id, node: n, how } => {
            let (data_id, instance) = (DataId(*id as u128), node(*n as usize));
            let step = match how {
                0 => return Command::AddLocation { data_id, instance },
                1 => return Command::DropLocation { data_id, instance, again: false, now_ms },
                2 => RebalanceStep::Want { data_id, instance, again: false },
                _ => RebalanceStep::Release { data_id, instance, keep: 1, grace_ms },
            };
            Command::Rebalance { step, now_ms }
        }
        Act::Member { node: n, joins } => {
            let instance = node(*n as usize);
            match joins {
                true => Command::RegisterStorageNode { instance, catalog: 7, now_ms },
                false => Command::RemoveStorageNode { instance },
            }
        }
        Act::Ack { index, n } => {
            let id = OutboxId { index: *index as u64, n: *n as u32 };
            Command::AckOutbox { ids: vec![id] }
        }
        Act::Purge => Command::PurgeAborted { before_ms: now_ms.saturating_sub(8) },
        Act::DropBucket => Command::DeleteBucket { name: bucket, owner: None, now_ms, grace_ms },
        Act::MakeBucket => Command::CreateBucket { name: bucket, owner: "me".to_owned(), now_ms },
    }
}

/// Completes with some of the parts that the upload really has, so that it mostly succeeds.
fn complete_as_stored(
    bucket: String,
    upload_id: String,
    act: &Act,
    bench: &Bench,
    now_ms: u64,
) -> Command {
    let Act::Complete { parts: picks, .. } = act else { unreachable!() };
    let key = "k0".to_owned();
    let query = Query::ListParts {
        bucket: bucket.clone(),
        key: key.clone(),
        upload_id: upload_id.clone(),
        after_no: 0,
        max: 10,
    };
    let stored = match bench.reader.query(&query).unwrap() {
        Ok(QueryReply::UploadParts { parts, .. }) => parts,
        _ => Vec::new(),
    };
    let chosen: Vec<_> = stored
        .iter()
        .filter(|part| picks.len() == 1 || picks.iter().any(|(no, _)| *no as u32 == part.no))
        .map(|part| (part.no, part.md5))
        .collect();
    Command::CompleteUpload {
        bucket,
        key,
        upload_id,
        parts: part_ranges(chosen.iter().map(|(no, _)| *no)),
        digest: parts_digest(chosen),
        min_part_bytes: 0,
        checksum: None,
        precondition: Precondition::Always,
        now_ms,
        grace_ms: 5,
    }
}

/// Queries that must find nothing, each with the invariant that a row would break.
const NEVER: [(&str, &str); 9] = [
    (
        "BLOB-1 blob",
        "SELECT hex(data) FROM blob b WHERE state=0 AND (refs < 1 OR refs <>
           (SELECT count(*) FROM version v WHERE v.data=b.data)
         + (SELECT count(*) FROM part p WHERE p.data=b.data))",
    ),
    (
        "BLOB-1 dangling",
        "SELECT 1 FROM version WHERE data IS NOT NULL AND data NOT IN
         (SELECT data FROM blob WHERE state=0)",
    ),
    (
        "BLOB-1 dangling part",
        "SELECT 1 FROM part WHERE data NOT IN
         (SELECT data FROM blob WHERE state=0)",
    ),
    (
        "BLOB-1 manifest",
        "SELECT no FROM manifest m WHERE refs < 1 OR
         refs <> (SELECT count(*) FROM version v WHERE v.manifest=m.no)",
    ),
    (
        "UPLOAD-1 parts",
        "SELECT 1 FROM part WHERE manifest NOT IN (SELECT no FROM manifest)
         AND manifest NOT IN (SELECT no FROM upload WHERE open=1)",
    ),
    ("OBJECT-1", "SELECT 1 FROM version WHERE vid IS NULL GROUP BY bucket, key HAVING count(*)>1"),
    (
        "SCHEMA-3",
        "SELECT bucket, key, row, size FROM version v WHERE marker=0 AND row=(SELECT max(row)
           FROM version w WHERE w.bucket=v.bucket AND w.key=v.key)
         EXCEPT SELECT bucket, key, row, size FROM current",
    ),
    (
        "SCHEMA-3 too many",
        "SELECT row FROM current EXCEPT SELECT max(row) FROM version GROUP BY bucket, key",
    ),
    (
        "SEARCH-1",
        "SELECT row FROM current WHERE row NOT IN (SELECT id FROM search_docsize)
         UNION ALL SELECT id FROM search_docsize WHERE id NOT IN (SELECT row FROM current)",
    ),
];

fn check_invariants(catalog: &Catalog) {
    let db = &catalog.db;
    for (name, sql) in NEVER {
        let rows = db.prepare(sql).unwrap().query_map([], |_| Ok(())).unwrap().count();
        assert_eq!(rows, 0, "{name}");
    }
    let mut copies = db.prepare("SELECT locations, lacking FROM blob WHERE state=0").unwrap();
    let pairs = copies.query_map([], |r| Ok((r.get::<_, Vec<u8>>(0)?, r.get::<_, Vec<u8>>(1)?)));
    for (locations, lacking) in pairs.unwrap().map(Result::unwrap) {
        assert!(!locations.is_empty(), "some node always has it");
        let mut nodes: Vec<_> = locations.chunks(4).chain(lacking.chunks(4)).collect();
        let count = nodes.len();
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), count, "NODE-2");
    }
    let number = |sql: &str| db.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
    for bucket in ["bucket<>0", "bucket=0"] {
        let counted = |kind: u32, what: &str| {
            number(&format!(
                "SELECT coalesce(sum({what}),0) FROM counter WHERE {bucket} AND kind={kind}"
            ))
        };
        let real = |sql: &str| number(&format!("SELECT {sql}"));
        assert_eq!(counted(1, "count"), real("count(*) FROM current"), "{bucket}");
        assert_eq!(counted(1, "bytes"), real("coalesce(sum(size),0) FROM current"));
        assert_eq!(counted(2, "count"), real("count(*) FROM version WHERE marker=0"));
        assert_eq!(counted(3, "count"), real("count(*) FROM version WHERE marker=1"));
        assert_eq!(counted(4, "count"), real("count(*) FROM current"));
    }
}

/// Blobs that were ever freed have exactly one Delete row each (none is acknowledged or purged
/// here).
fn check_deletes(catalog: &Catalog) {
    let db = &catalog.db;
    let list = |sql: &str| -> Vec<Vec<u8>> {
        let mut statement = db.prepare(sql).unwrap();
        statement.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let freed = list("SELECT data FROM blob WHERE state=2 ORDER BY data");
    assert_eq!(list("SELECT data FROM outbox WHERE kind=1 ORDER BY data"), freed, "BLOB-2");
    let aborted = list("SELECT data FROM blob WHERE state=1 ORDER BY data");
    assert_eq!(list("SELECT data FROM outbox WHERE kind=2 ORDER BY data"), aborted, "BLOB-3");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn random_commands_keep_references_counters_and_current_rows(
        acts in prop::collection::vec(act(), 1..80),
        forget in any::<bool>(),
        cut in 1..20usize,
    ) {
        let mut bench = Bench::new();
        let (mut log, mut outcomes) = (Vec::new(), Vec::new());
        for act in &acts {
            if !forget && matches!(act, Act::Purge | Act::Ack { .. }) {
                continue;
            }
            let command = command(act, bench.now / 1_000, &bench);
            log.push(command.clone());
            outcomes.push(bench.apply(command));
            check_invariants(&bench.catalog);
        }
        if !forget {
            check_deletes(&bench.catalog);
        }
        // The same commands in other batches, some given twice, make the same tables.
        let dir = tempfile::tempdir().unwrap();
        let mut twin = Catalog::open(dir.path().join("twin.db")).unwrap();
        apply(&mut twin, 1, &setup()).unwrap();
        let mut twin_outcomes = Vec::new();
        for batch in log.chunks(cut) {
            let first = twin.applied_index() + 1;
            twin_outcomes.extend(apply(&mut twin, first, batch).unwrap());
            let again = apply(&mut twin, first, batch).unwrap();
            prop_assert!(again.iter().all(|outcome| *outcome == Ok(Applied::Before)));
        }
        check_invariants(&twin);
        prop_assert_eq!(outcomes, twin_outcomes);
        prop_assert_eq!(dump(&bench.catalog), dump(&twin));
    }
}
