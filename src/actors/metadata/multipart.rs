//! Multipart uploads: opened, filled, completed, aborted.
//!
//! Part of `step.rs`. Owns the tables `upload` and `part`. Source: the S3 pages on multipart
//! uploads; the ETag of a completed object is the MD5 of its parts' MD5s and `-N`.
//!
//! 1. UPLOAD-1: the number of an upload is the number of the manifest that it becomes; its parts
//!    never move.
//! 2. UPLOAD-2: an upload ends once: completed (its outcome is kept until the purge) or aborted.
//! 3. UPLOAD-3: the parts of a completed upload are exactly those selected, with their offsets.

use rusqlite::params;

use super::blobs::Content;
use super::command::{Applied, Command, NewObject, PartRange, UploadChecksum, parts_digest};
use super::model::{MAX_PARTS, Refused};
use super::objects::{check_key, checksum_code, new_row};
use super::step::{Step, Stop, id_bytes, id_from, pack, unpack};
use crate::types::{DataId, UnixMillis};

struct UploadRow {
    no: i64,
    open: bool,
    object: Vec<u8>,
    outcome: Option<Vec<u8>>,
}

struct StoredPart {
    no: u32,
    data: DataId,
    len: i64,
    md5: [u8; 16],
}

impl Step<'_> {
    pub(super) fn create_upload(&mut self, command: &Command) -> Result<Applied, Stop> {
        let Command::CreateUpload { bucket, key, upload_id, object, checksum, now_ms } = command
        else {
            unreachable!("dispatched by `apply`");
        };
        let bucket = self.bucket(bucket)?;
        check_key(key)?;
        if self.upload(bucket.no, key, upload_id)?.is_some() {
            return Ok(Applied::Done);
        }
        self.run(
            "INSERT INTO upload VALUES(?1,?2,?3,?4,1,?5,?6,?7,NULL,NULL)",
            params![
                self.number(),
                upload_id,
                bucket.no,
                key.as_bytes(),
                *now_ms as i64,
                pack(object),
                upload_checksum_code(*checksum)
            ],
        )?;
        Ok(Applied::Done)
    }

    pub(super) fn add_part(&mut self, command: &Command) -> Result<Applied, Stop> {
        let Command::AddPart { bucket, key, upload_id, no, data, checksum, now_ms, grace_ms } =
            command
        else {
            unreachable!("dispatched by `apply`");
        };
        let bucket = self.bucket(bucket)?;
        if self.is_retry(data)? {
            return Ok(Applied::Done);
        }
        let upload = self.open_upload(bucket.no, key, upload_id)?;
        if !(1..=MAX_PARTS).contains(no) {
            let what = format!("part number from 1 to {MAX_PARTS}");
            return Err(Refused::InvalidArgument { what }.into());
        }
        self.admit(data, *now_ms)?;
        let sql = "SELECT data FROM part WHERE manifest=?1 AND no=?2";
        let replaced = self.one(sql, params![upload.no, no], |r| Ok(id_from(r.get(0)?)))?;
        self.run(
            "INSERT OR REPLACE INTO part VALUES(?1,?2,?3,0,?4,?5,?6,?7)",
            params![
                upload.no,
                no,
                id_bytes(data.data_id),
                data.len as i64,
                data.md5,
                checksum,
                *now_ms as i64
            ],
        )?;
        if let Some(old) = replaced {
            self.release_blob(old, *now_ms, *grace_ms)?;
        }
        Ok(Applied::Done)
    }

    pub(super) fn complete_upload(&mut self, command: &Command) -> Result<Applied, Stop> {
        let Command::CompleteUpload {
            bucket,
            key,
            upload_id,
            parts,
            digest,
            min_part_bytes,
            checksum,
            precondition,
            now_ms,
            grace_ms,
        } = command
        else {
            unreachable!("dispatched by `apply`");
        };
        let bucket = self.bucket(bucket)?;
        let upload = self.upload(bucket.no, key, upload_id)?.ok_or(Refused::NoSuchUpload)?;
        if !upload.open {
            let outcome = upload.outcome.ok_or(Refused::NoSuchUpload)?;
            return Ok(unpack(&outcome)?);
        }
        let (selected, others) = select(self.stored_parts(upload.no)?, parts)?;
        if parts_digest(selected.iter().map(|p| (p.no, p.md5))) != *digest {
            return Err(Refused::InvalidPart { no: None }.into());
        }
        check_sizes(&selected, *min_part_bytes)?;
        self.check(&bucket, key, precondition)?;
        for part in others {
            self.run("DELETE FROM part WHERE manifest=?1 AND no=?2", params![upload.no, part.no])?;
            self.release_blob(part.data, *now_ms, *grace_ms)?;
        }
        let size = self.set_offsets(upload.no, &selected)?;
        self.run(
            "INSERT INTO manifest VALUES(?1,1,?2)",
            params![upload.no, selected.len() as i64],
        )?;
        let mut object: NewObject = unpack(&upload.object)?;
        object.checksum = checksum.clone();
        let etag = multipart_etag(&selected);
        let content = Content { data: None, manifest: Some(upload.no) };
        let row = new_row(&bucket, &object, &etag, size, *now_ms, content);
        let applied = self.place(&bucket, key, row, *grace_ms)?;
        self.close_upload(upload.no, Some(&applied), *now_ms)?;
        Ok(applied)
    }

    pub(super) fn abort_upload(
        &mut self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        now: UnixMillis,
        grace: u64,
    ) -> Result<Applied, Stop> {
        let bucket = self.bucket(bucket)?;
        let upload = self.upload(bucket.no, key, upload_id)?.ok_or(Refused::NoSuchUpload)?;
        if upload.open {
            self.release_parts(upload.no, now, grace)?;
            self.close_upload(upload.no, None, now)?;
            return Ok(Applied::Done);
        }
        match upload.outcome {
            None => Ok(Applied::Done),
            Some(_) => Err(Refused::NoSuchUpload.into()),
        }
    }

    /// Ends an upload; its row stays until the purge, so that a retry is known.
    pub(super) fn close_upload(
        &self,
        no: i64,
        outcome: Option<&Applied>,
        now: UnixMillis,
    ) -> Result<(), Stop> {
        self.run(
            "UPDATE upload SET open=0, outcome=?2, done_ms=?3 WHERE no=?1",
            params![no, outcome.map(pack), now as i64],
        )?;
        Ok(())
    }

    fn upload(&self, bucket: i64, key: &str, id: &str) -> Result<Option<UploadRow>, Stop> {
        self.one(
            "SELECT no, open, object, outcome FROM upload WHERE id=?1 AND bucket=?2 AND key=?3",
            params![id, bucket, key.as_bytes()],
            |r| {
                let (object, outcome) = (r.get(2)?, r.get(3)?);
                Ok(UploadRow { no: r.get(0)?, open: r.get(1)?, object, outcome })
            },
        )
    }

    fn open_upload(&self, bucket: i64, key: &str, id: &str) -> Result<UploadRow, Stop> {
        let upload = self.upload(bucket, key, id)?.filter(|upload| upload.open);
        Ok(upload.ok_or(Refused::NoSuchUpload)?)
    }

    fn stored_parts(&self, manifest: i64) -> Result<Vec<StoredPart>, Stop> {
        let sql = "SELECT no, data, len, md5 FROM part WHERE manifest=?1 ORDER BY no";
        self.all(sql, [manifest], |r| {
            let data = id_from(r.get(1)?);
            Ok(StoredPart { no: r.get(0)?, data, len: r.get(2)?, md5: r.get(3)? })
        })
    }

    /// Gives each part its place in the object; answers the object's size.
    fn set_offsets(&self, manifest: i64, parts: &[StoredPart]) -> Result<i64, Stop> {
        let mut size = 0_i64;
        for part in parts {
            self.run(
                "UPDATE part SET offset=?3 WHERE manifest=?1 AND no=?2",
                params![manifest, part.no, size],
            )?;
            size = size
                .checked_add(part.len)
                .ok_or(Refused::InvalidArgument { what: "size of the object".to_owned() })?;
        }
        Ok(size)
    }
}

