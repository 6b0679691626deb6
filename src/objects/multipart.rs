//! Multipart uploads: parts are data items of their own; completing makes one row of them.
//!
//! Called by the S3 edge. Part lists live in metadata; completing sends ranges of numbers and a
//! digest.
//!
//! - `MULTI-1` completing names exactly the parts that the client listed: the digest over their
//!   numbers and ETags is checked by metadata in the same step;
//! - `MULTI-2` completing may be sent again: metadata remembers finished uploads.

use crate::actors::metadata::command::{
    Command, NewObject, Precondition, UploadChecksum, part_ranges, parts_digest,
};
use crate::actors::metadata::model::{Checksum, MAX_PARTS, Refused};
use crate::actors::metadata::query::{Query, QueryReply, UploadInfo, UploadPart};
use crate::cluster::Scope;
use crate::types::{UnixMillis, now_ms};

use super::body::{self, Expect, Upload};
use super::copy::{as_upload, of_source};
use super::error::{BodyError, FlowError};
use super::get::{self, GetRequest, Want};
use super::metadata::{apply, read, unexpected};
use super::put::{Written, commit, prepare, written};
use super::range::RangeSpec;
use super::write::{self, Stored};
use super::{Env, bucket, digest, new_version_id};

/// Which upload, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRef {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// Who asks.
    pub caller: String,
}

/// A part that was stored.
#[derive(Clone, Debug, PartialEq)]
pub struct PartDone {
    /// ETag without quotes.
    pub etag: String,
    /// The checksum that the client chose.
    pub checksum: Option<Checksum>,
    /// Time of the part.
    pub last_modified_ms: UnixMillis,
    /// Version id of the source, where it is a copy.
    pub source_version_id: Option<String>,
}

/// A part as the client lists it when it completes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    /// Number.
    pub no: u32,
    /// ETag without quotes.
    pub etag: String,
    /// Base64 of its checksum, where the client gives it.
    pub checksum: Option<String>,
}

/// What the client says when it completes.
#[derive(Clone, Debug, PartialEq)]
pub struct CompleteRequest {
    /// The upload.
    pub upload: UploadRef,
    /// The parts, in the order given.
    pub parts: Vec<ListedPart>,
    /// Checksum of the whole, where the client gives it.
    pub checksum: Option<Checksum>,
    /// Size of the whole, where the client gives it.
    pub size: Option<u64>,
    /// Condition on the present state of the key.
    pub precondition: Precondition,
}

/// Opens an upload and gives its id.
///
/// # Errors
/// See [`FlowError`].
pub async fn create(
    env: &Env,
    scope: &Scope,
    target: (&str, &str),
    caller: &str,
    mut object: NewObject,
    checksum: Option<UploadChecksum>,
) -> Result<String, FlowError> {
    let (bucket, key) = target;
    bucket::get(env, scope, bucket, caller).await?;
    object.version_id = new_version_id();
    object.owner = caller.to_owned();
    let upload_id = uuid::Uuid::now_v7().simple().to_string();
    let command = Command::CreateUpload {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        upload_id: upload_id.clone(),
        object,
        checksum,
        now_ms: now_ms(),
    };
    apply(env, scope, command).await?;
    Ok(upload_id)
}

/// Stores one part.
///
/// # Errors
/// See [`FlowError`].
pub async fn put_part(
    env: &Env,
    scope: &Scope,
    target: UploadRef,
    no: u32,
    upload: Upload,
    mut expect: Expect,
) -> Result<PartDone, FlowError> {
    if no == 0 || no > MAX_PARTS {
        return Err(Refused::InvalidArgument {
            what: format!("part number must be an integer between 1 and {MAX_PARTS}"),
        }
        .into());
    }
    let (_, members) = prepare(env, scope, &target.bucket, &target.caller).await?;
    let wanted = page(env, scope, &target, MAX_PARTS, 1).await?.0.checksum.map(|c| c.algorithm);
    match (wanted, expect.algorithm) {
        (Some(wanted), Some(given)) if wanted != given => {
            return Err(FlowError::Invalid(format!(
                "checksum type mismatch: the upload was opened with {}, the part carries {}",
                body::name(wanted),
                body::name(given)
            )));
        }
        (Some(wanted), None) => expect.algorithm = Some(wanted),
        _ => {}
    }
    let Stored { guard, data, sums } = write::store(env, scope, &members, upload, expect).await?;
    let now_ms = now_ms();
    let command = Command::AddPart {
        bucket: target.bucket,
        key: target.key,
        upload_id: target.upload_id,
        no,
        data,
        checksum: wanted.and_then(|_| sums.checksum.as_ref().map(|c| c.value.clone())),
        now_ms,
        grace_ms: env.settings.grace_ms(),
    };
    commit(env, scope, guard, command).await?;
    let (etag, checksum) = (hex::encode(sums.md5), sums.checksum);
    Ok(PartDone { etag, checksum, last_modified_ms: now_ms, source_version_id: None })
}

