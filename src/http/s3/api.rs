//! The list of supported S3 operations: each runs in an actor of its own.
//!
//! Called by `s3s`. What is not listed here is answered `NotImplemented` by the trait's defaults;
//! POST object comes in as `put_object`.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::{Operations, bucket, cors, list, multipart, object, tagging};

/// Implements an operation by running a function of (context, request) in a request actor.
macro_rules! operations {
    ($($name:ident: $input:ident -> $output:ident = $function:path;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(
                async fn $name(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    let cx = self.context(&req)?;
                    self.run(stringify!($name), $function(cx, req)).await
                }
            )*
        }
    };
}

operations! {
    abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput
        = multipart::abort;
    complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput
        = multipart::complete;
    copy_object: CopyObjectInput -> CopyObjectOutput = object::copy;
    create_bucket: CreateBucketInput -> CreateBucketOutput = bucket::create;
    create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput
        = multipart::create;
    delete_bucket: DeleteBucketInput -> DeleteBucketOutput = bucket::delete;
    delete_bucket_cors: DeleteBucketCorsInput -> DeleteBucketCorsOutput = cors::delete;
    delete_bucket_tagging: DeleteBucketTaggingInput -> DeleteBucketTaggingOutput
        = tagging::delete_bucket;
    delete_object: DeleteObjectInput -> DeleteObjectOutput = object::delete;
    delete_object_tagging: DeleteObjectTaggingInput -> DeleteObjectTaggingOutput
        = tagging::delete_object;
    delete_objects: DeleteObjectsInput -> DeleteObjectsOutput = object::delete_many;
    get_bucket_acl: GetBucketAclInput -> GetBucketAclOutput = bucket::get_acl;
    get_bucket_cors: GetBucketCorsInput -> GetBucketCorsOutput = cors::get;
    get_bucket_location: GetBucketLocationInput -> GetBucketLocationOutput = bucket::location;
    get_bucket_tagging: GetBucketTaggingInput -> GetBucketTaggingOutput = tagging::get_bucket;
    get_bucket_versioning: GetBucketVersioningInput -> GetBucketVersioningOutput
        = bucket::get_versioning;
    get_object: GetObjectInput -> GetObjectOutput = object::get;
    get_object_acl: GetObjectAclInput -> GetObjectAclOutput = tagging::get_object_acl;
    get_object_attributes: GetObjectAttributesInput -> GetObjectAttributesOutput
        = tagging::attributes;
    get_object_tagging: GetObjectTaggingInput -> GetObjectTaggingOutput = tagging::get_object;
    head_bucket: HeadBucketInput -> HeadBucketOutput = bucket::head;
    head_object: HeadObjectInput -> HeadObjectOutput = object::head;
    list_buckets: ListBucketsInput -> ListBucketsOutput = bucket::list;
    list_multipart_uploads: ListMultipartUploadsInput -> ListMultipartUploadsOutput
        = list::uploads;
    list_object_versions: ListObjectVersionsInput -> ListObjectVersionsOutput = list::versions;
    list_objects: ListObjectsInput -> ListObjectsOutput = list::objects;
    list_objects_v2: ListObjectsV2Input -> ListObjectsV2Output = list::objects_v2;
    list_parts: ListPartsInput -> ListPartsOutput = multipart::list_parts;
    put_bucket_cors: PutBucketCorsInput -> PutBucketCorsOutput = cors::put;
    put_bucket_tagging: PutBucketTaggingInput -> PutBucketTaggingOutput = tagging::put_bucket;
    put_bucket_versioning: PutBucketVersioningInput -> PutBucketVersioningOutput
        = bucket::put_versioning;
    put_object: PutObjectInput -> PutObjectOutput = object::put;
    put_object_tagging: PutObjectTaggingInput -> PutObjectTaggingOutput = tagging::put_object;
    upload_part: UploadPartInput -> UploadPartOutput = multipart::put_part;
    upload_part_copy: UploadPartCopyInput -> UploadPartCopyOutput = multipart::copy_part;
}
