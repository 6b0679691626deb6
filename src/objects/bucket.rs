//! Buckets: their making, settings and end. Metadata only.
//!
//! Called by the S3 edge and the JSON API.

use crate::actors::metadata::command::{BucketChange, Command};
use crate::actors::metadata::model::{CorsRule, Tag};
use crate::actors::metadata::query::{BucketInfo, BucketUsage, Query, QueryReply};
use crate::cluster::Scope;
use crate::types::now_ms;

use super::Env;
use super::error::FlowError;
use super::metadata::{self, apply, check_owner, read, unexpected};

/// A bucket with its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Name, owner, versioning.
    pub info: BucketInfo,
    /// Tags, where it has a set.
    pub tags: Option<Vec<Tag>>,
    /// CORS rules, where it has a configuration.
    pub cors: Option<Vec<CorsRule>>,
}

/// Makes a bucket.
///
/// # Errors
/// It exists, or metadata cannot be reached.
pub async fn create(env: &Env, scope: &Scope, name: &str, owner: &str) -> Result<(), FlowError> {
    let (name, owner) = (name.to_owned(), owner.to_owned());
    apply(env, scope, Command::CreateBucket { name, owner, now_ms: now_ms() }).await?;
    Ok(())
}

/// Removes an empty bucket.
///
/// # Errors
/// It does not exist, is not empty or not the caller's, or metadata cannot be reached.
pub async fn delete(env: &Env, scope: &Scope, name: &str, caller: &str) -> Result<(), FlowError> {
    let command = Command::DeleteBucket {
        name: name.to_owned(),
        owner: Some(caller.to_owned()),
        now_ms: now_ms(),
        grace_ms: env.settings.grace_ms(),
    };
    apply(env, scope, command).await?;
    Ok(())
}

/// A bucket, whoever owns it.
///
/// # Errors
/// It does not exist, or metadata cannot be reached.
pub async fn find(env: &Env, scope: &Scope, name: &str) -> Result<Bucket, FlowError> {
    match read(env, scope, Query::GetBucket { bucket: name.to_owned() }).await? {
        QueryReply::Bucket { bucket, tags, cors } => Ok(Bucket { info: bucket, tags, cors }),
        _ => Err(unexpected("GetBucket")),
    }
}

/// A bucket of the caller.
///
/// # Errors
/// As [`find`], or it is not the caller's.
pub async fn get(env: &Env, scope: &Scope, name: &str, caller: &str) -> Result<Bucket, FlowError> {
    let bucket = find(env, scope, name).await?;
    check_owner(&bucket.info, caller)?;
    Ok(bucket)
}

/// Changes one setting.
///
/// # Errors
/// As [`get`].
pub async fn configure(
    env: &Env,
    scope: &Scope,
    name: &str,
    caller: &str,
    change: BucketChange,
) -> Result<(), FlowError> {
    get(env, scope, name, caller).await?;
    let command = Command::ConfigureBucket { name: name.to_owned(), change };
    metadata::apply(env, scope, command).await?;
    Ok(())
}

/// One page of the caller's buckets, and where the next begins.
///
/// # Errors
/// Metadata cannot be reached.
pub async fn list(
    env: &Env,
    scope: &Scope,
    owner: &str,
    prefix: &str,
    after: Option<String>,
    max: u32,
) -> Result<(Vec<BucketUsage>, Option<String>), FlowError> {
    let mut after = after;
    let mut all = Vec::new();
    loop {
        let query = Query::ListBuckets {
            owner: Some(owner.to_owned()),
            prefix: prefix.to_owned(),
            after: after.take(),
            max: max.saturating_sub(all.len() as u32).min(1000),
        };
        let QueryReply::Buckets { buckets, next } = read(env, scope, query).await? else {
            return Err(unexpected("ListBuckets"));
        };
        all.extend(buckets);
        if next.is_none() || all.len() as u32 >= max {
            return Ok((all, next));
        }
        after = next;
    }
}
