//! The store against a naive model, over restarts and power failures, and its limits.

mod crash;
mod model;
mod replicated;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use redb::ReadableTable;
use tempfile::TempDir;

use self::model::Model;
use super::*;
use crate::actors::queue_worker::command::{
    Command, Enqueued, LeaseRef, MAX_ITEMS, Outcome, Refused,
};
use crate::actors::queue_worker::machine::QueueMachine;
use crate::actors::queue_worker::tables::{DUE, due_key, state_key};
use crate::actors::queue_worker::task::{KindName, NewTask, TASK_LIMIT_BYTES, TaskKind};
use crate::replica::{Keyed, Machine as _};
use crate::types::DataId;

/// A store and its machine.
struct Queue {
    store: Arc<QueueStore>,
    machine: RefCell<QueueMachine>,
}

impl Queue {
    fn over(store: QueueStore) -> Queue {
        let store = Arc::new(store);
        Queue { machine: RefCell::new(QueueMachine::new(store.clone()).unwrap()), store }
    }

    fn apply_batch(&self, first: u64, commands: &[Command]) -> Vec<Outcome> {
        let keyless = |command: &Command| Keyed { key: 0, command: command.clone() };
        let commands: Vec<_> = commands.iter().map(keyless).collect();
        self.machine.borrow_mut().apply(first, &commands, b"").unwrap()
    }
}

impl Deref for Queue {
    type Target = QueueStore;

    fn deref(&self) -> &QueueStore {
        &self.store
    }
}

fn open(dir: &TempDir) -> Queue {
    Queue::over(QueueStore::open(&dir.path().join("queue.redb")).unwrap())
}

fn replicate(n: u64, at_ms: u64) -> NewTask {
    let to = "storage-service-x".to_owned();
    NewTask::new(format!("t-{n}"), TaskKind::Replicate { data_id: DataId(n.into()), to }, at_ms)
}

fn enqueue(tasks: impl IntoIterator<Item = NewTask>) -> Command {
    Command::Enqueue { tasks: tasks.into_iter().collect(), limit: 1_000_000 }
}

fn lease_command(worker: &str, max: u32, now_ms: u64) -> Command {
    Command::Lease { worker: worker.to_owned(), max, lease_ms: 5_000, now_ms, kinds: Vec::new() }
}

fn held(n: u64, token: u64) -> LeaseRef {
    LeaseRef { id: format!("t-{n}"), token }
}

/// Applies one command after all before it.
fn run(store: &Queue, command: Command) -> Outcome {
    let next = store.applied_index().unwrap() + 1;
    store.apply_batch(next, &[command]).remove(0)
}

fn leased_ids(outcome: Outcome) -> Vec<String> {
    let Outcome::Leased { tasks, .. } = outcome else { panic!("{outcome:?}") };
    tasks.into_iter().map(|task| task.id).collect()
}

/// All tasks by id, through pages of a few.
fn dump(store: &Queue) -> Vec<Task> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(&TaskFilter::default(), after, 7).unwrap();
        all.extend(page.tasks);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

/// `STATS-1`, `STATS-2`, `TABLES-1`: figures and indexes say what the tasks say.
fn recount(store: &Queue) {
    let stats = store.stats().unwrap();
    let recount = |tx: &ReadTransaction| {
        recount_in(tx, &stats);
        Ok(())
    };
    store.read(recount).unwrap();
}

