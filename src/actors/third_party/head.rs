//! What a source says of an object in the head of its answer. Pure.
//!
//! - `HEAD-1` an MD5 is believed to be declared only where the source says so: `Content-MD5`, or
//!   an S3 ETag of 32 hex digits whose object is not encrypted with other keys;
//! - `HEAD-2` a body without a length is taken only where its end can be told from a break
//!   (chunks).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode, header};

use super::message::HEAD_LIMIT;
use crate::actors::metadata::model::{ObjectHead, UserMetadata};
use crate::config::SourceKind;
use crate::types::UnixMillis;

/// What the status of an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object follows.
    Found,
    /// The source works and does not have it.
    Absent,
    /// The source fails; asking again may help.
    Again,
    /// The source refuses; asking again will not help.
    Refused,
}

/// Judges a status. Redirects, partial content and the like are no objects.
pub fn judge(status: StatusCode) -> Verdict {
    match status {
        StatusCode::OK => Verdict::Found,
        StatusCode::NOT_FOUND | StatusCode::GONE => Verdict::Absent,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Verdict::Again,
        status if status.is_server_error() => Verdict::Again,
        _ => Verdict::Refused,
    }
}

/// What is known of an object before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Bytes, where they were declared.
    pub size: Option<u64>,
    /// ETag without quotes and `W/`.
    pub etag: Option<String>,
    /// Its MD5, where it was declared (HEAD-1).
    pub md5: Option<[u8; 16]>,
    /// When it was changed.
    pub last_modified_ms: Option<UnixMillis>,
    /// Headers and user metadata.
    pub head: ObjectHead,
}

/// Reads the head of an answer. `head_only`: there is no body whose end must be found.
///
/// # Errors
/// Why the object cannot be taken.
pub fn read(kind: SourceKind, headers: &HeaderMap, head_only: bool) -> Result<Facts, String> {
    let text = |name: header::HeaderName| {
        let value = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
    };
    let size = text(header::CONTENT_LENGTH).map(|t| t.parse().map_err(|_| "bad content-length"));
    let size: Option<u64> = size.transpose()?;
    let etag = text(header::ETAG).map(|t| t.trim_start_matches("W/").trim_matches('"').to_owned());
    let etag = etag.filter(|e| !e.is_empty() && e.len() <= 256);
    let chunked = text(header::TRANSFER_ENCODING).is_some_and(|t| t.ends_with("chunked"));
    let md5 = declared_md5(kind, headers, etag.as_deref());
    if !head_only && size.is_none() && !chunked && md5.is_none() {
        return Err("the source declares neither length nor md5 nor chunks".into()); // HEAD-2
    }
    let last_modified_ms = text(header::LAST_MODIFIED).and_then(|t| http_date(&t));
    Ok(Facts { size, etag, md5, last_modified_ms, head: object_head(headers)? })
}

fn declared_md5(kind: SourceKind, headers: &HeaderMap, etag: Option<&str>) -> Option<[u8; 16]> {
    let value = headers.get("content-md5").and_then(|v| v.to_str().ok());
    if let Some(value) = value {
        let base64 = BASE64_STANDARD.decode(value).ok().and_then(|v| v.try_into().ok());
        return base64.or_else(|| hex::decode(value).ok()?.try_into().ok()); // hex: older MockS3
    }
    let algorithm = headers.get("x-amz-server-side-encryption").map(|v| v.as_bytes());
    let foreign_keys = algorithm.is_some_and(|a| a != b"AES256")
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
    if kind != SourceKind::S3 || foreign_keys {
        return None;
    }
    hex::decode(etag?).ok()?.try_into().ok()
}

