//! Conditions that cannot hold together (COND-3).

use std::cmp::Ordering;

use ipnet::IpNet;

use super::count::{Count, whole};
use super::operator::Operator;
use super::schedule::Read;
use super::test::{Test, number, order};
use super::units::Day;
use super::{Condition, Subject, Wrong, address, window};

/// The minutes of a day.
const MINUTES: u16 = 24 * 60;

/// The first condition that cannot hold together with those before it, if one is found: where it is
/// (`conditions[2]`), and why. What makes no sense by itself is passed over.
pub fn contradicts(list: &[Condition]) -> Option<Wrong> {
    (0..list.len()).find_map(|n| {
        let (condition, before) = (&list[n], &list[..=n]);
        let what = match condition {
            Condition::Probability { .. } => return None,
            Condition::Request { subject, .. } => texts(before, subject).then(|| {
                subject.field().map_or_else(
                    || subject.name().to_owned(),
                    |field| format!("{} {field}", subject.name()),
                )
            }),
            Condition::Ip { .. } => addresses(before).then(|| "address".to_owned()),
            Condition::Count(_) => counts(before).then(|| "count".to_owned()),
            Condition::Time { .. } | Condition::Schedule(_) => {
                times(before).then(|| "time".to_owned())
            }
        }?;
        Some((format!("conditions[{n}]"), format!("no {what} meets this and those before it")))
    })
}

/// Whether no text meets all tests of a subject.
fn texts(list: &[Condition], wanted: &Subject) -> bool {
    let tests: Vec<&Test> = list
        .iter()
        .filter_map(|condition| match condition {
            Condition::Request { subject, test } if subject.is(wanted) => Some(test),
            _ => None,
        })
        .filter(|test| test.check(|_| true).is_ok())
        .collect();
    let numbers = wanted.has_numbers();
    if tests.iter().any(|test| test.operator() == Operator::Absent) {
        return tests.iter().any(|test| test.operator() != Operator::Absent);
    }
    if let Some(only) = tests.iter().find(|test| is_exact(test)) {
        let met = |text: &str| tests.iter().all(|test| test.holds(Some(text), numbers));
        return !only.value().all().iter().any(|value| met(&value.text()));
    }
    pairs(&tests).any(|(a, b)| disjoint(a, b, numbers))
}

/// Whether the values of a test are all that can be.
fn is_exact(test: &Test) -> bool {
    matches!(test.operator(), Operator::Eq | Operator::In)
}

fn pairs<'a, T: Copy>(all: &'a [T]) -> impl Iterator<Item = (T, T)> + 'a {
    all.iter().flat_map(|a| all.iter().map(|b| (*a, *b)))
}

/// Whether no text meets both of two tests that are not exact.
fn disjoint(a: &Test, b: &Test, numbers: bool) -> bool {
    let (Some(x), Some(y)) = (a.value().all().first(), b.value().all().first()) else {
        return false;
    };
    let (x, y) = (x.text(), y.text());
    let (x, y) = (x.as_ref(), y.as_ref());
    match (a.operator(), b.operator()) {
        (Operator::Prefix, Operator::Prefix) => !x.starts_with(y) && !y.starts_with(x),
        (Operator::Suffix, Operator::Suffix) => !x.ends_with(y) && !y.ends_with(x),
        (Operator::NotContains, Operator::Contains | Operator::Prefix | Operator::Suffix) => {
            y.contains(x)
        }
        (low @ (Operator::Gt | Operator::Ge), high @ (Operator::Lt | Operator::Le)) => {
            let both = (low, high) == (Operator::Ge, Operator::Le);
            let alike = !numbers || number(x).is_some() == number(y).is_some();
            alike
                && match order(x, y, numbers) {
                    Some(Ordering::Less) | None => false,
                    Some(Ordering::Equal) => !both,
                    Some(Ordering::Greater) => true,
                }
        }
        _ => false,
    }
}

/// Whether there is no number of a request that meets all counts.
fn counts(list: &[Condition]) -> bool {
    let counts: Vec<&Count> = list
        .iter()
        .filter_map(|condition| match condition {
            Condition::Count(count) if count.check().is_ok() => Some(count),
            _ => None,
        })
        .collect();
    if let Some(only) = counts.iter().filter_map(|count| count.test.as_ref()).find(|t| is_exact(t))
    {
        let met = |n: u64| counts.iter().all(|count| count.holds(n));
        let mut values = only.value().all().iter();
        return !values.any(|value| whole(value).is_some_and(met));
    }
    let bounds = counts.iter().try_fold((0, u64::MAX), |(low, high), count| {
        count.bounds().map(|(least, most)| (low.max(least), high.min(most)))
    });
    let Some((low, high)) = bounds else { return true };
    let none_of = |every: u64| match low.checked_add(every - 1 - low % every) {
        Some(first) => first > high,
        None => false,
    };
    low > high || counts.iter().any(|count| count.every.is_some_and(none_of))
}

/// Whether no address meets all tests, those before the last being known to go together: by their
/// networks, others are not looked at.
fn addresses(list: &[Condition]) -> bool {
    let tests: Vec<&Test> = list
        .iter()
        .filter_map(|condition| match condition {
            Condition::Ip { test } if address::check(test).is_ok() => Some(test),
            _ => None,
        })
        .collect();
    if tests.iter().any(|test| test.operator() == Operator::Absent) {
        return tests.iter().any(|test| test.operator() != Operator::Absent);
    }
    let of = |test: &&Test| address::networks(test.value()).unwrap_or_default();
    let within: Vec<_> = tests.iter().filter(|test| is_exact(test)).map(of).collect();
    let is_ne = |test: &&&Test| test.operator() == Operator::Ne;
    let without: Vec<_> = tests.iter().filter(is_ne).flat_map(of).collect();
    let Some(last) = within.last() else { return false };
    let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    let meet = |other: &[IpNet]| other.iter().any(|a| last.iter().any(|b| overlap(a, b)));
    let excluded = |net: &IpNet| without.iter().any(|other| other.contains(net));
    within.iter().any(|other| !meet(other) || other.iter().all(excluded))
}

/// Whether there is no time that meets all: by their instants, and, of each zone, by the minutes of
/// the days of a week.
fn times(list: &[Condition]) -> bool {
    let all: Vec<Read<'_>> = list
        .iter()
        .filter_map(|condition| match condition {
            Condition::Time { from, to } => window(from, to).ok(),
            Condition::Schedule(schedule) => schedule.read().ok(),
            _ => None,
        })
        .collect();
    let instants = || all.iter().map(|read| read.window.instants());
    let from = instants().filter_map(|(from, _)| from).max();
    let to = instants().filter_map(|(_, to)| to).min();
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return true;
    }
    let Some(last) = all.last() else { return false };
    let same_zone: Vec<_> = all.iter().filter(|read| read.zone == last.zone).collect();
    let met = |day: Day, minute: u16| same_zone.iter().all(|read| read.has(day, minute));
    !Day::ALL.iter().any(|(day, _)| (0..MINUTES).any(|minute| met(*day, minute)))
}
