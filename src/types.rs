//! The words that every room of the house shares: services, ids of data, times and ids in the S3 sense.
//!
//! Plain values: no I/O, no clock, no randomness except in the constructors that say `new` or `now`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One of the services that a node can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Service {
    /// Buckets, objects, versions, multipart state; HTTP on 8081.
    Metadata,
    /// Object bytes and the S3 edge; HTTP on 8082.
    Storage,
    /// Delete, save, replicate and cleanup tasks; HTTP on 8083.
    Queue,
    /// Fallback sources outside the cluster; HTTP on 8084.
    ThirdParty,
    /// Fault rules and their life; HTTP on 8085.
    MockError,
}

impl Service {
    /// All services, in the order in which they are started and listed.
    pub const ALL: [Service; 5] = [
        Service::Metadata,
        Service::Storage,
        Service::Queue,
        Service::ThirdParty,
        Service::MockError,
    ];

    /// Those whose state is replicated: all their instances hold it.
    pub const REPLICATED: [Service; 3] = [Service::Metadata, Service::Queue, Service::MockError];

    /// The full name, as it stands in labels and instance ids: `storage-service`.
    pub fn name(self) -> &'static str {
        match self {
            Service::Metadata => "metadata-service",
            Service::Storage => "storage-service",
            Service::Queue => "queue-service",
            Service::ThirdParty => "third-party-service",
            Service::MockError => "mock-error-service",
        }
    }

    /// The short name, as in `--scale storage=3`.
    pub fn short(self) -> &'static str {
        let name = self.name();
        name.strip_suffix("-service").unwrap_or(name)
    }

    /// The HTTP port of the first instance, as an offset from the base port (8081 by default).
    pub fn port_offset(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = String;

    /// Accepts the name with and without `-service`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Service::ALL.into_iter().find(|s| text == s.name() || text == s.short()).ok_or_else(|| {
            let known = Service::ALL.map(Service::short).join(", ");
            format!(
                "unknown service {text:?}: expected one of {known} (with or without \"-service\")"
            )
        })
    }
}

impl TryFrom<String> for Service {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Service> for String {
    fn from(service: Service) -> String {
        service.name().to_owned()
    }
}

/// The id of one immutable run of bytes on the storage nodes (an object, or a part of one).
///
/// Fresh for every upload attempt, so that a retried or aborted upload can never be mistaken for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DataId(pub u128);

impl DataId {
    /// A new id (UUID version 7: ordered by time, which keeps indexes compact).
    #[allow(clippy::new_without_default)] // not a default: every call gives another id
    pub fn new() -> Self {
        DataId(Uuid::now_v7().as_u128())
    }
}

impl fmt::Display for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).fmt(f)
    }
}

impl fmt::Debug for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DataId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(DataId(Uuid::parse_str(text)?.as_u128()))
    }
}

/// The id of an instance: `{service}-{uuid}`, for example `storage-service-6f0c…`. Kept with its disk.
pub type InstanceId = String;

/// Makes the id of a new instance of `service`.
pub fn new_instance_id(service: Service) -> InstanceId {
    format!("{}-{}", service.name(), Uuid::new_v4())
}

/// The service that an instance id belongs to, or `None` where the text is no instance id.
pub fn service_of_instance(instance: &str) -> Option<Service> {
    let (name, uuid) =
        (instance.get(..instance.len().checked_sub(37)?)?, instance.get(instance.len() - 36..)?);
    Uuid::parse_str(uuid).ok()?;
    name.parse().ok()
}

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMillis = u64;

/// The wall clock. Only edges and shells may call it; cores receive times as values.
pub fn now_ms() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as UnixMillis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_with_and_without_the_suffix() {
        for service in Service::ALL {
            assert_eq!(service.short().parse::<Service>(), Ok(service));
            assert_eq!(service.name().parse::<Service>(), Ok(service));
        }
        assert!("store".parse::<Service>().unwrap_err().contains("metadata, storage, queue"));
    }

    #[test]
    fn an_instance_id_names_its_service() {
        for service in Service::ALL {
            assert_eq!(service_of_instance(&new_instance_id(service)), Some(service));
        }
        for text in
            ["", "storage-service", "storage-service-1", "x-6f0c6f0c-6f0c-4f0c-8f0c-6f0c6f0c6f0c"]
        {
            assert_eq!(service_of_instance(text), None, "{text}");
        }
    }
}
