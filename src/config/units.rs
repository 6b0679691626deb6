//! Config values with their unit in the text: `"250ms"`, `"64MiB"`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time, written like `"250ms"`, `"10s"` or `"10min"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// A span of seconds.
    pub const fn secs(seconds: u64) -> Self {
        Span(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Span(Duration::from_millis(millis))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        humantime::parse_duration(&text).map(Span).map_err(|error| {
            let hint = "expected a duration such as \"250ms\", \"10s\" or \"10min\"";
            serde::de::Error::custom(format!("{text:?}: {error}; {hint}"))
        })
    }
}

/// A number of bytes, written like `"64KiB"`, `"256MiB"` or `"10GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many MiB.
    pub const fn mib(mib: u64) -> Self {
        Bytes(mib << 20)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = [("GiB", 30), ("MiB", 20), ("KiB", 10)].into_iter();
        let unit = exact.clone().find(|(_, bits)| self.0 > 0 && self.0.is_multiple_of(1 << bits));
        match unit {
            Some((name, bits)) => write!(f, "{}{name}", self.0 >> bits),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        let has_unit = text.trim_end().ends_with(|c: char| c.is_ascii_alphabetic());
        let size = text.parse::<bytesize::ByteSize>().ok().filter(|_| has_unit);
        size.map(|s| Bytes(s.as_u64())).ok_or_else(|| {
            let hint = "expected a size such as \"64KiB\", \"256MiB\" or \"10GB\"";
            serde::de::Error::custom(format!("{text:?}: {hint}"))
        })
    }
}

/// A string; anything else gets a message that says what is wanted.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text with a unit, such as \"250ms\" or \"64MiB\"")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    struct Both {
        span: Span,
        bytes: Bytes,
    }

    #[test]
    fn values_with_units_are_read_and_written() {
        for (text, span, bytes) in [
            ("span = \"250ms\"\nbytes = \"64KiB\"\n", Span::millis(250), Bytes(65536)),
            ("span = \"10m\"\nbytes = \"3B\"\n", Span::secs(600), Bytes(3)),
        ] {
            let value = Both { span, bytes };
            assert_eq!(toml::from_str::<Both>(text).unwrap(), value);
            assert_eq!(toml::to_string(&value).unwrap(), text);
        }
    }

    #[test]
    fn values_without_units_are_refused_with_an_example() {
        for text in [
            "span = 3\nbytes = \"1B\"",
            "span = \"3\"\nbytes = \"1B\"",
            "span = \"1s\"\nbytes = \"64\"",
            "span = \"1s\"\nbytes = 64",
        ] {
            let error = toml::from_str::<Both>(text).unwrap_err().to_string();
            assert!(error.contains("such as"), "{error}");
        }
    }
}
