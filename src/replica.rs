//! Replication: hosts any deterministic state machine in any number of instances.
//!
//! The consensus is openraft's; here is what it stands on and what stands on it: the log and the vote
//! on disk, the machine that applies, the batching of commands, the barrier before reads, the RPCs
//! and who is a voter. A group of one is the normal case and asks nobody.
//!
//! - `REPL-1` an answered command is in the log of a majority, on disk;
//! - `REPL-2` every replica applies the same commands in the same order, each once;
//! - `REPL-3` a read behind the barrier sees every command that was answered before it was asked;
//! - `REPL-4` the log is purged only up to what the machine has on disk.

pub mod actor;
pub mod backup;
mod batch;
mod chance;
mod engine;
pub mod found;
mod group;
mod host;
pub mod images;
mod known;
mod log;
mod machine;
pub mod message;
mod network;
mod plan;
mod propose;
mod reads;
mod steward;
mod synced;
pub mod talk;
pub mod types;

pub use chance::Chance;
pub use engine::Status;
pub use group::{Replica, Settings, Setup};
pub use host::Host;
pub use known::KnownGroups;
pub use log::{LogError, LogStore};
pub use machine::{Digest, Digester, Exec, Export, Image, Keyed, Machine, ProposeError};
pub use network::{Carrier, CarrierError};
pub use reads::ReadError;
pub use synced::Synced;
