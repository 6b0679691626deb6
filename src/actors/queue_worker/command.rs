//! What changes the queue, and what came of it.
//!
//! Made by the queue actor and carried by its replicated log; applied by the queue's
//! [machine](super::machine).
//!
//! - `COMMAND-1` a command carries every time, random number and limit that its effect depends on:
//!   the same commands in the same order give the same outcomes and the same state anywhere.
//! - `COMMAND-2` a refused command changes nothing.
//! - `COMMAND-3` a command whose outcome got lost may be sent again under the key of its intent and
//!   is answered as the first time, also by the same leases or the same refusal, for as long as that
//!   outcome is kept ([`Schema::KEEP_COMMANDS`](crate::actors::redb_state::Schema::KEEP_COMMANDS)).
//!   Beyond that, and without a key, `Enqueue` knows the ids, `Complete` and `Fail` know the token
//!   and answer as the first time; a second `Lease` gives further tasks, and those of the lost answer
//!   come back when their lease expires.
//! - `COMMAND-4` no outcome is larger than [`PAGE_BYTES`] and one task.

use serde::{Deserialize, Serialize};

use super::task::{KindName, NewTask, Task, TaskState};
use crate::types::UnixMillis;

/// Where a page or an outcome is cut, in encoded bytes.
pub const PAGE_BYTES: u64 = 128 * 1024;
/// The most tasks in one `Enqueue`, `Lease` or `Renew`, and the most removed by one `Purge`.
pub const MAX_ITEMS: usize = 1_000;

/// One change of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Adds tasks; answers [`Outcome::Enqueued`], one result a task in order.
    Enqueue {
        /// At most [`MAX_ITEMS`].
        tasks: Vec<NewTask>,
        /// The most unfinished tasks that the queue may then hold.
        limit: u64,
    },
    /// Gives due tasks to a worker, highest priority first, then by due time, then first come first
    /// served; answers [`Outcome::Leased`].
    Lease {
        /// Who will work on them.
        worker: String,
        /// At most so many (bounded by [`MAX_ITEMS`] and [`PAGE_BYTES`]).
        max: u32,
        /// How long the lease holds.
        lease_ms: u64,
        /// Time of the command.
        now_ms: UnixMillis,
        /// Only these kinds; empty = all.
        kinds: Vec<KindName>,
    },
    /// Prolongs leases to `now + lease_ms`; answers [`Outcome::Renewed`].
    Renew {
        /// The leases; at most [`MAX_ITEMS`].
        leases: Vec<LeaseRef>,
        /// How long they hold from now on.
        lease_ms: u64,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// The work is done; answers [`Outcome::Changed`].
    Complete {
        /// Task and token.
        lease: LeaseRef,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// The attempt failed: another one later, or a dead letter; answers [`Outcome::Changed`].
    Fail {
        /// Task and token.
        lease: LeaseRef,
        /// Why.
        error: String,
        /// Time of the command.
        now_ms: UnixMillis,
        /// Any random number: spreads the next attempt.
        jitter: u32,
    },
    /// Hands a task back untouched (the worker stops): due at once, no attempt counted; answers
    /// [`Outcome::Changed`].
    Release {
        /// Task and token.
        lease: LeaseRef,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Calls a waiting task off; a running one is refused. Answers [`Outcome::Changed`].
    Cancel {
        /// Task id.
        id: String,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Starts a failed or cancelled task anew, attempts from 0; answers [`Outcome::Changed`].
    Retry {
        /// Task id.
        id: String,
        /// Time of the command.
        now_ms: UnixMillis,
        /// The most unfinished tasks that the queue may then hold.
        limit: u64,
    },
    /// Sets the state of an unfinished task without a token, for the status call of the JSON API:
    /// to pending, completed, failed or cancelled. A worker that holds it loses its lease. Answers
    /// [`Outcome::Changed`].
    SetStatus {
        /// Task id.
        id: String,
        /// The new state.
        state: TaskState,
        /// Why, where it failed.
        error: Option<String>,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Takes every lease away that ended at or before `now`; the tasks are due at once. Answers
    /// [`Outcome::TakenBack`].
    ExpireLeases {
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Takes every lease of a worker away; the tasks are due at once. Answers
    /// [`Outcome::TakenBack`].
    WorkerDied {
        /// The worker.
        worker: String,
        /// Time of the command.
        now_ms: UnixMillis,
    },
    /// Forgets finished tasks, at most [`MAX_ITEMS`]; answers [`Outcome::Purged`]. Of each of
    /// completed, failed and cancelled go those that ended before the time, and the oldest ones
    /// above `keep`.
    Purge {
        /// Those that ended before this time go.
        finished_before_ms: UnixMillis,
        /// At most so many of each final state stay.
        keep: u64,
    },
}

/// A lease as its holder knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRef {
    /// Task id.
    pub id: String,
    /// Token of the lease.
    pub token: u64,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// To `Enqueue`: one result a task, in order.
    Enqueued {
        /// The results.
        results: Vec<Enqueued>,
    },
    /// To `Lease`: the tasks, each with its lease.
    Leased {
        /// In the order in which they should be done.
        tasks: Vec<Task>,
        /// When the next task of these kinds is due, where one waits: at or before the time of the
        /// command means that more could be leased at once.
        next_due_ms: Option<UnixMillis>,
    },
    /// To `Renew`.
    Renewed {
        /// Ids of those that are no longer held: stop working on them.
        lost: Vec<String>,
    },
    /// To every command about one task.
    Changed {
        /// Its state now.
        state: TaskState,
        /// When it is due, where it waits.
        not_before_ms: UnixMillis,
    },
    /// To `ExpireLeases` and `WorkerDied`.
    TakenBack {
        /// Tasks that wait again.
        waiting: u64,
        /// Tasks whose worker was lost too often and that are dead letters now.
        dead: u64,
    },
    /// To `Purge`.
    Purged {
        /// Tasks forgotten.
        removed: u64,
        /// More of them are left for another `Purge`.
        more: bool,
    },
    /// To any command; nothing was changed.
    Refused(Refused),
}

/// What became of one task of an `Enqueue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enqueued {
    /// It is in the queue now.
    New,
    /// It was there before, in whatever state.
    Known,
    /// It was not taken.
    Refused(Refused),
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// No task has this id (any more).
    #[error("no such task")]
    NoSuchTask,
    /// The queue holds as many unfinished tasks as it may: come back later.
    #[error("queue is full at {limit} tasks")]
    Full {
        /// How many it may hold.
        limit: u64,
    },
    /// A task of this id asks for something else.
    #[error("task id is taken by another task")]
    IdTaken,
    /// The token is not that of the present lease: somebody else has the task, or it is over.
    #[error("lease is no longer held")]
    StaleToken,
    /// The task cannot go there from the state that it is in.
    #[error("task is {state}")]
    WrongState {
        /// The state.
        state: TaskState,
    },
    /// A value is out of bounds.
    #[error("invalid {field}")]
    Invalid {
        /// Which value.
        field: String,
    },
}
