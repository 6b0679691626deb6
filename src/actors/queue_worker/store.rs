//! The queue's file: what can be asked of it without changing it.
//!
//! Read from any thread, beside the machine that applies ([`QueueMachine`](super::machine)); what is
//! promised of both stands in [`redb_state`](crate::actors::redb_state).

use redb::{Error, ReadTransaction};

use super::command::PAGE_BYTES;
use super::machine::Tasks;
use super::query::{Cursor, SCAN_LIMIT, TaskFilter, TaskPage};
use super::stats::Stats;
use super::tables::{
    DUE, DueKey, FIGURES, IDS, STATES, StateKey, TASKS, cursor_of, read_figures, read_row,
};
use super::task::{KindName, Task, TaskState};
use crate::actors::redb_state::{Store, applied_index, encoded_size};
use crate::types::UnixMillis;

pub use crate::actors::redb_state::StoreError;

/// An open queue.
pub type QueueStore = Store<Tasks>;

impl QueueStore {
    /// One task.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn get(&self, id: &str) -> Result<Option<Task>, StoreError> {
        self.read(|tx| read_task(tx, id))
    }

    /// A page of at most `limit` tasks.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn list(
        &self,
        filter: &TaskFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, StoreError> {
        self.read(|tx| read_page(tx, filter, after, limit))
    }

    /// A summary; costs the same for any number of tasks.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.read(read_stats)
    }

    /// When the first waiting task is due, if one waits.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn first_due(&self) -> Result<Option<UnixMillis>, StoreError> {
        self.read(read_first_due)
    }

    /// Whether a lease ended at or before `now_ms` and was not taken away yet.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn has_overdue_lease(&self, now_ms: UnixMillis) -> Result<bool, StoreError> {
        self.read(|tx| Ok(oldest(tx, TaskState::Running)?.is_some_and(|until| until <= now_ms)))
    }

    /// Whether there are finished tasks that ended before this time, or more than `keep` of one
    /// final state.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn has_old(&self, before_ms: UnixMillis, keep: u64) -> Result<bool, StoreError> {
        self.read(|tx| {
            let counts = read_figures(&tx.open_table(FIGURES)?)?.counts;
            for state in TaskState::ALL.into_iter().filter(|state| state.is_final()) {
                let count: u64 = KindName::ALL.iter().map(|kind| counts.get(*kind, state)).sum();
                if count > keep || oldest(tx, state)?.is_some_and(|ended| ended < before_ms) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

/// The time of the first task in a state: the end of its lease, or when it ended.
fn oldest(tx: &ReadTransaction, state: TaskState) -> Result<Option<UnixMillis>, Error> {
    let (first, end) = state_range(state);
    let entry = tx.open_table(STATES)?.range(first..=end)?.next().transpose()?;
    Ok(entry.map(|(key, _)| key.value().1))
}

fn read_first_due(tx: &ReadTransaction) -> Result<Option<UnixMillis>, Error> {
    let line = tx.open_table(DUE)?;
    let mut first: Option<UnixMillis> = None;
    for kind in KindName::ALL {
        let mut from: DueKey = (kind as u8, 0, 0, 0);
        let end = (kind as u8, u8::MAX, u64::MAX, u64::MAX);
        // the first of each priority: there are few
        while let Some(entry) = line.range(from..=end)?.next() {
            let (kind, priority, due, _) = entry?.0.value();
            first = Some(first.map_or(due, |first| first.min(due)));
            let Some(next) = priority.checked_add(1) else { break };
            from = (kind, next, 0, 0);
        }
    }
    Ok(first)
}

fn read_task(tx: &ReadTransaction, id: &str) -> Result<Option<Task>, Error> {
    let seq = tx.open_table(IDS)?.get(id)?.map(|seq| seq.value());
    let tasks = tx.open_table(TASKS)?;
    seq.map(|seq| read_row(&tasks, seq).map(|row| row.task)).transpose()
}

fn read_page(
    tx: &ReadTransaction,
    filter: &TaskFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<TaskPage, Error> {
    let (states, tasks) = (tx.open_table(STATES)?, tx.open_table(TASKS)?);
    let mut page = TaskPage { tasks: Vec::new(), next: None };
    let (mut bytes, mut last) = (0, after);
    let Some((first, end)) = list_range(filter, after) else { return Ok(page) };
    for (seen, entry) in states.range(first..=end)?.enumerate() {
        let key = entry?.0.value();
        if page.tasks.len() >= limit.max(1) || bytes > PAGE_BYTES || seen == SCAN_LIMIT {
            page.next = last;
            break;
        }
        last = Some(cursor_of(key)?);
        let task = read_row(&tasks, key.2)?.task;
        if filter.kind.is_none_or(|kind| kind == task.kind.name()) {
            bytes += encoded_size(&task);
            page.tasks.push(task);
        }
    }
    Ok(page)
}

fn read_stats(tx: &ReadTransaction) -> Result<Stats, Error> {
    let figures = read_figures(&tx.open_table(FIGURES)?)?;
    let (states, tasks) = (tx.open_table(STATES)?, tx.open_table(TASKS)?);
    let mut oldest: Option<UnixMillis> = None;
    for state in [TaskState::Pending, TaskState::Retrying] {
        let (first, end) = state_range(state);
        if let Some(entry) = states.range(first..=end)?.next() {
            let made = read_row(&tasks, entry?.0.value().2)?.task.created_ms;
            oldest = Some(oldest.map_or(made, |oldest| oldest.min(made)));
        }
    }
    Ok(Stats {
        counts: figures.counts,
        totals: figures.totals,
        oldest_waiting_ms: oldest,
        applied_index: applied_index(tx)?,
    })
}

fn state_range(state: TaskState) -> (StateKey, StateKey) {
    ((state as u8, 0, 0), (state as u8, u64::MAX, u64::MAX))
}

/// The keys that a page may hold, or `None` where the place after which it begins is the end.
fn list_range(filter: &TaskFilter, after: Option<Cursor>) -> Option<(StateKey, StateKey)> {
    let (mut first, end) = match filter.state {
        Some(state) => state_range(state),
        None => ((0, 0, 0), (u8::MAX, u64::MAX, u64::MAX)),
    };
    if let Some(after) = after {
        // sequence numbers never come near the largest u64
        let next = (after.state as u8, after.at, after.seq.saturating_add(1));
        first = first.max(next);
    }
    (first <= end).then_some((first, end))
}

#[cfg(test)]
mod tests;
