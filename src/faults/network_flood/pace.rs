//! How much a flood owes: the integral of what is asked for, less what was done. Pure: time comes
//! in.
//!
//! - `PACE-1` nothing is granted that is not due, and nothing above the ceiling;
//! - `PACE-2` asked = done + shortfall + what is still open, and once closed nothing is open;
//! - `PACE-3` what has been due for longer than 100 ms is forgiven, so that a hole is not paid back
//!   by a burst;
//! - `PACE-4` from any time the next tick is no further than 5 ms.
//!
//! Constants: fault-fidelity 6 (5 ms tick: error of 1 s windows at most 0.33 %; debt of 100 ms).

use std::time::Duration;

use super::super::effect::Progress;
use super::trail::{LONG, Point, SHORT, Totals, Trail};

/// How often a flood acts.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// More than this in any unit is taken as this: sums of it stay finite.
const MOST: f64 = 1e12;
/// How often a curve is read, at the most, to catch up with a thread that did not run for long.
const STEPS: u32 = 4096;

/// When to act next: the first tick after `now`; ticks lie at `phase` after each multiple of
/// [`TICK`], so that threads can take turns.
pub(super) fn next_tick(now: Duration, phase: Duration) -> Duration {
    let tick = TICK.as_nanos();
    let past = (now.as_nanos() + tick - phase.as_nanos() % tick) % tick;
    now.saturating_add(Duration::from_nanos(u64::try_from(tick - past).unwrap_or(0)))
}

/// What a curve asks for, as a number that can be summed up.
pub(super) fn sane(asked: f64) -> f64 {
    if asked.is_finite() { asked.clamp(0.0, MOST) } else { 0.0 }
}

/// Reads a curve from one time, and what it was then, to another: for each step its end, its length
/// in seconds, and what the curve was at its beginning and at its end.
pub(super) fn read(
    curve: &dyn Fn(Duration) -> f64,
    from: (Duration, f64),
    to: Duration,
    mut step: impl FnMut(Duration, f64, f64, f64),
) {
    let span = to.saturating_sub(from.0);
    let steps = span.as_nanos().div_ceil(TICK.as_nanos()).min(u128::from(STEPS));
    let steps = u32::try_from(steps).unwrap_or(STEPS);
    let mut last = from.1;
    for n in 1..=steps {
        let at = if n == steps { to } else { from.0 + span / steps * n };
        let asked = sane(curve(at));
        step(at, span.as_secs_f64() / f64::from(steps), last, asked);
        last = asked;
    }
}

/// The ledger of a rate, in whole items (connections, bytes) per second.
#[derive(Debug)]
pub(super) struct Pace {
    ceiling: f64,
    at: Duration,
    /// What the curve asked for last.
    rate: f64,
    /// All that was asked for.
    asked: f64,
    /// The part of it within the ceiling.
    due: f64,
    done: u64,
    failed: u64,
    /// Granted, and neither done nor failed yet.
    open: u64,
    forgiven: f64,
    /// Where the totals were when time last went on: what is done within a tick counts from the
    /// next.
    mark: Point,
    trail: Trail,
}

impl Pace {
    /// At the time 0; never more than `ceiling` items per second.
    pub(super) fn new(ceiling: f64, rate: f64) -> Pace {
        Pace {
            ceiling,
            at: Duration::ZERO,
            rate: sane(rate),
            asked: 0.0,
            due: 0.0,
            done: 0,
            failed: 0,
            open: 0,
            forgiven: 0.0,
            mark: Point::default(),
            trail: Trail::new(),
        }
    }

    fn point(&self) -> Point {
        Point { at: self.at, due: self.due, done: self.done as f64 }
    }

    /// What is due and not yet granted.
    fn debt(&self) -> f64 {
        self.due - self.forgiven - (self.done + self.failed + self.open) as f64
    }

