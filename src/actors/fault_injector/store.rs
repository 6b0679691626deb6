//! The file of the records: what can be asked of it without changing it.
//!
//! Read from any thread, beside the machine that applies; what is promised of both stands in
//! [`redb_state`](crate::actors::redb_state).
//!
//! - `PAGE-1` a page is shorter than [`PAGE_BYTES`] in its encoding, and holds at least one record
//!   where there is one.

use redb::{Error, ReadTransaction};
use serde::{Deserialize, Serialize};

use super::command::{Collection, Record};
use super::machine::{COUNTS, RECORDS, Records, key};
use crate::actors::redb_state::{Store, StoreError, applied_index, decode};

/// A page is shorter, in encoded bytes.
pub const PAGE_BYTES: u64 = 128 * 1024;
/// What a page takes beside its records.
const PAGE_OVERHEAD_BYTES: u64 = 64;

/// The open file of the records.
pub type RecordStore = Store<Records>;

/// Some records of a collection, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<Record>,
    /// Whether more follow: ask for those after the last id.
    pub more: bool,
}

/// How many records there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Records of each collection, in the order of [`Collection::ALL`].
    pub counts: [u64; Collection::ALL.len()],
    /// Bytes of all records.
    pub bytes: u64,
    /// Index of the last command.
    pub applied_index: u64,
}

impl RecordStore {
    /// One record.
    ///
    /// # Errors
    /// When the file fails.
    pub fn get(&self, collection: Collection, id: &str) -> Result<Option<Record>, StoreError> {
        self.read(|tx| {
            let row = tx.open_table(RECORDS)?.get(key((collection, id)))?;
            row.map(|row| decode("record", row.value())).transpose()
        })
    }

    /// A page of at most `limit` records, and at least one, after an id.
    ///
    /// # Errors
    /// When the file fails.
    pub fn list(
        &self,
        collection: Collection,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RecordPage, StoreError> {
        self.read(|tx| read_page(tx, collection, after, limit))
    }

    /// How many records there are; costs the same for any number.
    ///
    /// # Errors
    /// When the file fails.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.read(read_stats)
    }
}

fn read_page(
    tx: &ReadTransaction,
    collection: Collection,
    after: Option<&str>,
    limit: usize,
) -> Result<RecordPage, Error> {
    let mut page = RecordPage { records: Vec::new(), more: false };
    let mut bytes = PAGE_OVERHEAD_BYTES;
    let records = tx.open_table(RECORDS)?;
    for entry in records.range((collection as u8, after.unwrap_or(""))..)? {
        let (key, row) = entry?;
        let (found, id) = key.value();
        if found != collection as u8 {
            break;
        }
        if after == Some(id) {
            continue;
        }
        bytes += row.value().len() as u64; // encoded as in a message
        let full = page.records.len() >= limit.max(1) || bytes >= PAGE_BYTES;
        if full && !page.records.is_empty() {
            page.more = true;
            break;
        }
        page.records.push(decode("record", row.value())?);
    }
    Ok(page)
}

fn read_stats(tx: &ReadTransaction) -> Result<Stats, Error> {
    let counts = tx.open_table(COUNTS)?;
    let mut stats = Stats { applied_index: applied_index(tx)?, ..Stats::default() };
    for (collection, sum) in Collection::ALL.into_iter().zip(&mut stats.counts) {
        if let Some(row) = counts.get(collection as u8)? {
            let (count, bytes) = row.value();
            *sum = count;
            stats.bytes += bytes;
        }
    }
    Ok(stats)
}

#[cfg(test)]
mod tests;
