//! Intensities: a number and what it is of. There is no intensity without a unit.
//!
//! - `UNIT-1` an intensity that was [checked](Intensity::check) is a number, not negative, not infinite;
//! - `UNIT-2` percent are always of a node's own budget, never of the machine unless that is the budget.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! units {
    ($($(#[$doc:meta])* $unit:ident = $name:literal $(| $alias:literal)*,)*) => {
        /// What an intensity is of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "&'static str", try_from = "String")]
        pub enum Unit {
            $($(#[$doc])* $unit,)*
        }

        impl Unit {
            /// All of them.
            pub const ALL: &[Unit] = &[$(Unit::$unit,)*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self {
                    $(Unit::$unit => $name,)*
                }
            }
        }

        impl FromStr for Unit {
            type Err = String;

            fn from_str(text: &str) -> Result<Unit, String> {
                match text {
                    $($name $(| $alias)* => Ok(Unit::$unit),)*
                    _ => Err(format!("unknown unit {text:?}, expected one of {}", names())),
                }
            }
        }
    };
}

units! {
    /// Of the node's budget.
    Percent = "percent" | "%",
    /// CPU cores, each of them fully used.
    Cores = "cores",
    /// Bytes.
    Bytes = "bytes" | "B",
    /// 1024 bytes.
    KiB = "KiB",
    /// 1024 KiB.
    MiB = "MiB" | "MB",
    /// 1024 MiB.
    GiB = "GiB" | "GB",
    /// Bytes by the second, in KiB.
    KiBPerSecond = "KiB/s",
    /// Bytes by the second, in MiB.
    MiBPerSecond = "MiB/s",
    /// Connections that are held.
    Connections = "connections",
    /// Connections that are made by the second.
    ConnectionsPerSecond = "connections/s",
    /// Operations of a disk by the second.
    OperationsPerSecond = "operations/s",
    /// Messages by the second.
    MessagesPerSecond = "messages/s",
    /// Milliseconds.
    Milliseconds = "ms",
    /// Seconds.
    Seconds = "s",
    /// 0 = never, 1 = always.
    Probability = "probability",
    /// Pieces: blocks, messages.
    Count = "count",
}

fn names() -> String {
    Unit::ALL.iter().map(|unit| unit.name()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Unit> for &'static str {
    fn from(unit: Unit) -> &'static str {
        unit.name()
    }
}

impl TryFrom<String> for Unit {
    type Error = String;

    fn try_from(text: String) -> Result<Unit, String> {
        text.parse()
    }
}

/// How strong a fault is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intensity {
    /// The number.
    pub value: f64,
    /// What it is of.
    pub unit: Unit,
}

impl Intensity {
    /// Whether it is one (UNIT-1), and in a unit that is wanted.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn check(self, wanted: &[Unit]) -> Result<(), (&'static str, String)> {
        if !wanted.contains(&self.unit) {
            let names: Vec<_> = wanted.iter().map(|unit| unit.name()).collect();
            let why = format!("expected {}, got {}", names.join(" or "), self.unit);
            return Err(("intensity.unit", why));
        }
        let most = match self.unit {
            Unit::Probability => 1.0,
            Unit::Percent => 100.0,
            _ => f64::MAX,
        };
        if (0.0..=most).contains(&self.value) {
            return Ok(());
        }
        let range = if most < f64::MAX { format!("0 to {most}") } else { "0 or more".into() };
        Err(("intensity.value", format!("expected {range}, got {}", self.value)))
    }

    /// Its bytes, or bytes by the second; None: it is of something else.
    pub fn bytes(self) -> Option<f64> {
        let size = match self.unit {
            Unit::Bytes => 1.0,
            Unit::KiB | Unit::KiBPerSecond => 1024.0,
            Unit::MiB | Unit::MiBPerSecond => 1024.0 * 1024.0,
            Unit::GiB => 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        };
        Some(self.value * size)
    }

    /// How much of a budget it is, for percent; else as it is (UNIT-2).
    pub fn of(self, budget: f64) -> f64 {
        match self.unit {
            Unit::Percent => budget * self.value / 100.0,
            _ => self.bytes().unwrap_or(self.value),
        }
    }
}

impl fmt::Display for Intensity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.value, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: f64, unit: Unit) -> Intensity {
        Intensity { value, unit }
    }

    #[test]
    fn every_unit_is_read_by_its_name_and_unknown_ones_are_told_what_there_is() {
        for unit in Unit::ALL {
            assert_eq!(unit.name().parse(), Ok(*unit));
            let text = serde_json::to_string(&of(1.5, *unit)).unwrap();
            assert_eq!(serde_json::from_str::<Intensity>(&text).unwrap(), of(1.5, *unit));
        }
        assert_eq!("%".parse(), Ok(Unit::Percent));
        assert!("parsecs".parse::<Unit>().unwrap_err().contains("connections/s"));
    }

    #[test]
    fn numbers_that_are_no_intensity_are_refused_with_their_field() {
        let rows = [
            (of(-1.0, Unit::Cores), "intensity.value"),
            (of(f64::NAN, Unit::Cores), "intensity.value"),
            (of(f64::INFINITY, Unit::Cores), "intensity.value"),
            (of(100.1, Unit::Percent), "intensity.value"),
            (of(1.0, Unit::Milliseconds), "intensity.unit"),
        ];
        for (intensity, field) in rows {
            let found = intensity.check(&[Unit::Percent, Unit::Cores]);
            assert_eq!(found.unwrap_err().0, field, "{intensity}");
        }
        assert!(of(1.01, Unit::Probability).check(&[Unit::Probability]).is_err());
        assert_eq!(of(0.0, Unit::Percent).check(&[Unit::Percent]), Ok(()));
    }

    #[test]
    fn percent_are_of_the_budget_and_sizes_are_bytes() {
        assert_eq!(of(85.0, Unit::Percent).of(2.0), 1.7);
        assert_eq!(of(1.5, Unit::Cores).of(2.0), 1.5);
        assert_eq!(of(2.0, Unit::MiB).of(1e9), 2_097_152.0);
        assert_eq!(of(1.0, Unit::GiB).bytes(), Some(1_073_741_824.0));
        assert_eq!(of(1.0, Unit::Cores).bytes(), None);
    }
}
