//! Those who use the queue: workers that tire and die, relays that hand in what they hold until it
//! is acknowledged, and the tick of the queue's actor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mocks3::actors::queue_worker::command::{Command, Enqueued, LeaseRef, Outcome};
use mocks3::actors::queue_worker::task::{
    NEVER_GIVE_UP, NewTask, ObjectRef, Task, TaskKind, TaskState,
};
use mocks3::replica::types::Item;
use tokio::time::{Instant, sleep, timeout};

use super::QueueGroup;
use crate::invariants::Observer;
use crate::way::Way;

/// How long a lease holds.
pub const LEASE_MS: u64 = 1500;
const LEASE: Duration = Duration::from_millis(LEASE_MS);
/// How long a call to the queue may take.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// How many tasks there are in all.
const TASKS: usize = 60;
/// How many of them wait or are worked on at most.
const BACKLOG: usize = 6;
/// When a run begins, by the clock that stands in commands.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// How far the clocks of two clients may be apart.
const SKEW_MS: usize = 300;

/// What clients have, and what they learned.
#[derive(Default)]
pub struct Known {
    /// The rows of the outbox, and those that are out of it again.
    pub rows: Vec<String>,
    pub relayed: BTreeSet<String>,
    /// Tasks that the queue said it has.
    pub acknowledged: BTreeSet<String>,
    /// Under which keys an answer came, and which.
    pub answers: Vec<(u128, Outcome)>,
    /// Tasks of which a worker was told that they are completed, and the token of its lease.
    pub completed: BTreeMap<String, BTreeSet<u64>>,
}

/// A client. Clones are others with the same way and what all know.
#[derive(Clone)]
pub struct Client {
    pub way: Way<QueueGroup>,
    pub observer: Observer,
    begun: Instant,
    skew_ms: u64,
    keys: Arc<AtomicU64>,
    known: Arc<Mutex<Known>>,
    /// Nothing goes wrong any more, and nothing is new.
    calm: Arc<AtomicBool>,
}

impl Client {
    pub fn new(way: Way<QueueGroup>, observer: Observer) -> Client {
        Client {
            way,
            observer,
            begun: Instant::now(),
            skew_ms: 0,
            keys: Arc::default(),
            known: Arc::default(),
            calm: Arc::default(),
        }
    }

