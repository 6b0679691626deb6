//! What the metadata API takes and gives, with the names of both generations.
//!
//! Plain values; made by the other files of this folder.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::actors::metadata::query::ObjectInfo;
use crate::http::admin::rfc3339;
use crate::http::error::ApiError;
use crate::http::json::head::{self, TextMap};
use crate::http::json::{Input, bucket, input, object};

/// The time in all examples.
pub const EXAMPLE_TIME: &str = "2026-01-31T12:00:00Z";
/// The MD5 of no bytes.
pub const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// What is posted for a row. Fields that the original sent and that are derived here (`id`,
/// `version`, `storage_nodes`, times) are taken and not used.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
pub struct RowInput {
    /// Bucket; the path wins where it names one.
    #[serde(default)]
    pub bucket: String,
    /// Key; the path wins where it names one.
    #[serde(default)]
    pub key: String,
    /// Bytes; must agree with the object.
    pub size: Option<u64>,
    /// Content type, replaced where given.
    pub content_type: Option<String>,
    /// MD5 in hex; must agree with the object.
    pub md5_hash: Option<String>,
    /// ETag; must agree with the object.
    pub etag: Option<String>,
    /// `active`, or nothing.
    pub status: Option<String>,
    /// Headers and user metadata, replaced as a whole where given.
    pub headers: Option<TextMap>,
    /// Tags, replaced as a whole where given.
    pub tags: Option<TextMap>,
}

impl Input for RowInput {
    fn example() -> Value {
        json!({ "bucket": "photos", "key": "2026/a.jpg", "content_type": "image/jpeg",
                "tags": { "project": "alpha" } })
    }

    fn check(&self) -> Result<(), ApiError> {
        if let Some(status) = self.status.as_deref().filter(|s| !matches!(*s, "" | "active")) {
            let reason = format!("{status:?} cannot be set: delete the object instead");
            return Err(ApiError::invalid("status", reason, "active"));
        }
        let hex = |text: &str| text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit());
        if self.md5_hash.as_deref().is_some_and(|md5| !md5.is_empty() && !hex(md5)) {
            return Err(ApiError::invalid("md5_hash", "it is not 32 hex digits", EMPTY_MD5));
        }
        Ok(())
    }
}

impl RowInput {
    /// Checks bucket and key of a body that must name them.
    pub fn check_names(&self) -> Result<(), ApiError> {
        for (field, value) in [("bucket", &self.bucket), ("key", &self.key)] {
            if value.is_empty() {
                let example = Self::example()[field].to_string();
                return Err(ApiError::invalid(field, "it is missing", &example));
            }
        }
        bucket::check_name("bucket", &self.bucket)?;
        input::check_key("key", &self.key)
    }
}

/// The metadata of one object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Row {
    /// Belongs to bucket and key, the same for ever.
    pub id: String,
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Content type, empty where none was given.
    pub content_type: String,
    /// MD5 in hex; empty for a multipart object, whose ETag is no MD5.
    pub md5_hash: String,
    /// ETag without quotes.
    pub etag: String,
    /// `active`: deleted objects are not found.
    pub status: String,
    /// Version id, empty in a bucket that never had versioning.
    pub version: String,
    /// Instances that hold a copy of the first part.
    pub storage_nodes: Vec<String>,
    /// Headers and user metadata.
    pub headers: TextMap,
    /// Tags.
    pub tags: TextMap,
    /// Time of the row, RFC 3339.
    pub created_at: String,
    /// The same.
    pub last_modified: String,
    /// The same.
    pub updated_at: String,
    /// Always null, for clients that look for it: a deleted object has no row.
    pub deleted_at: Option<String>,
}

impl Row {
    /// The row of an object.
    pub fn new(bucket: &str, key: &str, info: &ObjectInfo, storage_nodes: Vec<String>) -> Self {
        let time = rfc3339(info.last_modified_ms);
        Row {
            id: object::id_of(bucket, key),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            size: info.size,
            content_type: info.head.content_type.clone().unwrap_or_default(),
            md5_hash: md5_of(&info.etag),
            etag: info.etag.clone(),
            status: "active".into(),
            version: info.version_id.clone().unwrap_or_default(),
            storage_nodes,
            headers: head::to_map(&info.head),
            tags: head::tags_to_map(&info.tags),
            created_at: time.clone(),
            last_modified: time.clone(),
            updated_at: time,
            deleted_at: None,
        }
    }

    /// A row for the description.
    pub fn example() -> Self {
        Row {
            id: object::id_of("photos", "2026/a.jpg"),
            bucket: "photos".into(),
            key: "2026/a.jpg".into(),
            content_type: "image/jpeg".into(),
            md5_hash: EMPTY_MD5.into(),
            etag: EMPTY_MD5.into(),
            status: "active".into(),
            tags: [("project".to_owned(), "alpha".to_owned())].into(),
            created_at: EXAMPLE_TIME.into(),
            last_modified: EXAMPLE_TIME.into(),
            updated_at: EXAMPLE_TIME.into(),
            ..Row::default()
        }
    }
}

