//! What a curve asked for, summed up over time.
//!
//! - `ASKED-1` the sum never shrinks and is always a number, whatever the curve says;
//! - `ASKED-2` it does not depend on how often one looks, but for jumps: within half of [`STEP`]
//!   each.

use std::time::Duration;

/// How often the curve is asked, where nobody looks for longer.
const STEP: Duration = Duration::from_millis(5);
/// The most questions at a look: after a long sleep of the machine the steps are longer.
const QUESTIONS: u32 = 10_000;
/// More than this is taken as this: no disk comes near, and sums stay exact.
pub(in crate::faults) const HIGHEST: f64 = 1e9;

/// The integral of a curve up to some time.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::faults) struct Asked {
    /// Up to when.
    pub(in crate::faults) at: Duration,
    /// What is asked for then.
    pub(in crate::faults) level: f64,
    /// Unit x seconds.
    pub(in crate::faults) total: f64,
}

impl Asked {
    pub(in crate::faults) fn new(curve: &dyn Fn(Duration) -> f64) -> Asked {
        Asked { at: Duration::ZERO, level: sane(curve(Duration::ZERO)), total: 0.0 }
    }

    /// Sums up to then; earlier than last time is no time at all.
    pub(in crate::faults) fn upto(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64) {
        let step = STEP.max(now.saturating_sub(self.at) / QUESTIONS);
        while self.at < now {
            let at = now.min(self.at + step);
            let level = sane(curve(at));
            self.total += (self.level + level) / 2.0 * (at - self.at).as_secs_f64();
            (self.at, self.level) = (at, level);
        }
    }
}

/// As the contract of curves says; what is not a number is nothing (ASKED-1).
pub(in crate::faults) fn sane(level: f64) -> f64 {
    if level.is_nan() { 0.0 } else { level.clamp(0.0, HIGHEST) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_sum_is_that_of_the_curve_however_one_looks(
            looks in prop::collection::vec(0_u64..400, 1..30),
            (from, slope, jump) in (0.0..100.0, -20.0..20.0, 0_u64..3000),
        ) {
            let (from, slope, jump): (f64, f64, u64) = (from, slope, jump);
            let curve = move |t: Duration| {
                let t = t.as_secs_f64();
                (from + slope * t).max(0.0) + f64::from(t * 1e3 > jump as f64) * 50.0
            };
            let (mut asked, mut now) = (Asked::new(&curve), Duration::ZERO);
            for look in looks {
                let before = asked.total;
                now += Duration::from_millis(look);
                asked.upto(now, &curve);
                prop_assert!(asked.total >= before && asked.at == now);
            }
            let fine = 1e-4; // Summed up once more, by a finer grid
            let steps = (now.as_secs_f64() / fine) as u64;
            let middle = |n: u64| Duration::from_secs_f64((n as f64 + 0.5) * fine);
            let want: f64 = (0..steps).map(|n| curve(middle(n)) * fine).sum();
            prop_assert!((asked.total - want).abs() < 0.16, "{} for {want}", asked.total);
        }

        #[test]
        fn no_curve_makes_it_anything_but_a_number(
            levels in prop::collection::vec(any::<f64>(), 20),
        ) {
            let curve = |t: Duration| levels[(t.as_millis() / 10 % 20) as usize];
            let mut asked = Asked::new(&curve);
            asked.upto(Duration::from_millis(200), &curve);
            prop_assert!((0.0..=HIGHEST).contains(&asked.total) && asked.level.is_finite());
        }
    }

    #[test]
    fn a_machine_that_slept_for_a_year_is_no_endless_sum() {
        let calls = std::cell::Cell::new(0);
        let curve = |_| {
            calls.set(calls.get() + 1);
            2.0
        };
        let mut asked = Asked::new(&curve);
        asked.upto(Duration::from_secs(365 * 86_400), &curve);
        let want = 2.0 * 365.0 * 86_400.0;
        assert!((asked.total / want - 1.0).abs() < 1e-9, "{} for {want}", asked.total);
        assert!(calls.get() <= QUESTIONS + 2, "{} questions", calls.get());
    }
}
