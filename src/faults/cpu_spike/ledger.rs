//! The one CPU ledger of the process: the [books](super::books) of all CPU faults, the clocks that
//! step them, and the terms by which faults are dropped from the sum. Whoever comes by, a burner of
//! any fault above all, drops those that are over: nobody has to be told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::books::{Books, Reading, Slot, View};
use super::clock::{monotonic_ns, process_cpu_ns};
use crate::faults::effect::Curve;
use crate::faults::term::{End, Term};

/// All CPU faults of this process.
pub static LEDGER: LazyLock<Ledger> = LazyLock::new(Ledger::new);

/// See the head of this file.
pub struct Ledger {
    /// The same moment by both clocks.
    begun: (Instant, u64),
    burnt_ns: AtomicU64,
    next: AtomicU64,
    state: Mutex<State>,
}

struct State {
    books: Books,
    /// Of those that are not over, as far as anybody has seen.
    terms: Vec<(u64, Term)>,
}

impl Ledger {
    fn new() -> Ledger {
        Ledger {
            begun: (Instant::now(), monotonic_ns()),
            burnt_ns: AtomicU64::new(0),
            next: AtomicU64::new(0),
            state: Mutex::new(State { books: Books::new(Reading::default()), terms: Vec::new() }),
        }
    }

    /// A number that no fault had before.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a fault, if its threads can be started: `start` is told how many threads there are, and
    /// all that ask for a slot wait until it is done.
    ///
    /// # Errors
    /// That of `start`; nothing was added then.
    pub fn add<T, E>(
        &self,
        (id, term, curve): (u64, Term, Curve),
        (cores, threads): (f64, u32),
        start: impl FnOnce(u32) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = self.state();
        let started = start(state.books.threads())?;
        state.books.advance(self.reading()); // to start threads took a while
        state.books.open(id, curve, cores, threads);
        state.terms.push((id, term));
        Ok(started)
    }

    /// What a thread of a fault is to do next; None: its fault is over.
    pub fn slot(&self, id: u64, index: u32) -> Option<Slot> {
        self.state().books.slot(id, index)
    }

    /// How a fault goes, until it is removed.
    pub fn view(&self, id: u64) -> View {
        self.state().books.view(id).unwrap_or_default()
    }

    /// Drops from the sum what is over.
    pub fn sweep(&self) {
        drop(self.state());
    }

    /// Forgets a fault and gives its last view.
    pub fn remove(&self, id: u64) -> View {
        let mut state = self.state();
        state.books.close(id);
        state.terms.retain(|(other, _)| *other != id);
        let view = state.books.view(id).unwrap_or_default();
        state.books.remove(id);
        view
    }

    /// Notes what a burner used.
    pub fn burnt(&self, ns: u64) {
        self.burnt_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// A time of the books by the monotonic clock, in ns.
    pub fn ns(&self, at: f64) -> u64 {
        self.begun.1 + (at * 1e9) as u64
    }

    /// A time of the books.
    pub fn instant(&self, at: f64) -> Instant {
        self.begun.0 + Duration::try_from_secs_f64(at).unwrap_or_default()
    }

    /// The state as of now, without those whose term is over.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { books, terms } = &mut *state;
        books.advance(self.reading());
        terms.retain(|(id, term)| {
            if books.broken(*id) {
                term.end(End::Failed);
            }
            let over = term.over().is_some();
            if over {
                books.close(*id);
            }
            !over
        });
        state
    }

    fn reading(&self) -> Reading {
        Reading {
            at: (monotonic_ns() - self.begun.1) as f64 / 1e9,
            cpu: process_cpu_ns() as f64 / 1e9,
            burnt: self.burnt_ns.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}
