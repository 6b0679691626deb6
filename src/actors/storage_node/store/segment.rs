//! One segment file and every system call on it. Used by all parts of the store.
//!
//! - SEGMENT-1: bytes are written once, at a position that was reserved for the writer; only
//!   punching and cutting the end ever take them away.
//! - SEGMENT-2: a segment with a [`Pin`] is neither sealed nor dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use nix::fcntl::{FallocateFlags, fallocate};
use rustix::buffer::spare_capacity;
use rustix::io::ReadWriteFlags;

use super::options::{DiskHook, DiskOp};
use super::record::Place;

/// Holes are punched in whole blocks of this size.
const BLOCK: u64 = 4096;

/// An open segment file.
pub struct Segment {
    /// Its number, from 1.
    pub id: u32,
    path: PathBuf,
    file: File,
    salt: u64,
    hook: Option<Arc<dyn DiskHook>>,
    pins: AtomicU32,
    /// End of the last reserved record.
    end: AtomicU64,
    /// Bytes on disk, hint included, as of the last [`Segment::refresh`].
    disk: AtomicU64,
    /// Synced, cut to its end, hint written where it pays.
    sealed: AtomicBool,
}

/// Keeps a segment from being sealed or dropped while a record in it is not yet in the index.
pub struct Pin(Arc<Segment>);

impl Pin {
    /// Pins `segment`.
    pub fn new(segment: Arc<Segment>) -> Pin {
        segment.pins.fetch_add(1, Ordering::AcqRel);
        Pin(segment)
    }

    /// The pinned segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.pins.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Segment {
    /// Opens segment `id` in `dir`; `create` makes a new, empty file.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open(
        dir: &Path,
        id: u32,
        salt: u64,
        hook: Option<Arc<dyn DiskHook>>,
        create: bool,
    ) -> io::Result<Segment> {
        let path = file_path(dir, id);
        let file = OpenOptions::new().read(true).write(true).create_new(create).open(&path)?;
        let end = file.metadata()?.len();
        let segment = Segment {
            id,
            path,
            file,
            salt,
            hook,
            pins: AtomicU32::new(0),
            end: AtomicU64::new(end),
            disk: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
        };
        segment.refresh();
        Ok(segment)
    }

    fn ask(&self, op: DiskOp<'_>) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook.on(op))
    }

    /// Where a record at `pos` stands.
    pub fn place(&self, pos: u64) -> Place {
        Place { salt: self.salt, segment: self.id, pos }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of the file, in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn file_len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// End of the last reserved record.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Moves the end; only the holder of the append lock and recovery may.
    pub fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Whether a record in it is on its way into the index.
    pub fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    /// Whether it was sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Marks it as sealed: everything in it is durable, nothing more will be written.
    pub fn set_sealed(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Bytes on disk, as of the last [`Segment::refresh`].
    pub fn disk(&self) -> u64 {
        self.disk.load(Ordering::Acquire)
    }

    /// Asks the file system how much the file and its hint occupy; where it does not say, the size
    /// known before stays.
    pub fn refresh(&self) {
        if let Ok(file) = self.file.metadata() {
            let hint = std::fs::metadata(self.path.with_extension("hint"));
            let blocks = file.blocks() + hint.map_or(0, |m| m.blocks());
            self.disk.store(blocks * 512, Ordering::Release);
        }
    }

    /// Claims disk space for `from..from + len`; where the file system cannot, only sets the
    /// length.
    ///
    /// # Errors
    /// Those of the operating system; a full disk among them.
    pub fn allocate(&self, from: u64, len: u64) -> io::Result<()> {
        self.ask(DiskOp::Allocate { len })?;
        match fallocate(&self.file, FallocateFlags::empty(), from as i64, len as i64) {
            Ok(()) => Ok(()),
            Err(nix::Error::EOPNOTSUPP) => self.file.set_len(from + len),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes `bytes` at `pos`.
    ///
    /// # Errors
    /// Those of the operating system; part of the bytes may have been written.
    pub fn write(&self, bytes: &[u8], pos: u64) -> io::Result<()> {
        self.ask(DiskOp::Write { len: bytes.len() as u64 })?;
        self.file.write_all_at(bytes, pos)
    }

    /// Fills `buffer` from `pos`.
    ///
    /// # Errors
    /// Those of the operating system; `UnexpectedEof` beyond the end.
    pub fn read(&self, buffer: &mut [u8], pos: u64) -> io::Result<()> {
        self.ask(DiskOp::Read { pos, len: buffer.len() as u64 })?;
        self.file.read_exact_at(buffer, pos)
    }

    /// The `len` bytes from `pos`, in memory that was not cleared before.
    ///
    /// # Errors
    /// As [`Segment::read`].
    pub fn read_vec(&self, len: usize, pos: u64) -> io::Result<Vec<u8>> {
        self.ask(DiskOp::Read { pos, len: len as u64 })?;
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = pos + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(len); // the allocator may have given more
        Ok(bytes)
    }

    /// Fills `buffer` from `pos` if the operating system has it all in memory; else `false`, and
    /// `buffer` holds anything. Never waits for the disk.
    pub fn read_cached(&self, buffer: &mut [u8], pos: u64) -> bool {
        if self.hook.is_some() {
            return false; // a hook may hold up the reader
        }
        let (len, no_wait) = (buffer.len(), ReadWriteFlags::NOWAIT);
        let read = rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buffer)], pos, no_wait);
        read == Ok(len)
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// Those of the operating system. What was written before is then in an unknown state.
    pub fn sync(&self) -> io::Result<()> {
        self.ask(DiskOp::Sync)?;
        self.file.sync_data()?;
        // The hook only learns of it here; the sync has happened whatever it says.
        let _ = self.ask(DiskOp::Synced { path: &self.path });
        Ok(())
    }

    /// Gives the whole blocks inside `pos..pos + len` back to the file system. Best effort: a file
    /// system without holes keeps them until the segment is compacted.
    pub fn punch(&self, pos: u64, len: u64) {
        let from = pos.next_multiple_of(BLOCK);
        let to = (pos + len) / BLOCK * BLOCK;
        if from < to {
            let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let _ = fallocate(&self.file, mode, from as i64, (to - from) as i64);
        }
    }

    /// Cuts the file at `end`.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn cut(&self, end: u64) -> io::Result<()> {
        self.file.set_len(end)
    }
}

/// The path of segment `id` in `dir`.
pub fn file_path(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("seg-{id:08}.dat"))
}

/// The number in the file name of a segment, or `None` for other files.
pub fn id_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("seg-")?.strip_suffix(".dat")?;
    let id = digits.parse().ok().filter(|id| *id > 0)?;
    (format!("{id:08}") == digits).then_some(id)
}

/// Makes the entries of `dir` durable (files created, renamed or removed).
///
/// # Errors
/// Those of the operating system.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segment_names_have_a_number() {
        for (name, want) in [
            ("seg-00000001.dat", Some(1)),
            ("seg-123456789.dat", Some(123_456_789)),
            ("seg-00000000.dat", None),
            ("seg-1.dat", None),
            ("seg-00000001.hint", None),
            ("seg-00000001.dat.tmp", None),
        ] {
            assert_eq!(id_of(name), want, "{name}");
        }
    }
}
