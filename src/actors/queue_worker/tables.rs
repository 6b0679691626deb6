//! The tables of the queue's redb file, and the only functions that write to them.
//!
//! Used by `apply.rs` and `store.rs`. Indexes are derived from the task alone, so that
//! one function keeps them right for every command.
//!
//! - `TABLES-1` each task has one row in `tasks`, one in `ids`, one in `states`, and one in `due`
//!   exactly while it waits.
//! - `TABLES-2` `head` (applied index, next numbers, counts) is written in the same transaction as
//!   the tasks.
//! - `TABLES-3` sequence numbers and tokens only grow, also over restarts.

use bincode::Options;
use redb::{Error, ReadableTable, StorageError, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::lease::is_waiting;
use super::query::Cursor;
use super::stats::{Counts, Seen, Totals};
use super::task::{KindName, Task, TaskState};
use crate::types::UnixMillis;

/// Sequence number -> task.
pub(super) const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");
/// Task id -> sequence number.
pub(super) const IDS: TableDefinition<&str, u64> = TableDefinition::new("ids");
/// Place in the list of all tasks.
pub(super) const STATES: TableDefinition<StateKey, ()> = TableDefinition::new("states");
/// Place in the line of waiting tasks.
pub(super) const DUE: TableDefinition<DueKey, ()> = TableDefinition::new("due");
/// `head` -> [`Head`], `format` -> version of the file.
pub(super) const HEAD: TableDefinition<&str, &[u8]> = TableDefinition::new("head");

/// (state, time or 0, sequence number): waiting tasks by arrival, running ones by the end of their
/// lease, finished ones by the time they ended.
pub(super) type StateKey = (u8, u64, u64);
/// (kind, 255 - priority, due time, sequence number).
pub(super) type DueKey = (u8, u8, u64, u64);

/// What the file knows besides the tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) applied_index: u64,
    next_seq: u64,
    next_token: u64,
    pub(super) counts: Counts,
    pub(super) totals: Totals,
}

impl Default for Head {
    fn default() -> Self {
        let (counts, totals) = (Counts::default(), Totals::default());
        Head { applied_index: 0, next_seq: 1, next_token: 1, counts, totals }
    }
}

/// A task and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) task: Task,
}

/// All tables, open in one write transaction.
pub(super) struct Tables<'tx> {
    tasks: Table<'tx, u64, &'static [u8]>,
    ids: Table<'tx, &'static str, u64>,
    states: Table<'tx, StateKey, ()>,
    due: Table<'tx, DueKey, ()>,
    heads: Table<'tx, &'static str, &'static [u8]>,
    pub(super) head: Head,
    /// Whether any task was written in this transaction.
    pub(super) changed: bool,
}

impl<'tx> Tables<'tx> {
    pub(super) fn open(tx: &'tx WriteTransaction) -> Result<Self, Error> {
        let heads = tx.open_table(HEAD)?;
        let head = read_head(&heads)?;
        Ok(Tables {
            tasks: tx.open_table(TASKS)?,
            ids: tx.open_table(IDS)?,
            states: tx.open_table(STATES)?,
            due: tx.open_table(DUE)?,
            heads,
            head,
            changed: false,
        })
    }

    /// Writes the head; call before the commit.
    pub(super) fn close(mut self) -> Result<(), Error> {
        self.heads.insert("head", encode(&self.head).as_slice())?;
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
        self.head.next_token += 1;
        self.head.next_token - 1
    }

    pub(super) fn insert(&mut self, task: Task) -> Result<(), Error> {
        let seq = self.head.next_seq;
        self.head.next_seq += 1;
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
        self.changed = true;
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
        Seen { before, after }.count(&mut self.head.counts, &mut self.head.totals);
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

pub(super) fn read_head(
    heads: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Head, Error> {
    let row = heads.get("head")?;
    row.map_or_else(|| Ok(Head::default()), |row| decode("head", row.value()))
}

pub(super) fn read_row(
    tasks: &impl ReadableTable<u64, &'static [u8]>,
    seq: u64,
) -> Result<Row, Error> {
    let bytes = tasks.get(seq)?.ok_or_else(|| corrupted(format!("task {seq} is missing")))?;
    Ok(Row { seq, task: decode("task", bytes.value())? })
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding()
}

/// The encoded size in bytes, as in messages between nodes.
pub(super) fn encoded_size(value: &impl Serialize) -> u64 {
    options().serialized_size(value).unwrap_or(u64::MAX)
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    options().serialize(value).expect("plain structs of known length always encode to memory")
}

fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    // a length prefix in a damaged row may not make us allocate more than the row has
    let bounded = options().with_limit(bytes.len() as u64);
    bounded.deserialize(bytes).map_err(|e| corrupted(format!("{what} row: {e}")))
}

fn corrupted(text: String) -> Error {
    StorageError::Corrupted(text).into()
}
