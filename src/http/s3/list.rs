//! Listings at the S3 edge: objects (versions 1 and 2), object versions, open uploads.
//!
//! Called by `api`; translates to the flows in `objects::list` and back.
//!
//! - `S3LIST-1` with `encoding-type=url` every key, prefix, delimiter and marker in the answer is
//!   percent-encoded;
//! - `S3LIST-2` a continuation token is opaque: the base64 form of the last line.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use crate::actors::metadata::command::UploadChecksum;
use crate::actors::metadata::query::{ListEntry, ListStart, UploadEntry, VersionEntry};
use crate::objects::list::{self, Marker, Page, Selection};

use super::Cx;
use super::bucket::owner;
use super::convert::{algorithm_name, etag, kind_name, timestamp, url_encode, version};
use super::error::{self, invalid_argument};

/// The most lines of one answer.
const MAX_LINES: i32 = 1000;

/// How texts are written into an answer.
#[derive(Clone, Copy)]
struct Encoding(bool);

impl Encoding {
    fn of(asked: &Option<EncodingType>) -> S3Result<Self> {
        match asked.as_ref().map(EncodingType::as_str) {
            None => Ok(Encoding(false)),
            Some(EncodingType::URL) => Ok(Encoding(true)),
            Some(_) => Err(invalid_argument("Invalid Encoding Method specified in Request")),
        }
    }

    fn text(self, text: String) -> String {
        if self.0 { url_encode(&text) } else { text }
    }

    fn option(self, text: Option<String>) -> Option<String> {
        text.filter(|t| !t.is_empty()).map(|t| self.text(t))
    }

    fn prefixes(self, prefixes: Vec<String>) -> Option<CommonPrefixList> {
        let all = prefixes.into_iter().map(|p| CommonPrefix { prefix: Some(self.text(p)) });
        Some(all.collect())
    }
}

fn lines(asked: Option<i32>) -> S3Result<u32> {
    match asked.unwrap_or(MAX_LINES) {
        n if n < 0 => Err(invalid_argument("max-keys must not be negative")),
        n => Ok(n.min(MAX_LINES) as u32),
    }
}

fn selection(
    cx: &Cx,
    bucket: &str,
    prefix: &Option<String>,
    delimiter: &Option<String>,
    max: u32,
) -> Selection {
    Selection {
        bucket: bucket.to_owned(),
        caller: cx.caller.clone(),
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone().unwrap_or_default(),
        max: max.max(1),
    }
}

/// No line was asked for: the bucket is checked, and the page is empty and complete.
fn none_if_zero<E, N>(mut page: Page<E, N>, max: u32) -> Page<E, N> {
    if max == 0 {
        page.entries.clear();
        page.next = None;
    }
    page
}

/// The lines of a page, told apart.
struct Lines {
    objects: Vec<Object>,
    prefixes: Vec<String>,
}

fn lines_of(entries: Vec<ListEntry>, encoding: Encoding, shown_owner: Option<Owner>) -> Lines {
    let mut lines = Lines { objects: Vec::new(), prefixes: Vec::new() };
    for entry in entries {
        match entry {
            ListEntry::CommonPrefix { prefix } => lines.prefixes.push(prefix),
            ListEntry::Object {
                key,
                size,
                etag: tag,
                last_modified_ms,
                storage_class,
                checksum,
            } => {
                let (checksum_algorithm, checksum_type) = checksum_names(checksum);
                lines.objects.push(Object {
                    key: Some(encoding.text(key)),
                    size: Some(size as i64),
                    e_tag: Some(etag(tag)),
                    last_modified: Some(timestamp(last_modified_ms)),
                    storage_class: Some(ObjectStorageClass::from(class_or_standard(storage_class))),
                    checksum_algorithm,
                    checksum_type,
                    owner: shown_owner.clone(),
                    ..Object::default()
                });
            }
        }
    }
    lines
}

fn checksum_names(
    checksum: Option<UploadChecksum>,
) -> (Option<ChecksumAlgorithmList>, Option<ChecksumType>) {
    match checksum {
        Some(c) => (Some(vec![algorithm_name(c.algorithm)]), Some(kind_name(c.kind))),
        None => (None, None),
    }
}

fn class_or_standard(class: String) -> String {
    if class.is_empty() { StorageClass::STANDARD.to_owned() } else { class }
}

