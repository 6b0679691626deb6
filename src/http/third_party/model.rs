//! The bodies of the third-party API, and how sources are read and shown in the words of the
//! original.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::actors::third_party::message::{Opened, SourceView, Stats};
use crate::config::{Source, SourceKind, Span};
use crate::http::admin::rfc3339;
use crate::http::error::ApiError;
use crate::http::json::{Input, bucket, head, input};

/// Types of the original that there is no client for.
const FOREIGN_KINDS: [&str; 3] = ["azure", "gcs", "ftp"];
/// The keys of a source's `config`.
const CONFIG_KEYS: [&str; 9] = [
    "endpoint",
    "base_url",
    "access_key",
    "secret_key",
    "region",
    "bucket",
    "timeout",
    "max_retries",
    "retry_interval",
];

/// A source to be added.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SourceInput {
    /// Its name, unique.
    #[serde(default)]
    pub name: String,
    /// `http` or `s3`; may stand in `config` too.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// `endpoint` (or `base_url`), `access_key`, `secret_key`, `region`, `bucket` (or
    /// `bucket_name`), `timeout`, `max_retries`, `retry_interval`; times are texts with a unit or
    /// nanoseconds.
    #[schema(value_type = Object)]
    pub config: BTreeMap<String, Value>,
    /// Whether it is asked.
    pub enabled: Option<bool>,
    /// The lowest number is asked first.
    pub priority: Option<u32>,
}

impl Input for SourceInput {
    fn example() -> Value {
        json!({ "name": "upstream", "type": "s3", "enabled": true, "priority": 10,
                "config": { "endpoint": "http://127.0.0.1:9000", "access_key": "key",
                            "secret_key": "secret", "region": "us-east-1", "timeout": "3s" } })
    }
}

impl SourceInput {
    /// The source that is meant.
    ///
    /// # Errors
    /// What is wrong, with its field.
    pub fn into_source(self) -> Result<Source, ApiError> {
        let SourceInput { name, kind, mut config, enabled, priority } = self;
        let in_config = config.remove("type").and_then(|v| v.as_str().map(str::to_owned));
        let kind = kind.or(in_config).unwrap_or_default();
        if FOREIGN_KINDS.contains(&kind.as_str()) {
            let why =
                format!("there is no client for sources of type {kind:?}: use \"http\" or \"s3\"");
            return Err(ApiError::not_implemented("this type of source is not offered", why));
        }
        if name.is_empty() {
            return Err(ApiError::invalid("name", "it is missing", "upstream"));
        }
        if kind != "http" && kind != "s3" {
            return Err(ApiError::invalid("type", format!("{kind:?} is no type"), "s3"));
        }
        let mut fields =
            Map::from_iter([("name".into(), json!(name)), ("type".into(), json!(kind))]);
        for (key, value) in config {
            let key = if key == "bucket_name" { "bucket".to_owned() } else { key };
            let field = format!("config.{key}");
            if key == "extra_config" && value.as_object().is_none_or(Map::is_empty) {
                continue; // the original always sends it
            }
            if !CONFIG_KEYS.contains(&key.as_str()) {
                let reason = format!("there is no such key: expected {}", CONFIG_KEYS.join(", "));
                return Err(ApiError::invalid(&field, reason, "endpoint"));
            }
            fields.insert(key, duration(value));
        }
        fields.extend(enabled.map(|e| ("enabled".to_owned(), json!(e))));
        fields.extend(priority.map(|p| ("priority".to_owned(), json!(p))));
        let read: Result<Source, _> = serde_json::from_value(Value::Object(fields));
        let example = "see the example in /openapi.json";
        let source = read.map_err(|e| ApiError::invalid("config", e.to_string(), example))?;
        let checked = source.check();
        checked.map_err(|(field, why)| ApiError::invalid(&shown_field(field), why, example))?;
        Ok(source)
    }
}

/// Where a field of a source stands in the body.
pub fn shown_field(field: &str) -> String {
    if field == "name" { field.to_owned() } else { format!("config.{field}") }
}

/// Go writes durations as nanoseconds; small numbers are counts and stay.
fn duration(value: Value) -> Value {
    match value.as_u64() {
        Some(nanos) if nanos >= 1_000_000 => {
            json!(Span(std::time::Duration::from_nanos(nanos)).to_string())
        }
        _ => value,
    }
}

