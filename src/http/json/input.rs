//! What comes in: JSON bodies, query parameters, bucket and key out of the path.
//!
//! Used by the handlers of all JSON APIs as axum extractors.
//!
//! - `INPUT-1` 400 = cannot be parsed (no JSON, no number where one must stand, no UTF-8); 422 =
//!   parsed, but a field is missing, of the wrong type or out of its bounds;
//! - `INPUT-2` every refusal names the field, the reason, and an example that would be right;
//! - `INPUT-3` a body is refused as soon as its declared length is over the limit, and never read
//!   beyond it.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::error::Category;

use super::bucket;
use crate::actors::metadata::model::MAX_KEY_BYTES;
use crate::http::error::ApiError;

/// A JSON body.
pub trait Input: DeserializeOwned + Send {
    /// The largest body, in bytes.
    const LIMIT: u64 = 256 * 1024;

    /// A body that is right; also the example in the API description.
    fn example() -> Value;

    /// Finds what types alone cannot say.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

/// Query parameters.
pub trait ParamsInput: DeserializeOwned + Send {
    /// A query that is right.
    const EXAMPLE: &'static str;

    /// Finds what types alone cannot say.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

/// Takes the JSON body of a request.
pub struct Body<T>(pub T);

/// Takes the query parameters of a request.
pub struct Params<T>(pub T);

/// Takes `/{bucket}/{*key}` out of the path; slashes of the key may be raw or `%2F`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPath {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
}

/// Takes the one parameter of a path such as `/tasks/{id}`.
pub struct Segment(pub String);

impl<S: Send + Sync, T: Input> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let declared = content_length(request.headers());
        let bytes = read(request.into_body(), declared, T::LIMIT).await?;
        parse(&bytes).map(Body)
    }
}

impl<S: Send + Sync, T: ParamsInput> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        if let Some(bad) = broken_escape(query) {
            let reason = format!("the query holds bytes that are no UTF-8, at {bad:?}");
            return Err(ApiError::malformed("query", reason, T::EXAMPLE));
        }
        let Query(params) = Query::<T>::try_from_uri(&parts.uri)
            .map_err(|e| refused_query(&e.body_text(), T::EXAMPLE))?;
        params.check()?;
        Ok(Params(params))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ObjectPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((bucket, key)) =
            path.map_err(|e| ApiError::malformed("path", e.body_text(), "/photos/2026/a.jpg"))?;
        bucket::check_name("bucket", &bucket)?;
        check_key("key", &key)?;
        Ok(ObjectPath { bucket, key })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|e| ApiError::malformed("path", e.body_text(), "/photos"))?;
        Ok(Segment(text))
    }
}

/// Refuses keys that no object can have.
///
/// # Errors
/// What is wrong.
pub fn check_key(field: &str, key: &str) -> Result<(), ApiError> {
    let wrong = |why: String| Err(ApiError::invalid(field, why, "2026/a.jpg"));
    match key.len() {
        0 => wrong("a key has at least one byte".into()),
        len if len > MAX_KEY_BYTES => {
            wrong(format!("the key has {len} bytes, at most {MAX_KEY_BYTES} are possible"))
        }
        _ => Ok(()),
    }
}

/// Refuses a number outside of its bounds.
///
/// # Errors
/// The field with its bounds.
pub fn check_range(field: &str, value: u32, from: u32, to: u32) -> Result<(), ApiError> {
    if (from..=to).contains(&value) {
        return Ok(());
    }
    let example = format!("{field}={}", to.min(100));
    Err(ApiError::invalid(field, format!("{value} is not between {from} and {to}"), &example))
}

/// Refuses a page size of nothing. There is no upper bound: what is over the largest page is cut to
/// it, as S3 does with `max-keys`.
///
/// # Errors
/// The field.
pub fn check_limit(field: &str, value: u32) -> Result<(), ApiError> {
    match value {
        0 => Err(ApiError::invalid(field, "0 is no page size", &format!("{field}=100"))),
        _ => Ok(()),
    }
}

/// The declared length of a body.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// It is larger, or broke off.
pub async fn read(
    body: axum::body::Body,
    declared: Option<u64>,
    limit: u64,
) -> Result<Bytes, ApiError> {
    if declared.is_some_and(|len| len > limit) {
        return Err(ApiError::too_large(limit)); // INPUT-3
    }
    match Limited::new(body, limit as usize).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(limit))
        }
        Err(error) => {
            let reason = format!("the body broke off: {error}");
            Err(ApiError::malformed("body", reason, "a body of the declared length"))
        }
    }
}

/// Parses and checks a JSON body.
///
/// # Errors
/// INPUT-1, INPUT-2.
pub fn parse<T: Input>(bytes: &[u8]) -> Result<T, ApiError> {
    let reader = &mut serde_json::Deserializer::from_slice(bytes);
    let parsed: Result<T, _> = serde_path_to_error::deserialize(&mut *reader);
    let parsed = parsed.map_err(|e| (e.path().to_string(), e.into_inner()));
    let ended = parsed.and_then(|value| match reader.end() {
        Ok(()) => Ok(value),
        Err(e) => Err((".".to_owned(), e)),
    });
    let value = ended.map_err(|(path, error)| {
        // a type that is wrong early on hides that what follows is no JSON at all
        let whole = serde_json::from_slice::<IgnoredAny>(bytes);
        refused_body::<T>(&path, &whole.err().unwrap_or(error))
    })?;
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let example = T::example().to_string();
        return Err(ApiError::invalid("body", "it is no JSON object", &example));
    }
    value.check()?;
    Ok(value)
}

fn refused_body<T: Input>(path: &str, error: &serde_json::Error) -> ApiError {
    let example = T::example();
    let text = error.to_string();
    if error.classify() != Category::Data {
        return ApiError::malformed("body", text, &example.to_string());
    }
    let named = named_field(&text);
    let field = match (path, named) {
        (".", Some(name)) => name.to_owned(),
        (".", None) => "body".to_owned(),
        (path, Some(name)) if text.starts_with("missing field") => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    };
    let shown = example_of(&example, &field).unwrap_or(&example).to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    ApiError::invalid(&field, reason, &shown)
}

/// The part of an example that shows one field.
fn example_of<'a>(example: &'a Value, field: &str) -> Option<&'a Value> {
    field.split('.').try_fold(example, |value, step| value.get(step))
}

/// The name between backticks, as in "missing field `key`".
fn named_field(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// axum says "Failed to deserialize query string: field: reason".
fn refused_query(text: &str, example: &str) -> ApiError {
    let inner = text.split_once(": ").map_or(text, |(_, inner)| inner);
    if inner.starts_with("missing field") {
        let field = named_field(inner).unwrap_or("query");
        return ApiError::invalid(field, "it is missing", example);
    }
    match inner.split_once(": ") {
        Some((field, reason)) => ApiError::malformed(field, reason, example),
        None => ApiError::malformed("query", inner, example),
    }
}

/// The part of a query whose escapes do not give UTF-8 (axum would replace it silently).
fn broken_escape(query: &str) -> Option<&str> {
    query.split(['&', '=']).find(|part| {
        let mut bytes = Vec::with_capacity(part.len());
        let mut rest = part.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            let hex = tail.get(..2).filter(|_| *first == b'%');
            let escaped = hex.and_then(|h| hex::decode(h).ok());
            rest = if escaped.is_some() { &tail[2..] } else { tail };
            bytes.push(escaped.map_or(*first, |e| e[0]));
        }
        std::str::from_utf8(&bytes).is_err()
    })
}

/// Whether a body says that it is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