/// ListObjects (version 1).
pub async fn objects(
    cx: Cx,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = req.input;
    let (encoding, max) = (Encoding::of(&input.encoding_type)?, lines(input.max_keys)?);
    let start = match input.marker.clone().filter(|m| !m.is_empty()) {
        Some(entry) => ListStart::AfterEntry { entry },
        None => ListStart::First,
    };
    let what = selection(&cx, &input.bucket, &input.prefix, &input.delimiter, max);
    let grouped = !what.delimiter.is_empty();
    let page = list::objects(&cx.env, &cx.scope, what, start).await.map_err(error::of)?;
    let page = none_if_zero(page, max);
    let lines = lines_of(page.entries, encoding, Some(owner(&page.owner)));
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
        marker: Some(encoding.text(input.marker.unwrap_or_default())),
        max_keys: Some(max as i32),
        is_truncated: Some(page.next.is_some()),
        contents: Some(lines.objects),
        common_prefixes: encoding.prefixes(lines.prefixes),
        delimiter: encoding.option(input.delimiter),
        next_marker: page.next.filter(|_| grouped).map(|next| encoding.text(next)),
        encoding_type: input.encoding_type,
        ..ListObjectsOutput::default()
    }))
}

/// ListObjectsV2.
pub async fn objects_v2(
    cx: Cx,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = req.input;
    let (encoding, max) = (Encoding::of(&input.encoding_type)?, lines(input.max_keys)?);
    let start = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => ListStart::AfterEntry { entry: entry_of(token)? },
        (None, Some(key)) if !key.is_empty() => ListStart::AfterKey { key: key.clone() },
        (None, _) => ListStart::First,
    };
    let what = selection(&cx, &input.bucket, &input.prefix, &input.delimiter, max);
    let page = list::objects(&cx.env, &cx.scope, what, start).await.map_err(error::of)?;
    let page = none_if_zero(page, max);
    let shown = input.fetch_owner.filter(|&fetch| fetch).map(|_| owner(&page.owner));
    let lines = lines_of(page.entries, encoding, shown);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
        max_keys: Some(max as i32),
        key_count: Some((lines.objects.len() + lines.prefixes.len()) as i32),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|next| BASE64_URL_SAFE_NO_PAD.encode(next)),
        contents: Some(lines.objects),
        common_prefixes: encoding.prefixes(lines.prefixes),
        delimiter: encoding.option(input.delimiter),
        encoding_type: input.encoding_type,
        start_after: encoding.option(input.start_after),
        ..ListObjectsV2Output::default()
    }))
}

fn entry_of(token: &str) -> S3Result<String> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
    let entry = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|e| !e.is_empty());
    entry.ok_or_else(|| invalid_argument("The continuation token provided is incorrect"))
}