fn object_head(headers: &HeaderMap) -> Result<ObjectHead, String> {
    let mut bytes = 0;
    let mut text = |name: &str| {
        let value = String::from_utf8(headers.get(name)?.as_bytes().to_vec()).ok()?;
        bytes += value.len();
        Some(value)
    };
    let mut head = ObjectHead {
        content_type: text("content-type"),
        cache_control: text("cache-control"),
        content_disposition: text("content-disposition"),
        content_encoding: text("content-encoding").filter(|e| e != "identity"),
        content_language: text("content-language"),
        expires: text("expires"),
        website_redirect: None,
        user: Vec::new(),
    };
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("x-amz-meta-") else { continue };
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else { continue };
        bytes += name.len() + value.len();
        head.user.push(UserMetadata { name: name.to_owned(), value: value.to_owned() });
    }
    if bytes > HEAD_LIMIT {
        return Err(format!("headers of {bytes} bytes exceed {HEAD_LIMIT}"));
    }
    Ok(head)
}

/// A date as HTTP writes it (RFC 9110, IMF-fixdate), which is one of RFC 2822.
fn http_date(text: &str) -> Option<UnixMillis> {
    let format = &time::format_description::well_known::Rfc2822;
    let time = time::OffsetDateTime::parse(text, format).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn what_an_s3_source_says_is_understood() {
        let md5 = md5::compute(b"x");
        let etag = format!("\"{md5:x}\"");
        let facts = read(
            SourceKind::S3,
            &headers(&[
                ("content-length", "1"),
                ("etag", &etag),
                ("last-modified", "Tue, 15 Nov 1994 08:12:31 GMT"),
                ("content-type", "text/plain"),
                ("x-amz-meta-color", "red"),
            ]),
            false,
        )
        .unwrap();
        assert_eq!((facts.size, facts.md5), (Some(1), Some(md5.0)));
        assert_eq!(facts.last_modified_ms, Some(784_887_151_000));
        assert_eq!(facts.head.content_type.as_deref(), Some("text/plain"));
        assert_eq!((&*facts.head.user[0].name, &*facts.head.user[0].value), ("color", "red"));
    }

    #[test]
    fn an_md5_is_known_only_where_it_was_declared() {
        let hex = format!("{:x}", md5::compute(b"x"));
        let base64 = BASE64_STANDARD.encode(md5::compute(b"x").0);
        type Lines<'a> = &'a [(&'static str, &'a str)];
        let rows: [(SourceKind, Lines<'_>, bool); 7] = [
            (SourceKind::S3, &[("etag", &hex)], true),
            (SourceKind::Http, &[("etag", &hex)], false),
            (SourceKind::S3, &[("etag", "0123-2")], false),
            (SourceKind::Http, &[("content-md5", &base64)], true),
            (SourceKind::Http, &[("content-md5", &hex)], true),
            (SourceKind::S3, &[("etag", &hex), ("x-amz-server-side-encryption", "aws:kms")], false),
            (SourceKind::S3, &[("etag", &hex), ("x-amz-server-side-encryption", "AES256")], true),
        ];
        for (kind, lines, known) in rows {
            let facts = read(kind, &headers(lines), true).unwrap();
            assert_eq!(facts.md5.is_some(), known, "{kind:?} {lines:?}"); // HEAD-1
        }
    }

    #[test]
    fn a_body_whose_end_cannot_be_told_from_a_break_is_refused() {
        let kind = SourceKind::Http;
        assert!(read(kind, &headers(&[]), false).is_err()); // HEAD-2
        assert!(read(kind, &headers(&[("transfer-encoding", "chunked")]), false).is_ok());
        assert!(read(kind, &headers(&[("content-length", "x")]), false).is_err());
        let long = "x".repeat(HEAD_LIMIT + 1);
        assert!(
            read(kind, &headers(&[("content-length", "1"), ("expires", &long)]), false).is_err()
        );
    }

    #[test]
    fn only_a_whole_answer_is_an_object() {
        let rows = [
            (200, Verdict::Found),
            (404, Verdict::Absent),
            (410, Verdict::Absent),
            (500, Verdict::Again),
            (503, Verdict::Again),
            (429, Verdict::Again),
            (206, Verdict::Refused),
            (204, Verdict::Refused),
            (302, Verdict::Refused),
            (403, Verdict::Refused),
            (400, Verdict::Refused),
        ];
        for (status, verdict) in rows {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), verdict, "{status}");
        }
    }
}
