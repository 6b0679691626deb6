//! The tables of the queue's redb file, and the only functions that write to them.
//!
//! Used by `apply.rs` and `store.rs`. Indexes are derived from the task alone, so that
//! one function keeps them right for every command.
//!
//! - `TABLES-1` each task has one row in `tasks`, one in `ids`, one in `states`, and one in `due`
//!   exactly while it waits.
//! - `TABLES-2` the figures (next numbers, counts) are written in the same transaction as the tasks.
//! - `TABLES-3` sequence numbers and tokens only grow, also over restarts.

use redb::{Error, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::lease::is_waiting;
use super::query::Cursor;
use super::stats::{Counts, Seen, Totals};
use super::task::{KindName, Task, TaskState};
use crate::actors::redb_state::{EachTable, corrupted, decode, encode};
use crate::types::UnixMillis;

/// Sequence number -> task.
pub(super) const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");
/// Task id -> sequence number.
pub(super) const IDS: TableDefinition<&str, u64> = TableDefinition::new("ids");
/// Place in the list of all tasks.
pub(super) const STATES: TableDefinition<StateKey, ()> = TableDefinition::new("states");
/// Place in the line of waiting tasks.
pub(super) const DUE: TableDefinition<DueKey, ()> = TableDefinition::new("due");
/// One row: [`Figures`].
pub(super) const FIGURES: TableDefinition<(), &[u8]> = TableDefinition::new("figures");

/// (state, time or 0, sequence number): waiting tasks by arrival, running ones by the end of their
/// lease, finished ones by the time they ended.
pub(super) type StateKey = (u8, u64, u64);
/// (kind, 255 - priority, due time, sequence number).
pub(super) type DueKey = (u8, u8, u64, u64);

/// What the file knows besides the tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Figures {
    next_seq: u64,
    next_token: u64,
    pub(super) counts: Counts,
    pub(super) totals: Totals,
}

impl Default for Figures {
    fn default() -> Self {
        let (counts, totals) = (Counts::default(), Totals::default());
        Figures { next_seq: 1, next_token: 1, counts, totals }
    }
}

/// A task and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) task: Task,
}

/// Shows every table.
pub(super) fn each_table(each: &mut impl EachTable) -> Result<(), Error> {
    each.table(TASKS)?;
    each.table(IDS)?;
    each.table(STATES)?;
    each.table(DUE)?;
    each.table(FIGURES)
}

/// All tables, open in one write transaction.
pub struct Tables<'tx> {
    tasks: Table<'tx, u64, &'static [u8]>,
    ids: Table<'tx, &'static str, u64>,
    states: Table<'tx, StateKey, ()>,
    due: Table<'tx, DueKey, ()>,
    row: Table<'tx, (), &'static [u8]>,
    pub(super) figures: Figures,
}

impl<'tx> Tables<'tx> {
    pub(super) fn open(tx: &'tx WriteTransaction) -> Result<Self, Error> {
        let row = tx.open_table(FIGURES)?;
        let figures = read_figures(&row)?;
        Ok(Tables {
            tasks: tx.open_table(TASKS)?,
            ids: tx.open_table(IDS)?,
            states: tx.open_table(STATES)?,
            due: tx.open_table(DUE)?,
            row,
            figures,
        })
    }

    /// Writes the figures; call before the commit.
    pub(super) fn close(mut self) -> Result<(), Error> {
        self.row.insert((), encode(&self.figures).as_slice())?;
        Ok(())
    }

    pub(super) fn find(&self, id: &str) -> Result<Option<Row>, Error> {
        let seq = self.ids.get(id)?.map(|seq| seq.value());
        seq.map(|seq| self.row(seq)).transpose()
    }

    pub(super) fn row(&self, seq: u64) -> Result<Row, Error> {
        read_row(&self.tasks, seq)
    }

    pub(super) fn next_token(&mut self) -> u64 {
        self.figures.next_token += 1;
        self.figures.next_token - 1
    }

