//! Looking up one object, its parts, an upload's parts, and data items.
//!
//! Part of `reader.rs`.
//!
//! 1. LOOKUP-1: locations name members only, so that a reader never waits for a node that was
//!    removed.

use rusqlite::{Row, params};

use super::command::{NewObject, UploadChecksum};
use super::model::{MAX_PARTS, Refused};
use super::objects::{checksum_of, shown_version};
use super::query::{
    BlobInfo, Found, ObjectInfo, PAGE_BYTES, PartRow, QueryReply, UploadInfo, UploadPart,
};
use super::reader::{Bucket, MAX_PAGE, Nodes, View};
use super::step::{Stop, id_bytes, id_from, unpack, unpack_nodes};
use super::store::Fatal;
use crate::types::DataId;

/// Parts that come with a lookup.
const FIRST_PARTS: usize = 64;

/// Data items in one answer.
const MAX_BLOBS: u32 = 256;

struct Stored {
    row: i64,
    vid: Option<String>,
    marker: bool,
    size: i64,
    etag: String,
    modified: i64,
    data: Option<DataId>,
    manifest: Option<i64>,
    owner: String,
    class: String,
    head: Vec<u8>,
    tags: Vec<u8>,
    checksum: Option<Vec<u8>>,
}

const STORED: &str =
    "SELECT row, vid, marker, size, etag, modified_ms, data, manifest, owner, class,
    head, tags, checksum FROM version";

fn stored(r: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        row: r.get(0)?,
        vid: r.get(1)?,
        marker: r.get(2)?,
        size: r.get(3)?,
        etag: r.get(4)?,
        modified: r.get(5)?,
        data: r.get::<_, Option<[u8; 16]>>(6)?.map(id_from),
        manifest: r.get(7)?,
        owner: r.get(8)?,
        class: r.get(9)?,
        head: r.get(10)?,
        tags: r.get(11)?,
        checksum: r.get(12)?,
    })
}

