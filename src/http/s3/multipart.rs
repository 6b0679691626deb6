//! Multipart uploads at the S3 edge.
//!
//! Called by `api`; translates to the flows in `objects::multipart` and back.

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::actors::metadata::command::{NewObject, UploadChecksum};
use crate::objects::digest;
use crate::objects::get::Want;
use crate::objects::multipart::{self, CompleteRequest, ListedPart, PartDone, UploadRef};
use crate::objects::range::RangeSpec;

use super::Cx;
use super::bucket::owner;
use super::conditions::*;
use super::convert::*;
use super::error::{self, invalid_argument};
use super::object::source_request;
use super::upload::{Said, expect, upload};

/// Names the upload of an input.
macro_rules! upload_ref {
    ($cx:expr, $input:expr) => {
        UploadRef {
            bucket: $input.bucket.clone(),
            key: $input.key.clone(),
            upload_id: $input.upload_id.clone(),
            caller: $cx.caller.clone(),
        }
    };
}

/// CreateMultipartUpload.
pub async fn create(
    cx: Cx,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let mut input = req.input;
    let checksum = chosen(input.checksum_algorithm.take(), input.checksum_type.take())?;
    let tags = input.tagging.take().map(|t| tags_of_header(&t)).transpose()?.unwrap_or_default();
    let class = input.storage_class.take();
    let object = NewObject {
        storage_class: class.map_or_else(|| "STANDARD".to_owned(), |c| c.as_str().to_owned()),
        head: object_head(head_fields!(input))?,
        tags,
        ..NewObject::default()
    };
    let target = (input.bucket.as_str(), input.key.as_str());
    let opened = multipart::create(&cx.env, &cx.scope, target, &cx.caller, object, checksum).await;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        upload_id: Some(opened.map_err(error::of)?),
        bucket: Some(input.bucket),
        key: Some(input.key),
        checksum_algorithm: checksum.map(|c| algorithm_name(c.algorithm)),
        checksum_type: checksum.map(|c| kind_name(c.kind)),
        ..CreateMultipartUploadOutput::default()
    }))
}

/// The checksum that an upload is opened with.
fn chosen(
    name: Option<ChecksumAlgorithm>,
    kind: Option<ChecksumType>,
) -> S3Result<Option<UploadChecksum>> {
    let invalid =
        |text: &str| Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text.to_owned()));
    let kind = kind.map(|kind| checksum_kind(kind.as_str())).transpose()?;
    let Some(name) = name else {
        return match kind {
            None => Ok(None),
            Some(_) => invalid("The x-amz-checksum-type header needs x-amz-checksum-algorithm"),
        };
    };
    let algorithm = algorithm(name.as_str())?;
    let kind = kind.unwrap_or_else(|| digest::default_kind(algorithm));
    if !digest::kind_is_allowed(algorithm, kind) {
        return invalid("The checksum type cannot be used with this checksum algorithm");
    }
    Ok(Some(UploadChecksum { algorithm, kind }))
}

/// UploadPart.
pub async fn put_part(
    cx: Cx,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let S3Request { mut input, headers, trailing_headers, .. } = req;
    let expect = expect(Said {
        len: input.content_length,
        md5: input.content_md5.take(),
        given: given_checksums!(input),
        headers: &headers,
        trailers: trailing_headers,
    })?;
    let (target, no) = (upload_ref!(cx, input), part_number(input.part_number)?);
    let body = upload(input.body.take());
    let done = multipart::put_part(&cx.env, &cx.scope, target, no, body, expect).await;
    let PartDone { etag: tag, checksum, .. } = done.map_err(error::of)?;
    let mut output = UploadPartOutput { e_tag: Some(etag(tag)), ..UploadPartOutput::default() };
    if let Some(checksum) = checksum {
        set_checksum!(output, checksum.algorithm, checksum.value);
    }
    Ok(S3Response::new(output))
}

fn part_number(no: i32) -> S3Result<u32> {
    match u32::try_from(no) {
        Ok(no @ 1..=10_000) => Ok(no),
        _ => Err(invalid_argument("Part number must be an integer between 1 and 10000, inclusive")),
    }
}

/// UploadPartCopy.
pub async fn copy_part(
    cx: Cx,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = req.input;
    let on_source = conditions(
        input.copy_source_if_match.clone(),
        input.copy_source_if_none_match.clone(),
        input.copy_source_if_modified_since.clone(),
        input.copy_source_if_unmodified_since.clone(),
    );
    let want = source_range(input.copy_source_range.as_deref())?;
    let source = source_request(&cx, input.copy_source.clone(), on_source, want)?;
    let (target, no) = (upload_ref!(cx, input), part_number(input.part_number)?);
    let done = multipart::copy_part(&cx.env, &cx.scope, target, no, source).await;
    let done = done.map_err(error::of)?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(done.etag)),
        last_modified: Some(timestamp(done.last_modified_ms)),
        ..CopyPartResult::default()
    };
    if let Some(checksum) = done.checksum {
        set_checksum!(result, checksum.algorithm, checksum.value);
    }
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: done.source_version_id,
        ..UploadPartCopyOutput::default()
    }))
}

/// The bytes of the source: both ends must be given.
fn source_range(text: Option<&str>) -> S3Result<Want> {
    let Some(text) = text else { return Ok(Want::Whole) };
    match Range::parse(text) {
        Ok(Range::Int { first, last: Some(last) }) => {
            Ok(Want::Range(RangeSpec::From { first, last: Some(last) }))
        }
        _ => Err(invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last",
        )),
    }
}

