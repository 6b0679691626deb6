//! What is filled: a share of a store's budget, or the volume of a file without a name. The thin
//! shell around [`super::level`].

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::off_t;

use super::Quota;
use super::volume::{self, Floor, Usage, percent};
use crate::faults::effect::Refusal;
use crate::faults::unlinked;

/// How full it is, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Room {
    /// What 100 percent are.
    pub(super) total: u64,
    /// By anybody, us too.
    pub(super) used: u64,
    /// What can still be had.
    pub(super) available: u64,
    /// It is taken in multiples of these.
    pub(super) block: u64,
    /// So much must stay available.
    pub(super) floor: u64,
}

impl Room {
    /// How full it is.
    pub(super) fn percent(&self) -> f64 {
        percent(self.used, self.total)
    }
}

/// Something to fill. Dropping it gives all back (DISK-3).
pub(super) trait Tank: Send {
    /// As it is now, measured.
    fn room(&self) -> io::Result<Room>;
    /// How many bytes of it are ours.
    fn held(&self) -> u64;
    /// Takes or gives back, so that so many are ours; all or nothing.
    fn hold(&mut self, bytes: u64) -> io::Result<()>;
    /// So that none is ours. Cannot fail; what it cannot give back now it does by being dropped.
    fn give_back(&mut self);
    /// What else there is to say.
    fn aside(&self) -> Vec<(&'static str, f64)>;
}

/// Bytes of a store's budget.
pub(super) struct Share {
    quota: Arc<dyn Quota>,
    held: u64,
}

impl Share {
    pub(super) fn of(quota: Arc<dyn Quota>) -> Result<Share, Refusal> {
        if quota.budget_bytes() == 0 {
            let why = "the budget of the store is 0 bytes, expected at least 1";
            return Err(Refusal::Invalid(why.to_owned()));
        }
        Ok(Share { quota, held: 0 })
    }
}

impl Tank for Share {
    fn room(&self) -> io::Result<Room> {
        let (total, used) = (self.quota.budget_bytes(), self.quota.used_bytes());
        Ok(Room { total, used, available: total.saturating_sub(used), block: 1, floor: 0 })
    }

    fn held(&self) -> u64 {
        self.held
    }

    fn hold(&mut self, bytes: u64) -> io::Result<()> {
        self.held = bytes;
        self.quota.reserve(bytes);
        Ok(())
    }

    fn give_back(&mut self) {
        self.held = 0;
        self.quota.reserve(0);
    }

    fn aside(&self) -> Vec<(&'static str, f64)> {
        vec![("bytes", self.held as f64)]
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Bytes of a volume, held by a file that has them but no name. They go with it.
pub(super) struct Filler {
    file: File,
    floor: Floor,
    held: u64,
}

impl Filler {
    pub(super) fn new(folder: &Path, floor: Floor) -> Result<Filler, Refusal> {
        if !(0.0..=1.0).contains(&floor.part) {
            let why = format!("floor: expected a part from 0 to 1, got {}", floor.part);
            return Err(Refusal::Invalid(why));
        }
        let refused = |what| {
            move |e: io::Error| Refusal::System { what, why: format!("{}: {e}", folder.display()) }
        };
        let file = unlinked::open(folder).map_err(refused("make a file"))?;
        let mut filler = Filler { file, floor, held: 0 };
        let room = filler.room().map_err(refused("look at the volume"))?;
        if room.total == 0 {
            let why = format!("{}: a volume of 0 bytes, expected one with room", folder.display());
            return Err(Refusal::Invalid(why));
        }
        if room.available < room.floor.saturating_add(room.block) {
            return Err(Refusal::Floor(format!(
                "{}: {} bytes are available, and {} are to be left to others",
                folder.display(),
                room.available,
                room.floor
            )));
        }
        // Whether it can at all: writing the bytes instead would be another fault.
        filler.hold(room.block).map_err(refused("fallocate"))?;
        filler.give_back();
        Ok(filler)
    }
}

impl Tank for Filler {
    fn room(&self) -> io::Result<Room> {
        let usage = Usage::of_file(&self.file)?;
        Ok(Room {
            total: usage.used().saturating_add(usage.available),
            used: usage.used(),
            available: usage.available,
            block: usage.block,
            floor: self.floor.of(usage.size),
        })
    }

    fn held(&self) -> u64 {
        self.held
    }

    fn hold(&mut self, bytes: u64) -> io::Result<()> {
        if bytes < self.held {
            self.file.set_len(bytes)?;
        } else if bytes > self.held {
            let offset = |n: u64| off_t::try_from(n).map_err(io::Error::other);
            let (from, length) = (offset(self.held)?, offset(bytes - self.held)?);
            if let Err(e) = fallocate(&self.file, FallocateFlags::empty(), from, length) {
                self.file.set_len(self.held)?; // A part of it may have been had
                return Err(e.into());
            }
        }
        self.held = bytes;
        Ok(())
    }

    fn give_back(&mut self) {
        if self.file.set_len(0).is_ok() {
            self.held = 0;
        }
    }

    fn aside(&self) -> Vec<(&'static str, f64)> {
        let mut aside = vec![("bytes", self.held as f64)];
        if let Ok(usage) = Usage::of_file(&self.file) {
            aside.push(("percent_of_blocks", volume::percent_of_blocks(&usage)));
            aside.push(("percent_unavailable", volume::percent_unavailable(&usage)));
        }
        if let Ok(found) = self.file.metadata() {
            aside.push(("allocated_bytes", found.blocks() as f64 * 512.0)); // As stat(2) counts
        }
        aside
    }
}
