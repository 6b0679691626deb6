//! The segment store as the actor and the data plane use it: errors in the words of the wire, and
//! what must happen when the disk says something bad.
//!
//! Owned by the actor's state and by the transfers and tasks that run; all calls block.
//!
//! - `DISK-1` the store is open at most once in a process: the next life of the actor opens it
//!   after the last holder of this one let go, also when the actor was killed;
//! - `DISK-2` an outcome that is unknown ends the actor, so that it starts again from disk;
//! - `DISK-3` every corrupt item that anybody met is reported until metadata knows.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::OwnedMutexGuard;

use super::message::{Hashes, NodeStats, StorageError, StoredInfo};
use super::store::{Error, Options, Reader, SegmentStore, Stored, Writer};
use crate::cluster::Fail;
use crate::data::store::{BlobStore, BlobWriter, Md5, Pieces};
use crate::types::DataId;

/// How many corrupt items are remembered until they are reported; the scrubber meets them again.
const REPORTS: usize = 10_000;

/// The open store of one life of the actor.
pub struct Disk {
    store: SegmentStore,
    fail: Fail,
    corrupt: Mutex<BTreeSet<DataId>>,
    /// Dropped after the store (DISK-1).
    _turn: OwnedMutexGuard<()>,
}

impl Disk {
    /// Opens the store; `turn` is held until it is closed.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(
        dir: &Path,
        options: Options,
        fail: Fail,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Disk, Error> {
        let store = SegmentStore::open(dir, options)?;
        let corrupt = Mutex::new(store.recovery().corrupt.iter().copied().collect());
        Ok(Disk { store, fail, corrupt, _turn: turn })
    }

    /// The store itself, for upkeep.
    pub fn store(&self) -> &SegmentStore {
        &self.store
    }

    /// Stores a whole item.
    ///
    /// # Errors
    /// As the store's.
    pub fn put(&self, data_id: DataId, bytes: &[u8]) -> Result<StoredInfo, StorageError> {
        self.store.put(data_id, bytes).map(wire_info).map_err(|e| self.judge(e))
    }

    /// Stores a whole item that was hashed by who sent it.
    ///
    /// # Errors
    /// As the store's; `Invalid` where the bytes have another CRC.
    pub fn put_hashed(
        &self,
        data_id: DataId,
        bytes: &[u8],
        hashes: Hashes,
    ) -> Result<StoredInfo, StorageError> {
        let put = || {
            let mut writer = self.store.writer(data_id)?.without_md5();
            writer.write(bytes)?;
            writer.finish_hashed(hashes.md5, hashes.crc64)
        };
        put().map(wire_info).map_err(|e| self.judge(e))
    }

    /// Refuses what cannot fit.
    ///
    /// # Errors
    /// `Full`.
    pub fn check_room(&self, len: u64) -> Result<(), StorageError> {
        self.store.check_room(len).map_err(|e| self.judge(e))
    }

