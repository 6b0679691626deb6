//! The task of the queue: what it asks for, where it stands, who holds it.
//!
//! Used by the producers (metadata outbox, flows, the JSON API), the workers and the queue's state
//! machine. Plain values that travel between nodes and stand in the queue's file; no clock, no
//! randomness.
//!
//! - `TASK-1` a task carries references only, never object bytes, and is at most
//!   [`TASK_LIMIT_BYTES`] long, so that replies can be paged.
//! - `TASK-2` the producer gives the id: the same id twice is one task.
//! - `TASK-3` `lease` is set exactly in state [`TaskState::Running`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::types::{DataId, InstanceId, UnixMillis};

/// The largest task, in encoded bytes.
pub const TASK_LIMIT_BYTES: u64 = 16 * 1024;
/// The longest task id, in bytes.
pub const ID_LIMIT_BYTES: usize = 128;
/// The longest worker name, in bytes.
pub const WORKER_LIMIT_BYTES: usize = 256;
/// The longest error text kept with a task, in bytes; longer ones are cut.
pub const ERROR_LIMIT_BYTES: usize = 1024;
/// Attempts that a task gets where its producer has no opinion.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 10;
/// Attempts of tasks that keep the books straight: they are never given up, since a node may be
/// away for long; nor do lost leases make them dead letters.
pub const NEVER_GIVE_UP: u32 = 1_000_000;
/// Priority where the producer has no opinion; higher goes first.
pub const DEFAULT_PRIORITY: u8 = 100;

/// A bucket and a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Bucket name.
    pub bucket: String,
    /// Object key, as it is.
    pub key: String,
}

/// What must still hold in metadata for a third-party save-back to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaveExpect {
    /// No row, delete marker or tombstone was written since the key was absent.
    StillAbsent,
    /// The newest row of the key is still this one (its data were unreadable).
    StillRow {
        /// As a lookup showed it.
        row: u64,
    },
}

/// A header that goes with a saved object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// What a task asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskKind {
    /// Remove data that nothing references any more.
    Delete {
        /// The data.
        data_id: DataId,
        /// Every node that has or may have a copy.
        nodes: Vec<InstanceId>,
    },
    /// Remove what an aborted or unknown upload may have left.
    Cleanup {
        /// The data.
        data_id: DataId,
        /// Every node that may have received some of it.
        nodes: Vec<InstanceId>,
    },
    /// Make the copy that one node lacks.
    Replicate {
        /// The data.
        data_id: DataId,
        /// The node that lacks it.
        to: InstanceId,
    },
    /// Save back an object that a third party served; the worker fetches it again.
    Save {
        /// Bucket name.
        bucket: String,
        /// Object key.
        key: String,
        /// Name of the third-party source that served it.
        source: String,
        /// What must still hold when it is committed.
        expect: SaveExpect,
    },
    /// Delete an object by name (asked over the queue's JSON API).
    DeleteObject {
        /// Bucket name.
        bucket: String,
        /// Object key.
        key: String,
    },
    /// Make an object from data that are already on the storage nodes (asked over the JSON API).
    SaveObject {
        /// Bucket name.
        bucket: String,
        /// Object key.
        key: String,
        /// Length in bytes.
        size: u64,
        /// Content type, empty where none was given.
        content_type: String,
        /// Further headers.
        headers: Vec<Header>,
        /// The staged bytes; `None` = fetch the object from third parties.
        data_id: Option<DataId>,
    },
    /// Remove the copy of one node, which is one too many.
    Discard {
        /// The data.
        data_id: DataId,
        /// The node.
        from: InstanceId,
    },
}

/// The kinds without their contents: for filters and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KindName {
    /// [`TaskKind::Delete`].
    Delete,
    /// [`TaskKind::Cleanup`] and [`TaskKind::Discard`].
    Cleanup,
    /// [`TaskKind::Replicate`].
    Replicate,
    /// [`TaskKind::Save`].
    Save,
    /// [`TaskKind::DeleteObject`].
    DeleteObject,
    /// [`TaskKind::SaveObject`].
    SaveObject,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaskState {
    /// Waits for its first attempt, or for another one after it was handed back.
    Pending,
    /// Leased to a worker.
    Running,
    /// Waits for another attempt after a failed or lost one.
    Retrying,
    /// Done. Final.
    Completed,
    /// A dead letter: its attempts are used up. Final until somebody retries it by hand.
    Failed,
    /// Called off before it ran. Final until somebody retries it by hand.
    Cancelled,
}

/// Who works on a task, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The worker.
    pub worker: String,
    /// Names this lease: results are accepted with it only. Never 0, never given twice.
    pub token: u64,
    /// When the lease may be taken away.
    pub until_ms: UnixMillis,
}

/// A task as its producer describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    /// Given by the producer: 1 to [`ID_LIMIT_BYTES`] bytes.
    pub id: String,
    /// What to do.
    pub kind: TaskKind,
    /// Higher goes first.
    pub priority: u8,
    /// Failed attempts after which it is a dead letter; 0 counts as 1.
    pub max_attempts: u32,
    /// Not before this time.
    pub not_before_ms: UnixMillis,
    /// When it was made.
    pub created_ms: UnixMillis,
    /// The object it is about, where the kind does not name one.
    pub object: Option<ObjectRef>,
}

