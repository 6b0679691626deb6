//! Between the words of `s3s` and ours: times, ETags, headers, checksums, tags, encoding.
//!
//! Used by all operations of the S3 edge. Plain functions.

use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{self, ETag, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::actors::metadata::model::{
    Checksum, ChecksumAlgorithm, ChecksumType, ObjectHead, Tag, UserMetadata,
};
use crate::objects::{body, digest};
use crate::types::UnixMillis;

use super::error::{invalid_argument, invalid_redirect};

/// The most bytes of names and values of user metadata together.
const USER_METADATA_BYTES: usize = 2048;

/// A time in the words of `s3s`.
pub fn timestamp(ms: UnixMillis) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(ms))
}

/// A time in ours; times before 1970 become 1970.
pub fn millis(timestamp: &Timestamp) -> UnixMillis {
    let time: time::OffsetDateTime = timestamp.clone().into();
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// A time as in HTTP headers.
pub fn http_date(ms: UnixMillis) -> String {
    let mut text = Vec::new();
    match timestamp(ms).format(TimestampFormat::HttpDate, &mut text) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    }
}

/// An ETag in the words of `s3s`.
pub fn etag(text: impl Into<String>) -> ETag {
    ETag::Strong(text.into())
}

/// The version id of a request; the empty one is none.
pub fn version(id: Option<String>) -> Option<String> {
    id.filter(|id| !id.is_empty())
}

