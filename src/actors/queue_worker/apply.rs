//! Applies one command to the tables: the deterministic state machine of the queue.
//!
//! Called by the queue's [machine](super::machine) in a write transaction. What becomes of a
//! single task is decided in `lease.rs`; here it is found, checked against bounds and written.
//! Invariants: `COMMAND-1`, `COMMAND-2` (every check comes before the first write), `COMMAND-4`.

use redb::Error;

use super::command::{Command, Enqueued, LeaseRef, MAX_ITEMS, Outcome, PAGE_BYTES, Refused};
use super::lease::{self, MAX_LEASE_MS};
use super::tables::{DueKey, Tables};
use super::task::{
    ERROR_LIMIT_BYTES, ID_LIMIT_BYTES, KindName, Lease, NewTask, TASK_LIMIT_BYTES, Task, TaskState,
    WORKER_LIMIT_BYTES,
};
use crate::actors::redb_state::encoded_size;
use crate::types::UnixMillis;

/// What a task may grow by after it was taken in: lease, error, times.
const GROWTH_BYTES: u64 = (ERROR_LIMIT_BYTES + WORKER_LIMIT_BYTES + 256) as u64;

/// Applies a command.
///
/// # Errors
/// Where the file fails; the transaction must then be given up.
pub(super) fn apply(tables: &mut Tables<'_>, command: &Command) -> Result<Outcome, Error> {
    if let Err(refused) = check(command) {
        return Ok(Outcome::Refused(refused));
    }
    match command {
        Command::Enqueue { tasks, limit } => enqueue(tables, tasks, *limit),
        Command::Lease { worker, max, lease_ms, now_ms, kinds } => {
            let until_ms = now_ms.saturating_add(*lease_ms);
            lease_due(tables, worker, kinds, *max as usize, *now_ms, until_ms)
        }
        Command::Renew { leases, lease_ms, now_ms } => {
            renew(tables, leases, now_ms.saturating_add(*lease_ms))
        }
        Command::Complete { lease, now_ms } => {
            change(tables, &lease.id, |task| lease::completed(task, lease.token, *now_ms))
        }
        Command::Fail { lease, error, now_ms, jitter } => change(tables, &lease.id, |task| {
            lease::failed(task, lease.token, error, *now_ms, *jitter)
        }),
        Command::Release { lease, now_ms } => {
            change(tables, &lease.id, |task| lease::released(task, lease.token, *now_ms))
        }
        Command::Cancel { id, now_ms } => {
            change(tables, id, |task| lease::cancelled(task, *now_ms))
        }
        Command::Retry { id, now_ms, limit } => {
            let room = room(tables, *limit);
            change(tables, id, |task| {
                let task = lease::retried(task, *now_ms)?;
                room.map(|()| task)
            })
        }
        Command::SetStatus { id, state, error, now_ms } => {
            change(tables, id, |task| lease::forced(task, *state, error.as_deref(), *now_ms))
        }
        Command::ExpireLeases { now_ms } => {
            take_back(tables, *now_ms, *now_ms, "lease expired", |_| true)
        }
        Command::WorkerDied { worker, now_ms } => {
            take_back(tables, u64::MAX, *now_ms, "worker died", |lease| lease.worker == *worker)
        }
        Command::Purge { finished_before_ms, keep } => purge(tables, *finished_before_ms, *keep),
    }
}

/// Whether all values of a command are within bounds.
fn check(command: &Command) -> Result<(), Refused> {
    let bound = |field: &str, ok: bool| {
        if ok { Ok(()) } else { Err(Refused::Invalid { field: field.to_owned() }) }
    };
    match command {
        Command::Enqueue { tasks, .. } => bound("tasks", tasks.len() <= MAX_ITEMS),
        Command::Lease { worker, lease_ms, kinds, .. } => {
            bound("worker", (1..=WORKER_LIMIT_BYTES).contains(&worker.len()))?;
            bound("kinds", kinds.len() <= KindName::ALL.len())?;
            bound("lease_ms", (1..=MAX_LEASE_MS).contains(lease_ms))
        }
        Command::Renew { leases, lease_ms, .. } => {
            bound("leases", leases.len() <= MAX_ITEMS)?;
            bound("leases", leases.iter().all(|lease| lease.id.len() <= ID_LIMIT_BYTES))?;
            bound("lease_ms", (1..=MAX_LEASE_MS).contains(lease_ms))
        }
        _ => Ok(()),
    }
}

