//! The log and the vote of one replica, in one redb file.
//!
//! Recent entries are also kept in memory: replication reads what was just written.
//!
//! - `LOG-1` entries and votes are on disk before openraft hears that they are;
//! - `LOG-2` one write at a time, in the order in which openraft asked;
//! - `LOG-3` after a failed write nothing more is written: openraft stops, and the replica is opened
//!   anew from what is on disk;
//! - `LOG-4` a read gives at most [`READ_BYTES`] of entries, or one entry.

mod group;
mod seed;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, EntryPayload, LogState, OptionalSend, RaftLogReader, StorageIOError};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::chance::random_u128;
use super::machine::Exec;
use super::synced::Synced;
use super::types::{Entry, LeaderId, LogId, Peer, ReplicaId, StorageError, Types, Vote};
use crate::points::{self, Point};

/// How many bytes of entries one read gives at most: they become one message.
pub const READ_BYTES: usize = 160 * 1024;
/// How many recent entries are kept in memory, and how many bytes of them.
const RECENT: usize = 512;
const RECENT_BYTES: usize = 4 * 1024 * 1024;
/// Pages that redb keeps in memory, in bytes: what is read was mostly just written.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Index to encoded entry.
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// `id`, `group`, `founders`, `vote` and `purged`, encoded.
const HEAD: TableDefinition<&str, &[u8]> = TableDefinition::new("head");

/// Why the log could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file or the disk.
    #[error("log: {0}")]
    File(#[from] redb::Error),
    /// What stands there is not what was written.
    #[error("log holds an unreadable value: {0}")]
    Decode(#[from] bincode::Error),
    /// It cannot found another group.
    #[error("the replica belongs to a group")]
    Member,
    /// An earlier write failed (LOG-3).
    #[error("the log is closed since a write failed")]
    Closed,
}

macro_rules! from_redb {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for LogError {
            fn from(error: redb::$error) -> Self {
                LogError::File(error.into())
            }
        }
    )*};
}
from_redb!(DatabaseError TransactionError TableError StorageError CommitError SetDurabilityError);

/// Who votes in a new group.
pub type Voters = BTreeMap<ReplicaId, Peer>;

/// Held until log and machine are closed.
pub type Held = Arc<dyn Any + Send + Sync>;

/// The log of one replica. Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub struct LogStore {
    file: Arc<File>,
    exec: Exec,
}

struct File {
    database: Database,
    id: ReplicaId,
    group: Mutex<Option<u128>>,
    recent: Mutex<Recent>,
    /// The last entry by which more than one votes.
    shared_at: AtomicU64,
    closed: AtomicBool,
    _held: Held,
}

/// The newest entries, without a gap, oldest first.
#[derive(Default)]
struct Recent {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, entry: Entry, size: usize) {
        self.bytes += size;
        self.entries.push_back((entry, size));
        while self.entries.len() > RECENT || self.bytes > RECENT_BYTES {
            let Some((_, size)) = self.entries.pop_front() else { break };
            self.bytes -= size;
        }
    }

    fn purge(&mut self, upto: u64) {
        while self.entries.front().is_some_and(|(e, _)| e.log_id.index <= upto) {
            let Some((_, size)) = self.entries.pop_front() else { break };
            self.bytes -= size;
        }
    }

    fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|(e, _)| e.log_id.index >= from) {
            let Some((_, size)) = self.entries.pop_back() else { break };
            self.bytes -= size;
        }
    }

    /// The entries of a range, if all that it may hold is here.
    fn get(&self, first: u64, end: u64, limit: usize) -> Option<Vec<Entry>> {
        let oldest = self.entries.front()?.0.log_id.index;
        let skip = usize::try_from(first.checked_sub(oldest)?).ok()?;
        let mut taken = 0;
        let within = |(entry, size): &&(Entry, usize)| {
            let fits = taken == 0 || taken + size <= limit;
            taken += size;
            entry.log_id.index < end && fits
        };
        Some(self.entries.iter().skip(skip).take_while(within).map(|(e, _)| e.clone()).collect())
    }
}

