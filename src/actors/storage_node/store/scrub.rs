//! The scrubber: reads everything that is stored, at the pace of its caller, and names what is
//! bad.
//!
//! SCRUB-1: it goes by ids and not by files, so that a record whose header is gone is missed by
//! nobody.

use super::error::Error;
use super::record::HEADER;
use super::report::{ScrubCursor, ScrubStep};
use super::{SegmentStore, Shared};
use crate::types::DataId;

impl SegmentStore {
    /// Verifies chunks from `cursor` on until `max_bytes` are read or all items are done.
    pub fn scrub_step(&self, cursor: ScrubCursor, max_bytes: u64) -> ScrubStep {
        let mut step = ScrubStep::default();
        let (mut id, mut index) = cursor.next;
        while let Some((data_id, chunks)) = self.shared.item_from(DataId(id)) {
            if data_id.0 != id {
                (id, index) = (data_id.0, 0);
            }
            while index < chunks {
                if step.bytes_read >= max_bytes {
                    step.cursor = Some(ScrubCursor { next: (id, index) });
                    return step;
                }
                step.bytes_read += HEADER as u64;
                match self.shared.chunk(data_id, index) {
                    Ok(chunk) => step.bytes_read += chunk.len() as u64,
                    Err(Error::NotFound(_)) => break,
                    Err(_) => {
                        step.corrupt.push(data_id);
                        break;
                    }
                }
                index += 1;
            }
            let Some(next) = id.checked_add(1) else { break };
            (id, index) = (next, 0);
        }
        step
    }
}

impl Shared {
    /// The first item with an id not below `from`, and the number of its chunks.
    fn item_from(&self, from: DataId) -> Option<(DataId, u32)> {
        let state = self.state();
        let (id, entry) = state.index.from(from).next()?;
        Some((id, entry.extents.as_slice().len() as u32))
    }
}
