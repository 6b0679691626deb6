//! What a flow tells its caller when it cannot do what was asked.
//!
//! Variants are split by what the caller can do: mend the request, try again, or give up. The S3
//! edge (`http/s3/error.rs`) and the JSON APIs turn them into codes.

use crate::actors::metadata::model::Refused;
use crate::cluster::CallError;
use crate::types::UnixMillis;

use super::placement::NoQuorum;

/// Why a flow failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FlowError {
    /// Metadata refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Try again later; nothing was done, or it was undone.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The body was not what it was said to be, or did not come.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A read condition says that the client's copy is current.
    #[error("not modified")]
    NotModified {
        /// ETag of the object.
        etag: String,
        /// Its time.
        last_modified_ms: UnixMillis,
    },
    /// The range lies outside of the object.
    #[error("range not satisfiable for {size} bytes")]
    InvalidRange {
        /// Bytes of the object.
        size: u64,
    },
    /// The object has no such part.
    #[error("no such part")]
    InvalidPartNumber,
    /// The newest version is a delete marker.
    #[error("the key is deleted")]
    DeleteMarker {
        /// Its version id.
        version_id: String,
        /// When it was made.
        last_modified_ms: UnixMillis,
    },
    /// The request does not make sense.
    #[error("{0}")]
    Invalid(String),
    /// Something that must not happen.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Why work could not be done now.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unavailable {
    /// Too few storage nodes within reach.
    #[error(transparent)]
    Quorum(#[from] NoQuorum),
    /// The cluster is new, and its storage nodes have not all joined yet.
    #[error("the cluster is forming: {have} storage nodes have joined, {need} must have once")]
    Forming {
        /// Nodes that ever joined.
        have: u64,
        /// Nodes that must have before the first write.
        need: u64,
    },
    /// No member of a service within reach, too much work, or no answer in time.
    #[error("{0}")]
    Call(String),
    /// Too few storage nodes have room.
    #[error("the storage nodes are full")]
    Full,
    /// No copy of the data can be read now.
    #[error("no readable copy of the data within reach")]
    Unreadable,
    /// Whether the change was made is not known; its clean-up goes on.
    #[error("outcome unknown")]
    Unknown,
    /// The actor of the request was ended.
    #[error("the request was ended")]
    Gone,
}

/// What was wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It broke off.
    #[error("the request body broke off: {0}")]
    Broken(String),
    /// It is shorter or longer than declared.
    #[error("the request body has {got} bytes, {declared} were declared")]
    Length {
        /// Bytes that came.
        got: u64,
        /// Bytes that were declared.
        declared: u64,
    },
    /// The client sent nothing for too long.
    #[error("the client sent nothing for too long")]
    Timeout,
    /// It is larger than allowed.
    #[error("the request body exceeds {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Its MD5 is not `Content-MD5`.
    #[error("content-md5 does not match the body")]
    Md5,
    /// Its checksum is not the one given.
    #[error("checksum {0} does not match the body")]
    Checksum(&'static str),
    /// Its SHA-256 is not the one that was signed.
    #[error("x-amz-content-sha256 does not match the body")]
    Sha256,
    /// The signature of a chunk is wrong.
    #[error("the signature of a chunk does not match")]
    Signature,
    /// It is a copy, and its source cannot be read any more.
    #[error("the source of the copy broke off: {0}")]
    Source(String),
    /// Its framing or its trailer is wrong.
    #[error("malformed body: {0}")]
    Malformed(String),
}

impl From<CallError> for FlowError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::TooLarge(_) => FlowError::Internal(error.to_string()),
            error => Unavailable::Call(error.to_string()).into(),
        }
    }
}

impl From<NoQuorum> for FlowError {
    fn from(error: NoQuorum) -> Self {
        FlowError::Unavailable(error.into())
    }
}
