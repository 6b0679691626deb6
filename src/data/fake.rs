//! A store in memory, for the tests of the data plane alone: its faults are asked for by data id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::store::{BlobStore, BlobWriter, Md5, Pieces};
use super::words::{Hashes, StorageError, StoredInfo};
use crate::types::DataId;

const PIECE: usize = 1 << 20;

/// The second piece of this item is corrupt.
pub const ROTTEN: DataId = DataId(666);
/// There is never room for this item.
pub const TOO_MUCH: DataId = DataId(507);

/// CRC-64/NVME.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// The store.
#[derive(Clone, Default)]
pub struct FakeStore {
    pub items: Arc<Mutex<HashMap<DataId, Bytes>>>,
    /// Writers not yet finished or dropped.
    pub writing: Arc<AtomicUsize>,
    /// Bytes read so far.
    pub read: Arc<AtomicUsize>,
}

struct FakeWriter {
    store: FakeStore,
    data_id: DataId,
    bytes: Vec<u8>,
}

impl Drop for FakeWriter {
    fn drop(&mut self) {
        self.store.writing.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BlobStore for FakeStore {
    fn writer(&self, data_id: DataId, _md5: Md5) -> Result<Box<dyn BlobWriter>, StorageError> {
        self.writing.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(FakeWriter { store: self.clone(), data_id, bytes: Vec::new() }))
    }

    fn reader(&self, data_id: DataId, offset: u64, len: u64) -> Result<Pieces, StorageError> {
        let items = self.items.lock().unwrap();
        let bytes = items.get(&data_id).ok_or(StorageError::NotFound(data_id))?;
        let mut rest = bytes.slice(offset as usize..(offset + len) as usize);
        let (read, mut piece) = (self.read.clone(), 0);
        Ok(Box::new(std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            piece += 1;
            if data_id == ROTTEN && piece == 2 {
                return Some(Err(StorageError::Corrupt(data_id)));
            }
            let next = rest.split_to(PIECE.min(rest.len()));
            read.fetch_add(next.len(), Ordering::SeqCst);
            Some(Ok(next))
        })))
    }
}

impl BlobWriter for FakeWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(bytes);
        if self.data_id == TOO_MUCH { Err(StorageError::Full) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>, expected: Option<[u8; 16]>) -> Result<StoredInfo, StorageError> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let md5 = md5::compute(&bytes).0;
        assert!(expected.is_none_or(|expected| expected == md5));
        let info = StoredInfo { len: bytes.len() as u64, md5, crc64: 0, stored_at_ms: 0 };
        self.store.items.lock().unwrap().insert(self.data_id, bytes);
        Ok(info)
    }

    fn finish_hashed(self: Box<Self>, hashes: Hashes) -> Result<StoredInfo, StorageError> {
        if crc64(&self.bytes) != hashes.crc64 {
            return Err(StorageError::Invalid("crc".into()));
        }
        let info = self.finish(None)?;
        Ok(StoredInfo { md5: hashes.md5, crc64: hashes.crc64, ..info })
    }
}
