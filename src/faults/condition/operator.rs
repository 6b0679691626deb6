//! How a value is compared, and with what.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Operator {
    /// The same.
    Eq,
    /// There, and not the same.
    Ne,
    /// Greater.
    Gt,
    /// Less.
    Lt,
    /// Greater or the same.
    Ge,
    /// Less or the same.
    Le,
    /// Has it in it.
    Contains,
    /// There, and does not have it in it.
    NotContains,
    /// Begins with it.
    Prefix,
    /// Ends with it.
    Suffix,
    /// All of it is of a pattern of `*` and `?`.
    Matches,
    /// Some part of it is of a regular expression.
    Regex,
    /// Is there at all.
    Exists,
    /// Is not there.
    Absent,
    /// One of several.
    In,
}

/// All of them, as they are written, and as the original wrote them where that differs.
const NAMES: [(Operator, &str, &str); 15] = [
    (Operator::Eq, "eq", ""),
    (Operator::Ne, "ne", ""),
    (Operator::Gt, "gt", ""),
    (Operator::Lt, "lt", ""),
    (Operator::Ge, "ge", "gte"),
    (Operator::Le, "le", "lte"),
    (Operator::Contains, "contains", ""),
    (Operator::NotContains, "not_contains", ""),
    (Operator::Prefix, "prefix", "starts_with"),
    (Operator::Suffix, "suffix", "ends_with"),
    (Operator::Matches, "matches", ""),
    (Operator::Regex, "regex", ""),
    (Operator::Exists, "exists", ""),
    (Operator::Absent, "absent", ""),
    (Operator::In, "in", ""),
];

impl Operator {
    /// As it is written.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(operator, ..)| *operator == self).map_or("", |(_, name, _)| name)
    }

    /// Whether it is about more and less.
    pub fn is_order(self) -> bool {
        matches!(self, Operator::Gt | Operator::Lt | Operator::Ge | Operator::Le)
    }

    /// Whether it asks for presence alone.
    pub fn is_presence(self) -> bool {
        matches!(self, Operator::Exists | Operator::Absent)
    }

    /// Those that a filter leaves, to tell what would be right.
    pub fn list(filter: impl Fn(Operator) -> bool) -> String {
        let names: Vec<_> =
            NAMES.iter().filter(|(op, ..)| filter(*op)).map(|(_, name, _)| *name).collect();
        names.join(", ")
    }
}

impl FromStr for Operator {
    type Err = String;

    fn from_str(text: &str) -> Result<Operator, String> {
        let found = NAMES
            .iter()
            .find(|(_, name, other)| !text.is_empty() && [*name, *other].contains(&text));
        found.map(|(operator, ..)| *operator).ok_or_else(|| {
            format!("unknown operator {text:?}, expected one of {}", Operator::list(|_| true))
        })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Operator> for &'static str {
    fn from(operator: Operator) -> &'static str {
        operator.name()
    }
}

impl TryFrom<String> for Operator {
    type Error = String;

    fn try_from(text: String) -> Result<Operator, String> {
        text.parse()
    }
}

/// One value, kept as it was written; compared by its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected text, a number, true or false")]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// Text.
    Text(String),
}

impl Scalar {
    /// Its text.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Scalar::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Scalar::Number(value) => Cow::Owned(value.to_string()),
            Scalar::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }
}

impl From<u64> for Scalar {
    fn from(value: u64) -> Scalar {
        Scalar::Number(value.into())
    }
}

/// What is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected text, a number, true, false, or a list of these")]
pub enum Operand {
    /// Nothing: `exists` and `absent` need no more.
    #[default]
    None,
    /// One value.
    One(Scalar),
    /// Several, for `in`.
    Many(Vec<Scalar>),
}

impl Operand {
    /// All values.
    pub fn all(&self) -> &[Scalar] {
        match self {
            Operand::None => &[],
            Operand::One(value) => std::slice::from_ref(value),
            Operand::Many(values) => values,
        }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Operand::None
    }
}

impl<S: Into<Scalar>> From<S> for Operand {
    fn from(value: S) -> Operand {
        Operand::One(value.into())
    }
}

impl<S: Into<Scalar>> FromIterator<S> for Operand {
    fn from_iter<I: IntoIterator<Item = S>>(values: I) -> Operand {
        Operand::Many(values.into_iter().map(Into::into).collect())
    }
}
