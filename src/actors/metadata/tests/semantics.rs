//! S3's rules for versions, conditions, deletes, copies and buckets, as scenes on one key.

use super::*;

#[test]
fn an_overwrite_without_versioning_leaves_one_row_and_frees_the_old_data_after_the_grace() {
    let mut bench = Bench::new();
    let first = bench.put("k", "v1");
    assert!(matches!(first, Applied::Committed { version_id: None, .. }));
    bench.put("k", "v2");
    assert_eq!(bench.shows("k", None), "e2");
    let deletes: Vec<_> = bench
        .outbox()
        .into_iter()
        .filter(|row| matches!(row.task, OutboxTask::Delete { .. }))
        .collect();
    assert_eq!(deletes.len(), 1);
    let nodes = vec![node(1), node(2), node(3)];
    assert_eq!(deletes[0].task, OutboxTask::Delete { data_id: DataId(1), nodes });
    assert_eq!(deletes[0].not_before_ms, bench.now - 1_000 + 60_000);
    bench.delete("k", None, "m");
    assert_eq!(bench.shows("k", None), "absent");
}

#[test]
fn versions_follow_the_rules_of_enabled_and_suspended_buckets() {
    let mut bench = Bench::new();
    bench.put("k", ""); // e1, null
    bench.versioning(Versioning::Enabled);
    bench.put("k", "v2");
    bench.put("k", "v3");
    for (vid, shows) in
        [(None, "e3"), (Some("null"), "e1"), (Some("v2"), "e2"), (Some("v9"), "no version")]
    {
        assert_eq!(bench.shows("k", vid), shows, "{vid:?}");
    }
    // A delete hides, and removing its marker brings the object back.
    let hidden = bench.delete("k", None, "m1");
    assert_eq!((hidden.delete_marker, hidden.version_id.as_deref()), (true, Some("m1")));
    assert_eq!(bench.shows("k", None), "marker");
    assert_eq!(bench.shows("k", Some("v3")), "e3");
    let back = bench.delete("k", Some("m1"), "");
    assert!(back.delete_marker && back.existed);
    assert_eq!(bench.shows("k", None), "e3");
    // Removing the newest version shows the one before it.
    bench.delete("k", Some("v3"), "");
    assert_eq!(bench.shows("k", None), "e2");
    // Suspended: writes and delete markers take the place of the null version.
    bench.versioning(Versioning::Suspended);
    let again = bench.put("k", "ignored");
    assert!(matches!(again, Applied::Committed { version_id: Some(v), .. } if v == "null"));
    assert_eq!(bench.shows("k", Some("null")), "e4");
    assert_eq!(bench.shows("k", Some("v2")), "e2");
    let hidden = bench.delete("k", None, "ignored");
    assert_eq!(hidden.version_id.as_deref(), Some("null"));
    assert_eq!(bench.shows("k", Some("null")), "marker");
    bench.delete("k", Some("null"), "");
    assert_eq!(bench.shows("k", None), "e2");
    let absent = bench.delete("k", Some("v9"), "");
    assert!(!absent.existed);
}

#[test]
fn conditions_hold_against_the_newest_row_and_a_delete_marker_is_no_object() {
    use Precondition as P;
    let etag = |n: u32| P::IfMatch { etag: format!("e{n}") };
    let mut bench = Bench::new();
    assert_eq!(bench.put_if("k", etag(1)), Err(Refused::NoSuchKey));
    assert_eq!(bench.put_if("k", P::IfMatchAny), Err(Refused::NoSuchKey));
    assert!(bench.put_if("k", P::IfNoneMatchAny).is_ok()); // e3
    assert_eq!(bench.put_if("k", P::IfNoneMatchAny), Err(Refused::PreconditionFailed));
    assert_eq!(bench.put_if("k", P::StillAbsent), Err(Refused::PreconditionFailed));
    assert_eq!(bench.put_if("k", etag(1)), Err(Refused::PreconditionFailed));
    assert!(bench.put_if("k", etag(3)).is_ok()); // e7
    let (row, _) = bench.object("k");
    assert_eq!(
        bench.put_if("k", P::StillRow { row: row.row + 1 }),
        Err(Refused::PreconditionFailed)
    );
    assert!(bench.put_if("k", P::StillRow { row: row.row }).is_ok());
    bench.versioning(Versioning::Enabled);
    bench.delete("k", None, "m");
    assert_eq!(bench.put_if("k", P::IfMatchAny), Err(Refused::NoSuchKey));
    assert_eq!(bench.put_if("k", P::StillAbsent), Err(Refused::PreconditionFailed));
    assert!(bench.put_if("k", P::IfNoneMatchAny).is_ok());
    // None of the refused ones left data behind.
    let QueryReply::DataStatus { statuses } =
        bench.query(Query::DataStatus { data_ids: vec![DataId(1), DataId(2)] }).unwrap()
    else {
        panic!()
    };
    assert_eq!(statuses, [DataStatus::Unknown; 2]);
}

