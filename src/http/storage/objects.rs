//! Single objects in and out.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;

use super::model::{UploadRequest, UploadResponse};
use crate::actors::metadata::query::ObjectInfo;
use crate::cluster::Scope;
use crate::http::error::ApiError;
use crate::http::json::head::{self, TextMap};
use crate::http::json::object::{self, NewUpload, UPLOAD_LIMIT};
use crate::http::json::{
    CALL_LIMIT, JsonEnv, ObjectPath, Params, ParamsInput, RequestScope, TRANSFER_LIMIT, input,
};
use crate::objects::body::{Expect, MAX_PUT_BYTES};
use crate::objects::error::BodyError;
use crate::objects::get::{self, GetRequest};
use crate::objects::put::Written;
use crate::objects::request;

/// `POST /api/v1/objects`.
pub async fn create(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    request: Request,
) -> Result<(StatusCode, Json<UploadResponse>), ApiError> {
    let declared = input::content_length(request.headers());
    check_declared(declared)?;
    let _room = object::room(&env, declared).await?;
    let upload = read_json(request, declared).await?;
    let path = upload.path()?;
    let stored = store_json(&env, scope, path, upload).await?;
    Ok((StatusCode::CREATED, Json(stored)))
}

/// Parameters of a PUT.
#[derive(Debug, Deserialize, IntoParams)]
pub struct PutParams {
    /// Takes the body as bytes even where it says that it is JSON.
    #[serde(default)]
    #[param(example = false)]
    raw: bool,
}

impl ParamsInput for PutParams {
    const EXAMPLE: &'static str = "?raw=true";
}

/// `PUT /api/v1/objects/{bucket}/{key}` (STAPI-2).
pub async fn replace(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
    Params(params): Params<PutParams>,
    request: Request,
) -> Result<(StatusCode, Json<UploadResponse>), ApiError> {
    let declared = input::content_length(request.headers());
    if params.raw || !input::is_json(request.headers()) {
        let stored = store_raw(&env, scope, path, declared, request).await?;
        return Ok((StatusCode::CREATED, Json(stored)));
    }
    check_declared(declared)?;
    let _room = object::room(&env, declared).await?;
    let upload = read_json(request, declared).await?;
    Ok((StatusCode::OK, Json(store_json(&env, scope, path, upload).await?)))
}

/// Before memory is waited for.
fn check_declared(declared: Option<u64>) -> Result<(), ApiError> {
    match declared {
        Some(len) if len > UPLOAD_LIMIT => Err(ApiError {
            example: Some("PUT the bytes as application/octet-stream".into()),
            ..ApiError::too_large(UPLOAD_LIMIT)
        }),
        _ => Ok(()),
    }
}

async fn read_json(request: Request, declared: Option<u64>) -> Result<UploadRequest, ApiError> {
    let bytes = input::read(request.into_body(), declared, UPLOAD_LIMIT).await?;
    input::parse(&bytes)
}

async fn store_json(
    env: &JsonEnv,
    scope: RequestScope,
    path: ObjectPath,
    upload: UploadRequest,
) -> Result<UploadResponse, ApiError> {
    let headers = upload.headers.unwrap_or_default();
    let head = head::from_map(&headers, upload.content_type.as_deref())?;
    let tags = head::tags_from_map(&upload.tags.unwrap_or_default())?;
    let (body, expect) = object::body_of(upload.data.0);
    let new = NewUpload { path: path.clone(), head, tags, body, expect };
    let written = store(env, scope, new).await?;
    Ok(UploadResponse::new(&path, written))
}

async fn store_raw(
    env: &JsonEnv,
    scope: RequestScope,
    path: ObjectPath,
    declared: Option<u64>,
    request: Request,
) -> Result<UploadResponse, ApiError> {
    if declared.is_some_and(|len| len > MAX_PUT_BYTES) {
        return Err(ApiError::too_large(MAX_PUT_BYTES));
    }
    let head = head::from_map(&described(request.headers()), None)?;
    let md5 = content_md5(request.headers())?;
    let broken = |e: axum::Error| BodyError::Broken(e.to_string());
    let body = request.into_body().into_data_stream().map(move |item| item.map_err(broken));
    let expect = Expect { len: declared, md5, ..Expect::default() };
    let new =
        NewUpload { path: path.clone(), head, tags: Vec::new(), body: Box::pin(body), expect };
    let written = store(env, scope, new).await?;
    Ok(UploadResponse::new(&path, written))
}

/// STAPI-1.
async fn store(env: &JsonEnv, scope: RequestScope, new: NewUpload) -> Result<Written, ApiError> {
    let (inner, scope) = (env.clone(), scope.with(TRANSFER_LIMIT));
    let work = async move { object::store(&inner, &scope, new).await };
    Ok(request::run(&env.objects, "json_put", work).await.map_err(gone)??)
}

fn gone(_: request::Gone) -> ApiError {
    ApiError::overload("the request was ended")
}