    /// Time goes on; says whether debt was forgiven. A time that was already is ignored.
    pub(super) fn advance(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64) -> bool {
        read(curve, (self.at, self.rate), now, |at, seconds, from, to| {
            self.asked += seconds * 0.5 * (from + to);
            self.due += seconds * 0.5 * (from.min(self.ceiling) + to.min(self.ceiling));
            self.rate = to;
            self.at = at;
            self.trail.push(self.point());
        });
        self.mark = self.point();
        // One item may wait for as long as it takes: at 0.1 per second it is due after 10 s.
        let recent = self.due - self.trail.before(self.mark, SHORT).due;
        let excess = self.debt() - recent.max(1.0);
        if excess > 0.0 {
            self.forgiven += excess; // PACE-3
        }
        // Half an item more or less is rounding, not a hole.
        excess > 0.5
    }

    /// Grants of what is due, at most so many items.
    pub(super) fn take(&mut self, most: u64) -> u64 {
        let granted = (self.debt().max(0.0) as u64).min(most); // PACE-1
        self.open += granted;
        granted
    }

    /// What came of what was granted: `unused` is due again, `failed` is not.
    pub(super) fn settle(&mut self, done: u64, failed: u64, unused: u64) {
        self.open = self.open.saturating_sub(done + failed + unused);
        self.done += done;
        self.failed += failed;
    }

    /// The end: what is open will not be done.
    pub(super) fn close(&mut self) {
        self.open = 0;
        self.forgiven += self.debt(); // PACE-2
    }
}

impl Totals for Pace {
    fn progress(&self) -> Progress {
        Progress {
            requested: self.rate,
            effective: self.trail.rate(self.mark),
            requested_total: self.asked,
            effective_total: self.done as f64,
            shortfall_total: self.asked - self.due + self.forgiven + self.failed as f64,
            ..Progress::default()
        }
    }

    fn settled(&self) -> bool {
        self.trail.settled(self.mark, LONG, 1.0)
    }
}

/// Bounds how fast something is done, without a debt.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    left: f64,
    at: Duration,
}

impl Bucket {
    /// Empty, at the time 0.
    pub(super) fn new(per_second: f64) -> Bucket {
        Bucket { per_second, left: 0.0, at: Duration::ZERO }
    }

    /// How many there may be now: what came together in the last 20 ms, and at least one.
    pub(super) fn fill(&mut self, now: Duration) -> usize {
        let span = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let most = (self.per_second * 0.02).max(1.0);
        self.left = (self.left + span * self.per_second).min(most);
        self.left as usize
    }

