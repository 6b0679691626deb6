//! The data plane: object bytes between nodes, over HTTP/1.1 on a listener of its own.
//!
//! Control goes through actor messages; bodies above the inline limit go here, so that a stream
//! never holds up heartbeats. A storage node's actor gives out a [`ticket`] by message; whoever
//! has it streams one item in (`PUT /data/{data_id}`) or one range out (`GET /data/{data_id}`).
//!
//! - `DATA-1` a ticket is unguessable, good once, for one item and one direction, and expires;
//! - `DATA-2` an upload counts only if its body came to a proper end (terminal chunk or declared
//!   length) of the granted length; everything else is discarded;
//! - `DATA-3` a download that cannot be finished breaks its connection: a well-ended body is
//!   right;
//! - `DATA-4` a transfer needs about 2 MiB of memory on either side, whatever its length, and a
//!   peer that stops moving bytes is given up after a limit;
//! - `DATA-5` transfers end with the actor that granted them, and so do its tickets.

mod body;
pub mod client;
pub mod desk;
mod local;
mod pool;
pub mod receive;
pub mod server;
pub mod store;
pub mod stream;
pub mod ticket;
pub mod words;

/// The header that carries the ticket: 32 hex digits.
pub const TICKET_HEADER: &str = "x-mocks3-ticket";

/// The trailer with the hashes of an upload that its sender hashed: MD5 and CRC-64/NVME in hex.
pub(crate) const HASHES_TRAILER: &str = "x-mocks3-hashes";

/// How much of a connection is buffered on its way in, in bytes.
pub(crate) const BUFFER: usize = 128 * 1024;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
