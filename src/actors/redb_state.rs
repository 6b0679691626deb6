//! Replicated state in a redb file: what the queue and the fault injector have in common.
//!
//! What the rows mean stands in a [`Schema`]: pure functions on tables. Around it: the [`Store`], an
//! open file that any thread may read; the [`Machine`] that a group of replicas drives; the outcomes
//! that are kept for commands which come again; images and digests.
//!
//! - `STATE-1` the effects of a batch, the index of its last command and the mark are written in one
//!   transaction: a crash leaves all of a batch or nothing, and never a batch without the one before;
//! - `STATE-2` a command whose key was applied before is not applied again: its outcome is that of
//!   the first time, as long as that is kept ([`Schema::KEEP_COMMANDS`], [`Schema::KEEP_BYTES`]);
//! - `STATE-3` what is kept and the digest follow from the commands and their indexes alone, not from
//!   how they were cut into batches;
//! - `STATE-4` an image shows one state; importing it replaces the own state whole or not at all;
//! - `STATE-5` a read sees one state, whatever is applied or imported meanwhile;
//! - `STATE-6` after an error of a write its outcome is unknown: drop the store and open it again.

mod answers;
mod image;
mod machine;
mod rows;
mod stores;
#[cfg(test)]
pub(super) mod tests;

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, Durability, Error, Key, ReadTransaction, ReadableDatabase,
    ReadableTable, TableDefinition, Value, WriteTransaction,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::replica::Keyed;
use answers::Answers;
use image::{Digest, Make};

pub use machine::Machine;
pub(super) use rows::{corrupted, decode, encode, encoded_size};
pub use stores::Stores;

/// `format` -> version of the file, `place` -> [`Place`], `mark` -> the mark.
const HEAD: TableDefinition<&str, &[u8]> = TableDefinition::new("head");
/// Pages kept in memory, in bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// A file up to this size is left as it is.
const SMALL_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What stands in the file and how commands change it.
///
/// All of it is deterministic: no clock, no chance, no environment.
pub trait Schema: Send + Sync + 'static {
    /// What changes the rows.
    type Command: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What becomes of a command.
    type Outcome: Serialize + DeserializeOwned + Send + 'static;
    /// All its tables, open in one write transaction.
    type Tables<'tx>;

    /// The version of the file that this code writes.
    const FORMAT: &'static str;
    /// For how many commands an outcome is kept under its key.
    const KEEP_COMMANDS: u64 = 50_000;
    /// How many bytes of outcomes are kept; beyond it the oldest go first.
    const KEEP_BYTES: u64 = 64 * 1024 * 1024;

    /// Shows every table, always in the same order.
    ///
    /// # Errors
    /// Those of `each`.
    fn each_table(each: &mut impl EachTable) -> Result<(), Error>;

    /// Opens the tables.
    ///
    /// # Errors
    /// When the file fails.
    fn open(tx: &WriteTransaction) -> Result<Self::Tables<'_>, Error>;

    /// Applies one command; its index is larger than that of any command before.
    ///
    /// # Errors
    /// When the file fails; the transaction is then given up.
    fn apply(
        tables: &mut Self::Tables<'_>,
        index: u64,
        command: &Self::Command,
    ) -> Result<Self::Outcome, Error>;

    /// Writes what `tables` holds in memory.
    ///
    /// # Errors
    /// When the file fails.
    fn close(tables: Self::Tables<'_>) -> Result<(), Error>;

    /// About how many bytes the rows take; a much larger file is compacted when it is opened.
    ///
    /// # Errors
    /// When the file fails.
    fn used_bytes(tx: &ReadTransaction) -> Result<u64, Error>;
}

/// Something that is done with each table of a [`Schema`].
pub trait EachTable {
    /// Does it.
    ///
    /// # Errors
    /// When the file fails.
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), Error>;
}

/// Why a file could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another store has it open.
    #[error("file {path:?} is in use")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by another version, or by something else.
    #[error("file {path:?} has format {found:?}, not {expected:?}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this code reads.
        expected: &'static str,
    },
    /// The commands do not follow on what was applied; nothing was done.
    #[error("commands from index {first} on, but {applied} were applied")]
    Order {
        /// The index of the first one.
        first: u64,
        /// The index of the last one that was applied.
        applied: u64,
    },
    /// The file or the disk failed.
    #[error("file {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
}

impl StoreError {
    fn file(path: &Path, source: impl Into<Error>) -> StoreError {
        StoreError::File { path: path.to_owned(), source: Box::new(source.into()) }
    }

    fn opening(path: &Path, error: DatabaseError) -> StoreError {
        match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
            error => StoreError::file(path, error),
        }
    }
}

/// How far the state has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Index of the last command.
    applied: u64,
    /// Bytes of the kept outcomes.
    answer_bytes: u64,
}

/// An open file. Reads do not wait for a batch that is being applied, they see the state before.
#[derive(Debug)]
pub struct Store<S> {
    path: PathBuf,
    database: Database,
    schema: PhantomData<fn() -> S>,
}

