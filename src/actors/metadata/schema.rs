//! The tables of the catalog, and how a database file is opened.
//!
//! Used by `store.rs`, `machine.rs` and `reader.rs`. Owns the format of the file: `FORMAT` changes
//! with every change here and of the types kept as bincode (`ObjectHead`, tags, CORS rules,
//! `NewObject`, `Outcome`).
//!
//! 1. SCHEMA-1: numbers of buckets, rows and manifests come from command indexes and are never
//!    used again.
//! 2. SCHEMA-2: the newest version of a key is the one with the highest row number.
//! 3. SCHEMA-3: `current` holds exactly the keys whose newest version is an object.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::store::Fatal;

/// The version of the file format (`PRAGMA user_version`).
pub(super) const FORMAT: i64 = 3;

/// Pages in the write-ahead log before a checkpoint: the default of 1,000 costs half of the
/// throughput.
const CHECKPOINT_PAGES: i64 = 8_000;

/// What the write-ahead log keeps of its length when it begins anew: more than a checkpoint is
/// made for, less than what an image or a long export leaves.
const LOG_BYTES: i64 = 64 << 20;

const TABLES: &str = "
CREATE TABLE state(id INTEGER PRIMARY KEY, applied INTEGER NOT NULL, catalog BLOB,
  mark BLOB NOT NULL);
INSERT INTO state VALUES(1, 0, NULL, x'');
CREATE TABLE intent(idx INTEGER PRIMARY KEY, key BLOB NOT NULL, outcome BLOB NOT NULL);
CREATE TABLE node(no INTEGER PRIMARY KEY, instance TEXT NOT NULL UNIQUE, active INTEGER NOT NULL,
  joined_ms INTEGER NOT NULL);
CREATE TABLE bucket(no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
  created_ms INTEGER NOT NULL, versioning INTEGER NOT NULL, fallback INTEGER NOT NULL,
  tags BLOB, cors BLOB);
CREATE TABLE version(row INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, vid TEXT,
  marker INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified_ms INTEGER NOT NULL,
  data BLOB, manifest INTEGER, owner TEXT NOT NULL, class TEXT NOT NULL, content_type TEXT,
  head BLOB NOT NULL, tags BLOB NOT NULL, checksum BLOB);
CREATE UNIQUE INDEX version_key ON version(bucket, key, row DESC, vid);
CREATE UNIQUE INDEX version_id ON version(bucket, key, vid) WHERE vid IS NOT NULL;
CREATE TABLE current(bucket INTEGER NOT NULL, key BLOB NOT NULL, row INTEGER NOT NULL,
  size INTEGER NOT NULL, etag TEXT NOT NULL, modified_ms INTEGER NOT NULL, class TEXT NOT NULL,
  checksum INTEGER NOT NULL, content_type TEXT, PRIMARY KEY(bucket, key)) WITHOUT ROWID;
CREATE TABLE tombstone(bucket INTEGER NOT NULL, key BLOB NOT NULL, at_ms INTEGER NOT NULL,
  PRIMARY KEY(bucket, key)) WITHOUT ROWID;
CREATE TABLE blob(data BLOB PRIMARY KEY, len INTEGER NOT NULL, md5 BLOB NOT NULL,
  crc64 INTEGER NOT NULL,
  refs INTEGER NOT NULL, state INTEGER NOT NULL, gone_ms INTEGER NOT NULL, locations BLOB NOT NULL,
  lacking BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX blob_gone ON blob(gone_ms) WHERE state <> 0;
CREATE TABLE manifest(no INTEGER PRIMARY KEY, refs INTEGER NOT NULL, parts INTEGER NOT NULL);
CREATE TABLE part(manifest INTEGER NOT NULL, no INTEGER NOT NULL, data BLOB NOT NULL,
  offset INTEGER NOT NULL, len INTEGER NOT NULL, md5 BLOB NOT NULL, checksum TEXT,
  modified_ms INTEGER NOT NULL, PRIMARY KEY(manifest, no)) WITHOUT ROWID;
CREATE TABLE upload(no INTEGER PRIMARY KEY, id TEXT NOT NULL, bucket INTEGER NOT NULL,
  key BLOB NOT NULL, open INTEGER NOT NULL, created_ms INTEGER NOT NULL, object BLOB NOT NULL,
  checksum INTEGER NOT NULL, outcome BLOB, done_ms INTEGER, UNIQUE(bucket, key, id));
CREATE INDEX upload_key ON upload(bucket, key, id) WHERE open = 1;
CREATE INDEX upload_done ON upload(done_ms) WHERE open = 0;
CREATE TABLE request(id BLOB PRIMARY KEY, outcome BLOB NOT NULL, at_ms INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE INDEX request_at ON request(at_ms);
CREATE TABLE outbox(idx INTEGER NOT NULL, n INTEGER NOT NULL, kind INTEGER NOT NULL,
  data BLOB NOT NULL, nodes BLOB NOT NULL, not_before_ms INTEGER NOT NULL, PRIMARY KEY(idx, n))
  WITHOUT ROWID;
CREATE TABLE counter(bucket INTEGER NOT NULL, kind INTEGER NOT NULL, name TEXT NOT NULL,
  count INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY(bucket, kind, name)) WITHOUT ROWID;
CREATE VIRTUAL TABLE search USING fts5(bucket, words, content='', contentless_delete=1,
  detail=column, prefix='2', tokenize=\"unicode61 remove_diacritics 2\");
";

/// Opens the writing connection, making the tables in a new file.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Fatal> {
    let db = Connection::open(path).map_err(|source| open_error(path, source))?;
    let setup = |db: &Connection| -> rusqlite::Result<i64> {
        db.busy_timeout(Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        // NORMAL syncs at checkpoints only: the file stays whole, the last commits may be lost
        // until `Catalog::sync`. Whoever feeds the catalog has them in a log of its own.
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        db.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        common(db)?;
        db.query_row("PRAGMA user_version", [], |r| r.get(0))
    };
    match setup(&db).map_err(|source| open_error(path, source))? {
        0 => {
            let sql = format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version={FORMAT}; COMMIT;");
            db.execute_batch(&sql).map_err(|source| open_error(path, source))?;
        }
        FORMAT => {}
        found => return Err(Fatal::Format { path: path.to_owned(), found, expected: FORMAT }),
    }
    Ok(db)
}

/// Opens a connection that only reads; the file must exist.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Fatal> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let setup = || -> rusqlite::Result<(Connection, i64)> {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(Duration::from_secs(5))?;
        common(&db)?;
        let found = db.query_row("PRAGMA user_version", [], |r| r.get(0))?;
        Ok((db, found))
    };
    match setup().map_err(|source| open_error(path, source))? {
        (db, FORMAT) => Ok(db),
        (_, found) => Err(Fatal::Format { path: path.to_owned(), found, expected: FORMAT }),
    }
}

fn common(db: &Connection) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(128);
    // Without it SQLite looks at bound values while planning, and then plans every cached query
    // with ORDER BY anew for each binding: half of a commit and two thirds of a lookup, measured.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    db.pragma_update(None, "cache_size", -65_536)
}

fn open_error(path: &Path, source: rusqlite::Error) -> Fatal {
    Fatal::Open { path: path.to_owned(), source }
}
