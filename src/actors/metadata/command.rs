//! The commands of the metadata state machine and what they answer.
//!
//! Sent by the S3 edge, the JSON API, queue workers and storage nodes to the metadata actor, which
//! hands them in batches to `store::Catalog`. Owns no state.
//!
//! 1. COMMAND-1: a command holds every time, id and random value that its effect needs; applying
//!    it reads no clock and draws no numbers.
//! 2. COMMAND-2: a retried command is applied once: known by its data id, upload id, version id or
//!    `request`, it answers as it did the first time. (So does any under the key of an earlier one,
//!    for a shorter while: INTENT-1.)
//! 3. COMMAND-3: none is larger than 128 KiB, an entry of the log: `Delete` takes as many items as fit (at most 1,000),
//!    `Complete` names its parts as ranges and a digest, `Abort` and `AckOutbox` take at most
//!    1,000 ids.

use serde::{Deserialize, Serialize};

use super::model::{
    Checksum, ChecksumAlgorithm, ChecksumType, CorsRule, ObjectHead, Refused, Tag, Versioning,
};
use super::outbox::OutboxId;
use crate::types::{DataId, InstanceId, UnixMillis};

/// What became of one command.
pub type Outcome = Result<Applied, Refused>;

/// The largest object and the largest part, in bytes (1 PiB): keeps all sums within 63 bits.
pub const MAX_BYTES: u64 = 1 << 50;

/// The most items in one `Delete`, `Abort` or `AckOutbox`.
pub const MAX_ITEMS: usize = 1_000;
/// The most rows of each kind that one `PurgeAborted` forgets: it must not hold up other commits.
pub const PURGE_LIMIT: u32 = 5_000;

