//! Reading connections to the catalog, and the one dispatch over all queries.
//!
//! Each reading thread of the metadata actor owns one `CatalogReader`. The larger answers are made
//! in `lookup.rs`, `list.rs`, `list_more.rs`, `search.rs` and `digest.rs`. Changes nothing.
//!
//! 1. READER-1: an answer is one snapshot (QUERY-2): every query runs in a read transaction.
//! 2. READER-2: an answer stays below 192 KiB (QUERY-1): lists stop at `PAGE_BYTES`.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, Params, Row, params};

use super::buckets::versioning_of;
use super::model::Refused;
use super::nodes::OutboxKind;
use super::outbox::{OutboxId, OutboxRow};
use super::query::{Answer, BucketInfo, BucketUsage, DataStatus, PAGE_BYTES, Query, QueryReply};
use super::schema;
use super::step::{Step, Stop, counter, id_bytes, id_from, unpack, unpack_nodes};
use super::store::Fatal;
use crate::types::{DataId, InstanceId};

/// The most entries of any page.
pub(super) const MAX_PAGE: u32 = 1_000;

/// A connection that only reads. Moves between threads, but is used by one at a time.
#[derive(Debug)]
pub struct CatalogReader {
    db: Connection,
}

impl CatalogReader {
    /// Opens a reader on an existing catalog.
    ///
    /// # Errors
    /// `Open` and `Format`.
    pub fn open(path: impl AsRef<Path>) -> Result<CatalogReader, Fatal> {
        Ok(CatalogReader { db: schema::open_reader(path.as_ref())? })
    }

    /// Answers one question from the last committed state.
    ///
    /// # Errors
    /// Where the database cannot be read; a refusal is part of the answer.
    pub fn query(&self, query: &Query) -> Result<Answer, Fatal> {
        let snapshot = self.db.unchecked_transaction()?;
        let answer = match View::new(&snapshot).answer(query) {
            Ok(reply) => Ok(Ok(reply)),
            Err(Stop::Refused(refused)) => Ok(Err(refused)),
            Err(Stop::Fatal(fatal)) => Err(fatal),
        };
        snapshot.finish()?;
        answer
    }
}

/// One snapshot being read.
pub(super) struct View<'a> {
    step: Step<'a>,
}

/// A bucket and its number.
pub(super) struct Bucket {
    pub no: i64,
    pub info: BucketInfo,
}

const BUCKET: &str = "SELECT no, name, owner, created_ms, versioning, fallback FROM bucket";

fn bucket_row(r: &Row<'_>) -> rusqlite::Result<Bucket> {
    let info = BucketInfo {
        name: r.get(1)?,
        owner: r.get(2)?,
        created_ms: r.get::<_, i64>(3)? as u64,
        versioning: versioning_of(r.get(4)?),
        fallback: r.get(5)?,
    };
    Ok(Bucket { no: r.get(0)?, info })
}

impl<'a> View<'a> {
    fn new(db: &'a Connection) -> View<'a> {
        View { step: Step::new(db, 0) }
    }

    fn answer(&self, query: &Query) -> Result<QueryReply, Stop> {
        use Query as Q;
        match query {
            Q::Prepare { bucket } => Ok(QueryReply::Prepared {
                bucket: self.bucket(bucket)?.info,
                members: self.members()?,
                ever: self.count_rows("SELECT count(*) FROM node")?,
            }),
            Q::Members => Ok(QueryReply::Members { members: self.members()? }),
            Q::GetBucket { bucket } => self.get_bucket(bucket),
            Q::ListBuckets { owner, prefix, after, max } => {
                self.list_buckets(owner.as_deref(), prefix, after.as_deref(), *max)
            }
            Q::Lookup { bucket, key, version_id } => {
                self.lookup(bucket, key, version_id.as_deref())
            }
            Q::Parts { row, after_no, from_offset } => self.parts(*row, *after_no, *from_offset),
            Q::ListObjects { bucket, prefix, delimiter, start, max } => {
                self.list_objects(bucket, prefix, delimiter, start, *max)
            }
            Q::ListVersions { .. } => self.list_versions(query),
            Q::ListUploads { .. } => self.list_uploads(query),
            Q::ListParts { bucket, key, upload_id, after_no, max } => {
                self.list_parts(bucket, key, upload_id, *after_no, *max)
            }
            Q::Blobs { data_ids } => self.blobs(data_ids),
            Q::BlobsAfter { after, max } => self.blobs_after(*after, *max),
            Q::DataStatus { data_ids } => self.data_status(data_ids),
            Q::Outbox { after, max } => self.outbox(*after, *max),
            Q::Stats { bucket } => self.stats(bucket.as_deref()),
            Q::Count { bucket, prefix } => self.count(bucket, prefix),
            Q::Search { bucket, text, after, max } => {
                self.search(bucket.as_deref(), text, *after, *max)
            }
            Q::AppliedIndex => Ok(QueryReply::Index { applied: self.applied()? }),
            Q::Digest => {
                Ok(QueryReply::Digest { applied: self.applied()?, digest: self.digest()? })
            }
        }
    }

    pub fn db(&self) -> &'a Connection {
        self.step.db
    }

    pub fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Stop> {
        self.step.one(sql, params, read)
    }

    pub fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Stop> {
        self.step.all(sql, params, read)
    }

    pub fn bucket(&self, name: &str) -> Result<Bucket, Stop> {
        let bucket = self.one(&format!("{BUCKET} WHERE name=?1"), [name], bucket_row)?;
        Ok(bucket.ok_or(Refused::NoSuchBucket)?)
    }

    fn count_rows(&self, sql: &str) -> Result<u64, Stop> {
        Ok(self.one(sql, [], |r| r.get::<_, i64>(0))?.unwrap_or(0) as u64)
    }