/// The headers of a raw upload that belong to the object.
fn described(headers: &HeaderMap) -> TextMap {
    let own = |name: &str| {
        name.starts_with("x-amz-meta-")
            || matches!(name, "content-type" | "cache-control" | "content-disposition")
            || matches!(name, "content-encoding" | "content-language" | "expires")
    };
    let pairs = headers.iter().filter(|(name, _)| own(name.as_str()));
    let text = |v: &HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    pairs.map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// `Content-MD5`: base64 as HTTP has it, or hex as the original's answers have it.
fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, ApiError> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let bytes = if text.len() == 32 { hex::decode(text).ok() } else { STANDARD.decode(text).ok() };
    let md5 = bytes.and_then(|b| b.try_into().ok());
    let wrong = || {
        let reason = "it is no MD5 in base64 or hex";
        ApiError::invalid("Content-MD5", reason, "XUFAKrxLKna5cZ2REBfFkg==")
    };
    md5.map(Some).ok_or_else(wrong)
}

/// `GET /api/v1/objects/{bucket}/{key}`.
pub async fn fetch(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
) -> Result<Response, ApiError> {
    let (inner, scope) = (env.objects.clone(), scope.with(TRANSFER_LIMIT));
    let wanted = wanted(&env, path);
    let work = async move { get::get(&inner, &scope, wanted).await };
    let (done, body) = request::run(&env.objects, "json_get", work).await.map_err(gone)??;
    Ok(answer(&done.info, axum::body::Body::from_stream(body)))
}

/// `HEAD /api/v1/objects/{bucket}/{key}`.
pub async fn head(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
) -> Result<Response, ApiError> {
    let scope: Scope = scope.with(CALL_LIMIT);
    let done = get::head(&env.objects, &scope, wanted(&env, path)).await?;
    Ok(answer(&done.info, axum::body::Body::empty()))
}

fn wanted(env: &JsonEnv, path: ObjectPath) -> GetRequest {
    let ObjectPath { bucket, key } = path;
    GetRequest { bucket, key, caller: env.owner.to_string(), ..GetRequest::default() }
}

/// `DELETE /api/v1/objects/{bucket}/{key}`.
pub async fn delete(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
) -> Result<StatusCode, ApiError> {
    let (inner, scope) = (env.clone(), scope.with(CALL_LIMIT));
    let work = async move { object::delete(&inner, &scope, path).await };
    request::run(&env.objects, "json_delete", work).await.map_err(gone)??;
    Ok(StatusCode::NO_CONTENT)
}

fn answer(info: &ObjectInfo, body: axum::body::Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = info.head.content_type.as_deref().unwrap_or("application/octet-stream");
    put(headers, header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, info.size.into());
    put(headers, header::ETAG, &info.etag);
    put(headers, header::LAST_MODIFIED, &http_date(info.last_modified_ms));
    if !info.etag.contains('-') {
        put(headers, HeaderName::from_static("content-md5"), &info.etag);
    }
    for (name, value) in head::to_map(&info.head) {
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

/// `Sat, 31 Jan 2026 12:00:00 GMT` (RFC 9110, section 5.6.7).
fn http_date(at_ms: u64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp((at_ms / 1000) as i64).ok();
    let text = time.and_then(|t| t.format(&time::format_description::well_known::Rfc2822).ok());
    text.unwrap_or_default().replace("+0000", "GMT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::metadata::model::{ObjectHead, UserMetadata};

    #[test]
    fn an_md5_is_taken_in_base64_and_in_hex() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-md5", text.parse().unwrap());
            content_md5(&headers).map_err(|e| (e.code, e.field.unwrap_or_default()))
        };
        let md5 = md5::compute("hello").0;
        assert_eq!(read("XUFAKrxLKna5cZ2REBfFkg=="), Ok(Some(md5)));
        assert_eq!(read("5d41402abc4b2a76b9719d911017c592"), Ok(Some(md5)));
        for text in ["", "abc", "zd41402abc4b2a76b9719d911017c592", "aGVsbG8="] {
            assert_eq!(read(text), Err((422, "Content-MD5".to_owned())), "{text}");
        }
        assert_eq!(content_md5(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn an_answer_carries_the_headers_of_the_original() {
        let user = |name: &str| UserMetadata { name: name.into(), value: "v".into() };
        let head = ObjectHead {
            content_type: Some("image/png".into()),
            user: vec![user("color"), user("x-origin"), user("x-request-id")],
            ..ObjectHead::default()
        };
        let info = ObjectInfo {
            row: 1,
            version_id: None,
            latest: true,
            size: 5,
            etag: "5d41402abc4b2a76b9719d911017c592".into(),
            last_modified_ms: 1_769_860_800_000,
            owner: String::new(),
            storage_class: String::new(),
            head,
            tags: Vec::new(),
            checksum: None,
            parts_count: 0,
        };
        let response = answer(&info, axum::body::Body::empty());
        let shown = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(shown("content-type"), "image/png");
        assert_eq!((shown("content-length"), shown("etag")), ("5".into(), info.etag.clone()));
        assert_eq!(shown("content-md5"), info.etag, "hex, as the original had it");
        assert_eq!(shown("last-modified"), "Sat, 31 Jan 2026 12:00:00 GMT");
        assert_eq!((shown("x-amz-meta-color"), shown("x-origin")), ("v".into(), "v".into()));
    }
}
