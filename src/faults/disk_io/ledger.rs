//! Which operation is due when: the integral of the rate, as numbered operations. Plain
//! arithmetic.
//!
//! - `LEDGER-1` an operation is started, given up or neither, never both, and none twice;
//! - `LEDGER-2` what has been due for [`PATIENCE`] is given up, be it held or not;
//! - `LEDGER-3` no pause is longer than [`SLICE`], at any rate;
//! - `LEDGER-4` after [`close`](Ledger::close) nothing starts, and each that was due has been
//!   started or given up.

use std::collections::VecDeque;
use std::time::Duration;

use super::PATIENCE;
use crate::faults::asked::Asked;
use crate::faults::term::SLICE;

/// How far the points are apart from which we know what was due a while ago.
const POINT: Duration = Duration::from_millis(5);

/// What a thread is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// An operation; it counts as started.
    Go,
    /// Nothing yet: ask again after this.
    Pause(Duration),
}

/// The number of the operation that a thread holds, if any.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Option<u64>);

#[derive(Debug)]
pub(super) struct Ledger {
    asked: Asked,
    /// When how many were due, up to now; the first is no younger than [`PATIENCE`], if there is
    /// one.
    points: VecDeque<(Duration, f64)>,
    /// Operations are numbered from 1; those up to here are held, started or given up.
    issued: u64,
    started: u64,
    given_up: u64,
    closed: bool,
}

impl Ledger {
    pub(super) fn new(curve: &dyn Fn(Duration) -> f64) -> Ledger {
        Ledger {
            asked: Asked::new(curve),
            points: VecDeque::from([(Duration::ZERO, 0.0)]),
            issued: 0,
            started: 0,
            given_up: 0,
            closed: false,
        }
    }

    /// What was asked for so far.
    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// How many will never be started though they were due.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    /// Time passes.
    pub(super) fn pass(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64) {
        if self.closed {
            return;
        }
        self.asked.upto(now, curve);
        let point = (self.asked.at, self.asked.total);
        let before = self.points.len().checked_sub(2).map(|n| self.points[n].0);
        if before.is_some_and(|before| point.0 < before + POINT) {
            self.points.pop_back();
        }
        self.points.push_back(point);
        let Some(cut) = self.asked.at.checked_sub(PATIENCE) else { return };
        while self.points.get(1).is_some_and(|(at, _)| *at <= cut) {
            self.points.pop_front();
        }
        let overdue = self.overdue();
        self.given_up += overdue.saturating_sub(self.issued); // LEDGER-2
        self.issued = self.issued.max(overdue);
    }

    /// Up to which number they have been due for too long.
    fn overdue(&self) -> u64 {
        let (Some(cut), Some(first)) = (self.asked.at.checked_sub(PATIENCE), self.points.front())
        else {
            return 0;
        };
        let next = self.points.get(1).unwrap_or(first);
        let passed = cut.saturating_sub(first.0).as_secs_f64();
        let between = next.0.saturating_sub(first.0).as_secs_f64();
        let part = if between > 0.0 { (passed / between).min(1.0) } else { 0.0 };
        (first.1 + (next.1 - first.1) * part) as u64
    }

    /// What the thread that holds this is to do now.
    pub(super) fn step(&mut self, held: &mut Held) -> Step {
        if self.closed {
            return Step::Pause(SLICE);
        }
        if held.0.is_some_and(|number| number <= self.overdue()) {
            held.0 = None;
            self.given_up += 1;
        }
        let number = *held.0.get_or_insert_with(|| {
            self.issued += 1;
            self.issued
        });
        let missing = number as f64 - self.asked.total;
        if missing <= 0.0 {
            held.0 = None;
            self.started += 1;
            return Step::Go;
        }
        let pause = Duration::try_from_secs_f64(missing / self.asked.level).unwrap_or(SLICE);
        Step::Pause(pause.min(SLICE)) // LEDGER-3
    }