    /// Checks that an item has this range.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub fn check_range(&self, data_id: DataId, offset: u64, len: u64) -> Result<(), StorageError> {
        let info = self.info(data_id).ok_or(StorageError::NotFound(data_id))?;
        match offset.checked_add(len) {
            Some(end) if end <= info.len => Ok(()),
            _ => Err(StorageError::Invalid(format!("data {data_id} has {} bytes", info.len))),
        }
    }

    /// Reads a range as one if that needs no wait for the disk. `None` says nothing but that
    /// [`Disk::read`] is to be asked.
    pub fn read_cached(&self, data_id: DataId, offset: u64, len: u64) -> Option<bytes::Bytes> {
        self.check_range(data_id, offset, len).ok()?;
        self.store.read_cached(data_id, offset, len)
    }

    /// Reads a range as one.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Corrupt`, `Io`.
    pub fn read(
        &self,
        data_id: DataId,
        offset: u64,
        len: u64,
    ) -> Result<bytes::Bytes, StorageError> {
        self.check_range(data_id, offset, len)?;
        self.store.read(data_id, offset, len).map_err(|e| self.judge(e))
    }

    /// Removes items.
    ///
    /// # Errors
    /// Some may be gone then.
    pub fn delete(&self, data_ids: &[DataId]) -> Result<(), StorageError> {
        self.store.delete_all(data_ids).map(drop).map_err(|e| self.judge(e))?;
        let mut corrupt = self.reports();
        for data_id in data_ids {
            corrupt.remove(data_id);
        }
        Ok(())
    }

    /// What is known of an item.
    pub fn info(&self, data_id: DataId) -> Option<StoredInfo> {
        self.store.info(data_id).map(wire_info)
    }

    /// The item, if it is here and every byte of it is good.
    pub fn verified(&self, data_id: DataId) -> Option<StoredInfo> {
        let info = self.info(data_id)?;
        let mut pieces = self.store.reader(data_id, 0, info.len).ok()?;
        let whole = pieces.all(|piece| piece.is_ok());
        (whole && self.info(data_id) == Some(info)).then_some(info)
    }

    /// Space and counts.
    pub fn stats(&self) -> NodeStats {
        let stats = self.store.stats();
        NodeStats {
            items: stats.items,
            live_bytes: stats.live_bytes,
            disk_bytes: stats.disk_bytes,
            free_bytes: stats.free_bytes,
            segments: stats.segments,
            corrupt: stats.corrupt,
        }
    }

    /// Notes an item that was found corrupt (DISK-3).
    pub fn note_corrupt(&self, data_id: DataId) {
        let mut corrupt = self.reports();
        if corrupt.len() < REPORTS && corrupt.insert(data_id) {
            tracing::warn!(%data_id, "corrupt item");
        }
    }

    /// The corrupt items that metadata does not know of yet.
    pub fn unreported(&self) -> Vec<DataId> {
        self.reports().iter().copied().collect()
    }

    /// Metadata knows of this one.
    pub fn reported(&self, data_id: DataId) {
        self.reports().remove(&data_id);
    }

    fn reports(&self) -> MutexGuard<'_, BTreeSet<DataId>> {
        self.corrupt.lock().expect("no panic while the reports are held")
    }

    /// What the error means for the caller, and for us (DISK-2, DISK-3).
    pub fn judge(&self, error: Error) -> StorageError {
        match error {
            Error::NotFound(data_id) => StorageError::NotFound(data_id),
            Error::Corrupt { data_id, .. } => {
                self.note_corrupt(data_id);
                StorageError::Corrupt(data_id)
            }
            Error::Conflict(data_id) => StorageError::Conflict(data_id),
            Error::Mismatch(_) => StorageError::Invalid(error.to_string()),
            Error::Full => StorageError::Full,
            Error::Fatal(_) => {
                self.fail.now(&error);
                StorageError::Io(error.to_string())
            }
            Error::Format { .. } | Error::Locked(_) | Error::Io { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "storage failed");
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                StorageError::Io(format!("{error}{cause}"))
            }
        }
    }
}

fn wire_info(stored: Stored) -> StoredInfo {
    let Stored { len, md5, crc64, stored_at_ms } = stored;
    StoredInfo { len, md5, crc64, stored_at_ms }
}

/// The store as the data plane sees it.
#[derive(Clone)]
pub struct SharedDisk(pub Arc<Disk>);

impl BlobStore for SharedDisk {
    fn writer(&self, data_id: DataId, md5: Md5) -> Result<Box<dyn BlobWriter>, StorageError> {
        let writer = self.0.store.writer(data_id).map_err(|e| self.0.judge(e))?;
        let writer = match md5 {
            Md5::Computed => writer,
            Md5::Given => writer.without_md5(),
        };
        Ok(Box::new(DiskWriter { writer: Some(writer), disk: self.0.clone() }))
    }

    fn reader(&self, data_id: DataId, offset: u64, len: u64) -> Result<Pieces, StorageError> {
        self.0.check_range(data_id, offset, len)?;
        let reader = self.0.store.reader(data_id, offset, len).map_err(|e| self.0.judge(e))?;
        Ok(Box::new(DiskReader { reader, disk: self.0.clone() }))
    }
}

/// A reader that keeps the store open (DISK-1). The fields drop in this order.
struct DiskReader {
    reader: Reader,
    disk: Arc<Disk>,
}

impl Iterator for DiskReader {
    type Item = Result<bytes::Bytes, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.reader.next()?.map_err(|e| self.disk.judge(e)))
    }
}

/// A writer that keeps the store open, and discards on a blocking thread. `None` once finished.
struct DiskWriter {
    writer: Option<Writer>,
    disk: Arc<Disk>,
}

impl BlobWriter for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let writer = self.writer.as_mut().expect("only finishing takes the writer");
        writer.write(bytes).map_err(|e| self.disk.judge(e))
    }

    fn finish(mut self: Box<Self>, md5: Option<[u8; 16]>) -> Result<StoredInfo, StorageError> {
        let writer = self.writer.take().expect("only finishing takes the writer");
        writer.finish(md5).map(wire_info).map_err(|e| self.disk.judge(e))
    }

    fn finish_hashed(mut self: Box<Self>, hashes: Hashes) -> Result<StoredInfo, StorageError> {
        let writer = self.writer.take().expect("only finishing takes the writer");
        let stored = writer.finish_hashed(hashes.md5, hashes.crc64);
        stored.map(wire_info).map_err(|e| self.disk.judge(e))
    }
}

impl Drop for DiskWriter {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        // Discarding touches the disk, and a transfer may be dropped on an async thread.
        let held = (writer, self.disk.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(held));
        }
    }
}
