//! The nemesis: real processes, a real S3 client, and seeded trouble between and within them.
//!
//! First with faults (safety: what clients see stays linearizable, nothing acknowledged is lost),
//! then healed (liveness: full service within seconds), then the end checks. `plan` decides what
//! happens when, `cluster` runs the processes, `link` stands between them, `clients` ask and take
//! down the answers, `checks` looks at what is left.
//!
//! `MOCKS3TEST_SEED` repeats a plan, `MOCKS3TEST_SECONDS` is for how long there are faults.

#![allow(clippy::unwrap_used, missing_docs)]

mod alarms;
#[path = "../linear/checker.rs"]
mod checker;
mod checks;
#[allow(dead_code, reason = "tests/points has clients that only write")]
mod clients;
mod cluster;
mod cuts;
#[path = "../linear/history.rs"]
mod history;
mod link;
mod plan;
mod run;
mod s3;
#[path = "../linear/search.rs"]
mod search;
