//! A flood of connections: many per second, many held, or many bytes per second, against this
//! machine or members of the cluster.
//!
//! The pacing is plain arithmetic (`pace`, `level`, `trail`, `books`); threads named
//! `fault-flood-N` act every 5 ms (`work`, `dial`, `wire`).
//!
//! - `FLOOD-1` nothing is sent to an address that [`check`] does not let pass; it is asked again
//!   before each connection;
//! - `FLOOD-2` no call waits for the target: sockets do not block, attempts are a bounded number,
//!   and a target that is frozen holds up no stop;
//! - `FLOOD-3` each connection is closed with a reset (`SO_LINGER` 0): nothing is left in
//!   TIME_WAIT;
//! - `FLOOD-4` what was asked for is achieved, or counted as shortfall, or less than 100 ms old;
//! - `FLOOD-5` 256 files of the process's limit stay free for the process itself.
//!
//! Constants: fault-fidelity 6 (5 ms tick, 100 ms of debt; 20 000 connections per second is what
//! one core makes of a target, 2000 MiB/s take 71 % of a core).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::effect::{Curve, Effect, Progress, Refusal, Released};
use super::term::{End, Term};
use books::{Account, Books};
use dial::Dialer;
use level::Level;
use pace::{Pace, TICK, next_tick};
use work::{Connects, Holds, Sends, Work};

mod books;
mod dial;
mod files;
mod level;
mod pace;
mod target;
mod trail;
mod wire;
mod work;

pub use target::check;

/// What floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Connections that are closed as soon as they are made. The curve tells connections per
    /// second.
    Connect,
    /// Connections that are held. The curve tells how many; half a connection is rounded.
    Hold,
    /// Bytes, whether the target reads them or not. The curve tells MiB per second; what the kernel
    /// took counts as sent.
    Send,
}

/// The most of each mode, whatever the curve asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Connections per second: above 0, at most 50 000.
    pub connections_per_second: f64,
    /// Connections held: 1 to 20 000.
    pub held: usize,
    /// MiB per second: above 0, at most 4096.
    pub mib_per_second: f64,
}

impl Ceilings {
    /// The highest there may be.
    pub const HARD: Ceilings =
        Ceilings { connections_per_second: 50_000.0, held: 20_000, mib_per_second: 4096.0 };
}

impl Default for Ceilings {
    fn default() -> Self {
        Ceilings::HARD
    }
}

/// The most threads of a flood.
pub const THREADS: usize = 8;
/// The most connections to send over.
pub const FLOWS: usize = 256;
/// The highest rate at which connections that are to be held are opened, per second.
pub const OPEN_PER_SECOND: f64 = 10_000.0;
/// The most attempts to connect that are under way at any time.
const PENDING: usize = 1024;
const MIB: f64 = 1_048_576.0;

/// What a flood is made of, besides its curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What floods.
    pub mode: Mode,
    /// Whom, in turn; at least one, each one that [`check`] lets pass.
    pub targets: Vec<SocketAddr>,
    /// The addresses of the cluster's members, which may be targets beside this machine.
    pub allowed: Vec<IpAddr>,
    /// How many threads: 1 to [`THREADS`].
    pub threads: usize,
    /// [`Mode::Send`]: over how many connections, `threads` to [`FLOWS`].
    pub flows: usize,
    /// [`Mode::Hold`]: how many are opened per second, above 0, at most [`OPEN_PER_SECOND`].
    pub open_per_second: f64,
    /// The most of each mode.
    pub ceilings: Ceilings,
}

impl Settings {
    /// With 1 thread, 8 connections to send over, 2000 opened per second, the highest ceilings and
    /// no member but this machine.
    pub fn new(mode: Mode, targets: Vec<SocketAddr>) -> Settings {
        Settings {
            mode,
            targets,
            allowed: Vec::new(),
            threads: 1,
            flows: 8,
            open_per_second: 2000.0,
            ceilings: Ceilings::default(),
        }
    }

    /// Whether the parameters make sense; asks the system nothing.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with the first that does not, and what would be right.
    pub fn check(&self) -> Result<(), Refusal> {
        let (most, hard) = (self.ceilings, Ceilings::HARD);
        if self.targets.is_empty() {
            return Err(Refusal::Invalid("targets: expected at least one address".to_owned()));
        }
        self.targets.iter().try_for_each(|target| check(*target, &self.allowed))?;
        within("threads", self.threads, 1, THREADS)?;
        if self.mode == Mode::Send {
            within("flows", self.flows, self.threads, FLOWS)?;
        }
        within("held", most.held, 1, hard.held)?;
        above_0("open_per_second", self.open_per_second, OPEN_PER_SECOND)?;
        let rate = most.connections_per_second;
        above_0("connections_per_second", rate, hard.connections_per_second)?;
        above_0("mib_per_second", most.mib_per_second, hard.mib_per_second)
    }

    /// How many attempts of all threads may be under way, by what files there are.
    fn attempts(&self) -> Result<usize, Refusal> {
        let room = files::look(0)?;
        let least = if self.mode == Mode::Send { self.flows } else { self.threads };
        if room.left < least {
            return Err(Refusal::Floor(format!(
                "open files: expected room for at least {least} connections, got {} (RLIMIT_NOFILE \
                 is {}, and {} are kept free): raise the limit",
                room.left,
                room.limit,
                files::KEPT_FREE
            )));
        }
        Ok(room.left.min(PENDING))
    }

