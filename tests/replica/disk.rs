//! A disk in memory that forgets in a crash what was not synced, or only some of it.

use std::io::Error as IoError;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use crate::world::Dice;

/// What happened to a disk since it was last synced.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, data) => {
                if bytes.len() < at + data.len() {
                    bytes.resize(at + data.len(), 0);
                }
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
            Change::Len(len) => bytes.resize(*len, 0),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// What a crash leaves for certain.
    durable: Vec<u8>,
    /// What a reader sees.
    now: Vec<u8>,
    since: Vec<Change>,
    /// Of the process that may use it; earlier ones are dead.
    life: u64,
    /// Fails every write from here on.
    broken: bool,
    /// Says that it has synced, and has not.
    lies: bool,
}

/// A disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// An empty disk; one that `lies` never syncs.
    pub fn new(lies: bool) -> Disk {
        Disk(Arc::new(Mutex::new(State { lies, ..State::default() })))
    }

    /// The way in for a new process; the earlier one's ends.
    pub fn open(&self) -> Backend {
        let mut state = self.0.lock().unwrap();
        state.life += 1;
        state.broken = false;
        Backend { disk: self.clone(), life: state.life }
    }

    /// The process dies. With `power` lost too, what was not synced is lost, or some of it.
    pub fn crash(&self, power: bool, dice: &Dice) {
        let mut state = self.0.lock().unwrap();
        state.life += 1;
        if power {
            let mut bytes = std::mem::take(&mut state.durable);
            for change in std::mem::take(&mut state.since) {
                match change {
                    Change::Write(at, data) if dice.chance(0.5) => {
                        let torn =
                            if dice.chance(0.2) { dice.below(data.len() + 1) } else { data.len() };
                        Change::Write(at, data[..torn].to_vec()).apply(&mut bytes);
                    }
                    Change::Write(..) => {}
                    // the file system orders sizes before what is in the new blocks
                    len @ Change::Len(_) => len.apply(&mut bytes),
                }
            }
            state.now = bytes.clone();
            state.durable = bytes;
        }
    }

    /// Every write fails until it is opened again.
    pub fn fail(&self) {
        self.0.lock().unwrap().broken = true;
    }
}

/// A disk as one process sees it.
#[derive(Debug)]
pub struct Backend {
    disk: Disk,
    life: u64,
}

impl Backend {
    fn state(&self) -> Result<std::sync::MutexGuard<'_, State>, IoError> {
        let state = self.disk.0.lock().unwrap();
        match state.life == self.life {
            true => Ok(state),
            false => Err(IoError::other("the process is dead")),
        }
    }

    fn change(&self, change: Change) -> Result<(), IoError> {
        let mut state = self.state()?;
        if state.broken {
            return Err(IoError::other("the disk fails"));
        }
        change.apply(&mut state.now);
        state.since.push(change);
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, IoError> {
        Ok(self.state()?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        let state = self.state()?;
        let at = offset as usize;
        let bytes = state.now.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| IoError::other("beyond the end"))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.change(Change::Len(len as usize))
    }

    fn sync_data(&self) -> Result<(), IoError> {
        let mut state = self.state()?;
        if state.broken {
            return Err(IoError::other("the disk fails"));
        }
        let state = &mut *state;
        if state.lies {
            return Ok(());
        }
        for change in state.since.drain(..) {
            change.apply(&mut state.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }
}
