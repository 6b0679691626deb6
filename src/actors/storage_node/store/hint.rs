//! The hint file of a sealed segment: its record headers, so that opening need not read the
//! segment.
//!
//! - HINT-1: a hint is written after the segment was synced and cut, under a temporary name, and
//!   is itself synced before it gets its name; so a hint that reads back speaks the truth.
//! - HINT-2: a hint counts only if its checksum is right and the segment has the length it names.
//! - HINT-3: where headers are a large part of the segment (very small items) there is none:
//!   reading such segments is cheap for their number of bytes, and hints would take space that is
//!   bounded.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::record::{HEADER, Header, crc64};
use super::scan::Found;
use super::segment::{Segment, sync_dir};

const MAGIC: u64 = 0x3154_4e49_485f_334d;
/// Magic, length of the segment, number of records.
const HEAD: usize = 24;
/// Position and header.
const ROW: usize = 4 + HEADER;
/// A hint may take one part in this many of its segment.
const LARGEST_PART: u64 = 32;

/// Writes the hint of `segment`, whose records are `records` and whose length is `end`, if it
/// pays.
///
/// # Errors
/// Those of the operating system.
pub fn write(segment: &Segment, records: &[Found], end: u64) -> io::Result<()> {
    if records.len() as u64 * ROW as u64 > end / LARGEST_PART {
        return Ok(());
    }
    let mut out = Vec::with_capacity(HEAD + records.len() * ROW + 8);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&end.to_le_bytes());
    out.extend_from_slice(&(records.len() as u64).to_le_bytes());
    for found in records {
        out.extend_from_slice(&(found.pos as u32).to_le_bytes());
        out.extend_from_slice(&found.header.encode(segment.place(found.pos)));
    }
    let sum = crc64(&out);
    out.extend_from_slice(&sum.to_le_bytes());

    let path = segment.path().with_extension("hint");
    let draft = segment.path().with_extension("hint.tmp");
    let mut file = File::create(&draft)?;
    file.write_all(&out)?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Reads the hint of `segment`: its records, or `None` where there is no hint that counts.
pub fn read(segment: &Segment) -> Option<Vec<(u64, Header)>> {
    let bytes = fs::read(segment.path().with_extension("hint")).ok()?;
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    if u64::from_le_bytes(*sum) != crc64(body) {
        return None;
    }
    let word = |at: usize| {
        let word = body.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(word))
    };
    let (magic, end, count) = (word(0)?, word(8)?, word(16)?);
    let rows = body.get(HEAD..)?;
    if magic != MAGIC || end != segment.file_len().ok()? || rows.len() as u64 != count * ROW as u64
    {
        return None;
    }
    rows.chunks_exact(ROW).map(|row| row_of(segment, row)).collect()
}

fn row_of(segment: &Segment, row: &[u8]) -> Option<(u64, Header)> {
    let (pos, header) = row.split_first_chunk::<4>()?;
    let pos = u64::from(u32::from_le_bytes(*pos));
    Some((pos, Header::decode(header, segment.place(pos))?))
}

/// Removes the hint of the segment at `path`, if there is one.
///
/// # Errors
/// Those of the operating system, but not that there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path.with_extension("hint")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
