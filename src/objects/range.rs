//! Byte ranges of objects: what a request asks for, and which bytes of which data items that is.
//!
//! Used by the read and copy flows and by the S3 edge. Plain arithmetic.
//!
//! - `RANGE-1` the pieces of a cut are in order, without gap or overlap, and sum up to the range.

use crate::actors::metadata::query::PartRow;
use crate::types::{DataId, InstanceId};

/// A `Range` as a client writes it (RFC 9110, one range).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-last` or `first-`.
    From {
        /// First byte.
        first: u64,
        /// Last byte, included.
        last: Option<u64>,
    },
    /// `-length`: the last bytes.
    Suffix {
        /// How many.
        length: u64,
    },
}

/// Bytes of an object: `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

impl Span {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// No byte at all.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// The bytes that a range means in an object of `size` bytes; `None` = not satisfiable (416).
pub fn resolve(spec: RangeSpec, size: u64) -> Option<Span> {
    match spec {
        RangeSpec::From { first, last } => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            (first < end).then_some(Span { start: first, end })
        }
        RangeSpec::Suffix { length } => {
            let start = size.saturating_sub(length);
            (start < size).then_some(Span { start, end: size })
        }
    }
}

/// Bytes of one data item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The item.
    pub data_id: DataId,
    /// First byte in the item.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Nodes that hold it.
    pub locations: Vec<InstanceId>,
}

/// The pieces that make up a span, given parts (in order) that cover it.
///
/// `None` where they do not: the row has no or not all data here.
pub fn cut(parts: &[PartRow], span: Span) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut at = span.start;
    for part in parts {
        let end = (part.offset + part.len).min(span.end);
        if at >= span.end || end <= at {
            continue;
        }
        if part.offset > at {
            return None;
        }
        let (data_id, locations) = (part.data_id, part.locations.clone());
        pieces.push(Piece { data_id, offset: at - part.offset, len: end - at, locations });
        at = end;
    }
    (at >= span.end).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(sizes: &[u64]) -> Vec<PartRow> {
        let mut offset = 0;
        let rows = sizes.iter().enumerate().map(|(i, &len)| {
            let row = PartRow {
                no: i as u32 + 1,
                offset,
                len,
                data_id: DataId(i as u128),
                md5: [0; 16],
                crc64: 0,
                locations: vec!["a".into()],
                checksum: None,
            };
            offset += len;
            row
        });
        rows.collect()
    }

    #[test]
    fn ranges_mean_what_rfc_9110_says() {
        let from = |first, last| RangeSpec::From { first, last };
        let suffix = |length| RangeSpec::Suffix { length };
        let rows = [
            (from(0, Some(0)), 10, Some((0, 1))),
            (from(2, Some(4)), 10, Some((2, 5))),
            (from(2, None), 10, Some((2, 10))),
            (from(9, Some(100)), 10, Some((9, 10))),
            (from(10, None), 10, None),
            (from(10, Some(20)), 10, None),
            (from(0, Some(u64::MAX)), 10, Some((0, 10))),
            (from(0, None), 0, None),
            (suffix(3), 10, Some((7, 10))),
            (suffix(30), 10, Some((0, 10))),
            (suffix(0), 10, None),
            (suffix(1), 0, None),
        ];
        for (spec, size, expected) in rows {
            let got = resolve(spec, size).map(|s| (s.start, s.end));
            assert_eq!(got, expected, "{spec:?} of {size}");
        }
    }

    #[test]
    fn parts_that_do_not_cover_the_span_are_noticed() {
        let all = parts(&[5, 5, 5]);
        assert!(cut(&all, Span { start: 0, end: 15 }).is_some());
        assert_eq!(cut(&all[..2], Span { start: 0, end: 15 }), None);
        assert_eq!(cut(&all[1..], Span { start: 0, end: 15 }), None);
        assert_eq!(cut(&[all[0].clone(), all[2].clone()], Span { start: 0, end: 15 }), None);
        assert_eq!(cut(&[], Span { start: 0, end: 0 }), Some(vec![]));
    }

    proptest! {
        #[test]
        fn a_cut_gives_exactly_the_bytes_of_the_span(
            sizes in proptest::collection::vec(0u64..9, 0..8),
            a in 0u64..80,
            b in 0u64..80,
        ) {
            let total: u64 = sizes.iter().sum();
            let span = Span { start: a.min(b).min(total), end: a.max(b).min(total) };
            let pieces = cut(&parts(&sizes), span).expect("the parts cover the object");
            let bytes: Vec<(u128, u64)> = sizes
                .iter()
                .enumerate()
                .flat_map(|(i, &len)| (0..len).map(move |o| (i as u128, o)))
                .collect();
            let got: Vec<(u128, u64)> = pieces
                .iter()
                .flat_map(|p| (p.offset..p.offset + p.len).map(|o| (p.data_id.0, o)))
                .collect();
            prop_assert_eq!(&got[..], &bytes[span.start as usize..span.end as usize]);
            prop_assert!(pieces.iter().all(|p| p.len > 0));
        }
    }
}
