//! How much to hold for a level that is asked for, and by which steps to get there. Plain
//! arithmetic.
//!
//! - `LEVEL-1` the floor is left to others after any step (DISK-1), as far as giving all back can;
//! - `LEVEL-2` where nothing limits, the level is within half a block of what was asked for;
//! - `LEVEL-3` nobody waits for longer than a [`TICK`].

use std::time::Duration;

use super::TICK;
use super::tank::Room;
use crate::faults::asked::sane;

/// What to hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// For exactly what was asked for; negative where others have taken more than that already.
    pub(super) wanted: f64,
    /// What may be: whole blocks, and the floor is left.
    pub(super) allowed: u64,
    /// Whether that is less, and why.
    pub(super) limited_by: Option<String>,
}

impl Plan {
    /// For so many percent, where `held` of what is used are ours.
    pub(super) fn new(room: &Room, held: u64, asked: f64) -> Plan {
        let others = room.used.saturating_sub(held);
        let wanted = sane(asked) / 100.0 * room.total as f64 - others as f64;
        let blocks = (wanted.max(0.0) / room.block as f64).round() as u64;
        let rounded = blocks.saturating_mul(room.block);
        let most = held.saturating_add(room.available).saturating_sub(room.floor);
        let most = most - most % room.block;
        Plan {
            wanted,
            allowed: rounded.min(most),
            limited_by: (rounded > most).then(|| limit(room)),
        }
    }
}

fn limit(room: &Room) -> String {
    if room.floor == 0 {
        return format!("all of its {} bytes are taken", room.total);
    }
    format!("floor: {} bytes are left to others, {} are available", room.floor, room.available)
}

/// When to look again, after the start.
pub(super) fn next_tick(elapsed: Duration) -> Duration {
    let ticks = elapsed.as_nanos() / TICK.as_nanos() + 1;
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)).min(elapsed + TICK) // LEVEL-3
}

/// How many bytes at once: as many as the system takes in about a quarter of a tick, so that the
/// end of the term is never waited out by a large one. `fallocate` takes some 28 MiB/ms on ext4,
/// but a tmpfs has to find memory for them.
#[derive(Clone, Debug)]
pub(super) struct Stride(u64);

const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 1 << 30;

impl Default for Stride {
    fn default() -> Self {
        Stride(16 << 20)
    }
}

impl Stride {
    /// The next step from what is held: less than all of the way if that is far.
    pub(super) fn towards(&self, held: u64, goal: u64, block: u64) -> u64 {
        let step = (self.0 / block).max(1) * block;
        goal.clamp(held.saturating_sub(step), held.saturating_add(step))
    }

    /// The last step was so many bytes, and took so long.
    pub(super) fn went(&mut self, bytes: u64, took: Duration) {
        if took < TICK / 8 && bytes > self.0 / 2 {
            self.0 = (self.0 * 2).min(LARGEST);
        } else if took > TICK / 2 {
            self.0 = (self.0 / 2).max(SMALLEST);
        }
    }

    /// The last step was not possible; says whether a smaller one may be.
    pub(super) fn refused(&mut self, block: u64) -> bool {
        let smaller = self.0 > block;
        // It was sized for speed: there may be room for a part of it.
        self.0 = if smaller { self.0 / 2 } else { SMALLEST };
        smaller
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room() -> impl Strategy<Value = (Room, u64)> {
        let block = prop::sample::select(vec![1_u64, 512, 4096, 65_536]);
        (block, 1_u64..1 << 30, 0.0..=1.0, 0.0..=1.0, 0_u64..1 << 32).prop_map(
            |(block, blocks, used, held, floor)| {
                let part = |of: u64, part: f64| (of as f64 * part) as u64;
                let (used, floor) = (part(blocks, used), floor * u64::from(floor % 3 > 0));
                let (total, held) = (blocks * block, part(used, held) * block);
                let available = total - used * block;
                (Room { total, used: used * block, available, block, floor }, held)
            },
        )
    }

    proptest! {
        #[test]
        fn the_floor_is_left_and_the_level_is_as_asked_where_nothing_limits(
            (room, held) in room(), asked in 0.0..120.0,
        ) {
            let plan = Plan::new(&room, held, asked);
            let (allowed, held, floor) =
                (i128::from(plan.allowed), i128::from(held), i128::from(room.floor));
            let left = i128::from(room.available) + held - allowed;
            prop_assert!(left >= floor || allowed == 0, "{left} left of {room:?}"); // LEVEL-1
            prop_assert!(plan.allowed.is_multiple_of(room.block));
            let level = (i128::from(room.used) - held + allowed) as f64 / room.total as f64 * 100.0;
            let half = room.block as f64 / room.total as f64 * 50.0 + 1e-6;
            if plan.limited_by.is_some() {
                prop_assert!(level < asked + half && left - floor < i128::from(room.block));
            } else if plan.wanted >= 0.0 {
                prop_assert!((level - asked).abs() <= half, "{level} for {asked}"); // LEVEL-2
            } else {
                prop_assert!(allowed == 0 && level > asked - half);
            }
        }

        #[test]
        fn no_number_breaks_the_arithmetic(
            asked in any::<f64>(), numbers in any::<[u64; 4]>(), block in 1_u64..1 << 20,
        ) {
            let [total, used, available, floor] = numbers;
            let room = Room { total, used, available, block, floor };
            let plan = Plan::new(&room, used / 2, asked);
            prop_assert!(plan.wanted.is_finite());
            prop_assert!((0.0..=f64::MAX).contains(&room.percent()));
        }

        #[test]
        fn steps_lead_to_the_goal_however_long_they_take(
            (mut held, goal) in (0_u64..1 << 36, 0_u64..1 << 36),
            took in prop::collection::vec(0_u64..40, 1..20), block in 1_u64..1 << 22,
        ) {
            let mut stride = Stride::default();
            for n in 0_usize.. {
                let next = stride.towards(held, goal, block);
                prop_assert!(next.abs_diff(held) <= LARGEST.max(block));
                prop_assert!(next == goal || next.abs_diff(goal) < held.abs_diff(goal));
                let bytes = next.abs_diff(held);
                held = next;
                if held == goal {
                    break;
                }
                prop_assert!(n < 1 << 17, "no end");
                stride.went(bytes, Duration::from_millis(took[n % took.len()]));
            }
        }

        #[test]
        fn nobody_waits_for_longer_than_a_tick(elapsed in any::<u64>()) {
            let elapsed = Duration::from_nanos(elapsed);
            let wait = next_tick(elapsed).saturating_sub(elapsed);
            prop_assert!(wait <= TICK && TICK <= crate::faults::term::SLICE);
            let late = elapsed > Duration::from_secs(365 * 86_400);
            prop_assert!(!wait.is_zero() || late);
        }
    }

    #[test]
    fn small_steps_say_nothing_about_large_ones() {
        let mut stride = Stride::default();
        let before = stride.towards(0, u64::MAX, 4096);
        (0..100).for_each(|_| stride.went(4096, Duration::from_micros(5)));
        assert_eq!(stride.towards(0, u64::MAX, 4096), before);
        stride.went(before, Duration::from_micros(5));
        assert_eq!(stride.towards(0, u64::MAX, 4096), before * 2);
    }

    #[test]
    fn steps_shrink_while_they_are_refused_and_then_it_rests() {
        let mut stride = Stride::default();
        let tries = (0..100).take_while(|_| stride.refused(4096)).count();
        assert!((10..20).contains(&tries), "{tries} tries");
        assert_eq!(stride.towards(0, u64::MAX, 4096), SMALLEST);
    }
}
