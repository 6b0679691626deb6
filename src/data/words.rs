//! What both ends of a transfer speak of: permits, stored items, refusals.
//!
//! The messages of the storage node use the same words (and give them out again), so that an answer
//! is one type whether it came by message or over the data plane. Variant names and field order are
//! the wire format: add, never change.

use serde::{Deserialize, Serialize};

use crate::types::{DataId, UnixMillis};

/// What a storage node knows of one complete item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredInfo {
    /// Length in bytes.
    pub len: u64,
    /// MD5 of the whole item.
    pub md5: [u8; 16],
    /// CRC-64/NVME of the whole item.
    pub crc64: u64,
    /// When it was stored.
    pub stored_at_ms: UnixMillis,
}

/// The hashes of a whole item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// MD5.
    pub md5: [u8; 16],
    /// CRC-64/NVME.
    pub crc64: u64,
}

/// A permit for one transfer with one storage node over the data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Unguessable id, good once.
    pub id: u128,
    /// `host:port` of the node's data plane.
    pub address: String,
    /// Until when it may be presented.
    pub expires_ms: UnixMillis,
}

/// Why a storage node refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StorageError {
    /// No such item here.
    #[error("no data {0} on this node")]
    NotFound(DataId),
    /// The item is here but its checksum is wrong.
    #[error("data {0} is corrupt on this node")]
    Corrupt(DataId),
    /// Disk or quota full; nothing was stored.
    #[error("no space left on the storage node")]
    Full,
    /// The id holds other bytes already.
    #[error("data {0} is already there with other bytes")]
    Conflict(DataId),
    /// Too many transfers at once.
    #[error("too many transfers in progress")]
    Busy,
    /// The request was out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// The disk failed.
    #[error("storage failed: {0}")]
    Io(String),
}

impl StorageError {
    /// A short name for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            StorageError::NotFound(_) => "not_found",
            StorageError::Corrupt(_) => "corrupt",
            StorageError::Full => "full",
            StorageError::Conflict(_) => "conflict",
            StorageError::Busy => "busy",
            StorageError::Invalid(_) => "invalid",
            StorageError::Io(_) => "io",
        }
    }
}
