//! The account of one fault in the [books](super::books): what its curve asked for, what of the CPU
//! time of the process counts for it, and what is given up. Numbers only; all times are seconds.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::faults::effect::Curve;

/// Rates are taken over this long, in seconds.
const WINDOW: f64 = 0.1;
/// Samples of a window are at least this far apart, in seconds.
const SPACING: f64 = 0.004;
/// A window that starving stretched beyond this says nothing about having settled, in seconds.
const STALE: f64 = 0.2;
/// Settled: within so many cores of what is asked for (2 points of a core).
const TOLERANCE: f64 = 0.02;
/// A curve is read at least so often when it is summed up, in seconds.
const PIECE: f64 = 0.005;
/// And at most so many times at once.
const PIECES: f64 = 200.0;
/// What a curve may ask for at the very most, in cores; only keeps the sums finite.
const HUGE: f64 = 1e6;

/// Sums as they were at some moments, for rates over the last [`WINDOW`].
#[derive(Debug)]
pub struct Window<const N: usize>(VecDeque<(f64, [f64; N])>);

impl<const N: usize> Window<N> {
    /// It begins here: before this nothing is known.
    pub fn new(at: f64, sums: [f64; N]) -> Self {
        Window(VecDeque::from([(at, sums)]))
    }

    /// Notes the sums and forgets what no window will reach any more.
    pub fn note(&mut self, at: f64, sums: [f64; N]) {
        if self.0.back().is_none_or(|(last, _)| at - last >= SPACING) {
            self.0.push_back((at, sums));
        }
        while self.0.get(1).is_some_and(|(next, _)| at - next >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// How much the sums grew in the last window, each second; and how long it was, which is
    /// shorter at first and longer if nobody noted anything. None: it has no length yet.
    pub fn rates(&self, at: f64, sums: [f64; N]) -> Option<(f64, [f64; N])> {
        let (from, old) = self.0.front()?;
        let length = at - from;
        (length > 0.0).then(|| (length, std::array::from_fn(|n| (sums[n] - old[n]) / length)))
    }
}

/// One fault in the books.
pub struct Account {
    /// Its number.
    pub id: u64,
    /// The most that it gets, in cores.
    pub cores: f64,
    /// How many threads burn for it.
    pub threads: u32,
    /// It is over: nothing is asked for any more, the sums stand.
    pub closed: bool,
    /// What it is owed now, in core seconds; negative: it is ahead.
    pub debt: f64,
    /// All that was asked for, in core seconds.
    pub asked: f64,
    /// All that counts for it of what the process used, in core seconds.
    pub effective: f64,
    /// What was given up, in core seconds.
    pub shortfall: f64,
    /// What the process used beyond all that was asked for, in core seconds.
    pub excess: f64,
    /// When a thread was first told to burn for it.
    pub onset: Option<f64>,
    /// When a window was first within 2 points of a core of what was asked for.
    pub settled: Option<f64>,
    curve: Curve,
    broken: Cell<bool>,
    begun: f64,
    forgiven: f64,
    window: Window<3>,
}

impl Account {
    /// An account that begins now, with nothing owed.
    pub fn new(id: u64, at: f64, curve: Curve, cores: f64, threads: u32) -> Account {
        Account {
            id,
            cores,
            threads,
            closed: false,
            debt: 0.0,
            asked: 0.0,
            effective: 0.0,
            shortfall: 0.0,
            excess: 0.0,
            onset: None,
            settled: None,
            curve,
            broken: Cell::new(false),
            begun: at,
            forgiven: 0.0,
            window: Window::new(at, [0.0; 3]),
        }
    }

    /// Whether its curve panicked once: it asks for nothing since.
    pub fn broken(&self) -> bool {
        self.broken.get()
    }

    /// What the curve asks for at a time, in cores. A panic of a curve stays here, since it would
    /// take the threads of all other faults along.
    pub fn asks(&self, at: f64) -> f64 {
        if self.broken() {
            return 0.0;
        }
        let elapsed = Duration::try_from_secs_f64(at - self.begun).unwrap_or_default();
        let Ok(cores) = catch_unwind(AssertUnwindSafe(|| (self.curve)(elapsed))) else {
            self.broken.set(true);
            return 0.0;
        };
        if cores.is_nan() { 0.0 } else { cores.clamp(0.0, HUGE) }
    }

    /// What is asked for between two times and how much of it is under the ceiling, in core
    /// seconds.
    pub fn sums(&self, from: f64, to: f64) -> (f64, f64) {
        let length = (to - from).max(0.0);
        let pieces = (length / PIECE).ceil().clamp(1.0, PIECES);
        let piece = length / pieces;
        let (mut asked, mut target) = (0.0, 0.0);
        for n in 0..pieces as u32 {
            let asks = self.asks(from + (f64::from(n) + 0.5) * piece);
            asked += asks * piece;
            target += asks.min(self.cores) * piece;
        }
        (asked, target)
    }

    /// Books what the curve asked for between two times.
    pub fn ask(&mut self, from: f64, to: f64) {
        let (asked, target) = self.sums(from, to);
        self.asked += asked;
        self.shortfall += asked - target;
        self.debt += target;
    }

    /// Books what counts for it of what the process used.
    pub fn credit(&mut self, used: f64) {
        self.effective += used;
        self.debt -= used;
    }

    /// Gives up so much of what it is owed.
    pub fn forgive(&mut self, debt: f64) {
        self.debt -= debt;
        self.shortfall += debt;
        self.forgiven += debt;
    }

    /// Lets go of so much that it is ahead.
    pub fn release(&mut self, ahead: f64) {
        self.debt += ahead;
        self.excess += ahead;
    }

    /// Ends it: whatever is owed, either way, is booked, so that the sums add up to the end.
    pub fn close(&mut self) {
        if self.debt > 0.0 {
            self.forgive(self.debt);
        } else {
            self.release(-self.debt);
        }
        self.closed = true;
    }

    /// Notes the sums as they are now, and whether they settled.
    pub fn observe(&mut self, at: f64) {
        self.window.note(at, self.windowed());
        if let Some((length, [asked, effective, _])) = self.window.rates(at, self.windowed()) {
            let whole = (WINDOW..=STALE).contains(&length) && asked > 0.0;
            if whole && (effective - asked).abs() <= TOLERANCE {
                self.settled.get_or_insert(at);
            }
        }
    }

    /// What counts for it and what was forgiven over the last window, in cores.
    pub fn recent(&self, at: f64) -> (f64, f64) {
        let rates = self.window.rates(at, self.windowed());
        rates.map_or((0.0, 0.0), |(_, [_, effective, forgiven])| (effective, forgiven))
    }

    fn windowed(&self) -> [f64; 3] {
        [self.asked, self.effective, self.forgiven]
    }
}
