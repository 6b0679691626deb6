//! MockS3: a fault simulation platform for AIOps: a real, S3-compatible object store, built as an
//! actor cluster, which can hurt itself on command.
//!
//! In reading order: [`types`] are the words; [`cluster`] carries messages between nodes; [`actors`]
//! hold the state; [`faults`] are what can be done to a node; [`objects`] are the S3 flows over the
//! actors; [`http`] are the edges; [`node`] composes a process and [`cli`] starts it. ARCHITECTURE.md
//! is the map.

pub mod actors;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod data;
pub mod events;
pub mod faults;
pub mod http;
pub mod metrics;
pub mod node;
pub mod objects;
pub mod points;
pub mod replica;
pub mod types;
