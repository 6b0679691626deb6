//! Conditions as they are written: `{type, operator, field, value}` as the original had them, with
//! more fields for some types. Where the original looked at no operator or no field, none is asked
//! for, and what is there is let be.

use serde::{Deserialize, Serialize};

use super::count::Count;
use super::operator::{Operand, Operator};
use super::schedule::Schedule;
use super::test::Test;
use super::units::{Day, Hours};
use super::{Condition, Subject};

/// All fields of all types.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Operand::is_none")]
    value: Operand,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<Vec<Day>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<Vec<Hours>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
}

/// The fields that the original wrote for all types.
const ORIGINAL: [&str; 3] = ["operator", "field", "value"];

impl Wire {
    /// Refuses the fields that are not of this type. Blank ones are no fields: the original always
    /// wrote all of its own.
    fn only(&self, fields: &[&str]) -> Result<(), String> {
        let blank = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
        let given = [
            ("operator", !blank(&self.operator)),
            ("field", !blank(&self.field)),
            ("value", !self.value.is_none()),
            ("every", self.every.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("start_time", self.start_time.is_some()),
            ("end_time", self.end_time.is_some()),
            ("days", self.days.is_some()),
            ("hours", self.hours.is_some()),
            ("timezone", self.timezone.is_some()),
        ];
        match given.iter().find(|(name, given)| *given && !fields.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let (kind, expected) = (&self.kind, fields.join(", "));
                Err(format!("{name}: unknown field for type {kind:?}, expected {expected}"))
            }
        }
    }

    /// None where it is blank.
    fn operator(&self) -> Result<Option<Operator>, String> {
        let text = self.operator.as_deref().filter(|text| !text.is_empty());
        text.map(str::parse).transpose().map_err(|why| format!("operator: {why}"))
    }

    /// Without an operator one value is to be the same, and of several one.
    fn test(&self) -> Result<Test, String> {
        let operator = self.operator()?.unwrap_or(match self.value {
            Operand::Many(_) => Operator::In,
            _ => Operator::Eq,
        });
        let value = match &self.value {
            Operand::One(blank) if operator.is_presence() && blank.text().is_empty() => {
                Operand::None
            }
            value => value.clone(),
        };
        Ok(Test::new(operator, value))
    }

    fn probability(&self) -> Result<Condition, String> {
        self.only(&ORIGINAL)?;
        self.operator()?;
        let text = match &self.value {
            Operand::One(value) => value.text(),
            _ => "nothing".into(),
        };
        let value = text.trim().parse();
        let value = value.map_err(|_| format!("value: expected 0 to 1, got {text}"))?;
        Ok(Condition::Probability { value })
    }

    fn count(&self) -> Result<Condition, String> {
        self.only(&["operator", "field", "value", "every"])?;
        let test = if self.value.is_none() && self.operator()?.is_none() {
            None
        } else {
            Some(self.test()?)
        };
        Ok(Condition::Count(Count { test, every: self.every }))
    }

    /// `from` and `to`, or, as the original had it, an operator and an instant.
    fn time(self) -> Result<Condition, String> {
        if self.value.is_none() {
            self.only(&["from", "to"])?;
            return Ok(Condition::Time { from: self.from, to: self.to });
        }
        self.only(&ORIGINAL)?;
        let Operand::One(value) = &self.value else {
            return Err("value: expected one time, or the fields from and to".into());
        };
        let value = Some(value.text().into_owned());
        match self.operator()? {
            Some(Operator::Gt | Operator::Ge) => Ok(Condition::Time { from: value, to: None }),
            Some(Operator::Lt | Operator::Le) => Ok(Condition::Time { from: None, to: value }),
            _ => Err("operator: expected one of gt, ge, lt, le for a time, or from and to".into()),
        }
    }

    fn schedule(self) -> Result<Condition, String> {
        self.only(&["start_time", "end_time", "days", "hours", "timezone"])?;
        let Wire { start_time, end_time, days, hours, timezone, .. } = self;
        Ok(Condition::Schedule(Schedule { start_time, end_time, days, hours, timezone }))
    }

    fn request(self) -> Result<Condition, String> {
        let named = matches!(self.kind.as_str(), "header" | "param");
        let original = named || self.kind == "user_agent";
        let Some(subject) = Subject::read(&self.kind, self.field.as_deref().unwrap_or_default())
        else {
            return Err(unknown(&self.kind));
        };
        self.only(if original { &ORIGINAL } else { &["operator", "value"] })?;
        Ok(Condition::Request { subject, test: self.test()? })
    }
}

fn unknown(kind: &str) -> String {
    let subjects: Vec<_> = Subject::NAMES.to_vec();
    format!(
        "type: unknown {kind:?}, expected one of probability, ip, count, time, schedule, {}",
        subjects.join(", ")
    )
}

impl TryFrom<Wire> for Condition {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Condition, String> {
        match wire.kind.as_str() {
            "probability" => wire.probability(),
            "count" => wire.count(),
            "time" => wire.time(),
            "schedule" => wire.schedule(),
            "ip" => {
                wire.only(&ORIGINAL)?;
                Ok(Condition::Ip { test: wire.test()? })
            }
            _ => wire.request(),
        }
    }
}

impl From<Condition> for Wire {
    fn from(condition: Condition) -> Wire {
        let of = |kind: &str| Wire { kind: kind.to_owned(), ..Wire::default() };
        let with = |kind: &str, test: &Test| Wire {
            operator: Some(test.operator().name().to_owned()),
            value: test.value().clone(),
            ..of(kind)
        };
        match condition {
            Condition::Probability { value } => {
                let number = serde_json::Number::from_f64(value);
                let value = number.map(super::operator::Scalar::Number);
                Wire { value: value.map_or(Operand::None, Operand::One), ..of("probability") }
            }
            Condition::Request { subject, test } => {
                let field = subject.field().map(str::to_owned);
                Wire { field, ..with(subject.name(), &test) }
            }
            Condition::Ip { test } => with("ip", &test),
            Condition::Count(Count { test, every }) => {
                let wire = test.map_or_else(|| of("count"), |test| with("count", &test));
                Wire { every, ..wire }
            }
            Condition::Time { from, to } => Wire { from, to, ..of("time") },
            Condition::Schedule(schedule) => {
                let Schedule { start_time, end_time, days, hours, timezone } = schedule;
                Wire { start_time, end_time, days, hours, timezone, ..of("schedule") }
            }
        }
    }
}
