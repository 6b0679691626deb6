//! Bodies on their way in: from the streams of `s3s` to those of the flows, and what the headers
//! say about them.
//!
//! Used by PUT, POST and part uploads. `s3s` decodes the chunked framing and checks signatures and
//! `x-amz-content-sha256` while the body passes; `Content-MD5`, length and checksums are checked
//! by the flow (BODY-1), which it leaves to us.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use http::HeaderMap;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders};

use crate::actors::metadata::model::ChecksumAlgorithm;
use crate::objects::body::{self, Expect, ExpectedChecksum, MAX_PUT_BYTES, Upload};
use crate::objects::digest;
use crate::objects::error::BodyError;

use super::convert::{Given, algorithm, one_checksum};
use super::framing;

/// The stream of a body.
pub fn upload(body: Option<StreamingBlob>) -> Upload {
    match body {
        Some(body) => Box::pin(body.map(|item| item.map_err(|e| body_error(&e.to_string())))),
        None => Box::pin(futures::stream::empty()),
    }
}

/// What went wrong, from the text of the stream's error: `s3s` keeps its error types to itself.
fn body_error(text: &str) -> BodyError {
    let has = |word: &str| text.contains(word);
    if has("Sha256Mismatch") {
        BodyError::Sha256
    } else if has("SignatureMismatch") {
        BodyError::Signature
    } else if has("FormatError") || has("LengthMismatch") || has("Trailer") || has("ChunkMeta") {
        BodyError::Malformed(text.to_owned())
    } else {
        BodyError::Broken(text.to_owned())
    }
}

/// What was said about a body.
pub struct Said<'a> {
    /// `Content-Length` (decoded).
    pub len: Option<i64>,
    /// `Content-MD5`.
    pub md5: Option<String>,
    /// Checksums in headers.
    pub given: Given,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The trailers to come.
    pub trailers: Option<TrailingHeaders>,
}

/// What the flow is to expect of a body.
///
/// # Errors
/// `EntityTooLarge`, `InvalidDigest` or `InvalidRequest`.
pub fn expect(said: Said<'_>) -> S3Result<Expect> {
    let plain = said.len.and_then(|len| u64::try_from(len).ok());
    let len = framing::decoded_len(said.headers).or(plain);
    if len.is_some_and(|len| len > MAX_PUT_BYTES) {
        let text = "Your proposed upload exceeds the maximum allowed size";
        return Err(S3Error::with_message(S3ErrorCode::EntityTooLarge, text));
    }
    let md5 = said.md5.map(|text| md5_of(&text)).transpose()?;
    let trailer = announced(said.headers)?;
    if let Some((algorithm, value)) = one_checksum(said.given)? {
        if trailer.is_some() {
            let text = "Expecting a single x-amz-checksum- header";
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
        }
        let checksum = ExpectedChecksum::Value(value);
        return Ok(Expect { len, md5, algorithm: Some(algorithm), checksum });
    }
    if let (Some(algorithm), Some(trailers)) = (trailer, said.trailers) {
        let checksum =
            ExpectedChecksum::Trailer(Box::new(move || trailing_checksum(&trailers, algorithm)));
        return Ok(Expect { len, md5, algorithm: Some(algorithm), checksum });
    }
    if trailer.is_some() {
        let text = "x-amz-trailer needs a chunked upload";
        return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
    }
    let named = ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"]
        .iter()
        .find_map(|name| said.headers.get(*name)?.to_str().ok());
    let algorithm = named.map(algorithm).transpose()?;
    Ok(Expect { len, md5, algorithm, checksum: ExpectedChecksum::None })
}

/// The checksum that the headers announce for the trailer.
fn announced(headers: &HeaderMap) -> S3Result<Option<ChecksumAlgorithm>> {
    let lines = headers.get_all("x-amz-trailer").iter();
    let names = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
    let mut found = None;
    for name in names.map(str::trim).filter(|name| !name.is_empty()) {
        let kind = name.to_ascii_lowercase();
        let kind = kind.strip_prefix("x-amz-checksum-").and_then(|kind| algorithm(kind).ok());
        if kind.is_none() || found.is_some() {
            let text = "The value specified in the x-amz-trailer header is not supported";
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
        }
        found = kind;
    }
    Ok(found)
}