    /// Another client, whose clock goes a little wrong.
    pub fn another(&self) -> Client {
        Client { skew_ms: self.way.dice.below(SKEW_MS) as u64, ..self.clone() }
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Whether something happens that does only while things go wrong.
    fn happens(&self, chance: f64) -> bool {
        self.way.dice.chance(chance) && !self.calm.load(Ordering::Relaxed)
    }

    fn now_ms(&self) -> u64 {
        BEGIN_MS + self.skew_ms + self.begun.elapsed().as_millis() as u64
    }

    /// Hands in a command under a key of its own; none: what became of it was not learned in time.
    async fn tell(&self, command: Command) -> Option<Outcome> {
        let key = u128::from(self.keys.fetch_add(1, Ordering::Relaxed) + 1);
        let body = bincode::serialize(&command).unwrap();
        let outcome = timeout(CALL_LIMIT, self.way.submit(body, || key)).await.ok()?;
        self.known().answers.push((key, outcome.clone()));
        Some(outcome)
    }

    /// Whether a command gets through.
    pub async fn passes(&self) -> bool {
        let nobody = Command::WorkerDied { worker: "nobody".into(), now_ms: self.now_ms() };
        self.tell(nobody).await.is_some()
    }

    /// What the actor of each node that leads does every second.
    pub async fn tick(self) {
        loop {
            sleep(Duration::from_secs(1)).await;
            let lives: Vec<_> = self.way.running.lock().unwrap().values().cloned().collect();
            for life in lives {
                let now_ms = self.now_ms();
                let overdue = || life.view.has_overdue_lease(now_ms).unwrap_or(false);
                if life.replica.status().leads && overdue() {
                    let expire = Command::ExpireLeases { now_ms };
                    let body = bincode::serialize(&expire).unwrap();
                    life.replica.submit(Item { key: 0, body: body.into() }, |_| ());
                }
            }
        }
    }

    /// A relay: there may be two at a time, when the leader of the metadata changes.
    pub async fn relay(self) {
        loop {
            let rows = self.rows();
            if !rows.is_empty() {
                self.hand_in(rows).await;
            }
            sleep(self.way.dice.pause(250)).await;
        }
    }

    /// Some rows of the outbox, of which there are more now and then, but never so many that a task
    /// whose lease was lost would wait for long.
    fn rows(&self) -> Vec<String> {
        let (more, most) = (self.way.dice.below(4), 1 + self.way.dice.below(6));
        let calm = self.calm.load(Ordering::Relaxed);
        let mut known = self.known();
        let (all, done) = (known.rows.len(), known.completed.len());
        for n in all..TASKS.min(all + more).min(done + BACKLOG) {
            if !calm {
                known.rows.push(format!("row-{n}"));
            }
        }
        let waits = |id: &&String| !known.relayed.contains(*id);
        known.rows.iter().filter(waits).take(most).cloned().collect()
    }

    async fn hand_in(&self, rows: Vec<String>) {
        let task = |id: &String| {
            let object = ObjectRef { bucket: "b".into(), key: id.clone() };
            let kind = TaskKind::DeleteObject { bucket: object.bucket, key: object.key };
            let mut task = NewTask::new(id.clone(), kind, BEGIN_MS);
            task.max_attempts = NEVER_GIVE_UP;
            task
        };
        let command = Command::Enqueue { tasks: rows.iter().map(task).collect(), limit: 1000 };
        let Some(Outcome::Enqueued { results }) = self.tell(command).await else { return };
        let dies = self.happens(0.2); // before it takes the rows out of the outbox
        let mut known = self.known();
        for (id, result) in rows.into_iter().zip(results) {
            if matches!(result, Enqueued::New | Enqueued::Known) {
                known.acknowledged.insert(id.clone());
                if !dies {
                    known.relayed.insert(id);
                }
            }
        }
    }

    /// A worker of this name, over many lives.
    pub async fn work(self, name: String) {
        loop {
            // WORK-3 of the program; not all of them come back under their name
            let back = Command::WorkerDied { worker: name.clone(), now_ms: self.now_ms() };
            if !self.happens(0.5) && self.tell(back).await.is_none() {
                continue;
            }
            while self.turn(&name).await {}
            self.observer.note(format!("{name} dies"));
            sleep(self.way.dice.pause(2000)).await;
        }
    }

    /// Takes tasks and works on them; false when it dies.
    async fn turn(&self, name: &str) -> bool {
        let now_ms = self.now_ms();
        let due = self.way.any().and_then(|life| life.view.first_due().ok().flatten());
        let lease = Command::Lease {
            worker: name.to_owned(),
            max: 1 + self.way.dice.below(2) as u32,
            lease_ms: LEASE_MS,
            now_ms,
            kinds: Vec::new(),
        };
        let leased = match due.is_some_and(|due| due <= now_ms) {
            true => self.tell(lease).await,
            false => None,
        };
        let Some(Outcome::Leased { tasks, .. }) = leased else {
            sleep(self.way.dice.pause(100)).await;
            return true;
        };
        for task in tasks {
            if self.happens(0.1) {
                return false;
            }
            self.perform(name, &task).await;
        }
        true
    }

    async fn perform(&self, name: &str, task: &Task) {
        let Some(lease) = &task.lease else { return };
        let lease = LeaseRef { id: task.id.clone(), token: lease.token };
        let done = if self.happens(0.1) {
            sleep(LEASE + self.way.dice.pause(3000)).await; // frozen: it does not see its lease end
            true
        } else {
            let long = if self.happens(0.1) { 4000 } else { 250 };
            tokio::select! {
                biased;
                () = sleep(self.way.dice.pause(long)) => !self.happens(0.15),
                () = self.keep(&lease) => false,
            }
        };
        let now_ms = self.now_ms();
        let command = match done {
            true => Command::Complete { lease: lease.clone(), now_ms },
            false => Command::Fail {
                lease: lease.clone(),
                error: "it did not work".into(),
                now_ms,
                jitter: self.way.dice.below(u32::MAX as usize) as u32,
            },
        };
        for _ in 0..3 {
            let outcome = self.tell(command.clone()).await;
            if let Some(outcome) = outcome {
                self.observer.note(format!("{name} reports {}: {outcome:?}", lease.id));
                if matches!(outcome, Outcome::Changed { state: TaskState::Completed, .. }) {
                    self.known().completed.entry(lease.id).or_default().insert(lease.token);
                }
                return;
            }
        }
    }

    /// Renews the lease until that fails.
    async fn keep(&self, lease: &LeaseRef) {
        let mut last = Instant::now();
        loop {
            sleep(LEASE / 4).await;
            let now_ms = self.now_ms();
            let leases = vec![lease.clone()];
            match self.tell(Command::Renew { leases, lease_ms: LEASE_MS, now_ms }).await {
                Some(Outcome::Renewed { lost }) if lost.is_empty() => last = Instant::now(),
                Some(_) => return,
                None if last.elapsed() > LEASE / 2 => return,
                None => {}
            }
        }
    }
}