#[test]
fn a_delete_in_a_bucket_with_fallback_is_remembered_until_the_next_write() {
    let mut bench = Bench::new();
    let change = BucketChange::Fallback { on: true };
    bench.ok(Command::ConfigureBucket { name: "b".to_owned(), change });
    assert_eq!(bench.shows("k", None), "absent");
    bench.delete("k", None, "");
    assert_eq!(bench.shows("k", None), "deleted");
    let saved_back = bench.put_if("k", Precondition::StillAbsent);
    assert_eq!(saved_back, Err(Refused::PreconditionFailed));
    bench.put("k", "");
    bench.delete("k", Some("null"), "");
    assert_eq!(bench.shows("k", None), "deleted");
    bench.put("k", "");
    assert!(bench.shows("k", None).starts_with('e'));
}

#[test]
fn a_retried_commit_or_delete_is_applied_once_and_an_aborted_id_never() {
    let mut bench = Bench::new();
    let first = bench.put_command("k", "");
    let answer = bench.ok(first.clone());
    assert_eq!(bench.ok(first.clone()), answer);
    bench.put("k", "");
    assert!(matches!(bench.ok(first), Applied::Committed { etag, .. } if etag == "e1"));
    assert_eq!(bench.shows("k", None), "e2", "the retry of a replaced write changes nothing");

    let mut gone = delete("k", None, "", bench.now);
    if let Command::Delete { request, .. } = &mut gone {
        *request = 77;
    }
    let answer = bench.ok(gone.clone());
    bench.put("k", "");
    assert_eq!(bench.ok(gone), answer);
    assert_eq!(bench.shows("k", None), "e3");

    let late = bench.put_command("k", "");
    let abort = Command::Abort { data_ids: vec![DataId(1), DataId(3), DataId(4)], now_ms: 5 };
    use AbortAnswer::{Aborted, Freed, Referenced};
    let answers = vec![Freed, Referenced, Aborted];
    for _ in 0..2 {
        assert_eq!(bench.ok(abort.clone()), Applied::AbortedData { answers: answers.clone() });
    }
    assert_eq!(bench.apply(late.clone()), Err(Refused::Aborted));
    let cleanups = bench.outbox().into_iter().map(|row| row.task);
    let nodes = vec![node(1), node(2), node(3)];
    let wanted = OutboxTask::Cleanup { data_id: DataId(4), nodes };
    assert_eq!(cleanups.filter(|task| *task == wanted).count(), 1);
    bench.ok(Command::PurgeAborted { before_ms: 6 });
    assert!(bench.apply(late).is_ok(), "forgotten after the purge");
}

