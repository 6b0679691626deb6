//! The shape of an intensity over time: a factor from 0 to 1, by nothing but the time since the start
//! and a seed.
//!
//! - `SHAPE-1` for any time and seed the factor is a number from 0 to 1;
//! - `SHAPE-2` the same shape, time and seed give the same factor, in any order of asking;
//! - `SHAPE-3` a [checked](Shape::check) shape takes time that does not grow with the time asked for.

use std::f64::consts::TAU;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod noise;

pub use noise::hash_of;

/// How an intensity goes over time. Times are seconds; `low` is the factor at the lowest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// All of it at once.
    Step {},
    /// From `low` to all of it within `over`.
    Ramp {
        /// Seconds.
        over: f64,
        /// Where it begins.
        #[serde(default)]
        low: f64,
    },
    /// A sine between `low` and 1 that begins in the middle, rising.
    Sine {
        /// Seconds.
        period: f64,
        /// At the lowest.
        #[serde(default)]
        low: f64,
    },
    /// 1 for the first part of each period, else `low`.
    Square {
        /// Seconds.
        period: f64,
        /// Which part of the period is high.
        #[serde(default = "half")]
        duty: f64,
        /// At the lowest.
        #[serde(default)]
        low: f64,
    },
    /// Bursts of a fixed length that begin at random times (a Poisson process).
    Burst {
        /// How many begin in a second, on average.
        per_second: f64,
        /// Seconds.
        length: f64,
        /// Between bursts.
        #[serde(default)]
        low: f64,
    },
    /// From `low` to 1 in each period, and back at once.
    Sawtooth {
        /// Seconds.
        period: f64,
        /// Where each tooth begins.
        #[serde(default)]
        low: f64,
    },
    /// A random walk between `low` and 1 (Brownian motion, reflected at both).
    RandomWalk {
        /// How long it takes to wander about half of the way, in seconds.
        pace: f64,
        /// At the lowest.
        #[serde(default)]
        low: f64,
    },
    /// On and off for random times, on at first; how often it turns is fixed: once in `on + off` each.
    Flapping {
        /// How long it is on, on average, in seconds.
        on: f64,
        /// How long it is off, on average, in seconds.
        off: f64,
    },
    /// A table of points (seconds, factor), straight between them, level before and after.
    Table {
        /// In the order of their times; at least one, at most [`POINTS`].
        points: Vec<(f64, f64)>,
    },
}

/// The most points of a table.
pub const POINTS: usize = 1000;
/// The shortest period or length, in seconds: what can be seen at all.
pub const SHORTEST: f64 = 0.05;
/// The longest, in seconds.
pub const LONGEST: f64 = 1e6;

fn half() -> f64 {
    0.5
}

impl Default for Shape {
    fn default() -> Self {
        Shape::Step {}
    }
}

impl Shape {
    /// The factor so long after the start.
    pub fn at(&self, elapsed: Duration, seed: u64) -> f64 {
        let t = elapsed.as_secs_f64();
        let between = |low: f64, x: f64| low + (1.0 - low) * x;
        let factor = match self {
            Shape::Step {} => 1.0,
            Shape::Ramp { over, low } => between(*low, (t / over).min(1.0)),
            Shape::Sine { period, low } => between(*low, 0.5 + 0.5 * (TAU * t / period).sin()),
            Shape::Square { period, duty, low } => {
                between(*low, f64::from((t / period).fract() < *duty))
            }
            Shape::Burst { per_second, length, low } => {
                between(*low, f64::from(noise::bursts(t, *per_second, *length, seed)))
            }
            Shape::Sawtooth { period, low } => between(*low, (t / period).fract()),
            Shape::RandomWalk { pace, low } => between(*low, noise::walk(t / pace, seed)),
            Shape::Flapping { on, off } => f64::from(noise::flaps(t, *on, *off, seed)),
            Shape::Table { points } => interpolate(points, t),
        };
        if factor.is_finite() { factor.clamp(0.0, 1.0) } else { 0.0 } // SHAPE-1
    }

    /// Whether its numbers make sense: where not, the field, and what would be right.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let time = |field: &'static str, value: f64| {
            (SHORTEST..=LONGEST).contains(&value).then_some(()).ok_or_else(|| {
                (field, format!("expected {SHORTEST} to {LONGEST} seconds, got {value}"))
            })
        };
        let part = |field: &'static str, value: f64| {
            let right = (0.0..=1.0).contains(&value);
            right.then_some(()).ok_or_else(|| (field, format!("expected 0 to 1, got {value}")))
        };
        match self {
            Shape::Step {} => Ok(()),
            Shape::Ramp { over, low } => time("over", *over).and(part("low", *low)),
            Shape::Sine { period, low } | Shape::Sawtooth { period, low } => {
                time("period", *period).and(part("low", *low))
            }
            Shape::Square { period, duty, low } => {
                time("period", *period).and(part("duty", *duty)).and(part("low", *low))
            }
            Shape::Burst { per_second, length, low } => {
                let rate = (1e-6..=20.0).contains(per_second);
                let rate = rate.then_some(()).ok_or_else(|| {
                    ("per_second", format!("expected 0.000001 to 20, got {per_second}"))
                });
                rate.and(time("length", *length)).and(part("low", *low))
            }
            Shape::RandomWalk { pace, low } => time("pace", *pace).and(part("low", *low)),
            Shape::Flapping { on, off } => time("on", *on).and(time("off", *off)),
            Shape::Table { points } => check_points(points),
        }
    }
}

fn check_points(points: &[(f64, f64)]) -> Result<(), (&'static str, String)> {
    let wrong = |why: String| Err(("points", why));
    if points.is_empty() || points.len() > POINTS {
        return wrong(format!("expected 1 to {POINTS} points, got {}", points.len()));
    }
    for (n, (t, factor)) in points.iter().enumerate() {
        if !(0.0..=LONGEST).contains(t) || !(0.0..=1.0).contains(factor) {
            return wrong(format!(
                "point {n}: expected 0 to {LONGEST} seconds and a factor from 0 to 1, got [{t}, {factor}]"
            ));
        }
        if n > 0 && *t < points[n - 1].0 {
            return wrong(format!("point {n}: expected the points in the order of their times"));
        }
    }
    Ok(())
}

fn interpolate(points: &[(f64, f64)], t: f64) -> f64 {
    let after = points.partition_point(|(at, _)| *at <= t);
    let (Some(next), Some(last)) = (points.get(after), after.checked_sub(1)) else {
        return points.get(after).or(points.last()).map_or(0.0, |(_, factor)| *factor);
    };
    let (from, to) = (points[last], next);
    from.1 + (to.1 - from.1) * (t - from.0) / (to.0 - from.0)
}

#[cfg(test)]
mod tests;
