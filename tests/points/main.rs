//! Crash points: at each named step (`src/points.rs`) a process of a small real cluster dies as by
//! kill -9 while clients write, and comes back.
//!
//! Afterwards every answer that a client got must be explained by one order of what happened, what
//! was acknowledged is there with its bytes and on all nodes, what is of unknown outcome is wholly
//! there or not at all, no task is left, no data lies around, and all replicas are equal. `scenes`
//! says who dies where, `run` lets it happen and looks. `mutants` shows that these checks see what they
//! should.
//!
//! `MOCKS3TEST_SCENE=relayed` runs only the scenes with such a point.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code, reason = "the checker of a list is the nemesis's")]
#[path = "../linear/checker.rs"]
mod checker;
#[allow(dead_code, reason = "the nemesis checks more")]
#[path = "../nemesis/checks.rs"]
mod checks;
#[path = "../nemesis/clients.rs"]
mod clients;
#[allow(dead_code, reason = "the nemesis hurts nodes in more ways")]
#[path = "../nemesis/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "the nemesis writes histories of its own")]
#[path = "../linear/history.rs"]
mod history;
#[allow(dead_code, reason = "the nemesis cuts links")]
#[path = "../nemesis/link.rs"]
mod link;
mod mutants;
mod run;
#[path = "../nemesis/s3.rs"]
mod s3;
mod scenes;
#[path = "../linear/search.rs"]
mod search;
