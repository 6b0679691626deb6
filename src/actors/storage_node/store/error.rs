//! Why the segment store refused or failed, split by what the caller can do about it.

use std::io;
use std::path::PathBuf;

use crate::types::DataId;

/// An error of the segment store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No complete item of this id is here.
    #[error("no data {0} in this store")]
    NotFound(DataId),
    /// The item is here, but its bytes on disk are not those that were written: use another copy.
    #[error("data {data_id} is corrupt at byte {offset}")]
    Corrupt {
        /// The item.
        data_id: DataId,
        /// First byte of the bad chunk, counted from the start of the item.
        offset: u64,
    },
    /// The id holds other bytes already; nothing was changed.
    #[error("data {0} is already there with other bytes")]
    Conflict(DataId),
    /// The bytes received are not those announced; nothing was stored.
    #[error("data {0} does not have the announced checksum")]
    Mismatch(DataId),
    /// Disk or quota full; nothing was stored, reads and deletes go on.
    #[error("no space left in the segment store")]
    Full,
    /// The outcome of a write is unknown; the store takes no more writes until it is opened again.
    #[error("segment store stopped: {0}")]
    Fatal(String),
    /// The directory holds something that this program does not understand.
    #[error("cannot use {path}: {reason}")]
    Format {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process has the directory open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// A system call failed without harm to what is stored.
    #[error("{what} {path}")]
    Io {
        /// The operation, as a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// Wraps an I/O error with the operation and the path it happened at.
    pub(super) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { what, path, source }
    }
}

/// Whether `error` says that the disk (or the user's share of it) is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
