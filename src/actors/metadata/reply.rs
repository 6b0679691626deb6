//! The answers of metadata to the questions in `query.rs`, which exports them again.
//!
//! Made by `reader::CatalogReader`; read by the S3 edge, the JSON API, queue workers and storage
//! nodes. Owns no state. QUERY-1 and QUERY-2 of `query.rs` hold for them.

use serde::{Deserialize, Serialize};

use super::command::UploadChecksum;
use super::model::{Checksum, CorsRule, ObjectHead, Tag, Versioning};
use super::outbox::OutboxRow;
use crate::types::{DataId, InstanceId, UnixMillis};

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QueryReply {
    /// To `Prepare`.
    Prepared {
        /// The bucket.
        bucket: BucketInfo,
        /// All storage members, absent or not, in order of joining.
        members: Vec<InstanceId>,
        /// How many storage nodes ever joined, those that were removed since among them.
        ever: u64,
    },
    /// To `Members`.
    Members {
        /// All storage members, absent or not, in order of joining.
        members: Vec<InstanceId>,
    },
    /// To `GetBucket`.
    Bucket {
        /// The bucket.
        bucket: BucketInfo,
        /// Its tags (`None`: `NoSuchTagSet`).
        tags: Option<Vec<Tag>>,
        /// Its CORS rules (`None`: `NoSuchCors`).
        cors: Option<Vec<CorsRule>>,
    },
    /// To `ListBuckets`.
    Buckets {
        /// In order of names.
        buckets: Vec<BucketUsage>,
        /// Give this as `after` for the next page.
        next: Option<String>,
    },
    /// To `Lookup`.
    Object {
        /// The bucket.
        bucket: BucketInfo,
        /// What the key holds.
        found: Found,
    },
    /// To `Parts`.
    Parts {
        /// In order.
        parts: Vec<PartRow>,
        /// More parts follow the last one.
        more: bool,
    },
    /// To `ListObjects`.
    Listing {
        /// Owner of the bucket, and so of its objects.
        owner: String,
        /// In byte order; keys and common prefixes together.
        entries: Vec<ListEntry>,
        /// Set where more follows: the last key or common prefix given.
        next: Option<String>,
    },
    /// To `ListVersions`.
    Versions {
        /// Owner of the bucket.
        owner: String,
        /// Keys in byte order, the newest version first.
        entries: Vec<VersionEntry>,
        /// Set where more follows: `key_marker` of the next page.
        next_key: Option<String>,
        /// `version_marker` of the next page; `None` behind a common prefix.
        next_version: Option<String>,
    },
    /// To `ListUploads`.
    Uploads {
        /// Keys in byte order, then ids.
        entries: Vec<UploadEntry>,
        /// Set where more follows: `key_marker` of the next page.
        next_key: Option<String>,
        /// `upload_marker` of the next page; `None` behind a common prefix.
        next_upload: Option<String>,
    },
    /// To `ListParts`.
    UploadParts {
        /// The upload.
        upload: UploadInfo,
        /// In order of numbers.
        parts: Vec<UploadPart>,
        /// More parts follow the last one.
        more: bool,
    },
    /// To `Blobs` and `BlobsAfter`.
    Blobs {
        /// In id order for `BlobsAfter`, in the order asked for `Blobs`.
        blobs: Vec<BlobInfo>,
    },
    /// To `DataStatus`.
    DataStatus {
        /// In the order asked.
        statuses: Vec<DataStatus>,
    },
    /// To `Outbox`.
    Outbox {
        /// Oldest first.
        rows: Vec<OutboxRow>,
        /// More rows follow the last one.
        more: bool,
    },
    /// To `Stats`.
    Stats {
        /// The figures.
        stats: Stats,
    },
    /// To `Count`.
    Count {
        /// Current objects.
        objects: u64,
    },
    /// To `Search`.
    Found {
        /// In order of writing.
        hits: Vec<SearchHit>,
        /// Give this as `after` for the next page.
        next: Option<u64>,
    },
    /// To `AppliedIndex`.
    Index {
        /// 0 = none yet.
        applied: u64,
    },
    /// To `Digest`.
    Digest {
        /// The index of the last command in it.
        applied: u64,
        /// Equal where the state is, after the same commands.
        digest: [u8; 16],
    },
}

/// What every flow needs to know of a bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// When it was made.
    pub created_ms: UnixMillis,
    /// Its versioning state.
    pub versioning: Versioning,
    /// Whether keys unknown here are asked for from third parties.
    pub fallback: bool,
}

/// A bucket with its counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketUsage {
    /// The bucket.
    pub bucket: BucketInfo,
    /// Current objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a key (or a version of it) holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Found {
    /// An object.
    Object {
        /// Its row.
        info: Box<ObjectInfo>,
        /// Its first parts; one for a plain upload, none for a row without data.
        parts: Vec<PartRow>,
        /// More parts follow: ask with `Query::Parts`.
        more_parts: bool,
    },
    /// A delete marker.
    DeleteMarker {
        /// Its version id.
        version_id: String,
        /// When it was made.
        last_modified_ms: UnixMillis,
        /// It is the newest version of the key.
        latest: bool,
        /// Its row number.
        row: u64,
    },
    /// No row, and the key was deleted here: third parties are not asked.
    Deleted,
    /// No row.
    Absent,
    /// The key has no such version.
    NoSuchVersion,
}

