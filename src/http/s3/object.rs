//! GET, HEAD, PUT, POST, DELETE and COPY of objects at the S3 edge.
//!
//! Called by `api`; translates to the flows in `objects` and back.

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use crate::actors::metadata::command::NewObject;
use crate::actors::metadata::model::ObjectHead;
use crate::objects::copy::{self, CopyRequest};
use crate::objects::delete::{self, Target};
use crate::objects::get::{self, GetDone, GetRequest, Want};
use crate::objects::put::{self, PutRequest, Written};
use crate::objects::range::RangeSpec;
use crate::objects::read::ObjectBody;

use super::Cx;
use super::conditions::*;
use super::convert::{self, *};
use super::error::{self, invalid_argument, not_implemented};
use super::unsupported::check_storage_class;
use super::upload::{Said, expect, upload};

/// The type of objects that were stored without one.
const DEFAULT_TYPE: &str = "binary/octet-stream";

/// Builds the request of a GET or HEAD from its input.
macro_rules! get_request {
    ($cx:expr, $input:expr) => {
        GetRequest {
            bucket: $input.bucket.clone(),
            key: $input.key.clone(),
            version_id: version($input.version_id.clone()),
            caller: $cx.caller.clone(),
            conditions: conditions(
                $input.if_match.clone(),
                $input.if_none_match.clone(),
                $input.if_modified_since.clone(),
                $input.if_unmodified_since.clone(),
            ),
            want: want($input.range, $input.part_number)?,
        }
    };
}

/// Fills in what the outputs of GET and HEAD have in common.
macro_rules! object_output {
    ($output:ident, $done:expr, $with_checksum:expr) => {{
        let (done, head) = (&$done, &$done.info.head);
        let mut output = $output {
            accept_ranges: Some("bytes".into()),
            content_length: Some(done.span.len() as i64),
            content_range: content_range(done),
            content_type: Some(head.content_type.clone().unwrap_or_else(|| DEFAULT_TYPE.into())),
            cache_control: head.cache_control.clone(),
            content_disposition: head.content_disposition.clone(),
            content_encoding: head.content_encoding.clone(),
            content_language: head.content_language.clone(),
            expires: expires(head),
            website_redirect_location: head.website_redirect.clone(),
            metadata: convert::metadata(head),
            e_tag: Some(etag(done.info.etag.clone())),
            last_modified: Some(timestamp(done.info.last_modified_ms)),
            version_id: done.info.version_id.clone(),
            storage_class: storage_class(&done.info.storage_class),
            ..$output::default()
        };
        if $with_checksum {
            if let Some((algorithm, kind, value)) = shown_checksum(done) {
                set_checksum!(output, algorithm, value);
                output.checksum_type = Some(kind_name(kind));
            }
        }
        output
    }};
}

/// GetObject.
pub async fn get(cx: Cx, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
    let input = req.input;
    let request = get_request!(cx, input);
    let found = get::get(&cx.env, &cx.scope, request).await;
    let (done, body): (GetDone, ObjectBody) = found.map_err(error::of)?;
    let mut output = object_output!(GetObjectOutput, done, wants_checksum(&input.checksum_mode));
    output.tag_count = Some(done.info.tags.len() as i32).filter(|&n| n > 0);
    output.parts_count = parts_count(&done, input.part_number);
    output.body = Some(StreamingBlob::wrap(body));
    Ok(S3Response::new(output))
}

/// HeadObject.
pub async fn head(
    cx: Cx,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = req.input;
    let request = get_request!(cx, input);
    let done = get::head(&cx.env, &cx.scope, request).await.map_err(error::of)?;
    let mut output = object_output!(HeadObjectOutput, done, wants_checksum(&input.checksum_mode));
    output.parts_count = parts_count(&done, input.part_number);
    let replace = |field: &mut Option<String>, by: Option<String>| {
        if by.is_some() {
            *field = by;
        }
    };
    replace(&mut output.content_type, input.response_content_type);
    replace(&mut output.cache_control, input.response_cache_control);
    replace(&mut output.content_disposition, input.response_content_disposition);
    replace(&mut output.content_encoding, input.response_content_encoding);
    replace(&mut output.content_language, input.response_content_language);
    output.expires = input.response_expires.or(output.expires);
    Ok(S3Response::new(output))
}

fn want(range: Option<Range>, part: Option<PartNumber>) -> S3Result<Want> {
    match (range, part) {
        (Some(_), Some(_)) => Err(s3s::S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter",
        )),
        (None, Some(no)) => match u32::try_from(no) {
            Ok(no @ 1..=10_000) => Ok(Want::Part(no)),
            _ => Err(invalid_argument("Part number must be an integer between 1 and 10000")),
        },
        (Some(Range::Int { first, last }), None) => {
            Ok(Want::Range(RangeSpec::From { first, last }))
        }
        (Some(Range::Suffix { length }), None) => Ok(Want::Range(RangeSpec::Suffix { length })),
        (None, None) => Ok(Want::Whole),
    }
}