fn recount_in(tx: &ReadTransaction, stats: &Stats) {
    let (mut rows, mut states, mut due) = (HashMap::new(), Vec::new(), Vec::new());
    for entry in tx.open_table(TASKS).unwrap().iter().unwrap() {
        let seq = entry.unwrap().0.value();
        let task = read_row(&tx.open_table(TASKS).unwrap(), seq).unwrap().task;
        states.push(state_key(seq, &task));
        due.extend(due_key(seq, &task));
        rows.insert(task.id.clone(), (seq, task));
    }
    states.sort_unstable();
    due.sort_unstable();
    let list = tx.open_table(STATES).unwrap();
    let found: Vec<_> = list.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect();
    assert_eq!(found, states);
    let lines = tx.open_table(DUE).unwrap();
    let found: Vec<_> = lines.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect();
    assert_eq!(found, due);
    let ids = tx.open_table(IDS).unwrap();
    assert_eq!(ids.iter().unwrap().count(), rows.len());
    for (id, (seq, _)) in &rows {
        assert_eq!(ids.get(id.as_str()).unwrap().unwrap().value(), *seq);
    }
    for kind in KindName::ALL {
        for state in TaskState::ALL {
            let is = |task: &Task| task.kind.name() == kind && task.state == state;
            let count = rows.values().filter(|(_, task)| is(task)).count() as u64;
            assert_eq!(stats.counts.get(kind, state), count, "{kind} {state}");
        }
    }
    assert_eq!(stats.totals.enqueued - stats.totals.purged, rows.len() as u64);
}

#[test]
fn higher_priority_goes_first_then_the_earlier_due_time_then_arrival() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let rows = [(1, 5, 30), (2, 9, 40), (3, 5, 20), (4, 5, 20), (5, 9, 900), (6, 1, 0)];
    let task = |(n, priority, not_before_ms)| {
        let kind = if n % 2 == 0 { replicate(n, 0).kind } else { delete_object(n) };
        NewTask { priority, not_before_ms, kind, ..replicate(n, 0) }
    };
    run(&store, enqueue(rows.map(task)));
    let outcome = run(&store, lease_command("w", 10, 100));
    assert!(matches!(outcome, Outcome::Leased { next_due_ms: Some(900), .. }), "{outcome:?}");
    assert_eq!(leased_ids(outcome), ["t-2", "t-3", "t-4", "t-1", "t-6"]);
    let only = vec![KindName::Replicate];
    let filtered =
        Command::Lease { worker: "w".into(), max: 9, lease_ms: 1, now_ms: 900, kinds: only };
    let outcome = run(&store, filtered);
    assert_eq!(outcome, Outcome::Leased { tasks: Vec::new(), next_due_ms: None });
    assert_eq!(leased_ids(run(&store, lease_command("w", 10, 900))), ["t-5"]);
}

fn delete_object(n: u64) -> TaskKind {
    TaskKind::DeleteObject { bucket: "b".to_owned(), key: format!("k{n}") }
}

#[test]
fn the_work_of_a_dead_worker_goes_to_another_and_its_late_result_is_refused() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    run(&store, enqueue([replicate(1, 0), replicate(2, 0)]));
    assert_eq!(leased_ids(run(&store, lease_command("first", 9, 1_000))), ["t-1", "t-2"]);
    let early = run(&store, Command::ExpireLeases { now_ms: 5_999 });
    assert_eq!(early, Outcome::TakenBack { waiting: 0, dead: 0 });
    let leases = vec![held(2, 2), held(1, 9)];
    let renew = Command::Renew { leases, lease_ms: 5_000, now_ms: 5_999 };
    assert_eq!(run(&store, renew), Outcome::Renewed { lost: vec!["t-1".to_owned()] });
    let expired = run(&store, Command::ExpireLeases { now_ms: 6_000 });
    assert_eq!(expired, Outcome::TakenBack { waiting: 1, dead: 0 });
    let died = Command::WorkerDied { worker: "first".to_owned(), now_ms: 6_001 };
    assert_eq!(run(&store, died), Outcome::TakenBack { waiting: 1, dead: 0 });
    assert_eq!(leased_ids(run(&store, lease_command("second", 9, 6_001))), ["t-1", "t-2"]);
    let late = Command::Complete { lease: held(1, 1), now_ms: 6_002 };
    assert_eq!(run(&store, late), Outcome::Refused(Refused::StaleToken));
    let done = Command::Complete { lease: held(1, 3), now_ms: 6_003 };
    assert!(matches!(run(&store, done), Outcome::Changed { state: TaskState::Completed, .. }));
    let stats = store.stats().unwrap();
    assert_eq!((stats.totals.completed, stats.totals.lost_leases), (1, 2));
}

