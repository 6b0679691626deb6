//! What a storage node is asked and what it answers.
//!
//! Sent by the flows in `objects`, by the executor of queue tasks and by other storage nodes that
//! pull a copy. Bodies of up to [`INLINE_LIMIT`] travel inside messages; larger ones over the data
//! plane (`crate::data`) with a ticket from `BeginWrite` or `BeginRead`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::Wire;
use crate::types::{DataId, InstanceId};

pub use crate::data::words::{Hashes, StorageError, StoredInfo, Ticket};

/// The largest body that travels inside a message, in bytes.
pub const INLINE_LIMIT: u64 = 64 * 1024;

/// A request to a storage node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Store a whole body of at most [`INLINE_LIMIT`] bytes; answered [`Reply::Stored`] once durable.
    /// Writing an id that is already there with the same bytes is answered as if it were new.
    Write {
        /// The id, fresh for this upload.
        data_id: DataId,
        /// The body.
        bytes: Bytes,
    },
    /// Ask for a ticket to stream a body in over the data plane; answered [`Reply::Ticket`].
    BeginWrite {
        /// The id, fresh for this upload.
        data_id: DataId,
        /// The length where the client declared it; refused early if it cannot fit.
        len: Option<u64>,
    },
    /// Read at most [`INLINE_LIMIT`] bytes; answered [`Reply::Bytes`], checksum verified.
    Read {
        /// What to read.
        data_id: DataId,
        /// First byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Ask for a ticket to stream a range out over the data plane; answered [`Reply::Ticket`].
    BeginRead {
        /// What to read.
        data_id: DataId,
        /// First byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Remove data; idempotent (unknown ids are fine). Answered [`Reply::Done`] once durable. At most 1,000 ids.
    Delete {
        /// What to remove.
        data_ids: Vec<DataId>,
    },
    /// What is known of some ids, in the same order; at most 1,000. Answered [`Reply::Infos`].
    Info {
        /// Which ids.
        data_ids: Vec<DataId>,
    },
    /// Pull a copy from one of these instances and store it; answered [`Reply::Stored`] once durable.
    Fetch {
        /// What to copy.
        data_id: DataId,
        /// Instances that have it, the best first.
        from: Vec<InstanceId>,
    },
    /// Space and item counts; answered [`Reply::Stats`].
    Stats,
    /// As `Write`, for a caller that hashed the body: the node checks the CRC, and takes the MD5
    /// over.
    WriteHashed {
        /// The id, fresh for this upload.
        data_id: DataId,
        /// The body.
        bytes: Bytes,
        /// Its hashes.
        hashes: Hashes,
    },
    /// Remove an item unless metadata, which the node asks, wants it here; answered [`Reply::Done`]
    /// either way.
    Discard {
        /// Which.
        data_id: DataId,
    },
}

/// The good answers of a storage node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The data are durable (as `storage.durability` says).
    Stored(StoredInfo),
    /// The permit for one transfer over the data plane.
    Ticket(Ticket),
    /// Bytes of a read.
    Bytes(Bytes),
    /// Done, nothing to say.
    Done,
    /// One answer per asked id.
    Infos(Vec<Option<StoredInfo>>),
    /// Space and counts.
    Stats(NodeStats),
}

/// Space and counts of a storage node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStats {
    /// Complete items.
    pub items: u64,
    /// Bytes of complete items.
    pub live_bytes: u64,
    /// Bytes that the segments occupy on disk.
    pub disk_bytes: u64,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Corrupt items seen since the start.
    pub corrupt: u64,
}

impl Wire for Message {
    type Reply = Result<Reply, StorageError>;
    const VERSION: u16 = 1;
    const ROLE: &'static str = "storage_node";

    fn kind(&self) -> &'static str {
        match self {
            Message::Write { .. } | Message::WriteHashed { .. } => "write",
            Message::BeginWrite { .. } => "begin_write",
            Message::Read { .. } => "read",
            Message::BeginRead { .. } => "begin_read",
            Message::Delete { .. } => "delete",
            Message::Info { .. } => "info",
            Message::Fetch { .. } => "fetch",
            Message::Stats => "stats",
            Message::Discard { .. } => "discard",
        }
    }

    fn outcome(reply: &Self::Reply) -> &'static str {
        reply.as_ref().map_or_else(StorageError::name, |_| "ok")
    }
}