/// Splits the stored parts into those selected and the others; both stay in order.
fn select(
    stored: Vec<StoredPart>,
    ranges: &[PartRange],
) -> Result<(Vec<StoredPart>, Vec<StoredPart>), Refused> {
    let mut last = 0;
    for range in ranges {
        if range.first <= last || range.last < range.first {
            return Err(Refused::InvalidPartOrder);
        }
        last = range.last;
    }
    if ranges.is_empty() || last > MAX_PARTS {
        return Err(Refused::InvalidPart { no: ranges.last().map(|r| r.last) });
    }
    let mut wanted = ranges.iter().flat_map(|r| r.first..=r.last).peekable();
    let (mut selected, mut others) = (Vec::new(), Vec::new());
    for part in stored {
        match wanted.peek() {
            Some(no) if *no < part.no => return Err(Refused::InvalidPart { no: Some(*no) }),
            Some(no) if *no == part.no => {
                wanted.next();
                selected.push(part);
            }
            _ => others.push(part),
        }
    }
    match wanted.next() {
        Some(no) => Err(Refused::InvalidPart { no: Some(no) }),
        None => Ok((selected, others)),
    }
}

fn check_sizes(parts: &[StoredPart], min: u64) -> Result<(), Refused> {
    let all_but_last = &parts[..parts.len().saturating_sub(1)];
    match all_but_last.iter().find(|p| (p.len as u64) < min) {
        Some(part) => Err(Refused::EntityTooSmall { no: part.no, size: part.len as u64, min }),
        None => Ok(()),
    }
}

fn multipart_etag(parts: &[StoredPart]) -> String {
    let mut context = md5::Context::new();
    for part in parts {
        context.consume(part.md5);
    }
    format!("{:x}-{}", context.finalize(), parts.len())
}

fn upload_checksum_code(checksum: Option<UploadChecksum>) -> i64 {
    checksum_code(checksum.map(|c| (c.algorithm, c.kind)))
}