fn content_range(done: &GetDone) -> Option<String> {
    let span = done.span;
    let partial = done.partial && !span.is_empty();
    partial.then(|| format!("bytes {}-{}/{}", span.start, span.end - 1, done.info.size))
}

fn parts_count(done: &GetDone, asked: Option<PartNumber>) -> Option<i32> {
    asked.map(|_| done.info.parts_count as i32).filter(|&n| n > 0)
}

fn storage_class(class: &str) -> Option<StorageClass> {
    let plain = class.is_empty() || class == StorageClass::STANDARD;
    (!plain).then(|| StorageClass::from(class.to_owned()))
}

fn wants_checksum(mode: &Option<ChecksumMode>) -> bool {
    mode.as_ref().is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

type Shown = (
    crate::actors::metadata::model::ChecksumAlgorithm,
    crate::actors::metadata::model::ChecksumType,
    String,
);

/// The checksum that fits the bytes given: of the whole, or of the part; a range has none.
fn shown_checksum(done: &GetDone) -> Option<Shown> {
    let stored = done.info.checksum.as_ref()?;
    let value = match (done.partial, &done.part_checksum) {
        (false, _) => stored.value.clone(),
        (true, Some(part)) => part.clone(),
        (true, None) if done.span.len() == done.info.size && done.info.parts_count == 0 => {
            stored.value.clone()
        }
        (true, None) => return None,
    };
    Some((stored.algorithm, stored.kind, value))
}

/// PutObject, and PostObject (a browser's form).
pub async fn put(cx: Cx, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
    let S3Request { mut input, method, headers, trailing_headers, .. } = req;
    let written = store(cx, &mut input, &headers, trailing_headers).await?;
    let shown = (written.etag.clone(), written.version_id.clone());
    let mut output = PutObjectOutput {
        e_tag: Some(etag(written.etag)),
        version_id: written.version_id,
        ..PutObjectOutput::default()
    };
    if let Some(checksum) = written.checksum {
        set_checksum!(output, checksum.algorithm, checksum.value);
        output.checksum_type = Some(kind_name(checksum.kind));
    }
    let mut response = S3Response::new(output);
    if method == http::Method::POST {
        form_headers(&mut response.headers, shown);
    }
    Ok(response)
}

/// What the answer to a form says in headers, which `s3s` does not write there.
fn form_headers(headers: &mut http::HeaderMap, (etag, version_id): (String, Option<String>)) {
    let etag = http::HeaderValue::from_str(&format!("\"{etag}\"")).ok();
    let version_id = version_id.and_then(|id| http::HeaderValue::from_str(&id).ok());
    headers.extend(etag.map(|value| (http::header::ETAG, value)));
    let name = http::HeaderName::from_static("x-amz-version-id");
    headers.extend(version_id.map(|value| (name, value)));
}

async fn store(
    cx: Cx,
    input: &mut PutObjectInput,
    headers: &http::HeaderMap,
    trailers: Option<s3s::TrailingHeaders>,
) -> S3Result<Written> {
    let tags = input.tagging.take().map(|t| tags_of_header(&t)).transpose()?.unwrap_or_default();
    let class = stored_class(input.storage_class.take())?;
    let request = PutRequest {
        bucket: std::mem::take(&mut input.bucket),
        key: check_key(std::mem::take(&mut input.key))?,
        caller: cx.caller,
        object: NewObject {
            storage_class: class,
            head: object_head(head_fields!(input))?,
            tags,
            ..NewObject::default()
        },
        precondition: precondition(input.if_match.take(), input.if_none_match.take())?,
        expect: expect(Said {
            len: input.content_length,
            md5: input.content_md5.take(),
            given: given_checksums!(input),
            headers,
            trailers,
        })?,
        upload: upload(input.body.take()),
    };
    put::put(&cx.env, &cx.scope, request).await.map_err(error::of)
}

/// A key that came not by the path, which `s3s` has checked.
fn check_key(key: String) -> S3Result<String> {
    match key.len() {
        0 => Err(invalid_argument("the key must not be empty")),
        1..=1024 => Ok(key),
        _ => Err(S3ErrorCode::KeyTooLongError.into()),
    }
}

fn stored_class(class: Option<StorageClass>) -> S3Result<String> {
    let class = class.map_or_else(|| StorageClass::STANDARD.to_owned(), |c| c.as_str().to_owned());
    check_storage_class(&class)?; // a form carries it outside of the headers
    Ok(class)
}

/// DeleteObject.
pub async fn delete(
    cx: Cx,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = req.input;
    let if_match = input.if_match.map(|condition| match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(etag) => etag.into_value(),
    });
    let target = Target { key: input.key, version_id: version(input.version_id), if_match };
    let results = delete::delete(&cx.env, &cx.scope, &input.bucket, &cx.caller, vec![target]);
    let item = results.await.map_err(error::of)?.pop().ok_or(S3ErrorCode::InternalError)?;
    let item = item.map_err(error::of_refused)?;
    let output = DeleteObjectOutput {
        delete_marker: item.delete_marker.then_some(true),
        version_id: item.version_id,
        ..DeleteObjectOutput::default()
    };
    Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
}

