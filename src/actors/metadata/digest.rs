//! A digest of the whole state, by which replicas are compared.
//!
//! Part of `reader.rs`. Changes nothing.
//!
//! 1. DIGEST-1: it covers every row of every table, in the order of keys, and nothing of how
//!    commands were batched or how pages lie. Left out are the mark, which tells of the log and not
//!    of the state, and the search index, whose shape depends on when it was merged and which is
//!    made from rows that are covered.

use rusqlite::types::ValueRef;

use super::reader::View;
use super::step::Stop;

/// All rows of all tables, in order.
pub(super) const ROWS: [&str; 14] = [
    "SELECT applied, catalog FROM state",
    "SELECT * FROM node ORDER BY no",
    "SELECT * FROM bucket ORDER BY no",
    "SELECT * FROM version ORDER BY row",
    "SELECT * FROM current ORDER BY bucket, key",
    "SELECT * FROM tombstone ORDER BY bucket, key",
    "SELECT * FROM blob ORDER BY data",
    "SELECT * FROM manifest ORDER BY no",
    "SELECT * FROM part ORDER BY manifest, no",
    "SELECT * FROM upload ORDER BY no",
    "SELECT * FROM request ORDER BY id",
    "SELECT * FROM outbox ORDER BY idx, n",
    "SELECT * FROM counter ORDER BY bucket, kind, name",
    "SELECT * FROM intent ORDER BY idx",
];

impl View<'_> {
    /// MD5 over the values of all rows, each with its type and length.
    pub(super) fn digest(&self) -> Result<[u8; 16], Stop> {
        let mut md5 = md5::Context::new();
        for sql in ROWS {
            let mut statement = self.db().prepare(sql)?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            let mut count = 0_u64;
            while let Some(row) = rows.next()? {
                count += 1;
                for column in 0..columns {
                    add(&mut md5, row.get_ref(column)?);
                }
            }
            md5.consume(count.to_le_bytes());
        }
        Ok(md5.finalize().0)
    }
}

fn add(md5: &mut md5::Context, value: ValueRef<'_>) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        md5.consume([tag]);
        md5.consume((bytes.len() as u64).to_le_bytes());
        md5.consume(bytes);
    };
    match value {
        ValueRef::Null => tagged(0, &[]),
        ValueRef::Integer(n) => tagged(1, &n.to_le_bytes()),
        ValueRef::Real(x) => tagged(2, &x.to_le_bytes()),
        ValueRef::Text(text) => tagged(3, text),
        ValueRef::Blob(blob) => tagged(4, blob),
    }
}
