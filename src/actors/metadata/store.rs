//! The catalog: the deterministic state machine of the metadata, over one SQLite file.
//!
//! Fed with batches of commands by the replicated log (`machine.rs`); read through `reader.rs`.
//! Owns the database file and its only writing connection.
//!
//! 1. STORE-1: a batch, the index of its last command and the mark of who feeds it are written in
//!    one transaction, or none of them; what was applied before a [`Catalog::sync`] is on disk.
//! 2. STORE-2: a refused command changes nothing (each runs in a savepoint).
//! 3. STORE-3: the same commands at the same indexes give the same tables and the same outcomes.
//! 4. STORE-4: a command at or below the applied index does nothing.
//! 5. STORE-5: search index and counters are written once a batch, in its transaction, from what
//!    its accepted commands noted.
//! 6. STORE-6: a command under a known key does nothing and answers as the first one under it, be
//!    that a refusal (`intents.rs`).

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::command::{Applied, Command, Outcome};
use super::intents::Intents;
use super::schema;
use super::step::{Later, Step, Stop};
use crate::replica::Keyed;

/// Why the catalog could not go on. Nothing of the batch was kept.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The file could not be opened.
    #[error("open catalog {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: rusqlite::Error,
    },
    /// The file has another format.
    #[error("catalog {path} has format {found}, expected {expected}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        expected: i64,
    },
    /// The disk is full: the batch was rolled back, reads go on, and later batches may succeed.
    #[error("catalog disk is full")]
    Full,
    /// A file beside the database failed: its write-ahead log or an image.
    #[error("catalog file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// SQLite failed in another way.
    #[error("catalog statement")]
    Sql(#[source] rusqlite::Error),
    /// The batch does not follow on what was applied.
    #[error("command {got} given where {expected} is next")]
    Gap {
        /// The next index.
        expected: u64,
        /// The first index of the batch.
        got: u64,
    },
    /// A stored value could not be decoded.
    #[error("catalog holds an unreadable value")]
    Decode(#[source] bincode::Error),
    /// The tables contradict each other.
    #[error("catalog is inconsistent: {0}")]
    Broken(&'static str),
}

impl From<rusqlite::Error> for Fatal {
    fn from(source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Fatal::Full,
            _ => Fatal::Sql(source),
        }
    }
}

/// The state machine. One a file; not shared between threads.
#[derive(Debug)]
pub struct Catalog {
    pub(super) db: Connection,
    pub(super) path: PathBuf,
    /// The write-ahead log: see [`Catalog::sync`].
    pub(super) log: File,
    applied: u64,
    intents: Intents,
    /// Commands since the last checkpoint.
    fresh: usize,
}

impl Catalog {
    /// Opens or makes the catalog at `path`.
    ///
    /// # Errors
    /// `Open`, `Format` and `File`.
    pub fn open(path: impl AsRef<Path>) -> Result<Catalog, Fatal> {
        let path = path.as_ref().to_owned();
        let db = schema::open_writer(&path)?;
        let applied = stored_index(&db)?;
        let intents = Intents::load(&db)?;
        let log = open_log(&path)?;
        Ok(Catalog { db, path, log, applied, intents, fresh: 0 })
    }

    /// The index of the last command applied; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// Applies `commands`, the first at `first_index` and the others at the indexes behind it, and
    /// keeps `mark`. Outcomes come in the same order. On disk after [`Catalog::sync`].
    ///
    /// # Errors
    /// Then nothing of the batch was applied. `Gap` where `first_index` lies beyond the next index.
    pub fn apply_batch(
        &mut self,
        first_index: u64,
        commands: &[Keyed<Command>],
        mark: &[u8],
    ) -> Result<Vec<Outcome>, Fatal> {
        if first_index == 0 || first_index > self.applied + 1 {
            return Err(Fatal::Gap { expected: self.applied + 1, got: first_index });
        }
        let tx = self.db.transaction()?;
        let mut intents = self.intents.batch();
        let mut later = Later::default();
        let mut outcomes = Vec::with_capacity(commands.len());
        for (index, Keyed { key, command }) in (first_index..).zip(commands) {
            outcomes.push(match index <= self.applied {
                true => Ok(Applied::Before),
                false => {
                    intents.once(&tx, index, *key, || apply_one(&tx, index, command, &mut later))?
                }
            });
        }
        later.flush(&tx)?;
        let applied = self.applied.max(first_index - 1 + commands.len() as u64);
        intents.forget(&tx, applied)?;
        let new = intents.into_new();
        tx.prepare_cached("UPDATE state SET applied=?1, mark=?2")?
            .execute(params![applied as i64, mark])?;
        tx.commit()?;
        self.intents.keep(new, applied);
        self.applied = applied;
        self.fresh += commands.len();
        Ok(outcomes)
    }

    /// What was last given as `mark`; empty before the first.
    ///
    /// # Errors
    /// As SQLite reports them.
    pub fn mark(&self) -> Result<Vec<u8>, Fatal> {
        Ok(self.db.prepare_cached("SELECT mark FROM state")?.query_row([], |r| r.get(0))?)
    }

    /// Puts all that was applied on disk.
    ///
    /// It is enough to sync the write-ahead log. A commit is in the log until the log begins anew,
    /// which it does only after a checkpoint has moved *all* of it into the database: with
    /// `synchronous=NORMAL` a checkpoint syncs the log first and the database last, before it
    /// counts as made, and the new log's header is synced before frames follow, with the folder
    /// where the file is new. So whatever is no longer in the log is on disk, and the log after
    /// such a restart needs only what we sync here. Sources: sqlite.org/wal.html ("Checkpointing",
    /// "Performance Considerations"), pragma.html#pragma_synchronous, and `walCheckpoint`,
    /// `walRestartLog` and `walFrames` in SQLite's wal.c.
    ///
    /// The log is never replaced while our connection is open, so one handle serves for ever. It is
    /// open all the time so that it gets to know of every write-back error since. Closing it takes
    /// no lock away, as closing one on the database or its `-shm` would
    /// (sqlite.org/howtocorrupt.html 2.2): the log is not locked.
    ///
    /// # Errors
    /// Then what is on disk is unknown.
    pub fn sync(&mut self) -> Result<(), Fatal> {
        self.log.sync_data().map_err(|source| Fatal::File { path: log_path(&self.path), source })
    }

    /// Learns anew what it keeps in memory, after the tables were replaced.
    pub(super) fn reload(&mut self) -> Result<(), Fatal> {
        self.applied = stored_index(&self.db)?;
        self.intents = Intents::load(&self.db)?;
        Ok(())
    }

    /// Moves the write-ahead log into the database file as far as readers allow. Called now and
    /// then by the shell when it has nothing else to do.
    ///
    /// # Errors
    /// As SQLite reports them.
    pub fn checkpoint(&mut self) -> Result<(), Fatal> {
        let mut statement = self.db.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
        statement.query_row([], |_| Ok(()))?;
        self.fresh = 0;
        Ok(())
    }

    /// How many commands were applied since the last checkpoint.
    pub fn since_checkpoint(&self) -> usize {
        self.fresh
    }
}

fn stored_index(db: &Connection) -> Result<u64, Fatal> {
    Ok(db.query_row("SELECT applied FROM state", [], |r| r.get::<_, i64>(0))? as u64)
}

/// SQLite has made the file by now: it was read from.
fn open_log(database: &Path) -> Result<File, Fatal> {
    let path = log_path(database);
    File::open(&path).map_err(|source| Fatal::File { path, source })
}

/// Where SQLite keeps the write-ahead log of a database.
fn log_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Runs one command in a savepoint (STORE-2) and keeps what it noted for the end of the batch.
fn apply_one(
    db: &Connection,
    index: u64,
    command: &Command,
    later: &mut Later,
) -> Result<Outcome, Fatal> {
    db.prepare_cached("SAVEPOINT command")?.execute([])?;
    let mut step = Step::new(db, index);
    let outcome = match step.apply(command) {
        Ok(applied) => {
            later.append(step.into_later());
            Ok(applied)
        }
        Err(Stop::Refused(refused)) => {
            db.prepare_cached("ROLLBACK TO command")?.execute([])?;
            Err(refused)
        }
        Err(Stop::Fatal(fatal)) => return Err(fatal),
    };
    db.prepare_cached("RELEASE command")?.execute([])?;
    Ok(outcome)
}