/// The fields that make up an [`ObjectHead`], as the inputs of `s3s` carry them.
#[derive(Default)]
pub struct HeadFields {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`.
    pub expires: Option<Timestamp>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// `x-amz-meta-*`.
    pub metadata: Option<dto::Metadata>,
}

/// Takes the head fields out of an input of `s3s`.
macro_rules! head_fields {
    ($input:expr) => {
        $crate::http::s3::convert::HeadFields {
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $input.content_encoding.take(),
            content_language: $input.content_language.take(),
            expires: $input.expires.take(),
            website_redirect: $input.website_redirect_location.take(),
            metadata: $input.metadata.take(),
        }
    };
}
pub(super) use head_fields;

/// Checks and converts what an object is to carry.
///
/// # Errors
/// `MetadataTooLarge`, or `InvalidRedirectLocation`.
pub fn object_head(fields: HeadFields) -> S3Result<ObjectHead> {
    let mut user: Vec<_> = fields
        .metadata
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| UserMetadata { name: name.to_ascii_lowercase(), value })
        .collect();
    user.sort_by(|a, b| a.name.cmp(&b.name));
    if user.iter().map(|u| u.name.len() + u.value.len()).sum::<usize>() > USER_METADATA_BYTES {
        let text = "Your metadata headers exceed the maximum allowed metadata size";
        return Err(S3Error::with_message(S3ErrorCode::MetadataTooLarge, text));
    }
    let redirect = fields.website_redirect.as_deref().unwrap_or("/");
    if !["/", "http://", "https://"].iter().any(|start| redirect.starts_with(start)) {
        return Err(invalid_redirect());
    }
    Ok(ObjectHead {
        content_type: fields.content_type.filter(|t| !t.is_empty()),
        cache_control: fields.cache_control,
        content_disposition: fields.content_disposition,
        content_encoding: fields.content_encoding.and_then(|e| stored_encoding(&e)),
        content_language: fields.content_language,
        expires: fields.expires.map(|t| http_date(millis(&t))),
        website_redirect: fields.website_redirect,
        user,
    })
}

/// A `Content-Encoding` without the transfer framing of S3.
fn stored_encoding(encoding: &str) -> Option<String> {
    let kept: Vec<_> = encoding
        .split(',')
        .map(str::trim)
        .filter(|e| !e.is_empty() && *e != "aws-chunked")
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// User metadata in the words of `s3s`.
pub fn metadata(head: &ObjectHead) -> Option<dto::Metadata> {
    let map: dto::Metadata = head.user.iter().map(|u| (u.name.clone(), u.value.clone())).collect();
    (!map.is_empty()).then_some(map)
}

/// The stored `Expires`.
pub fn expires(head: &ObjectHead) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::HttpDate, head.expires.as_deref()?).ok()
}

/// The algorithm that a name means.
///
/// # Errors
/// `InvalidRequest` for others.
pub fn algorithm(name: &str) -> S3Result<ChecksumAlgorithm> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "CRC32" => ChecksumAlgorithm::Crc32,
        "CRC32C" => ChecksumAlgorithm::Crc32c,
        "CRC64NVME" => ChecksumAlgorithm::Crc64Nvme,
        "SHA1" => ChecksumAlgorithm::Sha1,
        "SHA256" => ChecksumAlgorithm::Sha256,
        other => {
            let text = format!("Checksum algorithm provided is unsupported: {other}");
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
        }
    })
}

/// The kind that a name means.
///
/// # Errors
/// `InvalidRequest` for others.
pub fn checksum_kind(name: &str) -> S3Result<ChecksumType> {
    match name {
        "FULL_OBJECT" => Ok(ChecksumType::FullObject),
        "COMPOSITE" => Ok(ChecksumType::Composite),
        _ => {
            let text = "Value for x-amz-checksum-type header is invalid";
            Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text))
        }
    }
}

/// The name of a kind.
pub fn kind_name(kind: ChecksumType) -> dto::ChecksumType {
    dto::ChecksumType::from_static(match kind {
        ChecksumType::FullObject => dto::ChecksumType::FULL_OBJECT,
        ChecksumType::Composite => dto::ChecksumType::COMPOSITE,
    })
}

/// The name of an algorithm.
pub fn algorithm_name(algorithm: ChecksumAlgorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(body::name(algorithm))
}

/// The five checksum fields of an input or output of `s3s`, with our names for them.
pub type Given = Vec<(ChecksumAlgorithm, String)>;

/// Takes the checksum fields out of an input of `s3s`.
macro_rules! given_checksums {
    ($input:expr) => {{
        use $crate::actors::metadata::model::ChecksumAlgorithm as Algorithm;
        let fields = [
            (Algorithm::Crc32, $input.checksum_crc32.take()),
            (Algorithm::Crc32c, $input.checksum_crc32c.take()),
            (Algorithm::Crc64Nvme, $input.checksum_crc64nvme.take()),
            (Algorithm::Sha1, $input.checksum_sha1.take()),
            (Algorithm::Sha256, $input.checksum_sha256.take()),
        ];
        fields.into_iter().filter_map(|(a, v)| Some((a, v?))).collect::<Vec<_>>()
    }};
}
pub(super) use given_checksums;

/// Puts a checksum into the fields of an output of `s3s`.
macro_rules! set_checksum {
    ($output:expr, $algorithm:expr, $value:expr) => {{
        use $crate::actors::metadata::model::ChecksumAlgorithm as Algorithm;
        let value = Some($value);
        match $algorithm {
            Algorithm::Crc32 => $output.checksum_crc32 = value,
            Algorithm::Crc32c => $output.checksum_crc32c = value,
            Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
            Algorithm::Sha1 => $output.checksum_sha1 = value,
            Algorithm::Sha256 => $output.checksum_sha256 = value,
        }
    }};
}
pub(super) use set_checksum;

/// The one checksum that was given, checked for its form.
///
/// # Errors
/// `InvalidRequest` for several, or for one that is no base64 of the right length.
pub fn one_checksum(given: Given) -> S3Result<Option<(ChecksumAlgorithm, String)>> {
    let invalid = |text: String| Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
    if given.len() > 1 {
        return invalid("Expecting a single x-amz-checksum- header".into());
    }
    let Some((algorithm, value)) = given.into_iter().next() else { return Ok(None) };
    let plain = value.split_once('-').map_or(value.as_str(), |(plain, _)| plain);
    if !digest::is_well_formed(algorithm, plain) {
        let name = body::name(algorithm).to_ascii_lowercase();
        return invalid(format!("Value for x-amz-checksum-{name} header is invalid."));
    }
    Ok(Some((algorithm, value)))
}

/// A checksum of a whole object, as a client may name it when it completes an upload.
pub fn whole_checksum(given: (ChecksumAlgorithm, String)) -> Checksum {
    let (algorithm, value) = given;
    let composite = value.contains('-');
    let kind = if composite { ChecksumType::Composite } else { ChecksumType::FullObject };
    Checksum { algorithm, kind, value }
}

/// Checks a set of tags: at most `max`, names of 1-128 and values of up to 256 characters.
///
/// # Errors
/// `InvalidTag`.
pub fn check_tags(tags: Vec<Tag>, max: usize) -> S3Result<Vec<Tag>> {
    let invalid = |text: &str| Err(S3Error::with_message(S3ErrorCode::InvalidTag, text.to_owned()));
    if tags.len() > max {
        return invalid(&format!("Tags cannot be greater than {max}"));
    }
    for (i, tag) in tags.iter().enumerate() {
        if tag.key.is_empty() || tag.key.chars().count() > 128 {
            return invalid("The TagKey you have provided is invalid");
        }
        if tag.value.chars().count() > 256 {
            return invalid("The TagValue you have provided is invalid");
        }
        if tag.key.starts_with("aws:") {
            return invalid("System tags cannot be added/updated by requester");
        }
        if tags[..i].iter().any(|other| other.key == tag.key) {
            return invalid("Cannot provide multiple Tags with the same key");
        }
    }
    Ok(tags)
}

/// Tags out of the XML form.
///
/// # Errors
/// `MalformedXML` where a name or value is lacking, or as [`check_tags`].
pub fn tags_of_xml(set: dto::TagSet, max: usize) -> S3Result<Vec<Tag>> {
    let tags: Option<Vec<Tag>> =
        set.into_iter().map(|tag| Some(Tag { key: tag.key?, value: tag.value? })).collect();
    check_tags(tags.ok_or(S3ErrorCode::MalformedXML)?, max)
}

/// Tags in the XML form.
pub fn tags_to_xml(tags: Vec<Tag>) -> dto::TagSet {
    tags.into_iter().map(|t| dto::Tag { key: Some(t.key), value: Some(t.value) }).collect()
}

/// Tags out of the `x-amz-tagging` header: `a=1&b=2`, percent-encoded.
///
/// # Errors
/// `InvalidArgument` where it is not well formed, or as [`check_tags`].
pub fn tags_of_header(header: &str) -> S3Result<Vec<Tag>> {
    let text = |part: &str| {
        url_decode(part).ok_or_else(|| invalid_argument("The header 'x-amz-tagging' is malformed"))
    };
    let mut tags = Vec::new();
    for pair in header.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        tags.push(Tag { key: text(key)?, value: text(value)? });
    }
    check_tags(tags, 10)
}

/// A part of a query, decoded; `None` where it is not well formed.
pub fn url_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: u8| (b as char).to_digit(16);
                (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A key as listings with `encoding-type=url` give it.
pub fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b'*' => {
                out.push(byte as char);
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_framing_of_s3_is_not_stored_as_an_encoding() {
        let rows = [
            ("aws-chunked", None),
            ("gzip", Some("gzip")),
            ("aws-chunked,gzip", Some("gzip")),
            ("gzip, aws-chunked", Some("gzip")),
            ("", None),
        ];
        for (given, expected) in rows {
            assert_eq!(stored_encoding(given).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn user_metadata_is_bounded_and_in_lower_case() {
        let with = |name: &str, len: usize| {
            let metadata = dto::Metadata::from([(name.to_owned(), "v".repeat(len))]);
            object_head(HeadFields { metadata: Some(metadata), ..HeadFields::default() })
        };
        assert_eq!(with("Name", 2044).unwrap().user[0].name, "name");
        assert_eq!(with("Name", 2045).unwrap_err().code(), &S3ErrorCode::MetadataTooLarge);
    }

    #[test]
    fn a_redirect_leads_to_a_key_or_to_the_web() {
        let with = |text: &str| {
            let website_redirect = Some(text.to_owned());
            object_head(HeadFields { website_redirect, ..HeadFields::default() }).is_ok()
        };
        assert!(with("/other.html") && with("https://example.com/"));
        assert!(!with("other.html") && !with("javascript:alert(1)"));
    }

    #[test]
    fn tags_keep_to_the_limits_of_s3() {
        let tags = tags_of_header("a=1&b%20c=%C3%A4&d").unwrap();
        let tag = |k: &str, v: &str| Tag { key: k.into(), value: v.into() };
        assert_eq!(tags, [tag("a", "1"), tag("b c", "ä"), tag("d", "")]);
        let eleven: Vec<_> = (0..11).map(|i| format!("k{i}=v")).collect();
        let (long_key, long_value) = ("k".repeat(129), format!("k={}", "v".repeat(257)));
        for bad in [&eleven.join("&"), "a=1&a=2", "aws:x=1", "=1", &long_key, &long_value] {
            let code = tags_of_header(bad).unwrap_err().code().as_str().to_owned();
            assert_eq!(code, "InvalidTag", "{bad}");
        }
        assert_eq!(tags_of_header("a=%zz").unwrap_err().code(), &S3ErrorCode::InvalidArgument);
    }

    #[test]
    fn a_checksum_must_be_single_and_of_its_length() {
        let crc = |value: &str| vec![(ChecksumAlgorithm::Crc32, value.to_owned())];
        assert!(one_checksum(crc("y/Q5Jg==")).unwrap().is_some());
        assert!(one_checksum(crc("y/Q5Jg==-3")).unwrap().is_some());
        assert!(one_checksum(crc("y/Q5")).is_err());
        assert!(one_checksum(crc("?")).is_err());
        assert!(one_checksum([crc("y/Q5Jg=="), crc("y/Q5Jg==")].concat()).is_err());
        assert_eq!(one_checksum(Vec::new()).unwrap(), None);
    }

    #[test]
    fn times_survive_the_way_through_http() {
        assert_eq!(http_date(1_445_412_480_000), "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(millis(&timestamp(1_445_412_480_123)), 1_445_412_480_123);
    }

    proptest! {
        #[test]
        fn encoded_keys_decode_to_themselves(key in "\\PC{0,40}") {
            prop_assert_eq!(url_decode(&url_encode(&key)), Some(key));
        }
    }
}