    fn books(&self, asked: f64) -> Books {
        let rate = |unit, most: f64| {
            Books::new(
                Account::Rate(Pace::new(most * unit, asked * unit)),
                unit,
                most,
                self.threads,
            )
        };
        match self.mode {
            Mode::Connect => rate(1.0, self.ceilings.connections_per_second),
            Mode::Send => rate(MIB, self.ceilings.mib_per_second),
            Mode::Hold => {
                let most = self.ceilings.held as f64;
                let level = Level::new(most, asked, self.threads);
                Books::new(Account::Level(level), 1.0, most, self.threads)
            }
        }
    }

    fn work(&self, index: usize, attempts: usize) -> Box<dyn Work> {
        let most = level::share(attempts, index, self.threads);
        let dialer = Dialer::new(self.targets.clone(), self.allowed.clone(), most, index);
        match self.mode {
            Mode::Connect => Box::new(Connects(dialer)),
            Mode::Hold => Box::new(Holds::new(index, dialer, self)),
            Mode::Send => Box::new(Sends::new(index, dialer, self)),
        }
    }
}

fn within(what: &str, value: usize, least: usize, most: usize) -> Result<(), Refusal> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("{what}: expected {least} to {most}, got {value}")))
}

fn above_0(what: &str, value: f64, most: f64) -> Result<(), Refusal> {
    if value > 0.0 && value <= most {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("{what}: expected more than 0, at most {most}, got {value}")))
}

/// What the threads of a flood share.
struct Shared {
    curve: Curve,
    term: Term,
    begun: Instant,
    books: Mutex<Books>,
    /// How many connections each thread has open, those under way included.
    open: Vec<AtomicUsize>,
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        // A thread that panics leaves numbers that are off by a tick at the most.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    fn advance(&self) {
        let mut books = self.books();
        // Read with the lock held, so that time does not go back in the books.
        books.advance(self.elapsed(), &self.curve);
    }

    fn holds(&self, index: usize, open: usize) {
        self.open[index].store(open, Ordering::Relaxed);
    }

    fn open_files(&self) -> usize {
        self.open.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

/// A flood at work.
pub struct NetworkFlood {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl NetworkFlood {
    /// Begins now; the unit of the curve is that of the [`Mode`].
    ///
    /// # Errors
    /// [`Refusal::Invalid`] by [`Settings::check`], [`Refusal::Floor`] if the limit of open files
    /// leaves too few, [`Refusal::System`] if no thread can be started; nothing was sent to
    /// anybody.
    pub fn start(settings: Settings, curve: Curve, term: Term) -> Result<NetworkFlood, Refusal> {
        settings.check()?;
        let attempts = settings.attempts()?;
        let shared = Arc::new(Shared {
            books: Mutex::new(settings.books(curve(Duration::ZERO))),
            open: (0..settings.threads).map(|_| AtomicUsize::new(0)).collect(),
            curve,
            term,
            begun: Instant::now(),
        });
        let mut flood = NetworkFlood { shared: Arc::clone(&shared), threads: Vec::new() };
        // No thread gets beyond its first look into the books before all of them are there.
        let gate = shared.books();
        for index in 0..settings.threads {
            let (work, shared) = (settings.work(index, attempts), Arc::clone(&shared));
            let phase = TICK * u32::try_from(index).unwrap_or(0) / shared.open.len() as u32;
            let started = std::thread::Builder::new()
                .name(format!("fault-flood-{index}"))
                .spawn(move || run(index, phase, work, &shared));
            match started {
                Ok(thread) => flood.threads.push(thread),
                Err(e) => {
                    flood.shared.term.end(End::Failed);
                    drop(gate);
                    let what = "start a thread of the flood";
                    return Err(Refusal::System { what, why: e.to_string() });
                }
            }
        }
        drop(gate);
        Ok(flood)
    }

    fn end(&mut self) -> End {
        let end = self.shared.term.end(End::Deleted);
        for thread in self.threads.drain(..) {
            // A thread that panicked has given everything back, and has told the term.
            let _ = thread.join();
        }
        end
    }
}

impl Effect for NetworkFlood {
    fn progress(&self) -> Progress {
        self.shared.books().progress()
    }

    fn release(mut self: Box<Self>) -> Released {
        let end = self.end();
        let books = self.shared.books();
        let now = Instant::now();
        let (stopped, released) = books.ended.unwrap_or((now, now));
        Released { progress: books.progress(), end, stopped, released }
    }
}

impl Drop for NetworkFlood {
    fn drop(&mut self) {
        self.end();
    }
}

/// Gives back what a thread has, on whichever way it leaves.
struct Leave<'a> {
    shared: &'a Shared,
    work: Option<Box<dyn Work>>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.term.end(End::Failed);
        }
        let stopped = Instant::now();
        self.work = None;
        self.shared.books().leave(stopped, Instant::now());
    }
}

/// One thread of a flood: acts at each tick until the term is over.
fn run(index: usize, phase: Duration, work: Box<dyn Work>, shared: &Shared) {
    let mut leave = Leave { shared, work: Some(work) };
    drop(shared.books()); // the gate of `start`
    while shared.term.over().is_none() {
        shared.advance();
        let more = leave.work.as_mut().is_some_and(|work| work.tick(shared));
        shared.books().stamp(index, cpu_seconds());
        if !more {
            let next = next_tick(shared.elapsed(), phase);
            let _ = shared.term.wait(shared.begun + next);
        }
    }
    shared.advance();
    shared.books().stamp(index, cpu_seconds());
}

/// What this thread has used.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(0.0, |t| Duration::from(t).as_secs_f64())
}

#[cfg(test)]
mod tests;
