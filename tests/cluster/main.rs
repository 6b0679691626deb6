//! Several real processes on one machine: joining, killing, freezing, and strangers at the door.
//!
//! The test process takes part as a node of its own (an observer), so that it sees membership and
//! calls from the inside. `ractor`'s registries are per process; hence each test runs in a process of
//! its own ([`harness::isolated`]).

#![allow(clippy::unwrap_used, missing_docs)]

mod certificates;
mod crashes;
mod groups;
mod harness;
mod membership;
mod strangers;
#[path = "../supervision/subjects.rs"]
mod subjects;
mod tls;