/// A source, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DataSource {
    /// The same as its name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `http` or `s3`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its settings; the secret key is hidden.
    #[schema(value_type = Object)]
    pub config: BTreeMap<String, Value>,
    /// Whether it is asked.
    pub enabled: bool,
    /// The lowest number is asked first.
    pub priority: u32,
    /// Whether it was added over HTTP, and may be changed and removed there.
    pub added: bool,
    /// State of its circuit breaker on this instance: `closed`, `open` or `half_open`.
    pub breaker: String,
    /// Requests sent by this instance, retries included.
    pub requests: u64,
    /// Those that found the object.
    pub found: u64,
    /// Those that were answered that it is not there.
    pub absent: u64,
    /// Those that failed.
    pub failed: u64,
    /// When it was added; null where it stands in the configuration.
    pub created_at: Option<String>,
    /// When it was last replaced; null where it stands in the configuration.
    pub updated_at: Option<String>,
}

impl From<SourceView> for DataSource {
    fn from(view: SourceView) -> Self {
        let source = view.source;
        let texts = [
            ("endpoint", source.endpoint),
            ("access_key", source.access_key),
            ("secret_key", source.secret_key),
            ("region", source.region),
            ("bucket", source.bucket),
            ("timeout", source.timeout.to_string()),
            ("retry_interval", source.retry_interval.to_string()),
        ];
        let texts = texts.into_iter().map(|(k, v)| (k.to_owned(), json!(v)));
        let retries = ("max_retries".to_owned(), json!(source.max_retries));
        let changed = (view.changed_ms > 0).then(|| rfc3339(view.changed_ms));
        let kind = match source.kind {
            SourceKind::Http => "http",
            SourceKind::S3 => "s3",
        };
        DataSource {
            id: source.name.clone(),
            name: source.name,
            kind: kind.into(),
            config: texts.chain([retries]).collect(),
            enabled: source.enabled,
            priority: source.priority,
            added: view.added,
            breaker: view.breaker,
            requests: view.counts.requests,
            found: view.counts.found,
            absent: view.counts.absent,
            failed: view.counts.failed,
            created_at: changed.clone(),
            updated_at: changed,
        }
    }
}

/// A moment, for examples.
const WHEN: &str = "2026-01-31T12:00:00Z";
/// MD5 of "hello".
const HELLO_MD5: &str = "5d41402abc4b2a76b9719d911017c592";

impl DataSource {
    /// A source for the description.
    pub fn example() -> Self {
        let config = SourceInput::example()["config"].as_object().cloned().unwrap_or_default();
        DataSource {
            id: "upstream".into(),
            name: "upstream".into(),
            kind: "s3".into(),
            config: config.into_iter().collect(),
            enabled: true,
            priority: 10,
            added: true,
            breaker: "closed".into(),
            requests: 3,
            found: 2,
            absent: 1,
            failed: 0,
            created_at: Some(WHEN.into()),
            updated_at: Some(WHEN.into()),
        }
    }
}

/// All sources.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DataSources {
    /// In the order in which they are asked.
    pub datasources: Vec<DataSource>,
    /// How many.
    pub count: usize,
}

impl DataSources {
    /// A list for the description.
    pub fn example() -> Self {
        DataSources { datasources: vec![DataSource::example()], count: 1 }
    }
}

/// A source that was added or replaced.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Saved {
    /// Always true.
    pub success: bool,
    /// Its name.
    pub id: String,
    /// Which instances know it now.
    pub instances: usize,
    /// What was done.
    pub message: String,
}

impl Saved {
    /// An answer for the description.
    pub fn example() -> Self {
        let (id, message) = ("upstream".into(), "datasource saved".into());
        Saved { success: true, id, instances: 1, message }
    }
}

/// What a source says of an object.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Metadata {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Content type, empty where the source gave none.
    pub content_type: String,
    /// MD5 in hex, empty where the source did not declare it.
    pub md5_hash: String,
    /// ETag without quotes.
    pub etag: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// When the source says that it was changed.
    pub last_modified: Option<String>,
    /// Name of the source.
    pub source: String,
}

