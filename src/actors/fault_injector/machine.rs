//! The records as a replicated state machine: their tables, and commands on them.
//!
//! [`redb_state`](crate::actors::redb_state) makes a machine and a store of them.
//!
//! - `COUNT-1` the count of a collection is that of its records, in the same transaction.

use redb::{Error, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::de::IgnoredAny;

use super::command::{
    BODY_LIMIT_BYTES, Collection, Command, Expected, ID_LIMIT_BYTES, Outcome, RECORD_LIMIT, Record,
    Refused,
};
use crate::actors::redb_state::{EachTable, Machine, Schema, decode, encode};
use crate::types::UnixMillis;

/// (collection, id) -> record.
pub(super) const RECORDS: TableDefinition<(u8, &str), &[u8]> = TableDefinition::new("records");
/// Collection -> number and bytes of its records.
pub(super) const COUNTS: TableDefinition<u8, (u64, u64)> = TableDefinition::new("counts");

/// What a record takes in the file beside its own bytes, about.
const ROW_BYTES: u64 = 64;

/// The one writer of a [`RecordStore`](super::store::RecordStore).
pub type RecordMachine = Machine<Records>;

/// Records in collections.
#[derive(Debug)]
pub struct Records;

/// All tables, open in one write transaction.
pub struct Tables<'tx> {
    records: Table<'tx, (u8, &'static str), &'static [u8]>,
    counts: Table<'tx, u8, (u64, u64)>,
}

impl Schema for Records {
    type Command = Command;
    type Outcome = Outcome;
    type Tables<'tx> = Tables<'tx>;

    const FORMAT: &'static str = "fault injector 1";

    fn each_table(each: &mut impl EachTable) -> Result<(), Error> {
        each.table(RECORDS)?;
        each.table(COUNTS)
    }

    fn open(tx: &WriteTransaction) -> Result<Tables<'_>, Error> {
        Ok(Tables { records: tx.open_table(RECORDS)?, counts: tx.open_table(COUNTS)? })
    }

    fn apply(tables: &mut Tables<'_>, index: u64, command: &Command) -> Result<Outcome, Error> {
        let done = match command {
            Command::Put { collection, id, body, expected, now_ms } => {
                let (place, now_ms) = ((*collection, id.as_str()), *now_ms);
                let put = Put { place, body, version: index, now_ms };
                tables.put(&put, *expected)?
            }
            Command::Delete { collection, id, expected } => {
                tables.delete((*collection, id), *expected)?
            }
        };
        Ok(done.unwrap_or_else(Outcome::Refused))
    }

    fn close(_: Tables<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn used_bytes(tx: &ReadTransaction) -> Result<u64, Error> {
        let mut used = 0;
        for row in tx.open_table(COUNTS)?.iter()? {
            let (count, bytes) = row?.1.value();
            used += count * ROW_BYTES + bytes;
        }
        Ok(used)
    }
}

type Place<'a> = (Collection, &'a str);

/// A record that is to be stored.
struct Put<'a> {
    place: Place<'a>,
    body: &'a str,
    version: u64,
    now_ms: UnixMillis,
}

impl Tables<'_> {
    fn put(
        &mut self,
        put: &Put<'_>,
        expected: Expected,
    ) -> Result<Result<Outcome, Refused>, Error> {
        if let Err(refused) = check(put.place.1, put.body) {
            return Ok(Err(refused));
        }
        let (before, bytes_before) = self.find(put.place)?;
        if let Err(refused) = meets(before.as_ref(), expected) {
            return Ok(Err(refused));
        }
        let (count, bytes) = self.count(put.place.0)?;
        if before.is_none() && count >= RECORD_LIMIT {
            return Ok(Err(Refused::Full));
        }
        let record = Record {
            id: put.place.1.to_owned(),
            version: put.version,
            created_ms: before.as_ref().map_or(put.now_ms, |before| before.created_ms),
            changed_ms: put.now_ms,
            body: put.body.to_owned(),
        };
        let row = encode(&record);
        self.records.insert(key(put.place), row.as_slice())?;
        let now = (count + u64::from(before.is_none()), bytes - bytes_before + row.len() as u64);
        self.counts.insert(put.place.0 as u8, now)?; // COUNT-1
        Ok(Ok(Outcome::Stored { version: put.version }))
    }

    fn delete(
        &mut self,
        place: Place<'_>,
        expected: Expected,
    ) -> Result<Result<Outcome, Refused>, Error> {
        let (before, bytes_before) = self.find(place)?;
        if before.is_none() {
            return Ok(Err(Refused::NoSuchRecord));
        }
        if let Err(refused) = meets(before.as_ref(), expected) {
            return Ok(Err(refused));
        }
        self.records.remove(key(place))?;
        let (count, bytes) = self.count(place.0)?;
        self.counts.insert(place.0 as u8, (count - 1, bytes - bytes_before))?; // COUNT-1
        Ok(Ok(Outcome::Deleted))
    }

    /// The record that stands there, and the bytes of its row.
    fn find(&self, place: Place<'_>) -> Result<(Option<Record>, u64), Error> {
        let Some(row) = self.records.get(key(place))? else { return Ok((None, 0)) };
        let record = decode("record", row.value())?;
        Ok((Some(record), row.value().len() as u64))
    }

    fn count(&self, collection: Collection) -> Result<(u64, u64), Error> {
        Ok(self.counts.get(collection as u8)?.map_or((0, 0), |row| row.value()))
    }
}

pub(super) fn key((collection, id): Place<'_>) -> (u8, &str) {
    (collection as u8, id)
}

fn check(id: &str, body: &str) -> Result<(), Refused> {
    let invalid = |field: &str| Err(Refused::Invalid { field: field.to_owned() });
    if !(1..=ID_LIMIT_BYTES).contains(&id.len()) {
        return invalid("id");
    }
    if body.len() > BODY_LIMIT_BYTES {
        return Err(Refused::TooLarge);
    }
    match serde_json::from_str::<IgnoredAny>(body) {
        Ok(_) => Ok(()),
        Err(_) => invalid("body"),
    }
}

/// Whether what stands there is what was expected.
fn meets(found: Option<&Record>, expected: Expected) -> Result<(), Refused> {
    match (found, expected) {
        (_, Expected::Any) | (None, Expected::Absent) => Ok(()),
        (Some(record), Expected::Version(version)) if record.version == version => Ok(()),
        (Some(record), _) => Err(Refused::Conflict { version: record.version }),
        (None, Expected::Version(_)) => Err(Refused::NoSuchRecord),
    }
}
