//! Listing by skip-scan: the walk over keys with prefix and delimiter, and the listing of objects.
//!
//! Part of `reader.rs`; `list_more.rs` lists versions and uploads with the same walk.
//!
//! 1. LIST-1: a page costs per key and per common prefix that it holds, not per key below a common
//!    prefix: after `PATIENCE` rows inside one the walk seeks past it.
//! 2. LIST-2: keys and common prefixes come in byte order, each once over all pages.
//! 3. LIST-3: the next page is named exactly where another entry follows.

use rusqlite::{CachedStatement, Row, params};

use super::command::UploadChecksum;
use super::objects::checksum_of;
use super::query::{ListEntry, ListStart, PAGE_BYTES, QueryReply};
use super::reader::{MAX_PAGE, View, broken};
use super::step::Stop;
use super::store::Fatal;

/// Rows read inside a common prefix before a seek is cheaper.
const PATIENCE: u32 = 4;

/// Above every key: no UTF-8 text contains this byte.
const ABOVE_ALL: u8 = 0xff;

/// How keys are selected and grouped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grouping<'q> {
    pub prefix: &'q str,
    pub delimiter: &'q str,
}

impl Grouping<'_> {
    /// The length of the common prefix that this key falls under.
    pub fn group_len(&self, key: &[u8]) -> Option<usize> {
        let (from, delimiter) = (self.prefix.len(), self.delimiter.as_bytes());
        if delimiter.is_empty() || key.len() < from {
            return None;
        }
        let at = key[from..].windows(delimiter.len()).position(|w| w == delimiter)?;
        Some(from + at + delimiter.len())
    }

    /// The first key that can follow an entry (a key or a common prefix).
    pub fn after_entry(&self, entry: &str) -> Vec<u8> {
        let entry = entry.as_bytes();
        match self.group_len(entry).filter(|_| entry.starts_with(self.prefix.as_bytes())) {
            Some(len) => successor(&entry[..len]),
            None => after_key(entry),
        }
    }

    fn first(&self, start: &ListStart) -> Vec<u8> {
        match start {
            ListStart::First => Vec::new(),
            ListStart::AfterKey { key } => after_key(key.as_bytes()),
            ListStart::AfterEntry { entry } => self.after_entry(entry),
        }
    }
}

/// The least byte string above `key`.
pub(super) fn after_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The least byte string above all that begin with `prefix`.
pub(super) fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    match bytes.last_mut() {
        // The bytes of UTF-8 text end below 0xf5, so there is always one above.
        Some(last) => *last += 1,
        None => bytes.push(ABOVE_ALL),
    }
    bytes
}

/// One page in the making.
pub(super) struct Walk<'q, T> {
    grouping: Grouping<'q>,
    max: usize,
    bytes: usize,
    group: fn(String) -> T,
    pub entries: Vec<T>,
    /// Another entry follows the page.
    pub more: bool,
}

impl<'q, T> Walk<'q, T> {
    pub fn new(grouping: Grouping<'q>, max: u32, group: fn(String) -> T) -> Walk<'q, T> {
        let max = max.min(MAX_PAGE) as usize;
        Walk { grouping, max, bytes: 0, group, entries: Vec::new(), more: false }
    }

    /// Adds an entry, or notes that the page was full before it.
    pub fn push(&mut self, entry: T, bytes: usize) -> bool {
        if self.is_full() {
            self.more = self.max > 0;
            return false;
        }
        self.bytes += bytes;
        self.entries.push(entry);
        true
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.max || self.bytes > PAGE_BYTES
    }

    /// Fills the page. The statement takes bucket, lowest key and the key to stop before, and
    /// gives the key in column 0; `read` makes an entry and says its size in bytes.
    pub fn run(
        &mut self,
        statement: &mut CachedStatement<'_>,
        bucket: i64,
        from: Vec<u8>,
        mut read: impl FnMut(&str, &Row<'_>) -> Result<(T, usize), Stop>,
    ) -> Result<(), Stop> {
        let upper = successor(self.grouping.prefix.as_bytes());
        let mut lower = from.max(self.grouping.prefix.as_bytes().to_vec());
        let mut group: Vec<u8> = Vec::new();
        'seek: while lower < upper {
            let mut rows = statement.query(params![bucket, lower, upper])?;
            let mut inside = 0;
            while let Some(row) = rows.next()? {
                let key = row.get_ref(0)?.as_blob().map_err(broken)?;
                if !group.is_empty() && key.starts_with(&group) {
                    inside += 1;
                    if inside >= PATIENCE {
                        lower = successor(&group);
                        continue 'seek;
                    }
                    continue;
                }
                let (entry, bytes) = match self.grouping.group_len(key) {
                    Some(len) => {
                        group = key[..len].to_vec();
                        inside = 0;
                        ((self.group)(text(&group)?.to_owned()), 16 + len)
                    }
                    None => read(text(key)?, row)?,
                };
                if !self.push(entry, bytes) {
                    return Ok(());
                }
            }
            return Ok(());
        }
        Ok(())
    }
}

/// A stored key as text.
pub(super) fn text(key: &[u8]) -> Result<&str, Fatal> {
    std::str::from_utf8(key).map_err(|_| Fatal::Broken("a key is not utf-8"))
}

impl View<'_> {
    pub(super) fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: &str,
        start: &ListStart,
        max: u32,
    ) -> Result<QueryReply, Stop> {
        let bucket = self.bucket(bucket)?;
        let grouping = Grouping { prefix, delimiter };
        let group = |prefix| ListEntry::CommonPrefix { prefix };
        let mut walk = Walk::new(grouping, max, group);
        let mut statement = self.db().prepare_cached(
            "SELECT key, size, etag, modified_ms, class, checksum FROM current
             WHERE bucket=?1 AND key>=?2 AND key<?3 ORDER BY key",
        )?;
        walk.run(&mut statement, bucket.no, grouping.first(start), |key, r| {
            let checksum = checksum_of(r.get(5)?);
            let entry = ListEntry::Object {
                key: key.to_owned(),
                size: r.get::<_, i64>(1)? as u64,
                etag: r.get(2)?,
                last_modified_ms: r.get::<_, i64>(3)? as u64,
                storage_class: r.get(4)?,
                checksum: checksum.map(|(algorithm, kind)| UploadChecksum { algorithm, kind }),
            };
            Ok((entry, 130 + key.len()))
        })?;
        let last = walk.entries.last().map(|entry| match entry {
            ListEntry::Object { key, .. } => key.clone(),
            ListEntry::CommonPrefix { prefix } => prefix.clone(),
        });
        let next = last.filter(|_| walk.more);
        Ok(QueryReply::Listing { owner: bucket.info.owner, entries: walk.entries, next })
    }

    pub(super) fn count(&self, bucket: &str, prefix: &str) -> Result<QueryReply, Stop> {
        let bucket = self.bucket(bucket)?;
        if prefix.is_empty() {
            let (objects, _) = self.counter(bucket.no, super::step::counter::CURRENT)?;
            return Ok(QueryReply::Count { objects });
        }
        let sql = "SELECT count(*) FROM current WHERE bucket=?1 AND key>=?2 AND key<?3";
        let range = params![bucket.no, prefix.as_bytes(), successor(prefix.as_bytes())];
        let objects = self.one(sql, range, |r| r.get::<_, i64>(0))?.unwrap_or(0);
        Ok(QueryReply::Count { objects: objects as u64 })
    }
}
