//! Objects of the sources over JSON: their bytes, descriptions and keys; the cache; counts.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::model::{CacheInput, CacheState, Cached, Figures, ListedKey, Listing, Metadata};
use super::sources::unexpected;
use crate::actors::third_party::message::{
    Body as Bytes, Message, Mode, Open, Opened, Reply, Stats,
};
use crate::cluster::{Scope, To};
use crate::http::admin::rfc3339;
use crate::http::error::ApiError;
use crate::http::json::input::check_range;
use crate::http::json::{
    Body, CALL_LIMIT, JsonEnv, ObjectPath, Params, ParamsInput, RequestScope, bucket, head as maps,
};
use crate::objects::fallback::third_party::bytes;
use crate::types::{Service, now_ms};

/// Says that the object came from outside.
const SOURCE_FLAG: HeaderName = HeaderName::from_static("x-third-party-source");
/// The name of the source.
const SOURCE_NAME: HeaderName = HeaderName::from_static("x-third-party-name");
/// `hit` or `miss`.
const CACHE: HeaderName = HeaderName::from_static("x-cache");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Asks the service's actor, that of this node first.
pub async fn ask(env: &JsonEnv, scope: &Scope, message: Message) -> Result<Reply, ApiError> {
    Ok(env.objects.cluster.call(scope, To::Any, message).await??)
}

async fn open(
    env: &JsonEnv,
    scope: RequestScope,
    path: &ObjectPath,
    mode: Mode,
) -> Result<Option<Opened>, ApiError> {
    let (bucket, key) = (path.bucket.clone(), path.key.clone());
    let open = Open { bucket, key, expect: None, source: None, mode };
    match ask(env, &scope.with(CALL_LIMIT), Message::Open(open)).await? {
        Reply::Opened(opened) => Ok(Some(*opened)),
        Reply::Absent => Ok(None),
        _ => Err(unexpected()),
    }
}

/// `GET /api/v1/objects/{bucket}/{key}`.
pub async fn fetch(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
) -> Result<Response, ApiError> {
    let Some(mut opened) = open(&env, scope, &path, Mode::Stream).await? else {
        return Ok(absent(scope, &path));
    };
    let body = std::mem::replace(&mut opened.body, Bytes::None);
    let body = axum::body::Body::from_stream(bytes(env.objects.data.clone(), body));
    Ok(answer(&opened, body))
}

/// `HEAD /api/v1/objects/{bucket}/{key}`.
pub async fn head(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
) -> Result<Response, ApiError> {
    match open(&env, scope, &path, Mode::Head).await? {
        Some(opened) => Ok(answer(&opened, axum::body::Body::empty())),
        None => Ok(absent(scope, &path)),
    }
}

/// The one error body, with the further fields that the original gave here.
fn absent(scope: RequestScope, path: &ObjectPath) -> Response {
    let id = uuid::Uuid::from_u128(scope.with(CALL_LIMIT).request_id).to_string();
    let error = ApiError { request_id: id, ..ApiError::unknown("no source has this object") };
    let mut body = json!(error);
    body["message"] = json!("object not found in any third-party source");
    body["bucket"] = json!(path.bucket);
    body["key"] = json!(path.key);
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

fn answer(opened: &Opened, body: axum::body::Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = opened.head.content_type.as_deref().unwrap_or("application/octet-stream");
    put(headers, header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, opened.size.into());
    put(headers, header::ETAG, &opened.etag);
    if let Some(md5) = opened.md5 {
        put(headers, CONTENT_MD5, &hex::encode(md5));
    }
    if let Some(at) = opened.last_modified_ms {
        put(headers, header::LAST_MODIFIED, &http_date(at));
    }
    put(headers, SOURCE_FLAG, "true");
    put(headers, SOURCE_NAME, &opened.source);
    put(headers, CACHE, if opened.cached { "hit" } else { "miss" });
    for (name, value) in maps::to_map(&opened.head) {
        if let Ok(name) = HeaderName::try_from(name) {
            put(headers, name, &value);
        }
    }
    response
}

/// Sets a header, unless it is there or cannot be.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.entry(name).or_insert(value);
    }
}

/// A date as HTTP writes it (RFC 9110, IMF-fixdate).
fn http_date(at_ms: u64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp((at_ms / 1000) as i64).ok();
    let text = time.and_then(|t| t.format(&time::format_description::well_known::Rfc2822).ok());
    text.unwrap_or_default().replace("+0000", "GMT")
}