impl<S: Schema> Store<S> {
    /// Opens the file, makes it where it is missing, and gives unused space back where there is
    /// much of it (redb files hardly shrink by themselves).
    ///
    /// # Errors
    /// When the file is in use, not of this format, or fails.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file_bytes = std::fs::metadata(path).map_or(0, |file| file.len());
        match Builder::new().set_cache_size(CACHE_BYTES).create(path) {
            Ok(database) => Store::start(path, database, file_bytes),
            Err(error) => Err(StoreError::opening(path, error)),
        }
    }

    /// The same over a database that is open already, of a file of so many bytes; `path` is its name
    /// in errors. So a simulated disk can stand below it.
    ///
    /// # Errors
    /// When it is not of this format, or fails.
    pub fn start(path: &Path, database: Database, file_bytes: u64) -> Result<Self, StoreError> {
        let mut store = Store { path: path.to_owned(), database, schema: PhantomData };
        if let Some(found) = store.named(prepare::<S>(&store.database))? {
            return Err(StoreError::Format { path: path.to_owned(), found, expected: S::FORMAT });
        }
        let used = |tx: &ReadTransaction| Ok(S::used_bytes(tx)? + read_place(tx)?.answer_bytes);
        if file_bytes > SMALL_FILE_BYTES + 2 * store.read(used)? {
            store.database.compact().map_err(|error| StoreError::file(path, error))?;
        }
        Ok(store)
    }

    /// Asks the state as it is now (STATE-5).
    ///
    /// # Errors
    /// When the file fails.
    pub(super) fn read<T>(
        &self,
        ask: impl FnOnce(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let asked = self.database.begin_read().map_err(Error::from);
        self.named(asked.and_then(|tx| ask(&tx)))
    }

    /// Index of the last command that was applied, 0 before the first.
    ///
    /// # Errors
    /// When the file fails.
    pub fn applied_index(&self) -> Result<u64, StoreError> {
        self.read(applied_index)
    }

    /// What was last given as mark; empty before the first.
    ///
    /// # Errors
    /// When the file fails.
    pub fn mark(&self) -> Result<Vec<u8>, StoreError> {
        self.read(read_mark)
    }

    /// A hash of the whole state, mark excepted: the same commands at the same indexes give the same
    /// one (STATE-3). Reads everything.
    ///
    /// # Errors
    /// When the file fails.
    pub fn digest(&self) -> Result<[u8; 16], StoreError> {
        self.read(|tx| Digest::of::<S>(tx))
    }

    /// The same with the index of the last command that it holds.
    fn digest_at(&self) -> Result<(u64, [u8; 16]), StoreError> {
        self.read(|tx| Ok((applied_index(tx)?, Digest::of::<S>(tx)?)))
    }

    /// Applies a batch and keeps `mark`, not yet on disk (STATE-1).
    fn apply(
        &self,
        first: u64,
        commands: &[Keyed<S::Command>],
        mark: &[u8],
    ) -> Result<Vec<S::Outcome>, StoreError> {
        self.named(self.apply_all(first, commands, mark))
    }

    fn apply_all(
        &self,
        first: u64,
        commands: &[Keyed<S::Command>],
        mark: &[u8],
    ) -> Result<Vec<S::Outcome>, Error> {
        let tx = self.begin(Durability::None)?;
        let mut outcomes = Vec::with_capacity(commands.len());
        {
            let mut head = tx.open_table(HEAD)?;
            let mut place = place_of(&head)?;
            let mut answers = Answers::<S>::open(&tx, place.answer_bytes)?;
            let mut tables = S::open(&tx)?;
            for (index, Keyed { key, command }) in (first..).zip(commands) {
                let apply = || S::apply(&mut tables, index, command);
                outcomes.push(answers.once(index, *key, apply)?);
                place.applied = index;
            }
            S::close(tables)?;
            place.answer_bytes = answers.bytes();
            head.insert("place", encode(&place).as_slice())?;
            head.insert("mark", mark)?;
        }
        tx.commit()?;
        Ok(outcomes)
    }

    /// Puts all that was applied on disk.
    fn sync(&self) -> Result<(), StoreError> {
        let sync = || Ok(self.begin(Durability::Immediate)?.commit()?);
        self.named(sync())
    }

    fn begin(&self, durability: Durability) -> Result<WriteTransaction, Error> {
        begin(&self.database, durability)
    }

    fn named<T>(&self, result: Result<T, Error>) -> Result<T, StoreError> {
        result.map_err(|source| StoreError::file(&self.path, source))
    }
}

fn begin(database: &Database, durability: Durability) -> Result<WriteTransaction, Error> {
    let mut tx = database.begin_write()?;
    tx.set_durability(durability)?;
    Ok(tx)
}

/// Makes what is missing in a new file; gives the format of a file that is not ours.
fn prepare<S: Schema>(database: &Database) -> Result<Option<String>, Error> {
    let tx = begin(database, Durability::Immediate)?;
    {
        let mut head = tx.open_table(HEAD)?;
        let found = format_of(&head)?;
        match found {
            None => drop(head.insert("format", S::FORMAT.as_bytes())?),
            Some(found) if found == S::FORMAT => {}
            Some(found) => return Ok(Some(found)),
        }
        let mut make = Make { tx: &tx };
        answers::each_table(&mut make)?;
        S::each_table(&mut make)?;
    }
    tx.commit()?;
    Ok(None)
}

/// One row of the head, in a transaction of either kind.
fn row(
    head: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<Vec<u8>>, Error> {
    Ok(head.get(name)?.map(|row| row.value().to_vec()))
}

fn format_of(
    head: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<String>, Error> {
    Ok(row(head, "format")?.map(|row| String::from_utf8_lossy(&row).into_owned()))
}

fn place_of(head: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Place, Error> {
    row(head, "place")?.map_or_else(|| Ok(Place::default()), |row| decode("place", &row))
}

fn read_place(tx: &ReadTransaction) -> Result<Place, Error> {
    place_of(&tx.open_table(HEAD)?)
}

fn read_mark(tx: &ReadTransaction) -> Result<Vec<u8>, Error> {
    Ok(row(&tx.open_table(HEAD)?, "mark")?.unwrap_or_default())
}

/// Index of the last command of the state that `tx` reads.
pub(super) fn applied_index(tx: &ReadTransaction) -> Result<u64, Error> {
    Ok(read_place(tx)?.applied)
}
