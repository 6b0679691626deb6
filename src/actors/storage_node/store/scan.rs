//! Walks the records of a segment file in order of position; used by recovery, sealing,
//! compaction.
//!
//! SCAN-1: bytes that are no record are stepped over to the next valid header, so one damaged
//! record costs itself only. Unreadable blocks count as such bytes.

use std::io;
use std::sync::Arc;

use super::record::{ALIGN, HEADER, Header};
use super::segment::Segment;

/// How much is read at a time, at least.
const WINDOW: usize = 256 << 10;
/// Unreadable regions are probed in blocks of this size.
const BLOCK: usize = 4096;

/// A valid header and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Position of the header.
    pub pos: u64,
    /// The header.
    pub header: Header,
    /// Bytes before it that are no record.
    pub skipped: u64,
}

/// A walk over one segment.
pub struct Scanner {
    segment: Arc<Segment>,
    pos: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Bytes read from disk so far.
    pub bytes_read: u64,
    /// Whether some block could not be read.
    pub unreadable: bool,
}

impl Scanner {
    /// Walks `from..end`.
    pub fn new(segment: Arc<Segment>, from: u64, end: u64) -> Scanner {
        let (window, window_at) = (Vec::new(), from);
        Scanner { segment, pos: from, end, window, window_at, bytes_read: 0, unreadable: false }
    }

    /// Where the walk stands.
    pub fn pos(&self) -> u64 {
        self.pos
    }

    /// Where the walk ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The next record, or `None` at the end.
    pub fn next_record(&mut self) -> Option<Found> {
        let from = self.pos;
        while self.pos + HEADER as u64 <= self.end {
            let (pos, place) = (self.pos, self.segment.place(self.pos));
            let header = Header::decode(self.bytes(pos, HEADER), place);
            if let Some(header) = header
                && pos + HEADER as u64 + u64::from(header.len) <= self.end
            {
                self.pos = pos + header.span();
                return Some(Found { pos, header, skipped: pos - from });
            }
            self.pos = pos + ALIGN;
        }
        None
    }

    /// Header and payload of a record that was found.
    pub fn record(&mut self, found: &Found) -> &[u8] {
        self.bytes(found.pos, HEADER + found.header.len as usize)
    }

    /// The bytes `at..at + len`, which must end before the end of the walk.
    fn bytes(&mut self, at: u64, len: usize) -> &[u8] {
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + len as u64 > window_end {
            let want = (len.max(WINDOW) as u64).min(self.end - at) as usize;
            self.window.resize(want, 0);
            self.window_at = at;
            self.bytes_read += want as u64;
            if self.segment.read(&mut self.window, at).is_err() {
                self.read_blockwise();
            }
        }
        let start = (at - self.window_at) as usize;
        &self.window[start..start + len]
    }

    /// Fills the window block by block, with zeros for what cannot be read.
    fn read_blockwise(&mut self) {
        let at = self.window_at;
        for (i, block) in self.window.chunks_mut(BLOCK).enumerate() {
            if self.segment.read(block, at + (i * BLOCK) as u64).is_err() {
                block.fill(0);
                self.unreadable = true;
            }
        }
    }
}

/// A record as recovery sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Position of the header.
    pub pos: u64,
    /// The header.
    pub header: Header,
    /// Whether the payload has its checksum.
    pub intact: bool,
}

/// All records of a segment file, read and verified to the end.
#[derive(Debug, Default)]
pub struct Scan {
    /// The records in order of position.
    pub records: Vec<Checked>,
    /// End of the last intact record: what is behind it is preallocation or a torn write.
    pub end: u64,
    /// Bytes before `end` that are no record.
    pub skipped: u64,
    /// Whether some block could not be read.
    pub unreadable: bool,
}

/// Reads a whole segment file.
///
/// # Errors
/// Those of the operating system, on finding the length of the file.
pub fn scan(segment: &Arc<Segment>) -> io::Result<Scan> {
    let mut scanner = Scanner::new(segment.clone(), 0, segment.file_len()?);
    let mut scan = Scan::default();
    let (mut intact_records, mut skipped) = (0, 0);
    while let Some(found) = scanner.next_record() {
        let intact = found.header.fits(&scanner.record(&found)[HEADER..]);
        scan.records.push(Checked { pos: found.pos, header: found.header, intact });
        skipped += found.skipped;
        if intact {
            (scan.end, scan.skipped) = (scanner.pos(), skipped);
            intact_records = scan.records.len();
        }
    }
    scan.unreadable = scanner.unreadable;
    if !scan.unreadable {
        scan.records.truncate(intact_records);
    }
    Ok(scan)
}
