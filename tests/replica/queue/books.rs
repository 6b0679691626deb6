//! Books on what the queue answered: entered once an index, in order, whoever applied it first.
//!
//! They judge each outcome by what was entered before, and know only what was promised of a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use mocks3::actors::queue_worker::command::{Command, Enqueued, LeaseRef, Outcome};
use mocks3::actors::queue_worker::task::TaskState;
use mocks3::replica::Keyed;

use crate::invariants::Observer;

/// A lease as it stands in the books.
#[derive(Debug)]
struct Held {
    worker: String,
    token: u64,
    until_ms: u64,
}

#[derive(Debug, Default)]
pub struct Pages {
    /// The index of the last command that was entered.
    pub last: u64,
    /// What was applied before what precedes it was seen: a node whose disk failed applied that, but
    /// could not say so.
    early: BTreeMap<u64, (Keyed<Command>, Outcome)>,
    /// The first outcome under each key.
    pub keys: BTreeMap<u128, Outcome>,
    /// Tasks that were taken in.
    pub known: BTreeSet<String>,
    held: BTreeMap<String, Held>,
    last_token: u64,
    /// The last lease of each task.
    last_lease: BTreeMap<String, u64>,
    /// Tasks that were completed, and under which lease.
    pub completed: BTreeMap<String, u64>,
}

/// The books. Clones are the same ones.
#[derive(Clone, Default)]
pub struct Books(Arc<Mutex<Pages>>);

impl Books {
    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    /// A command was applied; only the first one that tells of this index is heard: that all replicas
    /// say the same is for the observer to see.
    pub fn enter(
        &self,
        index: u64,
        keyed: &Keyed<Command>,
        outcome: &Outcome,
        observer: &Observer,
    ) {
        let mut pages = self.pages();
        if index <= pages.last {
            return;
        }
        pages.early.insert(index, (keyed.clone(), outcome.clone()));
        loop {
            let next = pages.last + 1;
            let Some((Keyed { key, command }, outcome)) = pages.early.remove(&next) else { return };
            pages.last = next;
            let right = pages.enter(key, &command, &outcome);
            observer.expect(right.is_ok(), || {
                let why = right.unwrap_err();
                format!("at {next} {why}: {key:x} {command:?} gave {outcome:?}")
            });
        }
    }
}

/// What is wrong with an outcome.
type Right = Result<(), &'static str>;

fn expect(holds: bool, otherwise: &'static str) -> Right {
    holds.then_some(()).ok_or(otherwise)
}

impl Pages {
    fn enter(&mut self, key: u128, command: &Command, outcome: &Outcome) -> Right {
        if key != 0 {
            if let Some(first) = self.keys.get(&key) {
                return expect(first == outcome, "a key was applied twice");
            }
            self.keys.insert(key, outcome.clone());
        }
        match (command, outcome) {
            (Command::Enqueue { tasks, .. }, Outcome::Enqueued { results }) => {
                expect(tasks.len() == results.len(), "results are missing")?;
                let ids = tasks.iter().map(|task| &task.id);
                ids.zip(results).try_for_each(|(id, result)| self.enqueued(id, result))
            }
            (Command::Lease { worker, lease_ms, now_ms, .. }, Outcome::Leased { tasks, .. }) => {
                tasks.iter().try_for_each(|task| {
                    let lease = task.lease.as_ref().ok_or("it has no lease")?;
                    expect(lease.worker == *worker, "it is another worker's")?;
                    expect(lease.until_ms == now_ms + lease_ms, "the lease has another end")?;
                    self.leased(&task.id, worker, lease.token, lease.until_ms)
                })
            }
            (Command::Renew { leases, lease_ms, now_ms }, Outcome::Renewed { lost }) => {
                leases.iter().try_for_each(|lease| {
                    self.renewed(lease, now_ms + lease_ms, !lost.contains(&lease.id))
                })
            }
            (Command::Complete { lease, .. }, outcome) => self.completed(lease, outcome),
            (Command::Fail { lease, .. }, outcome) => self.failed(lease, outcome),
            (Command::ExpireLeases { now_ms }, Outcome::TakenBack { waiting, dead }) => {
                self.taken_back(|held| held.until_ms <= *now_ms, (*waiting, *dead))
            }
            (Command::WorkerDied { worker, .. }, Outcome::TakenBack { waiting, dead }) => {
                self.taken_back(|held| held.worker == *worker, (*waiting, *dead))
            }
            _ => Err("that is no answer to this"),
        }
    }

