//! Group commit in front of a deterministic state machine.
//!
//! One thread owns the machine. Commands that arrive while it writes are applied together in the
//! next batch, in one durable transaction, and answered after it. Part 2 puts the replicated log in
//! this place; the machines do not notice.
//!
//! - `COMMIT-1` an answer is given only after its command is durable;
//! - `COMMIT-2` there is never more than one thread per machine: the next one starts only after the
//!   last one ended, also when the actor was killed;
//! - `COMMIT-3` after a failure whose outcome is unknown nothing is answered and the actor ends.

use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use crate::cluster::Fail;

/// How many commands share one transaction at most.
const BATCH: usize = 512;
/// How many commands may wait.
const QUEUE: usize = 8192;

/// A deterministic state machine over its own disk.
pub trait Machine: Send + 'static {
    /// What changes it.
    type Command: Send + 'static;
    /// What a command answers.
    type Outcome: Send + 'static;
    /// Why a batch was not applied.
    type Error: Display;

    /// The index of the last applied command.
    fn applied(&self) -> u64;

    /// Applies commands from `first` on and makes them durable together.
    ///
    /// # Errors
    /// Then nothing of the batch was applied, or the outcome is unknown.
    fn apply(
        &mut self,
        first: u64,
        commands: &[Self::Command],
    ) -> Result<Vec<Self::Outcome>, Self::Error>;

    /// Whether the error left the machine as it was, so that it may go on (disk full).
    fn is_harmless(error: &Self::Error) -> bool;

    /// Called when there is nothing to do.
    fn idle(&mut self) {}
}

/// Why a command was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Too many commands wait; this one was not taken.
    #[error("too many commands wait")]
    Overload,
    /// The machine refused the batch and is as it was before.
    #[error("{0}")]
    Harmless(String),
}

type Done<M> = Box<dyn FnOnce(Result<<M as Machine>::Outcome, CommitError>) + Send>;

/// The way into the thread. Dropping it ends the thread after its batch.
pub struct Committer<M: Machine> {
    queue: mpsc::Sender<(M::Command, Done<M>)>,
}

/// Held by whichever thread owns the machine (COMMIT-2).
pub type Turn = Arc<Mutex<()>>;

impl<M: Machine> Committer<M> {
    /// Waits for the turn, opens the machine on a new thread and starts taking commands.
    /// `applied` is called after every batch.
    ///
    /// # Errors
    /// When the machine does not open.
    pub async fn start<E: Display + Send + 'static>(
        turn: &Turn,
        fail: Fail,
        open: impl FnOnce() -> Result<M, E> + Send + 'static,
        applied: impl Fn() + Send + 'static,
    ) -> Result<Self, String> {
        let guard = turn.clone().lock_owned().await;
        let (queue, commands) = mpsc::channel(QUEUE);
        let (opened, ready) = tokio::sync::oneshot::channel();
        let body = move || match open() {
            Ok(machine) => {
                let _ = opened.send(Ok(()));
                run(machine, commands, &fail, &applied);
                drop(guard); // COMMIT-2: the machine is closed by now
            }
            Err(error) => {
                let _ = opened.send(Err(error.to_string()));
            }
        };
        let thread = std::thread::Builder::new().name("committer".into()).spawn(body);
        thread.map_err(|e| e.to_string())?;
        ready.await.map_err(|_| "the committer's thread ended".to_owned())??;
        Ok(Committer { queue })
    }

    /// Hands in a command; `done` is called on the committer's thread once it is durable. When the
    /// thread ends before, `done` is dropped.
    pub fn submit(
        &self,
        command: M::Command,
        done: impl FnOnce(Result<M::Outcome, CommitError>) + Send + 'static,
    ) {
        if let Err(error) = self.queue.try_send((command, Box::new(done))) {
            let (mpsc::error::TrySendError::Full((_, done))
            | mpsc::error::TrySendError::Closed((_, done))) = error;
            done(Err(CommitError::Overload));
        }
    }

    /// How many commands wait.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