/// Stores one part from bytes of another object.
///
/// # Errors
/// See [`FlowError`].
pub async fn copy_part(
    env: &Env,
    scope: &Scope,
    target: UploadRef,
    no: u32,
    source: GetRequest,
) -> Result<PartDone, FlowError> {
    let want = source.want;
    let found = get::get(env, scope, source).await;
    let (found, body) = found.map_err(|error| of_range(of_source(error)))?;
    check_range(want, found.info.size)?;
    let (upload, expect) = as_upload(body);
    let mut done = put_part(env, scope, target, no, upload, expect).await?;
    done.source_version_id = found.info.version_id;
    Ok(done)
}

/// The range of a copied part must lie within its source: S3 does not cut it there.
fn check_range(want: Want, size: u64) -> Result<(), FlowError> {
    match want {
        Want::Range(RangeSpec::From { last: Some(last), .. }) if last >= size => {
            Err(of_range(FlowError::InvalidRange { size }))
        }
        _ => Ok(()),
    }
}

fn of_range(error: FlowError) -> FlowError {
    match error {
        FlowError::InvalidRange { size } => Refused::InvalidArgument {
            what: format!("range specified is not valid for source object of size: {size}"),
        }
        .into(),
        other => other,
    }
}

/// Makes the listed parts the current version of the key.
///
/// # Errors
/// See [`FlowError`].
pub async fn complete(
    env: &Env,
    scope: &Scope,
    request: CompleteRequest,
) -> Result<Written, FlowError> {
    let CompleteRequest { upload: target, parts, checksum, size, precondition } = request;
    bucket::get(env, scope, &target.bucket, &target.caller).await?;
    let whole = match all_parts(env, scope, &target).await {
        Ok((upload, stored)) => check_listed(&upload, &stored, &parts, checksum.as_ref(), size)?,
        // finished before: metadata answers as it did then (MULTI-2)
        Err(FlowError::Refused(Refused::NoSuchUpload)) => None,
        Err(error) => return Err(error),
    };
    let command = Command::CompleteUpload {
        bucket: target.bucket,
        key: target.key,
        upload_id: target.upload_id,
        parts: part_ranges(parts.iter().map(|p| p.no)),
        digest: listed_digest(&parts)?,
        min_part_bytes: env.settings.min_part_bytes,
        checksum: whole.clone(),
        precondition,
        now_ms: now_ms(),
        grace_ms: env.settings.grace_ms(),
    };
    written(apply(env, scope, command).await?, whole)
}

/// The digest over the parts as the client listed them (MULTI-1).
fn listed_digest(parts: &[ListedPart]) -> Result<[u8; 16], FlowError> {
    let mut selection = Vec::with_capacity(parts.len());
    for part in parts {
        let md5 = hex::decode(&part.etag).ok().and_then(|bytes| bytes.try_into().ok());
        selection.push((part.no, md5.ok_or(Refused::InvalidPart { no: Some(part.no) })?));
    }
    Ok(parts_digest(selection))
}

/// Holds the client's list against the stored parts as far as checksums and sizes go, and gives
/// the checksum of the whole. Numbers, order, ETags and least sizes are metadata's to check.
fn check_listed(
    upload: &UploadInfo,
    stored: &[UploadPart],
    listed: &[ListedPart],
    given: Option<&Checksum>,
    size: Option<u64>,
) -> Result<Option<Checksum>, FlowError> {
    let mut chosen = Vec::with_capacity(listed.len());
    for part in listed {
        let found = stored.binary_search_by_key(&part.no, |s| s.no).ok().map(|i| &stored[i]);
        let found = found.ok_or(Refused::InvalidPart { no: Some(part.no) })?;
        if part.checksum.is_some() && upload.checksum.is_some() && part.checksum != found.checksum {
            return Err(Refused::InvalidPart { no: Some(part.no) }.into());
        }
        chosen.push(found);
    }
    let total: u64 = chosen.iter().map(|p| p.size).sum();
    if let Some(declared) = size.filter(|&declared| declared != total) {
        return Err(FlowError::Invalid(format!(
            "the parts have {total} bytes, x-amz-mp-object-size says {declared}"
        )));
    }
    let Some(UploadChecksum { algorithm, kind }) = upload.checksum else { return Ok(None) };
    let parts = chosen.iter().map(|p| (p.checksum.as_deref(), p.size));
    let whole = digest::combine(algorithm, kind, parts);
    match (&whole, given) {
        (Some(whole), Some(given)) if whole.value != given.value => {
            Err(BodyError::Checksum(body::name(algorithm)).into())
        }
        _ => Ok(whole),
    }
}

/// Ends an upload.
///
/// # Errors
/// See [`FlowError`].
pub async fn abort(env: &Env, scope: &Scope, target: UploadRef) -> Result<(), FlowError> {
    bucket::get(env, scope, &target.bucket, &target.caller).await?;
    // the command may be sent again after a lost answer, and so says yes twice; the client hears no
    page(env, scope, &target, MAX_PARTS, 1).await?;
    let command = Command::AbortUpload {
        bucket: target.bucket,
        key: target.key,
        upload_id: target.upload_id,
        now_ms: now_ms(),
        grace_ms: env.settings.grace_ms(),
    };
    apply(env, scope, command).await?;
    Ok(())
}

