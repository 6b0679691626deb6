//! The queue in the simulation: its machine and its file as they are, on a simulated disk.
//!
//! What its commands did is judged by books of our own (`books.rs`), which know nothing of how the
//! queue keeps its tasks; workers and relays (`clients.rs`) do what those of the program do.
//!
//! - `SIMQ-1` no task is lost: what was acknowledged is in the queue after the last crash, and is
//!   completed in the end;
//! - `SIMQ-2` no task is completed under two leases, and no two workers hold one at the same time by
//!   the times that stand in the commands;
//! - `SIMQ-3` a key is applied once: whoever is answered learns what the books say under it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mocks3::actors::queue_worker::command::{Command, LeaseRef, Outcome};
use mocks3::actors::queue_worker::machine::QueueMachine;
use mocks3::actors::queue_worker::store::{QueueStore, StoreError};
use mocks3::replica::{Digester, Export, Keyed, Machine};
use tempfile::TempDir;

use crate::disk::Disk;
use crate::invariants::Observer;
use crate::world::{Dice, Subject};
use books::Books;
use clients::LEASE_MS;

mod books;
mod clients;
mod runs;

/// What is wrong with the queue, so that the tests can be seen to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// A command that comes again is applied again.
    KeysIgnored,
    /// A result counts with any token.
    AnyToken,
    /// Leases are taken away before they end.
    EarlyExpiry,
    /// Tasks are acknowledged that are not kept.
    Forgets,
}

/// The disks of the queue's files, and the books on what was applied.
struct QueueGroup {
    flaw: Option<Flaw>,
    disks: Vec<Disk>,
    books: Books,
    /// For images: files as they are in the program. Every life has its own folder.
    folder: TempDir,
    lives: AtomicU64,
}

impl QueueGroup {
    fn new(nodes: usize, flaw: Option<Flaw>) -> QueueGroup {
        // in memory where there is such a place: many images are made
        let memory = Path::new("/dev/shm");
        let folder = TempDir::new_in(memory).or_else(|_| TempDir::new()).unwrap();
        let disks = (0..nodes).map(|_| Disk::default()).collect();
        QueueGroup { flaw, disks, books: Books::default(), folder, lives: AtomicU64::new(0) }
    }
}

impl Subject for QueueGroup {
    type Machine = WatchedQueue;
    type View = Arc<QueueStore>;

    fn open(&self, node: usize, observer: &Observer) -> (WatchedQueue, Arc<QueueStore>) {
        let database = redb::Builder::new()
            .set_cache_size(1 << 20)
            .create_with_backend(self.disks[node].open())
            .unwrap();
        let path = PathBuf::from(format!("queue-{node}"));
        let store = Arc::new(QueueStore::start(&path, database, 0).unwrap());
        let queue = QueueMachine::new(store.clone()).unwrap();
        observer.opened(node, queue.applied());
        let (observer, books) = (observer.clone(), self.books.clone());
        (WatchedQueue { node, queue, flaw: self.flaw, observer, books }, store)
    }

    fn images(&self, _node: usize) -> PathBuf {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.path().join(life.to_string());
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    fn crash(&self, node: usize, power: bool, dice: &Dice) {
        self.disks[node].crash(power, dice);
    }

    fn fail(&self, node: usize) {
        self.disks[node].fail();
    }
}

/// The queue's machine, watched; with a flaw, not quite the queue's.
struct WatchedQueue {
    node: usize,
    queue: QueueMachine,
    flaw: Option<Flaw>,
    observer: Observer,
    books: Books,
}

/// After how many commands whole states are compared.
const COMPARED: u64 = 16;

impl WatchedQueue {
    /// What the flaw makes of a command. It looks at the state, so commands are applied one by one.
    fn flawed(&self, flaw: Flaw, keyed: &Keyed<Command>) -> Keyed<Command> {
        let mut keyed = keyed.clone();
        match (flaw, &mut keyed.command) {
            (Flaw::KeysIgnored, _) => keyed.key = 0,
            (Flaw::AnyToken, Command::Complete { lease: LeaseRef { id, token }, .. }) => {
                let task = self.queue.store().get(id).unwrap();
                *token = task.map_or(*token, |task| task.last_token);
            }
            (Flaw::EarlyExpiry, Command::ExpireLeases { now_ms }) => *now_ms += LEASE_MS / 2,
            (Flaw::Forgets, Command::Enqueue { tasks, .. }) if tasks.len() > 3 => {
                // one is named twice, in place of the last: it is new, and then it is known
                let first = tasks[0].clone();
                *tasks.last_mut().unwrap() = first;
            }
            _ => {}
        }
        keyed
    }
}

impl Machine for WatchedQueue {
    type Command = Command;
    type Outcome = Outcome;
    type Error = StoreError;

    fn applied(&self) -> u64 {
        self.queue.applied()
    }

    fn mark(&self) -> Result<Vec<u8>, StoreError> {
        self.queue.mark()
    }

    fn apply(
        &mut self,
        first: u64,
        commands: &[Keyed<Command>],
        mark: &[u8],
    ) -> Result<Vec<Outcome>, StoreError> {
        let outcomes = match self.flaw {
            Some(flaw) if !commands.is_empty() => {
                let mut outcomes = Vec::new();
                for (index, keyed) in (first..).zip(commands) {
                    let keyed = self.flawed(flaw, keyed);
                    outcomes.extend(self.queue.apply(index, &[keyed], mark)?);
                }
                outcomes
            }
            _ => self.queue.apply(first, commands, mark)?,
        };
        for (index, (keyed, outcome)) in (first..).zip(commands.iter().zip(&outcomes)) {
            self.observer.applied(self.node, index, keyed.key, outcome);
            self.books.enter(index, keyed, outcome, &self.observer);
        }
        let applied = self.applied();
        if !commands.is_empty() && applied.is_multiple_of(COMPARED) {
            self.observer.digest(self.node, applied, self.queue.store().digest()?);
        }
        Ok(outcomes)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.queue.sync()
    }

    fn exporter(&self) -> Result<Export<StoreError>, StoreError> {
        self.queue.exporter()
    }

    fn import(&mut self, from: &Path) -> Result<(), StoreError> {
        self.queue.import(from)?;
        self.observer.opened(self.node, self.applied());
        Ok(())
    }

    fn digester(&self) -> Result<Digester<StoreError>, StoreError> {
        self.queue.digester()
    }

    fn idle(&mut self) {
        self.queue.idle();
    }
}