#[test]
fn a_purge_forgets_a_bounded_number_of_rows_the_oldest_first() {
    let mut bench = Bench::new();
    for ids in (1..=PURGE_LIMIT as u128 + 1).collect::<Vec<_>>().chunks(MAX_ITEMS) {
        let data_ids: Vec<DataId> = ids.iter().map(|id| DataId(1000 + id)).collect();
        bench.ok(Command::Abort { data_ids, now_ms: ids[0] as u64 });
    }
    let aborted = |bench: &Bench| -> u32 {
        let count = "SELECT count(*) FROM blob WHERE state = 1";
        rusqlite::Connection::open(bench.dir.path().join("meta.db"))
            .unwrap()
            .query_row(count, [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(aborted(&bench), PURGE_LIMIT + 1);
    let all = Command::PurgeAborted { before_ms: u64::MAX >> 1 };
    bench.ok(all.clone());
    assert_eq!(aborted(&bench), 1);
    bench.ok(all);
    assert_eq!(aborted(&bench), 0);
}

#[test]
fn copies_share_data_and_a_self_copy_keeps_it() {
    let mut bench = Bench::new();
    bench.put("k", "");
    let copy = |bench: &Bench, row: u64, to: &str, head: Option<ObjectHead>| Command::Copy {
        source: CopySource { bucket: "b".to_owned(), key: "k".to_owned(), row },
        bucket: "b".to_owned(),
        key: to.to_owned(),
        version_id: String::new(),
        owner: "me".to_owned(),
        head,
        tags: None,
        storage_class: None,
        precondition: Precondition::Always,
        request: 0,
        now_ms: bench.now,
        grace_ms: 0,
    };
    let row = bench.object("k").0.row;
    bench.ok(copy(&bench, row, "k2", None));
    let html = ObjectHead { content_type: Some("text/html".to_owned()), ..Default::default() };
    bench.ok(copy(&bench, row, "k", Some(html)));
    assert_eq!(bench.apply(copy(&bench, row, "k3", None)), Err(Refused::SourceChanged));
    let (info, parts) = bench.object("k");
    assert_eq!(info.head.content_type.as_deref(), Some("text/html"));
    assert_eq!(info.etag, "e1");
    assert_eq!(parts[0].locations, [node(1), node(2)]);
    let blob = |bench: &Bench| match bench.query(Query::Blobs { data_ids: vec![DataId(1)] }) {
        Ok(QueryReply::Blobs { blobs }) => blobs.first().map(|blob| blob.references),
        other => panic!("{other:?}"),
    };
    assert_eq!(blob(&bench), Some(2));
    bench.delete("k", None, "");
    assert_eq!(blob(&bench), Some(1));
    bench.delete("k2", None, "");
    assert_eq!(blob(&bench), None);
}

#[test]
fn a_commit_needs_its_quorum_on_members_and_locations_follow_repairs() {
    let mut bench = Bench::new();
    bench.ok(Command::RemoveStorageNode { instance: node(2) });
    let command = bench.put_command("k", "");
    assert_eq!(bench.apply(command.clone()), Err(Refused::NotEnoughLocations { have: 1, need: 2 }));
    bench.ok(Command::RegisterStorageNode { instance: node(2), catalog: 7, now_ms: 9 });
    bench.ok(command);
    let replicas = |bench: &Bench| {
        let tasks = bench.outbox().into_iter().map(|row| row.task);
        tasks.filter(|task| matches!(task, OutboxTask::Replicate { .. })).count()
    };
    assert_eq!(replicas(&bench), 1);
    let (data_id, instance) = (DataId(1), node(3));
    let drop =
        |again| Command::DropLocation { data_id, instance: instance.clone(), again, now_ms: 1 };
    bench.ok(drop(false));
    assert_eq!(replicas(&bench), 1, "one is pending already");
    bench.ok(drop(true));
    assert_eq!(replicas(&bench), 2);
    let add = Command::AddLocation { data_id, instance: instance.clone() };
    assert_eq!(bench.ok(add.clone()), Applied::Location { live: true });
    assert_eq!(bench.object("k").1[0].locations, [node(1), node(2), node(3)]);
    bench.ok(drop(false));
    assert_eq!(replicas(&bench), 3);
    assert_eq!(bench.object("k").1[0].locations, [node(1), node(2)]);
    let drop_at = |n| Command::DropLocation { data_id, instance: node(n), again: false, now_ms: 1 };
    bench.ok(drop_at(1));
    bench.ok(drop_at(2));
    assert_eq!(bench.object("k").1[0].locations, [node(2)], "the last one is never dropped");
    let ids: Vec<OutboxId> = bench.outbox().into_iter().map(|row| row.id).collect();
    assert_eq!(ids[0].to_string(), format!("t-{}-0", ids[0].index));
    bench.ok(Command::AckOutbox { ids });
    assert!(bench.outbox().is_empty());
    bench.delete("k", None, "");
    assert_eq!(bench.ok(add), Applied::Location { live: false });
}

#[test]
fn buckets_are_owned_configured_and_removed_when_empty() {
    let mut bench = Bench::new();
    let create = |owner: &str| Command::CreateBucket {
        name: "b".to_owned(),
        owner: owner.to_owned(),
        now_ms: 1,
    };
    let owner = "me".to_owned();
    assert_eq!(bench.apply(create("you")), Err(Refused::BucketAlreadyExists { owner }));
    assert_eq!(bench.apply(create("me")), Err(Refused::BucketAlreadyOwnedByYou));
    let tags = Some(vec![Tag { key: "a".to_owned(), value: String::new() }]);
    let rules = Some(vec![CorsRule { max_age_seconds: Some(5), ..Default::default() }]);
    let changes =
        [BucketChange::Tags { tags: tags.clone() }, BucketChange::Cors { rules: rules.clone() }];
    for change in changes {
        bench.ok(Command::ConfigureBucket { name: "b".to_owned(), change });
    }
    let QueryReply::Bucket { tags: t, cors: c, .. } =
        bench.query(Query::GetBucket { bucket: "b".to_owned() }).unwrap()
    else {
        panic!()
    };
    assert_eq!((t, c), (tags, rules));
    let remove = |owner: &str| Command::DeleteBucket {
        name: "b".to_owned(),
        owner: Some(owner.to_owned()),
        now_ms: 1,
        grace_ms: 0,
    };
    assert_eq!(bench.apply(remove("you")), Err(Refused::AccessDenied));
    bench.versioning(Versioning::Enabled);
    bench.delete("k", None, "m");
    assert_eq!(bench.apply(remove("me")), Err(Refused::BucketNotEmpty), "a marker is left");
    bench.delete("k", Some("m"), "");
    bench.ok(remove("me"));
    let command = bench.put_command("k", "");
    assert_eq!(bench.apply(command), Err(Refused::NoSuchBucket));
}

#[test]
fn tags_belong_to_a_version_and_search_finds_words_of_keys_tags_and_metadata() {
    let mut bench = Bench::new();
    bench.put("photos/2026/IMG_001.jpg", "");
    bench.put("notes.txt", "");
    let tags = vec![Tag { key: "colour".to_owned(), value: "Dark-Blue".to_owned() }];
    let put_tags = |key: &str, tags: &Vec<Tag>| Command::PutObjectTags {
        bucket: "b".to_owned(),
        key: key.to_owned(),
        version_id: None,
        tags: tags.clone(),
    };
    bench.ok(put_tags("notes.txt", &tags));
    assert_eq!(bench.apply(put_tags("nothing", &tags)), Err(Refused::NoSuchKey));
    assert_eq!(bench.object("notes.txt").0.tags, tags);
    let search = |bench: &Bench, text: &str| {
        let (bucket, text) = (Some("b".to_owned()), text.to_owned());
        match bench.query(Query::Search { bucket, text, after: None, max: 10 }).unwrap() {
            QueryReply::Found { hits, .. } => hits.into_iter().map(|h| h.key).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    for (text, key) in [("img_001", 0), ("PHOTOS 20", 0), ("blue", 1), ("colour txt", 1)] {
        let keys = ["photos/2026/IMG_001.jpg", "notes.txt"];
        assert_eq!(search(&bench, text), [keys[key]], "{text}");
    }
    for text in ["2026 blue", "phot 2026", "\"", "", "AND", "*", "b1"] {
        assert!(search(&bench, text).is_empty(), "{text}");
    }
    bench.ok(put_tags("notes.txt", &Vec::new()));
    assert!(search(&bench, "blue").is_empty());
    bench.delete("notes.txt", None, "");
    assert!(search(&bench, "notes").is_empty());
    let QueryReply::Stats { stats } = bench.query(Query::Stats { bucket: None }).unwrap() else {
        panic!()
    };
    assert_eq!((stats.objects, stats.bytes, stats.buckets), (1, 10, 1));
    assert_eq!(stats.content_types.len(), 1);
    assert_eq!(stats.daily_uploads, [DailyUploads { day: 0, objects: 2, bytes: 20 }]);
}
