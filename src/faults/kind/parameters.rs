//! The parameters of each kind. What is left out has the value that stands in its comment.

use serde::{Deserialize, Serialize};

/// What is wrong with a parameter: its name, and what would be right.
pub type Wrong = (&'static str, String);

fn within<T: PartialOrd + std::fmt::Display + Copy>(
    field: &'static str,
    value: T,
    from: T,
    to: T,
) -> Result<(), Wrong> {
    let right = (from..=to).contains(&value);
    right.then_some(()).ok_or_else(|| (field, format!("expected {from} to {to}, got {value}")))
}

/// Of `cpu_spike`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuSpike {
    /// Burner threads for each core: 1 (the metric moves, users hardly notice) to 8 (an outage).
    pub crowd: u32,
    /// Their nice value: 0, to 19 (they yield to everybody).
    pub nice: u32,
}

impl Default for CpuSpike {
    fn default() -> Self {
        CpuSpike { crowd: 1, nice: 0 }
    }
}

impl CpuSpike {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Wrong> {
        within("crowd", self.crowd, 1, 8).and(within("nice", self.nice, 0, 19))
    }
}

/// Of `memory_leak`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryLeak {
    /// How fast it grows to its level, in MiB a second: none, at once.
    pub rate_mib_per_second: Option<f64>,
}

impl MemoryLeak {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Wrong> {
        self.rate_mib_per_second.map_or(Ok(()), |r| within("rate_mib_per_second", r, 0.001, 4096.0))
    }
}

/// Of `disk_full`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskFull {
    /// The volume itself is filled, not the node's quota: false. No other node may use that mount.
    pub real_volume: bool,
}

impl DiskFull {
    /// There is nothing to be wrong.
    ///
    /// # Errors
    /// None.
    pub fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}

/// An operation of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskOperation {
    /// A write, and its sync.
    #[default]
    Fsync,
    /// A read that the page cache does not serve.
    Read,
    /// A write without a sync.
    Write,
}

/// Of `disk_io`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskIo {
    /// What is done: `fsync`, `read` or `write`.
    pub operation: DiskOperation,
    /// How many bytes each time: 65536, of 4096 to 4194304.
    pub block_bytes: u32,
    /// How many at a time: 1, to 16.
    pub threads: u32,
}

impl Default for DiskIo {
    fn default() -> Self {
        DiskIo { operation: DiskOperation::Fsync, block_bytes: 65536, threads: 1 }
    }
}

impl DiskIo {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Wrong> {
        within("block_bytes", self.block_bytes, 4096, 4 << 20).and(within(
            "threads",
            self.threads,
            1,
            16,
        ))
    }
}

/// Of `network_flood`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkFlood {
    /// The service that is flooded: that of the target itself.
    pub to: Option<String>,
    /// Over how many connections bytes are sent: 8, of 1 to 256.
    pub flows: u32,
    /// Threads that send: 1, to 8.
    pub threads: u32,
}

impl Default for NetworkFlood {
    fn default() -> Self {
        NetworkFlood { to: None, flows: 8, threads: 1 }
    }
}

impl NetworkFlood {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Wrong> {
        within("flows", self.flows, 1, 256).and(within("threads", self.threads, 1, 8))
    }
}

/// How a service is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DownClass {
    /// Connections are refused, and those that stand are closed.
    #[default]
    #[serde(alias = "connection_refuse")]
    Refuse,
    /// Connections are reset.
    #[serde(alias = "network_isolation")]
    Reset,
    /// Connections are taken, and nothing is answered.
    #[serde(alias = "service_hang", alias = "slow_response")]
    Hang,
    /// The process is stopped, and continued.
    #[serde(alias = "resource_exhaustion")]
    Freeze,
    /// The process is killed, and started again.
    Crash,
}

/// Of `machine_down`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineDown {
    /// `refuse`, `reset`, `hang`, `freeze` or `crash`; also the original's `simulation_type`.
    #[serde(alias = "simulation_type")]
    pub class: DownClass,
}

impl MachineDown {
    /// There is nothing to be wrong.
    ///
    /// # Errors
    /// None.
    pub fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}
