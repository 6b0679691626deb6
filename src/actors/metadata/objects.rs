//! Version rows: commit, copy, tags, conditions, and which version of a key is the current one.
//!
//! Part of `step.rs`; `delete.rs` and `multipart.rs` build on it. Owns the tables `version` and
//! `current`.
//!
//! 1. OBJECT-1: a key has at most one row without a version id (S3's `null` version).
//! 2. OBJECT-2: after each change of a key, `current`, counters and search index follow its newest
//!    row.
//! 3. OBJECT-3: new content gets its reference before the row that it replaces gives one back.

use rusqlite::{Row, params};

use super::blobs::Content;
use super::buckets::BucketRow;
use super::command::{Applied, Command, MAX_BYTES, NewObject, Precondition};
use super::model::{
    Checksum, ChecksumAlgorithm, ChecksumType, MAX_KEY_BYTES, NULL_VERSION, ObjectHead, Refused,
    Tag, Versioning,
};
use super::step::{Step, Stop, counter, id_bytes, id_from, pack, unpack};
use crate::types::UnixMillis;

/// What decides about a version row.
#[derive(Clone, Debug)]
pub(super) struct VersionRow {
    pub row: i64,
    pub vid: Option<String>,
    pub marker: bool,
    pub size: i64,
    pub etag: String,
    pub modified: i64,
    pub content: Content,
}

/// A row about to be written.
#[derive(Debug)]
pub(super) struct NewRow<'a> {
    pub vid: Option<String>,
    pub marker: bool,
    pub size: i64,
    pub etag: &'a str,
    pub modified: UnixMillis,
    pub content: Content,
    pub owner: &'a str,
    pub class: &'a str,
    pub content_type: Option<&'a str>,
    pub head: Vec<u8>,
    pub tags: Vec<u8>,
    pub checksum: Option<Vec<u8>>,
}

const VERSION: &str =
    "SELECT row, vid, marker, size, etag, modified_ms, data, manifest FROM version";

fn version_row(r: &Row<'_>) -> rusqlite::Result<VersionRow> {
    let data = r.get::<_, Option<[u8; 16]>>(6)?.map(id_from);
    Ok(VersionRow {
        row: r.get(0)?,
        vid: r.get(1)?,
        marker: r.get(2)?,
        size: r.get(3)?,
        etag: r.get(4)?,
        modified: r.get(5)?,
        content: Content { data, manifest: r.get(7)? },
    })
}