/// Whether the queue takes another unfinished task.
fn room(tables: &Tables<'_>, limit: u64) -> Result<(), Refused> {
    if tables.figures.counts.unfinished() < limit { Ok(()) } else { Err(Refused::Full { limit }) }
}

fn enqueue(tables: &mut Tables<'_>, tasks: &[NewTask], limit: u64) -> Result<Outcome, Error> {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(enqueue_one(tables, task, limit)?);
    }
    Ok(Outcome::Enqueued { results })
}

fn enqueue_one(tables: &mut Tables<'_>, new: &NewTask, limit: u64) -> Result<Enqueued, Error> {
    let invalid = |field: &str| Refused::Invalid { field: field.to_owned() };
    if !(1..=ID_LIMIT_BYTES).contains(&new.id.len()) {
        return Ok(Enqueued::Refused(invalid("id")));
    }
    if let Some(known) = tables.find(&new.id)? {
        let same = known.task.kind == new.kind && known.task.object == new.object;
        return Ok(if same { Enqueued::Known } else { Enqueued::Refused(Refused::IdTaken) });
    }
    if encoded_size(new) + GROWTH_BYTES > TASK_LIMIT_BYTES {
        return Ok(Enqueued::Refused(invalid("kind")));
    }
    if let Err(full) = room(tables, limit) {
        return Ok(Enqueued::Refused(full));
    }
    tables.insert(new.clone().into_task())?;
    Ok(Enqueued::New)
}

/// Changes one task as `step` decides.
fn change(
    tables: &mut Tables<'_>,
    id: &str,
    step: impl FnOnce(Task) -> Result<Task, Refused>,
) -> Result<Outcome, Error> {
    let Some(row) = tables.find(id)? else {
        return Ok(Outcome::Refused(Refused::NoSuchTask));
    };
    Ok(match step(row.task.clone()) {
        Ok(after) => {
            tables.update(&row, &after)?;
            Outcome::Changed { state: after.state, not_before_ms: after.not_before_ms }
        }
        Err(refused) => Outcome::Refused(refused),
    })
}

/// The lines that a worker takes from, one a kind: where each stands, and what waits there.
struct Lines {
    heads: Vec<(KindName, Option<DueKey>)>,
    /// The earliest due time among tasks that were passed over as not yet due.
    later_ms: Option<UnixMillis>,
}

impl Lines {
    fn open(tables: &Tables<'_>, kinds: &[KindName], now: UnixMillis) -> Result<Lines, Error> {
        let mut lines = Lines { heads: Vec::new(), later_ms: None };
        for kind in KindName::ALL {
            if kinds.is_empty() || kinds.contains(&kind) {
                let head = lines.next_due(tables, kind, (kind as u8, 0, 0, 0), now)?;
                lines.heads.push((kind, head));
            }
        }
        Ok(lines)
    }

    /// The first due task of a kind from a place on. Within a priority tasks stand by due time, so
    /// one that is not due ends its priority.
    fn next_due(
        &mut self,
        tables: &Tables<'_>,
        kind: KindName,
        mut from: DueKey,
        now: UnixMillis,
    ) -> Result<Option<DueKey>, Error> {
        while let Some(key) = tables.next_in_line(kind, from)? {
            let (_, rank, due, _) = key;
            if due <= now {
                return Ok(Some(key));
            }
            self.later_ms = Some(self.later_ms.map_or(due, |later| later.min(due)));
            let Some(rank) = rank.checked_add(1) else { break };
            from = (kind as u8, rank, 0, 0);
        }
        Ok(None)
    }

