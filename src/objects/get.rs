//! GET and HEAD: metadata first, then any readable copy, then the sources outside.
//!
//! Called by the S3 edge, the JSON API and the copy flows.
//!
//! - `GET-1` nothing is answered before the first bytes are at hand: what can fail early fails
//!   with an error, not with a broken body;
//! - `GET-2` where no copy of a row can be read, metadata is asked once more (it may have been
//!   overwritten meanwhile), then the fallback, which must give the very bytes of the row;
//! - `GET-3` all pages of the part list are taken before the first byte is given.

use futures::StreamExt;

use crate::actors::metadata::model::Refused;
use crate::actors::metadata::query::{BucketInfo, Found, ObjectInfo, PartRow, Query, QueryReply};
use crate::cluster::Scope;

use super::Env;
use super::condition::{self, Conditions, Verdict};
use super::error::{FlowError, Unavailable};
use super::fallback::{Expected, FallbackBody, FallbackObject};
use super::metadata::{check_owner, read, unexpected};
use super::range::{self, RangeSpec, Span};
use super::read::{ObjectBody, Reader, stream};

/// Which bytes are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// All.
    #[default]
    Whole,
    /// A range.
    Range(RangeSpec),
    /// One part, by its number.
    Part(u32),
}

/// A GET or HEAD.
#[derive(Clone, Debug, Default)]
pub struct GetRequest {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Version, or `None` for the current one.
    pub version_id: Option<String>,
    /// Who asks.
    pub caller: String,
    /// Conditions.
    pub conditions: Conditions,
    /// Which bytes.
    pub want: Want,
}

/// What a GET or HEAD found.
#[derive(Clone, Debug, PartialEq)]
pub struct GetDone {
    /// The row.
    pub info: ObjectInfo,
    /// The bytes given.
    pub span: Span,
    /// They were asked for as a range or part (206).
    pub partial: bool,
    /// The checksum of the part asked for.
    pub part_checksum: Option<String>,
}

/// Finds an object without its bytes.
///
/// # Errors
/// See [`FlowError`].
pub async fn head(env: &Env, scope: &Scope, request: GetRequest) -> Result<GetDone, FlowError> {
    let looked = look(env, scope, &request).await?;
    Ok(decide(env, scope, &request, looked).await?.0)
}

/// Finds an object and opens its bytes.
///
/// # Errors
/// See [`FlowError`].
pub async fn get(
    env: &Env,
    scope: &Scope,
    request: GetRequest,
) -> Result<(GetDone, ObjectBody), FlowError> {
    let first = look(env, scope, &request).await?;
    let (row, fallback) = (first.info.row, first.bucket.fallback);
    let (done, source) = decide(env, scope, &request, first).await?;
    if let Ok(body) = open(env, scope, done.span, source).await {
        return Ok((done, body));
    }
    let second = look(env, scope, &request).await?; // GET-2
    let expected = expected(&second.info);
    let (done, source) = decide(env, scope, &request, second).await?;
    if done.info.row != row
        && let Ok(body) = open(env, scope, done.span, source).await
    {
        return Ok((done, body));
    }
    if let (true, Some(expected)) = (fallback, expected)
        && let Some(object) = ask_outside(env, scope, &request, Some(expected)).await
    {
        let body = open(env, scope, done.span, Source::Outside(object.body)).await?;
        return Ok((done, body));
    }
    Err(Unavailable::Unreadable.into())
}

/// What a fallback must give for a row: known only where the ETag is an MD5.
fn expected(info: &ObjectInfo) -> Option<Expected> {
    let md5 = hex::decode(&info.etag).ok()?.try_into().ok()?;
    Some(Expected { size: info.size, md5, row: info.row })
}

/// A row and the way to its bytes.
struct Looked {
    bucket: BucketInfo,
    info: ObjectInfo,
    source: Source,
}

enum Source {
    /// Parts on storage nodes; the first page, and whether more follow.
    Parts(Vec<PartRow>, bool),
    /// A stream from the first byte of the object.
    Outside(FallbackBody),
}

async fn look(env: &Env, scope: &Scope, request: &GetRequest) -> Result<Looked, FlowError> {
    let query = Query::Lookup {
        bucket: request.bucket.clone(),
        key: request.key.clone(),
        version_id: request.version_id.clone(),
    };
    let QueryReply::Object { bucket, found } = read(env, scope, query).await? else {
        return Err(unexpected("Lookup"));
    };
    check_owner(&bucket, &request.caller)?;
    match found {
        Found::Object { info, parts, more_parts } => {
            Ok(Looked { bucket, info: *info, source: Source::Parts(parts, more_parts) })
        }
        Found::DeleteMarker { version_id, last_modified_ms, .. } => Err(match request.version_id {
            Some(_) => Refused::MethodNotAllowed { version_id, last_modified_ms }.into(),
            None => FlowError::DeleteMarker { version_id, last_modified_ms },
        }),
        Found::NoSuchVersion => Err(Refused::NoSuchVersion.into()),
        Found::Absent if bucket.fallback && request.version_id.is_none() => {
            let object = ask_outside(env, scope, request, None).await;
            let object = object.ok_or(FlowError::Refused(Refused::NoSuchKey))?;
            Ok(outside(bucket, object))
        }
        Found::Absent | Found::Deleted => Err(Refused::NoSuchKey.into()),
    }
}

