//! The decisions of the queue: who may change a task, what becomes of it, when it is tried again.
//!
//! Used by the state machine in `apply.rs`. Each function takes a task and what happened to it and
//! gives the task as it is afterwards, or says why nothing changes. No clock, randomness or I/O.
//!
//! - `LEASE-1` a result counts only with the token of the lease that is held; a token is never
//!   given twice. A result that was counted already is answered the same again, with no effect.
//! - `LEASE-2` from a final state a task goes on only by `retried`, and never from completed.
//! - `LEASE-3` a lost lease (expired, worker died) makes the task due at once and uses up no
//!   attempt; [`MAX_LOST`] of them in all make it a dead letter, since it may be the task that
//!   kills the workers.
//! - `LEASE-4` the wait after failure n is half to all of `base * 2^(n-1)`, at most the cap.

use super::command::Refused;
use super::task::{ERROR_LIMIT_BYTES, Lease, NEVER_GIVE_UP, Task, TaskState};
use crate::types::UnixMillis;

/// The longest wait after a first failed attempt, in milliseconds.
pub const BACKOFF_BASE_MS: u64 = 1_000;
/// The longest wait after any failed attempt, in milliseconds.
pub const BACKOFF_CAP_MS: u64 = 30_000;
/// Lost leases after which a task is a dead letter.
pub const MAX_LOST: u32 = 100;
/// The longest lease, in milliseconds.
pub const MAX_LEASE_MS: u64 = 24 * 3_600_000;

/// The wait after failed attempt number `failures` (from 1), spread by a random number.
pub fn backoff_ms(failures: u32, jitter: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(20);
    let whole = (BACKOFF_BASE_MS << doublings).min(BACKOFF_CAP_MS);
    let half = whole / 2;
    half + (((whole - half) as u128 * u128::from(jitter)) / u128::from(u32::MAX)) as u64
}

/// Whether a worker may have the task now.
pub fn is_due(task: &Task, now_ms: UnixMillis) -> bool {
    is_waiting(task.state) && task.not_before_ms <= now_ms
}

/// Whether a task in this state waits for a worker.
pub fn is_waiting(state: TaskState) -> bool {
    matches!(state, TaskState::Pending | TaskState::Retrying)
}

/// Gives a waiting task to a worker.
pub fn leased(mut task: Task, lease: Lease, now_ms: UnixMillis) -> Result<Task, Refused> {
    if !is_due(&task, now_ms) {
        return Err(Refused::WrongState { state: task.state });
    }
    task.state = TaskState::Running;
    task.attempts = task.attempts.saturating_add(1);
    task.started_ms = Some(now_ms);
    task.updated_ms = now_ms;
    task.last_token = lease.token;
    task.lease = Some(lease);
    Ok(task)
}

/// Prolongs a lease; it never gets shorter.
pub fn renewed(mut task: Task, token: u64, until_ms: UnixMillis) -> Result<Task, Refused> {
    match &mut task.lease {
        Some(lease) if lease.token == token => lease.until_ms = lease.until_ms.max(until_ms),
        _ => return Err(Refused::StaleToken),
    }
    Ok(task)
}

/// The holder reports success.
pub fn completed(task: Task, token: u64, now_ms: UnixMillis) -> Result<Task, Refused> {
    if task.state == TaskState::Completed && is_repeat(&task, token) {
        return Ok(task);
    }
    check_holder(&task, token)?;
    Ok(finished(task, TaskState::Completed, now_ms))
}

/// The holder reports failure. One that comes when the lease was taken back is answered like one that
/// comes again: the task waits either way, and the loss was counted.
pub fn failed(
    mut task: Task,
    token: u64,
    error: &str,
    now_ms: UnixMillis,
    jitter: u32,
) -> Result<Task, Refused> {
    if matches!(task.state, TaskState::Retrying | TaskState::Failed) && is_repeat(&task, token) {
        return Ok(task);
    }
    check_holder(&task, token)?;
    task.last_error = Some(cut(error));
    let failures = task.attempts.saturating_sub(task.lost);
    if failures >= task.max_attempts {
        return Ok(finished(task, TaskState::Failed, now_ms));
    }
    let due_ms = now_ms.saturating_add(backoff_ms(failures, jitter));
    Ok(waiting(task, TaskState::Retrying, due_ms, now_ms))
}

