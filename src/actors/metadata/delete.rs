//! Deletes: of a key, of one version, of many keys in one command.
//!
//! Part of `step.rs`. Source: the S3 pages on DeleteObject, DeleteObjects and delete markers.
//!
//! 1. DELETE-1: what is not there is deleted with success; only a condition can refuse an item.
//! 2. DELETE-2: in a bucket that asks third parties, a key that ends without any row has a
//!    tombstone.

use super::blobs::{Content, check_items};
use super::buckets::BucketRow;
use super::command::{Applied, DeleteItem, DeletedItem};
use super::model::{Refused, Versioning};
use super::objects::{NewRow, VersionRow, check_key, shown_version};
use super::step::{Step, Stop, pack};
use crate::types::UnixMillis;

impl Step<'_> {
    pub(super) fn delete(
        &mut self,
        bucket: &str,
        items: &[DeleteItem],
        now: UnixMillis,
        grace: u64,
    ) -> Result<Applied, Stop> {
        check_items(items.len())?;
        let bucket = self.bucket(bucket)?;
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            results.push(match self.delete_item(&bucket, item, now, grace) {
                Ok(deleted) => Ok(deleted),
                Err(Stop::Refused(refused)) => Err(refused),
                Err(fatal) => return Err(fatal),
            });
        }
        Ok(Applied::Deleted { items: results })
    }

    /// Refuses before it writes anything, so that the other items of the command stand.
    fn delete_item(
        &mut self,
        bucket: &BucketRow,
        item: &DeleteItem,
        now: UnixMillis,
        grace: u64,
    ) -> Result<DeletedItem, Stop> {
        check_key(&item.key)?;
        let found = self.find(bucket, &item.key, item.version_id.as_deref())?;
        if let Some(wanted) = &item.if_match {
            check_etag(found.as_ref(), wanted)?;
        }
        let deleted = match (&item.version_id, bucket.versioning) {
            (Some(vid), versioning) => {
                if let Some(row) = &found {
                    self.erase(bucket, row, now, grace)?;
                }
                DeletedItem {
                    delete_marker: found.as_ref().is_some_and(|row| row.marker),
                    version_id: shown_version(versioning, Some(vid)),
                    existed: found.is_some(),
                }
            }
            (None, Versioning::Off) => {
                if let Some(row) = &found {
                    self.erase(bucket, row, now, grace)?;
                }
                DeletedItem { delete_marker: false, version_id: None, existed: found.is_some() }
            }
            (None, versioning) => {
                let vid = (versioning == Versioning::Enabled).then(|| item.marker_id.clone());
                self.place(bucket, &item.key, marker(vid.clone(), now), grace)?;
                DeletedItem {
                    delete_marker: true,
                    version_id: shown_version(versioning, vid.as_deref()),
                    existed: found.is_some_and(|row| !row.marker),
                }
            }
        };
        self.follow_newest(bucket, &item.key)?;
        if bucket.fallback && self.find(bucket, &item.key, None)?.is_none() {
            self.bury(bucket, &item.key, now)?;
        }
        Ok(deleted)
    }
}

fn check_etag(found: Option<&VersionRow>, wanted: &str) -> Result<(), Stop> {
    let object = found.filter(|row| !row.marker).ok_or(Refused::NoSuchKey)?;
    match wanted == "*" || object.etag == wanted {
        true => Ok(()),
        false => Err(Refused::PreconditionFailed.into()),
    }
}

fn marker(vid: Option<String>, now: UnixMillis) -> NewRow<'static> {
    NewRow {
        vid,
        marker: true,
        size: 0,
        etag: "",
        modified: now,
        content: Content { data: None, manifest: None },
        owner: "",
        class: "",
        content_type: None,
        head: pack(&super::model::ObjectHead::default()),
        tags: pack(&Vec::<super::model::Tag>::new()),
        checksum: None,
    }
}
