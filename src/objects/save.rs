//! Save-back: an object that a third party served becomes an object here.
//!
//! Run by the queue's workers for save tasks, which the fallback hands in. The object is fetched
//! again from the source that served it and written like a PUT.
//!
//! - `SAVE-1` it is committed only while the key is as it was when it was served (absent and never
//!   deleted, or still the same row): a newer row or a delete always wins;
//! - `SAVE-2` a row is mended only with its very bytes (size and MD5), and keeps headers, tags and
//!   checksum; in a bucket with versioning it is left alone, since a commit would make a version;
//! - `SAVE-3` done again, it finds the key changed and does nothing.

use std::time::Duration;

use futures::StreamExt;

use crate::actors::metadata::command::{NewObject, Precondition};
use crate::actors::metadata::model::{ChecksumType, Refused, Versioning};
use crate::actors::metadata::query::{BucketInfo, Found, ObjectInfo, Query, QueryReply};
use crate::actors::queue_worker::task::SaveExpect;
use crate::actors::third_party::message as outside;
use crate::cluster::{Scope, To};
use crate::points::{self, Mutant};

use super::Env;
use super::body::{Expect, ExpectedChecksum, Upload};
use super::error::{BodyError, FlowError};
use super::fallback::third_party::bytes;
use super::metadata::{read, unexpected};
use super::put::{PutRequest, put};

/// How long one attempt may take.
const SAVE_LIMIT: Duration = Duration::from_secs(3600);
/// How long a source may take to begin its answer, retries included.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// The class of objects that had no row.
const STORAGE_CLASS: &str = "STANDARD";

