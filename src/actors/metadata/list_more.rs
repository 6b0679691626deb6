//! Listing versions and open uploads, with the walk of `list.rs`.
//!
//! Part of `reader.rs`. Both orders have a second place behind the key (newest version first;
//! upload ids ascending), so a page may end inside a key: the rest of that key is read first, then
//! the walk goes on.
//!
//! 1. LIST-4: where the version named by a marker is gone, its key is listed from its newest
//!    version: a line may come twice, none is left out.

use rusqlite::{Row, params};

use super::command::{NewObject, UploadChecksum};
use super::list::{Grouping, Walk, after_key};
use super::model::NULL_VERSION;
use super::objects::checksum_of;
use super::query::{Query, QueryReply, UploadEntry, VersionEntry};
use super::reader::View;
use super::step::{Stop, unpack};

const VERSION: &str = "SELECT key, row, vid, marker, size, etag, modified_ms, class FROM version";
const UPLOAD: &str = "SELECT key, id, created_ms, object, checksum FROM upload";

impl View<'_> {
    pub(super) fn list_versions(&self, query: &Query) -> Result<QueryReply, Stop> {
        let Query::ListVersions { bucket, prefix, delimiter, key_marker, version_marker, max } =
            query
        else {
            unreachable!("dispatched by `answer`");
        };
        let bucket = self.bucket(bucket)?;
        let grouping = Grouping { prefix, delimiter };
        let group = |prefix| VersionEntry::CommonPrefix { prefix };
        let mut walk = Walk::new(grouping, *max, group);
        let from = match (key_marker, version_marker) {
            (None, _) => Vec::new(),
            (Some(key), None) => grouping.after_entry(key),
            (Some(key), Some(vid)) => match self.row_of(bucket.no, key, vid)? {
                Some(row) if key.starts_with(prefix.as_str()) => {
                    self.older_versions(bucket.no, key, row, &mut walk)?;
                    after_key(key.as_bytes())
                }
                _ => key.as_bytes().to_vec(),
            },
        };
        if !walk.more {
            let sql =
                format!("{VERSION} WHERE bucket=?1 AND key>=?2 AND key<?3 ORDER BY key, row DESC");
            let mut statement = self.db().prepare_cached(&sql)?;
            let mut key_before = String::new();
            walk.run(&mut statement, bucket.no, from, |key, r| {
                let latest = key != key_before;
                if latest {
                    key_before = key.to_owned();
                }
                Ok((version_entry(key, latest, r)?, 150 + key.len()))
            })?;
        }
        let (next_key, next_version) = match walk.entries.last().filter(|_| walk.more) {
            None => (None, None),
            Some(VersionEntry::CommonPrefix { prefix }) => (Some(prefix.clone()), None),
            Some(
                VersionEntry::Version { key, version_id, .. }
                | VersionEntry::DeleteMarker { key, version_id, .. },
            ) => (Some(key.clone()), Some(version_id.clone())),
        };
        let (owner, entries) = (bucket.info.owner, walk.entries);
        Ok(QueryReply::Versions { owner, entries, next_key, next_version })
    }

    fn row_of(&self, bucket: i64, key: &str, vid: &str) -> Result<Option<i64>, Stop> {
        let key = key.as_bytes();
        if vid == NULL_VERSION {
            let sql = "SELECT row FROM version WHERE bucket=?1 AND key=?2 AND vid IS NULL";
            return self.one(sql, params![bucket, key], |r| r.get(0));
        }
        let sql = "SELECT row FROM version WHERE bucket=?1 AND key=?2 AND vid=?3";
        self.one(sql, params![bucket, key, vid], |r| r.get(0))
    }

    fn older_versions(
        &self,
        bucket: i64,
        key: &str,
        row: i64,
        walk: &mut Walk<'_, VersionEntry>,
    ) -> Result<(), Stop> {
        let sql =
            format!("{VERSION} WHERE bucket=?1 AND key=?2 AND row<?3 ORDER BY row DESC LIMIT 1001");
        let mut statement = self.db().prepare_cached(&sql)?;
        let mut rows = statement.query(params![bucket, key.as_bytes(), row])?;
        while let Some(r) = rows.next()? {
            if !walk.push(version_entry(key, false, r)?, 150 + key.len()) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn list_uploads(&self, query: &Query) -> Result<QueryReply, Stop> {
        let Query::ListUploads { bucket, prefix, delimiter, key_marker, upload_marker, max } =
            query
        else {
            unreachable!("dispatched by `answer`");
        };
        let bucket = self.bucket(bucket)?;
        let grouping = Grouping { prefix, delimiter };
        let group = |prefix| UploadEntry::CommonPrefix { prefix };
        let mut walk = Walk::new(grouping, *max, group);
        let from = match (key_marker, upload_marker) {
            (None, _) => Vec::new(),
            (Some(key), Some(id)) if key.starts_with(prefix.as_str()) => {
                let sql = format!(
                    "{UPLOAD} WHERE bucket=?1 AND open=1 AND key=?2 AND id>?3
                     ORDER BY id LIMIT 1001"
                );
                let mut statement = self.db().prepare_cached(&sql)?;
                let mut rows = statement.query(params![bucket.no, key.as_bytes(), id])?;
                while let Some(r) = rows.next()? {
                    if !walk.push(upload_entry(key, r)?, 200 + key.len()) {
                        break;
                    }
                }
                after_key(key.as_bytes())
            }
            (Some(key), _) => grouping.after_entry(key),
        };
        if !walk.more {
            let sql = format!(
                "{UPLOAD} WHERE bucket=?1 AND open=1 AND key>=?2 AND key<?3 ORDER BY key, id"
            );
            let mut statement = self.db().prepare_cached(&sql)?;
            walk.run(&mut statement, bucket.no, from, |key, r| {
                Ok((upload_entry(key, r)?, 200 + key.len()))
            })?;
        }
        let (next_key, next_upload) = match walk.entries.last().filter(|_| walk.more) {
            None => (None, None),
            Some(UploadEntry::CommonPrefix { prefix }) => (Some(prefix.clone()), None),
            Some(UploadEntry::Upload { key, upload_id, .. }) => {
                (Some(key.clone()), Some(upload_id.clone()))
            }
        };
        Ok(QueryReply::Uploads { entries: walk.entries, next_key, next_upload })
    }
}

fn version_entry(key: &str, latest: bool, r: &Row<'_>) -> Result<VersionEntry, Stop> {
    let key = key.to_owned();
    let version_id = r.get::<_, Option<String>>(2)?.unwrap_or_else(|| NULL_VERSION.to_owned());
    let last_modified_ms = r.get::<_, i64>(6)? as u64;
    Ok(match r.get(3)? {
        true => VersionEntry::DeleteMarker { key, version_id, latest, last_modified_ms },
        false => VersionEntry::Version {
            key,
            version_id,
            latest,
            size: r.get::<_, i64>(4)? as u64,
            etag: r.get(5)?,
            last_modified_ms,
            storage_class: r.get(7)?,
        },
    })
}

fn upload_entry(key: &str, r: &Row<'_>) -> Result<UploadEntry, Stop> {
    let object: NewObject = unpack(&r.get::<_, Vec<u8>>(3)?)?;
    let checksum = checksum_of(r.get(4)?);
    Ok(UploadEntry::Upload {
        key: key.to_owned(),
        upload_id: r.get(1)?,
        created_ms: r.get::<_, i64>(2)? as u64,
        owner: object.owner,
        storage_class: object.storage_class,
        checksum: checksum.map(|(algorithm, kind)| UploadChecksum { algorithm, kind }),
    })
}
