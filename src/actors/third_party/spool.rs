//! Bodies on disk while they are checked, or because they are too large to wait in memory.
//!
//! Used by `body.rs`. Files have no name once they are open: they end with the process.
//!
//! - `SPOOL-1` all files together never exceed the limit.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// How much is read at once, in bytes.
const PIECE: u64 = 256 * 1024;

/// The place of the files, and their limit.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    limit: u64,
    used: AtomicU64,
}

impl Spool {
    /// A spool in `dir`, which is made where it is not there. Blocks.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Spool { dir: dir.to_owned(), limit, used: AtomicU64::new(0) })
    }

    /// Bytes in files now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A new, empty file. Blocks.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn file(self: &Arc<Self>) -> io::Result<SpoolFile> {
        let path = self.dir.join(format!("{}.tmp", uuid::Uuid::new_v4()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(SpoolFile { spool: self.clone(), file, len: 0 })
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        let order = Ordering::Relaxed;
        match self.used.fetch_update(order, order, add) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the spool is full")),
        }
    }
}

/// One body on disk.
#[derive(Debug)]
pub struct SpoolFile {
    spool: Arc<Spool>,
    file: File,
    len: u64,
}

impl SpoolFile {
    /// Adds bytes. Blocks.
    ///
    /// # Errors
    /// Those of the disk, and `QuotaExceeded` (SPOOL-1).
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.spool.reserve(bytes.len() as u64)?;
        let at = self.len;
        self.len += bytes.len() as u64; // before the write, so that a failed one is given back too
        self.file.write_all_at(bytes, at)
    }

    /// The bytes from `offset` to `end`, in pieces, as they are asked for. Blocks.
    pub fn pieces(self, mut offset: u64, end: u64) -> impl Iterator<Item = io::Result<Bytes>> {
        std::iter::from_fn(move || {
            let len = PIECE.min(end.checked_sub(offset)?);
            if len == 0 {
                return None;
            }
            let mut piece = vec![0; len as usize];
            let read = self.file.read_exact_at(&mut piece, offset);
            offset += len;
            Some(read.map(|()| piece.into()))
        })
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.used.fetch_sub(self.len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_over_all_files_and_room_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(dir.path(), 10).unwrap());
        let (mut a, mut b) = (spool.file().unwrap(), spool.file().unwrap());
        a.write(b"123456").unwrap();
        b.write(b"1234").unwrap();
        assert_eq!(b.write(b"5").unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        drop(b);
        a.write(b"7890").unwrap();
        let all: Vec<Bytes> = a.pieces(2, 9).map(Result::unwrap).collect();
        assert_eq!(all.concat(), b"3456789");
        assert_eq!(spool.used(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