#[test]
fn a_full_queue_and_values_out_of_bounds_are_refused_and_known_ids_are_not() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let full = |tasks: &[NewTask]| Command::Enqueue { tasks: tasks.to_vec(), limit: 2 };
    let other = NewTask { kind: delete_object(1), ..replicate(1, 0) };
    let nodes = vec!["x".repeat(1_000); 16];
    let large = NewTask { kind: TaskKind::Delete { data_id: DataId(1), nodes }, ..replicate(7, 0) };
    let nameless = NewTask { id: String::new(), ..replicate(8, 0) };
    let tasks = [
        replicate(1, 0),
        replicate(1, 0),
        other,
        large,
        nameless,
        replicate(2, 0),
        replicate(3, 0),
    ];
    let invalid = |field: &str| Enqueued::Refused(Refused::Invalid { field: field.to_owned() });
    let results = vec![
        Enqueued::New,
        Enqueued::Known,
        Enqueued::Refused(Refused::IdTaken),
        invalid("kind"),
        invalid("id"),
        Enqueued::New,
        Enqueued::Refused(Refused::Full { limit: 2 }),
    ];
    assert_eq!(run(&store, full(&tasks)), Outcome::Enqueued { results });
    run(&store, Command::Cancel { id: "t-1".to_owned(), now_ms: 5 });
    run(&store, full(&[replicate(3, 0)]));
    let retry = Command::Retry { id: "t-1".to_owned(), now_ms: 6, limit: 2 };
    assert_eq!(run(&store, retry), Outcome::Refused(Refused::Full { limit: 2 }));
    let many = vec![replicate(1, 0); MAX_ITEMS + 1];
    let refused = Outcome::Refused(Refused::Invalid { field: "tasks".to_owned() });
    assert_eq!(run(&store, enqueue(many)), refused);
}

#[test]
fn pages_and_leases_stay_under_the_limit_of_a_message_with_the_largest_tasks() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let nodes = vec!["x".repeat(1_000); 14];
    let kind = |n: u64| TaskKind::Delete { data_id: DataId(n.into()), nodes: nodes.clone() };
    let tasks = (1..=30).map(|n| NewTask { kind: kind(n), ..replicate(n, 0) });
    run(&store, enqueue(tasks));
    let mut seen = 0;
    let mut after = None;
    loop {
        let page = store.list(&TaskFilter::default(), after, 1_000).unwrap();
        assert!(encoded_size(&page) < PAGE_BYTES + TASK_LIMIT_BYTES + 64);
        seen += page.tasks.len();
        after = page.next.map(|cursor| cursor.to_string().parse().unwrap());
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 30);
    let outcome = run(&store, lease_command("w", 1_000, 1));
    assert!(encoded_size(&outcome) < PAGE_BYTES + TASK_LIMIT_BYTES + 64);
    assert!(
        matches!(&outcome, Outcome::Leased { tasks, next_due_ms: Some(0) } if tasks.len() < 30)
    );
}

#[test]
fn a_purge_forgets_what_is_old_or_too_much_in_bounded_steps() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for from in [0, 1_000] {
        run(&store, enqueue((from..from + 1_000).map(|n| replicate(n, 0))));
        let done = |n: u64| Command::SetStatus {
            id: format!("t-{n}"),
            state: TaskState::Completed,
            error: None,
            now_ms: n,
        };
        let next = store.applied_index().unwrap() + 1;
        store.apply_batch(next, &(from..from + 1_000).map(done).collect::<Vec<_>>());
    }
    assert_eq!(store.stats().unwrap().counts.in_state(TaskState::Completed), 2_000);
    let purge = |finished_before_ms, keep| Command::Purge { finished_before_ms, keep };
    assert_eq!(run(&store, purge(10, 5_000)), Outcome::Purged { removed: 10, more: false });
    assert_eq!(run(&store, purge(0, 900)), Outcome::Purged { removed: 1_000, more: true });
    assert_eq!(run(&store, purge(0, 900)), Outcome::Purged { removed: 90, more: false });
    assert_eq!(dump(&store).iter().map(|task| task.finished_ms.unwrap()).min(), Some(1_100));
    recount(&store);
}