impl Step<'_> {
    pub(super) fn commit(&mut self, command: &Command) -> Result<Applied, Stop> {
        let Command::Commit {
            bucket,
            key,
            data,
            size,
            etag,
            object,
            precondition,
            now_ms,
            grace_ms,
        } = command
        else {
            unreachable!("dispatched by `apply`");
        };
        let bucket = self.bucket(bucket)?;
        check_key(key)?;
        if data.as_ref().is_some_and(|data| data.len != *size) || *size > MAX_BYTES {
            let what = "size is the length of the data, at most 1 PiB".to_owned();
            return Err(Refused::InvalidArgument { what }.into());
        }
        if let Some(data) = data
            && self.is_retry(data)?
        {
            return self.committed_before(&bucket, key, command);
        }
        self.check(&bucket, key, precondition)?;
        if let Some(data) = data {
            self.admit(data, *now_ms)?;
        }
        let content = Content { data: data.as_ref().map(|d| d.data_id), manifest: None };
        let row = new_row(&bucket, object, etag, *size as i64, *now_ms, content);
        self.place(&bucket, key, row, *grace_ms)
    }

    /// Answers a retried commit as the first time. Its row may have been replaced since: then the
    /// write took place before the replacement, and its number is not known any more.
    fn committed_before(
        &mut self,
        bucket: &BucketRow,
        key: &str,
        command: &Command,
    ) -> Result<Applied, Stop> {
        let Command::Commit { data, size, etag, object, now_ms, .. } = command else {
            unreachable!("called by `commit`");
        };
        let wanted = data.as_ref().map(|d| d.data_id);
        let sql = format!("{VERSION} WHERE bucket=?1 AND key=?2 ORDER BY row DESC");
        let rows = self.all(&sql, params![bucket.no, key.as_bytes()], version_row)?;
        let row = rows.into_iter().find(|r| r.content.data == wanted);
        Ok(Applied::Committed {
            version_id: match &row {
                Some(row) => shown_version(bucket.versioning, row.vid.as_deref()),
                None => shown_version(bucket.versioning, row_vid(bucket, object).as_deref()),
            },
            etag: etag.clone(),
            size: *size,
            last_modified_ms: row.as_ref().map_or(*now_ms, |r| r.modified as u64),
            row: row.map_or(0, |r| r.row as u64),
        })
    }

    pub(super) fn copy(&mut self, command: &Command) -> Result<Applied, Stop> {
        let Command::Copy {
            source,
            bucket,
            key,
            version_id,
            owner,
            head,
            tags,
            storage_class,
            precondition,
            now_ms,
            grace_ms,
            ..
        } = command
        else {
            unreachable!("dispatched by `apply`");
        };
        let from = self.bucket(&source.bucket)?;
        let target = self.bucket(bucket)?;
        check_key(key)?;
        let sql = format!("{VERSION} WHERE row=?1 AND bucket=?2 AND key=?3 AND marker=0");
        let wanted = params![source.row as i64, from.no, source.key.as_bytes()];
        let row = self.one(&sql, wanted, version_row)?.ok_or(Refused::SourceChanged)?;
        self.check(&target, key, precondition)?;
        let sql = "SELECT class, head, tags, checksum FROM version WHERE row=?1";
        let (class, old_head, old_tags, checksum) = self
            .one(sql, [row.row], |r| Ok((r.get::<_, String>(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?
            .ok_or(Refused::SourceChanged)?;
        let old_head: Vec<u8> = old_head;
        let kept: ObjectHead = unpack(&old_head)?;
        let head = head.clone().unwrap_or(kept);
        self.share(row.content)?;
        let new = NewRow {
            vid: (target.versioning == Versioning::Enabled).then(|| version_id.clone()),
            marker: false,
            size: row.size,
            etag: &row.etag,
            modified: *now_ms,
            content: row.content,
            owner,
            class: storage_class.as_deref().unwrap_or(&class),
            content_type: head.content_type.as_deref(),
            head: pack(&head),
            tags: tags.as_ref().map_or(old_tags, pack),
            checksum,
        };
        self.place(&target, key, new, *grace_ms)
    }

    pub(super) fn put_object_tags(
        &mut self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
        tags: &[Tag],
    ) -> Result<Applied, Stop> {
        let bucket = self.bucket(bucket)?;
        let row = self.find(&bucket, key, version_id)?.ok_or(match version_id {
            Some(_) => Refused::NoSuchVersion,
            None => Refused::NoSuchKey,
        })?;
        let shown = shown_version(bucket.versioning, row.vid.as_deref());
        if row.marker {
            let version_id = shown.unwrap_or_default();
            let last_modified_ms = row.modified as u64;
            return Err(Refused::MethodNotAllowed { version_id, last_modified_ms }.into());
        }
        let packed = pack(&tags.to_vec());
        self.run("UPDATE version SET tags=?2 WHERE row=?1", params![row.row, packed])?;
        let sql = "SELECT 1 FROM current WHERE bucket=?1 AND key=?2 AND row=?3";
        if self.one(sql, params![bucket.no, key.as_bytes(), row.row], |_| Ok(()))?.is_some() {
            self.unindex(row.row);
            self.index_row(&bucket, key, row.row)?;
        }
        Ok(Applied::Tagged { version_id: shown })
    }

    /// Holds a condition against the newest row of the key.
    pub(super) fn check(
        &self,
        bucket: &BucketRow,
        key: &str,
        condition: &Precondition,
    ) -> Result<(), Stop> {
        if *condition == Precondition::Always {
            return Ok(());
        }
        let newest = self.find(bucket, key, None)?;
        let object = newest.as_ref().filter(|row| !row.marker);
        let holds = match condition {
            Precondition::Always => true,
            Precondition::IfMatch { etag } => object.ok_or(Refused::NoSuchKey)?.etag == *etag,
            Precondition::IfMatchAny => object.map(|_| true).ok_or(Refused::NoSuchKey)?,
            Precondition::IfNoneMatchAny => object.is_none(),
            Precondition::StillAbsent => newest.is_none() && !self.is_buried(bucket, key)?,
            Precondition::StillRow { row } => newest.is_some_and(|r| r.row as u64 == *row),
        };
        if holds { Ok(()) } else { Err(Refused::PreconditionFailed.into()) }
    }

    fn is_buried(&self, bucket: &BucketRow, key: &str) -> Result<bool, Stop> {
        let sql = "SELECT 1 FROM tombstone WHERE bucket=?1 AND key=?2";
        Ok(self.one(sql, params![bucket.no, key.as_bytes()], |_| Ok(()))?.is_some())
    }

    /// The newest row of a key (also a delete marker), or the one with this version id.
    pub(super) fn find(
        &self,
        bucket: &BucketRow,
        key: &str,
        version_id: Option<&str>,
    ) -> Result<Option<VersionRow>, Stop> {
        let key = key.as_bytes();
        match version_id {
            None => {
                let sql = format!("{VERSION} WHERE bucket=?1 AND key=?2 ORDER BY row DESC LIMIT 1");
                self.one(&sql, params![bucket.no, key], version_row)
            }
            Some(NULL_VERSION) => {
                let sql = format!(
                    "{VERSION} WHERE bucket=?1 AND key=?2 AND vid IS NULL ORDER BY row DESC LIMIT 1"
                );
                self.one(&sql, params![bucket.no, key], version_row)
            }
            Some(vid) => {
                let sql = format!("{VERSION} WHERE bucket=?1 AND key=?2 AND vid=?3");
                self.one(&sql, params![bucket.no, key, vid], version_row)
            }
        }
    }

    /// Writes a row as the newest of its key; a row without version id replaces the one before it.
    pub(super) fn place(
        &mut self,
        bucket: &BucketRow,
        key: &str,
        new: NewRow<'_>,
        grace: u64,
    ) -> Result<Applied, Stop> {
        let replaced = match &new.vid {
            None => self.find(bucket, key, Some(NULL_VERSION))?,
            Some(vid) if self.find(bucket, key, Some(vid))?.is_some() => {
                let what = "version id is in use".to_owned();
                return Err(Refused::InvalidArgument { what }.into());
            }
            Some(_) => None,
        };
        let now = new.modified;
        let row = self.insert_version(bucket, key, &new)?;
        if let Some(old) = replaced {
            self.erase(bucket, &old, now, grace)?;
        }
        if bucket.fallback {
            let gone = params![bucket.no, key.as_bytes()];
            self.run("DELETE FROM tombstone WHERE bucket=?1 AND key=?2", gone)?;
        }
        self.follow_newest(bucket, key)?;
        Ok(Applied::Committed {
            version_id: shown_version(bucket.versioning, new.vid.as_deref()),
            etag: new.etag.to_owned(),
            size: new.size as u64,
            row: row as u64,
            last_modified_ms: now,
        })
    }

    fn insert_version(
        &mut self,
        bucket: &BucketRow,
        key: &str,
        new: &NewRow<'_>,
    ) -> Result<i64, Stop> {
        let row = self.next_row();
        self.run(
            "INSERT INTO version VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)",
            params![
                row,
                bucket.no,
                key.as_bytes(),
                new.vid,
                new.marker,
                new.size,
                new.etag,
                new.modified as i64,
                new.content.data.map(id_bytes),
                new.content.manifest,
                new.owner,
                new.class,
                new.content_type,
                new.head,
                new.tags,
                new.checksum
            ],
        )?;
        if new.marker {
            self.count(bucket.no, counter::MARKERS, "", 1, 0);
        } else {
            self.count(bucket.no, counter::VERSIONS, "", 1, new.size);
            let day = format!("{:08}", new.modified / 86_400_000);
            self.count(bucket.no, counter::DAY, &day, 1, new.size);
        }
        Ok(row)
    }

    /// Removes a row for good and gives its content back.
    pub(super) fn erase(
        &mut self,
        bucket: &BucketRow,
        old: &VersionRow,
        now: UnixMillis,
        grace: u64,
    ) -> Result<(), Stop> {
        self.run("DELETE FROM version WHERE row=?1", [old.row])?;
        if old.marker {
            self.count(bucket.no, counter::MARKERS, "", -1, 0);
        } else {
            self.count(bucket.no, counter::VERSIONS, "", -1, -old.size);
        }
        self.release(old.content, now, grace)
    }

    /// Makes `current`, counters and search index follow the newest row of the key (OBJECT-2).
    pub(super) fn follow_newest(&mut self, bucket: &BucketRow, key: &str) -> Result<(), Stop> {
        let place = params![bucket.no, key.as_bytes()];
        let sql = "SELECT row, size, content_type FROM current WHERE bucket=?1 AND key=?2";
        let shown = self.one(sql, place, |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, Option<String>>(2)?))
        })?;
        let newest = self.find(bucket, key, None)?.filter(|row| !row.marker);
        if shown.as_ref().map(|(row, ..)| *row) == newest.as_ref().map(|r| r.row) {
            return Ok(());
        }
        if let Some((row, size, content_type)) = &shown {
            self.unindex(*row);
            self.count_current(bucket, content_type.as_deref(), -1, -size);
            if newest.is_none() {
                self.run("DELETE FROM current WHERE bucket=?1 AND key=?2", place)?;
            }
        }
        match newest {
            Some(row) => self.show(bucket, key, &row),
            None => Ok(()),
        }
    }

    fn show(&mut self, bucket: &BucketRow, key: &str, row: &VersionRow) -> Result<(), Stop> {
        let sql = "SELECT class, content_type, checksum FROM version WHERE row=?1";
        let details = self.one(sql, [row.row], |r| {
            let class = r.get::<_, String>(0)?;
            Ok((class, r.get::<_, Option<String>>(1)?, r.get::<_, Option<Vec<u8>>>(2)?))
        })?;
        let (class, content_type, checksum) =
            details.ok_or(super::store::Fatal::Broken("a version row vanished"))?;
        let checksum: Option<Checksum> = checksum.as_deref().map(unpack).transpose()?;
        self.run(
            "INSERT OR REPLACE INTO current VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
            params![
                bucket.no,
                key.as_bytes(),
                row.row,
                row.size,
                row.etag,
                row.modified,
                class,
                checksum_code(checksum.map(|c| (c.algorithm, c.kind))),
                content_type
            ],
        )?;
        self.count_current(bucket, content_type.as_deref(), 1, row.size);
        self.index_row(bucket, key, row.row)
    }

    fn count_current(&mut self, bucket: &BucketRow, kind: Option<&str>, count: i64, bytes: i64) {
        self.count(bucket.no, counter::CURRENT, "", count, bytes);
        self.count(bucket.no, counter::CONTENT_TYPE, kind.unwrap_or(""), count, bytes);
    }

    fn index_row(&mut self, bucket: &BucketRow, key: &str, row: i64) -> Result<(), Stop> {
        let packed = self.one("SELECT head, tags FROM version WHERE row=?1", [row], |r| {
            Ok((r.get::<_, Vec<u8>>(0)?, r.get::<_, Vec<u8>>(1)?))
        })?;
        let (head, tags) = packed.ok_or(super::store::Fatal::Broken("a version row vanished"))?;
        let (head, tags): (ObjectHead, Vec<Tag>) = (unpack(&head)?, unpack(&tags)?);
        let mut words = key.to_owned();
        let pairs = tags.iter().map(|t| (&t.key, &t.value));
        for (name, value) in pairs.chain(head.user.iter().map(|u| (&u.name, &u.value))) {
            words.extend([" ", name, " ", value]);
        }
        self.index_words(row, bucket.no, words);
        Ok(())
    }
}