/// `GET /api/v1/metadata/{bucket}/{key}`.
pub async fn metadata(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
) -> Result<Response, ApiError> {
    match open(&env, scope, &path, Mode::Head).await? {
        Some(opened) => Ok(Json(Metadata::new(&path, opened)).into_response()),
        None => Ok(absent(scope, &path)),
    }
}

/// Parameters of a list of keys.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ListParams {
    /// Bucket name.
    #[param(example = "photos")]
    bucket: String,
    /// Only keys that begin so.
    #[serde(default)]
    #[param(example = "2026/")]
    prefix: String,
    /// Keys after this one.
    #[param(example = "2026/0")]
    start_after: Option<String>,
    /// Only this source; else the first S3 source that answers.
    #[param(example = "upstream")]
    source: Option<String>,
    /// At most so many, 1 to 100.
    #[serde(default = "page", alias = "max_keys")]
    #[param(example = 100)]
    limit: u32,
}

fn page() -> u32 {
    100
}

impl ParamsInput for ListParams {
    const EXAMPLE: &'static str = "?bucket=photos&prefix=2026/&limit=100";

    fn check(&self) -> Result<(), ApiError> {
        bucket::check_name("bucket", &self.bucket)?;
        check_range("limit", self.limit, 1, 100)
    }
}

/// `GET /api/v1/objects`.
pub async fn list(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Params(params): Params<ListParams>,
) -> Result<Json<Listing>, ApiError> {
    let ListParams { bucket, prefix, start_after: after, source, limit: max } = params;
    let message = Message::List { bucket: bucket.clone(), prefix, source, after, max };
    let listed = match ask(&env, &scope.with(CALL_LIMIT), message).await? {
        Reply::Listed(listed) => listed,
        Reply::Absent => return Err(ApiError::unknown("no S3 source has this bucket")),
        _ => return Err(unexpected()),
    };
    let objects: Vec<ListedKey> = listed
        .objects
        .into_iter()
        .map(|o| ListedKey {
            key: o.key,
            size: o.size,
            etag: o.etag,
            last_modified: o.last_modified,
        })
        .collect();
    let (count, is_truncated) = (objects.len(), listed.truncated);
    Ok(Json(Listing { bucket, source: listed.source, objects, count, is_truncated }))
}

async fn counts(env: &JsonEnv, scope: RequestScope) -> Result<Stats, ApiError> {
    match ask(env, &scope.with(CALL_LIMIT), Message::Stats).await? {
        Reply::Stats(stats) => Ok(stats),
        _ => Err(unexpected()),
    }
}

/// `GET /api/v1/stats`.
pub async fn stats(
    State(env): State<JsonEnv>,
    scope: RequestScope,
) -> Result<Json<Figures>, ApiError> {
    let stats = counts(&env, scope).await?;
    let sources = match ask(&env, &scope.with(CALL_LIMIT), Message::Sources).await? {
        Reply::Sources(sources) => sources.len(),
        _ => return Err(unexpected()),
    };
    Ok(Json(Figures {
        service: Service::ThirdParty.name().into(),
        total_requests: stats.requests,
        successful_requests: stats.found,
        not_found_requests: stats.absent,
        failed_requests: stats.failed,
        cache_hits: stats.cache_hits,
        cache_misses: stats.cache_misses,
        spool_bytes: stats.spool_bytes,
        active_fetches: stats.fetching,
        datasources: sources,
        timestamp: rfc3339(now_ms()),
    }))
}

/// `GET /api/v1/cache`.
pub async fn cache(
    State(env): State<JsonEnv>,
    scope: RequestScope,
) -> Result<Json<CacheState>, ApiError> {
    Ok(Json(counts(&env, scope).await?.into()))
}

/// `POST /api/v1/cache`.
pub async fn warm(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Body(CacheInput { bucket, key }): Body<CacheInput>,
) -> Result<Response, ApiError> {
    let path = ObjectPath { bucket, key };
    let Some(opened) = open(&env, scope, &path, Mode::Stream).await? else {
        return Ok(absent(scope, &path));
    };
    let message = "object fetched".into();
    let cached = Cached { success: true, size: opened.size, source: opened.source, message };
    Ok(Json(cached).into_response())
}

/// `DELETE /api/v1/cache/{bucket}/{key}`.
pub async fn evict(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    ObjectPath { bucket, key }: ObjectPath,
) -> Result<StatusCode, ApiError> {
    match ask(&env, &scope.with(CALL_LIMIT), Message::Evict { bucket, key }).await? {
        Reply::Evicted(true) => Ok(StatusCode::NO_CONTENT),
        Reply::Evicted(false) => Err(ApiError::unknown("the cache does not have this object")),
        _ => Err(unexpected()),
    }
}
