//! Upkeep in small steps: seals full segments, rewrites wasteful ones, drops empty ones.
//!
//! - COMPACT-1: the copies are synced before the index points to them, whatever the durability;
//!   the original goes only after that.
//! - COMPACT-2: the removal of a segment is durable before tombstones that it needed are let go.
//! - COMPACT-3: a segment is touched only when it takes no more records and has no pin.
//! - COMPACT-4: a segment that could not be read whole gets no hint, and goes only after several
//!   attempts with pauses between: an error of the disk may pass.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::append::Class;
use super::error::Error;
use super::index::Extent;
use super::record::{HEADER, Header};
use super::report::Progress;
use super::scan::{Found, Scanner};
use super::segment::{Pin, Segment, sync_dir};
use super::space::{Usage, pick};
use super::{SegmentStore, Shared, hint, locked};
use crate::points::{self, Point};
use crate::types::now_ms;

/// How often a segment with unreadable blocks is tried before its unreadable records are given up.
const TRIES: u32 = 5;
/// The pause after the first such attempt; doubles each time.
const PAUSE: Duration = Duration::from_secs(60);

/// The segment being rewritten and how far; survives from step to step.
#[derive(Default)]
pub struct Job {
    current: Option<Place>,
    /// Segments that could not be read whole: how often, and when to try again.
    spared: BTreeMap<u32, (u32, Instant)>,
}

/// How far the rewriting of a segment is.
#[derive(Clone, Copy)]
struct Place {
    segment: u32,
    pos: u64,
    /// Some block before `pos` could not be read.
    unreadable: bool,
}

impl Job {
    fn is_spared(&self, segment: u32) -> bool {
        self.spared.get(&segment).is_some_and(|(_, until)| Instant::now() < *until)
    }

    /// Another attempt found blocks that cannot be read. Says whether the segment is kept.
    fn spare(&mut self, segment: u32) -> bool {
        let (tries, until) = self.spared.entry(segment).or_insert((0, Instant::now()));
        *tries += 1;
        *until = Instant::now() + PAUSE * 2u32.pow((*tries).min(TRIES) - 1);
        *tries < TRIES
    }
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
            let begin = |segment| Place { segment, pos: 0, unreadable: false };
            let Some(place) = job.current.take().or_else(|| shared.candidate(&job).map(begin))
            else {
                return Ok(progress);
            };
            let rewrite = shared.rewrite(place, max_bytes - spent)?;
            spent += rewrite.spent;
            progress.moved_bytes += rewrite.moved;
            match rewrite.at {
                Some(at) => job.current = Some(at),
                None if rewrite.unreadable && job.spare(place.segment) => {
                    tracing::warn!(segment = place.segment, "blocks cannot be read; it is kept");
                }
                None => {
                    shared.drop_segment(place.segment)?;
                    job.spared.remove(&place.segment);
                    progress.dropped_segments += 1;
                }
            }
        }
        progress.more = job.current.is_some()
            || shared.unsealed().is_some()
            || shared.candidate(&job).is_some();
        Ok(progress)
    }
}

/// What one visit to a segment did.
struct Rewrite {
    moved: u64,
    spent: u64,
    /// Where to go on; `None`: its end was reached.
    at: Option<Place>,
    /// Some block could not be read: what it held was not copied.
    unreadable: bool,
}

impl Shared {
    /// Segments that take no more records and that no record is on its way from, oldest first.
    fn resting(&self) -> Vec<Arc<Segment>> {
        let first_active = self.first_active();
        let state = self.state();
        let resting = |s: &&Arc<Segment>| s.id < first_active && !s.is_pinned();
        state.segments.values().filter(resting).cloned().collect()
    }

    fn unsealed(&self) -> Option<Arc<Segment>> {
        self.resting().into_iter().find(|segment| !segment.is_sealed())
    }

    fn candidate(&self, job: &Job) -> Option<u32> {
        let mut resting = self.resting();
        resting.retain(|segment| !job.is_spared(segment.id));
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
        // Opening takes longer without a hint; that is all.
        if scanner.unreadable {
            tracing::warn!(segment = segment.id, "blocks cannot be read; it gets no hint");
            let _ = hint::remove(segment.path());
        } else if let Err(error) = hint::write(segment, &records, scanner.end()) {
            tracing::warn!(%error, segment = segment.id, "cannot write the hint of a segment");
        }
        segment.set_sealed();
        segment.refresh();
        self.recount(&locked(&self.append));
        Ok(scanner.bytes_read.max(1))
    }

    /// Copies live records of a segment from a place on, at most about `budget` bytes of work.
    fn rewrite(&self, place: Place, budget: u64) -> Result<Rewrite, Error> {
        let Place { segment: id, pos, .. } = place;
        let Some(segment) = self.state().segments.get(&id).cloned() else {
            return Ok(Rewrite { moved: 0, spent: 1, at: None, unreadable: false });
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
                if scanner.unreadable && !found.header.fits(&record[HEADER..]) {
                    continue; // COMPACT-4: not to be buried under zeros
                }
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
            points::at(Point::Copied);
            state.index.relocate(&found.header, id, found.pos, *to);
        }
        drop(state);
        drop(batch);
        let spent = (moved + scanner.bytes_read).max(1);
        // What was copied counts in any case: the index must know of every copy on disk.
        if let Some(error) = refused.filter(|e| moved == 0 || !matches!(e, Error::Full)) {
            return Err(error);
        }
        // Records behind an unreadable block that were copied count; the others are still there.
        let unreadable = place.unreadable || scanner.unreadable;
        let at = at.map(|pos| Place { pos, unreadable, ..place });
        Ok(Rewrite { moved, spent, at, unreadable })
    }

    /// Removes a segment that was rewritten to its end.
    fn drop_segment(&self, id: u32) -> Result<(), Error> {
        let Some(segment) = self.state().segments.get(&id).cloned() else { return Ok(()) };
        self.give_up_unreadable(id);
        self.rebury(id)?;
        self.remove(&segment)
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
            points::at(Point::Removing);
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
