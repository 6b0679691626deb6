//! How many requests of a rule there were before.

use super::operator::{Operator, Scalar};
use super::test::{Test, number};
use super::{Wrong, wrong};

/// The greatest count that can be asked for.
const MOST: u64 = 1_000_000_000_000_000;

/// A condition on the number of a request among those that are eligible for its rule, from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// How many there were before this one.
    pub test: Option<Test>,
    /// Only each so-manieth: for 3 the third, the sixth and so on.
    pub every: Option<u64>,
}

impl Count {
    /// Whether both hold.
    pub fn holds(&self, before: u64) -> bool {
        let every = self.every.is_none_or(|every| every > 0 && before % every == every - 1);
        let test = self.test.as_ref().is_none_or(|test| compare(test, before));
        every && test && (self.every.is_some() || self.test.is_some())
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn check(&self) -> Result<(), Wrong> {
        if self.every == Some(0) {
            return wrong("every", "expected 1 or more, got 0");
        }
        let Some(test) = &self.test else {
            return match self.every {
                Some(_) => Ok(()),
                None => wrong("value", "expected a count of requests, or the field every"),
            };
        };
        let fits = [Operator::Eq, Operator::Ne, Operator::In];
        test.check(|operator| operator.is_order() || fits.contains(&operator))?;
        match test.value().all().iter().find(|value| whole(value).is_none()) {
            None => Ok(()),
            Some(bad) => wrong(
                "value",
                format!("expected a whole number from 0 to {MOST}, got {}", bad.text()),
            ),
        }
    }

    /// The least and the greatest count that the order allows, both included; None: no count.
    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        let all = Some((0, u64::MAX));
        let Some(test) = &self.test else { return all };
        let Some(value) = test.value().all().first().and_then(whole) else { return all };
        match test.operator() {
            Operator::Gt => Some((value.checked_add(1)?, u64::MAX)),
            Operator::Ge => Some((value, u64::MAX)),
            Operator::Lt => Some((0, value.checked_sub(1)?)),
            Operator::Le => Some((0, value)),
            _ => all,
        }
    }
}

fn compare(test: &Test, before: u64) -> bool {
    let mut values = test.value().all().iter().map(whole);
    if matches!(test.operator(), Operator::Eq | Operator::In) {
        return values.any(|value| value == Some(before));
    }
    let Some(Some(value)) = values.next() else { return false };
    match test.operator() {
        Operator::Ne => before != value,
        Operator::Gt => before > value,
        Operator::Lt => before < value,
        Operator::Ge => before >= value,
        Operator::Le => before <= value,
        _ => false,
    }
}

/// A value as a count; `5.0` is 5.
pub(super) fn whole(value: &Scalar) -> Option<u64> {
    let number = number(&value.text())?;
    ((0.0..=MOST as f64).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}
