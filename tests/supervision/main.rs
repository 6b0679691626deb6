//! Random crash sequences against real supervisors and real actors, in one process.
//!
//! The decisions are proven in `supervisor::restart`; here the shells are: that a panic, an error, a
//! kill and a hang are all seen, that a child is back within its backoff, that siblings go or stay as
//! the strategy says, that too many ends escalate, and that acknowledged state is there afterwards.

#![allow(clippy::unwrap_used, missing_docs)]

mod crashes;
mod harness;
mod state;
mod subjects;
