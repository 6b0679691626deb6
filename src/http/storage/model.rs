//! What the storage API takes and gives, with the names of both generations.
//!
//! Plain values; made by the other files of this folder.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::actors::metadata::query::ObjectInfo;
use crate::http::admin::rfc3339;
use crate::http::error::ApiError;
use crate::http::json::head::{self, TextMap};
use crate::http::json::object::{Base64, UPLOAD_LIMIT, id_of};
use crate::http::json::{Input, ObjectPath, bucket, input};
use crate::objects::put::Written;
use crate::types::{Service, now_ms};

const EXAMPLE_TIME: &str = "2026-01-31T12:00:00Z";
const HELLO_MD5: &str = "5d41402abc4b2a76b9719d911017c592";

/// An upload.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
pub struct UploadRequest {
    /// Bucket; the path wins where it names one.
    #[serde(default)]
    pub bucket: String,
    /// Key; the path wins where it names one.
    #[serde(default)]
    pub key: String,
    /// Content type.
    pub content_type: Option<String>,
    /// Headers and user metadata.
    pub headers: Option<TextMap>,
    /// Tags.
    pub tags: Option<TextMap>,
    /// The bytes, as base64.
    #[serde(default)]
    pub data: Base64,
}

impl Input for UploadRequest {
    const LIMIT: u64 = UPLOAD_LIMIT;

    fn example() -> Value {
        json!({ "bucket": "photos", "key": "2026/a.jpg", "content_type": "text/plain",
                "headers": { "x-amz-meta-color": "red" }, "tags": { "project": "alpha" },
                "data": "aGVsbG8=" })
    }
}

impl UploadRequest {
    /// Bucket and key of a body that must name them.
    ///
    /// # Errors
    /// One is missing or impossible.
    pub fn path(&self) -> Result<ObjectPath, ApiError> {
        for (field, value) in [("key", &self.key), ("bucket", &self.bucket)] {
            if value.is_empty() {
                let example = Self::example()[field].to_string();
                return Err(ApiError::invalid(field, "it is missing", &example));
            }
        }
        bucket::check_name("bucket", &self.bucket)?;
        input::check_key("key", &self.key)?;
        Ok(ObjectPath { bucket: self.bucket.clone(), key: self.key.clone() })
    }
}

/// An object that was stored.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct UploadResponse {
    /// Always true.
    pub success: bool,
    /// Belongs to bucket and key, the same for ever.
    pub object_id: String,
    /// Key.
    pub key: String,
    /// Bucket.
    pub bucket: String,
    /// Bytes.
    pub size: u64,
    /// MD5 in hex.
    pub md5_hash: String,
    /// ETag without quotes.
    pub etag: String,
    /// Version id, where the bucket has versioning.
    pub version: Option<String>,
    /// What was done.
    pub message: String,
    /// Time of the row, RFC 3339.
    pub timestamp: String,
}

impl UploadResponse {
    /// The answer to an upload.
    pub fn new(path: &ObjectPath, written: Written) -> Self {
        UploadResponse {
            success: true,
            object_id: id_of(&path.bucket, &path.key),
            key: path.key.clone(),
            bucket: path.bucket.clone(),
            size: written.size,
            md5_hash: written.etag.clone(),
            etag: written.etag,
            version: written.version_id,
            message: "object stored".into(),
            timestamp: rfc3339(written.last_modified_ms),
        }
    }

    /// An answer for the description.
    pub fn example() -> Self {
        UploadResponse {
            success: true,
            object_id: id_of("photos", "2026/a.jpg"),
            key: "2026/a.jpg".into(),
            bucket: "photos".into(),
            size: 5,
            md5_hash: HELLO_MD5.into(),
            etag: HELLO_MD5.into(),
            version: None,
            message: "object stored".into(),
            timestamp: EXAMPLE_TIME.into(),
        }
    }
}