/// CompleteMultipartUpload.
pub async fn complete(
    cx: Cx,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let mut input = req.input;
    let parts = input.multipart_upload.take().and_then(|u| u.parts).unwrap_or_default();
    if parts.is_empty() || parts.len() > 10_000 {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    let request = CompleteRequest {
        upload: upload_ref!(cx, input),
        parts: parts.into_iter().map(listed).collect::<S3Result<_>>()?,
        checksum: one_checksum(given_checksums!(input))?.map(whole_checksum),
        size: input.mpu_object_size.and_then(|size| u64::try_from(size).ok()),
        precondition: precondition(input.if_match.take(), input.if_none_match.take())?,
    };
    let written = multipart::complete(&cx.env, &cx.scope, request).await.map_err(error::of)?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, url_encode(&input.key))),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(written.etag)),
        version_id: written.version_id,
        ..CompleteMultipartUploadOutput::default()
    };
    if let Some(checksum) = written.checksum {
        set_checksum!(output, checksum.algorithm, checksum.value);
        output.checksum_type = Some(kind_name(checksum.kind));
    }
    Ok(S3Response::new(output))
}

fn listed(mut part: CompletedPart) -> S3Result<ListedPart> {
    let checksum = one_checksum(given_checksums!(part))?.map(|(_, value)| value);
    match (part.part_number, part.e_tag) {
        (Some(no), Some(tag)) => {
            Ok(ListedPart { no: part_number(no)?, etag: tag.into_value(), checksum })
        }
        _ => Err(S3ErrorCode::MalformedXML.into()),
    }
}

/// AbortMultipartUpload.
pub async fn abort(
    cx: Cx,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let target = upload_ref!(cx, req.input);
    multipart::abort(&cx.env, &cx.scope, target).await.map_err(error::of)?;
    let output = AbortMultipartUploadOutput::default();
    Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
}

/// ListParts.
pub async fn list_parts(
    cx: Cx,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = req.input;
    let after = input.part_number_marker.and_then(|no| u32::try_from(no).ok()).unwrap_or(0);
    let max = match input.max_parts.unwrap_or(1000) {
        n if n < 0 => return Err(invalid_argument("max-parts must not be negative")),
        n => n.min(1000) as u32,
    };
    let target = upload_ref!(cx, input);
    let page = multipart::parts(&cx.env, &cx.scope, &target, after, max.max(1)).await;
    let (info, mut parts, more) = page.map_err(error::of)?;
    parts.truncate(max as usize);
    let next = parts.last().map(|p| p.no as i32).filter(|_| more);
    let algorithm = info.checksum.map(|c| c.algorithm);
    let parts = parts.into_iter().map(|part| {
        let mut shown = Part {
            part_number: Some(part.no as i32),
            size: Some(part.size as i64),
            e_tag: Some(etag(hex::encode(part.md5))),
            last_modified: Some(timestamp(part.last_modified_ms)),
            ..Part::default()
        };
        if let (Some(algorithm), Some(value)) = (algorithm, part.checksum) {
            set_checksum!(shown, algorithm, value);
        }
        shown
    });
    Ok(S3Response::new(ListPartsOutput {
        parts: Some(parts.collect()),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(after as i32),
        next_part_number_marker: next,
        max_parts: Some(max as i32),
        is_truncated: Some(more && max > 0),
        owner: Some(owner(&info.owner)),
        initiator: Some(Initiator { display_name: Some(info.owner.clone()), id: Some(info.owner) }),
        storage_class: Some(StorageClass::from(info.storage_class)),
        checksum_algorithm: algorithm.map(algorithm_name),
        checksum_type: info.checksum.map(|c| kind_name(c.kind)),
        ..ListPartsOutput::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::metadata::model;

    #[test]
    fn the_checksum_of_an_upload_is_one_that_s3_has() {
        let name = |n: &'static str| Some(ChecksumAlgorithm::from_static(n));
        let kind = |k: &'static str| Some(ChecksumType::from_static(k));
        let got = |n, k| chosen(n, k).map(|c| c.map(|c| c.kind));
        assert_eq!(got(None, None).unwrap(), None);
        assert_eq!(got(name("CRC32"), None).unwrap(), Some(model::ChecksumType::Composite));
        assert_eq!(got(name("CRC64NVME"), None).unwrap(), Some(model::ChecksumType::FullObject));
        assert_eq!(
            got(name("CRC32C"), kind("FULL_OBJECT")).unwrap(),
            Some(model::ChecksumType::FullObject)
        );
        assert!(got(name("SHA256"), kind("FULL_OBJECT")).is_err());
        assert!(got(name("CRC64NVME"), kind("COMPOSITE")).is_err());
        assert!(got(name("MD4"), None).is_err());
        assert!(got(None, kind("COMPOSITE")).is_err());
    }

    #[test]
    fn the_range_of_a_part_copy_needs_both_ends() {
        assert_eq!(source_range(None).unwrap(), Want::Whole);
        let range = RangeSpec::From { first: 5, last: Some(9) };
        assert_eq!(source_range(Some("bytes=5-9")).unwrap(), Want::Range(range));
        for bad in ["bytes=5-", "bytes=-5", "5-9", "bytes=9-5"] {
            assert!(source_range(Some(bad)).is_err(), "{bad}");
        }
    }
}
