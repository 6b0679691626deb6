//! The threads that burn. Each asks the term of its fault in each slot and in each chunk of a burn,
//! and leaves by itself when it is over: nobody has to call it, and nothing it waits for is longer
//! than a slot.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use nix::libc;
use nix::unistd::gettid;

use super::clock::{monotonic_ns, sleep_until_ns, thread_cpu_ns};
use super::ledger::LEDGER;
use crate::faults::term::{End, Term};

/// The longest burn between two looks at the clock of the thread and at the term, in ns. Shorter
/// ones turn user time into system time (measured: fault-fidelity, section 2).
const CHUNK: u64 = 50_000;

/// What the threads of one fault share.
pub struct Fault {
    /// Its number in the ledger.
    pub id: u64,
    /// Until when.
    pub term: Term,
    /// The least nice value of its threads.
    pub nice: i32,
    burnt_ns: AtomicU64,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    ids: Vec<libc::id_t>,
    stopped: Option<Instant>,
}

impl Fault {
    /// A fault without threads.
    pub fn new(id: u64, term: Term, nice: i32) -> Fault {
        Fault { id, term, nice, burnt_ns: AtomicU64::new(0), threads: Mutex::default() }
    }

    /// The CPU time of its threads, in seconds.
    pub fn burnt(&self) -> f64 {
        self.burnt_ns.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// When its last thread so far has left.
    pub fn stopped(&self) -> Option<Instant> {
        self.threads().stopped
    }

    /// Gives its threads the nice value of the caller, who waits for them: on a full machine a
    /// thread with nice 19 may get no turn for seconds, not even to end. Works where it is allowed.
    pub fn hurry(&self) {
        let threads = self.threads(); // held: no thread leaves now, so its number is still its own
        for id in &threads.ids {
            set_nice(*id, nice(0));
        }
    }

    /// The life of a thread: it burns what it is told to until the term is over.
    pub fn burn(&self, index: u32) {
        let leaving = Leaving { fault: self, id: gettid().as_raw().cast_unsigned() };
        self.threads().ids.push(leaving.id);
        let inherited = nice(0);
        if self.nice > inherited {
            set_nice(0, self.nice);
        }
        let _ = nix::sys::prctl::set_timerslack(1); // without it slots are some 50 us late
        let mut meter = Meter { fault: self, last: 0 };
        while self.term.over().is_none() {
            let Some(slot) = LEDGER.slot(self.id, index) else { break };
            meter.spin((slot.burn * 1e9) as u64, LEDGER.ns(slot.until));
            if self.term.over().is_none() {
                sleep_until_ns(LEDGER.ns(slot.until));
            }
        }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left to do when a thread ends, also by a panic.
struct Leaving<'a> {
    fault: &'a Fault,
    id: libc::id_t,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fault.term.end(End::Failed);
        }
        LEDGER.sweep();
        let mut threads = self.fault.threads();
        threads.ids.retain(|id| *id != self.id);
        threads.stopped = Some(Instant::now());
    }
}

/// Counts the CPU time of the calling thread, in which it spins.
struct Meter<'a> {
    fault: &'a Fault,
    last: u64,
}

impl Meter<'_> {
    /// Burns so much CPU time, but not beyond the end of the slot: what is missing then is owed in
    /// the next one, with the curve as it is by then.
    fn spin(&mut self, burn: u64, until: u64) {
        let goal = self.read() + burn;
        let mut now = goal - burn;
        while now < goal && self.fault.term.over().is_none() {
            let wall = monotonic_ns();
            if wall >= until {
                break;
            }
            whirl(wall + CHUNK.min(goal - now));
            now = self.read();
        }
    }

    fn read(&mut self) -> u64 {
        let now = thread_cpu_ns();
        let more = now.saturating_sub(self.last);
        self.fault.burnt_ns.fetch_add(more, Ordering::Relaxed);
        LEDGER.burnt(more);
        self.last = now;
        now
    }
}

/// Computes until then. The clock is read without a system call.
fn whirl(until: u64) {
    let mut x = 1_u64;
    while monotonic_ns() < until {
        for _ in 0..64 {
            x = black_box(x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
        }
    }
}

/// The nice value of a thread; 0 is the calling one.
pub fn nice(thread: libc::id_t) -> i32 {
    // SAFETY: takes and gives plain numbers.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, thread) }
}

/// Does nothing where it is not allowed, which to be nicer always is.
fn set_nice(thread: libc::id_t, nice: i32) {
    // SAFETY: takes and gives plain numbers; the number is of a thread of ours that has not ended.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, nice) };
}