/// One object of a listing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ObjectLine {
    /// Belongs to bucket and key, the same for ever.
    pub id: String,
    /// Key.
    pub key: String,
    /// Bucket.
    pub bucket: String,
    /// Bytes.
    pub size: u64,
    /// Content type, empty where none was given.
    pub content_type: String,
    /// MD5 in hex; empty for a multipart object, whose ETag is no MD5.
    pub md5_hash: String,
    /// ETag without quotes.
    pub etag: String,
    /// Headers and user metadata.
    pub headers: TextMap,
    /// Tags.
    pub tags: TextMap,
    /// Time of the row, RFC 3339.
    pub created_at: String,
    /// The same.
    pub updated_at: String,
}

impl ObjectLine {
    /// The line of an object.
    pub fn new(bucket: &str, key: String, info: ObjectInfo) -> Self {
        let time = rfc3339(info.last_modified_ms);
        ObjectLine {
            id: id_of(bucket, &key),
            key,
            bucket: bucket.to_owned(),
            size: info.size,
            content_type: info.head.content_type.clone().unwrap_or_default(),
            md5_hash: if info.etag.contains('-') { String::new() } else { info.etag.clone() },
            etag: info.etag,
            headers: head::to_map(&info.head),
            tags: head::tags_to_map(&info.tags),
            created_at: time.clone(),
            updated_at: time,
        }
    }
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Listing {
    /// As asked.
    pub bucket: String,
    /// As asked.
    pub prefix: String,
    /// As asked.
    pub delimiter: String,
    /// As asked.
    pub max_keys: u32,
    /// More follows.
    pub is_truncated: bool,
    /// `start_after` of the next page, empty where nothing follows.
    pub next_marker: String,
    /// Objects.
    pub objects: Vec<ObjectLine>,
    /// Groups of keys that share a beginning up to the delimiter.
    pub common_prefixes: Vec<String>,
    /// Objects and common prefixes.
    pub count: usize,
}

impl Listing {
    /// A page for the description.
    pub fn example() -> Self {
        let line = ObjectLine {
            id: id_of("photos", "2026/a.jpg"),
            key: "2026/a.jpg".into(),
            bucket: "photos".into(),
            size: 5,
            md5_hash: HELLO_MD5.into(),
            etag: HELLO_MD5.into(),
            created_at: EXAMPLE_TIME.into(),
            updated_at: EXAMPLE_TIME.into(),
            ..ObjectLine::default()
        };
        let (bucket, objects) = ("photos".into(), vec![line]);
        Listing { bucket, max_keys: 1000, objects, count: 1, ..Listing::default() }
    }
}

/// One storage node.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NodeView {
    /// Its instance id.
    pub id: String,
    /// `healthy`, `unreachable` or `error`.
    pub status: String,
    /// Bytes that its segments occupy on disk; 0 where it does not answer.
    pub used_space: u64,
    /// Bytes that may still be written.
    pub free_space: u64,
    /// Bytes of complete items.
    pub live_space: u64,
    /// Complete items.
    pub items: u64,
    /// Why it does not answer.
    pub error: Option<String>,
}

/// The storage nodes.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NodesView {
    /// `storage-service`.
    pub service: String,
    /// All members, absent or not.
    pub nodes: Vec<NodeView>,
    /// How many they are.
    pub total_nodes: usize,
    /// How many of them answer.
    pub healthy_nodes: usize,
    /// Bytes on all disks.
    pub total_used_space: u64,
    /// Time of the answer, RFC 3339.
    pub timestamp: String,
}

impl NodesView {
    /// The sums over some nodes.
    pub fn new(nodes: Vec<NodeView>) -> Self {
        NodesView {
            service: Service::Storage.name().into(),
            total_nodes: nodes.len(),
            healthy_nodes: nodes.iter().filter(|n| n.status == "healthy").count(),
            total_used_space: nodes.iter().map(|n| n.used_space).sum(),
            nodes,
            timestamp: rfc3339(now_ms()),
        }
    }

    /// An answer for the description.
    pub fn example() -> Self {
        let node = NodeView {
            id: "storage-service-6f0c6f0c-6f0c-4f0c-8f0c-6f0c6f0c6f0c".into(),
            status: "healthy".into(),
            used_space: 5,
            free_space: 1000,
            live_space: 5,
            items: 1,
            error: None,
        };
        NodesView { timestamp: EXAMPLE_TIME.into(), ..NodesView::new(vec![node]) }
    }
}
