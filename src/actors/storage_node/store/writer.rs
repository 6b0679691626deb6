//! One upload: takes bytes in any pieces, writes chunk records, and commits the item at the end.
//!
//! - WRITER-1: the `Last` record is written only when every byte is there and the checksum
//!   agrees, so an upload that ends in any other way leaves an item without `Last`, which does
//!   not exist.
//! - WRITER-2: the item enters the index after its records are durable, in one step.

use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};

use super::append::Class;
use super::error::Error;
use super::index::{Entry, Extent, Extents};
use super::record::{CHUNK, HEADER, Header, Kind, crc64};
use super::report::Stored;
use super::segment::Pin;
use super::{Claim, Shared};
use crate::points::{self, Mutant, Point};
use crate::types::{DataId, now_ms};

/// Chunks of at least this size are punched out of the segment when they are dead.
pub(super) const PUNCH_BYTES: u32 = 64 << 10;

/// An upload in progress; dropping it discards what was written.
pub struct Writer {
    shared: Arc<Shared>,
    data_id: DataId,
    attempt: u64,
    /// Room for a header, then the payload of the chunk being filled.
    buffer: Vec<u8>,
    extents: Vec<Extent>,
    /// One for each segment touched.
    pins: Vec<Pin>,
    md5: Option<md5::Context>,
    crc: Digest,
    len: u64,
    /// A write failed, and with it the upload.
    broken: bool,
    committed: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, data_id: DataId) -> Result<Writer, Error> {
        shared.sync.check()?;
        let attempt = shared.next_number();
        Ok(Writer {
            shared,
            data_id,
            attempt,
            buffer: vec![0; HEADER],
            extents: Vec::new(),
            pins: Vec::new(),
            md5: Some(md5::Context::new()),
            crc: Digest::new(CrcAlgorithm::Crc64Nvme),
            len: 0,
            broken: false,
            committed: false,
        })
    }

    /// Spares the MD5, for a caller that hashes the bytes itself and ends with
    /// [`Writer::finish_hashed`]. To be called before the first byte.
    pub fn without_md5(mut self) -> Writer {
        self.md5 = None;
        self
    }

    /// Bytes taken so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte was taken yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes of the item.
    ///
    /// # Errors
    /// `Full`, `Fatal`, `Io`; the upload has failed then, and only dropping it is of use.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.check()?;
        if let Some(md5) = &mut self.md5 {
            md5.consume(bytes);
        }
        self.crc.update(bytes);
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = HEADER + CHUNK - self.buffer.len();
            if room == 0 {
                // Only now is it known that this chunk is not the last one.
                let header = self.header(Kind::Chunk, 0, None);
                self.append(&header)?;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if self.buffer.capacity() - self.buffer.len() < now.len() {
                // What came in one piece is mostly all; of a second one more follow.
                let all = self.len as usize == now.len();
                self.buffer.reserve_exact(if all { now.len() } else { room });
            }
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Completes the item; returns once it is durable. If the item is there already with the same
    /// length and MD5, this upload is discarded and the answer is that of the first.
    ///
    /// # Errors
    /// `Mismatch` if the MD5 is not `expected_md5`; `Conflict`, `Full`, `Fatal`, `Io`. In all
    /// cases nothing of the upload remains visible.
    pub fn finish(mut self, expected_md5: Option<[u8; 16]>) -> Result<Stored, Error> {
        let computed = self.md5.take().map(|md5| md5.finalize().0);
        match (computed, expected_md5) {
            (Some(computed), Some(expected)) if computed != expected => {
                Err(Error::Mismatch(self.data_id))
            }
            (Some(md5), _) | (None, Some(md5)) => match points::breaks(Mutant::AckBeforeDurable) {
                false => self.commit(md5),
                true => Ok(self.commit_later(md5)),
            },
            (None, None) => Err(Error::Mismatch(self.data_id)),
        }
    }

    /// Like [`Writer::finish`] for a caller that hashed the bytes: the CRC-64/NVME, which is
    /// computed here in any case, guards the transfer; the MD5 is taken over.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish_hashed(self, md5: [u8; 16], crc64: u64) -> Result<Stored, Error> {
        if self.crc.finalize() == crc64 {
            self.finish(Some(md5))
        } else {
            Err(Error::Mismatch(self.data_id))
        }
    }

    fn commit(mut self, md5: [u8; 16]) -> Result<Stored, Error> {
        self.check()?;
        let crc64 = self.crc.finalize();
        let stored = Stored { len: self.len, md5, crc64, stored_at_ms: now_ms() };
        let shared = self.shared.clone();
        let _claim: Claim<'_> = shared.claim([self.data_id]);
        let existing = shared.state().index.get(self.data_id).map(|e| (e.corrupt, e.stored));
        // A copy known to be damaged makes way; a tombstone sees to it that it stays away.
        let grave = match existing {
            Some((false, first)) if first.len == stored.len && first.md5 == stored.md5 => {
                return Ok(first);
            }
            Some((false, _)) => return Err(Error::Conflict(self.data_id)),
            Some((true, _)) => Some(shared.append_tombstone(self.data_id)?),
            None => None,
        };
        let seq = shared.next_number();
        let header = self.header(Kind::Last, seq, Some(&stored));
        self.append(&header)?;
        let pins = self.pins.iter().chain(grave.iter().map(|(_, pin, _)| pin));
        shared.commit(pins.map(Pin::segment))?;
        points::at(Point::BlobDurable);

        let mut state = shared.state();
        if let Some((seq, _, at)) = &grave {
            state.index.bury(self.data_id, *seq, (at.segment, at.pos));
        }
        let extents = Extents::new(std::mem::take(&mut self.extents));
        let attempt = self.attempt;
        state.index.insert(self.data_id, Entry { attempt, seq, stored, extents, corrupt: false });
        self.committed = true;
        Ok(stored)
    }

    /// What only the mutant does.
    fn commit_later(self, md5: [u8; 16]) -> Stored {
        let crc64 = self.crc.finalize();
        let told = Stored { len: self.len, md5, crc64, stored_at_ms: now_ms() };
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(500));
            self.commit(md5)
        });
        told
    }

    /// Refuses to go on after a write that failed.
    fn check(&self) -> Result<(), Error> {
        self.shared.sync.check()?;
        if self.broken { Err(Error::Full) } else { Ok(()) }
    }

    fn header(&self, kind: Kind, seq: u64, stored: Option<&Stored>) -> Header {
        let payload = &self.buffer[HEADER..];
        Header {
            kind,
            data_id: self.data_id,
            attempt: self.attempt,
            seq,
            index: self.extents.len() as u32,
            len: payload.len() as u32,
            payload_crc: crc64(payload),
            stored_at_ms: stored.map_or(0, |s| s.stored_at_ms),
            md5: stored.map_or([0; 16], |s| s.md5),
            item_crc: stored.map_or(0, |s| s.crc64),
        }
    }

    /// Writes the buffer as one record and empties it.
    fn append(&mut self, header: &Header) -> Result<(), Error> {
        let appended = self.shared.append(header, &mut self.buffer, Class::Data);
        self.broken |= appended.is_err();
        let (pin, extent) = appended?;
        self.buffer.truncate(HEADER);
        self.extents.push(extent);
        if self.pins.last().is_none_or(|last| last.segment().id != extent.segment) {
            self.pins.push(pin);
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a failed sync the item may be complete on disk: leave it whole.
        if self.committed || self.shared.sync.check().is_err() {
            return;
        }
        for extent in self.extents.iter().filter(|e| e.len >= PUNCH_BYTES) {
            if let Some(pin) = self.pins.iter().find(|p| p.segment().id == extent.segment) {
                pin.segment().punch(u64::from(extent.pos) + HEADER as u64, u64::from(extent.len));
            }
        }
    }
}
