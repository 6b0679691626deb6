//! What we do not do, and so must not seem to do: refused before the operation begins.
//!
//! Called for every S3 operation. Operations that have no code at all are refused by `s3s` itself;
//! here are the headers and query parameters that would change the meaning of those that have.
//!
//! - `UNSUP-1` a request that asks for something of this list never succeeds.

use http::HeaderMap;
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::error::not_implemented;

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
/// `NotImplemented`, or `InvalidStorageClass` for a class that nobody knows.
pub fn check(operation: &str, headers: &HeaderMap, query: Option<&str>) -> S3Result<()> {
    for (name, value) in headers {
        let name = name.as_str();
        if HEADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(not_implemented(name));
        }
        check_value(name, value.to_str().unwrap_or_default())?;
    }
    let names = query.unwrap_or_default().split('&');
    let mut names = names.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    match names.find(|name| SUB_RESOURCES.contains(name)) {
        Some(name) if PLAIN.contains(&operation) => Err(not_implemented(name)),
        _ => Ok(()),
    }
}

fn check_value(name: &str, value: &str) -> S3Result<()> {
    for (header, allowed) in HEADER_VALUES {
        if name == header && !allowed.contains(&value) {
            return Err(not_implemented(&format!("{name}: {value}")));
        }
    }
    if name == "x-amz-storage-class" { check_storage_class(value) } else { Ok(()) }
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
        ];
        for (i, (got, expected)) in rows.into_iter().enumerate() {
            assert_eq!(got, expected, "row {i}");
        }
    }
}