/// The holder hands the task back untouched.
pub fn released(mut task: Task, token: u64, now_ms: UnixMillis) -> Result<Task, Refused> {
    if is_waiting(task.state) && is_repeat(&task, token) {
        return Ok(task);
    }
    check_holder(&task, token)?;
    task.attempts = task.attempts.saturating_sub(1);
    Ok(waiting(task, TaskState::Pending, now_ms, now_ms))
}

/// The lease ended without an answer.
pub fn taken_back(mut task: Task, why: &str, now_ms: UnixMillis) -> Result<Task, Refused> {
    if task.lease.is_none() {
        return Err(Refused::WrongState { state: task.state });
    }
    task.lost = task.lost.saturating_add(1);
    task.last_error = Some(cut(why));
    if task.lost >= MAX_LOST && task.max_attempts < NEVER_GIVE_UP {
        return Ok(finished(task, TaskState::Failed, now_ms));
    }
    Ok(waiting(task, TaskState::Retrying, now_ms, now_ms))
}

/// Somebody calls the task off.
pub fn cancelled(task: Task, now_ms: UnixMillis) -> Result<Task, Refused> {
    match task.state {
        TaskState::Cancelled => Ok(task),
        state if is_waiting(state) => Ok(finished(task, TaskState::Cancelled, now_ms)),
        state => Err(Refused::WrongState { state }),
    }
}

/// Somebody starts a failed or cancelled task anew.
pub fn retried(mut task: Task, now_ms: UnixMillis) -> Result<Task, Refused> {
    if !matches!(task.state, TaskState::Failed | TaskState::Cancelled) {
        return Err(Refused::WrongState { state: task.state });
    }
    task.attempts = 0;
    task.lost = 0;
    task.finished_ms = None;
    Ok(waiting(task, TaskState::Pending, now_ms, now_ms))
}

/// Somebody without a lease sets the state of an unfinished task.
pub fn forced(
    mut task: Task,
    state: TaskState,
    error: Option<&str>,
    now_ms: UnixMillis,
) -> Result<Task, Refused> {
    if matches!(state, TaskState::Running | TaskState::Retrying) {
        return Err(Refused::Invalid { field: "state".to_owned() });
    }
    if task.state == state {
        return Ok(task);
    }
    if task.state.is_final() {
        return Err(Refused::WrongState { state: task.state });
    }
    if let Some(error) = error {
        task.last_error = Some(cut(error));
    }
    if state.is_final() {
        return Ok(finished(task, state, now_ms));
    }
    if let Some(token) = task.lease.as_ref().map(|lease| lease.token) {
        return released(task, token, now_ms);
    }
    let due_ms = task.not_before_ms;
    Ok(waiting(task, state, due_ms, now_ms))
}

fn check_holder(task: &Task, token: u64) -> Result<(), Refused> {
    match &task.lease {
        Some(lease) if lease.token == token => Ok(()),
        _ => Err(Refused::StaleToken),
    }
}

/// Whether the latest lease had this token and is over: its result may have been counted already.
fn is_repeat(task: &Task, token: u64) -> bool {
    task.lease.is_none() && task.last_token == token && token != 0
}

fn finished(mut task: Task, state: TaskState, now_ms: UnixMillis) -> Task {
    task.state = state;
    task.lease = None;
    task.updated_ms = now_ms;
    task.finished_ms = Some(now_ms);
    task
}

fn waiting(mut task: Task, state: TaskState, due_ms: UnixMillis, now_ms: UnixMillis) -> Task {
    task.state = state;
    task.lease = None;
    task.updated_ms = now_ms;
    task.not_before_ms = due_ms;
    task
}

/// The text up to the limit, cut between characters.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(ERROR_LIMIT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests;
