//! A world of nodes, clients and misfortune, all of it from one seed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mocks3::replica::types::{Item, Peer, ReplicaId};
use mocks3::replica::{Chance, Exec, LogStore, ProposeError, Replica, Settings, Setup};
use openraft::{ChangeMembers, RaftLogReader, ServerState};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Disk;
use crate::history::{Act, Operation, linearizable};
use crate::invariants::Observer;
use crate::machine::{Change, Files, RegisterMachine, Registers, Shelf};
use crate::net::{Net, Weather};

/// Chance, from the seed. Clones share it.
#[derive(Clone)]
pub struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number from 0 to below `n`.
    pub fn below(&self, n: usize) -> usize {
        self.0.lock().unwrap().random_range(0..n.max(1))
    }

    pub fn chance(&self, p: f64) -> bool {
        self.0.lock().unwrap().random_bool(p)
    }

    fn pause(&self, below_ms: usize) -> Duration {
        Duration::from_micros(self.below(below_ms * 1000) as u64)
    }
}

/// A process, or where it will be again.
struct Node {
    name: String,
    disk: Disk,
    shelf: Shelf,
    life: Option<Life>,
}

#[derive(Clone)]
struct Life {
    replica: Replica<RegisterMachine>,
    log: LogStore,
    now: Arc<Mutex<Registers>>,
}

/// What clients share with the world: the processes that run now.
type Running = Arc<Mutex<BTreeMap<usize, Life>>>;

/// What is wrong with the world, so that the tests can be seen to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The log's disk says that it has synced, and has not: what is acknowledged is not durable.
    SyncLies,
    /// Clients read without a barrier.
    ReadsAnywhere,
    /// The machine forgets up to where it has applied, in some crashes.
    MarkApart,
    /// Retries come under new keys.
    NewKeys,
}

pub struct World {
    mutant: Option<Mutant>,
    pub dice: Dice,
    pub observer: Observer,
    net: Net,
    files: Files,
    nodes: Vec<Node>,
    ids: BTreeMap<usize, ReplicaId>,
    running: Running,
    history: Arc<Mutex<Vec<(u8, Operation)>>>,
    clock: Arc<Mutex<u64>>,
}

/// Small, so that images are needed.
fn settings() -> Settings {
    Settings { sync_every: 40, keep: 10, ..Settings::default() }
}

impl World {
    /// So many nodes, founded as one group.
    pub async fn new(seed: u64, nodes: usize, mutant: Option<Mutant>) -> World {
        Chance::seed(seed);
        let dice = Dice::new(seed);
        let node = |n: usize| Node {
            name: format!("node-{n}"),
            disk: Disk::new(mutant == Some(Mutant::SyncLies)),
            shelf: Shelf::new(mutant == Some(Mutant::MarkApart)),
            life: None,
        };
        let mut world = World {
            mutant,
            net: Net::new(dice.clone()),
            observer: Observer::default(),
            files: Files::default(),
            nodes: (0..nodes).map(node).collect(),
            ids: BTreeMap::new(),
            running: Running::default(),
            history: Arc::default(),
            clock: Arc::default(),
            dice,
        };
        for n in 0..nodes {
            world.start(n).await;
        }
        let peer = |n: usize| world.life(n).replica.own().clone();
        let voters = (0..nodes).map(|n| (peer(n).id, peer(n))).collect();
        world.life(0).replica.initialize(voters).await.unwrap();
        world
    }

    fn life(&self, n: usize) -> Life {
        self.nodes[n].life.clone().unwrap()
    }

