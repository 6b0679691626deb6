//! A group of registers, its clients, and what they must have seen.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::history::{Act, Operation, linearizable};
use crate::invariants::Observer;
use crate::machine::{Change, Files, RegisterMachine, Registers, Shelf};
use crate::way::Way;
use crate::world::{Dice, Subject, World};

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

/// What the nodes replicate here, and what clients learned.
pub struct Group {
    mutant: Option<Mutant>,
    shelves: Vec<Shelf>,
    files: Files,
    history: Arc<Mutex<Vec<(u8, Operation)>>>,
    clock: Arc<Mutex<u64>>,
}

impl Subject for Group {
    type Machine = RegisterMachine;
    type View = Arc<Mutex<Registers>>;

    fn open(&self, node: usize, observer: &Observer) -> (RegisterMachine, Self::View) {
        let machine = RegisterMachine::open(node, &self.shelves[node], &self.files, observer);
        let now = machine.now.clone();
        (machine, now)
    }

    fn images(&self, node: usize) -> PathBuf {
        format!("/sim/{node}").into()
    }

    fn crash(&self, node: usize, power: bool, dice: &Dice) {
        self.shelves[node].crash(power, dice);
    }

    fn fail(&self, node: usize) {
        self.shelves[node].fail();
    }
}

/// A world with so many nodes.
pub async fn world(seed: u64, nodes: usize, mutant: Option<Mutant>) -> World<Group> {
    let forgets = mutant == Some(Mutant::MarkApart);
    let group = Group {
        mutant,
        shelves: (0..nodes).map(|_| Shelf::new(forgets)).collect(),
        files: Files::default(),
        history: Arc::default(),
        clock: Arc::default(),
    };
    World::new(seed, nodes, group, mutant == Some(Mutant::SyncLies)).await
}

impl World<Group> {
    /// A client that works until it is aborted.
    pub fn client(&self, n: u64) -> Client {
        let Group { mutant, history, clock, .. } = &self.subject;
        let (history, clock) = (history.clone(), clock.clone());
        Client { n, count: 0, mutant: *mutant, way: self.way(), history, clock }
    }

    /// Fails unless what the clients saw could have happened one after another, and all nodes hold
    /// the same.
    pub fn judge(&self) {
        self.observer.check();
        let history = self.subject.history.lock().unwrap().clone();
        let mut registers: BTreeMap<u8, Vec<Operation>> = BTreeMap::new();
        for (register, operation) in history {
            registers.entry(register).or_default().push(operation);
        }
        for (register, operations) in registers {
            let holds = linearizable(&operations);
            assert!(holds, "register {register} is not linearizable: {operations:#?}");
        }
        let states: Vec<Registers> =
            self.lives().iter().map(|life| life.view.lock().unwrap().clone()).collect();
        for state in &states {
            assert_eq!(state.values, states[0].values);
            assert_eq!(state.answered, states[0].answered);
        }
    }

    pub fn operations(&self) -> usize {
        self.subject.history.lock().unwrap().iter().filter(|(_, o)| o.ended.is_some()).count()
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
    way: Way<Group>,
    history: Arc<Mutex<Vec<(u8, Operation)>>>,
    clock: Arc<Mutex<u64>>,
}

/// How long a client tries.
const PATIENCE: Duration = Duration::from_secs(3);

impl Client {
    pub async fn work(mut self) {
        loop {
            let kinds = [Kind::Put, Kind::Put, Kind::Swap, Kind::Swap, Kind::Delete, Kind::Get];
            let kind = kinds[self.way.dice.below(kinds.len())];
            let register = self.way.dice.below(3) as u8;
            self.act(register, kind).await;
            tokio::time::sleep(self.way.dice.pause(60)).await;
        }
    }

    fn tick(&self) -> u64 {
        let mut clock = self.clock.lock().unwrap();
        *clock += 1;
        *clock
    }

    /// Does one thing; whether it was answered.
    pub async fn act(&mut self, register: u8, kind: Kind) -> bool {
        self.count += 1;
        let value = self.n * 1_000_000 + self.count;
        let begun = self.tick();
        let guess = match kind {
            Kind::Swap => {
                self.way.any().and_then(|l| l.view.lock().unwrap().values.get(&register).copied())
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

    async fn write(&self, change: &Change) -> bool {
        let mut key = u128::from(self.n) << 64 | u128::from(self.count);
        let key = || {
            if self.mutant == Some(Mutant::NewKeys) {
                key += 1 << 100;
            }
            key
        };
        self.way.submit(bincode::serialize(change).unwrap(), key).await
    }

    async fn read(&self, register: u8) -> Option<Option<u64>> {
        loop {
            if let Some(life) = self.way.any()
                && (self.mutant == Some(Mutant::ReadsAnywhere)
                    || life.replica.barrier().await.is_ok())
            {
                return Some(life.view.lock().unwrap().values.get(&register).copied());
            }
            tokio::time::sleep(self.way.dice.pause(100)).await;
        }
    }
}
