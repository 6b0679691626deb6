//! The replica module in a simulated world: seeded, on one thread, with a clock, a network and disks
//! that fail as the seed says. The same seed gives the same run.
//!
//! Asserted at every step are the properties that Raft promises (Ongaro, Ousterhout: In Search of an
//! Understandable Consensus Algorithm, 2014, figure 3), and at the end that what clients saw could
//! have happened one after another.
//!
//! Two groups run so: registers in memory (`registers.rs`), for the replica module itself; and the
//! queue (`queue.rs`), its own machine and file on a simulated disk, with workers and relays.

#![allow(clippy::unwrap_used, missing_docs)]

mod disk;
mod history;
mod invariants;
mod machine;
mod net;
mod queue;
mod registers;
mod runs;
mod storage;
mod way;
mod world;
