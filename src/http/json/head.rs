//! Headers and tags of an object, as JSON maps and as the catalog keeps them.
//!
//! Used by the JSON APIs of metadata, storage and queue. Plain functions.
//!
//! - `HEAD-1` what goes in comes out: standard headers under their names, `x-amz-meta-*` as user
//!   metadata, other names as user metadata that comes out under the bare name if it begins with
//!   `x-`, else as `x-amz-meta-*`;
//! - `HEAD-2` headers that describe the transfer or the bytes (`Content-Length`, `ETag`, ...) are
//!   computed, never taken from a map; those that could carry secrets are dropped.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::actors::metadata::model::{ObjectHead, Tag, UserMetadata};
use crate::http::error::ApiError;

/// A map of headers or tags.
pub type TextMap = BTreeMap<String, String>;

/// The most user metadata of an object, in bytes of names and values (S3: 2 KiB).
const MAX_USER_BYTES: usize = 2048;
/// The most tags of an object (S3: 10).
const MAX_TAGS: usize = 10;
/// The longest name and value of a tag, in characters (S3).
const MAX_TAG: (usize, usize) = (128, 256);
/// HEAD-2.
const COMPUTED: [&str; 12] = [
    "authorization",
    "connection",
    "content-length",
    "content-md5",
    "cookie",
    "date",
    "etag",
    "host",
    "last-modified",
    "set-cookie",
    "transfer-encoding",
    "x-request-id",
];

/// The headers of a map as the catalog keeps them; `content_type` wins over a header of that name.
///
/// # Errors
/// A name or value that cannot stand in HTTP, or too much user metadata.
pub fn from_map(map: &TextMap, content_type: Option<&str>) -> Result<ObjectHead, ApiError> {
    let mut head = ObjectHead::default();
    for (name, value) in map {
        put(&mut head, name, value)?;
    }
    if let Some(kind) = content_type.filter(|t| !t.is_empty()) {
        check_value("content_type", kind)?;
        head.content_type = Some(kind.to_owned());
    }
    let bytes: usize = head.user.iter().map(|u| u.name.len() + u.value.len()).sum();
    if bytes > MAX_USER_BYTES {
        let reason = format!("user metadata has {bytes} bytes, at most {MAX_USER_BYTES} fit");
        return Err(ApiError::invalid("headers", reason, r#"{"x-amz-meta-color":"red"}"#));
    }
    Ok(head)
}

fn put(head: &mut ObjectHead, name: &str, value: &str) -> Result<(), ApiError> {
    let field = format!("headers.{name}");
    let lower = name.to_ascii_lowercase();
    if HeaderName::try_from(&lower).is_err() {
        let reason = "it is no name of an HTTP header";
        return Err(ApiError::invalid(&field, reason, r#"{"x-amz-meta-color":"red"}"#));
    }
    if COMPUTED.contains(&lower.as_str()) {
        return Ok(()); // HEAD-2
    }
    check_value(&field, value)?;
    if let Some(place) = standard(head, &lower) {
        *place = Some(value.to_owned());
        return Ok(());
    }
    let name = lower.strip_prefix("x-amz-meta-").unwrap_or(&lower).to_owned();
    head.user.push(UserMetadata { name, value: value.to_owned() });
    Ok(())
}

fn standard<'a>(head: &'a mut ObjectHead, lower: &str) -> Option<&'a mut Option<String>> {
    match lower {
        "content-type" => Some(&mut head.content_type),
        "cache-control" => Some(&mut head.cache_control),
        "content-disposition" => Some(&mut head.content_disposition),
        "content-encoding" => Some(&mut head.content_encoding),
        "content-language" => Some(&mut head.content_language),
        "expires" => Some(&mut head.expires),
        "x-amz-website-redirect-location" => Some(&mut head.website_redirect),
        _ => None,
    }
}

fn check_value(field: &str, value: &str) -> Result<(), ApiError> {
    if value.len() <= 4096 && HeaderValue::from_str(value).is_ok() {
        return Ok(());
    }
    let reason = "it is longer than 4096 bytes or holds control characters";
    Err(ApiError::invalid(field, reason, "text/plain"))
}

/// The headers of an object as a map, without the content type, which has a field of its own.
pub fn to_map(head: &ObjectHead) -> TextMap {
    let named = [
        ("cache-control", &head.cache_control),
        ("content-disposition", &head.content_disposition),
        ("content-encoding", &head.content_encoding),
        ("content-language", &head.content_language),
        ("expires", &head.expires),
        ("x-amz-website-redirect-location", &head.website_redirect),
    ];
    let standard = named.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v.clone()?)));
    let user = head.user.iter().map(|u| (shown_name(&u.name), u.value.clone()));
    standard.chain(user).collect()
}

