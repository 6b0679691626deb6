//! Deletes: a durable tombstone first, then the index, then the bytes.
//!
//! DELETE-1: space is given back only after the tombstone is durable; until then a crash may undo
//! the delete, but must not leave a damaged item.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Error;
use super::index::Entry;
use super::record::HEADER;
use super::segment::{Pin, Segment};
use super::writer::PUNCH_BYTES;
use super::{SegmentStore, Shared, locked};
use crate::types::DataId;

impl SegmentStore {
    /// Removes an item; returns once that is durable. Unknown ids are fine.
    ///
    /// # Errors
    /// `Full` only if even the reserve is used up; `Fatal`, `Io`. The item is then still there.
    pub fn delete(&self, data_id: DataId) -> Result<(), Error> {
        self.delete_all(&[data_id]).map(|_| ())
    }

    /// Removes items with one sync for all; returns how many were here.
    ///
    /// # Errors
    /// As [`SegmentStore::delete`]; some of the items may be gone, and a retry goes on.
    pub fn delete_all(&self, data_ids: &[DataId]) -> Result<usize, Error> {
        let shared = &self.shared;
        let claim = shared.claim(data_ids.iter().copied());
        let known: Vec<DataId> = {
            let state = shared.state();
            claim.ids.iter().copied().filter(|id| state.index.get(*id).is_some()).collect()
        };
        if known.is_empty() {
            return shared.sync.check().map(|()| 0);
        }
        let mut graves = Vec::with_capacity(known.len());
        let mut refused = None;
        for id in known {
            match shared.append_tombstone(id) {
                Ok((seq, pin, at)) => graves.push((id, seq, pin, at)),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        shared.commit(graves.iter().map(|(_, _, pin, _)| pin.segment()))?;
        let mut dead = Vec::with_capacity(graves.len());
        let mut state = shared.state();
        for (id, seq, _, at) in &graves {
            dead.extend(state.index.bury(*id, *seq, (at.segment, at.pos)));
        }
        drop(state);
        drop(claim);
        shared.punch(&dead);
        refused.map_or(Ok(dead.len()), Err)
    }
}

impl Shared {
    /// Gives the large chunks of dead items back to the file system.
    fn punch(&self, dead: &[Entry]) {
        let mut touched: BTreeMap<u32, Pin> = BTreeMap::new();
        for entry in dead {
            for extent in entry.extents.as_slice().iter().filter(|e| e.len >= PUNCH_BYTES) {
                if let Some(segment) = self.pinned(&mut touched, extent.segment) {
                    segment.punch(u64::from(extent.pos) + HEADER as u64, u64::from(extent.len));
                }
            }
        }
        if !touched.is_empty() {
            touched.values().for_each(|pin| pin.segment().refresh());
            self.recount(&locked(&self.append));
        }
    }

    fn pinned(&self, pins: &mut BTreeMap<u32, Pin>, id: u32) -> Option<Arc<Segment>> {
        if let Some(pin) = pins.get(&id) {
            return Some(pin.segment().clone());
        }
        let segment = self.state().segments.get(&id)?.clone();
        pins.insert(id, Pin::new(segment.clone()));
        Some(segment)
    }
}
