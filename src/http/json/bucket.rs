//! Bucket names, and the bucket that a JSON upload makes on its way.
//!
//! Used by the JSON APIs of metadata, storage and queue.

use crate::actors::metadata::model::Refused;
use crate::cluster::Scope;
use crate::http::error::ApiError;
use crate::objects::bucket;
use crate::objects::error::FlowError;

use super::JsonEnv;

/// Refuses names that no bucket can have (S3 User Guide, "Bucket naming rules").
///
/// # Errors
/// What is wrong.
pub fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = name.as_bytes();
    let why = if !(3..=63).contains(&bytes.len()) {
        "a bucket name has 3 to 63 characters"
    } else if !bytes.iter().all(|&c| allowed(c)) {
        "a bucket name is made of a-z, 0-9, '.' and '-'"
    } else if !edge(bytes.first()) || !edge(bytes.last()) {
        "a bucket name begins and ends with a letter or a digit"
    } else if name.contains("..") || name.parse::<std::net::Ipv4Addr>().is_ok() {
        "a bucket name holds no \"..\" and is no IP address"
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(field, why, "photos"))
}

/// Makes the bucket if it does not exist and the configuration says so (for clients that never make
/// one; off by default).
///
/// # Errors
/// Metadata cannot be reached, or the bucket is somebody else's.
pub async fn ensure(env: &JsonEnv, scope: &Scope, name: &str) -> Result<(), FlowError> {
    if !env.create_buckets {
        return Ok(()); // the flow says that there is none
    }
    match bucket::get(&env.objects, scope, name, &env.owner).await {
        Err(FlowError::Refused(Refused::NoSuchBucket)) => {}
        found => return found.map(drop),
    }
    match bucket::create(&env.objects, scope, name, &env.owner).await {
        Err(FlowError::Refused(Refused::BucketAlreadyOwnedByYou)) => Ok(()), // at the same moment
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_the_rules_of_s3() {
        for name in ["abc", "a-b.c", "1a2", &"x".repeat(63)] {
            assert_eq!(check_name("bucket", name), Ok(()), "{name}");
        }
        let long = "x".repeat(64);
        let bad = ["", "ab", &long, "Abc", "a_b", "-ab", "ab-", "a..b", "10.0.0.1", "a/b", "äbc"];
        for name in bad {
            let error = check_name("bucket", name).unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), (422, Some("bucket")), "{name}");
        }
    }
}