fn run<M: Machine>(
    mut machine: M,
    mut queue: mpsc::Receiver<(M::Command, Done<M>)>,
    fail: &Fail,
    applied: &dyn Fn(),
) {
    loop {
        if queue.is_empty() {
            machine.idle();
        }
        let Some(first) = queue.blocking_recv() else { return };
        let (mut commands, mut waiting) = (vec![first.0], vec![first.1]);
        while commands.len() < BATCH {
            let Ok((command, done)) = queue.try_recv() else { break };
            commands.push(command);
            waiting.push(done);
        }
        match machine.apply(machine.applied() + 1, &commands) {
            Ok(outcomes) => {
                for (done, outcome) in waiting.into_iter().zip(outcomes) {
                    done(Ok(outcome));
                }
                applied();
            }
            Err(error) if M::is_harmless(&error) => {
                for done in waiting {
                    done(Err(CommitError::Harmless(error.to_string())));
                }
            }
            Err(error) => {
                tracing::error!(%error, "commit failed, its outcome is unknown: restarting");
                fail.now(error); // COMMIT-3
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    struct Adder {
        applied: u64,
        sum: u64,
        batches: Arc<AtomicUsize>,
    }

    impl Machine for Adder {
        type Command = u64;
        type Outcome = u64;
        type Error = String;
        fn applied(&self) -> u64 {
            self.applied
        }
        fn apply(&mut self, first: u64, commands: &[u64]) -> Result<Vec<u64>, String> {
            assert_eq!(first, self.applied + 1);
            std::thread::sleep(Duration::from_millis(5)); // a disk
            self.batches.fetch_add(1, Ordering::SeqCst);
            if commands.contains(&666) {
                return Err("full".into());
            }
            if commands.contains(&999) {
                return Err("unknown".into());
            }
            self.applied += commands.len() as u64;
            Ok(commands
                .iter()
                .map(|c| {
                    self.sum += c;
                    self.sum
                })
                .collect())
        }
        fn is_harmless(error: &String) -> bool {
            error == "full"
        }
    }

    async fn adder(
        turn: &Turn,
        batches: Arc<AtomicUsize>,
        failed: Arc<AtomicUsize>,
    ) -> Committer<Adder> {
        let fail = Fail::from_fn(move |_| {
            failed.fetch_add(1, Ordering::SeqCst);
        });
        let open = move || Ok::<_, String>(Adder { applied: 0, sum: 0, batches });
        Committer::start(turn, fail, open, || ()).await.unwrap()
    }

    async fn commit(committer: &Committer<Adder>, n: u64) -> Option<Result<u64, CommitError>> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        committer.submit(n, move |r| {
            let _ = tx.send(r);
        });
        rx.await.ok()
    }

    #[tokio::test]
    async fn commands_that_wait_together_are_applied_together_and_in_order() {
        let batches = Arc::new(AtomicUsize::new(0));
        let committer = adder(&Turn::default(), batches.clone(), Arc::default()).await;
        let all = futures::future::join_all((1..=100).map(|_| commit(&committer, 1))).await;
        let sums: Vec<u64> = all.into_iter().map(|r| r.unwrap().unwrap()).collect();
        assert_eq!(sums, (1..=100).collect::<Vec<u64>>());
        assert!(batches.load(Ordering::SeqCst) <= 3, "{batches:?} batches");
    }

    #[tokio::test]
    async fn a_harmless_error_is_answered_and_an_unknown_one_ends_the_actor_without_answers() {
        let failed = Arc::new(AtomicUsize::new(0));
        let committer = adder(&Turn::default(), Arc::default(), failed.clone()).await;
        assert_eq!(commit(&committer, 666).await, Some(Err(CommitError::Harmless("full".into()))));
        assert_eq!(commit(&committer, 1).await, Some(Ok(1)));
        assert_eq!(commit(&committer, 999).await, None);
        assert_eq!(failed.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_next_thread_starts_only_after_the_last_one_ended() {
        let turn = Turn::default();
        let first = adder(&turn, Arc::default(), Arc::default()).await;
        let (tx, rx) = tokio::sync::oneshot::channel();
        first.submit(1, move |_| {
            std::thread::sleep(Duration::from_millis(100));
            let _ = tx.send(());
        });
        drop(first);
        let mut rx = Box::pin(rx);
        assert!(futures::poll!(&mut rx).is_pending());
        let _second = adder(&turn, Arc::default(), Arc::default()).await;
        assert!(rx.await.is_ok(), "the first thread had not finished its batch");
    }
}
