//! Whether the log is forced to the disk (`metadata.durability`), and the file of one that is not.
//!
//! Used by `log.rs`.

use std::fs::OpenOptions;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

/// Whether what is written is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// As LOG-1 (`log.rs`) says.
    Always,
    /// The operating system writes it when it likes: a crash of the process loses nothing, one of
    /// the machine does.
    Never,
}

impl Synced {
    /// Opens the database in a file, and makes it where there is none.
    pub(super) fn open(self, path: &Path, cache: usize) -> Result<Database, DatabaseError> {
        let mut builder = Builder::new();
        builder.set_cache_size(cache);
        match self {
            Synced::Always => builder.create(path),
            Synced::Never => {
                let mut options = OpenOptions::new();
                let file = options.read(true).write(true).create(true).truncate(false).open(path);
                let file = file.map_err(redb::StorageError::from)?;
                builder.create_with_backend(Unsynced(FileBackend::new(file)?))
            }
        }
    }
}

/// A file that is never forced to the disk.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.0.close()
    }
}
