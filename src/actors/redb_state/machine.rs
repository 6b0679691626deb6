//! The state as what a group of replicas drives.
//!
//! Commands are applied without a sync: the log has them. Pages that were on disk at the last sync
//! are not used again before the next one, so the file may grow by as much as it held then; and what
//! was not synced is applied again after a crash. So there is a sync after some commands, and when
//! nothing happens for a while.

use std::path::Path;
use std::sync::Arc;

use super::{Schema, Store, StoreError, encoded_size};
use crate::replica::{self, Digest, Digester, Export, Keyed};

/// After how many transactions there is a sync.
const SYNC_COMMITS: u64 = 1_024;
/// After how many bytes of commands there is a sync.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// What was applied since the last sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unsynced {
    commits: u64,
    bytes: u64,
}

/// The one writer of a [`Store`].
#[derive(Debug)]
pub struct Machine<S> {
    store: Arc<Store<S>>,
    applied: u64,
    unsynced: Unsynced,
}

impl<S: Schema> Machine<S> {
    /// A machine over a store that has no other one.
    ///
    /// # Errors
    /// When the file fails.
    pub fn new(store: Arc<Store<S>>) -> Result<Self, StoreError> {
        let applied = store.applied_index()?;
        // what a crash left need not be on disk yet, though it can be read
        let unsynced = Unsynced { commits: 1, bytes: 0 };
        Ok(Machine { store, applied, unsynced })
    }

    /// A machine over the store in this file.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Machine::new(Arc::new(Store::open(path)?))
    }

    /// The state, for those who read.
    pub fn store(&self) -> &Arc<Store<S>> {
        &self.store
    }
}

impl<S: Schema> replica::Machine for Machine<S> {
    type Command = S::Command;
    type Outcome = S::Outcome;
    type Error = StoreError;

    fn applied(&self) -> u64 {
        self.applied
    }

    fn mark(&self) -> Result<Vec<u8>, StoreError> {
        self.store.mark()
    }

    fn apply(
        &mut self,
        first: u64,
        commands: &[Keyed<S::Command>],
        mark: &[u8],
    ) -> Result<Vec<S::Outcome>, StoreError> {
        if first <= self.applied {
            return Err(StoreError::Order { first, applied: self.applied });
        }
        let outcomes = self.store.apply(first, commands, mark)?;
        if !commands.is_empty() {
            self.applied = first - 1 + commands.len() as u64;
        }
        self.unsynced.commits += 1;
        self.unsynced.bytes += commands.iter().map(|c| encoded_size(&c.command)).sum::<u64>();
        if self.unsynced.commits >= SYNC_COMMITS || self.unsynced.bytes >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(outcomes)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced.commits > 0 {
            self.store.sync()?;
            self.unsynced = Unsynced::default();
        }
        Ok(())
    }

    fn exporter(&self) -> Result<Export<StoreError>, StoreError> {
        let store = self.store.clone();
        Ok(Box::new(move |to| store.export(to)))
    }

    fn import(&mut self, from: &Path) -> Result<(), StoreError> {
        self.applied = self.store.import(from)?;
        self.unsynced = Unsynced::default();
        Ok(())
    }

    fn digester(&self) -> Result<Digester<StoreError>, StoreError> {
        let store = self.store.clone();
        Ok(Box::new(move || store.digest_at().map(|(applied, md5)| Digest { applied, md5 })))
    }

    fn idle(&mut self) {
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "sync of a replicated state failed"); // the next write fails too
        }
    }
}