/// One object version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// Row number, unique for ever: changes whenever the key is written.
    pub row: u64,
    /// `None` where the bucket never had versioning, else the id or `null`.
    pub version_id: Option<String>,
    /// It is the newest version of the key.
    pub latest: bool,
    /// Bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// Time of the row.
    pub last_modified_ms: UnixMillis,
    /// Its owner.
    pub owner: String,
    /// Storage class.
    pub storage_class: String,
    /// Headers and user metadata.
    pub head: ObjectHead,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Checksum.
    pub checksum: Option<Checksum>,
    /// Parts of a multipart object, 0 for a plain one (`x-amz-mp-parts-count`).
    pub parts_count: u32,
}

/// One run of an object's bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartRow {
    /// Part number as uploaded; 1 for a plain object.
    pub no: u32,
    /// Position of its first byte in the object.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// The data item; the part is all of it.
    pub data_id: DataId,
    /// MD5 of its bytes.
    pub md5: [u8; 16],
    /// CRC-64/NVME of its bytes.
    pub crc64: u64,
    /// Members that hold a copy.
    pub locations: Vec<InstanceId>,
    /// Base64 of the part's checksum, where the upload had one.
    pub checksum: Option<String>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ListEntry {
    /// A current object.
    Object {
        /// Key.
        key: String,
        /// Bytes.
        size: u64,
        /// ETag without quotes.
        etag: String,
        /// Time of the row.
        last_modified_ms: UnixMillis,
        /// Storage class.
        storage_class: String,
        /// Algorithm and kind of its checksum.
        checksum: Option<UploadChecksum>,
    },
    /// All keys that begin so.
    CommonPrefix {
        /// Ends with the delimiter.
        prefix: String,
    },
}

/// One line of a listing of versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VersionEntry {
    /// An object version.
    Version {
        /// Key.
        key: String,
        /// The id or `null`.
        version_id: String,
        /// It is the newest of its key.
        latest: bool,
        /// Bytes.
        size: u64,
        /// ETag without quotes.
        etag: String,
        /// Time of the row.
        last_modified_ms: UnixMillis,
        /// Storage class.
        storage_class: String,
    },
    /// A delete marker.
    DeleteMarker {
        /// Key.
        key: String,
        /// The id or `null`.
        version_id: String,
        /// It is the newest of its key.
        latest: bool,
        /// When it was made.
        last_modified_ms: UnixMillis,
    },
    /// All keys that begin so.
    CommonPrefix {
        /// Ends with the delimiter.
        prefix: String,
    },
}

/// One line of a listing of uploads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum UploadEntry {
    /// An open upload.
    Upload {
        /// Key.
        key: String,
        /// Its id.
        upload_id: String,
        /// When it was opened.
        created_ms: UnixMillis,
        /// Who opened it.
        owner: String,
        /// Storage class.
        storage_class: String,
        /// Its checksum.
        checksum: Option<UploadChecksum>,
    },
    /// All keys that begin so.
    CommonPrefix {
        /// Ends with the delimiter.
        prefix: String,
    },
}

/// An open upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadInfo {
    /// When it was opened.
    pub created_ms: UnixMillis,
    /// Who opened it.
    pub owner: String,
    /// Storage class.
    pub storage_class: String,
    /// Its checksum.
    pub checksum: Option<UploadChecksum>,
    /// Headers and user metadata of the object to be.
    pub head: ObjectHead,
}

/// A part of an open upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadPart {
    /// Part number.
    pub no: u32,
    /// Bytes.
    pub size: u64,
    /// MD5 of its bytes: its ETag.
    pub md5: [u8; 16],
    /// When it was added.
    pub last_modified_ms: UnixMillis,
    /// Base64 of its checksum in the upload's algorithm.
    pub checksum: Option<String>,
}

/// A live data item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlobInfo {
    /// Its id.
    pub data_id: DataId,
    /// Bytes.
    pub len: u64,
    /// MD5 of its bytes.
    pub md5: [u8; 16],
    /// CRC-64/NVME of its bytes.
    pub crc64: u64,
    /// Rows and parts that use it.
    pub references: u64,
    /// Members that hold a copy.
    pub locations: Vec<InstanceId>,
    /// Members that should hold one and do not yet.
    pub lacking: Vec<InstanceId>,
}

/// Whether data is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataStatus {
    /// A row or part uses it.
    Referenced,
    /// It was aborted: it will never be used.
    Aborted,
    /// It was used and no longer is: its deletion is under way.
    Freed {
        /// Since when.
        since_ms: UnixMillis,
    },
    /// Never heard of, or long forgotten.
    Unknown,
}

/// Totals and distributions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Buckets.
    pub buckets: u64,
    /// Current objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Versions that are not the newest of their key.
    pub old_versions: u64,
    /// Their bytes.
    pub old_bytes: u64,
    /// Delete markers.
    pub delete_markers: u64,
    /// The 100 most frequent content types of current objects.
    pub content_types: Vec<ContentTypeCount>,
    /// The last 90 days on which something was written, newest first.
    pub daily_uploads: Vec<DailyUploads>,
    /// Storage members.
    pub storage_nodes: u64,
    /// Outbox rows that wait.
    pub outbox: u64,
}

/// Current objects of one content type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContentTypeCount {
    /// The type, empty where none was given.
    pub content_type: String,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was written on one day (UTC), deleted since or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DailyUploads {
    /// Days since 1970-01-01.
    pub day: u32,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One object found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchHit {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// Content type.
    pub content_type: Option<String>,
    /// Time of the row.
    pub last_modified_ms: UnixMillis,
}
