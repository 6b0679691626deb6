//! Rows as bytes. The encoding is that of the messages between nodes.

use bincode::Options;
use redb::{Error, StorageError};
use serde::{Serialize, de::DeserializeOwned};

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding()
}

/// The encoded size in bytes, as in messages between nodes.
pub(in crate::actors) fn encoded_size(value: &impl Serialize) -> u64 {
    options().serialized_size(value).unwrap_or(u64::MAX)
}

/// Encodes a row.
pub(in crate::actors) fn encode(value: &impl Serialize) -> Vec<u8> {
    options().serialize(value).expect("plain structs of known length always encode to memory")
}

/// Decodes a row; `what` names it where that fails.
pub(in crate::actors) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    // a length prefix in a damaged row may not make us allocate more than the row has
    let bounded = options().with_limit(bytes.len() as u64);
    bounded.deserialize(bytes).map_err(|e| corrupted(format!("{what} row: {e}")))
}

/// An error that says that a row is not what was written.
pub(in crate::actors) fn corrupted(text: String) -> Error {
    StorageError::Corrupted(text).into()
}