    /// The end: what is due and was not started is given up.
    pub(super) fn close(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64) {
        if !self.closed {
            self.pass(now, curve);
            self.given_up = (self.asked.total as u64).saturating_sub(self.started); // LEDGER-4
            self.closed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Threads that take so long for an operation, on a clock of our own; gives the starts.
    fn play(
        threads: usize,
        took: Duration,
        rate: impl Fn(Duration) -> f64,
        end: Duration,
    ) -> Ledger {
        let mut ledger = Ledger::new(&rate);
        let mut hands = vec![(Duration::ZERO, Held::default()); threads];
        loop {
            let (wakes, held) = hands.iter_mut().min_by_key(|(wakes, _)| *wakes).unwrap();
            let now = *wakes;
            if now >= end {
                ledger.close(end, &rate);
                assert_eq!(ledger.step(held), Step::Pause(SLICE), "it started after the end");
                return ledger;
            }
            ledger.pass(now, &rate);
            *wakes += match ledger.step(held) {
                Step::Go => took,
                Step::Pause(pause) => pause + Duration::from_nanos(1),
            };
        }
    }

    #[test]
    fn all_that_is_due_is_started_where_there_are_hands_for_it() {
        let second = Duration::from_secs(1);
        for (threads, rate, want) in [(1, 200.0, 200), (4, 1000.0, 1000), (16, 3.0, 3), (2, 0.4, 0)]
        {
            let ledger = play(threads, Duration::from_micros(900), |_| rate, second);
            assert!((want - 2..=want).contains(&(ledger.started as i64)), "{ledger:?}");
            assert!(ledger.given_up <= 2, "{ledger:?}");
        }
    }

    #[test]
    fn what_the_device_cannot_do_is_given_up_and_not_paid_back() {
        // 10 ms for each: 100/s, where 1000/s are asked for in the first second and none in the
        // next.
        let rate = |t: Duration| if t < Duration::from_secs(1) { 1000.0 } else { 0.0 };
        let ledger = play(1, Duration::from_millis(10), rate, Duration::from_secs(2));
        let started = ledger.started;
        assert!((108..=113).contains(&started), "{started}: a second and the patience, 10 ms each");
        assert!(started.abs_diff(1000 - ledger.given_up) <= 2, "{ledger:?}");
    }

    proptest! {
        #[test]
        fn each_that_was_due_was_started_or_given_up(
            threads in 1_usize..16, took in 0_u64..300_000, top in 0.0..2000.0, period in 0.1..2.0,
        ) {
            let (top, period): (f64, f64) = (top, period);
            let rate = move |t: Duration| top * (t.as_secs_f64() / period).sin().abs();
            let (took, end) = (Duration::from_micros(took), Duration::from_millis(700));
            let ledger = play(threads, took, rate, end);
            prop_assert_eq!(ledger.started + ledger.given_up, ledger.asked.total as u64);
            prop_assert!(ledger.points.len() < 50, "{} points", ledger.points.len());
        }

        #[test]
        fn no_pause_is_longer_than_a_slice_at_any_rate(
            rate in prop_oneof![
                any::<f64>(), 0.0..1e4, Just(0.0), Just(1e-9), Just(f64::MAX), Just(f64::INFINITY)
            ],
            times in prop::collection::vec(0_u64..1_000_000_000, 1..50),
        ) {
            let curve = move |_| rate;
            let (mut ledger, mut held, mut now) =
                (Ledger::new(&curve), Held::default(), Duration::ZERO);
            for time in times {
                now += Duration::from_nanos(time);
                ledger.pass(now, &curve);
                if let Step::Pause(pause) = ledger.step(&mut held) {
                    prop_assert!(pause <= SLICE);
                }
                let settled = ledger.started + ledger.given_up;
                prop_assert!(settled as f64 <= ledger.asked.total, "{ledger:?}"); // LEDGER-1
            }
        }
    }
}
