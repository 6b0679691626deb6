//! The catalog: the deterministic state machine of the metadata, over one SQLite file.
//!
//! Fed with batches of commands by the metadata actor (later by the replicated log); read through
//! `reader.rs`. Owns the database file and its only writing connection.
//!
//! 1. STORE-1: a batch and the index of its last command become durable in one transaction, or
//!    neither.
//! 2. STORE-2: a refused command changes nothing (each runs in a savepoint).
//! 3. STORE-3: the same commands at the same indexes give the same tables and the same outcomes.
//! 4. STORE-4: a command at or below the applied index does nothing.
//! 5. STORE-5: search index and counters are written once a batch, in its transaction, from what
//!    its accepted commands noted.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::command::{Applied, Command, Outcome};
use super::schema;
use super::step::{Later, Step, Stop};
use crate::config::Durability;

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
    db: Connection,
    applied: u64,
    /// Commands since the last checkpoint.
    fresh: usize,
}

impl Catalog {
    /// Opens or makes the catalog at `path`.
    ///
    /// # Errors
    /// `Open` and `Format`.
    pub fn open(path: impl AsRef<Path>) -> Result<Catalog, Fatal> {
        Catalog::open_with(path, Durability::Fsync)
    }

    /// The same with less durability, where that is asked for.
    ///
    /// # Errors
    /// `Open` and `Format`.
    pub fn open_with(path: impl AsRef<Path>, durability: Durability) -> Result<Catalog, Fatal> {
        let db = schema::open_writer(path.as_ref(), durability)?;
        let applied: i64 = db.query_row("SELECT applied FROM state", [], |r| r.get(0))?;
        Ok(Catalog { db, applied: applied as u64, fresh: 0 })
    }

    /// The index of the last command applied; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// Applies `commands`, the first at `first_index` and the others at the indexes behind it, and
    /// makes them durable. Outcomes come in the same order.
    ///
    /// # Errors
    /// Then nothing of the batch was applied. `Gap` where `first_index` lies beyond the next index.
    pub fn apply_batch(
        &mut self,
        first_index: u64,
        commands: &[Command],
    ) -> Result<Vec<Outcome>, Fatal> {
        if first_index == 0 || first_index > self.applied + 1 {
            return Err(Fatal::Gap { expected: self.applied + 1, got: first_index });
        }
        let tx = self.db.transaction()?;
        let mut later = Later::default();
        let mut outcomes = Vec::with_capacity(commands.len());
        for (index, command) in (first_index..).zip(commands) {
            outcomes.push(match index <= self.applied {
                true => Ok(Applied::Before),
                false => apply_one(&tx, index, command, &mut later)?,
            });
        }
        later.flush(&tx)?;
        let applied = self.applied.max(first_index - 1 + commands.len() as u64);
        tx.prepare_cached("UPDATE state SET applied=?1")?.execute(params![applied as i64])?;
        tx.commit()?;
        self.applied = applied;
        self.fresh += commands.len();
        Ok(outcomes)
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

    #[cfg(test)]
    pub(super) fn db(&self) -> &Connection {
        &self.db
    }
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