impl LogStore {
    /// Opens the log in a file, and makes it where there is none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open_file(path: &Path, synced: Synced, held: Held) -> Result<LogStore, LogError> {
        let database = synced.open(path, CACHE_BYTES)?;
        LogStore::open(database, Exec::Blocking, held)
    }

    /// Takes over a database, which is new or was a log before. Whatever is `held` is let go once
    /// the database is closed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(database: Database, exec: Exec, held: Held) -> Result<LogStore, LogError> {
        let tx = database.begin_write()?;
        tx.open_table(ENTRIES)?;
        let id = {
            let mut head = tx.open_table(HEAD)?;
            let known = head.get("id")?.map(|bytes| decode(bytes.value())).transpose()?;
            let id = known.unwrap_or_else(|| ReplicaId(random_u128()));
            head.insert("id", encode(&id)?.as_slice())?;
            id
        };
        tx.commit()?;
        let (recent, closed) = (Mutex::default(), AtomicBool::new(false));
        let (group, shared_at) = (Mutex::default(), AtomicU64::new(0));
        let file = File { database, id, group, recent, shared_at, closed, _held: held };
        *file.group() = file.head("group")?;
        Ok(LogStore { file: Arc::new(file), exec })
    }

    /// Whose log it is.
    pub fn id(&self) -> ReplicaId {
        self.file.id
    }

    /// The group that the replica belongs to; none: it is new.
    pub fn group(&self) -> Option<u128> {
        *self.file.group()
    }

    /// For whom this replica voted last, and the index of the last entry, as they are on disk.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn end(&self) -> Result<(Option<LeaderId>, u64), String> {
        let file = self.file.clone();
        let end = move || -> Result<(Option<LeaderId>, u64), LogError> {
            let leader = file.head::<Vote>("vote")?.map(|vote| *vote.leader_id());
            Ok((leader, file.state()?.last_log_id.map_or(0, |id| id.index)))
        };
        self.exec.run(end).await.map_err(|e| e.to_string())
    }

    /// The index of the last entry that was let go of; 0: none.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn purged(&self) -> Result<u64, String> {
        let file = self.file.clone();
        let read = move || file.head::<LogId>("purged").map(|id| id.map_or(0, |id| id.index));
        self.exec.run(read).await.map_err(|e| e.to_string())
    }

    /// The last entry that was written here by which more than one votes; 0: none since the start.
    /// It is known before such an entry is sent to anybody.
    pub fn shared_at(&self) -> u64 {
        self.file.shared_at.load(Ordering::Acquire)
    }

    async fn with<T: Send + 'static>(
        &self,
        what: fn(AnyError) -> StorageIOError<super::types::ReplicaId>,
        work: impl FnOnce(&File) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let file = self.file.clone();
        let done = self.exec.run(move || work(&file)).await;
        done.map_err(|error| what(AnyError::new(&error)).into())
    }
}

