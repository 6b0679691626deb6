//! What is where: items, tombstones and the live bytes of each segment. Pure: no I/O, no clock.
//!
//! Owned by the store's state lock; recovery builds one, writers, deletes and compaction change
//! it.
//!
//! - INDEX-1: an item is here only when all its records are durable.
//! - INDEX-2: a tombstone is needed while any segment on disk may hold a `Last` record that it
//!   kills (`Grave::holds`); compaction writes needed ones again ([`Index::graves_in`]).
//! - INDEX-3: `live` of a segment is the sum of the spans of its records that items refer to.

use std::collections::{BTreeMap, HashMap};

use super::record::{HEADER, Header, Kind, span};
use super::report::Stored;
use crate::types::DataId;

/// The place of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The segment; 0 where the record is lost.
    pub segment: u32,
    /// Position of the header.
    pub pos: u32,
    /// Payload bytes.
    pub len: u32,
}

impl Extent {
    /// Stands for a record that is not on disk any more.
    pub const LOST: Extent = Extent { segment: 0, pos: 0, len: 0 };

    /// Bytes that the record takes in its segment.
    pub fn span(&self) -> u64 {
        span(self.len as usize)
    }
}

/// The chunks of an item, in order. Most items have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extents {
    /// A single chunk.
    One(Extent),
    /// Several chunks.
    Many(Box<[Extent]>),
}

impl Extents {
    /// From a list of at least one extent.
    pub fn new(list: Vec<Extent>) -> Extents {
        match list.as_slice() {
            [one] => Extents::One(*one),
            _ => Extents::Many(list.into()),
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Extent] {
        match self {
            Extents::One(extent) => std::slice::from_ref(extent),
            Extents::Many(list) => list,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Extent] {
        match self {
            Extents::One(extent) => std::slice::from_mut(extent),
            Extents::Many(list) => list,
        }
    }
}

/// A complete item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The upload that wrote it.
    pub attempt: u64,
    /// The order of its `Last` record.
    pub seq: u64,
    /// Length, digests, time.
    pub stored: Stored,
    /// Where its chunks are.
    pub extents: Extents,
    /// Known to be damaged: another copy may take its place.
    pub corrupt: bool,
}

impl Entry {
    /// The segment of the `Last` record, unless it is lost.
    fn last_segment(&self) -> Option<u32> {
        self.extents.as_slice().last().map(|e| e.segment).filter(|segment| *segment != 0)
    }
}

/// A tombstone that is still needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grave {
    /// It kills `Last` records with a smaller `seq`.
    pub seq: u64,
    /// Where the tombstone is: segment and position.
    pub at: (u32, u32),
    /// The segments that hold `Last` records it kills.
    pub holds: Vec<u32>,
}

/// Live bytes of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Spans of records that items refer to.
    pub live: u64,
    /// Spans of tombstones that are still needed.
    pub graves: u64,
}

/// The index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    items: BTreeMap<DataId, Entry>,
    graves: HashMap<DataId, Grave>,
    /// Segments with dead `Last` records that no tombstone kills (copies left by compaction,
    /// versions that were replaced): they pass to the tombstone when the item is deleted.
    stray: HashMap<DataId, Vec<u32>>,
    tallies: BTreeMap<u32, Tally>,
    payload: u64,
    corrupt: u64,
}