/// HEAD-1.
fn shown_name(name: &str) -> String {
    let bare = name.starts_with("x-") && !name.starts_with("x-amz-");
    if bare { name.to_owned() } else { format!("x-amz-meta-{name}") }
}

/// Tags of a map as the catalog keeps them.
///
/// # Errors
/// Too many, or too long.
pub fn tags_from_map(map: &TextMap) -> Result<Vec<Tag>, ApiError> {
    let example = r#"{"project":"alpha"}"#;
    if map.len() > MAX_TAGS {
        let reason = format!("{} tags are given, at most {MAX_TAGS} are possible", map.len());
        return Err(ApiError::invalid("tags", reason, example));
    }
    let fits = |text: &str, most: usize| text.chars().count() <= most;
    for (key, value) in map {
        if key.is_empty() || !fits(key, MAX_TAG.0) || !fits(value, MAX_TAG.1) {
            let field = format!("tags.{key}");
            let (key, value) = MAX_TAG;
            let reason = format!("a name has 1 to {key} characters, a value at most {value}");
            return Err(ApiError::invalid(&field, reason, example));
        }
    }
    Ok(map.iter().map(|(key, value)| Tag { key: key.clone(), value: value.clone() }).collect())
}

/// Tags as a map.
pub fn tags_to_map(tags: &[Tag]) -> TextMap {
    tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[(&str, &str)]) -> TextMap {
        rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn headers_come_out_as_they_went_in_and_computed_ones_are_dropped() {
        let given = map(&[
            ("Cache-Control", "no-cache"),
            ("x-amz-meta-color", "red"),
            ("X-Origin", "camera"),
            ("author", "me"),
            ("Content-Length", "99"),
            ("Authorization", "Bearer secret"),
        ]);
        let head = from_map(&given, Some("image/png")).unwrap();
        assert_eq!(head.content_type.as_deref(), Some("image/png"));
        let expected = map(&[
            ("cache-control", "no-cache"),
            ("x-amz-meta-author", "me"),
            ("x-amz-meta-color", "red"),
            ("x-origin", "camera"),
        ]);
        assert_eq!(to_map(&head), expected); // HEAD-1, HEAD-2
        assert_eq!(to_map(&from_map(&expected, None).unwrap()), expected, "and again");
    }

    #[test]
    fn what_cannot_stand_in_http_is_refused() {
        let long = "x".repeat(MAX_USER_BYTES);
        for (name, value) in [("a b", "x"), ("x-a", "line\nbreak"), ("", "x"), ("x-a", &long)] {
            let error = from_map(&map(&[(name, value)]), None).unwrap_err();
            assert_eq!(error.code, 422, "{name:?}");
        }
        assert_eq!(from_map(&map(&[]), Some("a\r\nb")).unwrap_err().code, 422);
    }

    #[test]
    fn tags_are_bounded_as_in_s3() {
        let many: TextMap = (0..11).map(|i| (format!("k{i}"), String::new())).collect();
        let (long, value) = ("k".repeat(129), "v".repeat(257));
        for bad in [many, map(&[("", "v")]), map(&[(&long, "v")]), map(&[("k", &value)])] {
            assert_eq!(tags_from_map(&bad).unwrap_err().code, 422);
        }
        let good = map(&[("a", "1"), ("b", "")]);
        assert_eq!(tags_to_map(&tags_from_map(&good).unwrap()), good);
    }
}
