//! The books of a level: what was asked for, how full it was found to be, what could not be had,
//! each summed up over time. Plain arithmetic; times are since the start.
//!
//! - `BOOKS-1` asked = found + shortfall - surplus, in percent x seconds, but for the half of a
//!   tick by which we are behind the curve and others: found is measured, shortfall and surplus
//!   are of the [`Plan`] and what is held (FAULT-3).

use std::time::{Duration, Instant};

use super::level::Plan;
use super::tank::Room;
use super::volume::percent;
use crate::faults::asked::Asked;
use crate::faults::effect::Progress;

/// Points within which a level is as it should be; a block, where that is more.
const TOLERANCE: f64 = 0.01;

#[derive(Debug)]
pub(super) struct Books {
    asked: Asked,
    /// As of the last look or step, if there was one.
    now: Option<Stand>,
    /// The sums, percent x seconds.
    total: Stand,
    onset: Option<Duration>,
    settled: Option<Duration>,
    /// After the end: how full it is then.
    left: Option<f64>,
    closed: bool,
    /// The last thing that made it less.
    pub(super) limited_by: Option<String>,
    /// Besides.
    pub(super) aside: Vec<(&'static str, f64)>,
}

/// In percent: how full it was found, and what is missing of or taken beyond what was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stand {
    found: f64,
    missing: f64,
    surplus: f64,
}

impl Stand {
    /// Where so much is held of what is planned, and it was found so full.
    pub(super) fn of(room: &Room, plan: &Plan, held: u64, found: f64) -> Stand {
        let points = |bytes: f64| bytes.max(0.0) / room.total.max(1) as f64 * 100.0;
        let missing = points(plan.wanted.max(0.0) - held as f64);
        // Less than a block cannot be had.
        let missing = if missing > percent(room.block, room.total) { missing } else { 0.0 };
        Stand { found, missing, surplus: points(-plan.wanted) }
    }

    fn mean(a: f64, b: f64) -> f64 {
        (a + b) / 2.0
    }
}

impl Books {
    pub(super) fn new(curve: &dyn Fn(Duration) -> f64) -> Books {
        Books {
            asked: Asked::new(curve),
            now: None,
            total: Stand::default(),
            onset: None,
            settled: None,
            left: None,
            closed: false,
            limited_by: None,
            aside: Vec::new(),
        }
    }

    /// It was looked at, after a while in which we did nothing: what was missing was missing all
    /// the while.
    pub(super) fn looked(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64, stand: Stand) {
        let before = self.now.unwrap_or(stand);
        self.pass(now, curve, Stand { found: Stand::mean(before.found, stand.found), ..before });
        self.now = Some(stand);
    }

    /// A step was taken since the last look.
    pub(super) fn stepped(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64, stand: Stand) {
        let before = self.now.unwrap_or(stand);
        let during = Stand {
            found: Stand::mean(before.found, stand.found),
            missing: Stand::mean(before.missing, stand.missing),
            surplus: Stand::mean(before.surplus, stand.surplus),
        };
        self.pass(now, curve, during);
        self.now = Some(stand);
    }

    fn pass(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64, stand: Stand) {
        let passed = now.saturating_sub(self.asked.at).as_secs_f64();
        self.asked.upto(now, curve);
        self.total.found += stand.found * passed;
        self.total.missing += stand.missing * passed;
        self.total.surplus += stand.surplus * passed;
    }

    /// What came of the step: so much is held, and this is what limits it.
    pub(super) fn stands(&mut self, room: &Room, plan: &Plan, held: u64) {
        if plan.limited_by.is_some() {
            self.limited_by.clone_from(&plan.limited_by);
        }
        if held > 0 {
            self.onset.get_or_insert(self.asked.at);
        }
        let off = self.now.map_or(f64::MAX, |now| (now.found - self.asked.level).abs());
        if self.onset.is_some() && off <= TOLERANCE.max(percent(room.block, room.total)) {
            self.settled.get_or_insert(self.asked.at);
        }
    }

    /// From now on nothing is asked for.
    pub(super) fn close(&mut self, now: Duration, curve: &dyn Fn(Duration) -> f64) {
        self.pass(now, curve, self.now.unwrap_or_default());
        self.closed = true;
    }

    /// After all was given back it is so full.
    pub(super) fn left(&mut self, level: f64) {
        self.left = Some(level);
    }

    /// As it is now; after the end nothing is asked for, and what is left is as it was found then.
    pub(super) fn progress(&self, begun: Instant) -> Progress {
        let last = self.last(begun);
        let requested = if self.closed { 0.0 } else { last.requested };
        Progress { requested, effective: self.left.unwrap_or(last.effective), ..last }
    }

    /// As it was when it was last at work.
    pub(super) fn last(&self, begun: Instant) -> Progress {
        let mut aside = self.aside.clone();
        aside.push(("surplus_percent_s", self.total.surplus));
        Progress {
            requested: self.asked.level,
            effective: self.now.map_or(0.0, |now| now.found),
            requested_total: self.asked.total,
            effective_total: self.total.found,
            shortfall_total: self.total.missing,
            onset: self.onset.map(|t| begun + t),
            settled: self.settled.map(|t| begun + t),
            aside,
            limited_by: self.limited_by.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::faults::disk_full::TICK;

    proptest! {
        /// A volume that others fill and empty at random, with a floor, under a curve that moves.
        #[test]
        fn the_books_add_up_whatever_others_do(
            others in prop::collection::vec(0_u64..70_000, 1..50),
            (top, period, floor, step) in (0.0..110.0, 0.2..3.0, 0_u64..30_000, 0_u64..30),
        ) {
            let (top, period): (f64, f64) = (top, period);
            let curve = move |t: Duration| top * (t.as_secs_f64() / period).sin().abs();
            let mut books = Books::new(&curve);
            let (mut held, mut now, total) = (0, Duration::ZERO, 100_000);
            let (mut moved, mut before) = (0.0, None);
            for own in others {
                let own = own.min(total - held);
                let used = own + held;
                moved += before.replace(own).unwrap_or(own).abs_diff(own) as f64 / 1000.0;
                let room = Room { total, used, available: total - used, block: 10, floor };
                let plan = Plan::new(&room, held, curve(now));
                books.looked(now, &curve, Stand::of(&room, &plan, held, room.percent()));
                held = plan.allowed;
                let found = percent(own + held, total);
                now += Duration::from_millis(step);
                books.stepped(now, &curve, Stand::of(&room, &plan, held, found));
                books.stands(&room, &plan, held);
                now += TICK;
            }
            let last = books.last(Instant::now());
            let sum = last.effective_total + last.shortfall_total - books.total.surplus;
            // By half of a tick and a step, for whoever moves.
            let interval = (TICK + Duration::from_millis(step)).as_secs_f64();
            let behind = (top / period * now.as_secs_f64() + moved) * interval / 2.0;
            prop_assert!(
                (last.requested_total - sum).abs() <= behind + 0.02 * now.as_secs_f64(),
                "{sum} for {last:?}"
            );
        }
    }
}
