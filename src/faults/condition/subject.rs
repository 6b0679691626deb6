//! What of a request is tested as text.

use super::operator::Operator;
use super::test::Test;
use super::{Facts, Wrong, wrong};

/// A text of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The service that serves it.
    Service,
    /// The operation of S3, or the name of the call.
    Operation,
    /// The method, upper case.
    Method,
    /// The path.
    Path,
    /// The bucket.
    Bucket,
    /// The object's key.
    Key,
    /// What sent it.
    UserAgent,
    /// A header, by its name in any case.
    Header(String),
    /// A parameter of the query, by its name.
    Param(String),
}

impl Subject {
    /// The names of all, in their order.
    pub const NAMES: [&str; 9] = [
        "service",
        "operation",
        "method",
        "path",
        "bucket",
        "key",
        "user_agent",
        "header",
        "param",
    ];

    /// By a name, and the field where it has one; None: no such name.
    pub fn read(name: &str, field: &str) -> Option<Subject> {
        Some(match name {
            "service" => Subject::Service,
            "operation" => Subject::Operation,
            "method" => Subject::Method,
            "path" => Subject::Path,
            "bucket" => Subject::Bucket,
            "key" => Subject::Key,
            "user_agent" => Subject::UserAgent,
            "header" => Subject::Header(field.to_owned()),
            "param" => Subject::Param(field.to_owned()),
            _ => return None,
        })
    }

    /// As it is written.
    pub fn name(&self) -> &'static str {
        Subject::NAMES[match self {
            Subject::Service => 0,
            Subject::Operation => 1,
            Subject::Method => 2,
            Subject::Path => 3,
            Subject::Bucket => 4,
            Subject::Key => 5,
            Subject::UserAgent => 6,
            Subject::Header(_) => 7,
            Subject::Param(_) => 8,
        }]
    }

    /// The name of the header or the parameter.
    pub fn field(&self) -> Option<&str> {
        match self {
            Subject::Header(field) | Subject::Param(field) => Some(field),
            _ => None,
        }
    }

    /// Whether both are the same text of any request.
    pub(super) fn is(&self, other: &Subject) -> bool {
        match (self, other) {
            (Subject::Header(a), Subject::Header(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        }
    }

    /// Whether its numbers are compared as such. Keys are not: they are ordered by their bytes.
    pub(super) fn has_numbers(&self) -> bool {
        self.field().is_some()
    }

    /// Its text in a request.
    pub fn of<'a>(&self, facts: &Facts<'a>) -> Option<&'a str> {
        match self {
            Subject::Service => facts.service,
            Subject::Operation => facts.operation,
            Subject::Method => facts.method,
            Subject::Path => facts.path,
            Subject::Bucket => facts.bucket,
            Subject::Key => facts.key,
            Subject::UserAgent => facts.user_agent,
            Subject::Header(field) => {
                let mut all = facts.headers.iter();
                all.find(|(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, value)| *value)
            }
            Subject::Param(field) => {
                let mut all = facts.params.iter();
                all.find(|(name, _)| name == field).map(|(_, value)| *value)
            }
        }
    }

    /// Whether a test holds for it.
    pub fn holds(&self, test: &Test, facts: &Facts<'_>) -> bool {
        self.fits(test.operator()) && test.holds(self.of(facts), self.has_numbers())
    }

    /// Whether an operator makes sense for it: a method is not more or less than another.
    fn fits(&self, operator: Operator) -> bool {
        let ordered = matches!(self, Subject::Path | Subject::Bucket | Subject::Key);
        !operator.is_order() || ordered || self.has_numbers()
    }

    /// Whether a test of it makes sense.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn check(&self, test: &Test) -> Result<(), Wrong> {
        match self {
            Subject::Header(name) if !is_token(name) => {
                return wrong("field", format!("expected the name of a header, got {name:?}"));
            }
            Subject::Param(name) if name.is_empty() => {
                return wrong("field", "expected the name of a parameter, got none");
            }
            _ => {}
        }
        test.check(|operator| self.fits(operator))?;
        let exact = matches!(test.operator(), Operator::Eq | Operator::Ne | Operator::In);
        let lower = |text: &str| text.bytes().any(|byte| byte.is_ascii_lowercase());
        match test.value().all().iter().find(|value| lower(&value.text())) {
            Some(method) if *self == Subject::Method && exact => {
                let method = method.text();
                let right = method.to_ascii_uppercase();
                wrong("value", format!("expected upper case, {right:?}, got {method:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether it is a name of a header (RFC 9110, 5.6.2).
fn is_token(name: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(right)
}
