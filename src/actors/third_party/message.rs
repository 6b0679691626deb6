//! What the third-party service is asked and what it answers.
//!
//! Sent by the fallback of the read flow, the executor of save tasks and the JSON API. Bodies of
//! up to `INLINE_LIMIT` travel inside the answer; larger ones over the data plane of the node
//! that answered, with a ticket that is good once.
//!
//! - `TP-WIRE-1` no answer exceeds 192 KiB: headers from a source are bounded ([`HEAD_LIMIT`]),
//!   and there are at most 64 sources with bounded texts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::metadata::model::ObjectHead;
use crate::actors::storage_node::message::Ticket;
use crate::cluster::Wire;
use crate::config::Source;
use crate::types::{DataId, UnixMillis};

/// The most that headers and user metadata of an object may take, in bytes.
pub const HEAD_LIMIT: usize = 16 * 1024;

/// A request to the third-party service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Find an object; answered [`Reply::Opened`] or [`Reply::Absent`].
    Open(Open),
    /// All sources; answered [`Reply::Sources`].
    Sources,
    /// Adds or replaces a source, and keeps it on disk; answered [`Reply::Done`].
    PutSource {
        /// The source; one of the configuration cannot be replaced.
        source: Source,
    },
    /// Forgets a source that was added; answered [`Reply::Done`].
    RemoveSource {
        /// Its name.
        name: String,
    },
    /// Forgets what the cache has; answered [`Reply::Evicted`].
    Evict {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
    },
    /// Counts; answered [`Reply::Stats`].
    Stats,
    /// Keys that an S3 source has; answered [`Reply::Listed`].
    List {
        /// Bucket name.
        bucket: String,
        /// Only keys that begin so.
        prefix: String,
        /// Only this source; else the first S3 source that answers.
        source: Option<String>,
        /// Keys after this one.
        after: Option<String>,
        /// At most so many (bounded to 100).
        max: u32,
    },
}

/// How much of an object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Everything but its bytes.
    Head,
    /// Its bytes as they come: what is wrong with them breaks the stream, at the latest instead of
    /// its last piece. Small ones are checked before they are given.
    Stream,
    /// Its bytes once all of them were found right.
    Checked,
}

/// Which object is wanted, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Size and MD5 that it must have.
    pub expect: Option<Expect>,
    /// Only from this source.
    pub source: Option<String>,
    /// How much of it.
    pub mode: Mode,
}

/// The only bytes that are welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Bytes.
    pub size: u64,
    /// MD5 of all of them.
    pub md5: [u8; 16],
}

/// The good answers of the third-party service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// A source has it.
    Opened(Box<Opened>),
    /// No source has it; all that are enabled were asked.
    Absent,
    /// The sources, in the order in which they are asked.
    Sources(Vec<SourceView>),
    /// Done.
    Done,
    /// Whether the cache had it.
    Evicted(bool),
    /// Counts.
    Stats(Stats),
    /// Keys of a source.
    Listed(Listed),
}

/// An object that a source has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Name of the source.
    pub source: String,
    /// Bytes.
    pub size: u64,
    /// ETag without quotes: the source's, or the MD5 where it gave none.
    pub etag: String,
    /// MD5 of the bytes, where the source declared it or it was computed.
    pub md5: Option<[u8; 16]>,
    /// When the source says that it was changed.
    pub last_modified_ms: Option<UnixMillis>,
    /// Headers and user metadata.
    pub head: ObjectHead,
    /// It came out of the cache.
    pub cached: bool,
    /// The bytes.
    pub body: Body,
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Not asked for.
    None,
    /// Here.
    Inline(Bytes),
    /// At the data plane of the node that answers, once.
    Ticket {
        /// The permit.
        ticket: Ticket,
        /// The name of the transfer.
        data_id: DataId,
    },
}

/// One source as the service sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceView {
    /// Its description, without the secret key.
    pub source: Source,
    /// It was added over HTTP (and may be removed there), not by the configuration.
    pub added: bool,
    /// When it was added or last replaced; 0 = it stands in the configuration.
    pub changed_ms: UnixMillis,
    /// State of its circuit breaker: `closed`, `open` or `half_open`.
    pub breaker: String,
    /// What came of its requests.
    pub counts: SourceCounts,
}

/// What came of the requests to one source since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCounts {
    /// Requests sent, retries included.
    pub requests: u64,
    /// It had the object.
    pub found: u64,
    /// It did not have the object.
    pub absent: u64,
    /// It failed: no answer, an error, a body that was cut off or had the wrong MD5.
    pub failed: u64,
    /// Skipped because its breaker was open.
    pub skipped: u64,
}

/// Counts of one instance since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Objects asked for.
    pub requests: u64,
    /// Found, cache included.
    pub found: u64,
    /// No source had it.
    pub absent: u64,
    /// Not found because sources failed or there was too much to do.
    pub failed: u64,
    /// Answered out of the cache.
    pub cache_hits: u64,
    /// Asked of the cache in vain.
    pub cache_misses: u64,
    /// Thrown out of the cache.
    pub cache_evicted: u64,
    /// Objects in the cache.
    pub cache_entries: u64,
    /// What they occupy, in bytes.
    pub cache_bytes: u64,
    /// What the cache may hold, in bytes.
    pub cache_limit: u64,
    /// What checked bodies occupy on disk now, in bytes.
    pub spool_bytes: u64,
    /// Fetches under way.
    pub fetching: u64,
}

/// A page of keys of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Name of the source.
    pub source: String,
    /// The keys.
    pub objects: Vec<ListedObject>,
    /// More follow after the last of them.
    pub truncated: bool,
}

/// One key of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedObject {
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// RFC 3339, as the source gave it.
    pub last_modified: String,
}

/// Why the service did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No source gave the object, and at least one could not be asked or failed.
    #[error("{0}")]
    Failed(String),
    /// Too many fetches at once.
    #[error("too many fetches at once")]
    Busy,
    /// There is no source of that name (or none of the needed type).
    #[error("no such source")]
    NoSuchSource,
    /// The source stands in the configuration and is changed there.
    #[error("the source stands in the configuration")]
    Configured,
    /// The description of a source is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field.
        field: String,
        /// Why.
        reason: String,
    },
    /// The disk would not; nothing was changed.
    #[error("the disk failed: {0}")]
    Disk(String),
}

impl Refusal {
    /// A short name for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::Failed(_) => "failed",
            Refusal::Busy => "busy",
            Refusal::NoSuchSource => "no_such_source",
            Refusal::Configured => "configured",
            Refusal::Invalid { .. } => "invalid",
            Refusal::Disk(_) => "disk",
        }
    }
}

impl Wire for Message {
    type Reply = Result<Reply, Refusal>;
    const VERSION: u16 = 1;
    const ROLE: &'static str = "third_party";

    fn kind(&self) -> &'static str {
        match self {
            Message::Open(_) => "open",
            Message::Sources => "sources",
            Message::PutSource { .. } => "put_source",
            Message::RemoveSource { .. } => "remove_source",
            Message::Evict { .. } => "evict",
            Message::Stats => "stats",
            Message::List { .. } => "list",
        }
    }

    fn outcome(reply: &Self::Reply) -> &'static str {
        reply.as_ref().map_or_else(Refusal::name, |_| "ok")
    }
}