/// One change of the metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a storage node a member (again); answers `Registered`.
    RegisterStorageNode {
        /// Which.
        instance: InstanceId,
        /// The id that the catalog gets where it has none yet; random.
        catalog: u128,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Takes a storage node out for good: it no longer counts in N, its copies are no longer
    /// offered.
    RemoveStorageNode {
        /// Which.
        instance: InstanceId,
    },
    /// Makes a bucket; answers `Done`.
    CreateBucket {
        /// Its name, checked by the edge.
        name: String,
        /// Who will own it.
        owner: String,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Removes a bucket without versions and delete markers, and with it its open uploads; answers
    /// `Done`.
    DeleteBucket {
        /// Its name.
        name: String,
        /// Refused with `AccessDenied` where given and not the owner.
        owner: Option<String>,
        /// Time of the command.
        now_ms: UnixMillis,
        /// Grace for the parts of uploads that are still open.
        grace_ms: u64,
    },
    /// Changes one setting of a bucket; answers `Done`.
    ConfigureBucket {
        /// Its name.
        name: String,
        /// The setting.
        change: BucketChange,
    },
    /// Makes uploaded data the current version of a key; answers `Committed`.
    Commit {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
        /// The data, fresh and durable on `locations`; `None` makes a row that has no data here
        /// (JSON API).
        data: Option<NewData>,
        /// Size of the object; must equal `data.len` where there is data.
        size: u64,
        /// ETag without quotes.
        etag: String,
        /// Everything else of the row.
        object: NewObject,
        /// Condition on the present state of the key.
        precondition: Precondition,
        /// Time of the command, becomes last-modified.
        now_ms: UnixMillis,
        /// How long replaced data stays readable before its deletion is due.
        grace_ms: u64,
    },
    /// Makes a further row on the data of another one, without moving bytes; answers `Committed`.
    Copy {
        /// The row copied from, as a lookup showed it.
        source: CopySource,
        /// Target bucket.
        bucket: String,
        /// Target key.
        key: String,
        /// Version id of the new row, where the bucket has versioning enabled.
        version_id: String,
        /// Owner of the new row.
        owner: String,
        /// Headers and user metadata, or `None` to keep the source's.
        head: Option<ObjectHead>,
        /// Tags, or `None` to keep the source's.
        tags: Option<Vec<Tag>>,
        /// Storage class, or `None` to keep the source's.
        storage_class: Option<String>,
        /// Condition on the present state of the target.
        precondition: Precondition,
        /// Names this request, so that a retry is known; 0 = never retried.
        request: u128,
        /// Time of the command, becomes last-modified.
        now_ms: UnixMillis,
        /// Grace for replaced data.
        grace_ms: u64,
    },
    /// Deletes keys or versions of one bucket; answers `Deleted`, one result an item in order.
    Delete {
        /// Bucket name.
        bucket: String,
        /// What to delete; at most [`MAX_ITEMS`].
        items: Vec<DeleteItem>,
        /// Names this request, so that a retry is known; 0 = never retried.
        request: u128,
        /// Time of the command.
        now_ms: UnixMillis,
        /// Grace for the data.
        grace_ms: u64,
    },
    /// Replaces the tags of an object version (an empty list removes them); answers `Tagged`.
    PutObjectTags {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
        /// Version, or `None` for the current one.
        version_id: Option<String>,
        /// The new set.
        tags: Vec<Tag>,
    },
    /// Opens a multipart upload; answers `Done`.
    CreateUpload {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
        /// Id of the upload, fresh (UUID version 7, so that ids sort by time).
        upload_id: String,
        /// What the finished object will carry; its `version_id` is used by `CompleteUpload`.
        object: NewObject,
        /// Algorithm and kind of the checksum, where the client chose one.
        checksum: Option<UploadChecksum>,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Adds or replaces one part of an upload; answers `Done`.
    AddPart {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
        /// The upload.
        upload_id: String,
        /// 1 to 10,000.
        no: u32,
        /// The data.
        data: NewData,
        /// Base64 of the part's checksum in the upload's algorithm.
        checksum: Option<String>,
        /// Time of the command.
        now_ms: UnixMillis,
        /// Grace for a replaced part.
        grace_ms: u64,
    },
    /// Makes the selected parts the current version of the key; answers `Committed`.
    CompleteUpload {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
        /// The upload.
        upload_id: String,
        /// The selected part numbers, ascending.
        parts: Vec<PartRange>,
        /// [`parts_digest`] over the selection as the client named it.
        digest: [u8; 16],
        /// Least size of every part but the last (5 MiB in S3; 0 = any).
        min_part_bytes: u64,
        /// Checksum of the whole, as computed by the edge from the parts' checksums.
        checksum: Option<Checksum>,
        /// Condition on the present state of the key.
        precondition: Precondition,
        /// Time of the command, becomes last-modified.
        now_ms: UnixMillis,
        /// Grace for replaced data and for parts not selected.
        grace_ms: u64,
    },
    /// Ends an upload and frees its parts; answers `Done`.
    AbortUpload {
        /// Bucket name.
        bucket: String,
        /// Key.
        key: String,
        /// The upload.
        upload_id: String,
        /// Time of the command.
        now_ms: UnixMillis,
        /// Grace for the parts.
        grace_ms: u64,
    },
    /// Makes data ids that nobody references unusable and their bytes garbage; answers
    /// `AbortedData`.
    Abort {
        /// At most [`MAX_ITEMS`].
        data_ids: Vec<DataId>,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Forgets aborted and freed data ids, finished uploads and request ids older than this, at most
    /// [`PURGE_LIMIT`] of each, the oldest first; answers `Done`.
    ///
    /// `before_ms` must lie further back than any retry and any upload attempt can take.
    PurgeAborted {
        /// Everything that ended before this time goes.
        before_ms: UnixMillis,
    },
    /// A copy became durable on a storage node; answers `Location`.
    AddLocation {
        /// The data.
        data_id: DataId,
        /// Where it is now.
        instance: InstanceId,
    },
    /// A copy is bad or lost: no longer offered, and to be made again; answers `Location`.
    DropLocation {
        /// The data.
        data_id: DataId,
        /// Where the bad copy is.
        instance: InstanceId,
        /// Writes a further `Replicate` row even if one was written before for this copy.
        again: bool,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Removes outbox rows that the queue has taken; answers `Done`.
    AckOutbox {
        /// At most [`MAX_ITEMS`].
        ids: Vec<OutboxId>,
    },
}

/// One setting of a bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BucketChange {
    /// Versioning on or suspended; a bucket never goes back to `Off`.
    Versioning {
        /// The new state.
        state: Versioning,
    },
    /// The bucket's tags; `None` removes them.
    Tags {
        /// The new set.
        tags: Option<Vec<Tag>>,
    },
    /// The CORS rules; `None` removes them.
    Cors {
        /// The new rules.
        rules: Option<Vec<CorsRule>>,
    },
    /// Whether keys unknown here are asked for from third parties.
    Fallback {
        /// The switch.
        on: bool,
    },
}

/// Data that was written under a fresh id, durable where it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewData {
    /// Fresh for every upload attempt.
    pub data_id: DataId,
    /// Bytes.
    pub len: u64,
    /// MD5 of the bytes.
    pub md5: [u8; 16],
    /// CRC-64/NVME of the bytes.
    pub crc64: u64,
    /// Where it is durable.
    pub locations: Vec<InstanceId>,
    /// Where it should be too: each becomes a `Replicate` row.
    pub missing: Vec<InstanceId>,
    /// How many of `locations` must be members.
    pub quorum: u32,
}

/// What a new row carries besides its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NewObject {
    /// Version id, used where the bucket has versioning enabled.
    pub version_id: String,
    /// Owner of the object.
    pub owner: String,
    /// Storage class (`STANDARD`).
    pub storage_class: String,
    /// Headers and user metadata.
    pub head: ObjectHead,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Checksum of the object.
    pub checksum: Option<Checksum>,
}

/// The checksum that an upload was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadChecksum {
    /// Which function.
    pub algorithm: ChecksumAlgorithm,
    /// What the finished object's checksum will cover.
    pub kind: ChecksumType,
}

