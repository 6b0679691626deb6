//! A world of nodes, clients and misfortune, all of it from one seed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mocks3::replica::types::{Peer, ReplicaId};
use mocks3::replica::{Chance, Exec, LogStore, Machine, Replica, Settings, Setup};
use openraft::{ChangeMembers, RaftLogReader, ServerState};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Disk;
use crate::invariants::Observer;
use crate::net::{Net, Weather};
use crate::way::{LATE, Way};

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

    pub fn pause(&self, below_ms: usize) -> Duration {
        Duration::from_micros(self.below(below_ms * 1000) as u64)
    }
}

/// What the nodes replicate, and the disks that its machines have.
pub trait Subject: 'static {
    type Machine: Machine;
    /// What tests see of a machine that runs.
    type View: Clone + Send + Sync + 'static;

    /// Opens the machine of a node that starts.
    fn open(&self, node: usize, observer: &Observer) -> (Self::Machine, Self::View);

    /// A folder for images of the node that starts.
    fn images(&self, node: usize) -> PathBuf;

    /// The process of the node dies; with `power` lost, what was not synced is lost too.
    fn crash(&self, node: usize, power: bool, dice: &Dice);

    /// Every write of the node's machine fails until it is opened again.
    fn fail(&self, node: usize);
}

/// A process, or where it will be again.
struct Node<S: Subject> {
    name: String,
    disk: Disk,
    life: Option<Life<S>>,
}

/// A process that runs.
pub struct Life<S: Subject> {
    pub replica: Replica<S::Machine>,
    log: LogStore,
    pub view: S::View,
}

impl<S: Subject> Clone for Life<S> {
    fn clone(&self) -> Self {
        let (replica, log) = (self.replica.clone(), self.log.clone());
        Life { replica, log, view: self.view.clone() }
    }
}

/// What clients share with the world: the processes that run now.
pub type Running<S> = Arc<Mutex<BTreeMap<usize, Life<S>>>>;

pub struct World<S: Subject> {
    pub subject: S,
    pub dice: Dice,
    pub observer: Observer,
    net: Net<S::Machine>,
    nodes: Vec<Node<S>>,
    ids: BTreeMap<usize, ReplicaId>,
    running: Running<S>,
}

/// Small, so that images are needed.
fn settings() -> Settings {
    Settings { sync_every: 40, keep: 10, ..Settings::default() }
}

impl<S: Subject> World<S> {
    /// So many nodes, founded as one group; the disk of a log that `lies` never syncs.
    pub async fn new(seed: u64, nodes: usize, subject: S, lies: bool) -> Self {
        Chance::seed(seed);
        let dice = Dice::new(seed);
        let node = |n: usize| Node { name: format!("node-{n}"), disk: Disk::new(lies), life: None };
        let mut world = World {
            subject,
            net: Net::new(dice.clone()),
            observer: Observer::default(),
            nodes: (0..nodes).map(node).collect(),
            ids: BTreeMap::new(),
            running: Arc::default(),
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

    fn life(&self, n: usize) -> Life<S> {
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
        let (machine, view) = self.subject.open(n, &self.observer);
        let carrier = self.net.carrier(&node.name);
        let images = self.subject.images(n);
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
        let life = Life { replica, log, view };
        self.running.lock().unwrap().insert(n, life.clone());
        self.nodes[n].life = Some(life);
    }

    pub async fn crash(&mut self, n: usize, power: bool) {
        let Some(life) = self.nodes[n].life.take() else { return };
        self.observer.note(format!("node {n} dies, power lost: {power}"));
        self.running.lock().unwrap().remove(&n);
        self.net.leave(&self.nodes[n].name);
        self.nodes[n].disk.crash(power, &self.dice);
        self.subject.crash(n, power, &self.dice);
        life.replica.stop().await;
    }

    /// Something bad happens, or something good.
    pub async fn misfortune(&mut self) {
        let n = self.dice.below(self.nodes.len());
        let other = self.dice.below(self.nodes.len());
        let name = |n: usize| self.nodes[n].name.clone();
        match self.dice.below(16) {
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
            14 => self.subject.fail(n),
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
                |life: &Life<S>| life.replica.raft().metrics().borrow().running_state.is_err();
            if self.nodes[n].life.as_ref().is_some_and(gave_up) {
                self.crash(n, false).await;
            }
        }
    }

    /// Starts again whoever gave up or was dead.
    pub async fn supervise(&mut self) {
        self.bury().await;
        for n in 0..self.nodes.len() {
            self.start(n).await;
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |n: &Node<S>| n.life.as_ref().is_some_and(|l| l.replica.status().leads);
        self.nodes.iter().position(leads)
    }

    /// All is well again; gives how long it took until a command of `passes` went through and all
    /// had it.
    pub async fn heal(&mut self, mut passes: impl AsyncFnMut() -> bool) -> Duration {
        self.observer.note("healed".into());
        self.net.heal();
        let begun = tokio::time::Instant::now();
        let mut passed = false;
        loop {
            self.supervise().await;
            self.take_in();
            passed = passed || passes().await;
            let applied: Vec<u64> =
                self.lives().iter().map(|life| *life.replica.host().applied().borrow()).collect();
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

    /// Waits until what clients sent has come, late ones too, and all nodes have it.
    pub async fn settle(&mut self) {
        tokio::time::sleep(LATE).await;
        self.heal(async || true).await;
        self.observe().await;
    }

    /// Of all nodes, which run.
    pub fn lives(&self) -> Vec<Life<S>> {
        (0..self.nodes.len()).map(|n| self.life(n)).collect()
    }

    /// How each node stands.
    pub fn stands(&self) -> String {
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
            let (leads, term) = (metrics.state == ServerState::Leader, *metrics.vote.leader_id());
            self.observer.voted(log.id(), metrics.vote, leads);
            if leads {
                let purged = metrics.purged.map_or(0, |id| id.index);
                self.observer.leader_has(term, purged, &entries);
            }
            let applied = metrics.last_applied.map_or(0, |id| id.index);
            for entry in entries.iter().filter(|e| e.log_id.index <= applied) {
                let id = entry.log_id;
                self.observer.committed(id.index, id.leader_id, term);
            }
        }
        self.observer.check();
    }

    /// The way of a client to the nodes.
    pub fn way(&self) -> Way<S> {
        Way { dice: self.dice.clone(), running: self.running.clone() }
    }
}
