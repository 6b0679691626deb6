//! Images and digests: everything that stands in a file, table by table.
//!
//! An image is a redb file of the same tables, written in one transaction. redb keeps a checksum of
//! every page, which is verified before anything is taken from an image.

use std::fs::File;
use std::path::Path;

use redb::{
    Builder, Database, Durability, Error, Key, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, Value, WriteTransaction,
};

use super::{
    EachTable, HEAD, Place, Schema, Store, StoreError, answers, begin, encode, format_of,
    read_mark, read_place,
};

/// Pages of an image kept in memory, in bytes.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Makes tables.
pub(super) struct Make<'a> {
    pub(super) tx: &'a WriteTransaction,
}

impl EachTable for Make<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), Error> {
        self.tx.open_table(table)?;
        Ok(())
    }
}

/// Hashes tables.
pub(super) struct Digest<'a> {
    tx: &'a ReadTransaction,
    hash: md5::Context,
}

impl Digest<'_> {
    /// The digest of a state: of all its rows, and how far it has come.
    pub(super) fn of<S: Schema>(tx: &ReadTransaction) -> Result<[u8; 16], Error> {
        let mut digest = Digest { tx, hash: md5::Context::new() };
        digest.value(&encode(&read_place(tx)?));
        answers::each_table(&mut digest)?;
        S::each_table(&mut digest)?;
        Ok(digest.hash.finalize().0)
    }

    fn value(&mut self, bytes: &[u8]) {
        self.hash.consume((bytes.len() as u64).to_le_bytes());
        self.hash.consume(bytes);
    }
}

impl EachTable for Digest<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), Error> {
        let mut rows = 0_u64;
        for row in self.tx.open_table(table)?.iter()? {
            let (key, value) = row?;
            self.value(K::as_bytes(&key.value()).as_ref());
            self.value(V::as_bytes(&value.value()).as_ref());
            rows += 1;
        }
        self.value(&rows.to_le_bytes()); // where one table ends
        Ok(())
    }
}

/// Copies tables, in place of what stands there.
struct Copy<'a> {
    from: &'a ReadTransaction,
    to: &'a WriteTransaction,
}

impl Copy<'_> {
    /// Copies a whole state; gives how far it has come, and its mark.
    fn all<S: Schema>(&mut self) -> Result<(Place, Vec<u8>), Error> {
        let (place, mark) = (read_place(self.from)?, read_mark(self.from)?);
        let mut head = self.to.open_table(HEAD)?;
        head.insert("format", S::FORMAT.as_bytes())?;
        head.insert("place", encode(&place).as_slice())?;
        head.insert("mark", mark.as_slice())?;
        answers::each_table(self)?;
        S::each_table(self)?;
        Ok((place, mark))
    }
}

impl EachTable for Copy<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), Error> {
        let from = self.from.open_table(table)?;
        self.to.delete_table(table)?;
        let mut to = self.to.open_table(table)?;
        for row in from.iter()? {
            let (key, value) = row?;
            to.insert(key.value(), value.value())?;
        }
        Ok(())
    }
}

impl<S: Schema> Store<S> {
    /// Writes the state as it is now to a new file, on disk when this returns; gives its mark.
    pub(super) fn export(&self, to: &Path) -> Result<Vec<u8>, StoreError> {
        let from =
            self.database.begin_read().map_err(|error| StoreError::file(&self.path, error))?;
        write_image::<S>(&from, to).map_err(|error| {
            let _ = std::fs::remove_file(to); // half an image is of no use
            StoreError::file(to, error)
        })
    }

    /// Takes the state of an image in place of the own one, on disk when this returns (STATE-4);
    /// gives the index of its last command. The rows of the image stay as they are, but redb may
    /// write to the file.
    pub(super) fn import(&self, from: &Path) -> Result<u64, StoreError> {
        let image = open_image::<S>(from)?;
        let place = self.named(self.take(&image))?;
        Ok(place.applied)
    }

    fn take(&self, image: &Database) -> Result<Place, Error> {
        let from = image.begin_read()?;
        let to = self.begin(Durability::Immediate)?;
        let (place, _) = Copy { from: &from, to: &to }.all::<S>()?;
        to.commit()?;
        Ok(place)
    }
}

fn write_image<S: Schema>(from: &ReadTransaction, to: &Path) -> Result<Vec<u8>, Error> {
    File::create(to)?; // whatever stood there
    let image = Builder::new().set_cache_size(CACHE_BYTES).create(to)?;
    let tx = begin(&image, Durability::Immediate)?;
    let (_, mark) = Copy { from, to: &tx }.all::<S>()?;
    tx.commit()?;
    image.close()?;
    File::open(to)?.sync_all()?;
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(mark)
}

/// Opens an image after its pages were verified, and sees that it is one of ours.
fn open_image<S: Schema>(path: &Path) -> Result<Database, StoreError> {
    let opened =
        Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(path);
    let image = opened.map_err(|error| StoreError::opening(path, error))?;
    let format = || format_of(&image.begin_read()?.open_table(HEAD)?);
    let found = format().map_err(|error| StoreError::file(path, error))?;
    if found.as_deref() == Some(S::FORMAT) {
        return Ok(image);
    }
    let found = found.unwrap_or_default();
    Err(StoreError::Format { path: path.to_owned(), found, expected: S::FORMAT })
}
