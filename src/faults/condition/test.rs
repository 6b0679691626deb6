//! The comparison of a text that may lack with values.
//!
//! - `TEST-1` of what is not there nothing holds, save that it is absent;
//! - `TEST-2` a test that makes no sense (see [`Test::check`]) never holds, `ne` neither.

use std::cmp::Ordering;
use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

use super::glob::glob;
use super::operator::{Operand, Operator, Scalar};
use super::{Wrong, wrong};

/// The longest value, in bytes: that of an object's key.
pub const LONGEST: usize = 1024;
/// The most values of a list.
pub const VALUES: usize = 100;
/// What a regular expression may take when compiled, in bytes.
const REGEX_BYTES: usize = 1 << 20;

/// An operator and what it compares with.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    operator: Operator,
    value: Operand,
    regex: Compiled,
}

impl Test {
    /// Any pair; whether it makes sense, [`Test::check`] says.
    pub fn new(operator: Operator, value: impl Into<Operand>) -> Test {
        Test { operator, value: value.into(), regex: Compiled::default() }
    }

    /// How it compares.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// What it compares with.
    pub fn value(&self) -> &Operand {
        &self.value
    }

    /// Whether it holds for a text. With `numbers`, a value that is a number is more or less than
    /// what is a number, too; without, and of other values, more or less is by the bytes of the
    /// text.
    pub fn holds(&self, text: Option<&str>, numbers: bool) -> bool {
        if self.operator.is_presence() {
            let wanted = self.operator == Operator::Exists;
            return self.value.is_none() && text.is_some() == wanted;
        }
        let Some(text) = text else { return false };
        match (self.operator, &self.value) {
            (Operator::In, value) => value.all().iter().any(|value| value.text() == text),
            (operator, Operand::One(value)) => self.compare(operator, text, value, numbers),
            _ => false, // TEST-2
        }
    }

    fn compare(&self, operator: Operator, text: &str, value: &Scalar, numbers: bool) -> bool {
        let value = value.text();
        let value = value.as_ref();
        match operator {
            Operator::Eq => text == value,
            Operator::Ne => text != value,
            Operator::Contains => text.contains(value),
            Operator::NotContains => !text.contains(value),
            Operator::Prefix => text.starts_with(value),
            Operator::Suffix => text.ends_with(value),
            Operator::Matches => glob(value, text),
            Operator::Regex => self.regex.of(value).is_some_and(|regex| regex.is_match(text)),
            Operator::Gt => order(text, value, numbers).is_some_and(Ordering::is_gt),
            Operator::Lt => order(text, value, numbers).is_some_and(Ordering::is_lt),
            Operator::Ge => order(text, value, numbers).is_some_and(Ordering::is_ge),
            Operator::Le => order(text, value, numbers).is_some_and(Ordering::is_le),
            Operator::Exists | Operator::Absent | Operator::In => false, // not of one value
        }
    }

    /// Whether it makes sense where these operators do.
    ///
    /// # Errors
    /// `operator` or `value`, and what would be right.
    pub fn check(&self, fits: impl Fn(Operator) -> bool) -> Result<(), Wrong> {
        let operator = self.operator;
        if !fits(operator) {
            let expected = Operator::list(fits);
            return wrong("operator", format!("expected one of {expected}, got {operator}"));
        }
        let values = self.value.all();
        match &self.value {
            value if operator.is_presence() && !value.is_none() => {
                return wrong("value", format!("expected none: {operator} compares nothing"));
            }
            Operand::None if !operator.is_presence() => {
                return wrong("value", format!("expected one: {operator} compares with it"));
            }
            Operand::Many(_) if operator != Operator::In => {
                return wrong("value", format!("expected one value for {operator}, got a list"));
            }
            Operand::Many(values) if values.is_empty() || values.len() > VALUES => {
                let why = format!("expected 1 to {VALUES} values, got {}", values.len());
                return wrong("value", why);
            }
            _ => {}
        }
        if let Some(long) = values.iter().find(|value| value.text().len() > LONGEST) {
            let found = long.text().len();
            return wrong("value", format!("expected at most {LONGEST} bytes, got {found}"));
        }
        match values.first() {
            Some(value) if operator == Operator::Regex => compile(&value.text())
                .map(|_| ())
                .or_else(|why| wrong("value", format!("expected a regular expression: {why}"))),
            _ => Ok(()),
        }
    }
}

/// How two texts stand; None: they cannot be compared.
pub fn order(text: &str, value: &str, numbers: bool) -> Option<Ordering> {
    match number(value).filter(|_| numbers) {
        Some(value) => number(text)?.partial_cmp(&value),
        None => Some(text.cmp(value)),
    }
}

