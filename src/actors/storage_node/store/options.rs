//! How a segment store is opened, and the seam through which tests and disk faults reach its I/O.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After `fdatasync`: survives a power loss.
    #[default]
    Fsync,
    /// After the operating system took it: survives the death of the process only.
    Os,
}

/// Settings of a segment store.
#[derive(Clone)]
pub struct Options {
    /// A segment is full at this size, in bytes; at most 2 GiB.
    pub segment_bytes: u64,
    /// The active segment is preallocated in steps of this size, in bytes.
    pub preallocate_bytes: u64,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// The most that new data may occupy on disk (less `reserve_bytes`); `None`: the whole disk.
    /// Compaction may pass it by at most one segment for a while.
    pub quota_bytes: Option<u64>,
    /// Room that only deletes and compaction may use: a file of this size and a margin in the
    /// quota.
    pub reserve_bytes: u64,
    /// Told of every disk operation before it happens; may refuse it.
    pub hook: Option<Arc<dyn DiskHook>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 256 << 20,
            preallocate_bytes: 16 << 20,
            durability: Durability::Fsync,
            quota_bytes: None,
            reserve_bytes: 4 << 20,
            hook: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("segment_bytes", &self.segment_bytes)
            .field("durability", &self.durability)
            .field("quota_bytes", &self.quota_bytes)
            .field("reserve_bytes", &self.reserve_bytes)
            .finish_non_exhaustive()
    }
}

/// A disk operation on a segment file.
#[derive(Clone, Copy, Debug)]
pub enum DiskOp<'a> {
    /// Disk space is about to be claimed.
    Allocate {
        /// Bytes.
        len: u64,
    },
    /// Bytes are about to be written.
    Write {
        /// Bytes.
        len: u64,
    },
    /// Bytes are about to be read.
    Read {
        /// Where in the file.
        pos: u64,
        /// Bytes.
        len: u64,
    },
    /// A file is about to be synced.
    Sync,
    /// A file was synced: what it holds now survives a power loss. An error returned here is
    /// ignored.
    Synced {
        /// The file.
        path: &'a Path,
    },
}

/// Sees every disk operation first; an error stands for the operation's own.
pub trait DiskHook: Send + Sync {
    /// Called before each operation, on the thread that does it; may also delay it.
    ///
    /// # Errors
    /// The error that the operation shall seem to have had.
    fn on(&self, op: DiskOp<'_>) -> io::Result<()>;
}