    pub async fn start(&mut self, n: usize) {
        if self.nodes[n].life.is_some() {
            return;
        }
        self.observer.note(format!("node {n} starts"));
        let node = &self.nodes[n];
        let database = redb::Builder::new()
            .set_cache_size(1 << 20)
            .create_with_backend(node.disk.open())
            .unwrap();
        let log = LogStore::open(database, Exec::Inline, Arc::new(())).unwrap();
        let machine = RegisterMachine::open(n, &node.shelf, &self.files, &self.observer);
        let now = machine.now.clone();
        let carrier = self.net.carrier(&node.name);
        let images = PathBuf::from(format!("/sim/{n}"));
        let setup = Setup {
            group: "sim",
            own: Peer { id: log.id(), instance: node.name.clone() },
            log: log.clone(),
            machine,
            images,
            exec: Exec::Inline,
            held: Arc::new(()),
        };
        let replica = Replica::start(setup, &settings(), carrier.clone()).await.unwrap();
        self.net.join(&carrier, replica.clone());
        self.ids.insert(n, log.id());
        let life = Life { replica, log, now };
        self.running.lock().unwrap().insert(n, life.clone());
        self.nodes[n].life = Some(life);
    }

    pub async fn crash(&mut self, n: usize, power: bool) {
        let Some(life) = self.nodes[n].life.take() else { return };
        self.observer.note(format!("node {n} dies, power lost: {power}"));
        self.running.lock().unwrap().remove(&n);
        self.net.leave(&self.nodes[n].name);
        self.nodes[n].disk.crash(power, &self.dice);
        self.nodes[n].shelf.crash(power, &self.dice);
        life.replica.stop().await;
    }

    /// Something bad happens, or something good.
    pub async fn misfortune(&mut self) {
        let n = self.dice.below(self.nodes.len());
        let other = self.dice.below(self.nodes.len());
        let name = |n: usize| self.nodes[n].name.clone();
        match self.dice.below(15) {
            0 | 1 => self.crash(n, self.dice.chance(0.5)).await,
            2..=4 => self.start(n).await,
            5 => self.net.cut(&name(n), &name(other)),
            6 => {
                for other in (0..self.nodes.len()).filter(|other| *other != n) {
                    self.net.cut(&name(n), &name(other));
                    self.net.cut(&name(other), &name(n));
                }
            }
            7 | 8 => self.net.heal(),
            9 => self.net.weather(Weather { loss: 0.1, twice: 0.1, late: 0.2 }),
            10 => self.nodes[n].disk.fail(),
            11 => self.take_in(),
            12 => self.change_voters(),
            13 => self.stand_aside(),
            _ => {
                let leader = self.leader();
                if let Some(leader) = leader {
                    self.crash(leader, self.dice.chance(0.5)).await;
                }
            }
        }
        self.bury().await;
    }

    /// The leader is told to let others vote: itself and none, two or four others, as PLAN-5 has it.
    fn change_voters(&self) {
        let Some(leader) = self.leader() else { return };
        let mut ids: Vec<ReplicaId> = self.ids.values().copied().collect();
        let count = (1 + 2 * self.dice.below(3)).min(ids.len());
        while ids.len() > count {
            let id = ids[self.dice.below(ids.len())];
            if id != self.ids[&leader] {
                ids.retain(|kept| *kept != id);
            }
        }
        self.observer.note(format!("{count} shall vote"));
        let raft = self.life(leader).replica.raft().clone();
        tokio::spawn(async move {
            let voters = ChangeMembers::ReplaceAllVoters(ids.into_iter().collect());
            let change = raft.change_membership(voters, false);
            let _ = tokio::time::timeout(Duration::from_secs(3), change).await; // or not
        });
    }

    fn stand_aside(&self) {
        let Some(leader) = self.leader() else { return };
        self.observer.note(format!("node {leader} shall stand aside"));
        let replica = self.life(leader).replica.clone();
        tokio::spawn(async move { replica.stand_aside().await }); // or not
    }