/// The version id of a row written now.
pub(super) fn row_vid(bucket: &BucketRow, object: &NewObject) -> Option<String> {
    (bucket.versioning == Versioning::Enabled).then(|| object.version_id.clone())
}

/// A row for an object with these fields.
pub(super) fn new_row<'a>(
    bucket: &BucketRow,
    object: &'a NewObject,
    etag: &'a str,
    size: i64,
    modified: UnixMillis,
    content: Content,
) -> NewRow<'a> {
    NewRow {
        vid: row_vid(bucket, object),
        marker: false,
        size,
        etag,
        modified,
        content,
        owner: &object.owner,
        class: &object.storage_class,
        content_type: object.head.content_type.as_deref(),
        head: pack(&object.head),
        tags: pack(&object.tags),
        checksum: object.checksum.as_ref().map(pack),
    }
}

/// How a version id is shown: not at all in a bucket that never had versioning.
pub(super) fn shown_version(versioning: Versioning, vid: Option<&str>) -> Option<String> {
    match versioning {
        Versioning::Off => None,
        _ => Some(vid.unwrap_or(NULL_VERSION).to_owned()),
    }
}

pub(super) fn check_key(key: &str) -> Result<(), Stop> {
    match key.len() {
        0 => Err(Refused::InvalidArgument { what: "key is empty".to_owned() }.into()),
        1..=MAX_KEY_BYTES => Ok(()),
        _ => Err(Refused::KeyTooLong.into()),
    }
}

/// The stored form of a checksum's algorithm and kind; 0 = none.
pub(super) fn checksum_code(checksum: Option<(ChecksumAlgorithm, ChecksumType)>) -> i64 {
    checksum.map_or(0, |(algorithm, kind)| 1 + algorithm as i64 * 2 + kind as i64)
}

/// The reverse of [`checksum_code`].
pub(super) fn checksum_of(code: i64) -> Option<(ChecksumAlgorithm, ChecksumType)> {
    use ChecksumAlgorithm::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
    let code = usize::try_from(code - 1).ok()?;
    let algorithm = *[Crc32, Crc32c, Crc64Nvme, Sha1, Sha256].get(code / 2)?;
    let kind = [ChecksumType::FullObject, ChecksumType::Composite][code % 2];
    Some((algorithm, kind))
}
