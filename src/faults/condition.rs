//! Conditions: whether a rule applies to one request, by nothing but what is known of the request,
//! how many of the rule there were before, the time, and a seed.
//!
//! - `COND-1` the same conditions, facts, seed and factor give the same answer;
//! - `COND-2` what is not known, or makes no sense, holds for nothing (save [`Operator::Absent`] of
//!   what is not there): a rule that is broken does no harm;
//! - `COND-3` what [`contradicts`] finds is met by no facts whatever; it does not find all there
//!   is.
//!
//! A rule counts the requests that are [eligible]; that number decides about probability and count
//! (that are [chosen]), so that other traffic does not change which requests are hit:
//! `if eligible(list, &facts) { facts.number = counter; counter += 1; chosen(list, &facts, ..) }`.
//! The shape of the JSON is that of the original, and more: docs of [`Condition`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::shape::hash_of;

mod address;
mod contradiction;
mod count;
mod glob;
mod operator;
mod schedule;
mod subject;
mod test;
mod units;
mod wire;

pub use contradiction::contradicts;
pub use count::Count;
pub use glob::glob;
pub use operator::{Operand, Operator, Scalar};
pub use schedule::Schedule;
pub use subject::Subject;
pub use test::{LONGEST, Test, VALUES};
pub use units::{Day, Hours};

/// The most conditions of a rule.
pub const MOST: usize = 50;

/// A field that is wrong, and why: what would be right.
pub type Wrong = (String, String);

fn wrong<T>(field: &str, why: impl Into<String>) -> Result<T, Wrong> {
    Err((field.to_owned(), why.into()))
}

/// What is known of a request, or of a message to an actor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The service that serves it, `storage-service`.
    pub service: Option<&'a str>,
    /// The operation of S3 (`PutObject`), or the name of the call.
    pub operation: Option<&'a str>,
    /// The method of HTTP, `GET`.
    pub method: Option<&'a str>,
    /// The path, decoded.
    pub path: Option<&'a str>,
    /// The bucket.
    pub bucket: Option<&'a str>,
    /// The object's key.
    pub key: Option<&'a str>,
    /// Names in any case, and values; of a name that comes twice the first value counts.
    pub headers: &'a [(&'a str, &'a str)],
    /// The query's parameters, decoded.
    pub params: &'a [(&'a str, &'a str)],
    /// What sent it.
    pub user_agent: Option<&'a str>,
    /// From where.
    pub ip: Option<IpAddr>,
    /// How many requests that were [eligible] for the rule there were before.
    pub number: u64,
    /// Now, in ms since 1970, UTC.
    pub now_ms: i64,
}

/// One condition. All of a rule's must hold.
///
/// As JSON, `operator` being `eq` where it lacks (`in` for a list):
/// - `{"type": "probability", "value": 0.1}`;
/// - `{"type": "header" | "param", "field": "X-Tenant", "operator": "eq", "value": "a"}`;
/// - `{"type": "service" | "operation" | "method" | "path" | "bucket" | "key" | "user_agent",
///   "operator": "matches", "value": "logs/*"}`;
/// - `{"type": "ip", "operator": "in", "value": ["10.0.0.0/8", "::1"]}`;
/// - `{"type": "count", "operator": "ge", "value": 100, "every": 10}`, either or both;
/// - `{"type": "time", "from": "22:00", "to": "06:00"}` (UTC), or instants of RFC 3339, or as the
///   original `{"type": "time", "operator": "gt" | "lt", "value": "2026-11-28T15:00:00Z"}`;
/// - `{"type": "schedule", "start_time": .., "end_time": .., "days": ["mon"],
///   "hours": ["8-17", 20], "timezone": "Europe/Berlin"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "wire::Wire", try_from = "wire::Wire")]
pub enum Condition {
    /// By chance.
    Probability {
        /// From 0, never, to 1, always.
        value: f64,
    },
    /// A text of the request.
    Request {
        /// Which.
        subject: Subject,
        /// How it is to be.
        test: Test,
    },
    /// Where it is from.
    Ip {
        /// Of addresses and networks.
        test: Test,
    },
    /// How many there were before.
    Count(Count),
    /// When, in UTC: from then on, and until then, itself not.
    Time {
        /// RFC 3339, or `HH:MM` of each day.
        from: Option<String>,
        /// RFC 3339, or `HH:MM` of each day.
        to: Option<String>,
    },
    /// When, in a time zone.
    Schedule(Schedule),
}