impl Metadata {
    /// The description of an object that was found.
    pub fn new(path: &input::ObjectPath, opened: Opened) -> Self {
        Metadata {
            bucket: path.bucket.clone(),
            key: path.key.clone(),
            size: opened.size,
            content_type: opened.head.content_type.clone().unwrap_or_default(),
            md5_hash: opened.md5.map(hex::encode).unwrap_or_default(),
            etag: opened.etag,
            headers: head::to_map(&opened.head),
            last_modified: opened.last_modified_ms.map(rfc3339),
            source: opened.source,
        }
    }

    /// A description for the description.
    pub fn example() -> Self {
        Metadata {
            bucket: "photos".into(),
            key: "2026/a.jpg".into(),
            size: 5,
            content_type: "text/plain".into(),
            md5_hash: HELLO_MD5.into(),
            etag: HELLO_MD5.into(),
            headers: BTreeMap::from([("x-amz-meta-color".into(), "red".into())]),
            last_modified: Some(WHEN.into()),
            source: "upstream".into(),
        }
    }
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Listing {
    /// Bucket name.
    pub bucket: String,
    /// Name of the source.
    pub source: String,
    /// The keys, in order.
    pub objects: Vec<ListedKey>,
    /// How many.
    pub count: usize,
    /// More follow: ask again with `start_after` = the last key.
    pub is_truncated: bool,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ListedKey {
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// As the source wrote it.
    pub last_modified: String,
}

impl Listing {
    /// A page for the description.
    pub fn example() -> Self {
        let key = ListedKey {
            key: "2026/a.jpg".into(),
            size: 5,
            etag: HELLO_MD5.into(),
            last_modified: WHEN.into(),
        };
        let (bucket, source) = ("photos".into(), "upstream".into());
        Listing { bucket, source, objects: vec![key], count: 1, is_truncated: false }
    }
}

/// An object that the cache is to have.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CacheInput {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
}

impl Input for CacheInput {
    fn example() -> Value {
        json!({ "bucket": "photos", "key": "2026/a.jpg" })
    }

    fn check(&self) -> Result<(), ApiError> {
        bucket::check_name("bucket", &self.bucket)?;
        input::check_key("key", &self.key)
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Cached {
    /// Always true.
    pub success: bool,
    /// Bytes of the object.
    pub size: u64,
    /// Name of the source.
    pub source: String,
    /// What was done.
    pub message: String,
}

impl Cached {
    /// An answer for the description.
    pub fn example() -> Self {
        let (source, message) = ("upstream".into(), "object fetched".into());
        Cached { success: true, size: 5, source, message }
    }
}

/// How the cache stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct CacheState {
    /// Always `lru`.
    pub strategy: String,
    /// Whether anything is kept.
    pub enabled: bool,
    /// What it may hold, in bytes.
    pub max_size: u64,
    /// What it holds, in bytes.
    pub size: u64,
    /// Objects.
    pub entries: u64,
    /// Answered out of it.
    pub hits: u64,
    /// Asked in vain.
    pub misses: u64,
    /// Thrown out.
    pub evicted: u64,
}

impl CacheState {
    /// A cache for the description.
    pub fn example() -> Self {
        CacheState::from(Stats { cache_limit: 32 << 20, ..Stats::default() })
    }
}

impl From<Stats> for CacheState {
    fn from(stats: Stats) -> Self {
        CacheState {
            strategy: "lru".into(),
            enabled: stats.cache_limit > 0,
            max_size: stats.cache_limit,
            size: stats.cache_bytes,
            entries: stats.cache_entries,
            hits: stats.cache_hits,
            misses: stats.cache_misses,
            evicted: stats.cache_evicted,
        }
    }
}

/// Counts of this instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Figures {
    /// `third-party-service`.
    pub service: String,
    /// Objects asked for.
    pub total_requests: u64,
    /// Found, cache included.
    pub successful_requests: u64,
    /// Not there.
    pub not_found_requests: u64,
    /// Failed: no source could be asked, or all failed.
    pub failed_requests: u64,
    /// Answered out of the cache.
    pub cache_hits: u64,
    /// Asked of the cache in vain.
    pub cache_misses: u64,
    /// What bodies being checked occupy on disk now, in bytes.
    pub spool_bytes: u64,
    /// Fetches under way.
    pub active_fetches: u64,
    /// Sources.
    pub datasources: usize,
    /// Time of the answer.
    pub timestamp: String,
}

#[cfg(test)]
mod tests;
