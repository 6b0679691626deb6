//! The steps of a rebalancing: what they write, what they refuse, and that they may be sent again.

use super::*;
use crate::actors::metadata::rebalance::RebalanceStep;

const DATA: DataId = DataId(1);
const GRACE: u64 = 60_000;

/// A bench with one object of data 1 at the nodes 1 and 2, and four nodes.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.ok(Command::RegisterStorageNode { instance: node(4), catalog: 7, now_ms: 1 });
    let mut command = bench.put_command("k", "");
    if let Command::Commit { data: Some(data), .. } = &mut command {
        data.missing.clear();
    }
    bench.ok(command);
    bench
}

fn want(n: usize, again: bool) -> Command {
    let step = RebalanceStep::Want { data_id: DATA, instance: node(n), again };
    Command::Rebalance { step, now_ms: 5 }
}

fn release(n: usize, keep: u32) -> Command {
    let step = RebalanceStep::Release { data_id: DATA, instance: node(n), keep, grace_ms: GRACE };
    Command::Rebalance { step, now_ms: 5 }
}

fn add(n: usize) -> Command {
    Command::AddLocation { data_id: DATA, instance: node(n) }
}

const LIVE: Applied = Applied::Location { live: true };
const GARBAGE: Applied = Applied::Location { live: false };

/// Where the copies are, and where they are wanted.
fn copies(bench: &Bench) -> (Vec<String>, Vec<String>) {
    match bench.query(Query::BlobsAfter { after: None, max: 10 }).unwrap() {
        QueryReply::Blobs { mut blobs } => {
            let blob = blobs.remove(0);
            (blob.locations, blob.lacking)
        }
        other => panic!("{other:?}"),
    }
}

fn nodes(numbers: &[usize]) -> Vec<String> {
    numbers.iter().copied().map(node).collect()
}

fn tasks(bench: &Bench) -> Vec<OutboxTask> {
    bench.outbox().into_iter().map(|row| row.task).collect()
}

#[test]
fn a_copy_moves_in_three_steps_each_of_which_may_be_sent_again() {
    let mut bench = bench();
    for _ in 0..2 {
        assert_eq!(bench.ok(want(3, false)), LIVE);
        assert_eq!(copies(&bench), (nodes(&[1, 2]), nodes(&[3])));
        assert_eq!(tasks(&bench), [OutboxTask::Replicate { data_id: DATA, to: node(3) }]);
    }
    for _ in 0..2 {
        assert_eq!(bench.ok(add(3)), LIVE);
        assert_eq!(bench.ok(want(3, true)), LIVE);
        assert_eq!(copies(&bench), (nodes(&[1, 2, 3]), nodes(&[])));
    }
    for _ in 0..2 {
        assert_eq!(bench.ok(release(1, 2)), LIVE);
        assert_eq!(copies(&bench), (nodes(&[2, 3]), nodes(&[])));
        assert_eq!(bench.outbox().len(), 2, "REBALANCE-3");
    }
    let last = bench.outbox().pop().unwrap();
    assert_eq!(last.task, OutboxTask::Discard { data_id: DATA, from: node(1) });
    assert_eq!(last.not_before_ms, 5 + GRACE, "a read in progress goes on");
    bench.delete("k", None, "");
    for command in [want(1, false), release(2, 1)] {
        assert_eq!(bench.ok(command), GARBAGE, "the object is gone");
    }
}