/// DeleteObjects: up to 1,000 keys, one result each.
pub async fn delete_many(
    cx: Cx,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let Delete { objects, quiet } = req.input.delete;
    if objects.is_empty() || objects.len() > 1000 {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    if objects.iter().any(|o| o.last_modified_time.is_some() || o.size.is_some()) {
        return Err(not_implemented("a condition on time or size"));
    }
    let target = |o: &ObjectIdentifier| Target {
        key: o.key.clone(),
        version_id: version(o.version_id.clone()),
        if_match: o.e_tag.as_ref().map(|e| e.value().to_owned()),
    };
    let targets = objects.iter().map(target).collect();
    let results = delete::delete(&cx.env, &cx.scope, &req.input.bucket, &cx.caller, targets);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (object, result) in objects.into_iter().zip(results.await.map_err(error::of)?) {
        match result {
            Ok(item) => deleted.push(DeletedObject {
                key: Some(object.key),
                delete_marker: item.delete_marker.then_some(true),
                delete_marker_version_id: item.version_id.filter(|_| item.delete_marker),
                version_id: version(object.version_id),
            }),
            Err(refused) => {
                let error = error::of_refused(refused);
                errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(object.key),
                    message: error.message().map(str::to_owned),
                    version_id: version(object.version_id),
                });
            }
        }
    }
    let deleted = Some(deleted).filter(|_| quiet != Some(true));
    let output = DeleteObjectsOutput { deleted, errors: Some(errors), ..Default::default() };
    Ok(S3Response::new(output))
}

/// The source of a copy, as a read.
pub fn source_request(
    cx: &Cx,
    source: CopySource,
    conditions: crate::objects::condition::Conditions,
    want: Want,
) -> S3Result<GetRequest> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(not_implemented("a copy source that is an access point"));
    };
    Ok(GetRequest {
        bucket: bucket.into(),
        key: key.into(),
        version_id: version(version_id.map(Into::into)),
        caller: cx.caller.clone(),
        conditions,
        want,
    })
}

/// CopyObject.
pub async fn copy(
    cx: Cx,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let S3Request { mut input, headers, .. } = req;
    let on_source = conditions(
        input.copy_source_if_match.take(),
        input.copy_source_if_none_match.take(),
        input.copy_source_if_modified_since.take(),
        input.copy_source_if_unmodified_since.take(),
    );
    let source = source_request(&cx, input.copy_source.clone(), on_source, Want::Whole)?;
    let head = new_head(&mut input)?;
    let tags = match input.tagging_directive.as_ref().map(TaggingDirective::as_str) {
        Some(TaggingDirective::REPLACE) => {
            Some(tags_of_header(input.tagging.as_deref().unwrap_or_default())?)
        }
        None | Some(TaggingDirective::COPY) => None,
        Some(_) => return Err(invalid_argument("Unknown tagging directive.")),
    };
    let same = source.bucket == input.bucket && source.key == input.key;
    let changes = head.is_some() || tags.is_some() || input.storage_class.is_some();
    if same && source.version_id.is_none() && !changes && input.checksum_algorithm.is_none() {
        let text = "This copy request is illegal because it is trying to copy an object to itself \
                    without changing the object's metadata, storage class, website redirect \
                    location or encryption attributes.";
        return Err(s3s::S3Error::with_message(S3ErrorCode::InvalidRequest, text));
    }
    let request = CopyRequest {
        source,
        bucket: input.bucket,
        key: input.key,
        caller: cx.caller.clone(),
        head,
        tags,
        storage_class: input.storage_class.map(|c| stored_class(Some(c))).transpose()?,
        algorithm: input.checksum_algorithm.map(|a| algorithm(a.as_str())).transpose()?,
        precondition: precondition(
            header_condition(&headers, "if-match")?,
            header_condition(&headers, "if-none-match")?,
        )?,
    };
    let copied = copy::copy(&cx.env, &cx.scope, request).await.map_err(error::of)?;
    Ok(S3Response::new(copy_output(copied)))
}

/// The new headers of a copy, or `None` to keep those of the source.
fn new_head(input: &mut CopyObjectInput) -> S3Result<Option<ObjectHead>> {
    match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        Some(MetadataDirective::REPLACE) => Ok(Some(object_head(head_fields!(input))?)),
        None | Some(MetadataDirective::COPY) => Ok(None),
        Some(_) => Err(invalid_argument("Unknown metadata directive.")),
    }
}

fn copy_output(copied: copy::Copied) -> CopyObjectOutput {
    let written = copied.written;
    let mut result = CopyObjectResult {
        e_tag: Some(etag(written.etag)),
        last_modified: Some(timestamp(written.last_modified_ms)),
        ..CopyObjectResult::default()
    };
    if let Some(checksum) = written.checksum {
        set_checksum!(result, checksum.algorithm, checksum.value);
        result.checksum_type = Some(kind_name(checksum.kind));
    }
    CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: copied.source_version_id,
        version_id: written.version_id,
        ..CopyObjectOutput::default()
    }
}
