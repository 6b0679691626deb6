//! The books of the operations: the ledger of what is due, and what was done. Plain arithmetic;
//! times are since the start.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::latency::Latencies;
use super::ledger::{Held, Ledger, Step};
use crate::faults::effect::Progress;

/// The rate is counted over this.
const WINDOW: Duration = Duration::from_secs(1);
/// And anew so often.
const POINT: Duration = Duration::from_millis(100);
/// A part of the rate within which it is as asked for; one operation, where that is more.
const TOLERANCE: f64 = 0.02;

#[derive(Debug)]
pub(super) struct Books {
    ledger: Ledger,
    /// When how many had been done, and due: points of the window.
    points: VecDeque<(Duration, u64, f64)>,
    /// Operations a second.
    rate: f64,
    done: u64,
    failed: u64,
    bytes: u64,
    latencies: Latencies,
    onset: Option<Duration>,
    settled: Option<Duration>,
    /// The last thing that made it less.
    pub(super) limited_by: Option<String>,
}

impl Books {
    pub(super) fn new(curve: &dyn Fn(Duration) -> f64) -> Books {
        Books {
            ledger: Ledger::new(curve),
            points: VecDeque::from([(Duration::ZERO, 0, 0.0)]),
            rate: 0.0,
            done: 0,
            failed: 0,
            bytes: 0,
            latencies: Latencies::default(),
            onset: None,
            settled: None,
            limited_by: None,
        }
    }

    /// Time passes.
    pub(super) fn pass(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64) {
        if self.ledger.closed() {
            return;
        }
        self.ledger.pass(now, curve);
        let last = self.points.back().map_or(Duration::ZERO, |(at, ..)| *at);
        if now >= last + POINT {
            self.points.push_back((now, self.done, self.ledger.asked().total));
            self.count(now);
        }
    }

    /// The rate of the window that ends now.
    fn count(&mut self, now: Duration) {
        while self.points.get(1).is_some_and(|(at, ..)| *at + WINDOW <= now) {
            self.points.pop_front();
        }
        let Some((at, done, due)) = self.points.front() else { return };
        let done = (self.done - done) as f64;
        let due = self.ledger.asked().total - due;
        self.rate = done / (now - *at).as_secs_f64();
        if self.onset.is_some() && (done - due).abs() <= (TOLERANCE * due).max(1.0) {
            self.settled.get_or_insert(now);
        }
    }

    /// What a thread is to do now.
    pub(super) fn step(&mut self, held: &mut Held) -> Step {
        self.ledger.step(held)
    }

    /// An operation that began then has ended, after so long; with how many bytes.
    pub(super) fn done(&mut self, began: Duration, took: Duration, outcome: io::Result<u64>) {
        match outcome {
            Ok(bytes) => {
                self.done += 1;
                self.bytes += bytes;
                self.latencies.add(took);
                self.onset = Some(self.onset.map_or(began, |onset| onset.min(began)));
            }
            Err(e) => {
                self.failed += 1;
                self.limited_by = Some(format!("operations fail: {e}"));
            }
        }
    }

    /// From now on nothing is asked for; what is in flight may still be [done](Books::done).
    pub(super) fn close(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64) {
        self.pass(now, curve);
        self.ledger.close(now, curve);
    }

    /// As it is now; after the end nothing is asked for and nothing done.
    pub(super) fn progress(&self, begun: Instant) -> Progress {
        let last = self.last(begun);
        if self.ledger.closed() {
            return Progress { requested: 0.0, effective: 0.0, ..last };
        }
        last
    }

    /// As it was when it was last at work.
    pub(super) fn last(&self, begun: Instant) -> Progress {
        let (asked, given_up) = (self.ledger.asked(), self.ledger.given_up());
        let mut aside = vec![("bytes", self.bytes as f64), ("errors", self.failed as f64)];
        let latencies = [("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)];
        aside.extend(latencies.iter().filter_map(|(name, part)| {
            self.latencies.quantile_ms(*part).map(|latency| (*name, latency))
        }));
        let slow = (given_up > 0)
            .then(|| format!("{given_up} operations were due for too long: the device is slower"));
        Progress {
            requested: asked.level,
            effective: self.rate,
            requested_total: asked.total,
            effective_total: self.done as f64,
            shortfall_total: (given_up + self.failed) as f64,
            onset: self.onset.map(|t| begun + t),
            settled: self.settled.map(|t| begun + t),
            aside,
            limited_by: self.limited_by.clone().or(slow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_rate_is_that_of_the_last_second_and_settles_when_it_is_as_asked() {
        let (curve, begun) = (|_| 100.0, Instant::now());
        let (mut books, mut held) = (Books::new(&curve), Held::default());
        // 500 ms in which nothing can be done, then each as it is due.
        for ms in 500..2000 {
            books.pass(at(ms), &curve);
            if books.step(&mut held) == Step::Go {
                books.done(at(ms), at(1), Ok(10));
            }
            let rate = books.progress(begun).effective;
            assert!(rate <= 112.0, "{rate} at {ms} ms"); // The patience is paid back
        }
        let last = books.last(begun);
        assert!((last.effective - 100.0).abs() <= 2.0, "{last:?}");
        assert_eq!(last.onset, Some(begun + at(500)));
        let settled = last.settled.unwrap() - begun;
        assert!((at(1400)..at(1700)).contains(&settled), "{settled:?}");
        assert!((39.0..=41.0).contains(&last.shortfall_total), "{last:?}");
        assert!(last.limited_by.unwrap().contains("slower"));
    }

    #[test]
    fn what_fails_is_shortfall_and_the_books_add_up_after_the_end() {
        let (curve, begun) = (|_| 50.0, Instant::now());
        let (mut books, mut held) = (Books::new(&curve), Held::default());
        for ms in (0..1000).step_by(2) {
            books.pass(at(ms), &curve);
            if books.step(&mut held) == Step::Go {
                let failed = || io::Error::from_raw_os_error(5);
                books.done(at(ms), at(1), if ms % 3 == 0 { Err(failed()) } else { Ok(7) });
            }
        }
        books.close(at(1000), &curve);
        let last = books.last(begun);
        assert!(books.failed > 5 && books.done > 20 && last.onset.is_some(), "{books:?}");
        assert_eq!(last.effective_total + last.shortfall_total, 50.0, "{last:?}");
        assert!(last.limited_by.as_ref().unwrap().contains("os error 5"));
        assert_eq!(
            last.aside[..2],
            [("bytes", books.done as f64 * 7.0), ("errors", books.failed as f64)]
        );
        let after = books.progress(begun);
        assert_eq!((after.requested, after.effective), (0.0, 0.0));
        assert_eq!((last.requested, last.effective > 20.0), (50.0, true));
    }
}
