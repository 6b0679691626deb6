//! The queue's file: commands in batches in, outcomes out, and reads beside them.
//!
//! Owned by the queue actor, which applies on a blocking thread and reads from any thread. One redb
//! file, one write transaction and one sync a batch.
//!
//! - `STORE-1` an outcome is returned only once the batch and its applied index are on disk, all or
//!   nothing.
//! - `STORE-2` a command whose index was applied before is skipped: a log may be replayed.
//! - `STORE-3` after an error of [`QueueStore::apply_batch`] the outcome of the batch is unknown:
//!   drop the store and open it again.
//! - `STORE-4` a batch in which no command changed anything costs no write and no sync, and leaves
//!   the stored index where it was: applied again, it would change nothing again.

use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, Durability, Error, ReadableDatabase, ReadableTable,
    WriteTransaction,
};

use super::apply::apply;
use super::command::{Command, Outcome, PAGE_BYTES, Refused};
use super::query::{Cursor, SCAN_LIMIT, TaskFilter, TaskPage};
use super::stats::Stats;
use super::tables::{
    DUE, HEAD, IDS, STATES, StateKey, TASKS, Tables, cursor_of, encoded_size, read_head, read_row,
};
use super::task::{Task, TaskState};
use crate::types::UnixMillis;

/// The version of the file that this code writes.
const FORMAT: &[u8] = b"queue 1";
/// Pages kept in memory, in bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// What a task takes in the file with its indexes (measured); twice that is no waste.
const TYPICAL_TASK_BYTES: u64 = 400;
/// A file up to this size is left as it is.
const SMALL_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Why the file could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another store has it open.
    #[error("queue file {path:?} is in use")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by another version.
    #[error("queue file {path:?} has format {found:?}, not {FORMAT:?}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The file or the disk failed.
    #[error("queue file {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
}

impl StoreError {
    fn file(path: &Path, source: Error) -> StoreError {
        StoreError::File { path: path.to_owned(), source: Box::new(source) }
    }
}

/// An open queue. Reads do not wait for a batch that is being applied, they see the state before.
#[derive(Debug)]
pub struct QueueStore {
    path: PathBuf,
    database: Database,
}

impl QueueStore {
    /// Opens the file, makes it where it is missing, and gives unused space back where there is
    /// much of it (redb files never shrink by themselves).
    ///
    /// # Errors
    /// [`StoreError`], each kind.
    pub fn open(path: &Path) -> Result<QueueStore, StoreError> {
        let file_bytes = std::fs::metadata(path).map_or(0, |file| file.len());
        match Builder::new().set_cache_size(CACHE_BYTES).create(path) {
            Ok(database) => QueueStore::start(path, database, file_bytes),
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                Err(StoreError::InUse { path: path.to_owned() })
            }
            Err(error) => Err(StoreError::file(path, error.into())),
        }
    }

    fn start(path: &Path, database: Database, file_bytes: u64) -> Result<QueueStore, StoreError> {
        let prepared = prepare(&database).map_err(|error| StoreError::file(path, error))?;
        if let Some(found) = prepared {
            return Err(StoreError::Format { path: path.to_owned(), found });
        }
        let mut store = QueueStore { path: path.to_owned(), database };
        let expected = SMALL_FILE_BYTES + store.stats()?.counts.all() * 2 * TYPICAL_TASK_BYTES;
        if file_bytes > expected {
            let compacted = store.database.compact();
            compacted.map_err(|error| StoreError::file(path, error.into()))?;
        }
        Ok(store)
    }

    /// Applies commands, of which the first has index `first_index` and each next one the next; an
    /// index may be left out between batches, never used twice.
    ///
    /// # Errors
    /// [`StoreError::File`]; see `STORE-3`.
    pub fn apply_batch(
        &self,
        first_index: u64,
        commands: &[Command],
    ) -> Result<Vec<Outcome>, StoreError> {
        self.named(self.apply_all(first_index, commands))
    }

    fn apply_all(&self, first_index: u64, commands: &[Command]) -> Result<Vec<Outcome>, Error> {
        let mut outcomes = Vec::with_capacity(commands.len());
        let tx = self.begin()?;
        let mut tables = Tables::open(&tx)?;
        let applied_before = tables.head.applied_index;
        for (index, command) in (first_index..).zip(commands) {
            if index <= applied_before {
                outcomes.push(Outcome::Refused(Refused::AlreadyApplied));
                continue;
            }
            outcomes.push(apply(&mut tables, command)?);
            tables.head.applied_index = index;
        }
        if tables.changed {
            tables.close()?;
            tx.commit()?;
        } else {
            drop(tables);
            tx.abort()?; // STORE-4
        }
        Ok(outcomes)
    }

    fn begin(&self) -> Result<WriteTransaction, Error> {
        let mut tx = self.database.begin_write()?;
        tx.set_durability(Durability::Immediate)?;
        Ok(tx)
    }

    /// Index of the last command that is known to be on disk, 0 before the first (see `STORE-4`).
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn applied_index(&self) -> Result<u64, StoreError> {
        self.stats().map(|stats| stats.applied_index)
    }

    /// One task.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn get(&self, id: &str) -> Result<Option<Task>, StoreError> {
        self.named(self.read_task(id))
    }

    fn read_task(&self, id: &str) -> Result<Option<Task>, Error> {
        let tx = self.database.begin_read()?;
        let seq = tx.open_table(IDS)?.get(id)?.map(|seq| seq.value());
        let tasks = tx.open_table(TASKS)?;
        seq.map(|seq| read_row(&tasks, seq).map(|row| row.task)).transpose()
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
        self.named(self.read_page(filter, after, limit))
    }

    fn read_page(
        &self,
        filter: &TaskFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, Error> {
        let tx = self.database.begin_read()?;
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

    /// A summary; costs the same for any number of tasks.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.named(self.read_stats())
    }

    fn read_stats(&self) -> Result<Stats, Error> {
        let tx = self.database.begin_read()?;
        let head = read_head(&tx.open_table(HEAD)?)?;
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
            counts: head.counts,
            totals: head.totals,
            oldest_waiting_ms: oldest,
            applied_index: head.applied_index,
        })
    }

    fn named<T>(&self, result: Result<T, Error>) -> Result<T, StoreError> {
        result.map_err(|source| StoreError::file(&self.path, source))
    }
}

/// Makes what is missing in a new file; gives the format of a file that is not ours.
fn prepare(database: &Database) -> Result<Option<String>, Error> {
    let mut tx = database.begin_write()?;
    tx.set_durability(Durability::Immediate)?;
    {
        let mut heads = tx.open_table(HEAD)?;
        let found = heads.get("format")?.map(|row| row.value().to_vec());
        match found {
            None => drop(heads.insert("format", FORMAT)?),
            Some(found) if found == FORMAT => {}
            Some(found) => return Ok(Some(String::from_utf8_lossy(&found).into_owned())),
        }
        tx.open_table(IDS)?;
        tx.open_table(DUE)?;
        tx.open_table(STATES)?;
        tx.open_table(TASKS)?;
    }
    tx.commit()?;
    Ok(None)
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
