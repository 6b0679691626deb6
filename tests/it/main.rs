//! One process: a whole node over real HTTP, hostile input at everything that reads bytes, the limit
//! of every message type, and the rules of the house.
//!
//! What is fuzzed is fuzzed for a bounded time with a seed that a failure prints:
//! `MOCKS3TEST_SECONDS` makes it longer, `MOCKS3TEST_SEED` repeats it.

#![allow(clippy::unwrap_used, missing_docs)]

mod beats;
mod chance;
mod decoders;
mod handshakes;
mod hostile;
mod maker;
mod node;
mod smoke;
mod tasks;
mod tidy;
mod too_large;
mod wires;