impl Index {
    /// The entry of an item.
    pub fn get(&self, id: DataId) -> Option<&Entry> {
        self.items.get(&id)
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes of all items.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Number of items known to be corrupt.
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Number of tombstones still needed.
    pub fn graves(&self) -> usize {
        self.graves.len()
    }

    /// Live bytes of a segment.
    pub fn tally(&self, segment: u32) -> Tally {
        self.tallies.get(&segment).copied().unwrap_or_default()
    }

    /// Items with ids from `from` on, in order.
    pub fn from(&self, from: DataId) -> impl Iterator<Item = (DataId, &Entry)> {
        self.items.range(from..).map(|(id, entry)| (*id, entry))
    }

    /// Adds a complete item. The id must be free.
    pub fn insert(&mut self, id: DataId, entry: Entry) {
        for extent in entry.extents.as_slice() {
            self.add_live(*extent);
        }
        self.payload += entry.stored.len;
        self.corrupt += u64::from(entry.corrupt);
        let before = self.items.insert(id, entry);
        assert!(before.is_none(), "data {id} was inserted over another item");
    }

    /// Removes an item whose tombstone of order `seq` is durable at `at`.
    pub fn bury(&mut self, id: DataId, seq: u64, at: (u32, u32)) -> Option<Entry> {
        let entry = self.items.remove(&id)?;
        for extent in entry.extents.as_slice() {
            self.sub_live(*extent);
        }
        self.payload -= entry.stored.len;
        self.corrupt -= u64::from(entry.corrupt);
        let mut holds = self.stray.remove(&id).unwrap_or_default();
        holds.extend(entry.last_segment());
        if let Some(older) = self.graves.remove(&id) {
            self.tallies.entry(older.at.0).or_default().graves -= HEADER as u64;
            holds.extend(older.holds);
        }
        self.dig(id, Grave { seq, at, holds });
        Some(entry)
    }

    /// Adds a tombstone, unless nothing is left for it to kill.
    pub fn dig(&mut self, id: DataId, mut grave: Grave) {
        grave.holds.sort_unstable();
        grave.holds.dedup();
        if !grave.holds.is_empty() {
            self.tallies.entry(grave.at.0).or_default().graves += HEADER as u64;
            self.graves.insert(id, grave);
        }
    }

    /// Notes a dead `Last` record of `id` and `seq` in `segment`.
    pub fn note_dead(&mut self, id: DataId, seq: u64, segment: u32) {
        let holds = match self.graves.get_mut(&id) {
            Some(grave) if grave.seq > seq => &mut grave.holds,
            _ => self.stray.entry(id).or_default(),
        };
        if !holds.contains(&segment) {
            holds.push(segment);
        }
    }

    /// Marks an item as damaged, if it still is the one of this `attempt`.
    pub fn mark_corrupt(&mut self, id: DataId, attempt: u64) {
        if let Some(entry) = self.items.get_mut(&id)
            && entry.attempt == attempt
            && !entry.corrupt
        {
            entry.corrupt = true;
            self.corrupt += 1;
        }
    }

    /// Whether an item refers to the record at `segment`, `pos`.
    pub fn is_live(&self, header: &Header, segment: u32, pos: u64) -> bool {
        let Some(entry) = self.items.get(&header.data_id) else { return false };
        let extent = entry.extents.as_slice().get(header.index as usize);
        header.kind != Kind::Tombstone
            && entry.attempt == header.attempt
            && extent.is_some_and(|e| e.segment == segment && u64::from(e.pos) == pos)
    }

    /// A record of an item was copied from `segment`, `pos` to `to`, and the copy is durable:
    /// from now on the copy counts, if the original still does.
    pub fn relocate(&mut self, header: &Header, segment: u32, pos: u64, to: Extent) {
        let id = header.data_id;
        let live = self.is_live(header, segment, pos);
        if live && let Some(entry) = self.items.get_mut(&id) {
            let slot = &mut entry.extents.as_mut_slice()[header.index as usize];
            let from = std::mem::replace(slot, to);
            self.sub_live(from);
            self.add_live(to);
        }
        if header.kind == Kind::Last {
            // One of the two is dead now (the copy, if the item was deleted meanwhile), and the
            // tombstone must outlive it.
            self.note_dead(id, header.seq, if live { segment } else { to.segment });
        }
    }

    /// The tombstones in `segment` that kill records elsewhere: they must be written again before
    /// the segment goes.
    pub fn graves_in(&self, segment: u32) -> Vec<(DataId, u64)> {
        let needed = |grave: &Grave| {
            grave.at.0 == segment && grave.holds.iter().any(|held| *held != segment)
        };
        self.graves.iter().filter(|(_, g)| needed(g)).map(|(id, g)| (*id, g.seq)).collect()
    }

    /// The tombstone of order `seq` was written again at `to`, durably.
    pub fn move_grave(&mut self, id: DataId, seq: u64, to: (u32, u32)) {
        if let Some(grave) = self.graves.get_mut(&id).filter(|grave| grave.seq == seq) {
            let from = std::mem::replace(&mut grave.at, to);
            self.tallies.entry(from.0).or_default().graves -= HEADER as u64;
            self.tallies.entry(to.0).or_default().graves += HEADER as u64;
        }
    }

    /// Gives up the records that items still have in `segment` (they could not be read): those
    /// items are corrupt.
    pub fn lose(&mut self, segment: u32) -> Vec<DataId> {
        let mut lost = Vec::new();
        for (id, entry) in &mut self.items {
            let before = lost.len();
            for extent in entry.extents.as_mut_slice() {
                if extent.segment == segment {
                    *extent = Extent::LOST;
                    lost.resize(before + 1, *id);
                }
            }
            if lost.len() > before && !entry.corrupt {
                entry.corrupt = true;
                self.corrupt += 1;
            }
        }
        self.tallies.entry(segment).or_default().live = 0;
        lost
    }

    /// The segment is gone from disk, durably.
    pub fn forget(&mut self, segment: u32) {
        self.tallies.remove(&segment);
        self.stray.retain(|_, holds| {
            holds.retain(|s| *s != segment);
            !holds.is_empty()
        });
        let tallies = &mut self.tallies;
        self.graves.retain(|_, grave| {
            grave.holds.retain(|s| *s != segment);
            let needed = !grave.holds.is_empty();
            if !needed && let Some(tally) = tallies.get_mut(&grave.at.0) {
                tally.graves -= HEADER as u64;
            }
            needed
        });
    }

    fn add_live(&mut self, extent: Extent) {
        if extent.segment != 0 {
            self.tallies.entry(extent.segment).or_default().live += extent.span();
        }
    }

    fn sub_live(&mut self, extent: Extent) {
        if extent.segment != 0 {
            self.tallies.entry(extent.segment).or_default().live -= extent.span();
        }
    }
}

#[cfg(test)]
mod tests;
