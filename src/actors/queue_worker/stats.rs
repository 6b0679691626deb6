//! What the queue knows about itself without counting: totals kept with every change.
//!
//! Kept by the state machine in the same transaction as the tasks; read by the JSON API, the
//! metrics and the tests. Plain values.
//!
//! - `STATS-1` `counts` equals a recount of all tasks after every command.
//! - `STATS-2` tasks in the file = `totals.enqueued - totals.purged`.

use serde::{Deserialize, Serialize};

use super::task::{KindName, Task, TaskState};
use crate::types::UnixMillis;

const KINDS: usize = KindName::ALL.len();
const STATES: usize = TaskState::ALL.len();

/// Number of tasks by kind and state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    table: [[u64; STATES]; KINDS],
}

/// What happened since the queue was made; these only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Tasks taken in.
    pub enqueued: u64,
    /// Tasks done.
    pub completed: u64,
    /// Attempts that a worker reported as failed.
    pub failed_attempts: u64,
    /// Times that a task became a dead letter.
    pub dead_letters: u64,
    /// Leases that ended without an answer.
    pub lost_leases: u64,
    /// Tasks called off.
    pub cancelled: u64,
    /// Finished tasks forgotten.
    pub purged: u64,
}

/// A summary of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Tasks by kind and state.
    pub counts: Counts,
    /// What happened so far.
    pub totals: Totals,
    /// When the task that waits longest was made; its age is now minus this.
    pub oldest_waiting_ms: Option<UnixMillis>,
    /// Index of the last command.
    pub applied_index: u64,
}

impl Counts {
    /// Tasks of a kind in a state.
    pub fn get(&self, kind: KindName, state: TaskState) -> u64 {
        self.table[kind as usize][state as usize]
    }

    /// Tasks in a state.
    pub fn in_state(&self, state: TaskState) -> u64 {
        KindName::ALL.into_iter().map(|kind| self.get(kind, state)).sum()
    }

    /// Unfinished tasks of a kind.
    pub fn unfinished_of(&self, kind: KindName) -> u64 {
        let open = TaskState::ALL.into_iter().filter(|state| !state.is_final());
        open.map(|state| self.get(kind, state)).sum()
    }

    /// Unfinished tasks.
    pub fn unfinished(&self) -> u64 {
        KindName::ALL.into_iter().map(|kind| self.unfinished_of(kind)).sum()
    }

    /// All tasks in the file.
    pub fn all(&self) -> u64 {
        self.table.iter().flatten().sum()
    }

    fn of(&mut self, task: &Task) -> &mut u64 {
        &mut self.table[task.kind.name() as usize][task.state as usize]
    }
}

/// A task as it was before or after a change, as far as counting goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) before: Option<&'a Task>,
    pub(super) after: Option<&'a Task>,
}

impl Seen<'_> {
    /// Brings the figures up to date with a change that is about to be written.
    pub(super) fn count(self, counts: &mut Counts, totals: &mut Totals) {
        if let Some(before) = self.before {
            *counts.of(before) -= 1;
        }
        if let Some(after) = self.after {
            *counts.of(after) += 1;
        }
        match (self.before, self.after) {
            (None, Some(_)) => totals.enqueued += 1,
            (Some(_), None) => totals.purged += 1,
            (Some(before), Some(after)) => count_step(before, after, totals),
            (None, None) => {}
        }
    }
}

fn count_step(before: &Task, after: &Task, totals: &mut Totals) {
    let was_lost = after.lost > before.lost;
    totals.lost_leases += u64::from(was_lost);
    if before.state == after.state {
        return;
    }
    match after.state {
        TaskState::Completed => totals.completed += 1,
        TaskState::Cancelled => totals.cancelled += 1,
        TaskState::Failed => totals.dead_letters += 1,
        TaskState::Pending | TaskState::Running | TaskState::Retrying => {}
    }
    let ran = before.state == TaskState::Running;
    let failed = matches!(after.state, TaskState::Failed | TaskState::Retrying);
    totals.failed_attempts += u64::from(ran && failed && !was_lost);
}
