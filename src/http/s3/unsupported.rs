//! What we do not do, and so must not seem to do: refused before the operation begins.
//!
//! Called for every S3 operation. Operations that have no code at all are refused by `s3s` itself;
//! here are the headers and query parameters that would change the meaning of those that have.
//!
//! - `UNSUP-1` a request that asks for something of this list never succeeds.

use http::{HeaderMap, HeaderName};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::objects::digest;

use super::convert::{algorithm, checksum_kind};
use super::error::{invalid_argument, not_implemented};

/// Headers that ask for what we do not do, whatever their value.
const HEADER_PREFIXES: [&str; 12] = [
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-bypass-governance-retention",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-grant-",
    "x-amz-request-payer",
    "x-amz-mfa",
    "x-amz-write-offset-bytes",
    "x-amz-rename-source",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
];

/// Headers of which some values are fine.
const HEADER_VALUES: [(&str, &[&str]); 3] = [
    ("x-amz-acl", &["private", "bucket-owner-full-control"]),
    ("x-amz-object-ownership", &["BucketOwnerEnforced"]),
    ("x-amz-bucket-object-lock-token", &[]),
];

/// Storage classes that S3 knows; only the first two mean nothing that we would have to keep.
const STORAGE_CLASSES: [&str; 11] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "SNOW",
    "EXPRESS_ONEZONE",
];

/// Sub-resources: with one of these in the query the request is not the plain operation.
const SUB_RESOURCES: [&str; 36] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "versioning",
    "website",
];

/// Parameters of uploads and versions: alone, or with another method, they are a mistake.
const OF_UPLOADS: [&str; 4] = ["partNumber", "uploadId", "uploads", "versions"];

/// Parameters of the plain operations, which may be empty.
const PLAIN_PARAMETERS: [&str; 15] = [
    "AWSAccessKeyId",
    "Expires",
    "Signature",
    "bucket-region",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "list-type",
    "marker",
    "max-buckets",
    "max-keys",
    "prefix",
    "start-after",
    "x-id",
];
const PARAMETER_PREFIXES: [&str; 3] = ["response-", "X-Amz-", "x-amz-"];

/// Operations without a sub-resource, which others could be mistaken for.
const PLAIN: [&str; 11] = [
    "CreateBucket",
    "DeleteBucket",
    "HeadBucket",
    "ListObjects",
    "ListObjectsV2",
    "PutObject",
    "CopyObject",
    "GetObject",
    "HeadObject",
    "DeleteObject",
    "ListBuckets",
];

/// Refuses what is not supported (UNSUP-1).
///
/// # Errors
/// `NotImplemented`; `InvalidArgument` or `InvalidRequest` for what makes no sense;
/// `InvalidStorageClass` for a class that nobody knows.
pub fn check(operation: &str, headers: &HeaderMap, query: Option<&str>) -> S3Result<()> {
    for (name, value) in headers {
        let name = name.as_str();
        if HEADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(not_implemented(name));
        }
        check_value(operation, name, value.to_str().unwrap_or_default())?;
    }
    check_copy(operation, headers)?;
    query.unwrap_or_default().split('&').try_for_each(|pair| check_parameter(operation, pair))
}