#[test]
fn a_file_in_use_is_refused_and_an_emptied_one_shrinks() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("queue.redb");
    let store = open(&dir);
    assert!(matches!(QueueStore::open(&path), Err(StoreError::InUse { .. })));
    for from in 0..20 {
        run(&store, enqueue((0..1_000).map(|n| replicate(from * 1_000 + n, 0))));
    }
    let cancel = |n| Command::Cancel { id: format!("t-{n}"), now_ms: 1 };
    let next = store.applied_index().unwrap() + 1;
    store.apply_batch(next, &(0..20_000).map(cancel).collect::<Vec<_>>());
    while run(&store, Command::Purge { finished_before_ms: 0, keep: 0 })
        != (Outcome::Purged { removed: 0, more: false })
    {}
    let full = std::fs::metadata(&path).unwrap().len();
    drop(store);
    drop(open(&dir));
    let emptied = std::fs::metadata(&path).unwrap().len();
    assert!(full > 4_000_000 && emptied < full / 8, "{full} -> {emptied}");
}

/// A command with its blanks (times, tokens) still open.
#[derive(Clone, Debug)]
enum Op {
    Enqueue { ids: Vec<u8>, kind: u8, priority: u8, delay_ms: u64, limit: u64 },
    Lease { worker: u8, max: u32, kind: Option<KindName> },
    Renew { ago: usize },
    Complete { ago: usize },
    Fail { ago: usize, jitter: u32 },
    Release { ago: usize },
    Cancel { id: u8 },
    Retry { id: u8, limit: u64 },
    SetStatus { id: u8, state: TaskState },
    Expire,
    WorkerDied { worker: u8 },
    Purge { age_ms: u64, keep: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let kinds = proptest::option::of(proptest::sample::select(&KindName::ALL[4..]));
    let states = proptest::sample::select(&TaskState::ALL[..]);
    let ids = proptest::collection::vec(0..12_u8, 1..5);
    prop_oneof![
        6 => (ids, 0..2_u8, 0..3_u8, 0..3_000_u64, 4..20_u64).prop_map(
            |(ids, kind, priority, delay_ms, limit)| {
                Op::Enqueue { ids, kind, priority, delay_ms, limit }
            }
        ),
        8 => (0..3_u8, 1..5_u32, kinds)
            .prop_map(|(worker, max, kind)| Op::Lease { worker, max, kind }),
        2 => (0..6_usize).prop_map(|ago| Op::Renew { ago }),
        5 => (0..6_usize).prop_map(|ago| Op::Complete { ago }),
        5 => (0..6_usize, any::<u32>()).prop_map(|(ago, jitter)| Op::Fail { ago, jitter }),
        1 => (0..6_usize).prop_map(|ago| Op::Release { ago }),
        1 => (0..12_u8).prop_map(|id| Op::Cancel { id }),
        1 => (0..12_u8, 4..20_u64).prop_map(|(id, limit)| Op::Retry { id, limit }),
        1 => (0..12_u8, states).prop_map(|(id, state)| Op::SetStatus { id, state }),
        2 => Just(Op::Expire),
        1 => (0..3_u8).prop_map(|worker| Op::WorkerDied { worker }),
        1 => (0..9_000_u64, 0..6_u64).prop_map(|(age_ms, keep)| Op::Purge { age_ms, keep }),
    ]
}

/// Fills in the blanks from what was leased so far.
fn command_of(op: Op, now_ms: u64, leases: &[LeaseRef]) -> Command {
    let recent = |ago: usize| {
        let place = leases.len().checked_sub(ago + 1);
        place.map_or_else(|| held(0, 0), |place| leases[place].clone())
    };
    let id_of = |id: u8| format!("t-{id}");
    match op {
        Op::Enqueue { ids, kind, priority, delay_ms, limit } => {
            let task = |(place, id): (usize, u8)| NewTask {
                kind: TaskKind::DeleteObject { bucket: "b".into(), key: format!("{}", id % 11) },
                priority,
                max_attempts: u32::from(kind) + 1,
                not_before_ms: now_ms + delay_ms,
                // unlike any other arrival
                created_ms: now_ms * 10 + place as u64,
                ..replicate(id.into(), now_ms)
            };
            let mut tasks: Vec<_> = ids.into_iter().enumerate().map(task).collect();
            if kind == 1 {
                let at = |t: &NewTask| TaskKind::SaveObject {
                    bucket: "b".into(),
                    key: t.id.clone(),
                    size: 1,
                    content_type: String::new(),
                    headers: Vec::new(),
                    data_id: None,
                };
                tasks.iter_mut().for_each(|task| task.kind = at(task));
            }
            Command::Enqueue { tasks, limit }
        }
        Op::Lease { worker, max, kind } => Command::Lease {
            worker: format!("w{worker}"),
            max,
            lease_ms: 2_000,
            now_ms,
            kinds: kind.into_iter().collect(),
        },
        Op::Renew { ago } => {
            Command::Renew { leases: vec![recent(ago), recent(0)], lease_ms: 2_500, now_ms }
        }
        Op::Complete { ago } => Command::Complete { lease: recent(ago), now_ms },
        Op::Fail { ago, jitter } => {
            Command::Fail { lease: recent(ago), error: format!("e{jitter}"), now_ms, jitter }
        }
        Op::Release { ago } => Command::Release { lease: recent(ago), now_ms },
        Op::Cancel { id } => Command::Cancel { id: id_of(id), now_ms },
        Op::Retry { id, limit } => Command::Retry { id: id_of(id), now_ms, limit },
        Op::SetStatus { id, state } => {
            Command::SetStatus { id: id_of(id), state, error: Some("set".into()), now_ms }
        }
        Op::Expire => Command::ExpireLeases { now_ms },
        Op::WorkerDied { worker } => Command::WorkerDied { worker: format!("w{worker}"), now_ms },
        Op::Purge { age_ms, keep } => {
            Command::Purge { finished_before_ms: now_ms.saturating_sub(age_ms), keep }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does_in_any_batches_and_over_restarts(
        ops in proptest::collection::vec((op(), 0..700_u64), 1..90),
        cuts in proptest::collection::vec((1..9_usize, proptest::bool::weighted(0.2)), 90),
    ) {
        let (dir, mut model, mut now) = (TempDir::new().unwrap(), Model::default(), 10_000);
        let (mut leases, mut script) = (Vec::new(), Vec::new());
        for (op, wait_ms) in ops {
            now += wait_ms;
            let command = command_of(op, now, &leases);
            let running = |t: &Task| (t.state == TaskState::Running).then(|| t.id.clone());
            let held_before: Vec<String> = model.tasks.iter().filter_map(running).collect();
            let outcome = model.apply(&command);
            if let Outcome::Leased { tasks, .. } = &outcome {
                prop_assert!(tasks.iter().all(|task| !held_before.contains(&task.id)));
                leases.extend(tasks.iter().map(|task| {
                    LeaseRef { id: task.id.clone(), token: task.last_token }
                }));
            }
            script.push((command, outcome));
        }
        let mut store = open(&dir);
        let mut rest = &script[..];
        for (size, reopen) in cuts {
            let (batch, left) = rest.split_at(size.min(rest.len()));
            rest = left;
            let commands: Vec<Command> = batch.iter().map(|(command, _)| command.clone()).collect();
            let next = store.applied_index().unwrap() + 1;
            let outcomes = store.apply_batch(next, &commands);
            for (found, (command, expected)) in outcomes.iter().zip(batch) {
                prop_assert_eq!(found, expected, "{:?}", command);
            }
            if reopen {
                drop(store);
                store = open(&dir);
            }
            if rest.is_empty() { break }
        }
        prop_assert!(rest.is_empty());
        let mut expected = model.tasks;
        expected.sort_by(|a, b| a.id.cmp(&b.id));
        prop_assert_eq!(dump(&store), expected);
        recount(&store);
        prop_assert!(model.completions.values().all(|times| *times == 1));
        let completed: u32 = model.completions.values().sum();
        prop_assert_eq!(store.stats().unwrap().totals.completed, u64::from(completed));
    }
}