/// The upload and some of its parts, with numbers above `after_no`; the flag says that more
/// follow.
///
/// # Errors
/// See [`FlowError`].
pub async fn parts(
    env: &Env,
    scope: &Scope,
    target: &UploadRef,
    after_no: u32,
    max: u32,
) -> Result<(UploadInfo, Vec<UploadPart>, bool), FlowError> {
    bucket::get(env, scope, &target.bucket, &target.caller).await?;
    let (upload, mut all, mut more) = page(env, scope, target, after_no, max).await?;
    while more && (all.len() as u32) < max {
        let after = all.last().map_or(after_no, |p| p.no);
        let (_, next, follow) = page(env, scope, target, after, max - all.len() as u32).await?;
        more = follow && !next.is_empty();
        all.extend(next);
    }
    Ok((upload, all, more))
}

async fn all_parts(
    env: &Env,
    scope: &Scope,
    target: &UploadRef,
) -> Result<(UploadInfo, Vec<UploadPart>), FlowError> {
    let (upload, mut all, mut more) = page(env, scope, target, 0, 1000).await?;
    while more {
        let after = all.last().map_or(0, |p| p.no);
        let (_, next, follow) = page(env, scope, target, after, 1000).await?;
        more = follow && !next.is_empty();
        all.extend(next);
    }
    Ok((upload, all))
}

async fn page(
    env: &Env,
    scope: &Scope,
    target: &UploadRef,
    after_no: u32,
    max: u32,
) -> Result<(UploadInfo, Vec<UploadPart>, bool), FlowError> {
    let query = Query::ListParts {
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        upload_id: target.upload_id.clone(),
        after_no,
        max,
    };
    match read(env, scope, query).await? {
        QueryReply::UploadParts { upload, parts, more } => Ok((upload, parts, more)),
        _ => Err(unexpected("ListParts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::metadata::model::{ChecksumAlgorithm, ChecksumType, ObjectHead};

    fn upload(kind: Option<ChecksumType>) -> UploadInfo {
        let algorithm = ChecksumAlgorithm::Crc32;
        UploadInfo {
            created_ms: 0,
            owner: "me".into(),
            storage_class: "STANDARD".into(),
            checksum: kind.map(|kind| UploadChecksum { algorithm, kind }),
            head: ObjectHead::default(),
        }
    }

    fn stored(no: u32, checksum: &str) -> UploadPart {
        let checksum = Some(checksum.to_owned());
        UploadPart { no, size: 9, md5: [no as u8; 16], last_modified_ms: 0, checksum }
    }

    fn listed(no: u32, checksum: Option<&str>) -> ListedPart {
        let etag = hex::encode([no as u8; 16]);
        ListedPart { no, etag, checksum: checksum.map(str::to_owned) }
    }

    #[test]
    fn the_list_of_the_client_is_held_against_the_stored_parts() {
        let all = [stored(1, "y/Q5Jg=="), stored(3, "AAAAAA==")];
        let info = upload(Some(ChecksumType::Composite));
        let check = |parts: &[ListedPart], size| check_listed(&info, &all, parts, None, size);
        let good = [listed(1, Some("y/Q5Jg==")), listed(3, None)];
        let whole = check(&good, Some(18)).unwrap().unwrap();
        assert!(whole.value.ends_with("-2"), "{whole:?}");
        assert!(matches!(check(&good, Some(17)), Err(FlowError::Invalid(_))));
        let invalid = |no| Err(Refused::InvalidPart { no: Some(no) }.into());
        assert_eq!(check(&[listed(2, None)], None), invalid(2));
        assert_eq!(check(&[listed(3, Some("y/Q5Jg=="))], None), invalid(3));
        let other = Checksum { value: "AAAAAA==-2".into(), ..whole.clone() };
        let refused = check_listed(&info, &all, &good, Some(&other), None);
        assert_eq!(refused, Err(BodyError::Checksum("CRC32").into()));
        assert_eq!(check_listed(&upload(None), &all, &good, None, None), Ok(None));
    }

    #[test]
    fn the_range_of_a_copied_part_ends_within_its_source() {
        let range = |first, last| Want::Range(RangeSpec::From { first, last });
        assert_eq!(check_range(range(0, Some(3)), 4), Ok(()));
        assert_eq!(check_range(Want::Whole, 0), Ok(()));
        let refused = check_range(range(0, Some(4)), 4);
        assert!(matches!(refused, Err(FlowError::Refused(Refused::InvalidArgument { .. }))));
    }

    #[test]
    fn an_etag_that_is_no_md5_names_its_part() {
        let bad = ListedPart { no: 7, etag: "abc-2".into(), checksum: None };
        assert_eq!(listed_digest(&[bad]), Err(Refused::InvalidPart { no: Some(7) }.into()));
        let good = listed_digest(&[listed(1, None)]).unwrap();
        assert_eq!(good, parts_digest([(1, [1; 16])]));
    }
}
