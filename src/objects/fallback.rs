//! The way to objects that are not here: what the flows ask of the third-party service.
//!
//! Implemented outside of this room and handed in by `node`; asked by the read flow only for
//! buckets whose switch is on.
//!
//! - `FALL-1` with `expect`, an implementation returns an object only after size and MD5 of what
//!   it will stream have been found equal; without, what it streams is what its source declared,
//!   or the stream ends in an error;
//! - `FALL-2` saving the object here is the implementation's work, in the background, under a
//!   precondition (`StillAbsent`, `StillRow`) that never overwrites a newer row or a delete.

pub mod third_party;

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;

use crate::actors::metadata::model::ObjectHead;
use crate::cluster::Scope;
use crate::types::UnixMillis;

/// A source of objects outside the cluster.
#[async_trait::async_trait]
pub trait Fallback: Send + Sync + 'static {
    /// The object under this key, or `None` where no source has it (or none in time).
    ///
    /// `expect` is size and MD5 of the row that metadata has, where it has one; `row` its number.
    async fn fetch(
        &self,
        scope: &Scope,
        bucket: &str,
        key: &str,
        expect: Option<Expected>,
    ) -> Option<FallbackObject>;
}

/// What a known row says of the bytes that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Bytes.
    pub size: u64,
    /// MD5 of all bytes.
    pub md5: [u8; 16],
    /// The row number, for `StillRow`.
    pub row: u64,
}

/// The bytes of an object, in order.
pub type FallbackBody = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// An object from outside.
pub struct FallbackObject {
    /// Bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// When its source says that it was changed; else now.
    pub last_modified_ms: UnixMillis,
    /// Headers and user metadata.
    pub head: ObjectHead,
    /// The bytes.
    pub body: FallbackBody,
}
