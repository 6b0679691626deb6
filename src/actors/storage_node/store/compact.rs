//! Upkeep in small steps: seals full segments, rewrites wasteful ones, drops empty ones.
//!
//! - COMPACT-1: the copies are synced before the index points to them, whatever the durability;
//!   the original goes only after that.
//! - COMPACT-2: the removal of a segment is durable before tombstones that it needed are let go.
//! - COMPACT-3: a segment is touched only when it takes no more records and has no pin.

use std::io;
use std::sync::Arc;

use super::append::Class;
use super::error::Error;
use super::index::Extent;
use super::record::{HEADER, Header};
use super::report::Progress;
use super::scan::{Found, Scanner};
use super::segment::{Pin, Segment, sync_dir};
use super::space::{Usage, pick};
use super::{SegmentStore, Shared, hint, locked};
use crate::types::now_ms;

/// The segment being rewritten and how far; survives from step to step.
#[derive(Default)]
pub struct Job {
    current: Option<(u32, u64)>,
}

/// Records that were copied and wait for the sync.
#[derive(Default)]
struct Batch {
    copies: Vec<(Found, Extent)>,
    pins: Vec<Pin>,
}

impl SegmentStore {
    /// Does about `max_bytes` worth of upkeep (reading and writing). To be called from time to
    /// time, and again at once (at the pace that the caller likes) while the answer says `more`.
    ///
    /// # Errors
    /// `Full` if there is no room to move anything; `Fatal`, `Io`.
    pub fn compact_step(&self, max_bytes: u64) -> Result<Progress, Error> {
        let shared = &self.shared;
        let mut job = locked(&shared.job);
        shared.sync.check()?;
        shared.restore_reserve();
        let mut spent = 0;
        let mut progress = Progress::default();
        while spent < max_bytes {
            if let Some(segment) = shared.unsealed() {
                spent += shared.seal(&segment)?;
                continue;
            }
            let Some((id, pos)) = job.current.or_else(|| shared.candidate().map(|id| (id, 0)))
            else {
                return Ok(progress);
            };
            job.current = None;
            let rewrite = shared.rewrite(id, pos, max_bytes - spent)?;
            spent += rewrite.spent;
            progress.moved_bytes += rewrite.moved;
            match rewrite.at {
                Some(at) => job.current = Some((id, at)),
                None => progress.dropped_segments += 1,
            }
        }
        progress.more =
            job.current.is_some() || shared.unsealed().is_some() || shared.candidate().is_some();
        Ok(progress)
    }
}

/// What one visit to a segment did.
struct Rewrite {
    moved: u64,
    spent: u64,
    /// Where to go on; `None`: the segment is gone.
    at: Option<u64>,
}

impl Shared {
    /// Segments that take no more records and that no record is on its way from, oldest first.
    fn resting(&self) -> Vec<Arc<Segment>> {
        let (active, ..) = self.active_use();
        let state = self.state();
        let resting = |s: &&Arc<Segment>| active.is_none_or(|a| s.id < a) && !s.is_pinned();
        state.segments.values().filter(resting).cloned().collect()
    }

    fn unsealed(&self) -> Option<Arc<Segment>> {
        self.resting().into_iter().find(|segment| !segment.is_sealed())
    }

    fn candidate(&self) -> Option<u32> {
        let resting = self.resting();
        let state = self.state();
        let usage = |segment: &Arc<Segment>| {
            let tally = state.index.tally(segment.id);
            let needed = tally.live + tally.graves;
            Usage { segment: segment.id, disk: segment.disk(), needed }
        };
        let usages: Vec<Usage> = resting.iter().map(usage).collect();
        pick(&usages, state.index.payload())
    }

    /// Makes a resting segment durable, gives back its unused end and writes its hint. Returns the
    /// bytes read.
    fn seal(&self, segment: &Arc<Segment>) -> Result<u64, Error> {
        self.sync.sync([segment])?;
        let end = segment.end();
        let failed = |error| Error::io("cannot seal", segment.path())(error);
        if segment.file_len().map_err(failed)? > end {
            segment.cut(end).map_err(failed)?;
        }
        let mut scanner = Scanner::new(segment.clone(), 0, segment.file_len().map_err(failed)?);
        let mut records = Vec::new();
        while let Some(found) = scanner.next_record() {
            records.push(found);
        }
        if let Err(error) = hint::write(segment, &records, scanner.end()) {
            // Opening takes longer without it; that is all.
            tracing::warn!(%error, segment = segment.id, "cannot write the hint of a segment");
        }
        segment.set_sealed();
        segment.refresh();
        self.recount(&locked(&self.append));
        Ok(scanner.bytes_read.max(1))
    }