    pub(super) fn insert(&mut self, task: Task) -> Result<(), Error> {
        let seq = self.figures.next_seq;
        self.figures.next_seq += 1;
        self.ids.insert(task.id.as_str(), seq)?;
        self.replace(seq, None, Some(&task))
    }

    pub(super) fn update(&mut self, before: &Row, after: &Task) -> Result<(), Error> {
        if before.task == *after {
            return Ok(());
        }
        self.replace(before.seq, Some(&before.task), Some(after))
    }

    pub(super) fn remove(&mut self, row: &Row) -> Result<(), Error> {
        self.ids.remove(row.task.id.as_str())?;
        self.replace(row.seq, Some(&row.task), None)
    }

    fn replace(
        &mut self,
        seq: u64,
        before: Option<&Task>,
        after: Option<&Task>,
    ) -> Result<(), Error> {
        let states = [before, after].map(|task| task.map(|task| state_key(seq, task)));
        if states[0] != states[1] {
            swap(&mut self.states, states)?;
        }
        let dues = [before, after].map(|task| task.and_then(|task| due_key(seq, task)));
        if dues[0] != dues[1] {
            swap(&mut self.due, dues)?;
        }
        match after {
            Some(task) => drop(self.tasks.insert(seq, encode(task).as_slice())?),
            None => drop(self.tasks.remove(seq)?),
        }
        Seen { before, after }.count(&mut self.figures.counts, &mut self.figures.totals);
        Ok(())
    }

    /// The first waiting task of the kind after a place in the line.
    pub(super) fn next_in_line(
        &self,
        kind: KindName,
        from: DueKey,
    ) -> Result<Option<DueKey>, Error> {
        let end = (kind as u8, u8::MAX, u64::MAX, u64::MAX);
        let first = self.due.range(from..=end)?.next().transpose()?;
        Ok(first.map(|(key, _)| key.value()))
    }

    /// Numbers of the tasks in a state whose time is at most `until`, in order, at most `max`.
    pub(super) fn in_state(
        &self,
        state: TaskState,
        until: UnixMillis,
        max: usize,
    ) -> Result<Vec<u64>, Error> {
        let state = state as u8;
        let range = self.states.range((state, 0, 0)..=(state, until, u64::MAX))?;
        range.take(max).map(|entry| Ok(entry?.0.value().2)).collect()
    }
}

/// Swaps one index entry for another.
fn swap<K: redb::Key + Copy + for<'a> redb::Value<SelfType<'a> = K> + 'static>(
    index: &mut Table<'_, K, ()>,
    [old, new]: [Option<K>; 2],
) -> Result<(), Error> {
    if let Some(old) = old {
        index.remove(old)?;
    }
    if let Some(new) = new {
        index.insert(new, ())?;
    }
    Ok(())
}

pub(super) fn state_key(seq: u64, task: &Task) -> StateKey {
    let until = task.lease.as_ref().map(|lease| lease.until_ms);
    (task.state as u8, until.or(task.finished_ms).unwrap_or(0), seq)
}

pub(super) fn due_key(seq: u64, task: &Task) -> Option<DueKey> {
    let line = (task.kind.name() as u8, u8::MAX - task.priority);
    is_waiting(task.state).then_some((line.0, line.1, task.not_before_ms, seq))
}

pub(super) fn cursor_of(key: StateKey) -> Result<Cursor, Error> {
    let state = TaskState::ALL.get(usize::from(key.0)).copied();
    let state = state.ok_or_else(|| corrupted(format!("task state {}", key.0)))?;
    Ok(Cursor { state, at: key.1, seq: key.2 })
}

pub(super) fn read_figures(row: &impl ReadableTable<(), &'static [u8]>) -> Result<Figures, Error> {
    let row = row.get(())?;
    row.map_or_else(|| Ok(Figures::default()), |row| decode("figures", row.value()))
}

pub(super) fn read_row(
    tasks: &impl ReadableTable<u64, &'static [u8]>,
    seq: u64,
) -> Result<Row, Error> {
    let bytes = tasks.get(seq)?.ok_or_else(|| corrupted(format!("task {seq} is missing")))?;
    Ok(Row { seq, task: decode("task", bytes.value())? })
}
