//! The circuit breaker of one source: leaves it alone after repeated failures, and tries it again
//! with one request. Pure: times come in as values.
//!
//! Owned by `sources.rs`, one per source.
//!
//! - `BREAK-1` after `failures` failures in a row it opens;
//! - `BREAK-2` while it is open nothing is let through; after the pause exactly one probe is, and
//!   nothing else until the probe has an outcome or has been out for as long as the pause;
//! - `BREAK-3` the pause doubles with every trip in a row, up to [`LONGEST`] times the first one;
//!   one success closes the breaker and forgets it all.

use crate::types::UnixMillis;

/// The longest pause, in first pauses.
pub const LONGEST: u64 = 12;

/// A circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    pause_ms: u64,
    state: State,
    /// Trips since the last success.
    trips: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failed: u32 },
    Open { until: UnixMillis },
    Probing { until: UnixMillis },
}

impl Breaker {
    /// A closed breaker that trips after `failures` failures in a row, first for `pause_ms`.
    pub fn new(failures: u32, pause_ms: u64) -> Self {
        let state = State::Closed { failed: 0 };
        Breaker { failures: failures.max(1), pause_ms: pause_ms.max(1), state, trips: 0 }
    }

    /// Whether a request may be sent now; a `true` must be followed by [`Breaker::record`].
    pub fn allow(&mut self, now: UnixMillis) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } | State::Probing { until } if now < until => false,
            State::Open { .. } | State::Probing { .. } => {
                self.state = State::Probing { until: now + self.pause() };
                true
            }
        }
    }

    /// What became of a request that was let through.
    pub fn record(&mut self, now: UnixMillis, good: bool) {
        match (self.state, good) {
            (_, true) => {
                self.state = State::Closed { failed: 0 };
                self.trips = 0;
            }
            (State::Closed { failed }, false) if failed + 1 < self.failures => {
                self.state = State::Closed { failed: failed + 1 };
            }
            (State::Closed { .. } | State::Probing { .. }, false) => {
                self.state = State::Open { until: now + self.pause() };
                self.trips = self.trips.saturating_add(1);
            }
            (State::Open { .. }, false) => {} // sent before the trip
        }
    }

    fn pause(&self) -> u64 {
        self.pause_ms * (1u64 << self.trips.min(8)).min(LONGEST)
    }

    /// `closed`, `open` or `half_open`.
    pub fn name(&self, now: UnixMillis) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { until } if now < until => "open",
            State::Open { .. } | State::Probing { .. } => "half_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_source_that_keeps_failing_is_left_alone_longer_and_longer() {
        let mut breaker = Breaker::new(2, 100);
        assert!(breaker.allow(0));
        breaker.record(0, false);
        assert!(breaker.allow(0), "one failure is not two");
        breaker.record(0, false);
        assert_eq!((breaker.allow(99), breaker.name(99)), (false, "open"));
        assert_eq!((breaker.name(100), breaker.allow(100)), ("half_open", true));
        assert!(!breaker.allow(101), "one probe at a time");
        breaker.record(150, false);
        assert_eq!((breaker.allow(349), breaker.allow(350)), (false, true), "twice as long");
        breaker.record(351, true);
        assert_eq!(breaker, Breaker::new(2, 100), "one success forgets it all");
    }

    #[test]
    fn a_probe_without_an_outcome_does_not_block_for_ever() {
        let mut breaker = Breaker::new(1, 100);
        breaker.record(0, false);
        assert!(breaker.allow(100));
        assert!(!breaker.allow(299));
        assert!(breaker.allow(300), "the probe was out for as long as its pause");
    }

    proptest! {
        #[test]
        fn an_open_breaker_lets_nothing_through_and_always_opens_again(
            failures in 1u32..4, steps: Vec<(bool, u8)>,
        ) {
            let mut breaker = Breaker::new(failures, 100);
            let (mut now, mut in_a_row, mut last_probe) = (0u64, 0u32, None::<u64>);
            for (good, wait) in steps {
                now += u64::from(wait);
                let before = breaker.name(now);
                let allowed = breaker.allow(now);
                match before {
                    "closed" => prop_assert!(allowed),
                    "open" => prop_assert!(!allowed), // BREAK-2
                    _ => if allowed {
                        let gap = last_probe.map(|at| now - at);
                        prop_assert!(gap.is_none_or(|gap| gap >= 100), "probes {:?} apart", gap);
                        last_probe = Some(now);
                    },
                }
                if !allowed {
                    continue;
                }
                breaker.record(now, good);
                in_a_row = if good { 0 } else { in_a_row + 1 };
                prop_assert_eq!(breaker.name(now) == "closed", in_a_row < failures); // BREAK-1
                if good {
                    last_probe = None;
                }
            }
            prop_assert!(breaker.allow(now + 100 * LONGEST), "BREAK-3: it is tried again");
        }
    }
}