    /// The place in `heads` of the task to do next: by priority, due time and arrival.
    fn best(&self) -> Option<(usize, DueKey)> {
        let heads = self.heads.iter().enumerate();
        let due = heads.filter_map(|(place, (_, head))| Some((place, (*head)?)));
        due.min_by_key(|(_, (_, rank, due, seq))| (*rank, *due, *seq))
    }

    fn next_due_ms(&self) -> Option<UnixMillis> {
        self.best().map(|(_, key)| key.2).or(self.later_ms)
    }
}

fn lease_due(
    tables: &mut Tables<'_>,
    worker: &str,
    kinds: &[KindName],
    max: usize,
    now_ms: UnixMillis,
    until_ms: UnixMillis,
) -> Result<Outcome, Error> {
    let mut lines = Lines::open(tables, kinds, now_ms)?;
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    while tasks.len() < max.min(MAX_ITEMS)
        && let Some((place, key)) = lines.best()
    {
        let row = tables.row(key.3)?;
        let lease = Lease { worker: worker.to_owned(), token: tables.next_token(), until_ms };
        let task = lease::leased(row.task.clone(), lease, now_ms)
            .expect("TABLES-1: what stands in the line waits, and it is due by its key");
        tables.update(&row, &task)?;
        bytes += encoded_size(&task);
        tasks.push(task);
        let kind = lines.heads[place].0;
        lines.heads[place].1 = lines.next_due(tables, kind, key, now_ms)?;
        if bytes > PAGE_BYTES {
            break;
        }
    }
    Ok(Outcome::Leased { tasks, next_due_ms: lines.next_due_ms() })
}

fn renew(
    tables: &mut Tables<'_>,
    leases: &[LeaseRef],
    until_ms: UnixMillis,
) -> Result<Outcome, Error> {
    let mut lost = Vec::new();
    for lease in leases {
        let outcome = change(tables, &lease.id, |t| lease::renewed(t, lease.token, until_ms))?;
        if matches!(outcome, Outcome::Refused(_)) {
            lost.push(lease.id.clone());
        }
    }
    Ok(Outcome::Renewed { lost })
}

/// Ends the leases that run out by `until_ms` and that `picked` says.
fn take_back(
    tables: &mut Tables<'_>,
    until_ms: UnixMillis,
    now_ms: UnixMillis,
    why: &str,
    picked: impl Fn(&Lease) -> bool,
) -> Result<Outcome, Error> {
    let (mut waiting, mut dead) = (0, 0);
    for seq in tables.in_state(TaskState::Running, until_ms, usize::MAX)? {
        let row = tables.row(seq)?;
        if !row.task.lease.as_ref().is_some_and(&picked) {
            continue;
        }
        let Ok(after) = lease::taken_back(row.task.clone(), why, now_ms) else { continue };
        tables.update(&row, &after)?;
        if after.state.is_final() { dead += 1 } else { waiting += 1 }
    }
    Ok(Outcome::TakenBack { waiting, dead })
}

fn purge(
    tables: &mut Tables<'_>,
    finished_before_ms: UnixMillis,
    keep: u64,
) -> Result<Outcome, Error> {
    let mut budget = MAX_ITEMS;
    let mut more = false;
    for state in TaskState::ALL.into_iter().filter(|state| state.is_final()) {
        // one above the budget is looked at, to know whether more is left
        for seq in tables.in_state(state, u64::MAX, budget + 1)? {
            let row = tables.row(seq)?;
            let old = row.task.finished_ms.is_some_and(|at| at < finished_before_ms);
            if !old && tables.figures.counts.in_state(state) <= keep {
                break;
            }
            if budget == 0 {
                more = true;
                break;
            }
            tables.remove(&row)?;
            budget -= 1;
        }
    }
    Ok(Outcome::Purged { removed: (MAX_ITEMS - budget) as u64, more })
}
