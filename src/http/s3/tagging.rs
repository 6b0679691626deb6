//! Tags of objects and buckets at the S3 edge, and the ACL of objects as it is.
//!
//! Called by `api`.

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use crate::actors::metadata::command::BucketChange;
use crate::actors::metadata::model::Refused;
use crate::objects::get::{self, GetRequest};
use crate::objects::tags;

use super::Cx;
use super::bucket::{configure, grants, own, owner};
use super::convert::{tags_of_xml, tags_to_xml, version};
use super::error;

/// The most tags of an object, and of a bucket.
const OBJECT_TAGS: usize = 10;
const BUCKET_TAGS: usize = 50;

/// GetObjectTagging.
pub async fn get_object(
    cx: Cx,
    req: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let GetObjectTaggingInput { bucket, key, version_id, .. } = req.input;
    let info = info(&cx, bucket, key, version_id).await?;
    let (tag_set, version_id) = (tags_to_xml(info.tags), info.version_id);
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id }))
}

async fn info(
    cx: &Cx,
    bucket: String,
    key: String,
    version_id: Option<String>,
) -> S3Result<crate::actors::metadata::query::ObjectInfo> {
    let (version_id, caller) = (version(version_id), cx.caller.clone());
    let request = GetRequest { bucket, key, version_id, caller, ..GetRequest::default() };
    Ok(get::head(&cx.env, &cx.scope, request).await.map_err(error::of)?.info)
}

/// PutObjectTagging.
pub async fn put_object(
    cx: Cx,
    req: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let PutObjectTaggingInput { bucket, key, version_id, tagging, .. } = req.input;
    let tags = tags_of_xml(tagging.tag_set, OBJECT_TAGS)?;
    let target = (bucket.as_str(), key.as_str(), version(version_id));
    let version_id = tags::put(&cx.env, &cx.scope, target, &cx.caller, tags).await;
    let version_id = version_id.map_err(error::of)?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

/// DeleteObjectTagging.
pub async fn delete_object(
    cx: Cx,
    req: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let DeleteObjectTaggingInput { bucket, key, version_id, .. } = req.input;
    let target = (bucket.as_str(), key.as_str(), version(version_id));
    let version_id = tags::put(&cx.env, &cx.scope, target, &cx.caller, Vec::new()).await;
    let output = DeleteObjectTaggingOutput { version_id: version_id.map_err(error::of)? };
    Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
}

/// GetBucketTagging.
pub async fn get_bucket(
    cx: Cx,
    req: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let tags = own(&cx, &req.input.bucket).await?.tags;
    let tags = tags.ok_or_else(|| error::of_refused(Refused::NoSuchTagSet))?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: tags_to_xml(tags) }))
}

/// PutBucketTagging.
pub async fn put_bucket(
    cx: Cx,
    req: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let tags = Some(tags_of_xml(req.input.tagging.tag_set, BUCKET_TAGS)?);
    configure(&cx, &req.input.bucket, BucketChange::Tags { tags }).await?;
    let output = PutBucketTaggingOutput::default();
    Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
}

/// DeleteBucketTagging.
pub async fn delete_bucket(
    cx: Cx,
    req: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    configure(&cx, &req.input.bucket, BucketChange::Tags { tags: None }).await?;
    let output = DeleteBucketTaggingOutput::default();
    Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
}

/// GetObjectAcl: owners have full control, and nobody else any.
pub async fn get_object_acl(
    cx: Cx,
    req: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let GetObjectAclInput { bucket, key, version_id, .. } = req.input;
    let info = info(&cx, bucket, key, version_id).await?;
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(grants(&info.owner)),
        owner: Some(owner(&info.owner)),
        ..GetObjectAclOutput::default()
    }))
}

/// GetObjectAttributes.
pub async fn attributes(
    cx: Cx,
    req: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let GetObjectAttributesInput { bucket, key, version_id, object_attributes, .. } = req.input;
    if object_attributes.is_empty() {
        return Err(S3ErrorCode::InvalidArgument.into());
    }
    // s3s does not part a list that stands in one header line
    let asked =
        |name| object_attributes.iter().any(|a| a.as_str().split(',').any(|a| a.trim() == name));
    let info = info(&cx, bucket, key, version_id).await?;
    let mut output = GetObjectAttributesOutput {
        last_modified: Some(super::convert::timestamp(info.last_modified_ms)),
        version_id: info.version_id,
        ..GetObjectAttributesOutput::default()
    };
    if asked(ObjectAttributes::ETAG) {
        output.e_tag = Some(super::convert::etag(info.etag));
    }
    if asked(ObjectAttributes::OBJECT_SIZE) {
        output.object_size = Some(info.size as i64);
    }
    if asked(ObjectAttributes::STORAGE_CLASS) {
        output.storage_class = Some(StorageClass::from(info.storage_class));
    }
    if let Some(stored) = info.checksum.filter(|_| asked(ObjectAttributes::CHECKSUM)) {
        let mut checksum = Checksum::default();
        super::convert::set_checksum!(checksum, stored.algorithm, stored.value);
        checksum.checksum_type = Some(super::convert::kind_name(stored.kind));
        output.checksum = Some(checksum);
    }
    if asked(ObjectAttributes::OBJECT_PARTS) && info.parts_count > 0 {
        output.object_parts = Some(GetObjectAttributesParts {
            total_parts_count: Some(info.parts_count as i32),
            ..GetObjectAttributesParts::default()
        });
    }
    Ok(S3Response::new(output))
}