impl File {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().expect("no panic while the recent ones are held")
    }

    /// Runs one durable transaction (LOG-1, LOG-3).
    fn write(
        &self,
        durability: Durability,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(LogError::Closed);
        }
        let write = || {
            let mut tx = self.database.begin_write()?;
            tx.set_durability(durability)?;
            change(&tx)?;
            Ok(tx.commit()?)
        };
        let written = write();
        if written.is_err() {
            self.closed.store(true, Ordering::Release);
        }
        written
    }

    fn group(&self) -> MutexGuard<'_, Option<u128>> {
        self.group.lock().expect("no panic while the group is held")
    }

    fn append(&self, entries: Vec<Entry>) -> Result<(), LogError> {
        for entry in &entries {
            if let EntryPayload::Membership(m) = &entry.payload
                && m.voter_ids().count() > 1
            {
                self.shared_at.fetch_max(entry.log_id.index, Ordering::Release);
            }
        }
        let encode = |entry: Entry| encode(&entry).map(|bytes| (entry, bytes));
        let encoded = entries.into_iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        self.write(Durability::Immediate, |tx| {
            let mut table = tx.open_table(ENTRIES)?;
            for (entry, bytes) in &encoded {
                table.insert(entry.log_id.index, bytes.as_slice())?;
            }
            Ok(())
        })?;
        points::at(Point::Logged);
        let mut recent = self.recent();
        encoded.into_iter().for_each(|(entry, bytes)| recent.push(entry, bytes.len()));
        Ok(())
    }

    fn truncate(&self, from: u64) -> Result<(), LogError> {
        self.recent().truncate(from);
        self.write(Durability::Immediate, |tx| {
            tx.open_table(ENTRIES)?.retain_in(from.., |_, _| false)?;
            Ok(())
        })
    }

    /// Not forced to disk: what is purged may come back after a crash, and is purged again.
    fn purge(&self, upto: LogId) -> Result<(), LogError> {
        self.recent().purge(upto.index);
        self.write(Durability::None, |tx| {
            tx.open_table(ENTRIES)?.retain_in(..=upto.index, |_, _| false)?;
            points::at(Point::Purging);
            tx.open_table(HEAD)?.insert("purged", encode(&upto)?.as_slice())?;
            Ok(())
        })
    }

    fn save_vote(&self, vote: &Vote) -> Result<(), LogError> {
        let bytes = encode(vote)?;
        self.write(Durability::Immediate, |tx| {
            tx.open_table(HEAD)?.insert("vote", bytes.as_slice())?;
            Ok(())
        })
    }

    fn head<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LogError> {
        let tx = self.database.begin_read()?;
        let found = tx.open_table(HEAD)?.get(name)?;
        found.map(|bytes| decode(bytes.value())).transpose()
    }

    fn state(&self) -> Result<LogState<Types>, LogError> {
        let last_purged_log_id = self.head("purged")?;
        let tx = self.database.begin_read()?;
        let last = match tx.open_table(ENTRIES)?.last()? {
            Some((_, bytes)) => Some(decode::<Entry>(bytes.value())?.log_id),
            None => last_purged_log_id,
        };
        Ok(LogState { last_purged_log_id, last_log_id: last })
    }

    fn read(&self, first: u64, end: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        let tx = self.database.begin_read()?;
        let table = tx.open_table(ENTRIES)?;
        let (mut entries, mut taken) = (Vec::new(), 0);
        for row in table.range(first..end)? {
            let bytes = row?.1;
            let bytes = bytes.value();
            if taken > 0 && taken + bytes.len() > limit {
                break;
            }
            taken += bytes.len();
            entries.push(decode(bytes)?);
        }
        Ok(entries)
    }
}

impl LogStore {
    /// LOG-4.
    async fn entries(
        &self,
        first: u64,
        end: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StorageError> {
        let recent = self.file.recent().get(first, end, limit);
        match recent {
            Some(entries) => Ok(entries),
            None => self.with(StorageIOError::read_logs, move |f| f.read(first, end, limit)).await,
        }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(first, end, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        first: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.entries(first, end, READ_BYTES).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        self.with(StorageIOError::read_logs, File::state).await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.with(StorageIOError::write_vote, move |file| file.save_vote(&vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.with(StorageIOError::read_vote, |file| file.head("vote")).await
    }

    async fn append<I>(&mut self, entries: I, done: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.with(StorageIOError::write_logs, move |file| file.append(entries)).await?;
        done.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.with(StorageIOError::write_logs, move |file| file.truncate(from.index)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.with(StorageIOError::write_logs, move |file| file.purge(upto)).await
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, bincode::Error> {
    bincode::serialize(value)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LogError> {
    Ok(bincode::deserialize(bytes)?)
}
