//! The segment store of a storage node: immutable items of bytes, durable before acknowledged.
//!
//! Used by the storage node actor and its transfers, on blocking threads: every call may do I/O
//! and wait. It owns one directory (locked against other processes): append-only segment files of
//! checksummed records, an index in memory, and a small reserve for deletes on a full disk.
//!
//! - STORE-1: what was acknowledged is read back with the same bytes or reported, never with
//!   others.
//! - STORE-2: nothing of an unfinished, refused or failed upload is ever visible.
//! - STORE-3: a delete that was acknowledged holds after any restart.
//! - STORE-4: a failed sync or write stops all further writes ([`Error::Fatal`]): open the
//!   directory again. Reads go on.
//! - STORE-5: after deletes, enough calls of [`SegmentStore::compact_step`] bring the disk use to
//!   `1.1 * live + one active segment` (see `space`).
//!
//! Locks, in the order in which they may be taken: compaction job, append position, state, sync
//! round.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::types::DataId;

mod append;
mod catalog;
mod compact;
mod delete;
mod error;
mod hint;
mod index;
mod open;
mod options;
mod reader;
mod record;
mod recovery;
mod report;
mod scan;
mod scrub;
mod segment;
mod space;
mod sync;
mod writer;

pub use error::Error;
pub use options::{DiskHook, DiskOp, Durability, Options};
pub use reader::Reader;
pub use report::{Progress, Recovery, ScrubCursor, ScrubStep, Stats, Stored};
pub use writer::Writer;

use index::Index;
use segment::Segment;

/// The largest chunk that readers yield and that is verified as one, in bytes.
pub const CHUNK_BYTES: usize = record::CHUNK;

/// A handle on an open segment store; clones share it.
#[derive(Clone)]
pub struct SegmentStore {
    shared: Arc<Shared>,
}

/// Everything that the handles, writers and readers share.
struct Shared {
    dir: PathBuf,
    options: Options,
    salt: u64,
    /// Holds the lock on the directory while it is open.
    _lock: File,
    append: Mutex<append::Active>,
    sync: sync::GroupSync,
    state: Mutex<State>,
    /// Signalled when ids are no longer busy.
    released: Condvar,
    job: Mutex<compact::Job>,
    /// The next attempt or sequence number.
    sequence: AtomicU64,
    /// Bytes on disk of all segments but the active one.
    settled: AtomicU64,
    /// The reserve was given up to upkeep: no new data until it is back.
    reserve_spent: AtomicBool,
    recovery: Recovery,
}

struct State {
    index: Index,
    segments: BTreeMap<u32, Arc<Segment>>,
    /// Ids whose commit or delete is under way.
    busy: HashSet<DataId>,
}

impl SegmentStore {
    /// Opens the store in `dir`, creating it where there is none, and rebuilds the index from
    /// disk.
    ///
    /// # Errors
    /// `Locked`, `Format`, or `Io` where the directory cannot be used at all. Damaged records are
    /// not an error: see [`SegmentStore::recovery`].
    pub fn open(dir: &Path, options: Options) -> Result<SegmentStore, Error> {
        Ok(SegmentStore { shared: Arc::new(open::open(dir, options)?) })
    }

    /// What opening the directory found.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// Begins an upload of `data_id`.
    ///
    /// # Errors
    /// `Fatal` if the store has stopped.
    pub fn writer(&self, data_id: DataId) -> Result<Writer, Error> {
        Writer::new(self.shared.clone(), data_id)
    }

    /// Stores a whole item; returns once it is durable. Storing the same bytes again changes
    /// nothing.
    ///
    /// # Errors
    /// `Conflict`, `Full`, `Fatal`, `Io`.
    pub fn put(&self, data_id: DataId, bytes: &[u8]) -> Result<Stored, Error> {
        let mut writer = self.writer(data_id)?;
        writer.write(bytes)?;
        writer.finish(None)
    }

    /// What is known of an item, or `None` where no complete one is here.
    pub fn info(&self, data_id: DataId) -> Option<Stored> {
        self.shared.state().index.get(data_id).map(|entry| entry.stored)
    }

    /// Ids after `after` in order, with the time stored and the length; at most `limit`.
    pub fn ids_page(&self, after: Option<DataId>, limit: usize) -> Vec<(DataId, u64, u64)> {
        let from = after.map_or(Some(0), |id| id.0.checked_add(1));
        let Some(from) = from else { return Vec::new() };
        let state = self.shared.state();
        let rows = state.index.from(DataId(from)).take(limit);
        rows.map(|(id, entry)| (id, entry.stored.stored_at_ms, entry.stored.len)).collect()
    }

    /// Refuses early what cannot fit; passing is no promise.
    ///
    /// # Errors
    /// `Full` or `Fatal`.
    pub fn check_room(&self, len: u64) -> Result<(), Error> {
        self.shared.sync.check()?;
        if len > self.shared.free_bytes() { Err(Error::Full) } else { Ok(()) }
    }

    /// Counts and space.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (active, (tail, allocated)) = (shared.first_active(), shared.active_use());
        let free_bytes = shared.free_bytes();
        let state = shared.state();
        let mut stats = Stats {
            items: state.index.len() as u64,
            live_bytes: state.index.payload(),
            segments: state.segments.len() as u64,
            quota_bytes: shared.options.quota_bytes,
            free_bytes,
            corrupt: state.index.corrupt(),
            tombstones: state.index.graves() as u64,
            stopped: shared.sync.check().is_err(),
            ..Stats::default()
        };
        for (id, segment) in &state.segments {
            let tally = state.index.tally(*id);
            let (disk, used) = match active == *id {
                true => (allocated, tail),
                false => (segment.disk(), segment.disk()),
            };
            stats.disk_bytes += disk;
            stats.dead_bytes += used.saturating_sub(tally.live + tally.graves);
        }
        stats
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// A number larger than all before it.
    fn next_number(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes everything written to `segments` durable, as far as the settings ask for it.
    fn commit<'a>(&self, segments: impl Iterator<Item = &'a Arc<Segment>>) -> Result<(), Error> {
        match self.options.durability {
            Durability::Fsync => self.sync.sync(segments),
            Durability::Os => self.sync.check(),
        }
    }

    /// Waits until nobody else commits or deletes any of `ids`, then keeps others off them.
    fn claim(&self, ids: impl IntoIterator<Item = DataId>) -> Claim<'_> {
        let ids: BTreeSet<DataId> = ids.into_iter().collect();
        let mut state = self.state();
        while ids.iter().any(|id| state.busy.contains(id)) {
            state = self.released.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        state.busy.extend(&ids);
        Claim { shared: self, ids }
    }
}

/// The sole right to commit or delete some ids.
struct Claim<'a> {
    shared: &'a Shared,
    ids: BTreeSet<DataId>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        for id in &self.ids {
            state.busy.remove(id);
        }
        self.shared.released.notify_all();
    }
}

/// Locks a mutex. A thread that panicked inside is ignored: all sections keep their data whole, or
/// leave them as they were.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests;
