//! The queue again, as plainly as it can be written: a list of tasks that is searched and sorted.
//!
//! Used by the property tests only, as what the store must agree with. It keeps no index and no
//! counter, and states the rules of `lease.rs` a second time.

use std::collections::BTreeMap;

use crate::actors::queue_worker::command::{Command, Enqueued, Outcome, Refused};
use crate::actors::queue_worker::lease::{MAX_LOST, backoff_ms};
use crate::actors::queue_worker::task::{KindName, Lease, NewTask, Task, TaskState, TaskState::*};

#[derive(Default)]
pub struct Model {
    /// By order of arrival.
    pub tasks: Vec<Task>,
    tokens: u64,
    /// How often each id was completed, over purges and new arrivals under the same id: by arrival.
    pub completions: BTreeMap<(String, u64), u32>,
}

fn refused<T>(state: TaskState) -> Result<T, Refused> {
    Err(Refused::WrongState { state })
}

impl Model {
    pub fn apply(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Enqueue { tasks, limit } => {
                let results = tasks.iter().map(|task| self.enqueue(task, *limit)).collect();
                Outcome::Enqueued { results }
            }
            Command::Lease { worker, max, lease_ms, now_ms, kinds } => {
                self.lease(worker, *max as usize, now_ms + lease_ms, *now_ms, kinds)
            }
            Command::Renew { leases, lease_ms, now_ms } => {
                let lost = |id: &str, token: u64| {
                    let held = |t: &&mut Task| t.id == id && holds(t, token);
                    let Some(task) = self.tasks.iter_mut().find(held) else { return true };
                    let lease = task.lease.as_mut().unwrap();
                    lease.until_ms = lease.until_ms.max(now_ms + lease_ms);
                    false
                };
                let mut lost = lost;
                let ids = leases.iter().filter(|l| lost(&l.id, l.token)).map(|l| l.id.clone());
                Outcome::Renewed { lost: ids.collect() }
            }
            Command::ExpireLeases { now_ms } => {
                self.take_back(|lease| lease.until_ms <= *now_ms, *now_ms, "lease expired")
            }
            Command::WorkerDied { worker, now_ms } => {
                self.take_back(|lease| lease.worker == *worker, *now_ms, "worker died")
            }
            Command::Purge { finished_before_ms, keep } => self.purge(*finished_before_ms, *keep),
            _ => self.change(command),
        }
    }

    fn unfinished(&self) -> u64 {
        self.tasks.iter().filter(|task| !task.state.is_final()).count() as u64
    }

    fn enqueue(&mut self, new: &NewTask, limit: u64) -> Enqueued {
        if let Some(known) = self.tasks.iter().find(|task| task.id == new.id) {
            let same = known.kind == new.kind && known.object == new.object;
            return if same { Enqueued::Known } else { Enqueued::Refused(Refused::IdTaken) };
        }
        if self.unfinished() >= limit {
            return Enqueued::Refused(Refused::Full { limit });
        }
        self.tasks.push(new.clone().into_task());
        Enqueued::New
    }

    fn lease(
        &mut self,
        worker: &str,
        max: usize,
        until_ms: u64,
        now: u64,
        kinds: &[KindName],
    ) -> Outcome {
        let waits = |t: &Task| matches!(t.state, Pending | Retrying);
        let wanted = |t: &Task| waits(t) && (kinds.is_empty() || kinds.contains(&t.kind.name()));
        let mut line: Vec<&mut Task> =
            self.tasks.iter_mut().filter(|t| wanted(t) && t.not_before_ms <= now).collect();
        line.sort_by_key(|task| (u8::MAX - task.priority, task.not_before_ms));
        let mut leased = Vec::new();
        for task in line.into_iter().take(max) {
            self.tokens += 1;
            task.state = Running;
            task.attempts += 1;
            task.started_ms = Some(now);
            task.updated_ms = now;
            task.last_token = self.tokens;
            task.lease = Some(Lease { worker: worker.to_owned(), token: self.tokens, until_ms });
            leased.push(task.clone());
        }
        let rest = || self.tasks.iter().filter(|task| wanted(task));
        let due = rest().filter(|task| task.not_before_ms <= now);
        let next = due.min_by_key(|task| (u8::MAX - task.priority, task.not_before_ms));
        let next_due_ms = next
            .map(|task| task.not_before_ms)
            .or_else(|| rest().map(|task| task.not_before_ms).min());
        Outcome::Leased { tasks: leased, next_due_ms }
    }

    fn take_back(&mut self, picked: impl Fn(&Lease) -> bool, now: u64, why: &str) -> Outcome {
        let (mut waiting, mut dead) = (0, 0);
        for task in &mut self.tasks {
            if task.lease.as_ref().is_some_and(&picked) {
                task.lost += 1;
                task.last_error = Some(why.to_owned());
                task.lease = None;
                task.updated_ms = now;
                if task.lost >= MAX_LOST {
                    (task.state, task.finished_ms) = (Failed, Some(now));
                    dead += 1;
                } else {
                    (task.state, task.not_before_ms) = (Retrying, now);
                    waiting += 1;
                }
            }
        }
        Outcome::TakenBack { waiting, dead }
    }

    fn purge(&mut self, before_ms: u64, keep: u64) -> Outcome {
        let mut gone: Vec<String> = Vec::new();
        for state in [Completed, Failed, Cancelled] {
            let mut ended: Vec<&Task> = self.tasks.iter().filter(|t| t.state == state).collect();
            ended.sort_by_key(|task| task.finished_ms);
            let above = ended.len().saturating_sub(keep as usize);
            let old = |t: &&Task| t.finished_ms.unwrap() < before_ms;
            let old = ended.iter().filter(|t| old(t)).count();
            gone.extend(ended[..above.max(old)].iter().map(|task| task.id.clone()));
        }
        self.tasks.retain(|task| !gone.contains(&task.id));
        Outcome::Purged { removed: gone.len() as u64, more: false }
    }

    fn change(&mut self, command: &Command) -> Outcome {
        let id = match command {
            Command::Complete { lease, .. }
            | Command::Fail { lease, .. }
            | Command::Release { lease, .. } => &lease.id,
            Command::Cancel { id, .. }
            | Command::Retry { id, .. }
            | Command::SetStatus { id, .. } => id,
            _ => unreachable!("handled by apply"),
        };
        let unfinished = self.unfinished();
        let Some(place) = self.tasks.iter().position(|task| task.id == *id) else {
            return Outcome::Refused(Refused::NoSuchTask);
        };
        let mut task = self.tasks[place].clone();
        if let Err(refused) = change_one(&mut task, command, unfinished) {
            return Outcome::Refused(refused);
        }
        if task.state == Completed && self.tasks[place].state != Completed {
            // created_ms differs between arrivals under one id
            *self.completions.entry((task.id.clone(), task.created_ms)).or_default() += 1;
        }
        let outcome = Outcome::Changed { state: task.state, not_before_ms: task.not_before_ms };
        self.tasks[place] = task;
        outcome
    }
}

