//! Work that a commit leaves for the queue: written in the same transaction as its cause, and kept
//! until the queue has acknowledged it.

use serde::{Deserialize, Serialize};

use crate::types::{DataId, InstanceId, UnixMillis};

/// The stable id of an outbox row: the index of the command that made it, and a number within it.
///
/// Its text form, `t-{index}-{n}`, begins the id of the queue task; the data id ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutboxId {
    /// Index of the command that wrote the row.
    pub index: u64,
    /// Ordinal within that command, from 0.
    pub n: u32,
}

impl std::fmt::Display for OutboxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t-{}-{}", self.index, self.n)
    }
}

/// Work for the queue, kept until it is acknowledged there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Stable, across restarts of both sides.
    pub id: OutboxId,
    /// Not due before this time.
    pub not_before_ms: UnixMillis,
    /// What to do.
    pub task: OutboxTask,
}

/// What an outbox row asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OutboxTask {
    /// Data that nothing uses any more.
    Delete {
        /// The data.
        data_id: DataId,
        /// Every node that has or may have a copy.
        nodes: Vec<InstanceId>,
    },
    /// Data that was aborted.
    Cleanup {
        /// The data.
        data_id: DataId,
        /// Every member.
        nodes: Vec<InstanceId>,
    },
    /// A copy that is missing.
    Replicate {
        /// The data.
        data_id: DataId,
        /// Where it is to be.
        to: InstanceId,
    },
    /// A copy that is not wanted where it is.
    Discard {
        /// The data.
        data_id: DataId,
        /// Where it is.
        from: InstanceId,
    },
}

impl OutboxTask {
    /// The data that it is about.
    pub fn data_id(&self) -> DataId {
        match self {
            OutboxTask::Delete { data_id, .. }
            | OutboxTask::Cleanup { data_id, .. }
            | OutboxTask::Replicate { data_id, .. }
            | OutboxTask::Discard { data_id, .. } => *data_id,
        }
    }
}
