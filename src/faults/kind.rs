//! What faults there are: each kind with its parameters, units, ceilings and an example. `mocks3 fault
//! kinds`, the checks of what comes in and the API description are all made of this table.
//!
//! - `KIND-1` every kind has an example that is accepted as it stands;
//! - `KIND-2` parameters that are left out have a value that makes sense; unknown ones are refused;
//! - `KIND-3` an intensity has a unit of its kind and stays under its ceiling; a kind without units has no
//!   intensity.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::unit::{Intensity, Unit};

mod parameters;

pub use parameters::*;

/// What is wrong with a fault that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}; for example {example}")]
pub struct Problem {
    /// The field, as a path: `parameters.crowd`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
    /// A fault that would be accepted, as JSON.
    pub example: &'static str,
}

/// Where a fault is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// In the process of the target: it uses something up.
    Resource,
    /// At an HTTP edge: it spoils requests.
    Request,
    /// In the shell of an actor: it disturbs messages.
    Actor,
    /// Between two nodes.
    Link,
    /// Below the store of a storage node.
    Storage,
}

/// A kind of fault, for whoever asks what there is.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// Where it is done.
    pub layer: Layer,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// The metric that it moves, by the names of the original.
    pub metric: Option<&'static str>,
    /// The units of its intensity, with the ceiling of each; empty: it has none.
    pub units: &'static [(Unit, f64)],
    /// A whole fault of this kind, as JSON.
    pub example: &'static str,
}

/// The longest that any fault may last.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal in $layer:ident, $about:literal,
        metric: $metric:expr, units: $units:expr, example: $example:literal;)*) => {
        /// A kind of fault, and its parameters.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Kind {
            $($(#[$doc])* #[doc = $about] $kind($kind),)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[About] = &[$(About {
                name: $name,
                layer: Layer::$layer,
                about: $about,
                metric: $metric,
                units: $units,
                example: $example,
            },)*];

            /// Reads the parameters of a kind; none are the usual ones.
            ///
            /// # Errors
            /// There is no such kind, or a parameter is wrong.
            pub fn read(name: &str, parameters: &Value) -> Result<Kind, Problem> {
                match name {
                    $($name => {
                        let read: $kind = read(parameters, $example)?;
                        read.check().map_err(|(field, why)| Problem {
                            field: format!("parameters.{field}"),
                            why,
                            example: $example,
                        })?;
                        Ok(Kind::$kind(read))
                    })*
                    _ => Err(unknown(name)),
                }
            }

            /// What there is to know of it.
            pub fn about(&self) -> &'static About {
                let name = match self {
                    $(Kind::$kind(_) => $name,)*
                };
                About::of(name).unwrap_or(&Kind::ALL[0])
            }

            /// Its parameters, as JSON.
            pub fn parameters(&self) -> Value {
                match self {
                    $(Kind::$kind(parameters) => serde_json::to_value(parameters),)*
                }
                .unwrap_or_default()
            }
        }
    };
}

kinds! {
    CpuSpike = "cpu_spike" in Resource,
        "Burns CPU in the process, so that it uses so much of its budget in all",
        metric: Some("system_cpu_usage_percent"),
        units: &[(Unit::Percent, 100.0), (Unit::Cores, 64.0)],
        example: r#"{"kind":"cpu_spike","target":{"service":"storage-service"},"intensity":{"value":85,"unit":"percent"},"duration":"2m0s"}"#;
    MemoryLeak = "memory_leak" in Resource,
        "Holds memory, at once or at a rate, up to a level",
        metric: Some("system_memory_usage_percent"),
        units: &[(Unit::Percent, 95.0), (Unit::MiB, 65536.0), (Unit::GiB, 64.0)],
        example: r#"{"kind":"memory_leak","parameters":{"rate_mib_per_second":50},"target":{"service":"metadata-service"},"intensity":{"value":256,"unit":"MiB"},"duration":"1m0s"}"#;
    DiskFull = "disk_full" in Resource,
        "Takes disk space away: of the node's own quota, or of the real volume",
        metric: Some("system_disk_usage_percent"),
        units: &[(Unit::Percent, 100.0)],
        example: r#"{"kind":"disk_full","target":{"service":"storage-service"},"intensity":{"value":95,"unit":"percent"},"duration":"1m0s"}"#;
    DiskIo = "disk_io" in Resource,
        "Keeps the disk busy with so many operations a second",
        metric: None,
        units: &[(Unit::OperationsPerSecond, 20_000.0)],
        example: r#"{"kind":"disk_io","parameters":{"operation":"fsync"},"target":{"service":"storage-service"},"intensity":{"value":200,"unit":"operations/s"},"duration":"30s"}"#;
    NetworkFlood = "network_flood" in Resource,
        "Floods members of the cluster with connections or bytes",
        metric: Some("system_network_qps"),
        units: &[
            (Unit::Connections, 20_000.0), (Unit::ConnectionsPerSecond, 50_000.0),
            (Unit::MiBPerSecond, 4096.0),
        ],
        example: r#"{"kind":"network_flood","parameters":{"to":"queue-service"},"target":{"service":"storage-service"},"intensity":{"value":500,"unit":"connections/s"},"duration":"30s"}"#;
    MachineDown = "machine_down" in Resource,
        "Takes the service down, in one of five ways",
        metric: Some("system_machine_online_status"),
        units: &[],
        example: r#"{"kind":"machine_down","parameters":{"class":"refuse"},"target":{"service":"third-party-service"},"duration":"30s"}"#;
}