/// ListObjectVersions.
pub async fn versions(
    cx: Cx,
    req: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let input = req.input;
    let (encoding, max) = (Encoding::of(&input.encoding_type)?, lines(input.max_keys)?);
    let after = marker(&input.key_marker, &input.version_id_marker, "version-id marker")?;
    let what = selection(&cx, &input.bucket, &input.prefix, &input.delimiter, max);
    let page = list::versions(&cx.env, &cx.scope, what, after).await.map_err(error::of)?;
    let page = none_if_zero(page, max);
    let (mut versions, mut delete_markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    for entry in page.entries {
        match entry {
            VersionEntry::CommonPrefix { prefix } => prefixes.push(prefix),
            VersionEntry::DeleteMarker { key, version_id, latest, last_modified_ms } => {
                delete_markers.push(DeleteMarkerEntry {
                    key: Some(encoding.text(key)),
                    version_id: Some(version_id),
                    is_latest: Some(latest),
                    last_modified: Some(timestamp(last_modified_ms)),
                    owner: Some(owner(&page.owner)),
                });
            }
            version => versions.extend(object_version(version, encoding, &page.owner)),
        }
    }
    let (next_key, next_version) = page.next.map_or((None, None), |(k, v)| (Some(k), v));
    Ok(S3Response::new(ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
        key_marker: Some(encoding.text(input.key_marker.unwrap_or_default())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        max_keys: Some(max as i32),
        is_truncated: Some(next_key.is_some()),
        versions: Some(versions),
        delete_markers: Some(delete_markers),
        common_prefixes: encoding.prefixes(prefixes),
        delimiter: encoding.option(input.delimiter),
        encoding_type: input.encoding_type,
        next_key_marker: encoding.option(next_key),
        next_version_id_marker: next_version,
        ..ListObjectVersionsOutput::default()
    }))
}

fn object_version(entry: VersionEntry, encoding: Encoding, of: &str) -> Option<ObjectVersion> {
    let VersionEntry::Version {
        key,
        version_id,
        latest,
        size,
        etag: tag,
        last_modified_ms,
        storage_class,
    } = entry
    else {
        return None;
    };
    Some(ObjectVersion {
        key: Some(encoding.text(key)),
        version_id: Some(version_id),
        is_latest: Some(latest),
        size: Some(size as i64),
        e_tag: Some(etag(tag)),
        last_modified: Some(timestamp(last_modified_ms)),
        storage_class: Some(ObjectVersionStorageClass::from(class_or_standard(storage_class))),
        owner: Some(owner(of)),
        ..ObjectVersion::default()
    })
}

fn marker(key: &Option<String>, within: &Option<String>, name: &str) -> S3Result<Option<Marker>> {
    let within = version(within.clone());
    match key.clone().filter(|key| !key.is_empty()) {
        Some(key) => Ok(Some((key, within))),
        None if within.is_some() => {
            Err(invalid_argument(format!("A {name} cannot be specified without a key marker.")))
        }
        None => Ok(None),
    }
}

/// ListMultipartUploads.
pub async fn uploads(
    cx: Cx,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = req.input;
    let (encoding, max) = (Encoding::of(&input.encoding_type)?, lines(input.max_uploads)?);
    // S3 ignores an upload-id marker without a key marker
    let within = input.upload_id_marker.clone().filter(|_| input.key_marker.is_some());
    let after = marker(&input.key_marker, &within, "upload-id marker")?;
    let what = selection(&cx, &input.bucket, &input.prefix, &input.delimiter, max);
    let page = list::uploads(&cx.env, &cx.scope, what, after).await.map_err(error::of)?;
    let page = none_if_zero(page, max);
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
    for entry in page.entries {
        match entry {
            UploadEntry::CommonPrefix { prefix } => prefixes.push(prefix),
            upload => uploads.extend(multipart_upload(upload, encoding)),
        }
    }
    let (next_key, next_upload) = page.next.map_or((None, None), |(k, u)| (Some(k), u));
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
        key_marker: Some(encoding.text(input.key_marker.unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        max_uploads: Some(max as i32),
        is_truncated: Some(next_key.is_some()),
        uploads: Some(uploads),
        common_prefixes: encoding.prefixes(prefixes),
        delimiter: encoding.option(input.delimiter),
        encoding_type: input.encoding_type,
        next_key_marker: encoding.option(next_key),
        next_upload_id_marker: next_upload,
        ..ListMultipartUploadsOutput::default()
    }))
}

fn multipart_upload(entry: UploadEntry, encoding: Encoding) -> Option<MultipartUpload> {
    let UploadEntry::Upload { key, upload_id, created_ms, owner: of, storage_class, checksum } =
        entry
    else {
        return None;
    };
    Some(MultipartUpload {
        key: Some(encoding.text(key)),
        upload_id: Some(upload_id),
        initiated: Some(timestamp(created_ms)),
        owner: Some(owner(&of)),
        initiator: Some(Initiator { display_name: Some(of.clone()), id: Some(of) }),
        storage_class: Some(StorageClass::from(class_or_standard(storage_class))),
        checksum_algorithm: checksum.map(|c| algorithm_name(c.algorithm)),
        checksum_type: checksum.map(|c| kind_name(c.kind)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went_and_others_are_refused() {
        for entry in ["a", "a/b c", "ключ/\u{1F600}"] {
            assert_eq!(entry_of(&BASE64_URL_SAFE_NO_PAD.encode(entry)).unwrap(), entry);
        }
        assert!(entry_of("").is_err());
        assert!(entry_of("!!").is_err());
    }

    #[test]
    fn the_number_of_lines_is_bounded() {
        assert_eq!(lines(None).unwrap(), 1000);
        assert_eq!(lines(Some(5000)).unwrap(), 1000);
        assert_eq!(lines(Some(0)).unwrap(), 0);
        assert!(lines(Some(-1)).is_err());
    }

    #[test]
    fn a_marker_within_a_key_needs_the_key() {
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(marker(&some("k"), &some("v"), "x").unwrap(), Some(("k".into(), some("v"))));
        assert_eq!(marker(&some(""), &None, "x").unwrap(), None);
        assert!(marker(&None, &some("v"), "x").is_err());
    }
}
