//! One command being applied: the database, the command's index, and what is left for the end of
//! the batch.
//!
//! Made by `store.rs` for each command; its methods are spread over `buckets.rs`, `objects.rs`,
//! `delete.rs`, `multipart.rs`, `blobs.rs`, `nodes.rs` and `rebalance.rs` by what they change. Owns nothing that
//! outlives the batch.
//!
//! 1. STEP-1: row, bucket and outbox numbers derive from the command's index alone.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde::{Serialize, de::DeserializeOwned};

use super::command::{Applied, Command};
use super::model::Refused;
use super::store::Fatal;
use crate::types::DataId;

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The answer is a refusal.
    Refused(Refused),
    /// The batch cannot go on.
    Fatal(Fatal),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Stop::Refused(refused)
    }
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Self {
        Stop::Fatal(fatal)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(source: rusqlite::Error) -> Self {
        Stop::Fatal(source.into())
    }
}

/// The kinds of counters, as stored. Bucket 0 holds the sums over all buckets.
pub(super) mod counter {
    /// Current objects and their bytes.
    pub const CURRENT: i64 = 1;
    /// All object versions and their bytes.
    pub const VERSIONS: i64 = 2;
    /// Delete markers.
    pub const MARKERS: i64 = 3;
    /// Current objects by content type.
    pub const CONTENT_TYPE: i64 = 4;
    /// Objects written by day; the name is the day's number in 8 digits.
    pub const DAY: i64 = 5;
}

/// What the accepted commands of a batch leave for its end.
#[derive(Debug, Default)]
pub(super) struct Later {
    search: Vec<SearchChange>,
    counters: BTreeMap<(i64, i64, String), (i64, i64)>,
    dropped_buckets: Vec<i64>,
}

#[derive(Debug)]
enum SearchChange {
    Remove { row: i64 },
    Add { row: i64, bucket: String, words: String },
}

impl Later {
    /// Takes over what one command noted.
    pub fn append(&mut self, other: Later) {
        self.search.extend(other.search);
        for (name, (count, bytes)) in other.counters {
            let sum = self.counters.entry(name).or_default();
            *sum = (sum.0 + count, sum.1 + bytes);
        }
        self.dropped_buckets.extend(other.dropped_buckets);
    }

    /// Writes it all.
    pub fn flush(&self, db: &Connection) -> Result<(), Fatal> {
        self.flush_search(db)?;
        let mut add = db.prepare_cached(
            "INSERT INTO counter VALUES(?1,?2,?3,?4,?5) ON CONFLICT DO UPDATE SET
             count=count+excluded.count, bytes=bytes+excluded.bytes",
        )?;
        let mut tidy = db.prepare_cached(
            "DELETE FROM counter WHERE bucket=?1 AND kind=?2 AND name=?3 AND count=0 AND bytes=0",
        )?;
        for ((bucket, kind, name), (count, bytes)) in &self.counters {
            add.execute(params![bucket, kind, name, count, bytes])?;
            tidy.execute(params![bucket, kind, name])?;
        }
        for bucket in &self.dropped_buckets {
            db.prepare_cached("DELETE FROM counter WHERE bucket=?1")?.execute([bucket])?;
        }
        Ok(())
    }

    /// Rows that came and went within the batch never reach the index.
    fn flush_search(&self, db: &Connection) -> Result<(), Fatal> {
        type Change<'a> = (bool, Option<(&'a str, &'a str)>);
        let mut changes: BTreeMap<i64, Change<'_>> = BTreeMap::new();
        for change in &self.search {
            match change {
                SearchChange::Remove { row } => {
                    let entry = changes.entry(*row).or_insert((true, None));
                    entry.1 = None;
                }
                SearchChange::Add { row, bucket, words } => {
                    changes.entry(*row).or_insert((false, None)).1 = Some((bucket, words));
                }
            }
        }
        let mut remove = db.prepare_cached("DELETE FROM search WHERE rowid=?1")?;
        let mut add =
            db.prepare_cached("INSERT INTO search(rowid,bucket,words) VALUES(?1,?2,?3)")?;
        for (row, (was_indexed, text)) in changes {
            if was_indexed {
                remove.execute([row])?;
            }
            if let Some((bucket, words)) = text {
                add.execute(params![row, bucket, words])?;
            }
        }
        Ok(())
    }
}

/// One command at work.
pub(super) struct Step<'a> {
    pub(super) db: &'a Connection,
    index: u64,
    rows: u64,
    outbox_rows: u32,
    later: Later,
}