/// The MD5 that an ETag is, or nothing for that of a multipart object.
pub fn md5_of(etag: &str) -> String {
    if etag.contains('-') { String::new() } else { etag.to_owned() }
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Listing {
    /// The rows.
    pub metadata: Vec<Row>,
    /// How many they are.
    pub count: usize,
    /// As asked.
    pub bucket: String,
    /// As asked.
    pub prefix: String,
    /// As asked.
    pub limit: u32,
    /// As asked.
    pub offset: u32,
    /// `start_after` of the next page, where more follows.
    pub next: Option<String>,
}

impl Listing {
    /// A page for the description.
    pub fn example() -> Self {
        let (bucket, prefix) = ("photos".into(), String::new());
        let metadata = vec![Row::example()];
        Listing { metadata, count: 1, bucket, prefix, limit: 100, offset: 0, next: None }
    }
}

/// A page of a search.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Found {
    /// As asked.
    pub query: String,
    /// The hits, in order of writing.
    pub metadata: Vec<Row>,
    /// The same, under the name that the original's documentation had.
    pub objects: Vec<Row>,
    /// How many they are.
    pub count: usize,
    /// The same; hits of later pages are not counted.
    pub total: usize,
    /// As asked.
    pub limit: u32,
    /// As asked.
    pub offset: u32,
    /// `after` of the next page, where more follows.
    pub next: Option<u64>,
}

impl Found {
    /// A page for the description.
    pub fn example() -> Self {
        Found {
            query: "a jpg".into(),
            metadata: Vec::new(),
            objects: Vec::new(),
            count: 0,
            total: 0,
            limit: 50,
            offset: 0,
            next: None,
        }
    }
}

/// A number of objects.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Count {
    /// As asked.
    pub bucket: String,
    /// As asked.
    pub prefix: String,
    /// Current objects.
    pub count: u64,
}

impl Count {
    /// A number for the description.
    pub fn example() -> Self {
        Count { bucket: "photos".into(), prefix: "2026/".into(), count: 1 }
    }
}

/// Objects and bytes of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Group {
    /// Objects.
    pub count: u64,
    /// Bytes.
    pub size: u64,
}

/// What was written on one day.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Day {
    /// The day (UTC), `2026-01-31`.
    pub date: String,
    /// Objects written, deleted since or not.
    pub count: u64,
    /// Their bytes.
    pub size: u64,
}

/// The figures of the catalog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Figures {
    /// Current objects.
    pub total_objects: u64,
    /// Their bytes.
    pub total_size: u64,
    /// The same.
    pub total_size_bytes: u64,
    /// Bytes an object, 0 without objects.
    pub average_size: f64,
    /// Buckets.
    pub total_buckets: u64,
    /// Per bucket; the first 1000 by name.
    pub bucket_stats: BTreeMap<String, Group>,
    /// Per content type; the 100 most frequent.
    pub content_types: BTreeMap<String, Group>,
    /// Storage members, absent or not.
    pub storage_nodes: Vec<String>,
    /// `active` = current objects, `deleted` = delete markers, `superseded` = older versions.
    pub status_counts: BTreeMap<String, u64>,
    /// The last 90 days on which something was written, newest first.
    pub daily_uploads: Vec<Day>,
    /// Tasks on their way to the queue.
    pub outbox: u64,
    /// Time of the answer, RFC 3339.
    pub last_updated: String,
}

impl Figures {
    /// Figures for the description.
    pub fn example() -> Self {
        Figures {
            total_objects: 1,
            last_updated: EXAMPLE_TIME.into(),
            daily_uploads: vec![Day { date: "2026-01-31".into(), count: 1, size: 0 }],
            ..Figures::default()
        }
    }
}

/// One bucket.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// `off`, `enabled` or `suspended`.
    pub versioning: String,
    /// Whether keys that are not here are asked for from third parties.
    pub fallback: bool,
}

impl Bucket {
    /// A bucket for the description.
    pub fn example() -> Self {
        Bucket {
            name: "photos".into(),
            owner: "mocks3".into(),
            created_at: EXAMPLE_TIME.into(),
            versioning: "off".into(),
            fallback: false,
        }
    }
}

/// A bucket with its counters.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct BucketLine {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Current objects.
    pub objects: u64,
    /// Their bytes.
    pub size: u64,
}

/// A page of buckets.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct BucketList {
    /// The buckets.
    pub buckets: Vec<BucketLine>,
    /// How many they are.
    pub count: usize,
    /// `after` of the next page, where more follows.
    pub next: Option<String>,
}

impl BucketList {
    /// A page for the description.
    pub fn example() -> Self {
        BucketList { buckets: Vec::new(), count: 0, next: None }
    }
}
