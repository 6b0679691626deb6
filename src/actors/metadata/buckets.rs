//! Buckets: made, configured, removed, looked up.
//!
//! Part of `step.rs`. Owns the tables `bucket` and `tombstone`.
//!
//! 1. BUCKET-1: versioning never goes back to `Off`.
//! 2. BUCKET-2: a bucket goes only when no version and no delete marker is left; open uploads,
//!    tombstones and counters go with it.

use rusqlite::params;

use super::command::{Applied, BucketChange};
use super::model::{Refused, Versioning};
use super::step::{Step, Stop, pack};
use crate::types::UnixMillis;

/// What the flows of a command need of a bucket.
#[derive(Clone, Debug)]
pub(super) struct BucketRow {
    pub no: i64,
    pub versioning: Versioning,
    pub fallback: bool,
}

/// The stored form of a versioning state.
pub(super) fn versioning_of(stored: i64) -> Versioning {
    match stored {
        1 => Versioning::Enabled,
        2 => Versioning::Suspended,
        _ => Versioning::Off,
    }
}

impl Step<'_> {
    pub(super) fn bucket(&self, name: &str) -> Result<BucketRow, Stop> {
        let row =
            self.one("SELECT no, versioning, fallback FROM bucket WHERE name=?1", [name], |r| {
                let versioning = versioning_of(r.get(1)?);
                Ok(BucketRow { no: r.get(0)?, versioning, fallback: r.get(2)? })
            })?;
        Ok(row.ok_or(Refused::NoSuchBucket)?)
    }

    pub(super) fn create_bucket(
        &mut self,
        name: &str,
        owner: &str,
        now: UnixMillis,
    ) -> Result<Applied, Stop> {
        let taken =
            self.one("SELECT owner FROM bucket WHERE name=?1", [name], |r| r.get::<_, String>(0))?;
        match taken {
            Some(other) if other == owner => Err(Refused::BucketAlreadyOwnedByYou.into()),
            Some(other) => Err(Refused::BucketAlreadyExists { owner: other }.into()),
            None => {
                self.run(
                    "INSERT INTO bucket VALUES(?1,?2,?3,?4,0,0,NULL,NULL)",
                    params![self.number(), name, owner, now as i64],
                )?;
                Ok(Applied::Done)
            }
        }
    }

    pub(super) fn delete_bucket(
        &mut self,
        name: &str,
        owner: Option<&str>,
        now: UnixMillis,
        grace: u64,
    ) -> Result<Applied, Stop> {
        let bucket = self.bucket(name)?;
        let sql = "SELECT owner FROM bucket WHERE no=?1";
        let is_owner = self.one(sql, [bucket.no], |r| r.get::<_, String>(0))?;
        if owner.is_some() && is_owner.as_deref() != owner {
            return Err(Refused::AccessDenied.into());
        }
        let sql = "SELECT 1 FROM version WHERE bucket=?1 LIMIT 1";
        if self.one(sql, [bucket.no], |_| Ok(()))?.is_some() {
            return Err(Refused::BucketNotEmpty.into());
        }
        let sql = "SELECT no FROM upload WHERE bucket=?1 AND open=1 ORDER BY no";
        for upload in self.all(sql, [bucket.no], |r| r.get(0))? {
            self.release_parts(upload, now, grace)?;
            self.close_upload(upload, None, now)?;
        }
        self.run("DELETE FROM tombstone WHERE bucket=?1", [bucket.no])?;
        self.run("DELETE FROM bucket WHERE no=?1", [bucket.no])?;
        self.drop_counters(bucket.no);
        Ok(Applied::Done)
    }

    pub(super) fn configure_bucket(
        &mut self,
        name: &str,
        change: &BucketChange,
    ) -> Result<Applied, Stop> {
        let no = self.bucket(name)?.no;
        match change {
            BucketChange::Versioning { state } => {
                let stored = match state {
                    Versioning::Enabled => 1,
                    Versioning::Suspended => 2,
                    Versioning::Off => {
                        let what = "versioning cannot be switched off, only suspended".to_owned();
                        return Err(Refused::InvalidArgument { what }.into());
                    }
                };
                self.run("UPDATE bucket SET versioning=?2 WHERE no=?1", params![no, stored])?
            }
            BucketChange::Tags { tags } => self.run(
                "UPDATE bucket SET tags=?2 WHERE no=?1",
                params![no, tags.as_ref().map(pack)],
            )?,
            BucketChange::Cors { rules } => self.run(
                "UPDATE bucket SET cors=?2 WHERE no=?1",
                params![no, rules.as_ref().map(pack)],
            )?,
            BucketChange::Fallback { on } => {
                self.run("UPDATE bucket SET fallback=?2 WHERE no=?1", params![no, on])?
            }
        };
        Ok(Applied::Done)
    }

    /// Remembers a delete in a bucket that asks third parties.
    pub(super) fn bury(&self, bucket: &BucketRow, key: &str, now: UnixMillis) -> Result<(), Stop> {
        if bucket.fallback {
            self.run(
                "INSERT OR REPLACE INTO tombstone VALUES(?1,?2,?3)",
                params![bucket.no, key.as_bytes(), now as i64],
            )?;
        }
        Ok(())
    }
}
