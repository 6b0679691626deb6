//! Reading: every chunk is verified as a whole before a byte of it is handed out.
//!
//! READER-1: a chunk that looks wrong is looked up again first: it may have been moved by
//! compaction or deleted in between. Only a chunk that is still where it was looked for is called
//! corrupt.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::index::Extent;
use super::record::{CHUNK, HEADER, Header};
use super::segment::Segment;
use super::{SegmentStore, Shared};
use crate::types::DataId;

/// The largest chunk that is read without a thread of its own, in bytes.
const CACHED_BYTES: u32 = 64 << 10;

/// The verified chunks of a range of an item, in order; ends after the first error.
pub struct Reader {
    shared: Arc<Shared>,
    data_id: DataId,
    range: Range<u64>,
}

impl SegmentStore {
    /// Reads `len` bytes from `offset`, or fewer where the item ends before. Verifies all chunks
    /// touched.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Io`.
    pub fn read(&self, data_id: DataId, offset: u64, len: u64) -> Result<Bytes, Error> {
        let mut reader = self.reader(data_id, offset, len)?;
        let whole = reader.remaining();
        let Some(first) = reader.next() else { return Ok(Bytes::new()) };
        let first = first?;
        if first.len() as u64 == whole {
            return Ok(first);
        }
        let mut all = Vec::with_capacity(usize::try_from(whole).unwrap_or(0));
        all.extend_from_slice(&first);
        for chunk in reader {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.into())
    }

    /// Reads `len` bytes from `offset` within the first chunk of an item, if that is in memory and
    /// good; never waits for the disk. `None` says nothing: [`SegmentStore::read`] finds out.
    pub fn read_cached(&self, data_id: DataId, offset: u64, len: u64) -> Option<Bytes> {
        let (from, to) =
            (usize::try_from(offset).ok()?, usize::try_from(offset.checked_add(len)?).ok()?);
        let (attempt, extent, segment) = self.shared.look_up(data_id, 0).ok()?;
        let segment =
            segment.filter(|_| to <= extent.len as usize && extent.len <= CACHED_BYTES)?;
        let mut record = vec![0; HEADER + extent.len as usize];
        if !segment.read_cached(&mut record, u64::from(extent.pos)) {
            return None;
        }
        let chunk = payload(record, &segment, extent, (data_id, attempt, 0))?;
        Some(chunk.slice(from..to))
    }

    /// Reads `len` bytes from `offset` (fewer where the item ends before), chunk by chunk.
    ///
    /// # Errors
    /// `NotFound`. The chunks may be `NotFound` (deleted meanwhile), `Corrupt` or `Io`.
    pub fn reader(&self, data_id: DataId, offset: u64, len: u64) -> Result<Reader, Error> {
        let stored = self.info(data_id).ok_or(Error::NotFound(data_id))?;
        let start = offset.min(stored.len);
        let range = start..offset.saturating_add(len).min(stored.len).max(start);
        Ok(Reader { shared: self.shared.clone(), data_id, range })
    }
}

impl Reader {
    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl Iterator for Reader {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.range.is_empty() {
            return None;
        }
        let index = (self.range.start / CHUNK as u64) as u32;
        let chunk_start = u64::from(index) * CHUNK as u64;
        let from = (self.range.start - chunk_start) as usize;
        let to = (self.range.end - chunk_start).min(CHUNK as u64) as usize;
        let chunk = match self.shared.chunk(self.data_id, index) {
            Ok(chunk) if chunk.len() >= to => chunk,
            Ok(_) => {
                return self.fail(Error::Corrupt { data_id: self.data_id, offset: chunk_start });
            }
            Err(error) => return self.fail(error),
        };
        self.range.start = chunk_start + to as u64;
        Some(Ok(chunk.slice(from..to)))
    }
}

impl Reader {
    fn fail(&mut self, error: Error) -> Option<Result<Bytes, Error>> {
        self.range.start = self.range.end;
        Some(Err(error))
    }
}

impl Shared {
    /// One verified chunk of an item.
    pub fn chunk(&self, data_id: DataId, index: u32) -> Result<Bytes, Error> {
        let offset = u64::from(index) * CHUNK as u64;
        let corrupt = Error::Corrupt { data_id, offset };
        loop {
            let (attempt, extent, segment) = self.look_up(data_id, index)?;
            let Some(segment) = segment else { return Err(corrupt) };
            let read = read_chunk(&segment, extent, data_id, attempt, index);
            if let Ok(Some(chunk)) = read {
                return Ok(chunk);
            }
            let (attempt_now, extent_now, _) = self.look_up(data_id, index)?;
            if (attempt, extent) != (attempt_now, extent_now) {
                continue;
            }
            return match read {
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    Err(Error::io("cannot read", segment.path())(error))
                }
                _ => {
                    self.state().index.mark_corrupt(data_id, attempt);
                    Err(corrupt)
                }
            };
        }
    }

    /// Where a chunk is now; without segment where it is lost.
    fn look_up(
        &self,
        data_id: DataId,
        index: u32,
    ) -> Result<(u64, Extent, Option<Arc<Segment>>), Error> {
        let state = self.state();
        let entry = state.index.get(data_id).ok_or(Error::NotFound(data_id))?;
        let extent = entry.extents.as_slice().get(index as usize).copied().unwrap_or(Extent::LOST);
        Ok((entry.attempt, extent, state.segments.get(&extent.segment).cloned()))
    }
}

/// The payload at `extent`, or `None` if it is not the chunk that was written.
fn read_chunk(
    segment: &Segment,
    extent: Extent,
    data_id: DataId,
    attempt: u64,
    index: u32,
) -> io::Result<Option<Bytes>> {
    let pos = u64::from(extent.pos);
    let record = segment.read_vec(HEADER + extent.len as usize, pos)?;
    Ok(payload(record, segment, extent, (data_id, attempt, index)))
}

/// The payload of a record, or `None` if it is not the chunk that was written.
fn payload(
    record: Vec<u8>,
    segment: &Segment,
    extent: Extent,
    expected: (DataId, u64, u32),
) -> Option<Bytes> {
    let header = Header::decode(&record, segment.place(u64::from(extent.pos)));
    let intact = header.is_some_and(|header| {
        (header.data_id, header.attempt, header.index) == expected && header.fits(&record[HEADER..])
    });
    intact.then(|| Bytes::from(record).slice(HEADER..))
}