    fn applied(&self) -> Result<u64, Stop> {
        self.count_rows("SELECT applied FROM state")
    }

    fn members(&self) -> Result<Vec<InstanceId>, Stop> {
        self.all("SELECT instance FROM node WHERE active=1 ORDER BY no", [], |r| r.get(0))
    }

    /// The names of all nodes (`removed` ones too, where asked for).
    pub fn nodes(&self, removed: bool) -> Result<Nodes, Stop> {
        let sql = "SELECT no, instance FROM node WHERE active=1 OR ?1";
        let rows = self.all(sql, [removed], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(Nodes(rows.into_iter().collect()))
    }

    fn get_bucket(&self, name: &str) -> Result<QueryReply, Stop> {
        let Bucket { no, info } = self.bucket(name)?;
        let sql = "SELECT tags, cors FROM bucket WHERE no=?1";
        let stored = self.one(sql, [no], |r| {
            Ok((r.get::<_, Option<Vec<u8>>>(0)?, r.get::<_, Option<Vec<u8>>>(1)?))
        })?;
        let (tags, cors) = stored.unwrap_or_default();
        Ok(QueryReply::Bucket {
            bucket: info,
            tags: tags.as_deref().map(unpack).transpose()?,
            cors: cors.as_deref().map(unpack).transpose()?,
        })
    }

    fn list_buckets(
        &self,
        owner: Option<&str>,
        prefix: &str,
        after: Option<&str>,
        max: u32,
    ) -> Result<QueryReply, Stop> {
        let max = max.clamp(1, MAX_PAGE) as usize;
        let sql = format!(
            "{BUCKET} WHERE name>?1 AND name>=?2 AND substr(name,1,length(?2))=?2
             AND (?3 IS NULL OR owner=?3) ORDER BY name LIMIT ?4"
        );
        let wanted = params![after.unwrap_or(""), prefix, owner, max as i64 + 1];
        let rows = self.all(&sql, wanted, bucket_row)?;
        let more = rows.len() > max;
        let mut buckets = Vec::with_capacity(rows.len().min(max));
        for Bucket { no, info } in rows.into_iter().take(max) {
            let (objects, bytes) = self.counter(no, counter::CURRENT)?;
            buckets.push(BucketUsage { bucket: info, objects, bytes });
        }
        let last = buckets.last().map(|b| b.bucket.name.clone());
        Ok(QueryReply::Buckets { buckets, next: last.filter(|_| more) })
    }

    /// A counter without a name: count and bytes.
    pub fn counter(&self, bucket: i64, kind: i64) -> Result<(u64, u64), Stop> {
        let sql = "SELECT count, bytes FROM counter WHERE bucket=?1 AND kind=?2 AND name=''";
        let found = self.one(sql, [bucket, kind], |r| {
            Ok((r.get::<_, i64>(0)? as u64, r.get::<_, i64>(1)? as u64))
        })?;
        Ok(found.unwrap_or_default())
    }

    fn data_status(&self, ids: &[DataId]) -> Result<QueryReply, Stop> {
        super::blobs::check_items(ids.len())?;
        let mut statuses = Vec::with_capacity(ids.len());
        for id in ids {
            let sql = "SELECT state, gone_ms FROM blob WHERE data=?1";
            let found = self.one(sql, [id_bytes(*id)], |r| {
                Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)? as u64))
            })?;
            statuses.push(match found {
                Some((super::blobs::LIVE, _)) => DataStatus::Referenced,
                Some((super::blobs::ABORTED, _)) => DataStatus::Aborted,
                Some((_, since_ms)) => DataStatus::Freed { since_ms },
                None => DataStatus::Unknown,
            });
        }
        Ok(QueryReply::DataStatus { statuses })
    }

    fn outbox(&self, after: Option<OutboxId>, max: u32) -> Result<QueryReply, Stop> {
        let max = max.clamp(1, MAX_PAGE) as usize;
        let (index, n) = after.map_or((-1, 0), |id| (id.index as i64, id.n));
        let names = self.nodes(true)?;
        let sql = "SELECT idx, n, kind, data, nodes, not_before_ms FROM outbox
                   WHERE (idx, n) > (?1, ?2) ORDER BY idx, n LIMIT ?3";
        let mut statement = self.db().prepare_cached(sql)?;
        let mut found = statement.query(params![index, n, max as i64 + 1])?;
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0, false);
        while let Some(r) = found.next()? {
            if rows.len() == max || bytes > PAGE_BYTES {
                more = true;
                break;
            }
            let id = OutboxId { index: r.get::<_, i64>(0)? as u64, n: r.get(1)? };
            let nodes = names.of(&unpack_nodes(r.get_ref(4)?.as_blob().map_err(broken)?));
            bytes += 64 + nodes.iter().map(|n| n.len() + 8).sum::<usize>();
            let task = OutboxKind::task(r.get(2)?, id_from(r.get(3)?), nodes)
                .ok_or(Fatal::Broken("an outbox row makes no sense"))?;
            rows.push(OutboxRow { id, not_before_ms: r.get::<_, i64>(5)? as u64, task });
        }
        Ok(QueryReply::Outbox { rows, more })
    }
}

/// A column that should be a BLOB and is not.
pub(super) fn broken(_: rusqlite::types::FromSqlError) -> Fatal {
    Fatal::Broken("a column has another type")
}

/// Node names by number.
pub(super) struct Nodes(HashMap<u32, InstanceId>);

impl Nodes {
    /// The names of these, unknown ones left out.
    pub fn of(&self, numbers: &[u32]) -> Vec<InstanceId> {
        numbers.iter().filter_map(|no| self.0.get(no).cloned()).collect()
    }
}