async fn ask_outside(
    env: &Env,
    scope: &Scope,
    request: &GetRequest,
    expect: Option<Expected>,
) -> Option<FallbackObject> {
    let fallback = env.fallback.as_ref()?;
    fallback.fetch(scope, &request.bucket, &request.key, expect).await
}

/// An object from outside, as if it had a row.
fn outside(bucket: BucketInfo, object: FallbackObject) -> Looked {
    let info = ObjectInfo {
        row: 0,
        version_id: None,
        latest: true,
        size: object.size,
        etag: object.etag,
        last_modified_ms: object.last_modified_ms,
        owner: bucket.owner.clone(),
        storage_class: String::new(),
        head: object.head,
        tags: Vec::new(),
        checksum: None,
        parts_count: 0,
    };
    Looked { bucket, info, source: Source::Outside(object.body) }
}

/// Evaluates the conditions, and finds out which bytes are meant and which parts they need.
async fn decide(
    env: &Env,
    scope: &Scope,
    request: &GetRequest,
    looked: Looked,
) -> Result<(GetDone, Source), FlowError> {
    let Looked { info, mut source, .. } = looked;
    match condition::evaluate(&request.conditions, &info.etag, info.last_modified_ms) {
        Verdict::Pass => {}
        Verdict::Failed => return Err(Refused::PreconditionFailed.into()),
        Verdict::NotModified => {
            let (etag, last_modified_ms) = (info.etag, info.last_modified_ms);
            return Err(FlowError::NotModified { etag, last_modified_ms });
        }
    }
    let size = info.size;
    let whole = Span { start: 0, end: size };
    let mut part_checksum = None;
    let span = match request.want {
        Want::Whole => whole,
        Want::Range(spec) => range::resolve(spec, size).ok_or(FlowError::InvalidRange { size })?,
        Want::Part(1) if info.parts_count == 0 => whole,
        Want::Part(no) => {
            let Source::Parts(ref parts, more) = source else {
                return Err(FlowError::InvalidPartNumber);
            };
            let part = part(env, scope, info.row, (parts, more), no).await?;
            let span = Span { start: part.offset, end: part.offset + part.len };
            part_checksum = part.checksum.clone();
            source = Source::Parts(vec![part], false);
            span
        }
    };
    if let Source::Parts(parts, more) = source {
        source = Source::Parts(all_parts(env, scope, info.row, parts, more, span).await?, false);
    }
    let partial = request.want != Want::Whole;
    Ok((GetDone { info, span, partial, part_checksum }, source))
}

async fn part(
    env: &Env,
    scope: &Scope,
    row: u64,
    (parts, more): (&[PartRow], bool),
    no: u32,
) -> Result<PartRow, FlowError> {
    let known = parts.iter().find(|p| p.no == no).cloned();
    if known.is_some() || !more {
        return known.ok_or(FlowError::InvalidPartNumber);
    }
    let page = page(env, scope, row, no.saturating_sub(1), 0).await?.0;
    page.into_iter().find(|p| p.no == no).ok_or(FlowError::InvalidPartNumber)
}

/// All parts that a span needs (GET-3).
async fn all_parts(
    env: &Env,
    scope: &Scope,
    row: u64,
    mut parts: Vec<PartRow>,
    mut more: bool,
    span: Span,
) -> Result<Vec<PartRow>, FlowError> {
    while more && parts.last().is_none_or(|p| p.offset + p.len < span.end) {
        let after = parts.last().map_or(0, |p| p.no);
        let (next, more_follow) = page(env, scope, row, after, span.start).await?;
        more = more_follow && !next.is_empty();
        parts.extend(next);
    }
    Ok(parts)
}

async fn page(
    env: &Env,
    scope: &Scope,
    row: u64,
    after_no: u32,
    from_offset: u64,
) -> Result<(Vec<PartRow>, bool), FlowError> {
    match read(env, scope, Query::Parts { row, after_no, from_offset }).await? {
        QueryReply::Parts { parts, more } => Ok((parts, more)),
        _ => Err(unexpected("Parts")),
    }
}

/// Opens the bytes; the first of them are read here (GET-1).
async fn open(
    env: &Env,
    scope: &Scope,
    span: Span,
    source: Source,
) -> Result<ObjectBody, Unavailable> {
    match source {
        Source::Parts(parts, _) => {
            let pieces = range::cut(&parts, span).ok_or(Unavailable::Unreadable)?;
            let mut reader = Reader::new(env, scope, pieces);
            let first = reader.next().await?;
            Ok(ObjectBody::pump(env, span.len(), first, stream(reader)))
        }
        Source::Outside(body) => {
            let (mut skip, mut left) = (span.start, span.len());
            let bytes = body.map(move |item| {
                let mut bytes = item.map_err(|_| Unavailable::Unreadable)?;
                let before = skip.min(bytes.len() as u64);
                skip -= before;
                let mut bytes = bytes.split_off(before as usize);
                bytes.truncate(left.min(bytes.len() as u64) as usize);
                left -= bytes.len() as u64;
                Ok(bytes)
            });
            Ok(ObjectBody::pump(env, span.len(), None, bytes))
        }
    }
}