fn md5_of(text: &str) -> S3Result<[u8; 16]> {
    let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| {
        let text = "The Content-MD5 you specified is not valid";
        S3Error::with_message(S3ErrorCode::InvalidDigest, text)
    })
}

/// The announced checksum, once the body has ended.
fn trailing_checksum(
    trailers: &TrailingHeaders,
    algorithm: ChecksumAlgorithm,
) -> Result<Option<String>, BodyError> {
    let name = format!("x-amz-checksum-{}", body::name(algorithm).to_ascii_lowercase());
    let value = trailers.read(|headers| {
        headers.get(&name).and_then(|value| value.to_str().ok()).map(|v| v.trim().to_owned())
    });
    match value.flatten() {
        Some(value) if digest::is_well_formed(algorithm, &value) => Ok(Some(value)),
        Some(_) => Err(BodyError::Malformed(format!("trailer {name} is invalid"))),
        None => Err(BodyError::Malformed(format!("trailer {name} is missing"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(headers: &HeaderMap) -> Said<'_> {
        Said { len: Some(3), md5: None, given: Vec::new(), headers, trailers: None }
    }

    #[test]
    fn the_errors_of_the_stream_are_told_apart() {
        let rows = [
            ("UploadStreamError: Sha256Mismatch", BodyError::Sha256),
            ("AwsChunkedStreamError: SignatureMismatch", BodyError::Signature),
        ];
        for (text, expected) in rows {
            assert_eq!(body_error(text), expected);
        }
        for text in [
            "AwsChunkedStreamError: FormatError".to_owned(),
            framing::FramingError::Malformed.to_string(),
            framing::FramingError::ChunkTooLarge.to_string(),
        ] {
            assert!(matches!(body_error(&text), BodyError::Malformed(_)), "{text}");
        }
        let incomplete = body_error(&framing::FramingError::Incomplete.to_string());
        assert!(matches!(incomplete, BodyError::Broken(_)));
        assert!(matches!(body_error("connection reset"), BodyError::Broken(_)));
    }

    #[test]
    fn digests_in_headers_are_checked_for_their_form() {
        let headers = HeaderMap::new();
        let md5 = |text: &str| Said { md5: Some(text.into()), ..said(&headers) };
        assert_eq!(expect(md5("1B2M2Y8AsgTpgAmY7PhCfg==")).ok().unwrap().md5.unwrap()[0], 0xd4);
        assert!(expect(md5("nonsense")).is_err());
        let big = Said { len: Some(6 << 30), ..said(&headers) };
        assert_eq!(expect(big).err().unwrap().code(), &S3ErrorCode::EntityTooLarge);
    }

    #[test]
    fn the_length_of_a_framed_body_is_the_decoded_one() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-decoded-content-length", "7".parse().unwrap());
        assert_eq!(expect(said(&headers)).ok().unwrap().len, Some(3), "not framed");
        let kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".parse().unwrap();
        headers.insert("x-amz-content-sha256", kind);
        let framed = Said { len: None, ..said(&headers) };
        assert_eq!(expect(framed).ok().unwrap().len, Some(7));
    }

    #[test]
    fn a_trailer_is_one_checksum() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-trailer", value.parse().unwrap());
            announced(&headers).map_err(|e| e.code().as_str().to_owned())
        };
        assert_eq!(with("x-amz-checksum-crc32"), Ok(Some(ChecksumAlgorithm::Crc32)));
        assert_eq!(with(" X-Amz-Checksum-SHA256 "), Ok(Some(ChecksumAlgorithm::Sha256)));
        assert_eq!(with(""), Ok(None));
        for bad in
            ["x-amz-meta-a", "x-amz-checksum-md5", "x-amz-checksum-crc32,x-amz-checksum-sha1"]
        {
            assert_eq!(with(bad), Err("InvalidRequest".to_owned()), "{bad}");
        }
    }

    #[test]
    fn a_named_algorithm_is_computed_even_without_a_value() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-sdk-checksum-algorithm", "SHA256".parse().unwrap());
        let expect = expect(said(&headers)).ok().unwrap();
        assert_eq!(expect.algorithm, Some(ChecksumAlgorithm::Sha256));
        assert!(matches!(expect.checksum, ExpectedChecksum::None));
    }
}
