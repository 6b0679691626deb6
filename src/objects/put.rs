//! PUT: a body becomes the current version of a key.
//!
//! Called by the S3 edge, the JSON API and the save-back from third parties. Order: bucket and
//! members from metadata, bytes onto the nodes ([`mod@write`]), commit. Until the commit
//! nothing is visible; FLOW-1 and FLOW-2 of the room hold.

use crate::actors::metadata::command::{Applied, Command, NewObject, Precondition};
use crate::actors::metadata::model::{Checksum, NULL_VERSION, Versioning};
use crate::actors::metadata::query::{BucketInfo, Query, QueryReply};
use crate::cluster::Scope;
use crate::types::{InstanceId, UnixMillis, now_ms};

use super::abort::Guard;
use super::body::{Expect, Upload};
use super::error::{FlowError, Unavailable};
use super::metadata::{ApplyError, apply, check_owner, read, unexpected};
use super::write::{self, Stored};
use super::{Env, new_version_id};

/// A PUT.
pub struct PutRequest {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Who asks.
    pub caller: String,
    /// Headers, metadata and tags; version id, owner and checksum are filled in by the flow.
    pub object: NewObject,
    /// Condition on the present state of the key.
    pub precondition: Precondition,
    /// The body.
    pub upload: Upload,
    /// What was said about it.
    pub expect: Expect,
}

/// A row that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Version id, where the bucket has (or had) versioning.
    pub version_id: Option<String>,
    /// ETag without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Time of the row.
    pub last_modified_ms: UnixMillis,
    /// Checksum of the object.
    pub checksum: Option<Checksum>,
}

/// Stores an object.
///
/// # Errors
/// See [`FlowError`]; after `Unavailable::Unknown` the object may exist.
pub async fn put(env: &Env, scope: &Scope, request: PutRequest) -> Result<Written, FlowError> {
    let (bucket, members) = prepare(env, scope, &request.bucket, &request.caller).await?;
    let Stored { guard, data, sums } =
        write::store(env, scope, &members, request.upload, request.expect).await?;
    let now_ms = now_ms();
    let mut object = request.object;
    object.version_id = new_version_id();
    object.owner = request.caller;
    object.checksum = sums.checksum.clone();
    let assumed = Written {
        version_id: version_given(&bucket, &object.version_id),
        etag: hex::encode(sums.md5),
        size: sums.len,
        last_modified_ms: now_ms,
        checksum: sums.checksum,
    };
    let command = Command::Commit {
        bucket: request.bucket,
        key: request.key,
        data: Some(data),
        size: assumed.size,
        etag: assumed.etag.clone(),
        object,
        precondition: request.precondition,
        now_ms,
        grace_ms: env.settings.grace_ms(),
    };
    match commit(env, scope, guard, command).await? {
        Committed::Answered(applied) => written(applied, assumed.checksum),
        Committed::Unheard => Ok(assumed),
    }
}

/// The version id that a new row gets in a bucket as it was when we looked.
fn version_given(bucket: &BucketInfo, version_id: &str) -> Option<String> {
    match bucket.versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some(version_id.to_owned()),
        Versioning::Suspended => Some(NULL_VERSION.to_owned()),
    }
}

/// The bucket of the caller, and the storage members.
pub(super) async fn prepare(
    env: &Env,
    scope: &Scope,
    bucket: &str,
    caller: &str,
) -> Result<(BucketInfo, Vec<InstanceId>), FlowError> {
    match read(env, scope, Query::Prepare { bucket: bucket.to_owned() }).await? {
        QueryReply::Prepared { bucket, members, ever } => {
            check_owner(&bucket, caller)?;
            let need = env.settings.first_nodes;
            if ever < need {
                return Err(Unavailable::Forming { have: ever, need }.into()); // PLACE-4
            }
            Ok((bucket, members))
        }
        _ => Err(unexpected("Prepare")),
    }
}

/// A commit that happened.
pub(super) enum Committed {
    /// Metadata said so.
    Answered(Applied),
    /// Its answer was lost; that it happened was found out by the abort.
    Unheard,
}

/// Commits guarded data; whatever fails or stays unknown is aborted (FLOW-2).
pub(super) async fn commit(
    env: &Env,
    scope: &Scope,
    guard: Guard,
    command: Command,
) -> Result<Committed, FlowError> {
    match apply(env, scope, command).await {
        Ok(applied) => {
            guard.committed();
            Ok(Committed::Answered(applied))
        }
        Err(ApplyError::Unknown(_)) if guard.did_commit().await => Ok(Committed::Unheard),
        Err(ApplyError::Unknown(_)) => Err(Unavailable::Unknown.into()),
        Err(error) => Err(error.into()), // the guard's end aborts
    }
}

/// The row of a `Committed` answer.
pub(super) fn written(applied: Applied, checksum: Option<Checksum>) -> Result<Written, FlowError> {
    match applied {
        Applied::Committed { version_id, etag, size, last_modified_ms, .. } => {
            Ok(Written { version_id, etag, size, last_modified_ms, checksum })
        }
        _ => Err(unexpected("a commit was answered with something else")),
    }
}