fn holds(task: &Task, token: u64) -> bool {
    task.lease.as_ref().is_some_and(|lease| lease.token == token)
}

fn end(task: &mut Task, state: TaskState, now: u64) {
    (task.state, task.lease, task.updated_ms) = (state, None, now);
    task.finished_ms = Some(now);
}

fn wait(task: &mut Task, state: TaskState, due: u64, now: u64) {
    (task.state, task.lease, task.updated_ms) = (state, None, now);
    task.not_before_ms = due;
}

fn change_one(task: &mut Task, command: &Command, unfinished: u64) -> Result<(), Refused> {
    // a report that was taken before, with the token of a lease that is over
    let again = |t: &Task, token: u64| token != 0 && t.lease.is_none() && t.last_token == token;
    let state = task.state;
    match command {
        Command::Complete { lease, now_ms } if holds(task, lease.token) => {
            end(task, Completed, *now_ms);
        }
        Command::Complete { lease, .. } if state == Completed && again(task, lease.token) => {}
        Command::Fail { lease, error, now_ms, jitter } if holds(task, lease.token) => {
            task.last_error = Some(error.clone());
            let failures = task.attempts - task.lost;
            if failures >= task.max_attempts {
                end(task, Failed, *now_ms);
            } else {
                wait(task, Retrying, now_ms + backoff_ms(failures, *jitter), *now_ms);
            }
        }
        Command::Fail { lease, .. }
            if matches!(state, Retrying | Failed) && again(task, lease.token) => {}
        Command::Release { lease, now_ms } if holds(task, lease.token) => {
            task.attempts -= 1;
            wait(task, Pending, *now_ms, *now_ms);
        }
        Command::Release { lease, .. }
            if matches!(state, Pending | Retrying) && again(task, lease.token) => {}
        Command::Complete { .. } | Command::Fail { .. } | Command::Release { .. } => {
            return Err(Refused::StaleToken);
        }
        Command::Cancel { now_ms, .. } => match state {
            Pending | Retrying => end(task, Cancelled, *now_ms),
            Cancelled => {}
            _ => return refused(state),
        },
        Command::Retry { now_ms, limit, .. } => {
            if !matches!(state, Failed | Cancelled) {
                return refused(state);
            }
            if unfinished >= *limit {
                return Err(Refused::Full { limit: *limit });
            }
            (task.attempts, task.lost, task.finished_ms) = (0, 0, None);
            wait(task, Pending, *now_ms, *now_ms);
        }
        Command::SetStatus { state: wanted, error, now_ms, .. } => {
            set_status(task, *wanted, error, *now_ms)?;
        }
        _ => unreachable!("handled by apply"),
    }
    Ok(())
}

fn set_status(
    task: &mut Task,
    wanted: TaskState,
    error: &Option<String>,
    now: u64,
) -> Result<(), Refused> {
    let state = task.state;
    if matches!(wanted, Running | Retrying) {
        return Err(Refused::Invalid { field: "state".to_owned() });
    }
    if state == wanted {
        return Ok(());
    }
    if state.is_final() {
        return refused(state);
    }
    if error.is_some() {
        task.last_error.clone_from(error);
    }
    match (wanted, state) {
        (Pending, Running) => {
            task.attempts -= 1;
            wait(task, Pending, now, now);
        }
        (Pending, _) => wait(task, Pending, task.not_before_ms, now),
        _ => end(task, wanted, now),
    }
    Ok(())
}