impl Condition {
    /// Whether it makes sense by itself.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn check(&self) -> Result<(), Wrong> {
        match self {
            Condition::Probability { value } if (0.0..=1.0).contains(value) => Ok(()),
            Condition::Probability { value } => {
                wrong("value", format!("expected 0 (never) to 1 (always), got {value}"))
            }
            Condition::Request { subject, test } => subject.check(test),
            Condition::Ip { test } => address::check(test),
            Condition::Count(count) => count.check(),
            Condition::Time { from, to } => window(from, to)?.check(["from", "to"]),
            Condition::Schedule(schedule) => schedule.check(),
        }
    }

    /// Whether it holds by what is known of the request and by the time; None: it is about the
    /// number.
    fn by_facts(&self, facts: &Facts<'_>) -> Option<bool> {
        Some(match self {
            Condition::Probability { .. } | Condition::Count(_) => return None,
            Condition::Request { subject, test } => subject.holds(test, facts),
            Condition::Ip { test } => address::holds(test, facts.ip),
            Condition::Time { from, to } => {
                window(from, to).is_ok_and(|window| window.holds(facts.now_ms))
            }
            Condition::Schedule(schedule) => schedule.holds(facts.now_ms),
        })
    }
}

fn window(from: &Option<String>, to: &Option<String>) -> Result<schedule::Read<'static>, Wrong> {
    if from.is_none() && to.is_none() {
        return wrong("from", "expected a time, or one in the field to");
    }
    let window = schedule::Window::read(from, to, ["from", "to"])?;
    Ok(schedule::Read::of_window(window))
}

/// Checks all conditions of a rule, and that they do not contradict each other.
///
/// # Errors
/// The field (`conditions[2].value`), and what would be right.
pub fn check(list: &[Condition]) -> Result<(), Wrong> {
    if list.len() > MOST {
        return wrong("conditions", format!("expected at most {MOST}, got {}", list.len()));
    }
    for (n, condition) in list.iter().enumerate() {
        condition.check().map_err(|(field, why)| (format!("conditions[{n}].{field}"), why))?;
    }
    contradicts(list).map_or(Ok(()), Err)
}

/// Whether all conditions hold that are not about the request's number: whether the rule counts it.
pub fn eligible(list: &[Condition], facts: &Facts<'_>) -> bool {
    list.iter().all(|condition| condition.by_facts(facts).unwrap_or(true))
}

/// Whether the conditions hold that are about the request's number: count, and probability. The
/// latter is drawn from the seed, the number and the place in the list, and multiplied by a factor
/// from 0 to 1 (of a [`super::shape::Shape`]). Rules that are to be independent need seeds of their
/// own.
pub fn chosen(list: &[Condition], facts: &Facts<'_>, seed: u64, factor: f64) -> bool {
    list.iter().enumerate().all(|(place, condition)| match condition {
        Condition::Probability { value } => {
            *value <= 1.0 && draw(seed, facts.number, place) < value * factor
        }
        Condition::Count(count) => count.holds(facts.number),
        _ => true,
    })
}

/// Whether all conditions hold.
pub fn applies(list: &[Condition], facts: &Facts<'_>, seed: u64, factor: f64) -> bool {
    chosen(list, facts, seed, factor) && eligible(list, facts)
}

/// Uniform from 0 to below 1, so that 1 is always and 0 is never.
fn draw(seed: u64, number: u64, place: usize) -> f64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&(place as u64).to_le_bytes());
    (hash_of(seed, &bytes) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
