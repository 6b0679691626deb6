//! The digests of XML documents in requests, which `s3s` does not check.
//!
//! Called by the edge before `s3s` for the operations whose body is a document (multi-delete,
//! tags, CORS, versioning, complete). Objects and parts are checked by the flows while they pass.
//!
//! - `DOC-1` a document whose `Content-MD5` or `x-amz-checksum-*` is wrong is not acted upon.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Limited};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::objects::digest::Digests;
use crate::objects::error::{BodyError, FlowError};

use super::convert::{algorithm, one_checksum};
use super::error;

/// Sub-resources whose body is a document.
const DOCUMENTS: [&str; 4] = ["delete", "tagging", "cors", "versioning"];

/// Whether a request carries a document with a digest that is to be checked here.
pub fn has_digest(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    let names = || query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(n, _)| n));
    let document = match parts.method {
        Method::PUT => names().any(|name| DOCUMENTS.contains(&name)),
        Method::POST => names().any(|name| DOCUMENTS.contains(&name) || name == "uploadId"),
        _ => false,
    };
    // a checksum of CompleteMultipartUpload is that of the object, not of the document
    let checksum = parts.headers.keys().any(|name| is_checksum(name.as_str()));
    let complete = names().any(|name| name == "uploadId");
    document && (parts.headers.contains_key("content-md5") || checksum && !complete)
}

fn is_checksum(name: &str) -> bool {
    name.strip_prefix("x-amz-checksum-").is_some_and(|rest| algorithm(rest).is_ok())
}

/// Reads a document and checks its digests (DOC-1).
///
/// # Errors
/// `BadDigest`, `InvalidDigest`, or the body is too large or broke off.
pub async fn read<B>(body: B, headers: &HeaderMap, limit: usize) -> S3Result<Bytes>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let collected = Limited::new(body, limit).collect().await;
    let bytes = collected.map_err(|_| S3Error::from(S3ErrorCode::IncompleteBody))?.to_bytes();
    check(&bytes, headers)?;
    Ok(bytes)
}

fn check(bytes: &[u8], headers: &HeaderMap) -> S3Result<()> {
    let refuse = |error: BodyError| Err(error::of(FlowError::Body(error)));
    if let Some(given) = headers.get("content-md5") {
        let given: Option<[u8; 16]> =
            BASE64_STANDARD.decode(given.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        match given {
            None => return Err(S3ErrorCode::InvalidDigest.into()),
            Some(md5) if md5 != md5::compute(bytes).0 => return refuse(BodyError::Md5),
            Some(_) => {}
        }
    }
    let given = headers.iter().filter(|(name, _)| is_checksum(name.as_str()));
    let given = given.filter_map(|(name, value)| {
        let algorithm = algorithm(name.as_str().strip_prefix("x-amz-checksum-")?).ok()?;
        Some((algorithm, value.to_str().ok()?.to_owned()))
    });
    if let Some((algorithm, value)) = one_checksum(given.collect())? {
        let mut digests = Digests::new(Some(algorithm));
        digests.update(bytes);
        if digests.finish().checksum.is_none_or(|found| found.value != value) {
            return refuse(BodyError::Checksum(crate::objects::body::name(algorithm)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_document_with_a_wrong_digest_is_refused() {
        let rows = [
            ("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==", None),
            ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==", Some("BadDigest")),
            ("content-md5", "short", Some("InvalidDigest")),
            ("x-amz-checksum-crc32", "y/Q5Jg==", None),
            ("x-amz-checksum-crc32", "AAAAAA==", Some("BadDigest")),
            ("x-amz-checksum-type", "FULL_OBJECT", None),
        ];
        for (name, value, expected) in rows {
            let got = check(b"123456789", &headers(name, value));
            let got = got.err().map(|e| e.code().as_str().to_owned());
            assert_eq!(got.as_deref(), expected, "{name}: {value}");
        }
    }

    #[test]
    fn only_documents_are_read_here() {
        let parts = |method: &str, uri: &str| {
            let request = http::Request::builder().method(method).uri(uri);
            request.header("content-md5", "x").body(()).unwrap().into_parts().0
        };
        assert!(has_digest(&parts("POST", "/b?delete")));
        assert!(has_digest(&parts("PUT", "/b/k?tagging=")));
        assert!(has_digest(&parts("POST", "/b/k?uploadId=1")));
        assert!(!has_digest(&parts("PUT", "/b/k")));
        assert!(!has_digest(&parts("PUT", "/b/k?partNumber=1&uploadId=1")));
        assert!(!has_digest(&parts("GET", "/b?cors")));
    }
}
