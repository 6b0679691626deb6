//! Faults: what can be done to a node, how strong over time, until when, and what came of it.
//!
//! Decided in plain code ([`shape`], [`term`]); done by threads of their own, never by workers of the
//! runtime: the service suffers by real contention, and a dead runtime ends nothing later than said.
//!
//! - `FAULT-1` every thread that hurts asks its [`term::Term`] itself, at least every 20 ms;
//! - `FAULT-2` dropping an effect ends it and gives all back, also after a panic;
//! - `FAULT-3` what was asked for, what was achieved and what could not be are three numbers
//!   ([`effect::Progress`]); none is made of another.

mod asked;
pub mod budget;
pub mod condition;
pub mod cpu_spike;
mod crew;
pub mod disk_full;
pub mod disk_io;
pub mod effect;
pub mod instances;
pub mod kind;
pub mod network_flood;
pub mod shape;
pub mod span;
pub mod term;
pub mod unit;
mod unlinked;