    /// The leader takes in whoever was dropped.
    fn take_in(&self) {
        let Some(leader) = self.leader() else { return };
        let raft = self.life(leader).replica.raft().clone();
        let known: Vec<ReplicaId> = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.nodes().map(|(id, _)| *id).collect()
        };
        let dropped = self.ids.iter().find(|(_, id)| !known.contains(id));
        let Some((n, id)) = dropped else { return };
        let peer = Peer { id: *id, instance: self.nodes[*n].name.clone() };
        tokio::spawn(async move {
            let add = raft.add_learner(peer.id, peer, false);
            let _ = tokio::time::timeout(Duration::from_secs(1), add).await; // or not
        });
    }

    /// Ends the processes whose replica gave up, as their supervisor would.
    async fn bury(&mut self) {
        for n in 0..self.nodes.len() {
            let gave_up =
                |life: &Life| life.replica.raft().metrics().borrow().running_state.is_err();
            if self.nodes[n].life.as_ref().is_some_and(gave_up) {
                self.crash(n, false).await;
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |n: &Node| n.life.as_ref().is_some_and(|l| l.replica.status().leads);
        self.nodes.iter().position(leads)
    }

    /// All is well again; gives how long it took until a command went through and all had it.
    pub async fn heal(&mut self) -> Duration {
        self.observer.note("healed".into());
        self.net.heal();
        let begun = tokio::time::Instant::now();
        let mut client = self.client(1000);
        let mut passed = false;
        loop {
            self.bury().await;
            for n in 0..self.nodes.len() {
                self.start(n).await;
            }
            self.take_in();
            passed = passed || client.act(0, Kind::Put).await;
            let applied: Vec<u64> =
                (0..self.nodes.len()).map(|n| self.life(n).now.lock().unwrap().applied).collect();
            if passed && applied.iter().all(|a| *a == applied[0]) {
                return begun.elapsed();
            }
            let late = begun.elapsed() > Duration::from_secs(30);
            assert!(
                !late,
                "not whole again: {applied:?}\n{:#?}\n{}",
                self.observer.story(),
                self.stands()
            );
            self.observe().await;
        }
    }

    fn stands(&self) -> String {
        let metrics = |n| self.life(n).replica.raft().metrics().borrow().to_string();
        (0..self.nodes.len()).map(|n| format!("node {n}: {}\n", metrics(n))).collect()
    }

    /// Lets time pass, and looks at all nodes.
    pub async fn observe(&self) {
        tokio::time::sleep(self.dice.pause(100)).await;
        for node in &self.nodes {
            let Some(Life { replica, log, .. }) = &node.life else { continue };
            let metrics = replica.raft().metrics().borrow().clone();
            let entries = log.clone().try_get_log_entries(0..u64::MAX).await.unwrap_or_default();
            self.observer.log(&entries);
            if metrics.state == ServerState::Leader {
                let term = metrics.vote.leader_id().term;
                self.observer.leads(log.id(), term);
                let purged = metrics.purged.map_or(0, |id| id.index);
                self.observer.leader_has(term, purged, &entries);
            }
            let applied = metrics.last_applied.map_or(0, |id| id.index);
            for entry in entries.iter().filter(|e| e.log_id.index <= applied) {
                let id = entry.log_id;
                self.observer.committed(id.index, id.leader_id.term, metrics.current_term);
            }
        }
        self.observer.check();
    }

    /// A client that works until it is aborted.
    pub fn client(&self, n: u64) -> Client {
        Client {
            n,
            count: 0,
            mutant: self.mutant,
            dice: self.dice.clone(),
            running: self.running.clone(),
            history: self.history.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Fails unless what the clients saw could have happened one after another, and all nodes hold
    /// the same.
    pub fn judge(&self) {
        self.observer.check();
        let history = self.history.lock().unwrap().clone();
        let mut registers: BTreeMap<u8, Vec<Operation>> = BTreeMap::new();
        for (register, operation) in history {
            registers.entry(register).or_default().push(operation);
        }
        for (register, operations) in registers {
            let holds = linearizable(&operations);
            assert!(holds, "register {register} is not linearizable: {operations:#?}");
        }
        let states: Vec<Registers> =
            (0..self.nodes.len()).map(|n| self.life(n).now.lock().unwrap().clone()).collect();
        for state in &states {
            assert_eq!(state.values, states[0].values);
            assert_eq!(state.answered, states[0].answered);
        }
    }

    pub fn operations(&self) -> usize {
        self.history.lock().unwrap().iter().filter(|(_, o)| o.ended.is_some()).count()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Put,
    Swap,
    Delete,
    Get,
}

/// A client of the group: tries nodes until one answers, and notes what it learned.
pub struct Client {
    n: u64,
    count: u64,
    mutant: Option<Mutant>,
    dice: Dice,
    running: Running,
    history: Arc<Mutex<Vec<(u8, Operation)>>>,
    clock: Arc<Mutex<u64>>,
}

/// How long a client tries.
const PATIENCE: Duration = Duration::from_secs(3);

impl Client {
    pub async fn work(mut self) {
        loop {
            let kinds = [Kind::Put, Kind::Put, Kind::Swap, Kind::Swap, Kind::Delete, Kind::Get];
            let kind = kinds[self.dice.below(kinds.len())];
            let register = self.dice.below(3) as u8;
            self.act(register, kind).await;
            tokio::time::sleep(self.dice.pause(60)).await;
        }
    }

    fn tick(&self) -> u64 {
        let mut clock = self.clock.lock().unwrap();
        *clock += 1;
        *clock
    }

    fn any(&self) -> Option<Life> {
        let running = self.running.lock().unwrap();
        let n = self.dice.below(running.len());
        running.values().nth(n).cloned()
    }

    fn at(&self, peer: &Peer) -> Option<Life> {
        let n: usize = peer.instance.strip_prefix("node-")?.parse().ok()?;
        self.running.lock().unwrap().get(&n).cloned()
    }

    /// Does one thing; whether it was answered.
    pub async fn act(&mut self, register: u8, kind: Kind) -> bool {
        self.count += 1;
        let value = self.n * 1_000_000 + self.count;
        let begun = self.tick();
        let guess = match kind {
            Kind::Swap => {
                self.any().and_then(|l| l.now.lock().unwrap().values.get(&register).copied())
            }
            _ => None,
        };
        let (change, act) = match kind {
            Kind::Get => {
                let Ok(Some(saw)) = tokio::time::timeout(PATIENCE, self.read(register)).await
                else {
                    return false; // a read that did not happen
                };
                let ended = Some(self.tick());
                let get = Operation { begun, ended, act: Act::Get { saw } };
                self.history.lock().unwrap().push((register, get));
                return true;
            }
            Kind::Put => (Change::Put { register, value }, Act::Put(value)),
            Kind::Delete => (Change::Delete { register }, Act::Delete),
            Kind::Swap => (
                Change::Swap { register, expected: guess, value },
                Act::Swap { expected: guess, value, done: None },
            ),
        };
        // noted before it is known to be done: it may be done even if this client is gone
        let place = {
            let mut history = self.history.lock().unwrap();
            history.push((register, Operation { begun, ended: None, act }));
            history.len() - 1
        };
        let learned = tokio::time::timeout(PATIENCE, self.write(&change)).await;
        let Ok(outcome) = learned else { return false };
        let ended = self.tick();
        let mut history = self.history.lock().unwrap();
        let operation = &mut history[place].1;
        operation.ended = Some(ended);
        if let Act::Swap { done, .. } = &mut operation.act {
            *done = Some(outcome);
        }
        true
    }

    /// Retries under one key until it is answered.
    async fn write(&self, change: &Change) -> bool {
        let mut key = u128::from(self.n) << 64 | u128::from(self.count);
        let body = bincode::serialize(change).unwrap();
        let mut target = self.any();
        loop {
            if let Some(life) = &target {
                let (tx, rx) = tokio::sync::oneshot::channel();
                let item = Item { key, body: body.clone().into() };
                life.replica.submit(item, move |result| drop(tx.send(result)));
                match rx.await {
                    Ok(Ok(outcome)) => return outcome,
                    Ok(Err(ProposeError::NotLeader(Some(leader)))) => {
                        target = self.at(&leader);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            tokio::time::sleep(self.dice.pause(100)).await;
            target = self.any();
            if self.mutant == Some(Mutant::NewKeys) {
                key += 1 << 100;
            }
        }
    }

    async fn read(&self, register: u8) -> Option<Option<u64>> {
        loop {
            if let Some(life) = self.any()
                && (self.mutant == Some(Mutant::ReadsAnywhere)
                    || life.replica.barrier().await.is_ok())
            {
                return Some(life.now.lock().unwrap().values.get(&register).copied());
            }
            tokio::time::sleep(self.dice.pause(100)).await;
        }
    }
}