/// A task as the queue keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Given by the producer.
    pub id: String,
    /// What to do.
    pub kind: TaskKind,
    /// Where it stands.
    pub state: TaskState,
    /// Higher goes first.
    pub priority: u8,
    /// Leases given so far, without those handed back unused.
    pub attempts: u32,
    /// Those of `attempts` that ended without an answer (expired, worker died).
    pub lost: u32,
    /// Failed attempts (`attempts - lost`) after which it is a dead letter.
    pub max_attempts: u32,
    /// Not before this time.
    pub not_before_ms: UnixMillis,
    /// When its producer made it.
    pub created_ms: UnixMillis,
    /// When it last changed.
    pub updated_ms: UnixMillis,
    /// When its last attempt began.
    pub started_ms: Option<UnixMillis>,
    /// When it became completed, failed or cancelled.
    pub finished_ms: Option<UnixMillis>,
    /// Set exactly while it runs.
    pub lease: Option<Lease>,
    /// Token of the latest lease, 0 before the first: a result reported twice is known by it.
    pub last_token: u64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// The object it is about, where the kind does not name one.
    pub object: Option<ObjectRef>,
}

impl NewTask {
    /// A task with the defaults, due at once.
    pub fn new(id: impl Into<String>, kind: TaskKind, created_ms: UnixMillis) -> NewTask {
        NewTask {
            id: id.into(),
            kind,
            priority: DEFAULT_PRIORITY,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            not_before_ms: created_ms,
            created_ms,
            object: None,
        }
    }

    /// The task that the queue keeps for it.
    pub(super) fn into_task(self) -> Task {
        Task {
            id: self.id,
            kind: self.kind,
            state: TaskState::Pending,
            priority: self.priority,
            attempts: 0,
            lost: 0,
            max_attempts: self.max_attempts.max(1),
            not_before_ms: self.not_before_ms,
            created_ms: self.created_ms,
            updated_ms: self.created_ms,
            started_ms: None,
            finished_ms: None,
            lease: None,
            last_token: 0,
            last_error: None,
            object: self.object,
        }
    }
}

impl Task {
    /// The bucket and key that the task is about, where it names any.
    pub fn object_ref(&self) -> Option<ObjectRef> {
        match &self.kind {
            TaskKind::Save { bucket, key, .. }
            | TaskKind::DeleteObject { bucket, key }
            | TaskKind::SaveObject { bucket, key, .. } => {
                Some(ObjectRef { bucket: bucket.clone(), key: key.clone() })
            }
            TaskKind::Delete { .. }
            | TaskKind::Cleanup { .. }
            | TaskKind::Replicate { .. }
            | TaskKind::Discard { .. } => self.object.clone(),
        }
    }
}

impl TaskKind {
    /// The kind without its contents.
    pub fn name(&self) -> KindName {
        match self {
            TaskKind::Delete { .. } => KindName::Delete,
            TaskKind::Cleanup { .. } | TaskKind::Discard { .. } => KindName::Cleanup,
            TaskKind::Replicate { .. } => KindName::Replicate,
            TaskKind::Save { .. } => KindName::Save,
            TaskKind::DeleteObject { .. } => KindName::DeleteObject,
            TaskKind::SaveObject { .. } => KindName::SaveObject,
        }
    }
}

impl KindName {
    /// All kinds, in the order of their numbers.
    pub const ALL: [KindName; 6] = [
        KindName::Delete,
        KindName::Cleanup,
        KindName::Replicate,
        KindName::Save,
        KindName::DeleteObject,
        KindName::SaveObject,
    ];

    /// The queues that kinds count to in APIs and metrics.
    pub const QUEUES: [&str; 3] = ["delete", "save", "replicate"];

    /// The one of [`KindName::QUEUES`] that it counts to.
    pub fn queue(self) -> &'static str {
        match self {
            KindName::Delete | KindName::DeleteObject | KindName::Cleanup => "delete",
            KindName::Save | KindName::SaveObject => "save",
            KindName::Replicate => "replicate",
        }
    }

    /// The name in APIs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            KindName::Delete => "delete",
            KindName::Cleanup => "cleanup",
            KindName::Replicate => "replicate",
            KindName::Save => "save",
            KindName::DeleteObject => "delete_object",
            KindName::SaveObject => "save_object",
        }
    }
}

impl TaskState {
    /// All states, in the order of their numbers.
    pub const ALL: [TaskState; 6] = [
        TaskState::Pending,
        TaskState::Running,
        TaskState::Retrying,
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Cancelled,
    ];

    /// The name in APIs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Pending => "pending",
            TaskState::Running => "running",
            TaskState::Retrying => "retrying",
            TaskState::Completed => "completed",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }

    /// Whether no worker will touch a task in this state.
    pub fn is_final(self) -> bool {
        matches!(self, TaskState::Completed | TaskState::Failed | TaskState::Cancelled)
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KindName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = KindName::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("unknown task kind {text:?}"))
    }
}

impl FromStr for TaskState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = TaskState::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("unknown task state {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_numbers_follow_the_order_of_all() {
        for (number, kind) in KindName::ALL.into_iter().enumerate() {
            assert_eq!((kind.as_str().parse(), kind as usize), (Ok(kind), number));
        }
        for (number, state) in TaskState::ALL.into_iter().enumerate() {
            assert_eq!((state.as_str().parse(), state as usize), (Ok(state), number));
        }
        assert!("done".parse::<TaskState>().is_err() && "move".parse::<KindName>().is_err());
    }
}
