//! The machine of the simulation: registers, with a disk of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use mocks3::replica::{Digest, Digester, Export, Keyed, Machine};
use serde::{Deserialize, Serialize};

use crate::invariants::Observer;
use crate::world::Dice;

/// What a client may do to a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Put {
        register: u8,
        value: u64,
    },
    /// Only where it holds `expected`.
    Swap {
        register: u8,
        expected: Option<u64>,
        value: u64,
    },
    Delete {
        register: u8,
    },
}

/// Everything that the machine knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Registers {
    pub applied: u64,
    pub mark: Vec<u8>,
    pub values: BTreeMap<u8, u64>,
    /// Outcomes by the key of their intent.
    pub answered: BTreeMap<u128, bool>,
}

impl Registers {
    fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Put { register, value } => {
                self.values.insert(*register, *value);
                true
            }
            Change::Swap { register, expected, value } => {
                let holds = self.values.get(register) == expected.as_ref();
                if holds {
                    self.values.insert(*register, *value);
                }
                holds
            }
            Change::Delete { register } => self.values.remove(register).is_some(),
        }
    }
}

/// Where the registers of one node outlive its crashes: what was synced, and every state since.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    synced: Registers,
    since: Vec<Registers>,
    life: u64,
    forgets: bool,
    broken: bool,
}

impl Shelf {
    /// An empty shelf; one that `forgets` keeps the mark of an earlier state in a crash.
    pub fn new(forgets: bool) -> Shelf {
        Shelf(Arc::new(Mutex::new(Kept { forgets, ..Kept::default() })))
    }

    /// Nothing can be written until it is opened again.
    pub fn fail(&self) {
        self.0.lock().unwrap().broken = true;
    }

    /// A crash leaves the synced state, or a later one; with the power on, the last one.
    pub fn crash(&self, power: bool, dice: &Dice) {
        let mut kept = self.0.lock().unwrap();
        kept.life += 1;
        let left = if power { dice.below(kept.since.len() + 1) } else { kept.since.len() };
        kept.since.truncate(left);
        if let Some(mut last) = kept.since.pop() {
            kept.since.clear();
            if kept.forgets {
                last.mark.clone_from(&kept.synced.mark);
            }
            kept.synced = last;
        }
    }
}

/// Image files, by their path.
pub type Files = Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>;

/// The machine.
pub struct RegisterMachine {
    pub node: usize,
    pub now: Arc<Mutex<Registers>>,
    shelf: Shelf,
    life: u64,
    files: Files,
    observer: Observer,
}

impl RegisterMachine {
    pub fn open(node: usize, shelf: &Shelf, files: &Files, observer: &Observer) -> Self {
        let (now, life) = {
            let mut kept = shelf.0.lock().unwrap();
            kept.life += 1;
            kept.broken = false;
            (kept.since.last().unwrap_or(&kept.synced).clone(), kept.life)
        };
        observer.opened(node, now.applied);
        let (shelf, files, observer) = (shelf.clone(), files.clone(), observer.clone());
        RegisterMachine { node, now: Arc::new(Mutex::new(now)), shelf, life, files, observer }
    }

    fn keep(&self, synced: bool) -> Result<(), String> {
        let now = self.now.lock().unwrap().clone();
        let mut kept = self.shelf.0.lock().unwrap();
        if kept.life != self.life {
            return Err("the process is dead".into());
        }
        if kept.broken {
            return Err("the disk fails".into());
        }
        if synced {
            kept.since.clear();
            kept.synced = now;
        } else {
            kept.since.push(now);
        }
        Ok(())
    }
}

impl Machine for RegisterMachine {
    type Command = Change;
    type Outcome = bool;
    type Error = String;

    fn applied(&self) -> u64 {
        self.now.lock().unwrap().applied
    }

    fn mark(&self) -> Result<Vec<u8>, String> {
        Ok(self.now.lock().unwrap().mark.clone())
    }

    fn apply(
        &mut self,
        first: u64,
        commands: &[Keyed<Change>],
        mark: &[u8],
    ) -> Result<Vec<bool>, String> {
        let mut outcomes = Vec::new();
        {
            let mut now = self.now.lock().unwrap();
            assert_eq!(first, now.applied + 1);
            for Keyed { key, command } in commands {
                let outcome = match now.answered.get(key) {
                    Some(before) => *before,
                    None => now.apply(command),
                };
                now.answered.insert(*key, outcome);
                now.applied += 1;
                self.observer.applied(self.node, now.applied, *key, &outcome);
                outcomes.push(outcome);
            }
            now.mark = mark.to_vec();
        }
        self.keep(false)?;
        Ok(outcomes)
    }

    fn sync(&mut self) -> Result<(), String> {
        self.keep(true)
    }

    fn exporter(&self) -> Result<Export<String>, String> {
        let (now, files) = (self.now.lock().unwrap().clone(), self.files.clone());
        Ok(Box::new(move |to: &Path| {
            files.lock().unwrap().insert(to.to_owned(), bincode::serialize(&now).unwrap());
            Ok(now.mark)
        }))
    }

    fn import(&mut self, from: &Path) -> Result<(), String> {
        let bytes = self.files.lock().unwrap().get(from).cloned().ok_or("no such image")?;
        let taken: Registers = bincode::deserialize(&bytes).map_err(|e| e.to_string())?;
        self.observer.opened(self.node, taken.applied);
        *self.now.lock().unwrap() = taken;
        self.keep(true)
    }

    fn digester(&self) -> Result<Digester<String>, String> {
        let now = self.now.lock().unwrap().clone();
        Ok(Box::new(move || {
            let md5 = md5::compute(bincode::serialize(&now).unwrap()).0;
            Ok(Digest { applied: now.applied, md5 })
        }))
    }
}
