//! What the data plane needs of a store. Implemented by the storage node over its segment store.
//!
//! All calls block; the data plane makes them on blocking threads only.

use bytes::Bytes;

use super::words::{Hashes, StorageError, StoredInfo};
use crate::types::DataId;

/// Verified pieces of an item, in order; ends after the first error.
pub type Pieces = Box<dyn Iterator<Item = Result<Bytes, StorageError>> + Send>;

/// Who makes the MD5 of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Md5 {
    /// The writer, from the bytes that it gets.
    #[default]
    Computed,
    /// Whoever sends the bytes; a CRC guards their way ([`BlobWriter::finish_hashed`]).
    Given,
}

/// A store of immutable items.
pub trait BlobStore: Send + Sync + 'static {
    /// Begins an item.
    ///
    /// # Errors
    /// When nothing can be written now.
    fn writer(&self, data_id: DataId, md5: Md5) -> Result<Box<dyn BlobWriter>, StorageError>;

    /// The bytes `offset..offset + len` of an item, in pieces of at most 1 MiB, each verified
    /// before it is given.
    ///
    /// # Errors
    /// When there is no such item or range.
    fn reader(&self, data_id: DataId, offset: u64, len: u64) -> Result<Pieces, StorageError>;
}

/// An item in the making. Dropped unfinished, it is discarded.
pub trait BlobWriter: Send {
    /// Adds bytes.
    ///
    /// # Errors
    /// Then the item is lost.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Completes the item, if it has the expected MD5; returns once it is durable.
    ///
    /// # Errors
    /// Then nothing is stored.
    fn finish(self: Box<Self>, md5: Option<[u8; 16]>) -> Result<StoredInfo, StorageError>;

    /// Completes an item begun with [`Md5::Given`], if it has this CRC; returns once it is durable.
    ///
    /// # Errors
    /// Then nothing is stored.
    fn finish_hashed(self: Box<Self>, hashes: Hashes) -> Result<StoredInfo, StorageError>;
}
