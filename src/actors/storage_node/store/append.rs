//! Where the next record goes: reserves room in the active segment, rolls to a new one, writes.
//!
//! - APPEND-1: room is reserved under the append lock, the bytes are written outside of it.
//! - APPEND-2: new data never use the reserve (`Class::Data`); tombstones and compaction may.
//! - APPEND-3: a reserved room that is not written stays a gap; recovery steps over it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::error::{Error, is_full};
use super::index::Extent;
use super::record::{HEADER, Header};
use super::segment::{Pin, Segment, sync_dir};
use super::{Shared, hint, locked};
use crate::types::{DataId, now_ms};

/// What new data leave free on the file system, in bytes; of small ones a twentieth.
const SPARE: u64 = 64 << 20;

/// The name of the reserve file.
const RESERVE: &str = "RESERVE";

/// Who asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// New data.
    Data,
    /// Tombstones and compaction, which free room in the end.
    Upkeep,
}

/// The append position.
pub struct Active {
    /// The segment that takes records; `None` before the first one.
    pub segment: Option<Arc<Segment>>,
    /// Where the next record goes.
    pub tail: u64,
    /// Disk space is claimed up to here.
    pub allocated: u64,
    /// The number of the next segment.
    pub next_id: u32,
}

impl Shared {
    /// Writes a record; `record` is room for the header, then the payload. Not durable yet.
    pub fn append(
        &self,
        header: &Header,
        record: &mut [u8],
        class: Class,
    ) -> Result<(Pin, Extent), Error> {
        let (pin, pos) = self.reserve(header.span(), class)?;
        let segment = pin.segment();
        record[..HEADER].copy_from_slice(&header.encode(segment.place(pos)));
        segment.write(record, pos).map_err(|error| self.write_failed(segment, error))?;
        let extent = Extent { segment: segment.id, pos: pos as u32, len: header.len };
        Ok((pin, extent))
    }

    /// Writes a tombstone; not durable yet.
    pub fn append_tombstone(&self, data_id: DataId) -> Result<(u64, Pin, Extent), Error> {
        let seq = self.next_number();
        let header = Header::tombstone(data_id, seq, now_ms());
        let (pin, extent) = self.append(&header, &mut [0; HEADER], Class::Upkeep)?;
        Ok((seq, pin, extent))
    }

    /// A full disk refuses this write; after any other error nobody knows what is on disk
    /// (STORE-4).
    fn write_failed(&self, segment: &Segment, error: io::Error) -> Error {
        if is_full(&error) {
            return Error::Full;
        }
        let reason = format!("cannot write {}: {error}", segment.path().display());
        self.sync.stop(reason.clone());
        Error::Fatal(reason)
    }

    fn reserve(&self, span: u64, class: Class) -> Result<(Pin, u64), Error> {
        self.sync.check()?;
        let mut active = locked(&self.append);
        if class == Class::Data && span > self.quota_left(active.tail) {
            return Err(Error::Full);
        }
        let fits = |a: &Active| a.tail == 0 || a.tail + span <= self.options.segment_bytes;
        let segment = match &active.segment {
            Some(segment) if fits(&active) => segment.clone(),
            _ => self.roll(&mut active)?,
        };
        if active.tail + span > active.allocated {
            self.grow(&mut active, &segment, span, class)?;
        }
        let pos = active.tail;
        active.tail += span;
        segment.set_end(active.tail);
        Ok((Pin::new(segment), pos))
    }

    /// Starts a new segment; the old one takes no more records.
    fn roll(&self, active: &mut Active) -> Result<Arc<Segment>, Error> {
        let id = active.next_id;
        let create = || -> io::Result<Segment> {
            let hook = self.options.hook.clone();
            let segment = Segment::open(&self.dir, id, self.salt, hook, true)?;
            hint::remove(segment.path())?;
            sync_dir(&self.dir)?;
            Ok(segment)
        };
        let segment = create().map_err(|error| match is_full(&error) {
            true => Error::Full,
            false => Error::io("cannot start a segment in", &self.dir)(error),
        });
        // The number is used up even so: the file may be there.
        active.next_id += 1;
        let segment = Arc::new(segment?);
        self.state().segments.insert(id, segment.clone());
        if let Some(full) = active.segment.replace(segment.clone()) {
            full.refresh();
        }
        (active.tail, active.allocated) = (0, 0);
        self.recount(active);
        Ok(segment)
    }

