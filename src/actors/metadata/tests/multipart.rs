//! Multipart uploads against S3's rules.

use super::*;

const MIN: u64 = 5 << 20;

fn create(id: &str) -> Command {
    Command::CreateUpload {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        upload_id: id.to_owned(),
        object: NewObject { version_id: format!("v-{id}"), ..Default::default() },
        checksum: None,
        now_ms: 1,
    }
}

fn add(id: &str, no: u32, data_id: u128, len: u64) -> Command {
    Command::AddPart {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        upload_id: id.to_owned(),
        no,
        data: data(data_id, len),
        checksum: None,
        now_ms: 2,
        grace_ms: 10,
    }
}

fn md5_of(data_id: u128) -> [u8; 16] {
    md5::compute(data_id.to_be_bytes()).0
}

/// Completes with these (part number, data id) pairs.
fn complete(id: &str, parts: &[(u32, u128)]) -> Command {
    Command::CompleteUpload {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        upload_id: id.to_owned(),
        parts: part_ranges(parts.iter().map(|(no, _)| *no)),
        digest: parts_digest(parts.iter().map(|(no, data)| (*no, md5_of(*data)))),
        min_part_bytes: MIN,
        checksum: None,
        precondition: Precondition::IfNoneMatchAny,
        now_ms: 3,
        grace_ms: 10,
    }
}

fn abort(id: &str) -> Command {
    Command::AbortUpload {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        upload_id: id.to_owned(),
        now_ms: 4,
        grace_ms: 10,
    }
}

const FREED: DataStatus = DataStatus::Freed { since_ms: 0 };

/// The status, whenever that came about.
fn whenever(status: DataStatus) -> DataStatus {
    if matches!(status, DataStatus::Freed { .. }) { FREED } else { status }
}

fn status(bench: &Bench, ids: &[u128]) -> Vec<DataStatus> {
    let data_ids = ids.iter().map(|id| DataId(*id)).collect();
    match bench.query(Query::DataStatus { data_ids }).unwrap() {
        QueryReply::DataStatus { statuses } => statuses.into_iter().map(whenever).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_completed_upload_has_the_selected_parts_the_etag_rule_and_answers_retries_alike() {
    use DataStatus::Referenced;
    let mut bench = Bench::new();
    bench.ok(create("u"));
    bench.ok(add("u", 1, 100, MIN));
    bench.ok(add("u", 2, 101, MIN));
    bench.ok(add("u", 2, 102, MIN + 1)); // replaces
    bench.ok(add("u", 5, 103, 7));
    bench.ok(add("u", 7, 104, 7)); // not selected
    let refusals = [
        (vec![(2, 102), (1, 100)], Refused::InvalidPartOrder),
        (vec![(1, 100), (3, 103)], Refused::InvalidPart { no: Some(3) }),
        (vec![(1, 100), (9, 103)], Refused::InvalidPart { no: Some(9) }),
        (vec![(1, 100), (2, 101)], Refused::InvalidPart { no: None }),
        (vec![], Refused::InvalidPart { no: None }),
        (vec![(5, 103), (7, 104)], Refused::EntityTooSmall { no: 5, size: 7, min: MIN }),
    ];
    for (parts, refused) in refusals {
        assert_eq!(bench.apply(complete("u", &parts)), Err(refused), "{parts:?}");
    }
    let parts = [(1, 100), (2, 102), (5, 103)];
    let answer = bench.ok(complete("u", &parts));
    assert_eq!(bench.ok(complete("u", &parts)), answer);
    let (info, rows) = bench.object("k");
    let digest = md5::compute([md5_of(100), md5_of(102), md5_of(103)].concat());
    assert_eq!(info.etag, format!("{digest:x}-3"));
    assert_eq!((info.size, info.parts_count), (MIN + MIN + 1 + 7, 3));
    let places: Vec<_> = rows.iter().map(|p| (p.no, p.offset, p.len)).collect();
    assert_eq!(places, [(1, 0, MIN), (2, MIN, MIN + 1), (5, 2 * MIN + 1, 7)]);
    assert_eq!(
        status(&bench, &[100, 101, 102, 103, 104]),
        [Referenced, FREED, Referenced, Referenced, FREED]
    );
    assert_eq!(bench.apply(add("u", 1, 105, 1)), Err(Refused::NoSuchUpload));
    let query = Query::Parts { row: info.row, after_no: 0, from_offset: MIN };
    let QueryReply::Parts { parts, more } = bench.query(query).unwrap() else { panic!() };
    assert_eq!((parts[0].no, parts.len(), more), (2, 2, false));
    bench.delete("k", None, "");
    assert_eq!(status(&bench, &[100, 102, 103]), [FREED; 3]);
}

#[test]
fn a_refused_condition_leaves_the_upload_open_and_an_abort_frees_its_parts() {
    let mut bench = Bench::new();
    bench.put("k", "");
    bench.ok(create("u"));
    bench.ok(add("u", 1, 100, 1));
    assert_eq!(bench.apply(complete("u", &[(1, 100)])), Err(Refused::PreconditionFailed));
    let list = Query::ListParts {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        upload_id: "u".to_owned(),
        after_no: 0,
        max: 1,
    };
    let QueryReply::UploadParts { parts, more, .. } = bench.query(list.clone()).unwrap() else {
        panic!()
    };
    assert_eq!((parts.len(), parts[0].md5, more), (1, md5_of(100), false));
    bench.ok(abort("u"));
    assert_eq!(bench.ok(abort("u")), Applied::Done);
    assert_eq!(bench.query(list), Err(Refused::NoSuchUpload));
    assert_eq!(status(&bench, &[100]), [FREED]);
    assert_eq!(bench.apply(abort("other")), Err(Refused::NoSuchUpload));
    assert_eq!(bench.apply(add("other", 1, 101, 1)), Err(Refused::NoSuchUpload));
    for no in [0, MAX_PARTS + 1] {
        bench.ok(create("w"));
        let refused = bench.apply(add("w", no, 101, 1));
        assert!(matches!(refused, Err(Refused::InvalidArgument { .. })), "{no}");
    }
}

#[test]
fn ten_thousand_parts_are_selected_listed_and_read_in_bounded_messages() {
    let mut bench = Bench::new();
    bench.ok(create("u"));
    let pairs: Vec<(u32, u128)> = (1..=MAX_PARTS).map(|no| (no, 1_000 + no as u128)).collect();
    let adds: Vec<Command> = pairs.iter().map(|(no, id)| add("u", *no, *id, MIN)).collect();
    let index = bench.catalog.applied_index() + 1;
    assert!(apply(&mut bench.catalog, index, &adds).unwrap().iter().all(Result::is_ok));
    let command = complete("u", &pairs);
    assert!(bincode::serialize(&command).unwrap().len() < 1_000);
    let odd: Vec<_> = pairs.iter().copied().filter(|(no, _)| no % 2 == 1).collect();
    assert!(bincode::serialize(&complete("u", &odd)).unwrap().len() < 64 * 1024);
    bench.ok(command);
    let (info, first) = bench.object("k");
    let (mut seen, mut last, mut more) = (first.len(), first.last().unwrap().no, true);
    while more {
        let query = Query::Parts { row: info.row, after_no: last, from_offset: 0 };
        let QueryReply::Parts { parts, more: m } = bench.query(query).unwrap() else { panic!() };
        (seen, last, more) = (seen + parts.len(), parts.last().unwrap().no, m);
    }
    assert_eq!((seen, last), (10_000, MAX_PARTS));
}
