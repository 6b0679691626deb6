//! The questions that metadata answers without changing; the answers are in `reply.rs`.
//!
//! Sent by the S3 edge, the JSON API, queue workers and storage nodes; answered by
//! `reader::CatalogReader`. Owns no state.
//!
//! 1. QUERY-1: no answer is larger than 192 KiB: whatever is list-like is cut at [`PAGE_BYTES`]
//!    and says how to go on.
//! 2. QUERY-2: one answer is one snapshot of the catalog.

use serde::{Deserialize, Serialize};

use super::model::Refused;
use super::outbox::OutboxId;
use crate::types::DataId;

pub use super::reply::*;

/// Where a page is cut, in estimated encoded bytes.
pub const PAGE_BYTES: usize = 128 * 1024;

/// An answer, or why there is none.
pub type Answer = Result<QueryReply, Refused>;

/// One question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Query {
    /// A bucket and the storage members, before a write; answers `Prepared`.
    Prepare {
        /// Bucket name.
        bucket: String,
    },
    /// The storage members alone; answers `Members`.
    Members,
    /// Everything about a bucket; answers `Bucket`.
    GetBucket {
        /// Bucket name.
        bucket: String,
    },
    /// Buckets by name; answers `Buckets`.
    ListBuckets {
        /// Only those of this owner.
        owner: Option<String>,
        /// Only names that begin so.
        prefix: String,
        /// Names after this one.
        after: Option<String>,
        /// At most so many (bounded to 1,000).
        max: u32,
    },
    /// One object version with its first parts; answers `Object`.
    Lookup {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
        /// Version, or `None` for the current one.
        version_id: Option<String>,
    },
    /// Further parts of a row, from a part number or an offset; answers `Parts`, or `NoSuchKey`
    /// where the row is gone. A reader takes all pages that it needs before it streams.
    Parts {
        /// The row, from `Lookup`.
        row: u64,
        /// Parts with a higher number.
        after_no: u32,
        /// Parts that end behind this offset in the object.
        from_offset: u64,
    },
    /// Current objects of a bucket; answers `Listing`.
    ListObjects {
        /// Bucket name.
        bucket: String,
        /// Only keys that begin so.
        prefix: String,
        /// Groups keys up to this text after the prefix; empty = no grouping.
        delimiter: String,
        /// Where to begin.
        start: ListStart,
        /// At most so many keys and common prefixes (bounded to 1,000).
        max: u32,
    },
    /// All versions and delete markers of a bucket; answers `Versions`.
    ListVersions {
        /// Bucket name.
        bucket: String,
        /// Only keys that begin so.
        prefix: String,
        /// Groups keys up to this text after the prefix; empty = no grouping.
        delimiter: String,
        /// Begin after this key or common prefix (or inside it, with `version_marker`).
        key_marker: Option<String>,
        /// Begin after this version of `key_marker`.
        version_marker: Option<String>,
        /// At most so many (bounded to 1,000).
        max: u32,
    },
    /// Open uploads of a bucket by key and id; answers `Uploads`.
    ListUploads {
        /// Bucket name.
        bucket: String,
        /// Only keys that begin so.
        prefix: String,
        /// Groups keys up to this text after the prefix; empty = no grouping.
        delimiter: String,
        /// Begin after this key or common prefix (or inside it, with `upload_marker`).
        key_marker: Option<String>,
        /// Begin after this upload of `key_marker`.
        upload_marker: Option<String>,
        /// At most so many (bounded to 1,000).
        max: u32,
    },
    /// An open upload and its parts; answers `UploadParts`.
    ListParts {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
        /// The upload.
        upload_id: String,
        /// Parts with a higher number.
        after_no: u32,
        /// At most so many (bounded to 1,000).
        max: u32,
    },
    /// Data items by id; answers `Blobs`, unknown and dead ones left out.
    Blobs {
        /// At most 256.
        data_ids: Vec<DataId>,
    },
    /// Live data items in id order, for sweeps that look for missing copies; answers `Blobs`, none
    /// at the end.
    BlobsAfter {
        /// Ids after this one; `None` = from the first.
        after: Option<DataId>,
        /// At most so many (bounded to 256).
        max: u32,
    },
    /// Whether data is still needed; answers `DataStatus`.
    DataStatus {
        /// At most 1,000.
        data_ids: Vec<DataId>,
    },
    /// The oldest outbox rows; answers `Outbox`.
    Outbox {
        /// Rows after this one.
        after: Option<OutboxId>,
        /// At most so many (bounded to 1,000).
        max: u32,
    },
    /// Totals and distributions; answers `Stats`.
    Stats {
        /// Of one bucket, or of all.
        bucket: Option<String>,
    },
    /// How many current objects begin so; answers `Count`. Costs nothing for the empty prefix, and
    /// walks the keys that match for others.
    Count {
        /// Bucket name.
        bucket: String,
        /// Only keys that begin so.
        prefix: String,
    },
    /// Current objects whose key, tags or user metadata hold all words of `text`, the last of which
    /// (from two letters on) may be the beginning of one; answers `Found`.
    Search {
        /// Only in this bucket.
        bucket: Option<String>,
        /// Words.
        text: String,
        /// `next` of the page before.
        after: Option<u64>,
        /// At most so many (bounded to 1,000).
        max: u32,
    },
    /// The index of the last command applied; answers `Index`.
    AppliedIndex,
    /// A digest over the whole state, to compare replicas by; answers `Digest`. Reads everything,
    /// which takes seconds in a large catalog.
    Digest,
}

/// Where a listing begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListStart {
    /// At the first key.
    #[default]
    First,
    /// Behind this key (`start-after` of version 2): a common prefix that holds later keys is
    /// still given.
    AfterKey {
        /// Any text.
        key: String,
    },
    /// Behind this key or common prefix (`marker` of version 1, and `next` of any page).
    AfterEntry {
        /// Any text.
        entry: String,
    },
}
