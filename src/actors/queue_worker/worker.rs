//! A worker: leases tasks one at a time, has them executed, and tells the queue what came of it.
//!
//! Runs as a supervised task on every queue node. What a task does is handed in as an [`Executor`],
//! since the flows live above the actors.
//!
//! - `WORK-1` a worker that cannot renew its lease gives the task up before the lease ends;
//! - `WORK-2` a task is reported complete only after its effect was acknowledged; since effects are
//!   idempotent, doing one again is harmless;
//! - `WORK-3` a worker that begins hands back what it held before: its name is that of one worker
//!   alone, so that a task of a killed process waits for the restart, not for the end of its lease.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::command::{Command, LeaseRef, Outcome};
use super::task::Task;
use super::{Message, QueueReply};
use crate::cluster::{Cluster, Scope};
use crate::points::{self, Point};
use crate::types::{UnixMillis, now_ms};

/// How long a call to the queue may take.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// How long an idle worker waits before it looks without being woken.
const IDLE: Duration = Duration::from_millis(500);

/// Does what tasks ask for. Every effect must be idempotent.
pub trait Executor: Send + Sync + 'static {
    /// Executes one task; the error text goes to its record, and it is tried again.
    fn execute<'a>(
        &'a self,
        task: &'a Task,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
}

/// One worker's switch and counters, as the JSON API shows them.
#[derive(Debug, Default)]
pub struct WorkerCell {
    stopped: AtomicBool,
    busy: AtomicBool,
    completed: AtomicU64,
    failed: AtomicU64,
    wake: Notify,
}

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// `idle`, `running` or `stopped`.
    pub state: &'static str,
    /// Tasks completed since the process started.
    pub completed: u64,
    /// Tasks failed (to be tried again) since the process started.
    pub failed: u64,
}

impl WorkerCell {
    /// Lets the worker take tasks, or not; a task in work is finished.
    pub fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// How the worker stands.
    pub fn status(&self) -> WorkerStatus {
        let busy = self.busy.load(Ordering::Relaxed);
        let stopped = self.stopped.load(Ordering::Relaxed);
        WorkerStatus {
            state: if busy {
                "running"
            } else if stopped {
                "stopped"
            } else {
                "idle"
            },
            completed: self.completed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// What a worker works with.
#[derive(Clone)]
pub struct Worker {
    /// Its name in leases: `{instance}/{n}`.
    pub name: String,
    /// The way to the queue.
    pub cluster: Cluster,
    /// Does the work.
    pub executor: Arc<dyn Executor>,
    /// Its switch.
    pub cell: Arc<WorkerCell>,
    /// Told when the queue changed.
    pub changed: Arc<Notify>,
    /// How long it leases a task.
    pub lease: Duration,
}

impl Worker {
    /// Works for ever.
    pub async fn run(self) {
        self.cell.busy.store(false, Ordering::Relaxed); // after a crash
        self.hand_back().await;
        loop {
            let changed = self.changed.notified();
            let wait = match self.cell.stopped.load(Ordering::Relaxed) {
                true => IDLE,
                false => match self.take().await {
                    Some(Taken::Task(task)) => {
                        self.work(&task).await;
                        continue;
                    }
                    Some(Taken::Nothing(wait)) => wait,
                    None => IDLE,
                },
            };
            tokio::select! {
                () = changed => {}
                () = self.cell.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Frees what this worker leased in an earlier life (WORK-3).
    async fn hand_back(&self) {
        let died = || Command::WorkerDied { worker: self.name.clone(), now_ms: now_ms() };
        while self.tell(died()).await.is_none() {
            tokio::time::sleep(IDLE).await;
        }
    }

    async fn take(&self) -> Option<Taken> {
        let now = now_ms();
        if let Some(wait) = self.nothing_due(now).await {
            return Some(Taken::Nothing(wait));
        }
        let lease = Command::Lease {
            worker: self.name.clone(),
            max: 1,
            lease_ms: self.lease.as_millis() as u64,
            now_ms: now,
            kinds: Vec::new(),
        };
        match self.tell(lease).await? {
            Outcome::Leased { mut tasks, next_due_ms } => Some(match tasks.pop() {
                Some(task) => Taken::Task(Box::new(task)),
                None => {
                    let due = next_due_ms.map(|at| Duration::from_millis(at.saturating_sub(now)));
                    Taken::Nothing(due.unwrap_or(IDLE).clamp(Duration::from_millis(10), IDLE))
                }
            }),
            _ => None,
        }
    }

    /// How long there is nothing to do, as far as the replica that is asked knows: a lease that gives
    /// nothing would cost an entry of the log.
    async fn nothing_due(&self, now: UnixMillis) -> Option<Duration> {
        let asked = self.cluster.question(&Scope::new(CALL_LIMIT), Message::Due).await;
        match asked {
            Ok(QueueReply::Due(Some(at))) if at <= now => None,
            Ok(QueueReply::Due(Some(at))) => Some(Duration::from_millis(at - now).min(IDLE)),
            Ok(QueueReply::Due(None)) => Some(IDLE),
            _ => None,
        }
    }

    async fn work(&self, task: &Task) {
        let Some(lease) = &task.lease else { return };
        let lease = LeaseRef { id: task.id.clone(), token: lease.token };
        self.cell.busy.store(true, Ordering::Relaxed);
        let result = tokio::select! {
            result = self.executor.execute(task) => result,
            () = self.keep(&lease) => Err("the lease was lost".into()), // WORK-1
        };
        points::at(Point::Executed);
        self.report(lease, task, result).await;
        self.cell.busy.store(false, Ordering::Relaxed);
    }

    async fn report(&self, lease: LeaseRef, task: &Task, result: Result<(), String>) {
        let now_ms = now_ms();
        let command = match result {
            Ok(()) => {
                self.cell.completed.fetch_add(1, Ordering::Relaxed);
                Command::Complete { lease, now_ms }
            }
            Err(error) => {
                self.cell.failed.fetch_add(1, Ordering::Relaxed);
                tracing::info!(task = task.id, kind = %task.kind.name(), error, "task failed");
                Command::Fail { lease, error, now_ms, jitter: rand::random() }
            }
        };
        for _ in 0..3 {
            if self.tell(command.clone()).await.is_some() {
                return; // a lost answer: the lease ends and the task is done again, WORK-2
            }
        }
    }

    /// Renews the lease until that fails.
    async fn keep(&self, lease: &LeaseRef) {
        let mut last = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(self.lease / 4).await;
            let renew = Command::Renew {
                leases: vec![lease.clone()],
                lease_ms: self.lease.as_millis() as u64,
                now_ms: now_ms(),
            };
            match self.tell(renew).await {
                Some(Outcome::Renewed { lost }) if lost.is_empty() => {
                    last = tokio::time::Instant::now();
                }
                Some(_) => return,
                None if last.elapsed() > self.lease / 2 => return,
                None => {}
            }
        }
    }

    async fn tell(&self, command: Command) -> Option<Outcome> {
        let scope = Scope::new(CALL_LIMIT);
        match self.cluster.command(&scope, Message::Apply(command)).await {
            Ok(QueueReply::Applied(outcome)) => Some(outcome),
            Ok(_) | Err(_) => None,
        }
    }
}

enum Taken {
    Task(Box<Task>),
    Nothing(Duration),
}
