//! LIST: objects, versions and uploads of a bucket, pages joined until the client's limit is
//! reached.
//!
//! Called by the S3 edge and the JSON API. Metadata cuts its pages by bytes; a client's page is
//! up to 1,000 lines.
//!
//! - `LIST-1` `next` is set exactly where more follows.

use crate::actors::metadata::query::{
    ListEntry, ListStart, Query, QueryReply, UploadEntry, VersionEntry,
};
use crate::cluster::Scope;

use super::error::FlowError;
use super::metadata::{read, unexpected};
use super::{Env, bucket};

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Bucket name.
    pub bucket: String,
    /// Who asks.
    pub caller: String,
    /// Only keys that begin so.
    pub prefix: String,
    /// Groups keys up to this text after the prefix; empty = no grouping.
    pub delimiter: String,
    /// At most so many lines.
    pub max: u32,
}

/// A page of a listing, and the place where the next one begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<E, N> {
    /// Owner of the bucket.
    pub owner: String,
    /// Lines.
    pub entries: Vec<E>,
    /// Set where more follows.
    pub next: Option<N>,
}

/// A key and a version or upload id within it.
pub type Marker = (String, Option<String>);

/// Current objects.
///
/// # Errors
/// The bucket does not exist or is not the caller's, or metadata cannot be reached.
pub async fn objects(
    env: &Env,
    scope: &Scope,
    what: Selection,
    mut start: ListStart,
) -> Result<Page<ListEntry, String>, FlowError> {
    let owner = check(env, scope, &what).await?;
    let mut all = Vec::new();
    loop {
        let query = Query::ListObjects {
            bucket: what.bucket.clone(),
            prefix: what.prefix.clone(),
            delimiter: what.delimiter.clone(),
            start,
            max: what.max - all.len() as u32,
        };
        let QueryReply::Listing { entries, next, .. } = read(env, scope, query).await? else {
            return Err(unexpected("ListObjects"));
        };
        all.extend(entries);
        match next {
            Some(entry) if (all.len() as u32) < what.max => start = ListStart::AfterEntry { entry },
            next => return Ok(Page { owner, entries: all, next }),
        }
    }
}

/// All versions and delete markers.
///
/// # Errors
/// As [`objects`].
pub async fn versions(
    env: &Env,
    scope: &Scope,
    what: Selection,
    mut after: Option<Marker>,
) -> Result<Page<VersionEntry, Marker>, FlowError> {
    let owner = check(env, scope, &what).await?;
    let mut all = Vec::new();
    loop {
        let (key_marker, version_marker) = split(after);
        let query = Query::ListVersions {
            bucket: what.bucket.clone(),
            prefix: what.prefix.clone(),
            delimiter: what.delimiter.clone(),
            key_marker,
            version_marker,
            max: what.max - all.len() as u32,
        };
        let QueryReply::Versions { entries, next_key, next_version, .. } =
            read(env, scope, query).await?
        else {
            return Err(unexpected("ListVersions"));
        };
        all.extend(entries);
        let next = next_key.map(|key| (key, next_version));
        if next.is_none() || all.len() as u32 >= what.max {
            return Ok(Page { owner, entries: all, next });
        }
        after = next;
    }
}

/// Open uploads.
///
/// # Errors
/// As [`objects`].
pub async fn uploads(
    env: &Env,
    scope: &Scope,
    what: Selection,
    mut after: Option<Marker>,
) -> Result<Page<UploadEntry, Marker>, FlowError> {
    let owner = check(env, scope, &what).await?;
    let mut all = Vec::new();
    loop {
        let (key_marker, upload_marker) = split(after);
        let query = Query::ListUploads {
            bucket: what.bucket.clone(),
            prefix: what.prefix.clone(),
            delimiter: what.delimiter.clone(),
            key_marker,
            upload_marker,
            max: what.max - all.len() as u32,
        };
        let QueryReply::Uploads { entries, next_key, next_upload } =
            read(env, scope, query).await?
        else {
            return Err(unexpected("ListUploads"));
        };
        all.extend(entries);
        let next = next_key.map(|key| (key, next_upload));
        if next.is_none() || all.len() as u32 >= what.max {
            return Ok(Page { owner, entries: all, next });
        }
        after = next;
    }
}

async fn check(env: &Env, scope: &Scope, what: &Selection) -> Result<String, FlowError> {
    Ok(bucket::get(env, scope, &what.bucket, &what.caller).await?.info.owner)
}

fn split(marker: Option<Marker>) -> (Option<String>, Option<String>) {
    match marker {
        Some((key, within)) => (Some(key), within),
        None => (None, None),
    }
}