#[test]
fn a_release_leaves_as_many_copies_on_members_as_it_says_and_one_at_least() {
    let mut bench = bench();
    bench.ok(release(1, 2));
    assert_eq!(copies(&bench).0, nodes(&[1, 2]), "REBALANCE-1");
    bench.ok(want(3, false));
    bench.ok(release(1, 2));
    assert_eq!(copies(&bench).0, nodes(&[1, 2]), "a wanted copy is none yet");
    bench.ok(add(3));
    bench.ok(Command::RemoveStorageNode { instance: node(2) });
    bench.ok(release(1, 2));
    assert_eq!(copies(&bench).0, nodes(&[1, 3]), "a removed node's copy is none");
    assert_eq!(bench.apply(release(2, 1)), Err(Refused::NoSuchNode));
    assert_eq!(bench.apply(want(2, false)), Err(Refused::NoSuchNode));
    bench.ok(release(1, 0));
    bench.ok(release(3, 0));
    assert_eq!(copies(&bench).0, nodes(&[3]), "never none");
    let drop = Command::DropLocation { data_id: DATA, instance: node(3), again: false, now_ms: 9 };
    bench.ok(drop);
    assert_eq!(copies(&bench).0, nodes(&[3]), "the last one of a member is kept though it be bad");
}

#[test]
fn only_a_wanted_copy_comes_in_place_and_nobody_misses_a_released_one() {
    let mut bench = bench();
    assert_eq!(bench.ok(add(4)), GARBAGE, "REBALANCE-2");
    bench.ok(want(4, false));
    bench.ok(release(4, 2));
    assert_eq!(bench.ok(add(4)), GARBAGE, "wanted no more");
    assert_eq!(copies(&bench), (nodes(&[1, 2]), nodes(&[])));
    let discard = OutboxTask::Discard { data_id: DATA, from: node(4) };
    assert_eq!(tasks(&bench).pop(), Some(discard), "it may have got one");
    let rows = bench.outbox().len();
    // A reader that began before the release finds nothing there, and reports it.
    let drop = Command::DropLocation { data_id: DATA, instance: node(4), again: true, now_ms: 9 };
    assert_eq!(bench.ok(drop), LIVE);
    assert_eq!((copies(&bench).1, bench.outbox().len()), (nodes(&[]), rows));
}

#[test]
fn a_copy_that_nobody_makes_any_more_is_asked_for_again() {
    let mut bench = bench();
    bench.ok(want(3, false));
    let ids = bench.outbox().into_iter().map(|row| row.id).collect();
    bench.ok(Command::AckOutbox { ids });
    // The node is removed, which ends its task, and comes back.
    bench.ok(Command::RemoveStorageNode { instance: node(3) });
    assert_eq!(copies(&bench).1, nodes(&[]));
    bench.ok(Command::RegisterStorageNode { instance: node(3), catalog: 7, now_ms: 9 });
    assert_eq!(copies(&bench).1, nodes(&[3]));
    bench.ok(want(3, false));
    assert!(bench.outbox().is_empty());
    bench.ok(want(3, true));
    assert_eq!(tasks(&bench), [OutboxTask::Replicate { data_id: DATA, to: node(3) }]);
}

#[test]
fn a_page_of_items_is_cut_where_it_would_be_too_long_and_the_next_goes_on() {
    let mut bench = Bench::new();
    let many: Vec<_> = (0..20).map(|n| format!("storage-service-{n:036}")).collect();
    for instance in &many {
        let instance = instance.clone();
        bench.ok(Command::RegisterStorageNode { instance, catalog: 7, now_ms: 1 });
    }
    let count = 250;
    for n in 0..count {
        let mut command = bench.put_command(&format!("k{n}"), "");
        if let Command::Commit { data: Some(data), .. } = &mut command {
            data.locations = many.clone();
        }
        bench.ok(command);
    }
    let (mut seen, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        // the query checks QUERY-1
        let Ok(QueryReply::Blobs { blobs }) = bench.query(Query::BlobsAfter { after, max: 256 })
        else {
            panic!("no page")
        };
        let Some(last) = blobs.last() else { break };
        after = Some(last.data_id);
        pages += 1;
        seen.extend(blobs.into_iter().map(|blob| blob.data_id));
    }
    assert!(pages > 1);
    assert_eq!(seen, (1..=count).map(DataId).collect::<Vec<_>>());
}