/// Headers of a copy that has no source, or of the part of one that has no part.
fn check_copy(operation: &str, headers: &HeaderMap) -> S3Result<()> {
    let mut names = headers.keys().map(HeaderName::as_str);
    match operation {
        "CopyObject" if headers.contains_key("x-amz-copy-source-range") => {
            Err(not_implemented("x-amz-copy-source-range but for a part"))
        }
        "PutObject" | "UploadPart" => match names.find(|n| n.starts_with("x-amz-copy-source")) {
            Some(name) => Err(invalid_argument(format!("{name} needs x-amz-copy-source"))),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A parameter that would make another operation of a plain one: `DELETE /bucket?uploads` must not
/// delete the bucket, nor `PUT /bucket/key?uploadId=...` write the object.
fn check_parameter(operation: &str, pair: &str) -> S3Result<()> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    if name == "versionId" && value.is_empty() {
        return Err(invalid_argument("Version id cannot be the empty string"));
    }
    if !PLAIN.contains(&operation) {
        return Ok(());
    }
    let of_a_part = name == "partNumber" && matches!(operation, "GetObject" | "HeadObject");
    let known = PLAIN_PARAMETERS.contains(&name)
        || PARAMETER_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    match name {
        _ if SUB_RESOURCES.contains(&name) => Err(not_implemented(name)),
        _ if OF_UPLOADS.contains(&name) && !of_a_part => {
            Err(invalid_argument(format!("This operation does not accept the parameter {name}")))
        }
        // a name without a value is a sub-resource; others S3 passes over, too
        _ if !name.is_empty() && value.is_empty() && !known && !of_a_part => {
            Err(not_implemented(name))
        }
        _ => Ok(()),
    }
}

fn check_value(operation: &str, name: &str, value: &str) -> S3Result<()> {
    if let Some(kind) = name.strip_prefix("x-amz-checksum-") {
        return check_checksum(operation, kind, value);
    }
    for (header, allowed) in HEADER_VALUES {
        if name == header && !allowed.contains(&value) {
            return Err(not_implemented(&format!("{name}: {value}")));
        }
    }
    if name == "x-amz-storage-class" { check_storage_class(value) } else { Ok(()) }
}

/// Refuses a checksum that we cannot check, and what is none (UNSUP-1): `s3s` passes over both.
fn check_checksum(operation: &str, kind: &str, value: &str) -> S3Result<()> {
    let invalid = || {
        let text = format!("Value for x-amz-checksum-{kind} header is invalid.");
        S3Error::with_message(S3ErrorCode::InvalidRequest, text)
    };
    match kind {
        "mode" if value.eq_ignore_ascii_case("ENABLED") => return Ok(()),
        "mode" => return Err(invalid()),
        "type" => return checksum_kind(value).map(drop),
        "algorithm" => return algorithm(value).map(drop),
        _ => {}
    }
    let Ok(algorithm) = algorithm(kind) else {
        return Err(not_implemented(&format!("x-amz-checksum-{kind}")));
    };
    // only the checksum of a whole upload may be one over parts: "value-count"
    let plain = match operation {
        "CompleteMultipartUpload" => value.split_once('-').map_or(value, |(plain, _)| plain),
        _ => value,
    };
    if digest::is_well_formed(algorithm, plain) { Ok(()) } else { Err(invalid()) }
}

/// Refuses a storage class that would promise something.
///
/// # Errors
/// `NotImplemented` or `InvalidStorageClass`.
pub fn check_storage_class(value: &str) -> S3Result<()> {
    match STORAGE_CLASSES.iter().position(|known| *known == value) {
        Some(0 | 1) => Ok(()),
        Some(_) => Err(not_implemented(&format!("storage class {value}"))),
        None => {
            let text = "The storage class you specified is not valid";
            Err(S3Error::with_message(S3ErrorCode::InvalidStorageClass, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(operation: &str, header: Option<(&str, &str)>, query: &str) -> String {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            let name: http::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        let result = check(operation, &headers, Some(query));
        result.map_or_else(|e| e.code().as_str().to_owned(), |()| "ok".into())
    }

    #[test]
    fn what_is_not_done_is_refused_and_what_is_harmless_passes() {
        let header = |name, value| code("PutObject", Some((name, value)), "");
        let copy = |header| code("CopyObject", Some(header), "");
        let complete = |header| code("CompleteMultipartUpload", Some(header), "");
        let rows = [
            (header("x-amz-server-side-encryption", "AES256"), "NotImplemented"),
            (header("x-amz-server-side-encryption-customer-key", "k"), "NotImplemented"),
            (header("x-amz-object-lock-mode", "GOVERNANCE"), "NotImplemented"),
            (header("x-amz-request-payer", "requester"), "NotImplemented"),
            (header("x-amz-grant-read", "id=1"), "NotImplemented"),
            (header("x-amz-acl", "public-read"), "NotImplemented"),
            (header("x-amz-acl", "private"), "ok"),
            (header("x-amz-storage-class", "GLACIER"), "NotImplemented"),
            (header("x-amz-storage-class", "COLD"), "InvalidStorageClass"),
            (header("x-amz-storage-class", "STANDARD"), "ok"),
            (header("x-amz-meta-x", "y"), "ok"),
            (code("PutObject", None, "renameObject"), "NotImplemented"),
            (code("CreateBucket", None, "abac="), "NotImplemented"),
            (code("PutObject", None, "x-id=PutObject&X-Amz-Signature=1"), "ok"),
            (code("PutBucketCors", None, "cors"), "ok"),
            (code("ListObjectsV2", None, "list-type=2&prefix=acl"), "ok"),
            (code("PutObject", None, "uploadId=1"), "InvalidArgument"),
            (code("PutObject", None, "partNumber=1"), "InvalidArgument"),
            (code("DeleteObject", None, "uploads"), "InvalidArgument"),
            (code("DeleteBucket", None, "versions="), "InvalidArgument"),
            (code("DeleteObject", None, "versionId="), "InvalidArgument"),
            (code("DeleteObject", None, "versionId=1&x-id=DeleteObject"), "ok"),
            (code("GetObject", None, "partNumber=1&response-expires="), "ok"),
            (code("UploadPart", None, "partNumber=1&uploadId=2"), "ok"),
            (code("ListObjects", None, "prefix=&delimiter=&marker"), "ok"),
            (code("ListObjects", None, "events"), "NotImplemented"),
            (code("PutObject", None, "append="), "NotImplemented"),
            (code("GetObject", None, "t=1732323"), "ok"),
            (header("x-amz-copy-source-range", "bytes=0-1"), "InvalidArgument"),
            (copy(("x-amz-copy-source-range", "bytes=0-1")), "NotImplemented"),
            (copy(("x-amz-copy-source-if-match", "e")), "ok"),
            (header("x-amz-checksum-crc32", "y/Q5Jg=="), "ok"),
            (header("x-amz-checksum-crc32", "y/Q5Jg==-2"), "InvalidRequest"),
            (complete(("x-amz-checksum-crc32", "y/Q5Jg==-2")), "ok"),
            (complete(("x-amz-checksum-crc32", "y/Q5-2")), "InvalidRequest"),
            (header("x-amz-checksum-sha256", ""), "InvalidRequest"),
            (header("x-amz-checksum-sha256", "not base64!"), "InvalidRequest"),
            (header("x-amz-checksum-sha512", "AAAA"), "NotImplemented"),
            (header("x-amz-checksum-mode", "ENABLED"), "ok"),
            (header("x-amz-checksum-mode", "MAYBE"), "InvalidRequest"),
            (header("x-amz-checksum-algorithm", "MD4"), "InvalidRequest"),
            (header("x-amz-checksum-type", "PARTIAL"), "InvalidRequest"),
        ];
        for (i, (got, expected)) in rows.into_iter().enumerate() {
            assert_eq!(got, expected, "row {i}");
        }
    }
}
