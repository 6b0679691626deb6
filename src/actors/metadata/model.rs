//! The values that metadata commands and queries share: headers, tags, checksums, CORS rules,
//! refusals.
//!
//! Used by `command.rs`, `query.rs`, the S3 edge and the JSON API. Owns no state.
//!
//! 1. MODEL-1: every type here travels between nodes as bincode (fixint): plain, not recursive,
//!    and only ever extended at the end.
//! 2. MODEL-2: [`Refused`] maps one to one to an S3 error; nothing else is ever refused.

use serde::{Deserialize, Serialize};

use crate::types::UnixMillis;

/// The version id that S3 gives to objects written while versioning was off or suspended.
pub const NULL_VERSION: &str = "null";

/// The highest part number of a multipart upload, and the greatest number of parts.
pub const MAX_PARTS: u32 = 10_000;

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;

/// The versioning state of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never switched on: each key has one row.
    #[default]
    Off,
    /// Every write makes a version of its own.
    Enabled,
    /// Writes replace the `null` version; older versions stay.
    Suspended,
}

/// One tag of an object or a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Name, unique within the set.
    pub key: String,
    /// Value, possibly empty.
    pub value: String,
}

/// One entry of the user metadata (`x-amz-meta-*`), name in lower case without the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMetadata {
    /// Name, without `x-amz-meta-`.
    pub name: String,
    /// Value as given.
    pub value: String,
}

/// What an object carries besides its bytes: the standard headers and the user metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectHead {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`, as the text that was sent.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// User metadata in the order given.
    pub user: Vec<UserMetadata>,
}

/// The checksum algorithms of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Whether a checksum covers the object's bytes or the checksums of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumType {
    /// Over all bytes of the object.
    FullObject,
    /// Over the checksums of the parts (`…-N`).
    Composite,
}

/// A stored checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Which function.
    pub algorithm: ChecksumAlgorithm,
    /// What it covers.
    pub kind: ChecksumType,
    /// Base64, with `-N` behind it where composite.
    pub value: String,
}

/// One rule of a bucket's CORS configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsRule {
    /// Optional name of the rule.
    pub id: Option<String>,
    /// Origins, each with at most one `*`.
    pub allowed_origins: Vec<String>,
    /// GET, PUT, HEAD, POST, DELETE.
    pub allowed_methods: Vec<String>,
    /// Request headers that a preflight may ask for, each with at most one `*`.
    pub allowed_headers: Vec<String>,
    /// Response headers that scripts may read.
    pub expose_headers: Vec<String>,
    /// How long a browser may keep the preflight's answer.
    pub max_age_seconds: Option<u32>,
}

/// A command or a query that was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// The bucket does not exist.
    #[error("no such bucket")]
    NoSuchBucket,
    /// The bucket name is taken by somebody else.
    #[error("bucket already exists, owned by {owner}")]
    BucketAlreadyExists {
        /// Who owns it.
        owner: String,
    },
    /// The bucket exists and belongs to the caller.
    #[error("bucket already owned by you")]
    BucketAlreadyOwnedByYou,
    /// The bucket still holds versions or delete markers.
    #[error("bucket not empty")]
    BucketNotEmpty,
    /// The key has no current version.
    #[error("no such key")]
    NoSuchKey,
    /// The key has no such version.
    #[error("no such version")]
    NoSuchVersion,
    /// A condition of the request does not hold.
    #[error("precondition failed")]
    PreconditionFailed,
    /// The source of a copy is no longer the row that the caller saw: look it up again.
    #[error("source changed since it was looked up")]
    SourceChanged,
    /// The upload is not known, or was completed or aborted.
    #[error("no such upload")]
    NoSuchUpload,
    /// A selected part is missing, or the digest over the selection does not match (`no` is then
    /// `None`).
    #[error("invalid part {no:?}")]
    InvalidPart {
        /// The part number, where it is known.
        no: Option<u32>,
    },
    /// The selected part numbers do not ascend.
    #[error("invalid part order")]
    InvalidPartOrder,
    /// A part that is not the last is smaller than the least size.
    #[error("part {no} of {size} bytes is smaller than {min} bytes")]
    EntityTooSmall {
        /// The part number.
        no: u32,
        /// Its size in bytes.
        size: u64,
        /// The least size in bytes.
        min: u64,
    },
    /// Fewer copies than the write quorum on storage nodes that are members.
    #[error("{have} copies on members, {need} needed")]
    NotEnoughLocations {
        /// Copies on known members.
        have: u32,
        /// The quorum that was asked for.
        need: u32,
    },
    /// The data id was aborted before: its bytes may be gone.
    #[error("data was aborted")]
    Aborted,
    /// The bucket has no tags.
    #[error("no such tag set")]
    NoSuchTagSet,
    /// The bucket has no CORS rules.
    #[error("no such cors configuration")]
    NoSuchCors,
    /// The version is a delete marker.
    #[error("method not allowed on a delete marker")]
    MethodNotAllowed {
        /// Version id of the delete marker.
        version_id: String,
        /// When it was made.
        last_modified_ms: UnixMillis,
    },
    /// The caller does not own the bucket.
    #[error("access denied")]
    AccessDenied,
    /// The key is longer than [`MAX_KEY_BYTES`].
    #[error("key too long")]
    KeyTooLong,
    /// A value is out of its bounds.
    #[error("invalid argument: {what}")]
    InvalidArgument {
        /// Which one, and its bound.
        what: String,
    },
    /// The storage instance is not known.
    #[error("no such storage node")]
    NoSuchNode,
}
