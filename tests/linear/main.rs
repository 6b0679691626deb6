//! A checker of linearizability for S3's keys, and what it is checked against: histories written by
//! hand, every order tried one after another, and the tester of `stateright`.
//!
//! `history`, `search` and `checker` are used by `tests/nemesis`, too.

#![allow(clippy::unwrap_used, missing_docs)]

mod against;
mod bad;
mod checker;
mod history;
mod large;
mod maker;
mod search;
