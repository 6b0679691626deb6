//! Search over keys, tags and user metadata, and the figures of the catalog.
//!
//! Part of `reader.rs`. The index is an FTS5 table without content whose row numbers are those of
//! current objects; text is cut into words at everything that is no letter and no digit, so
//! `img_001` in `photos/2026/img_001.jpg` is found by `img 001`, `photos 20` or `jp`.
//!
//! 1. SEARCH-1: a hit is a current object that holds every word asked for; the last word, if it
//!    has two letters, may be the beginning of one. (Beginnings cost 25 ms each where a million
//!    rows match, whole words nearly nothing.)
//! 2. SEARCH-2: figures come from counters that the batches keep, never from a walk over all
//!    objects.

use rusqlite::params;

use super::list::text as utf8;
use super::query::{ContentTypeCount, DailyUploads, PAGE_BYTES, QueryReply, SearchHit, Stats};
use super::reader::{MAX_PAGE, View, broken};
use super::step::{Stop, counter};

/// Words that a search looks at; further ones are ignored.
const MAX_WORDS: usize = 16;

impl View<'_> {
    pub(super) fn search(
        &self,
        bucket: Option<&str>,
        text: &str,
        after: Option<u64>,
        max: u32,
    ) -> Result<QueryReply, Stop> {
        let bucket = bucket.map(|name| self.bucket(name)).transpose()?.map(|b| b.no);
        let Some(wanted) = match_expression(bucket, text) else {
            return Ok(QueryReply::Found { hits: Vec::new(), next: None });
        };
        let max = max.clamp(1, MAX_PAGE) as usize;
        let mut statement = self.db().prepare_cached(
            "SELECT v.row, b.name, v.key, v.size, v.etag, v.content_type, v.modified_ms
             FROM search s CROSS JOIN version v ON v.row=s.rowid JOIN bucket b ON b.no=v.bucket
             WHERE s.search MATCH ?1 AND s.rowid>?2 ORDER BY s.rowid LIMIT ?3",
        )?;
        let after = after.unwrap_or(0) as i64;
        let mut rows = statement.query(params![wanted, after, max as i64 + 1])?;
        let (mut hits, mut bytes, mut last) = (Vec::new(), 0, None);
        while let Some(r) = rows.next()? {
            if hits.len() == max || bytes > PAGE_BYTES {
                return Ok(QueryReply::Found { hits, next: last });
            }
            let key = utf8(r.get_ref(2)?.as_blob().map_err(broken)?)?.to_owned();
            bytes += 250 + key.len();
            last = Some(r.get::<_, i64>(0)? as u64);
            hits.push(SearchHit {
                bucket: r.get(1)?,
                key,
                size: r.get::<_, i64>(3)? as u64,
                etag: r.get(4)?,
                content_type: r.get(5)?,
                last_modified_ms: r.get::<_, i64>(6)? as u64,
            });
        }
        Ok(QueryReply::Found { hits, next: None })
    }

    pub(super) fn stats(&self, bucket: Option<&str>) -> Result<QueryReply, Stop> {
        let no = bucket.map(|name| self.bucket(name)).transpose()?.map_or(0, |b| b.no);
        let (objects, bytes) = self.counter(no, counter::CURRENT)?;
        let (versions, version_bytes) = self.counter(no, counter::VERSIONS)?;
        let one = |sql: &str| -> Result<u64, Stop> {
            Ok(self.one(sql, [], |r| r.get::<_, i64>(0))?.unwrap_or(0) as u64)
        };
        let sql = "SELECT name, count, bytes FROM counter WHERE bucket=?1 AND kind=?2
                   ORDER BY count DESC, name LIMIT 100";
        let content_types = self.all(sql, [no, counter::CONTENT_TYPE], |r| {
            let objects = r.get::<_, i64>(1)? as u64;
            let bytes = r.get::<_, i64>(2)? as u64;
            Ok(ContentTypeCount { content_type: r.get(0)?, objects, bytes })
        })?;
        let sql = "SELECT name, count, bytes FROM counter WHERE bucket=?1 AND kind=?2
                   ORDER BY name DESC LIMIT 90";
        let daily_uploads = self.all(sql, [no, counter::DAY], |r| {
            let day = r.get::<_, String>(0)?.parse().unwrap_or(0);
            let objects = r.get::<_, i64>(1)? as u64;
            Ok(DailyUploads { day, objects, bytes: r.get::<_, i64>(2)? as u64 })
        })?;
        let stats = Stats {
            buckets: match no {
                0 => one("SELECT count(*) FROM bucket")?,
                _ => 1,
            },
            objects,
            bytes,
            old_versions: versions.saturating_sub(objects),
            old_bytes: version_bytes.saturating_sub(bytes),
            delete_markers: self.counter(no, counter::MARKERS)?.0,
            content_types,
            daily_uploads,
            storage_nodes: one("SELECT count(*) FROM node WHERE active=1")?,
            outbox: one("SELECT count(*) FROM outbox")?,
        };
        Ok(QueryReply::Stats { stats })
    }
}

/// What FTS5 is asked for, or `None` where the text has no word.
fn match_expression(bucket: Option<i64>, text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.take(MAX_WORDS).collect();
    let last = words.last()?;
    // One letter begins far too many words, and an index for it would double the cost of a commit.
    let star = if last.chars().count() > 1 { " *" } else { "" };
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let words = format!("words : ({}{star})", words.join(" AND "));
    Some(match bucket {
        Some(no) => format!("{words} AND bucket : \"b{no}\""),
        None => words,
    })
}