/// A number, not infinite.
pub fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES).build()
}

/// A regular expression that is compiled when it is first asked for; None: it is none. It follows
/// from the value, so it makes no test another.
#[derive(Clone, Debug, Default)]
struct Compiled(OnceLock<Option<Regex>>);

impl Compiled {
    fn of(&self, text: &str) -> Option<&Regex> {
        self.0.get_or_init(|| compile(text).ok()).as_ref()
    }
}

impl PartialEq for Compiled {
    fn eq(&self, _: &Compiled) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_compares_as_it_says() {
        let rows: [(&str, Operand, &str, bool); 27] = [
            ("eq", "a".into(), "a", true),
            ("eq", 5.into(), "5", true),
            ("eq", Scalar::Bool(true).into(), "true", true),
            ("ne", "a".into(), "b", true),
            ("ne", "a".into(), "a", false),
            ("gt", 900.into(), "1000", true), // not by text, where 1 is before 9
            ("gt", "900".into(), "1000", true),
            ("gt", 900.into(), "many", false),
            ("lt", 900.into(), "many", false),
            ("lt", "b".into(), "a", true),
            ("ge", 5.into(), "5.0", true),
            ("gte", 5.into(), "4.9", false),
            ("lte", 5.into(), "5", true),
            ("le", 5.into(), "5.1", false),
            ("contains", "url".into(), "curl/8", true),
            ("not_contains", "url".into(), "curl/8", false),
            ("prefix", "cu".into(), "curl/8", true),
            ("starts_with", "ur".into(), "curl/8", false),
            ("suffix", "/8".into(), "curl/8", true),
            ("ends_with", "/9".into(), "curl/8", false),
            ("matches", "c*/?".into(), "curl/8", true),
            ("regex", "^c.*[0-9]$".into(), "curl/8", true),
            ("regex", "l/".into(), "curl/8", true), // any part of it
            ("exists", Operand::None, "", true),
            ("absent", Operand::None, "", false),
            ("in", ["a", "b"].into_iter().collect(), "b", true),
            ("in", "a".into(), "b", false),
        ];
        for (operator, value, text, right) in rows {
            let test = Test::new(operator.parse().unwrap(), value);
            assert_eq!(test.check(|_| true), Ok(()), "{test:?}");
            assert_eq!(test.holds(Some(text), true), right, "{test:?} on {text}");
            let absent = test.operator() == Operator::Absent;
            assert_eq!(test.holds(None, true), absent, "{test:?}"); // TEST-1
        }
    }

    #[test]
    fn without_numbers_more_and_less_are_by_the_text() {
        let test = Test::new(Operator::Gt, 900);
        assert!(!test.holds(Some("1000"), false));
        assert!(test.holds(Some("901"), false));
    }

    #[test]
    fn a_test_that_makes_no_sense_is_refused_and_never_holds() {
        let long = "x".repeat(LONGEST + 1);
        let none: [u64; 0] = [];
        let rows: [(Operator, Operand, &str); 10] = [
            (Operator::Eq, Operand::None, "value"),
            (Operator::Ne, Operand::None, "value"),
            (Operator::Ne, ["a", "b"].into_iter().collect(), "value"),
            (Operator::Contains, ["a"].into_iter().collect(), "value"),
            (Operator::In, Operand::None, "value"),
            (Operator::In, none.into_iter().collect(), "value"),
            (Operator::Regex, "(".into(), "value"),
            (Operator::Regex, "(a{1000}){1000}".into(), "value"), // would take gigabytes
            (Operator::Eq, long.as_str().into(), "value"),
            (Operator::Matches, "*".into(), "operator"),
        ];
        for (operator, value, field) in rows {
            let test = Test::new(operator, value);
            let found = test.check(|operator| operator != Operator::Matches);
            assert_eq!(found.unwrap_err().0, field, "{test:?}");
            assert!(operator == Operator::Matches || !test.holds(Some("x"), true), "{test:?}");
        }
        let absent = Test::new(Operator::Absent, "x");
        assert_eq!(absent.check(|_| true).unwrap_err().0, "value");
        assert!(!absent.holds(None, true));
    }

    #[test]
    fn an_unknown_operator_is_told_what_there_is() {
        let why = "like".parse::<Operator>().unwrap_err();
        assert!(why.contains("\"like\"") && why.contains("eq, ne, gt"), "{why}");
        assert!("".parse::<Operator>().is_err());
    }
}