    /// So many were done.
    pub(super) fn take(&mut self, n: usize) {
        self.left -= n as f64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::term::SLICE;
    use super::*;

    fn rates() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(0.0),
            Just(1e-9),
            Just(f64::MAX),
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(-1.0),
            0.0..10.0_f64,
            0.0..1e5_f64,
        ]
    }

    proptest! {
        #[test]
        fn no_computed_sleep_is_longer_than_a_tick_and_none_is_empty(
            now in any::<u64>(), phase in any::<u64>(),
        ) {
            let now = Duration::from_nanos(now);
            let sleep = next_tick(now, Duration::from_nanos(phase)) - now;
            // PACE-4
            prop_assert!(sleep > Duration::ZERO && sleep <= TICK && TICK <= SLICE, "{sleep:?}");
        }

        #[test]
        fn the_books_of_any_rates_add_up_and_nothing_is_granted_that_is_not_due(
            steps in prop::collection::vec(
                (rates(), 0_u64..300_000, 0_u64..2000, 0.0..1.0_f64, 0.0..1.0_f64), 1..60),
            ceiling in 1.0..1e5_f64,
        ) {
            let mut pace = Pace::new(ceiling, 0.0);
            let (mut now, mut open) = (Duration::ZERO, 0_u64);
            for (rate, micros, most, done, failed) in steps {
                now += Duration::from_micros(micros);
                pace.advance(now, &|_| rate);
                let granted = pace.take(most);
                open += granted;
                prop_assert!(granted <= most);
                let done = (open as f64 * done) as u64;
                let failed = ((open - done) as f64 * failed) as u64;
                let unused = (open - done - failed) / 2;
                pace.settle(done, failed, unused);
                open -= done + failed + unused;
                let books = pace.progress();
                let seconds = now.as_secs_f64();
                prop_assert!(books.effective_total <= ceiling * seconds + 1e-6); // PACE-1
                prop_assert!(books.effective_total <= books.requested_total * (1.0 + 1e-9) + 1e-6);
                let left = books.requested_total - books.effective_total - books.shortfall_total;
                let rounding = 1e-6 + books.requested_total * 1e-9;
                let held = ceiling * 0.1 + 1.0 + open as f64;
                // PACE-3
                prop_assert!(left >= -rounding && left <= held + rounding, "{left} {books:?}");
            }
            pace.close();
            let books = pace.progress();
            let left = books.requested_total - books.effective_total - books.shortfall_total;
            prop_assert!(left.abs() <= 1e-6 + books.requested_total * 1e-9, "{left}"); // PACE-2
        }

        #[test]
        fn who_does_all_that_is_granted_does_all_that_is_asked_for(
            rate in 0.0..1e5_f64, ticks in prop::collection::vec(1_u64..20_000, 1..200),
        ) {
            let mut pace = Pace::new(1e5, rate);
            let mut now = Duration::ZERO;
            for micros in ticks {
                now += Duration::from_micros(micros);
                prop_assert!(!pace.advance(now, &|_| rate));
                let granted = pace.take(u64::MAX);
                pace.settle(granted, 0, 0);
            }
            let books = pace.progress();
            let off = books.requested_total - books.effective_total;
            prop_assert!((-1e-6..1.0 + 1e-6).contains(&off), "{off}");
            prop_assert!((books.requested_total - rate * now.as_secs_f64()).abs() < 1e-3);
        }

        #[test]
        fn no_more_pass_a_bucket_than_its_rate_and_one_filling_of_20_ms(
            rate in 0.0..10_000.0_f64, steps in prop::collection::vec(0_u64..100_000, 1..100),
        ) {
            let mut bucket = Bucket::new(rate);
            let (mut now, mut passed) = (Duration::ZERO, 0);
            for micros in steps {
                now += Duration::from_micros(micros);
                let n = bucket.fill(now);
                prop_assert!(n as f64 <= (rate * 0.02).max(1.0));
                bucket.take(n);
                passed += n;
                prop_assert!(passed as f64 <= rate * now.as_secs_f64() + 1e-6);
            }
        }
    }

    #[test]
    fn the_rate_of_now_is_that_of_what_was_done_in_100_ms() {
        let mut pace = Pace::new(1e5, 10_000.0);
        for n in 1..=300 {
            pace.advance(TICK * n, &|_| 10_000.0);
            let granted = pace.take(u64::MAX);
            pace.settle(granted, 0, 0);
            let (off, settled) = (pace.progress().effective - 10_000.0, pace.settled());
            assert!(n < 22 || off.abs() < 25.0, "off by {off} at {n}");
            assert!(settled == (n >= 200), "{n}");
        }
    }

    #[test]
    fn a_hole_is_forgiven_down_to_100_ms_and_counted() {
        let mut pace = Pace::new(1e5, 1000.0);
        assert!(pace.advance(Duration::from_secs(2), &|_| 1000.0));
        assert_eq!(pace.take(u64::MAX), 100);
        pace.settle(100, 0, 0);
        let books = pace.progress();
        assert!((books.shortfall_total - 1900.0).abs() < 1.0, "{books:?}");
        assert!((books.requested_total - 2000.0).abs() < 1e-6, "{books:?}");
    }

    #[test]
    fn a_rate_that_falls_to_zero_leaves_no_debt_after_100_ms() {
        let mut pace = Pace::new(1e5, 1000.0);
        let curve = |t: Duration| if t < Duration::from_millis(100) { 1000.0 } else { 0.0 };
        pace.advance(Duration::from_millis(300), &curve);
        assert!(pace.take(u64::MAX) <= 1);
    }

    #[test]
    fn less_than_one_in_100_ms_is_still_done_in_time() {
        let (mut pace, mut done) = (Pace::new(1e5, 0.5), 0);
        for n in 1..=2000 {
            pace.advance(TICK * n, &|_| 0.5);
            let granted = pace.take(10);
            pace.settle(granted, 0, 0);
            done += granted;
        }
        assert!((4..=5).contains(&done), "{done} of 0.5 per second in 10 s");
    }
}