/// Executes a save task; `Ok` also where there is nothing to save any more. An empty `source`
/// stands for any.
///
/// # Errors
/// Why it must be tried again.
pub async fn save(
    env: &Env,
    bucket: &str,
    key: &str,
    source: &str,
    expect: &SaveExpect,
) -> Result<(), String> {
    let scope = Scope::new(SAVE_LIMIT);
    let Some(job) = look(env, &scope, bucket, key, expect).await? else { return Ok(()) };
    let Some(opened) = open(env, &scope, bucket, key, source, &job).await? else { return Ok(()) };
    match put(env, &scope, job.request(env, key, opened)).await {
        Ok(_) => Ok(()),
        // SAVE-1: somebody was faster
        Err(FlowError::Refused(Refused::PreconditionFailed | Refused::NoSuchBucket)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// A key that is as it was when it was served.
struct Job {
    bucket: BucketInfo,
    /// The row to be mended.
    row: Option<ObjectInfo>,
}

/// Looks whether there still is something to save.
async fn look(
    env: &Env,
    scope: &Scope,
    bucket: &str,
    key: &str,
    expect: &SaveExpect,
) -> Result<Option<Job>, String> {
    let query = Query::Lookup { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None };
    let (bucket, found) = match read(env, scope, query).await {
        Ok(QueryReply::Object { bucket, found }) => (bucket, found),
        Err(FlowError::Refused(Refused::NoSuchBucket)) => return Ok(None),
        Ok(_) => return Err(unexpected("Lookup").to_string()),
        Err(error) => return Err(error.to_string()),
    };
    Ok(wanted(bucket, found, expect))
}

/// Whether what a lookup found is what the task was made for.
fn wanted(bucket: BucketInfo, found: Found, expect: &SaveExpect) -> Option<Job> {
    if !bucket.fallback {
        return None;
    }
    match (expect, found) {
        (SaveExpect::StillAbsent, Found::Absent) => Some(Job { bucket, row: None }),
        (SaveExpect::StillRow { row }, Found::Object { info, .. })
            if info.row == *row
                && bucket.versioning != Versioning::Enabled
                && md5(&info).is_some() =>
        {
            Some(Job { bucket, row: Some(*info) }) // SAVE-2
        }
        _ => None,
    }
}

/// The MD5 of a row's bytes: its ETag, unless it was made of parts.
fn md5(info: &ObjectInfo) -> Option<[u8; 16]> {
    hex::decode(&info.etag).ok()?.try_into().ok()
}

/// Opens the object at its source; `None` where that does not have it any more.
async fn open(
    env: &Env,
    scope: &Scope,
    bucket: &str,
    key: &str,
    source: &str,
    job: &Job,
) -> Result<Option<outside::Opened>, String> {
    let expect = job
        .row
        .as_ref()
        .and_then(|info| md5(info).map(|md5| outside::Expect { size: info.size, md5 }));
    let request = outside::Open {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        expect,
        source: Some(source.to_owned()).filter(|s| !s.is_empty()),
        mode: outside::Mode::Stream,
    };
    let scope = scope.within(OPEN_LIMIT);
    let answer = env.cluster.call(&scope, To::Any, outside::Message::Open(request)).await;
    match answer.map_err(|e| e.to_string())?.map_err(|e| e.to_string())? {
        outside::Reply::Opened(opened) => Ok(Some(*opened)),
        outside::Reply::Absent => Ok(None),
        _ => Err("the third-party service gave an unexpected answer".into()),
    }
}

impl Job {
    /// The PUT of what was opened.
    fn request(self, env: &Env, key: &str, opened: outside::Opened) -> PutRequest {
        let (size, declared) = (opened.size, opened.md5);
        let body = bytes(env.data.clone(), opened.body);
        let upload: Upload =
            Box::pin(body.map(|piece| piece.map_err(|error| BodyError::Source(error.to_string()))));
        let mut object = NewObject {
            version_id: String::new(),
            owner: String::new(),
            storage_class: STORAGE_CLASS.into(),
            head: opened.head,
            tags: Vec::new(),
            checksum: None,
        };
        let mut expect = Expect { len: Some(size), md5: declared, ..Expect::default() };
        let mut precondition = Precondition::StillAbsent;
        if let Some(row) = self.row {
            precondition = Precondition::StillRow { row: row.row };
            expect.len = Some(row.size);
            expect.md5 = md5(&row);
            if let Some(sum) = row.checksum.filter(|c| c.kind == ChecksumType::FullObject) {
                expect.algorithm = Some(sum.algorithm);
                expect.checksum = ExpectedChecksum::Value(sum.value);
            }
            object.head = row.head;
            object.tags = row.tags;
            object.storage_class = row.storage_class;
        }
        if points::breaks(Mutant::SaveOverAnything) {
            precondition = Precondition::Always;
        }
        PutRequest {
            bucket: self.bucket.name,
            key: key.to_owned(),
            caller: self.bucket.owner,
            object,
            precondition,
            upload,
            expect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(fallback: bool, versioning: Versioning) -> BucketInfo {
        let (name, owner) = ("b".into(), "o".into());
        BucketInfo { name, owner, created_ms: 0, versioning, fallback }
    }

    fn object(row: u64, etag: &str) -> Found {
        let info = ObjectInfo {
            row,
            version_id: None,
            latest: true,
            size: 1,
            etag: etag.into(),
            last_modified_ms: 0,
            owner: "o".into(),
            storage_class: "STANDARD".into(),
            head: Default::default(),
            tags: Vec::new(),
            checksum: None,
            parts_count: 0,
        };
        Found::Object { info: Box::new(info), parts: Vec::new(), more_parts: false }
    }

    #[test]
    fn only_a_key_that_is_as_it_was_is_saved() {
        let absent = SaveExpect::StillAbsent;
        let row = SaveExpect::StillRow { row: 7 };
        let (off, enabled) = (Versioning::Off, Versioning::Enabled);
        let etag = "0".repeat(32);
        let marker = || Found::DeleteMarker {
            version_id: "v".into(),
            last_modified_ms: 0,
            latest: true,
            row: 7,
        };
        let rows = [
            (true, off, Found::Absent, absent, true),
            (true, enabled, Found::Absent, absent, true),
            (false, off, Found::Absent, absent, false),
            (true, off, Found::Deleted, absent, false),
            (true, off, marker(), absent, false),
            (true, off, object(7, &etag), absent, false),
            (true, off, object(7, &etag), row, true),
            (true, off, object(8, &etag), row, false),
            (true, off, object(7, "0-2"), row, false),
            (true, enabled, object(7, &etag), row, false),
            (true, off, marker(), row, false),
            (true, off, Found::Deleted, row, false),
            (true, off, Found::Absent, row, false),
        ];
        for (n, (fallback, versioning, found, expect, saved)) in rows.into_iter().enumerate() {
            let job = wanted(bucket(fallback, versioning), found, &expect);
            assert_eq!(job.is_some(), saved, "row {n}"); // SAVE-1, SAVE-2
        }
    }
}