    /// Claims disk space for at least `span` more bytes.
    fn grow(
        &self,
        active: &mut Active,
        segment: &Segment,
        span: u64,
        class: Class,
    ) -> Result<(), Error> {
        if class == Class::Data && self.reserve_spent.load(Ordering::Acquire) {
            return Err(Error::Full);
        }
        let need = active.tail + span - active.allocated;
        let left = self.options.segment_bytes.saturating_sub(active.allocated);
        let step = need.max(left.min(self.options.preallocate_bytes));
        let disk_left = self.disk_left();
        if class == Class::Data && need > disk_left {
            return Err(Error::Full); // the others on this disk must go on: deletes, to begin with
        }
        let step = step.min(self.quota_left(active.tail)).min(disk_left).max(need);
        let allocate = |len| segment.allocate(active.allocated, len).map(|()| len);
        let full = |error: &io::Error| is_full(error);
        let mut claimed = allocate(step);
        if claimed.as_ref().is_err_and(full) {
            claimed = allocate(need);
        }
        if claimed.as_ref().is_err_and(full) && class == Class::Upkeep {
            self.spend_reserve();
            claimed = allocate(need);
        }
        match claimed {
            Ok(len) => active.allocated += len,
            Err(error) if is_full(&error) => return Err(Error::Full),
            Err(error) => return Err(Error::io("cannot extend", segment.path())(error)),
        }
        Ok(())
    }

    /// Bytes that the quota leaves to new data.
    fn quota_left(&self, tail: u64) -> u64 {
        let Some(quota) = self.options.quota_bytes else { return u64::MAX };
        let used = self.settled.load(Ordering::Acquire) + tail;
        quota.saturating_sub(self.options.reserve_bytes).saturating_sub(used)
    }

    /// Bytes that the file system leaves to new data: metadata and tasks, which a delete needs, may
    /// be on the same one.
    fn disk_left(&self) -> u64 {
        statvfs(&self.dir).map_or(0, |disk| {
            let spare = SPARE.min(disk.blocks() * disk.fragment_size() / 20);
            (disk.blocks_available() * disk.fragment_size()).saturating_sub(spare)
        })
    }

    /// Bytes that may still be written, by quota and file system.
    pub fn free_bytes(&self) -> u64 {
        if self.reserve_spent.load(Ordering::Acquire) {
            return 0;
        }
        let (tail, allocated) = self.active_use();
        let claimed = allocated.saturating_sub(tail);
        self.disk_left().saturating_add(claimed).min(self.quota_left(tail))
    }

    /// The active segment, its tail, and up to where disk space is claimed for it.
    pub fn active_use(&self) -> (u64, u64) {
        let active = locked(&self.append);
        (active.tail, active.allocated)
    }

    /// The first segment that takes records or will: those before it are full.
    pub fn first_active(&self) -> u32 {
        let active = locked(&self.append);
        active.segment.as_ref().map_or(active.next_id, |s| s.id)
    }

    /// Sums up anew what the segments other than the active one occupy.
    pub fn recount(&self, active: &Active) {
        let active_id = active.segment.as_ref().map(|s| s.id);
        let state = self.state();
        let settled = state.segments.values().filter(|s| Some(s.id) != active_id);
        self.settled.store(settled.map(|s| s.disk()).sum(), Ordering::Release);
    }

    /// Gives the reserve to upkeep.
    fn spend_reserve(&self) {
        self.reserve_spent.store(true, Ordering::Release);
        let file = OpenOptions::new().write(true).open(self.dir.join(RESERVE));
        if let Err(error) = file.and_then(|file| file.set_len(0)) {
            tracing::warn!(%error, dir = %self.dir.display(), "cannot give up the reserve file");
        }
    }

    /// Takes the reserve back once there is room again.
    pub fn restore_reserve(&self) {
        if self.reserve_spent.load(Ordering::Acquire)
            && make_reserve(&self.dir, self.options.reserve_bytes).is_ok()
        {
            self.reserve_spent.store(false, Ordering::Release);
        }
    }
}

/// Makes the reserve file of `len` bytes.
///
/// # Errors
/// A full disk; a file system that cannot reserve is no error, it then has none.
pub fn make_reserve(dir: &Path, len: u64) -> io::Result<()> {
    let file: File =
        OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(RESERVE))?;
    if len == 0 {
        return file.set_len(0);
    }
    match fallocate(&file, FallocateFlags::empty(), 0, len as i64) {
        Ok(()) | Err(nix::Error::EOPNOTSUPP) => file.set_len(len),
        Err(error) => {
            file.set_len(0)?;
            Err(error.into())
        }
    }
}
