//! Operations on a disk at a commanded rate: one kind of them, on files without a name of our own
//! in a given folder, so that whoever uses the device waits longer.
//!
//! The threads, `fault-io-0` and on, draw numbered operations from one ledger ([`ledger`]): each
//! sleeps until the one it holds is due. What the device does not keep up with is given up after
//! [`PATIENCE`] and counted; otherwise a stall would be paid back by a storm.
//!
//! - `IO-1` all files together are never more than [`FILE_BYTES`], and are gone with their
//!   threads;
//! - `IO-2` no operation begins after the end of the term; those in flight may end, and only then
//!   the effect has stopped;
//! - `IO-3` done + shortfall is what was due, but for those in flight and those due for less than
//!   [`PATIENCE`]; after the end exactly.
//!
//! The curve is in operations a second. Sources: fault-fidelity section 5 (measured: 200 fsyncs/s
//! commanded, 199.8 done, and a victim's p50 from 1.1 to 3.5 ms; 1000/s on a device that does
//! 559).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::books::Books;
use self::ledger::{Held, Step};
use self::workload::Workload;
use super::crew::{Crew, Job};
use super::disk_full::volume::Usage;
use super::effect::{Curve, Effect, Progress, Refusal, Released};
use super::term::Term;

mod books;
mod latency;
mod ledger;
mod workload;

/// How long an operation may be due before it is given up.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// The most bytes of all files together.
pub const FILE_BYTES: u64 = 64 << 20;
/// The bounds of a block, in bytes.
pub const BLOCK_BYTES: (u64, u64) = (4 << 10, 4 << 20);
/// The bounds of the number of threads: what is in flight at once.
pub const THREADS: (u64, u64) = (1, 16);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Write a block and have the disk confirm it (`fdatasync`).
    Fsync,
    /// Read a block at a random place, from the disk and not from memory.
    Read,
    /// Write a block, to memory at first.
    Write,
}

/// On what, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where: any folder of the device that we may write to.
    pub folder: PathBuf,
    /// What.
    pub operation: Operation,
    /// How much at once: [`BLOCK_BYTES`], whole KiB.
    pub block_bytes: u64,
    /// How many at once at the most: [`THREADS`].
    pub threads: u64,
}

impl Settings {
    /// Blocks of 64 KiB, one at once.
    pub fn new(folder: PathBuf, operation: Operation) -> Settings {
        Settings { folder, operation, block_bytes: 64 << 10, threads: 1 }
    }

    fn check(&self) -> Result<(), Refusal> {
        let within = |name: &str, value: u64, (least, most): (u64, u64)| {
            let right = (least..=most).contains(&value);
            let why = || format!("{name}: expected {least} to {most}, got {value}");
            right.then_some(()).ok_or_else(|| Refusal::Invalid(why()))
        };
        within("block_bytes", self.block_bytes, BLOCK_BYTES)?;
        within("threads", self.threads, THREADS)?;
        if !self.block_bytes.is_multiple_of(1 << 10) {
            let why = format!("block_bytes: expected whole KiB, got {}", self.block_bytes);
            return Err(Refusal::Invalid(why));
        }
        Ok(())
    }

    /// That our files fill no disk.
    fn check_room(&self) -> Result<(), Refusal> {
        let folder = self.folder.display();
        let usage = Usage::of(&self.folder).map_err(|e| Refusal::System {
            what: "look at the volume",
            why: format!("{folder}: {e}"),
        })?;
        if usage.available >= 2 * FILE_BYTES {
            return Ok(());
        }
        Err(Refusal::Floor(format!(
            "{folder}: {} bytes are available, expected {}: twice of what our files may take",
            usage.available,
            2 * FILE_BYTES
        )))
    }
}

/// Starts the operations; the curve is how many a second, of all threads together. Before the
/// first read a thread writes what is to be read: what was due meanwhile is shortfall.
///
/// # Errors
/// Numbers out of their bounds, no room, a folder in which no file can be made.
pub fn start(settings: &Settings, curve: Curve, term: Term) -> Result<Box<dyn Effect>, Refusal> {
    settings.check()?;
    settings.check_room()?;
    let books = Mutex::new(Books::new(&*curve));
    let desk = Arc::new(Desk { begun: Instant::now(), books, curve });
    let mut jobs: Vec<(String, Job)> = Vec::new();
    for n in 0..settings.threads {
        let workload = Workload::new(settings).map_err(|e| Refusal::System {
            what: "make a file",
            why: format!("{}: {e}", settings.folder.display()),
        })?;
        let desk = desk.clone();
        jobs.push((format!("fault-io-{n}"), Box::new(move |term| desk.work(workload, term))));
    }
    let crew = Crew::start(&term, jobs)?;
    Ok(Box::new(DiskIo { desk, crew }))
}

struct DiskIo {
    desk: Arc<Desk>,
    crew: Crew,
}

impl Effect for DiskIo {
    fn progress(&self) -> Progress {
        let Desk { begun, curve, .. } = &*self.desk;
        let mut books = self.desk.books();
        books.pass(begun.elapsed(), &**curve);
        books.progress(*begun)
    }

    fn release(mut self: Box<Self>) -> Released {
        let ended = self.crew.finish();
        ended.with(self.desk.books().last(self.desk.begun))
    }
}

/// What the threads and whoever looks have in common.
struct Desk {
    begun: Instant,
    curve: Curve,
    books: Mutex<Books>,
}

impl Desk {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the term is over; gives when the last operation had ended.
    fn work(&self, mut workload: Workload, term: &Term) -> Instant {
        if let Err(e) = workload.prepare(term) {
            self.books().limited_by = Some(format!("write what is to be read: {e}"));
        }
        let mut held = Held::default();
        while term.over().is_none() {
            let step = {
                let mut books = self.books();
                books.pass(self.begun.elapsed(), &*self.curve);
                books.step(&mut held)
            };
            match step {
                Step::Pause(pause) => {
                    term.wait(Instant::now() + pause);
                }
                Step::Go => self.operate(&mut workload),
            }
        }
        self.books().close(self.begun.elapsed(), &*self.curve);
        Instant::now()
    }

    fn operate(&self, workload: &mut Workload) {
        let begun = Instant::now();
        let outcome = workload.operate();
        self.books().done(begun - self.begun, begun.elapsed(), outcome);
    }
}

#[cfg(test)]
mod tests;
