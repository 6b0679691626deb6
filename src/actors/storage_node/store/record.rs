//! The record: the unit of everything in a segment file. Pure: bytes in, values out.
//!
//! A record is a header of [`HEADER`] bytes, its payload, and padding to [`ALIGN`]. An item is a
//! row of chunk records of exactly [`CHUNK`] bytes, the final one shorter (or empty) and of kind
//! `Last`; a tombstone is a record without payload.
//!
//! - RECORD-1: the header checksum covers the store's salt, the segment and the position. So a
//!   record is valid only where it was written: user data that happen to hold a copy of a segment
//!   are never taken for records.
//! - RECORD-2: `attempt` tells the chunks of one upload from those of another with the same id.
//! - RECORD-3: `seq` orders `Last` records and tombstones of an id: a tombstone kills every `Last`
//!   with a smaller `seq`, and with it the chunks of that attempt.

use crc_fast::{CrcAlgorithm, Digest, checksum};

use crate::types::{DataId, UnixMillis};

/// Bytes of a record header.
pub const HEADER: usize = 96;
/// Records start at multiples of this.
pub const ALIGN: u64 = 32;
/// Payload bytes of every chunk but the last of an item.
pub const CHUNK: usize = 1 << 20;

const MAGIC: u32 = 0x5333_4b4d;
const VERSION: u8 = 1;
/// Where the header's own checksum stands; the bytes behind it are zero.
const CHECKSUM_AT: usize = HEADER - 8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A chunk with more to come.
    Chunk,
    /// The final chunk; makes the item complete.
    Last,
    /// Says that the id was deleted.
    Tombstone,
}

/// The place of a record; part of its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The store's salt.
    pub salt: u64,
    /// The segment.
    pub segment: u32,
    /// The position of the header in the segment.
    pub pos: u64,
}

/// A record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub data_id: DataId,
    /// Which upload wrote it.
    pub attempt: u64,
    /// The order among `Last` and `Tombstone`; 0 in chunks.
    pub seq: u64,
    /// Number of the chunk in the item; it starts at byte `index * CHUNK`.
    pub index: u32,
    /// Payload bytes.
    pub len: u32,
    /// CRC-64/NVME of the payload.
    pub payload_crc: u64,
    /// When the item was complete (`Last`) or deleted.
    pub stored_at_ms: UnixMillis,
    /// MD5 of the whole item (`Last`).
    pub md5: [u8; 16],
    /// CRC-64/NVME of the whole item (`Last`).
    pub item_crc: u64,
}

impl Header {
    /// A tombstone for `data_id`.
    pub fn tombstone(data_id: DataId, seq: u64, now_ms: UnixMillis) -> Header {
        let crc = crc64(&[]);
        Header {
            kind: Kind::Tombstone,
            data_id,
            attempt: 0,
            seq,
            index: 0,
            len: 0,
            payload_crc: crc,
            stored_at_ms: now_ms,
            md5: [0; 16],
            item_crc: crc,
        }
    }

    /// Bytes that the record takes in the segment.
    pub fn span(&self) -> u64 {
        span(self.len as usize)
    }

    /// The length of the item whose `Last` this is.
    pub fn item_len(&self) -> u64 {
        u64::from(self.index) * CHUNK as u64 + u64::from(self.len)
    }

    /// Whether `payload` is what was written.
    pub fn fits(&self, payload: &[u8]) -> bool {
        payload.len() == self.len as usize && crc64(payload) == self.payload_crc
    }

