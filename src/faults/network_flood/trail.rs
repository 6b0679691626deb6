//! How totals went over the last second, so that a rate can be told of any part of it. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::effect::Progress;

/// How far back it reaches.
pub(super) const LONG: Duration = Duration::from_secs(1);
/// Over which time a rate of now is told.
pub(super) const SHORT: Duration = Duration::from_millis(100);
/// How far from what was asked for counts as reached.
pub(super) const TOLERANCE: f64 = 0.02;
/// The least time between two points: bounds their number, whoever calls how often.
const APART: Duration = Duration::from_millis(2);

/// Totals since the start, at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// Since the start.
    pub(super) at: Duration,
    /// What was asked for and is within the ceiling.
    pub(super) due: f64,
    /// What was achieved.
    pub(super) done: f64,
}

/// The points of the last second, oldest first; at least one.
#[derive(Debug)]
pub(super) struct Trail(VecDeque<Point>);

impl Trail {
    /// Begins at zero.
    pub(super) fn new() -> Trail {
        Trail(VecDeque::from([Point::default()]))
    }

    /// Adds where the totals are now.
    pub(super) fn push(&mut self, now: Point) {
        if self.0.back().is_some_and(|last| now.at < last.at + APART) {
            return;
        }
        // One that is older than a second stays: it is needed to tell where they were then.
        while self.0.get(1).is_some_and(|second| second.at + LONG <= now.at) {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// Where the totals were so long before `now`, at the earliest at the start; straight between
    /// two points.
    pub(super) fn before(&self, now: Point, ago: Duration) -> Point {
        let at = now.at.saturating_sub(ago);
        let after = self.0.partition_point(|p| p.at <= at);
        let from = self.0[after.saturating_sub(1)];
        let to = self.0.get(after).copied().unwrap_or(now);
        let span = to.at.saturating_sub(from.at).as_secs_f64();
        if span <= 0.0 || at <= from.at {
            return from;
        }
        let part = ((at - from.at).as_secs_f64() / span).min(1.0);
        let between = |a: f64, b: f64| a + (b - a) * part;
        Point { at, due: between(from.due, to.due), done: between(from.done, to.done) }
    }

    /// What was done per second over the last 100 ms.
    pub(super) fn rate(&self, now: Point) -> f64 {
        let from = self.before(now, SHORT);
        let span = now.at.saturating_sub(from.at).as_secs_f64();
        if span > 0.0 { (now.done - from.done).max(0.0) / span } else { 0.0 }
    }

    /// Whether over a time that ends now as much was done as was due, within [`TOLERANCE`] or
    /// `grain`, the smallest part that can be done; and whether anything was.
    pub(super) fn settled(&self, now: Point, over: Duration, grain: f64) -> bool {
        if now.at < over {
            return false;
        }
        let from = self.before(now, over);
        let (due, done) = (now.due - from.due, now.done - from.done);
        done > 0.0 && due > 0.0 && (due - done).abs() <= grain.max(TOLERANCE * due)
    }
}

/// The totals of a kind of flood, in its own items.
pub(super) trait Totals {
    /// As a [`Progress`] of which only the numbers are set.
    fn progress(&self) -> Progress;
    /// Whether what was asked for is reached now.
    fn settled(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn at(n: u64, per_second: f64) -> Point {
        let done = per_second * ms(n).as_secs_f64();
        Point { at: ms(n), due: done, done }
    }

    #[test]
    fn a_rate_is_that_of_the_last_100_ms_however_the_points_lie() {
        let mut trail = Trail::new();
        assert_eq!(trail.rate(Point::default()), 0.0);
        for n in (0..3000).step_by(7) {
            trail.push(at(n, 50.0));
            assert!(trail.0.len() <= 1000 / 7 + 3);
        }
        for n in [3000, 3050, 3500] {
            assert!((trail.rate(at(n, 50.0)) - 50.0).abs() < 1e-6, "{n}");
        }
        let still = Point { at: ms(5000), ..at(3000, 50.0) };
        trail.push(still);
        assert_eq!(trail.rate(Point { at: ms(5200), ..still }), 0.0);
    }

    #[test]
    fn many_who_push_do_not_make_it_long() {
        let mut trail = Trail::new();
        for n in 0..100_000 {
            trail.push(Point { at: Duration::from_micros(100 * n), ..Point::default() });
        }
        assert!(trail.0.len() < 510, "{}", trail.0.len());
    }

    #[test]
    fn it_is_settled_after_a_whole_window_in_which_as_much_was_done_as_was_due() {
        let check = |due: f64, done: f64, now: u64| {
            let mut trail = Trail::new();
            trail.push(Point { at: ms(1), ..Point::default() });
            trail.settled(Point { at: ms(now), due, done }, ms(100), 1.0)
        };
        assert!(check(1000.0, 985.0, 100));
        assert!(!check(1000.0, 985.0, 99), "the window is not full");
        assert!(!check(1000.0, 970.0, 100));
        assert!(!check(1000.0, 1030.0, 100));
        assert!(check(10.0, 9.0, 100), "one more or less is no error");
        assert!(!check(0.5, 0.0, 100), "nothing was done");
        assert!(!check(0.0, 0.0, 100), "nothing was asked for");
    }
}
