//! One thread's file, and the operations on it: the thin shell.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{FILE_BYTES, Operation, Settings};
use crate::faults::term::Term;
use crate::faults::unlinked;

/// What all threads together read from: less than [`FILE_BYTES`], since it has to be written
/// first.
const READ_BYTES: u64 = 16 << 20;

pub(super) struct Workload {
    operation: Operation,
    file: File,
    block: Vec<u8>,
    /// How many blocks the file may have.
    blocks: u64,
    /// How many operations so far.
    count: u64,
}

impl Workload {
    /// A thread's share: whole blocks, at least one. The largest block for the most threads is
    /// just [`FILE_BYTES`] (IO-1).
    pub(super) fn new(settings: &Settings) -> io::Result<Workload> {
        let Settings { folder, operation, block_bytes, threads } = settings;
        let all = if *operation == Operation::Read { READ_BYTES } else { FILE_BYTES };
        let mut block = vec![0; *block_bytes as usize]; // At most 4 MiB
        rand::fill(&mut block[..]); // Nothing that a disk could make smaller
        Ok(Workload {
            operation: *operation,
            file: unlinked::open(folder)?,
            block,
            blocks: (all / threads / block_bytes).max(1),
            count: 0,
        })
    }

    /// Writes what is to be read, to the disk.
    pub(super) fn prepare(&mut self, term: &Term) -> io::Result<()> {
        if self.operation != Operation::Read {
            return Ok(());
        }
        for _ in 0..self.blocks {
            if term.over().is_some() {
                return Ok(());
            }
            self.write()?;
        }
        // What is not on the disk yet is not dropped from memory when we ask for that.
        self.file.sync_data()?;
        Ok(posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?)
    }

    /// One; gives how many bytes it was.
    pub(super) fn operate(&mut self) -> io::Result<u64> {
        match self.operation {
            Operation::Write => self.write()?,
            Operation::Fsync => {
                self.write()?;
                self.file.sync_data()?;
            }
            Operation::Read => self.read()?,
        }
        Ok(self.block.len() as u64)
    }

    /// The next block, round and round; no two are the same.
    fn write(&mut self) -> io::Result<()> {
        self.count += 1;
        self.block[..8].copy_from_slice(&self.count.to_le_bytes());
        let offset = self.count % self.blocks * self.block.len() as u64;
        self.file.write_all_at(&self.block, offset)
    }

    fn read(&mut self) -> io::Result<()> {
        let length = self.block.len() as u64;
        let offset = rand::random_range(0..self.blocks) * length;
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        // Cannot overflow: a file has no more than FILE_BYTES.
        posix_fadvise(&self.file, offset as i64, length as i64, advice)?;
        self.file.read_exact_at(&mut self.block, offset)
    }
}