impl About {
    /// Of the kind of this name.
    pub fn of(name: &str) -> Option<&'static About> {
        Kind::ALL.iter().find(|about| about.name == name)
    }

    /// Whether an intensity is one of this kind (KIND-3).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, intensity: Option<Intensity>) -> Result<(), Problem> {
        let wrong = |field: &str, why: String| {
            Err(Problem { field: field.to_owned(), why, example: self.example })
        };
        let wanted: Vec<Unit> = self.units.iter().map(|(unit, _)| *unit).collect();
        match intensity {
            None if wanted.is_empty() => Ok(()),
            None => wrong("intensity", format!("{} needs an intensity", self.name)),
            Some(_) if wanted.is_empty() => {
                wrong("intensity", format!("{} has no intensity", self.name))
            }
            Some(intensity) => {
                if let Err((field, why)) = intensity.check(&wanted) {
                    return wrong(field, why);
                }
                let ceiling = self.units.iter().find(|(unit, _)| *unit == intensity.unit);
                match ceiling {
                    Some((unit, most)) if intensity.value > *most => {
                        wrong("intensity.value", format!("expected at most {most} {unit}"))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

fn unknown(name: &str) -> Problem {
    let names: Vec<_> = Kind::ALL.iter().map(|about| about.name).collect();
    Problem {
        field: "kind".into(),
        why: format!("there is no kind {name:?}, expected one of {}", names.join(", ")),
        example: Kind::ALL[0].example,
    }
}

/// Reads parameters; nothing at all stands for the usual ones.
fn read<T: DeserializeOwned>(value: &Value, example: &'static str) -> Result<T, Problem> {
    let empty = Value::Object(serde_json::Map::new());
    let value = if value.is_null() { &empty } else { value };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = match path.as_str() {
            "." => "parameters".to_owned(),
            path => format!("parameters.{path}"),
        };
        Problem { field, why: error.into_inner().to_string(), example }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_accepts_its_own_example() {
        for about in Kind::ALL {
            let fault: Value = serde_json::from_str(about.example).unwrap();
            assert_eq!(fault["kind"], about.name);
            let kind = Kind::read(about.name, &fault["parameters"]).unwrap();
            assert_eq!(kind.about().name, about.name);
            let intensity = &fault["intensity"];
            let intensity = (!intensity.is_null())
                .then(|| serde_json::from_value::<Intensity>(intensity.clone()).unwrap());
            about.check(intensity).unwrap(); // KIND-1
            let again = Kind::read(about.name, &kind.parameters()).unwrap();
            assert_eq!(again, kind);
            super::super::span::parse(fault["duration"].as_str().unwrap()).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field_and_an_example() {
        let rows = [
            ("no_such_thing", "{}", "kind"),
            ("cpu_spike", r#"{"crowd":9}"#, "parameters.crowd"),
            ("cpu_spike", r#"{"crowed":1}"#, "parameters"),
            ("cpu_spike", r#"{"nice":"high"}"#, "parameters.nice"),
            ("memory_leak", r#"{"rate_mib_per_second":-1}"#, "parameters.rate_mib_per_second"),
            ("disk_io", r#"{"operation":"erase"}"#, "parameters.operation"),
            ("disk_io", r#"{"block_bytes":1}"#, "parameters.block_bytes"),
            ("network_flood", r#"{"flows":0}"#, "parameters.flows"),
            ("machine_down", r#"{"class":"explode"}"#, "parameters.class"),
        ];
        for (name, parameters, field) in rows {
            let parameters = serde_json::from_str(parameters).unwrap();
            let problem = Kind::read(name, &parameters).unwrap_err();
            assert!(problem.field.starts_with(field), "{name} {parameters}: {problem}");
            assert!(problem.example.contains("duration"), "{problem}");
        }
    }

    #[test]
    fn an_intensity_is_in_a_unit_of_the_kind_and_under_its_ceiling() {
        let of = |value, unit| Some(Intensity { value, unit });
        let rows = [
            ("cpu_spike", None, "intensity"),
            ("cpu_spike", of(101.0, Unit::Percent), "intensity.value"),
            ("cpu_spike", of(65.0, Unit::Cores), "intensity.value"),
            ("cpu_spike", of(1.0, Unit::MiB), "intensity.unit"),
            ("machine_down", of(1.0, Unit::Count), "intensity"),
        ];
        for (name, intensity, field) in rows {
            let problem = About::of(name).unwrap().check(intensity).unwrap_err();
            assert_eq!(problem.field, field, "{problem}");
        }
        About::of("cpu_spike").unwrap().check(of(85.0, Unit::Percent)).unwrap();
    }
}
