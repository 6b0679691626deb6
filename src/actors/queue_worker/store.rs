//! The queue's file: what can be asked of it without changing it.
//!
//! Read from any thread, beside the machine that applies ([`QueueMachine`](super::machine)); what is
//! promised of both stands in [`redb_state`](crate::actors::redb_state).

use redb::{Error, ReadTransaction};

use super::command::PAGE_BYTES;
use super::machine::Tasks;
use super::query::{Cursor, SCAN_LIMIT, TaskFilter, TaskPage};
use super::stats::Stats;
use super::tables::{FIGURES, IDS, STATES, StateKey, TASKS, cursor_of, read_figures, read_row};
use super::task::{Task, TaskState};
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