    fn enqueued(&mut self, id: &str, result: &Enqueued) -> Right {
        match result {
            Enqueued::New => expect(self.known.insert(id.to_owned()), "it was known"),
            Enqueued::Known => expect(self.known.contains(id), "it is new"),
            Enqueued::Refused(_) => Err("it was refused"),
        }
    }

    fn leased(&mut self, id: &str, worker: &str, token: u64, until_ms: u64) -> Right {
        expect(self.known.contains(id), "it was never handed in")?;
        expect(!self.completed.contains_key(id), "it is completed")?;
        expect(token > self.last_token, "the token was given before")?;
        self.last_token = token;
        self.last_lease.insert(id.to_owned(), token);
        let held = Held { worker: worker.to_owned(), token, until_ms };
        expect(self.held.insert(id.to_owned(), held).is_none(), "two hold one task") // SIMQ-2
    }

    fn renewed(&mut self, lease: &LeaseRef, until_ms: u64, kept: bool) -> Right {
        let held = self.held.get_mut(&lease.id).filter(|held| held.token == lease.token);
        expect(kept == held.is_some(), "a lease is lost that is held, or the other way round")?;
        if let Some(held) = held {
            held.until_ms = held.until_ms.max(until_ms);
        }
        Ok(())
    }

    /// Ends a lease with its holder's result; whether it was held.
    fn end(&mut self, lease: &LeaseRef) -> bool {
        let holds = self.held.get(&lease.id).is_some_and(|held| held.token == lease.token);
        if holds {
            self.held.remove(&lease.id);
        }
        holds
    }

    fn completed(&mut self, lease: &LeaseRef, outcome: &Outcome) -> Right {
        let held = self.end(lease);
        let before = self.completed.get(&lease.id).copied();
        match outcome {
            Outcome::Changed { state: TaskState::Completed, .. } if held => {
                self.completed.insert(lease.id.clone(), lease.token);
                expect(before.is_none(), "it was completed twice") // SIMQ-2
            }
            Outcome::Changed { state: TaskState::Completed, .. } => {
                expect(before == Some(lease.token), "the lease is not held")
            }
            Outcome::Refused(_) => {
                expect(!held && before != Some(lease.token), "the holder was refused")
            }
            _ => Err("that is no answer to this"),
        }
    }

    fn failed(&mut self, lease: &LeaseRef, outcome: &Outcome) -> Right {
        let held = self.end(lease);
        match outcome {
            Outcome::Changed { state: TaskState::Retrying, .. } => {
                // also where the lease was taken back: the task waits, as after a failure
                let last = self.last_lease.get(&lease.id) == Some(&lease.token);
                expect(held || last, "the lease is not held")
            }
            Outcome::Refused(_) => expect(!held, "the holder was refused"),
            _ => Err("that is no answer to this"),
        }
    }

    fn taken_back(&mut self, which: impl Fn(&Held) -> bool, counts: (u64, u64)) -> Right {
        let before = self.held.len();
        self.held.retain(|_, held| !which(held));
        let gone = (before - self.held.len()) as u64;
        expect(counts == (gone, 0), "other leases were taken back")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed() -> Outcome {
        Outcome::Changed { state: TaskState::Completed, not_before_ms: 0 }
    }

    #[test]
    fn a_task_that_two_hold_or_that_is_completed_under_two_leases_is_found_out() {
        let mut pages = Pages::default();
        let lease = |token| LeaseRef { id: "t".into(), token };
        pages.enqueued("t", &Enqueued::New).unwrap();
        pages.leased("t", "a", 1, 10).unwrap();
        pages.leased("t", "b", 2, 20).unwrap_err();
        pages.completed(&lease(1), &changed()).unwrap_err();
        pages.completed(&lease(2), &changed()).unwrap();
        pages.completed(&lease(2), &changed()).unwrap(); // told again
        pages.completed(&lease(1), &changed()).unwrap_err();
        pages.leased("t", "a", 3, 30).unwrap_err();
    }
}
