//! COPY: another row on the same data; bytes move only where a new checksum is asked for.
//!
//! Called by the S3 edge.
//!
//! - `COPY-1` the row that is copied is the row whose conditions were checked: metadata refuses
//!   (`SourceChanged`) if it changed meanwhile, and the flow looks again.

use futures::StreamExt;

use crate::actors::metadata::command::{Command, CopySource, NewObject, Precondition};
use crate::actors::metadata::model::{ChecksumAlgorithm, ObjectHead, Refused, Tag};
use crate::cluster::Scope;
use crate::types::now_ms;

use super::body::{Expect, Upload};
use super::error::{BodyError, FlowError};
use super::get::{self, GetRequest};
use super::metadata::{ApplyError, apply};
use super::put::{self, PutRequest, Written, prepare, written};
use super::read::ObjectBody;
use super::{Env, new_request, new_version_id};

/// The largest object that one copy takes, in bytes (S3: 5 GiB).
pub const MAX_COPY_BYTES: u64 = 5 << 30;
/// How often a source that keeps changing is looked at.
const LOOKS: u32 = 5;

/// A copy.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// The source, with the conditions on it.
    pub source: GetRequest,
    /// Target bucket.
    pub bucket: String,
    /// Target key.
    pub key: String,
    /// Who asks; must own both buckets.
    pub caller: String,
    /// Headers and user metadata, or `None` to keep the source's.
    pub head: Option<ObjectHead>,
    /// Tags, or `None` to keep the source's.
    pub tags: Option<Vec<Tag>>,
    /// Storage class, or `None` to keep the source's.
    pub storage_class: Option<String>,
    /// Checksum that the copy is to have.
    pub algorithm: Option<ChecksumAlgorithm>,
    /// Condition on the present state of the target.
    pub precondition: Precondition,
}

/// A copy that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Copied {
    /// The new row.
    pub written: Written,
    /// Version id of the source.
    pub source_version_id: Option<String>,
}

/// Copies an object.
///
/// # Errors
/// See [`FlowError`].
pub async fn copy(env: &Env, scope: &Scope, request: CopyRequest) -> Result<Copied, FlowError> {
    prepare(env, scope, &request.bucket, &request.caller).await?;
    for _ in 0..LOOKS {
        let found = get::head(env, scope, request.source.clone()).await.map_err(of_source)?;
        if found.info.size > MAX_COPY_BYTES {
            return Err(FlowError::Invalid(format!(
                "the copy source is larger than {MAX_COPY_BYTES} bytes"
            )));
        }
        let has = found.info.checksum.as_ref().map(|c| c.algorithm);
        if found.info.row == 0 || request.algorithm.is_some_and(|a| Some(a) != has) {
            return copy_bytes(env, scope, request).await;
        }
        match apply(env, scope, command(env, &request, found.info.row)).await {
            Err(ApplyError::Refused(Refused::SourceChanged)) => {}
            Err(error) => return Err(error.into()),
            Ok(applied) => {
                return Ok(Copied {
                    written: written(applied, found.info.checksum)?,
                    source_version_id: found.info.version_id,
                });
            }
        }
    }
    Err(Refused::SourceChanged.into())
}

fn command(env: &Env, request: &CopyRequest, row: u64) -> Command {
    let source =
        CopySource { bucket: request.source.bucket.clone(), key: request.source.key.clone(), row };
    Command::Copy {
        source,
        bucket: request.bucket.clone(),
        key: request.key.clone(),
        version_id: new_version_id(),
        owner: request.caller.clone(),
        head: request.head.clone(),
        tags: request.tags.clone(),
        storage_class: request.storage_class.clone(),
        precondition: request.precondition.clone(),
        request: new_request(),
        now_ms: now_ms(),
        grace_ms: env.settings.grace_ms(),
    }
}

/// A source that is "not modified" fails a copy.
pub(super) fn of_source(error: FlowError) -> FlowError {
    match error {
        FlowError::NotModified { .. } => Refused::PreconditionFailed.into(),
        FlowError::DeleteMarker { .. } => Refused::NoSuchKey.into(),
        FlowError::Refused(Refused::MethodNotAllowed { .. }) => {
            FlowError::Invalid("the source of a copy must not be a delete marker".into())
        }
        other => other,
    }
}

/// Copies by reading and writing.
async fn copy_bytes(env: &Env, scope: &Scope, request: CopyRequest) -> Result<Copied, FlowError> {
    let (found, body) = get::get(env, scope, request.source).await.map_err(of_source)?;
    let source = found.info;
    let (upload, mut expect) = as_upload(body);
    expect.algorithm = request.algorithm.or(source.checksum.map(|c| c.algorithm));
    let object = NewObject {
        storage_class: request.storage_class.unwrap_or(source.storage_class),
        head: request.head.unwrap_or(source.head),
        tags: request.tags.unwrap_or(source.tags),
        ..NewObject::default()
    };
    let request = PutRequest {
        bucket: request.bucket,
        key: request.key,
        caller: request.caller,
        object,
        precondition: request.precondition,
        upload,
        expect,
    };
    let written = put::put(env, scope, request).await?;
    Ok(Copied { written, source_version_id: source.version_id })
}

/// What is read becomes what is written.
pub(super) fn as_upload(body: ObjectBody) -> (Upload, Expect) {
    let expect = Expect { len: Some(body.left()), ..Expect::default() };
    let upload = body.map(|item| item.map_err(|e| BodyError::Source(e.to_string())));
    (Box::pin(upload), expect)
}