impl<'a> Step<'a> {
    pub fn new(db: &'a Connection, index: u64) -> Step<'a> {
        Step { db, index, rows: 0, outbox_rows: 0, later: Later::default() }
    }

    pub fn into_later(self) -> Later {
        self.later
    }

    /// The one dispatch over all commands.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Stop> {
        use Command as C;
        match command {
            C::RegisterStorageNode { instance, catalog, now_ms } => {
                self.register_node(instance, *catalog, *now_ms)
            }
            C::RemoveStorageNode { instance } => self.remove_node(instance),
            C::CreateBucket { name, owner, now_ms } => self.create_bucket(name, owner, *now_ms),
            C::DeleteBucket { name, owner, now_ms, grace_ms } => {
                self.delete_bucket(name, owner.as_deref(), *now_ms, *grace_ms)
            }
            C::ConfigureBucket { name, change } => self.configure_bucket(name, change),
            C::Commit { .. } => self.commit(command),
            C::Copy { request, now_ms, .. } => {
                self.once(*request, *now_ms, |step| step.copy(command))
            }
            C::Delete { bucket, items, request, now_ms, grace_ms } => {
                self.once(*request, *now_ms, |step| step.delete(bucket, items, *now_ms, *grace_ms))
            }
            C::PutObjectTags { bucket, key, version_id, tags } => {
                self.put_object_tags(bucket, key, version_id.as_deref(), tags)
            }
            C::CreateUpload { .. } => self.create_upload(command),
            C::AddPart { .. } => self.add_part(command),
            C::CompleteUpload { .. } => self.complete_upload(command),
            C::AbortUpload { bucket, key, upload_id, now_ms, grace_ms } => {
                self.abort_upload(bucket, key, upload_id, *now_ms, *grace_ms)
            }
            C::Abort { data_ids, now_ms } => self.abort_data(data_ids, *now_ms),
            C::PurgeAborted { before_ms } => self.purge(*before_ms),
            C::AddLocation { data_id, instance } => self.add_location(*data_id, instance),
            C::DropLocation { data_id, instance, again, now_ms } => {
                self.drop_location(*data_id, instance, *again, *now_ms)
            }
            C::AckOutbox { ids } => self.ack_outbox(ids),
            C::Rebalance { step, now_ms } => self.rebalance(step, *now_ms),
        }
    }

    /// Runs `act` unless this request was answered before, and remembers its answer (COMMAND-2).
    fn once(
        &mut self,
        request: u128,
        now_ms: u64,
        act: impl FnOnce(&mut Self) -> Result<Applied, Stop>,
    ) -> Result<Applied, Stop> {
        if request == 0 {
            return act(self);
        }
        let id = request.to_be_bytes();
        let known =
            self.one("SELECT outcome FROM request WHERE id=?1", [id], |r| r.get::<_, Vec<u8>>(0))?;
        if let Some(outcome) = known {
            return Ok(unpack(&outcome)?);
        }
        let applied = act(self)?;
        self.run(
            "INSERT INTO request VALUES(?1,?2,?3)",
            params![id, pack(&applied), now_ms as i64],
        )?;
        Ok(applied)
    }

    /// A number for a bucket or manifest: one a command.
    pub fn number(&self) -> i64 {
        self.index as i64
    }

    /// A number for a version row: up to 1,024 a command.
    pub fn next_row(&mut self) -> i64 {
        let row = (self.index << 10) | self.rows;
        self.rows += 1;
        debug_assert!(self.rows <= 1024, "STEP-1: too many rows in one command");
        row as i64
    }

    /// The number of the next outbox row.
    pub fn next_outbox(&mut self) -> (i64, u32) {
        self.outbox_rows += 1;
        (self.index as i64, self.outbox_rows - 1)
    }

    /// Adds to a counter of the bucket and of all buckets.
    pub fn count(&mut self, bucket: i64, kind: i64, name: &str, count: i64, bytes: i64) {
        for bucket in [0, bucket] {
            let sum = self.later.counters.entry((bucket, kind, name.to_owned())).or_default();
            *sum = (sum.0 + count, sum.1 + bytes);
        }
    }

    /// Forgets the counters of a bucket that is gone.
    pub fn drop_counters(&mut self, bucket: i64) {
        self.later.dropped_buckets.push(bucket);
    }

    /// Takes a row out of the search index.
    pub fn unindex(&mut self, row: i64) {
        self.later.search.push(SearchChange::Remove { row });
    }

    /// Puts a row into the search index.
    pub fn index_words(&mut self, row: i64, bucket: i64, words: String) {
        let bucket = format!("b{bucket}");
        self.later.search.push(SearchChange::Add { row, bucket, words });
    }

    pub fn run(&self, sql: &str, params: impl Params) -> Result<usize, Stop> {
        Ok(self.db.prepare_cached(sql)?.execute(params)?)
    }

    pub fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Stop> {
        Ok(self.db.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    pub fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Stop> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?;
        Ok(rows.collect::<Result<Vec<T>, _>>()?)
    }
}

/// Encodes a value for a BLOB column.
pub(super) fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serialize(value).expect("plain data without maps of unknown length always encodes")
}

/// Decodes a BLOB column.
pub(super) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fatal> {
    bincode::deserialize(bytes).map_err(Fatal::Decode)
}

/// The 16 bytes of a data id, in the order of ids.
pub(super) fn id_bytes(id: DataId) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// The data id of 16 stored bytes.
pub(super) fn id_from(bytes: [u8; 16]) -> DataId {
    DataId(u128::from_be_bytes(bytes))
}

/// Node numbers as a BLOB.
pub(super) fn pack_nodes(nodes: &[u32]) -> Vec<u8> {
    nodes.iter().flat_map(|no| no.to_le_bytes()).collect()
}

/// Node numbers of a BLOB.
pub(super) fn unpack_nodes(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}