    /// Copies live records of a segment from `pos` on, at most about `budget` bytes of work;
    /// drops the segment when its end is reached.
    fn rewrite(&self, id: u32, pos: u64, budget: u64) -> Result<Rewrite, Error> {
        let Some(segment) = self.state().segments.get(&id).cloned() else {
            return Ok(Rewrite { moved: 0, spent: 1, at: None });
        };
        // Nothing live: no need to read it.
        let end = if self.state().index.tally(id).live == 0 { pos } else { segment.end() };
        let mut scanner = Scanner::new(segment.clone(), pos, end);
        let mut batch = Batch::default();
        let (mut moved, mut at, mut refused) = (0, None, None);
        while let Some(found) = scanner.next_record() {
            if moved + scanner.bytes_read >= budget && moved > 0 {
                at = Some(found.pos);
                break;
            }
            if self.state().index.is_live(&found.header, id, found.pos) {
                let record = &mut scanner.record(&found).to_vec();
                match self.append(&found.header, record, Class::Upkeep) {
                    Ok((pin, to)) => batch.add(found, to, pin),
                    Err(error) => {
                        (refused, at) = (Some(error), Some(found.pos));
                        break;
                    }
                }
                moved += found.header.span();
            }
        }
        self.sync.sync(batch.pins.iter().map(Pin::segment))?;
        let mut state = self.state();
        for (found, to) in &batch.copies {
            state.index.relocate(&found.header, id, found.pos, *to);
        }
        drop(state);
        drop(batch);
        let spent = (moved + scanner.bytes_read).max(1);
        // What was copied counts in any case: the index must know of every copy on disk.
        if let Some(error) = refused.filter(|e| moved == 0 || !matches!(e, Error::Full)) {
            return Err(error);
        }
        if at.is_none() {
            self.give_up_unreadable(id);
            self.rebury(id)?;
            self.remove(&segment)?;
        }
        Ok(Rewrite { moved, spent, at })
    }

    /// Live records that the walk did not find are damaged beyond recognition.
    fn give_up_unreadable(&self, id: u32) {
        let mut state = self.state();
        if state.index.tally(id).live > 0 {
            for data_id in state.index.lose(id) {
                tracing::error!(%data_id, segment = id, "record lost: its header is damaged");
            }
        }
    }

    /// Writes the tombstones of a segment again that are still needed elsewhere.
    fn rebury(&self, id: u32) -> Result<(), Error> {
        let graves = self.state().index.graves_in(id);
        let mut moved = Vec::with_capacity(graves.len());
        for (data_id, seq) in graves {
            let header = Header::tombstone(data_id, seq, now_ms());
            let (pin, at) = self.append(&header, &mut [0; HEADER], Class::Upkeep)?;
            moved.push((data_id, seq, pin, (at.segment, at.pos)));
        }
        self.sync.sync(moved.iter().map(|(_, _, pin, _)| pin.segment()))?;
        let mut state = self.state();
        for (data_id, seq, _, at) in &moved {
            state.index.move_grave(*data_id, *seq, *at);
        }
        Ok(())
    }

    fn remove(&self, segment: &Segment) -> Result<(), Error> {
        let remove = || -> io::Result<()> {
            hint::remove(segment.path())?;
            match std::fs::remove_file(segment.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            sync_dir(&self.dir)
        };
        remove().map_err(Error::io("cannot remove", segment.path()))?;
        let mut state = self.state();
        state.segments.remove(&segment.id);
        state.index.forget(segment.id);
        drop(state);
        self.recount(&locked(&self.append));
        Ok(())
    }
}

impl Batch {
    fn add(&mut self, found: Found, to: Extent, pin: Pin) {
        self.copies.push((found, to));
        if self.pins.last().is_none_or(|last| last.segment().id != to.segment) {
            self.pins.push(pin);
        }
    }
}