impl View<'_> {
    pub(super) fn lookup(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
    ) -> Result<QueryReply, Stop> {
        let bucket = self.bucket(bucket)?;
        let place = params![bucket.no, key.as_bytes()];
        let newest = "bucket=?1 AND key=?2 ORDER BY row DESC LIMIT 1";
        let row = match version_id {
            None => self.one(&format!("{STORED} WHERE {newest}"), place, stored)?,
            Some(super::model::NULL_VERSION) => {
                self.one(&format!("{STORED} WHERE vid IS NULL AND {newest}"), place, stored)?
            }
            Some(vid) => {
                let sql = format!("{STORED} WHERE bucket=?1 AND key=?2 AND vid=?3");
                self.one(&sql, params![bucket.no, key.as_bytes(), vid], stored)?
            }
        };
        let found = match row {
            Some(row) => self.found(&bucket, key, row)?,
            None if version_id.is_some() => Found::NoSuchVersion,
            None => {
                let sql = "SELECT 1 FROM tombstone WHERE bucket=?1 AND key=?2";
                match self.one(sql, place, |_| Ok(()))? {
                    Some(()) => Found::Deleted,
                    None => Found::Absent,
                }
            }
        };
        Ok(QueryReply::Object { bucket: bucket.info, found })
    }

    fn found(&self, bucket: &Bucket, key: &str, stored: Stored) -> Result<Found, Stop> {
        let newest = "SELECT row FROM version WHERE bucket=?1 AND key=?2 ORDER BY row DESC LIMIT 1";
        let newest =
            self.one(newest, params![bucket.no, key.as_bytes()], |r| r.get::<_, i64>(0))?;
        let latest = newest == Some(stored.row);
        let version_id = shown_version(bucket.info.versioning, stored.vid.as_deref());
        let last_modified_ms = stored.modified as u64;
        if stored.marker {
            let version_id = version_id.unwrap_or_default();
            let row = stored.row as u64;
            return Ok(Found::DeleteMarker { version_id, last_modified_ms, latest, row });
        }
        let names = self.nodes(false)?;
        let (parts, more_parts) = self.row_parts(&names, &stored, 0, 0, FIRST_PARTS)?;
        let sql = "SELECT parts FROM manifest WHERE no=?1";
        let parts_count = self.one(sql, [stored.manifest], |r| r.get(0))?.unwrap_or(0);
        let info = Box::new(ObjectInfo {
            row: stored.row as u64,
            version_id,
            latest,
            size: stored.size as u64,
            etag: stored.etag,
            last_modified_ms,
            owner: stored.owner,
            storage_class: stored.class,
            head: unpack(&stored.head)?,
            tags: unpack(&stored.tags)?,
            checksum: stored.checksum.as_deref().map(unpack).transpose()?,
            parts_count,
        });
        Ok(Found::Object { info, parts, more_parts })
    }

    pub(super) fn parts(&self, row: u64, after: u32, offset: u64) -> Result<QueryReply, Stop> {
        let sql = format!("{STORED} WHERE row=?1 AND marker=0");
        let row = self.one(&sql, [row as i64], stored)?.ok_or(Refused::NoSuchKey)?;
        let names = self.nodes(false)?;
        let all = MAX_PARTS as usize;
        let (parts, more) = self.row_parts(&names, &row, after, offset, all)?;
        Ok(QueryReply::Parts { parts, more })
    }

    /// Parts behind a number that end behind an offset, cut at `max` and at the size of a page.
    fn row_parts(
        &self,
        names: &Nodes,
        row: &Stored,
        after: u32,
        offset: u64,
        max: usize,
    ) -> Result<(Vec<PartRow>, bool), Stop> {
        let Some(manifest) = row.manifest else {
            let only = match row.data {
                Some(data) if after == 0 => self.blob(names, data)?,
                _ => None,
            };
            let part = |blob: BlobInfo| PartRow {
                no: 1,
                offset: 0,
                len: blob.len,
                data_id: blob.data_id,
                md5: blob.md5,
                crc64: blob.crc64,
                locations: blob.locations,
                checksum: None,
            };
            return Ok((only.map(part).into_iter().collect(), false));
        };
        let sql = "SELECT no, data, offset, len, checksum FROM part
                   WHERE manifest=?1 AND no>?2 AND offset+len>?3 ORDER BY no";
        let mut statement = self.db().prepare_cached(sql)?;
        let mut found = statement.query(params![manifest, after, offset as i64])?;
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while let Some(r) = found.next()? {
            if parts.len() == max || bytes > PAGE_BYTES {
                return Ok((parts, true));
            }
            let blob = self
                .blob(names, id_from(r.get(1)?))?
                .ok_or(Fatal::Broken("a part names a blob that is not there"))?;
            bytes += 160 + blob.locations.iter().map(|name| name.len() + 8).sum::<usize>();
            parts.push(PartRow {
                no: r.get(0)?,
                offset: r.get::<_, i64>(2)? as u64,
                len: r.get::<_, i64>(3)? as u64,
                data_id: blob.data_id,
                md5: blob.md5,
                crc64: blob.crc64,
                locations: blob.locations,
                checksum: r.get(4)?,
            });
        }
        Ok((parts, false))
    }

    fn blob(&self, names: &Nodes, data: DataId) -> Result<Option<BlobInfo>, Stop> {
        let sql = format!("{BLOB} WHERE data=?1 AND state=0");
        self.one(&sql, [id_bytes(data)], |r| blob_row(r, names))
    }

    pub(super) fn blobs(&self, ids: &[DataId]) -> Result<QueryReply, Stop> {
        if ids.len() > MAX_BLOBS as usize {
            let what = format!("at most {MAX_BLOBS} data ids");
            return Err(Refused::InvalidArgument { what }.into());
        }
        let names = self.nodes(false)?;
        let mut blobs = Vec::with_capacity(ids.len());
        for id in ids {
            blobs.extend(self.blob(&names, *id)?);
        }
        Ok(QueryReply::Blobs { blobs })
    }

    pub(super) fn blobs_after(&self, after: Option<DataId>, max: u32) -> Result<QueryReply, Stop> {
        let names = self.nodes(false)?;
        let sql = format!("{BLOB} WHERE data>?1 AND state=0 ORDER BY data LIMIT ?2");
        let after = after.map(id_bytes).map_or_else(Vec::new, |id| id.to_vec());
        let wanted = params![after, max.clamp(1, MAX_BLOBS)];
        let (mut blobs, mut bytes) = (Vec::new(), 0);
        for blob in self.all(&sql, wanted, |r| blob_row(r, &names))? {
            if bytes > PAGE_BYTES {
                break;
            }
            let nodes = blob.locations.iter().chain(&blob.lacking);
            bytes += 80 + nodes.map(|name| name.len() + 8).sum::<usize>();
            blobs.push(blob);
        }
        Ok(QueryReply::Blobs { blobs })
    }

    pub(super) fn list_parts(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        after: u32,
        max: u32,
    ) -> Result<QueryReply, Stop> {
        let bucket = self.bucket(bucket)?;
        let sql = "SELECT no, created_ms, object, checksum FROM upload
                   WHERE id=?1 AND bucket=?2 AND key=?3 AND open=1";
        let wanted = params![upload_id, bucket.no, key.as_bytes()];
        let (no, created, object, checksum) = self
            .one(sql, wanted, |r| {
                let (object, checksum) = (r.get::<_, Vec<u8>>(2)?, checksum_of(r.get(3)?));
                Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, object, checksum))
            })?
            .ok_or(Refused::NoSuchUpload)?;
        let object: NewObject = unpack(&object)?;
        let max = max.clamp(1, MAX_PAGE) as usize;
        let sql = "SELECT no, len, md5, modified_ms, checksum FROM part
                   WHERE manifest=?1 AND no>?2 ORDER BY no LIMIT ?3";
        let mut parts = self.all(sql, params![no, after, max as i64 + 1], |r| {
            Ok(UploadPart {
                no: r.get(0)?,
                size: r.get::<_, i64>(1)? as u64,
                md5: r.get(2)?,
                last_modified_ms: r.get::<_, i64>(3)? as u64,
                checksum: r.get(4)?,
            })
        })?;
        let more = parts.len() > max;
        parts.truncate(max);
        let upload = UploadInfo {
            created_ms: created as u64,
            owner: object.owner,
            storage_class: object.storage_class,
            checksum: checksum.map(|(algorithm, kind)| UploadChecksum { algorithm, kind }),
            head: object.head,
        };
        Ok(QueryReply::UploadParts { upload, parts, more })
    }
}

const BLOB: &str = "SELECT data, len, md5, crc64, refs, locations, lacking FROM blob";

fn blob_row(r: &Row<'_>, names: &Nodes) -> rusqlite::Result<BlobInfo> {
    Ok(BlobInfo {
        data_id: id_from(r.get(0)?),
        len: r.get::<_, i64>(1)? as u64,
        md5: r.get(2)?,
        crc64: r.get::<_, i64>(3)? as u64,
        references: r.get::<_, i64>(4)? as u64,
        locations: names.of(&unpack_nodes(r.get_ref(5)?.as_blob()?)),
        lacking: names.of(&unpack_nodes(r.get_ref(6)?.as_blob()?)),
    })
}
