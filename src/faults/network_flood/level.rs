//! How many connections a flood holds, and how many it should. Pure: time comes in.

use std::time::Duration;

use super::super::effect::Progress;
use super::pace::{read, sane};
use super::trail::{Point, SHORT, Totals, Trail};

/// The ledger of a level.
#[derive(Debug)]
pub(super) struct Level {
    ceiling: f64,
    at: Duration,
    /// What the curve asked for last.
    asked: f64,
    asked_total: f64,
    /// The part of it within the ceiling.
    due_total: f64,
    held_total: f64,
    shortfall_total: f64,
    /// By thread.
    held: Vec<usize>,
    trail: Trail,
}

impl Level {
    /// At the time 0; never more than `ceiling` connections.
    pub(super) fn new(ceiling: f64, asked: f64, threads: usize) -> Level {
        Level {
            ceiling,
            at: Duration::ZERO,
            asked: sane(asked),
            asked_total: 0.0,
            due_total: 0.0,
            held_total: 0.0,
            shortfall_total: 0.0,
            held: vec![0; threads],
            trail: Trail::new(),
        }
    }

    /// How many all threads hold.
    pub(super) fn held(&self) -> usize {
        self.held.iter().sum()
    }

    fn point(&self) -> Point {
        Point { at: self.at, due: self.due_total, done: self.held_total }
    }

    /// Time goes on, and what was held until now was held all the while. A time that was already is
    /// ignored.
    pub(super) fn advance(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64) {
        let held = self.held() as f64;
        let from = (self.at, self.asked);
        read(curve, from, now, |at, seconds, from, to| {
            let mean = 0.5 * (from + to);
            self.asked_total += seconds * mean;
            self.due_total += seconds * mean.min(self.ceiling);
            self.held_total += seconds * held;
            self.shortfall_total += seconds * (mean - held).max(0.0);
            self.asked = to;
            self.at = at;
            self.trail.push(self.point());
        });
    }

    /// How many thread `index` should hold of all, if there can be no more than `most`.
    pub(super) fn share(&self, index: usize, most: usize) -> usize {
        let all = (self.asked.min(self.ceiling).round() as usize).min(most);
        share(all, index, self.held.len())
    }

    /// Thread `index` holds so many from now on.
    pub(super) fn hold(&mut self, index: usize, held: usize) {
        self.held[index] = held;
    }
}

/// The part of `all` for one of so many: they differ by one at the most and add up.
pub(super) fn share(all: usize, index: usize, of: usize) -> usize {
    all / of + usize::from(index < all % of)
}

impl Totals for Level {
    fn progress(&self) -> Progress {
        Progress {
            requested: self.asked,
            effective: self.held() as f64,
            requested_total: self.asked_total,
            effective_total: self.held_total,
            shortfall_total: self.shortfall_total,
            ..Progress::default()
        }
    }

    fn settled(&self) -> bool {
        // A level that is not whole is rounded: it is off by up to a half.
        self.trail.settled(self.point(), SHORT, 0.51 * SHORT.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_add_up_and_differ_by_one_at_the_most(all in 0_usize..30_000, of in 1_usize..9) {
            let shares: Vec<usize> = (0..of).map(|n| share(all, n, of)).collect();
            prop_assert_eq!(shares.iter().sum::<usize>(), all);
            prop_assert!(shares[0] - shares[of - 1] <= 1);
        }

        #[test]
        fn what_is_never_more_than_asked_for_adds_up_with_the_shortfall(
            steps in prop::collection::vec((1_u64..50_000, 0.0..1.0_f64), 1..50),
            asked in 0.0..1e6_f64,
        ) {
            let mut level = Level::new(20_000.0, asked, 2);
            let mut now = Duration::ZERO;
            for (micros, part) in steps {
                now += Duration::from_micros(micros);
                level.advance(now, &|_| asked);
                let wanted = (level.share(0, usize::MAX), level.share(1, usize::MAX));
                prop_assert!(wanted.0 + wanted.1 <= 20_000);
                let held = |n: usize| (n as f64 * part) as usize;
                level.hold(0, held(wanted.0));
                level.hold(1, held(wanted.1));
            }
            let books = level.progress();
            let left = books.requested_total - books.effective_total - books.shortfall_total;
            let over = 0.5 * now.as_secs_f64() + 1e-6; // by rounding
            prop_assert!(left.abs() <= over + books.requested_total * 1e-9, "{left}");
        }
    }

    #[test]
    fn it_settles_once_100_ms_of_it_are_held() {
        let mut level = Level::new(100.0, 10.0, 1);
        let tick = |n: u64| Duration::from_millis(n);
        level.advance(tick(50), &|_| 10.0);
        level.hold(0, 10);
        level.advance(tick(140), &|_| 10.0);
        assert!(!level.settled());
        level.advance(tick(151), &|_| 10.0);
        assert!(level.settled());
        level.hold(0, 9);
        level.advance(tick(260), &|_| 10.0);
        assert!(!level.settled());
    }
}
