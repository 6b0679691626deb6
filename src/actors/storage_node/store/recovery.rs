//! Turns the records found on disk into an index. Pure: the order in which records come is of no
//! importance, and no set of records makes it panic.
//!
//! - RECOVERY-1: an item is the chunks of one attempt with a `Last`; without `Last` there is no
//!   item.
//! - RECOVERY-2: of several complete attempts the intact one with the highest order counts.
//! - RECOVERY-3: a missing or bad chunk makes the item corrupt, never shorter.

use std::collections::HashMap;

use super::index::{Entry, Extent, Extents, Grave, Index};
use super::record::{CHUNK, Kind};
use super::report::{Recovery, Stored};
use super::scan::Checked;
use crate::types::DataId;

/// Collects records.
#[derive(Default)]
pub struct Rebuild {
    parts: HashMap<(DataId, u64), Part>,
    tombstones: HashMap<DataId, (u64, (u32, u32))>,
    highest: u64,
}

/// The records of one attempt.
#[derive(Default)]
struct Part {
    chunks: Vec<(u32, Extent, bool)>,
    last: Option<Final>,
    /// All segments with a `Last` of it.
    last_in: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Final {
    seq: u64,
    index: u32,
    stored: Stored,
}

impl Rebuild {
    /// Adds a record of `segment`.
    pub fn add(&mut self, segment: u32, record: &Checked) {
        let header = &record.header;
        self.highest = self.highest.max(header.seq).max(header.attempt);
        let extent = Extent { segment, pos: record.pos as u32, len: header.len };
        if header.kind == Kind::Tombstone {
            let at = (segment, extent.pos);
            let known = self.tombstones.entry(header.data_id).or_insert((header.seq, at));
            *known = (*known).max((header.seq, at));
            return;
        }
        let part = self.parts.entry((header.data_id, header.attempt)).or_default();
        part.chunks.push((header.index, extent, record.intact));
        if header.kind == Kind::Last {
            part.last_in.push(segment);
            let stored = Stored {
                len: header.item_len(),
                md5: header.md5,
                crc64: header.item_crc,
                stored_at_ms: header.stored_at_ms,
            };
            part.last = Some(Final { seq: header.seq, index: header.index, stored });
        }
    }

    /// The index, and the highest number in use. Notes in `recovery` what was found.
    pub fn finish(self, recovery: &mut Recovery) -> (Index, u64) {
        let mut index = Index::default();
        let mut graves: HashMap<DataId, Grave> = HashMap::new();
        for (id, (seq, at)) in self.tombstones {
            graves.insert(id, Grave { seq, at, holds: Vec::new() });
        }
        let mut parts: Vec<_> = self.parts.into_iter().collect();
        parts.sort_unstable_by_key(|(key, _)| *key);
        for same_id in parts.chunk_by(|a, b| a.0.0 == b.0.0) {
            settle(same_id, graves.get_mut(&same_id[0].0.0), &mut index, recovery);
        }
        for (id, grave) in graves {
            index.dig(id, grave);
        }
        recovery.items = index.len() as u64;
        (index, self.highest)
    }
}

/// Decides among the attempts of one id.
fn settle(
    parts: &[((DataId, u64), Part)],
    mut grave: Option<&mut Grave>,
    index: &mut Index,
    recovery: &mut Recovery,
) {
    let id = parts[0].0.0;
    let mut best: Option<Entry> = None;
    let mut dead = Vec::new();
    for ((_, attempt), part) in parts {
        let Some(last) = part.last else {
            recovery.incomplete += 1;
            continue;
        };
        if let Some(grave) = grave.as_mut().filter(|grave| grave.seq > last.seq) {
            grave.holds.extend(&part.last_in);
            continue;
        }
        dead.extend(part.last_in.iter().map(|segment| (last.seq, *segment)));
        let entry = entry_of(*attempt, last, part);
        let rank = |entry: &Entry| (!entry.corrupt, entry.seq);
        if best.as_ref().is_none_or(|best| rank(best) < rank(&entry)) {
            best = Some(entry);
        }
    }
    let Some(best) = best else { return };
    if best.corrupt {
        recovery.corrupt.push(id);
    }
    let in_use = best.extents.as_slice().last().map(|extent| extent.segment);
    for (seq, segment) in dead {
        if seq != best.seq || Some(segment) != in_use {
            index.note_dead(id, seq, segment);
        }
    }
    index.insert(id, best);
}

/// The item of one attempt, with whatever is missing marked as lost.
fn entry_of(attempt: u64, last: Final, part: &Part) -> Entry {
    let mut extents: Vec<(Extent, bool)> = Vec::new();
    // The index is from a header whose checksum is right, so it is what a writer counted.
    extents.resize(last.index as usize + 1, (Extent::LOST, false));
    for (index, extent, intact) in &part.chunks {
        let full = *index == last.index || extent.len as usize == CHUNK;
        if let Some(slot) = extents.get_mut(*index as usize)
            && full
            && rank(*extent, *intact) > rank(slot.0, slot.1)
        {
            *slot = (*extent, *intact);
        }
    }
    let corrupt = extents.iter().any(|(_, intact)| !intact);
    let extents = Extents::new(extents.into_iter().map(|(extent, _)| extent).collect());
    Entry { attempt, seq: last.seq, stored: last.stored, extents, corrupt }
}

/// Of two copies of a chunk the intact one counts, then the one that compaction wrote.
fn rank(extent: Extent, intact: bool) -> (bool, u32, u32) {
    (intact, extent.segment, extent.pos)
}
