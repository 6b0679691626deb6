//! What the segment store tells about itself: items, space, progress of maintenance.

use crate::types::{DataId, UnixMillis};

/// What is known of one complete item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Length in bytes.
    pub len: u64,
    /// MD5 of the whole item.
    pub md5: [u8; 16],
    /// CRC-64/NVME of the whole item.
    pub crc64: u64,
    /// When it was stored.
    pub stored_at_ms: UnixMillis,
}

/// Counts and space of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Complete items.
    pub items: u64,
    /// Bytes of complete items, without record headers.
    pub live_bytes: u64,
    /// Bytes on disk that compaction could free.
    pub dead_bytes: u64,
    /// Bytes that segments and hints occupy on disk, the preallocated part of the active one
    /// included.
    pub disk_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// The configured quota.
    pub quota_bytes: Option<u64>,
    /// Bytes that may still be written (by the quota and by the file system).
    pub free_bytes: u64,
    /// Items known to be corrupt and not yet replaced or deleted.
    pub corrupt: u64,
    /// Tombstones that are still needed.
    pub tombstones: u64,
    /// Whether the store has stopped taking writes after a failed sync.
    pub stopped: bool,
}

/// What one step of compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of records moved.
    pub moved_bytes: u64,
    /// Segments removed from disk.
    pub dropped_segments: u64,
    /// Whether another step would find work now.
    pub more: bool,
}

/// What opening the directory found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segment files found.
    pub segments: u64,
    /// Of those, how many were loaded from their hint file instead of being read.
    pub from_hints: u64,
    /// Items ready to be read.
    pub items: u64,
    /// Uploads that had not been finished, dropped.
    pub incomplete: u64,
    /// Complete items with a bad or missing record.
    pub corrupt: Vec<DataId>,
    /// Bytes between records that are no record (unfinished writes, punched holes, damage).
    pub skipped_bytes: u64,
    /// Bytes cut from the ends of segments (preallocation, torn writes).
    pub cut_bytes: u64,
}

/// Where a scrub stands; start with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCursor {
    /// The next item to look at (the first one with an id not below), and the chunk in it.
    pub(super) next: (u128, u32),
}

/// What one step of the scrubber found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStep {
    /// Where to go on; `None` after the last item: the pass is complete.
    pub cursor: Option<ScrubCursor>,
    /// Items found corrupt or unreadable.
    pub corrupt: Vec<DataId>,
    /// Bytes read from disk.
    pub bytes_read: u64,
}