/// The row that a copy starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopySource {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// The row number that the lookup showed; another row there now is `SourceChanged`.
    pub row: u64,
}

/// A condition on the key that a write goes to; a delete marker counts as no object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precondition {
    /// None.
    #[default]
    Always,
    /// `If-Match: etag`: no object is `NoSuchKey`, another ETag is `PreconditionFailed`.
    IfMatch {
        /// Without quotes.
        etag: String,
    },
    /// `If-Match: *`: there is an object.
    IfMatchAny,
    /// `If-None-Match: *`: there is no object.
    IfNoneMatchAny,
    /// Save-back from a third party: no row, no delete marker and no tombstone was ever written
    /// for this key since it was absent.
    StillAbsent,
    /// Save-back over a row: the newest row of the key is still this one.
    StillRow {
        /// As a lookup showed it.
        row: u64,
    },
}

/// One thing to delete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteItem {
    /// Key.
    pub key: String,
    /// Version to remove for good, or `None` for the S3 delete of a key.
    pub version_id: Option<String>,
    /// Version id of the delete marker, should one be made in a bucket with versioning enabled.
    pub marker_id: String,
    /// `If-Match`: the ETag without quotes, or `*`.
    pub if_match: Option<String>,
}

/// An ascending run of part numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRange {
    /// First number.
    pub first: u32,
    /// Last number, included.
    pub last: u32,
}

/// MD5 over (number as 4 bytes big-endian, MD5) of the parts in order: names a selection in 16
/// bytes.
pub fn parts_digest(parts: impl IntoIterator<Item = (u32, [u8; 16])>) -> [u8; 16] {
    let mut context = md5::Context::new();
    for (no, md5) in parts {
        context.consume(no.to_be_bytes());
        context.consume(md5);
    }
    context.finalize().0
}

/// Packs ascending part numbers into ranges; a number out of order starts a range of its own, which
/// `CompleteUpload` then refuses.
pub fn part_ranges(numbers: impl IntoIterator<Item = u32>) -> Vec<PartRange> {
    let mut ranges: Vec<PartRange> = Vec::new();
    for no in numbers {
        match ranges.last_mut() {
            Some(range) if range.last.checked_add(1) == Some(no) => range.last = no,
            _ => ranges.push(PartRange { first: no, last: no }),
        }
    }
    ranges
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Applied {
    /// It is done; nothing to tell.
    Done,
    /// The node is a member.
    Registered {
        /// The id of the catalog: a new one after a loss of all metadata.
        catalog: u128,
    },
    /// The index was applied earlier; nothing was done now.
    Before,
    /// A row was written.
    Committed {
        /// Version id: `None` in a bucket that never had versioning, else the id or `null`.
        version_id: Option<String>,
        /// ETag without quotes.
        etag: String,
        /// Bytes.
        size: u64,
        /// Row number, unique for ever.
        row: u64,
        /// Time of the row.
        last_modified_ms: UnixMillis,
    },
    /// Results of a delete.
    Deleted {
        /// One an item, in order.
        items: Vec<Result<DeletedItem, Refused>>,
    },
    /// Tags were replaced.
    Tagged {
        /// Version id, as in `Committed`.
        version_id: Option<String>,
    },
    /// Answers to `Abort`, in order.
    AbortedData {
        /// One a data id.
        answers: Vec<AbortAnswer>,
    },
    /// Answer to `AddLocation` and `DropLocation`.
    Location {
        /// False where the data is gone or never was: the copy itself is garbage then.
        live: bool,
    },
}

/// What became of one item of a delete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeletedItem {
    /// A delete marker was made, or the version removed was one.
    pub delete_marker: bool,
    /// Version id of the marker made, or of the version removed; `None` in a bucket without
    /// versioning.
    pub version_id: Option<String>,
    /// A row was there to be removed or hidden.
    pub existed: bool,
}

/// What `Abort` found for one data id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AbortAnswer {
    /// Unusable from now on (or already before); a cleanup row was written the first time.
    Aborted,
    /// A row or part uses it: keep it.
    Referenced,
    /// It was in use and no longer is: its deletion is already in the outbox or the queue.
    Freed,
}
