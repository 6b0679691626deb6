//! Where those who read find the store that a replica's machine has open.

use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::{Machine, Schema, Store, StoreError};

/// How long a new life waits for readers of the last one to let go of the file.
const IN_USE: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// The place: filled at each opening, empty once the store is closed.
pub struct Stores<S>(Arc<Mutex<Weak<Store<S>>>>);

impl<S> Clone for Stores<S> {
    fn clone(&self) -> Self {
        Stores(self.0.clone())
    }
}

impl<S> Default for Stores<S> {
    fn default() -> Self {
        Stores(Arc::default())
    }
}

impl<S: Schema> Stores<S> {
    /// Opens the machine in a file, and tells where its store is. Blocks while the file is in use by
    /// an earlier life, for a while.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(&self, path: &Path) -> Result<Machine<S>, StoreError> {
        let begun = Instant::now();
        let machine = loop {
            match Machine::open(path) {
                Err(StoreError::InUse { .. }) if begun.elapsed() < IN_USE => {
                    std::thread::sleep(PAUSE);
                }
                opened => break opened?,
            }
        };
        *self.place() = Arc::downgrade(machine.store());
        Ok(machine)
    }

    /// The store, while it is open.
    pub fn get(&self) -> Option<Arc<Store<S>>> {
        self.place().upgrade()
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Weak<Store<S>>> {
        self.0.lock().expect("no panic while the place is held")
    }
}
