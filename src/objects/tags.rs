//! Tags of objects. Metadata only.
//!
//! Called by the S3 edge and the JSON API; tags are read with the object's row
//! ([`get`](super::get)).

use crate::actors::metadata::command::{Applied, Command};
use crate::actors::metadata::model::Tag;
use crate::cluster::Scope;

use super::error::FlowError;
use super::metadata::{apply, unexpected};
use super::{Env, bucket};

/// Replaces the tags of (bucket, key, version); an empty set removes them. Gives the version id.
///
/// # Errors
/// See [`FlowError`].
pub async fn put(
    env: &Env,
    scope: &Scope,
    target: (&str, &str, Option<String>),
    caller: &str,
    tags: Vec<Tag>,
) -> Result<Option<String>, FlowError> {
    let (bucket, key, version_id) = target;
    bucket::get(env, scope, bucket, caller).await?;
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    match apply(env, scope, Command::PutObjectTags { bucket, key, version_id, tags }).await? {
        Applied::Tagged { version_id } => Ok(version_id),
        _ => Err(unexpected("PutObjectTags")),
    }
}
