//! What changes the records of the fault injector, and what came of it.
//!
//! Carried by the replicated log of the group; applied by its [machine](super::machine).
//!
//! - `RECORD-1` a command carries its time: the same commands at the same indexes give the same
//!   records anywhere;
//! - `RECORD-2` a refused command changes nothing;
//! - `RECORD-3` the version of a record is the index of the command that stored it: it grows with
//!   every change, and a record that was deleted and made again never has an old version.

use serde::{Deserialize, Serialize};

use crate::types::UnixMillis;

/// The largest body, in bytes.
pub const BODY_LIMIT_BYTES: usize = 64 * 1024;
/// The longest id, in bytes.
pub const ID_LIMIT_BYTES: usize = 256;
/// The most records in one collection.
pub const RECORD_LIMIT: u64 = 100_000;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Collection {
    /// Faults that are to be injected where a request or a node matches.
    Rules,
    /// Scripts of faults over time.
    Scripts,
    /// Runs of scripts.
    Runs,
    /// What was injected when: the ground truth.
    Labels,
}

impl Collection {
    /// All of them, in the order of their numbers.
    pub const ALL: [Collection; 4] =
        [Collection::Rules, Collection::Scripts, Collection::Runs, Collection::Labels];
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name within the collection.
    pub id: String,
    /// Index of the command that stored it.
    pub version: u64,
    /// When it was made.
    pub created_ms: UnixMillis,
    /// When it was last stored.
    pub changed_ms: UnixMillis,
    /// A JSON text of at most [`BODY_LIMIT_BYTES`].
    pub body: String,
}

/// What must stand there for a command to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    /// No record.
    Absent,
    /// The record in this version.
    Version(u64),
    /// Whatever.
    Any,
}

/// One change of the records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Stores a record; answers [`Outcome::Stored`].
    Put {
        /// Where.
        collection: Collection,
        /// 1 to [`ID_LIMIT_BYTES`] bytes.
        id: String,
        /// A JSON text.
        body: String,
        /// Under which condition.
        expected: Expected,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Deletes a record; answers [`Outcome::Deleted`]. Expected absent, it is always refused.
    Delete {
        /// Where.
        collection: Collection,
        /// Its id.
        id: String,
        /// Under which condition.
        expected: Expected,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// To `Put`.
    Stored {
        /// The version of the record now.
        version: u64,
    },
    /// To `Delete`.
    Deleted,
    /// To any command; nothing was changed.
    Refused(Refused),
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// No record has this id, and one was expected.
    #[error("no such record")]
    NoSuchRecord,
    /// The record is not in the version that was expected, or none was.
    #[error("record has version {version}")]
    Conflict {
        /// The one that it has.
        version: u64,
    },
    /// The body is too long.
    #[error("body exceeds {BODY_LIMIT_BYTES} bytes")]
    TooLarge,
    /// The collection holds as many records as it may.
    #[error("collection is full at {RECORD_LIMIT} records")]
    Full,
    /// A value is out of bounds, or no JSON.
    #[error("invalid {field}")]
    Invalid {
        /// Which value.
        field: String,
    },
}
