//! The replica module in a simulated world: seeded, on one thread, with a clock, a network and disks
//! that fail as the seed says. The same seed gives the same run.
//!
//! Asserted at every step are the properties that Raft promises (Ongaro, Ousterhout: In Search of an
//! Understandable Consensus Algorithm, 2014, figure 3), and at the end that what clients saw could
//! have happened one after another.

#![allow(clippy::unwrap_used, missing_docs)]

mod disk;
mod history;
mod invariants;
mod machine;
mod net;
mod runs;
mod storage;
mod world;