    /// The bytes of the header at `place`.
    pub fn encode(&self, place: Place) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4] = VERSION;
        out[5] = match self.kind {
            Kind::Chunk => 1,
            Kind::Last => 2,
            Kind::Tombstone => 3,
        };
        out[8..24].copy_from_slice(&self.data_id.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.attempt.to_le_bytes());
        out[32..40].copy_from_slice(&self.seq.to_le_bytes());
        out[40..44].copy_from_slice(&self.index.to_le_bytes());
        out[44..48].copy_from_slice(&self.len.to_le_bytes());
        out[48..56].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[56..64].copy_from_slice(&self.stored_at_ms.to_le_bytes());
        out[64..80].copy_from_slice(&self.md5);
        out[80..88].copy_from_slice(&self.item_crc.to_le_bytes());
        let sum = header_checksum(&out, place);
        out[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the header at the start of `bytes`, or `None` where there is none that belongs at
    /// `place`.
    pub fn decode(bytes: &[u8], place: Place) -> Option<Header> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        if u32_at(bytes, 0) != MAGIC || bytes[4] != VERSION {
            return None;
        }
        if u32_at(bytes, CHECKSUM_AT) != header_checksum(bytes, place) {
            return None;
        }
        let kind = match bytes[5] {
            1 => Kind::Chunk,
            2 => Kind::Last,
            3 => Kind::Tombstone,
            _ => return None,
        };
        let mut md5 = [0; 16];
        md5.copy_from_slice(&bytes[64..80]);
        let header = Header {
            kind,
            data_id: DataId(u128::from(u64_at(bytes, 8)) | u128::from(u64_at(bytes, 16)) << 64),
            attempt: u64_at(bytes, 24),
            seq: u64_at(bytes, 32),
            index: u32_at(bytes, 40),
            len: u32_at(bytes, 44),
            payload_crc: u64_at(bytes, 48),
            stored_at_ms: u64_at(bytes, 56),
            md5,
            item_crc: u64_at(bytes, 80),
        };
        (header.len as usize <= CHUNK).then_some(header)
    }
}

/// Bytes that a record with `payload` bytes takes in a segment.
pub fn span(payload: usize) -> u64 {
    ((HEADER + payload) as u64).next_multiple_of(ALIGN)
}

/// CRC-64/NVME.
pub fn crc64(bytes: &[u8]) -> u64 {
    checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

fn header_checksum(header: &[u8; HEADER], place: Place) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&place.salt.to_le_bytes());
    digest.update(&place.segment.to_le_bytes());
    digest.update(&place.pos.to_le_bytes());
    digest.update(&header[..CHECKSUM_AT]);
    digest.finalize() as u32
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: Place = Place { salt: 7, segment: 3, pos: 96 };

    fn header(id: u128, index: u32, len: u32) -> Header {
        Header {
            kind: Kind::Last,
            data_id: DataId(id),
            attempt: 5,
            seq: 9,
            index,
            len,
            payload_crc: 11,
            stored_at_ms: 12,
            md5: [13; 16],
            item_crc: 14,
        }
    }

    proptest! {
        #[test]
        fn a_header_reads_back_and_one_flipped_bit_makes_it_invalid(
            id: u128, index: u32, len in 0u32..=CHUNK as u32, bit in 0usize..CHECKSUM_AT * 8 + 32,
        ) {
            let header = header(id, index, len);
            let mut bytes = header.encode(PLACE);
            prop_assert_eq!(Header::decode(&bytes, PLACE), Some(header));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Header::decode(&bytes, PLACE), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_are_no_header(bytes: Vec<u8>) {
            prop_assert_eq!(Header::decode(&bytes, PLACE), None);
        }
    }

    #[test]
    fn a_header_is_valid_only_where_it_was_written() {
        let bytes = header(1, 0, 4).encode(PLACE);
        for other in
            [Place { salt: 8, ..PLACE }, Place { segment: 4, ..PLACE }, Place { pos: 128, ..PLACE }]
        {
            assert_eq!(Header::decode(&bytes, other), None);
        }
    }

    #[test]
    fn spans_are_aligned_and_hold_the_record() {
        for (payload, want) in [(0, 96), (1, 128), (32, 128), (33, 160), (CHUNK, 96 + (1 << 20))] {
            assert_eq!(span(payload), want, "{payload}");
        }
    }
}
