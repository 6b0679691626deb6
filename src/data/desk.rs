//! The desk: where the data server finds the transfers of the storage actor that lives now.
//!
//! The server outlives the actor. At its start the actor opens the desk with its store; when its
//! state drops, by whatever cause, the desk closes: tickets die and the connections of running
//! transfers break (DATA-5). Nothing here does I/O.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::store::BlobStore;
use super::ticket::{Direction, Grant, Tickets};
use super::words::{StorageError, Ticket};
use crate::types::{DataId, now_ms};

/// How many transfers, and how long a ticket may wait.
#[derive(Clone, Copy, Debug)]
pub struct TransferLimits {
    /// Tickets out plus transfers running; beyond it [`StorageError::Busy`].
    pub transfers: usize,
    /// How long a ticket may wait to be presented.
    pub ticket_life: Duration,
}

impl Default for TransferLimits {
    fn default() -> Self {
        TransferLimits { transfers: 128, ticket_life: Duration::from_secs(10) }
    }
}

/// The place where server and actor meet. One per node.
#[derive(Default)]
pub struct Desk {
    current: Mutex<Option<Arc<Transfers>>>,
}

impl Desk {
    /// Opens the desk for a store reachable at `address`; an earlier opening is closed.
    pub fn open(
        self: &Arc<Self>,
        address: String,
        store: Arc<dyn BlobStore>,
        limits: TransferLimits,
    ) -> OpenDesk {
        let life_ms = limits.ticket_life.as_millis() as u64;
        let transfers = Arc::new(Transfers {
            address,
            store,
            tickets: Mutex::new(Tickets::new(limits.transfers, life_ms)),
            closed: CancellationToken::new(),
        });
        if let Some(before) = self.slot().replace(transfers.clone()) {
            before.closed.cancel();
        }
        OpenDesk { desk: self.clone(), transfers }
    }

    /// The transfers of the actor that lives now, if one does.
    pub(super) fn current(&self) -> Option<Arc<Transfers>> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Transfers>>> {
        self.current.lock().expect("no panic while the slot is held")
    }
}

/// Keeps the desk open; part of the actor's state.
pub struct OpenDesk {
    desk: Arc<Desk>,
    transfers: Arc<Transfers>,
}

impl OpenDesk {
    /// The tickets of this opening.
    pub fn transfers(&self) -> &Arc<Transfers> {
        &self.transfers
    }
}

impl Drop for OpenDesk {
    fn drop(&mut self) {
        self.transfers.closed.cancel();
        let mut slot = self.desk.slot();
        if slot.as_ref().is_some_and(|t| Arc::ptr_eq(t, &self.transfers)) {
            *slot = None;
        }
    }
}

/// Tickets and store of one life of the actor.
pub struct Transfers {
    address: String,
    store: Arc<dyn BlobStore>,
    tickets: Mutex<Tickets>,
    closed: CancellationToken,
}

impl Transfers {
    /// Gives out a ticket.
    ///
    /// # Errors
    /// [`StorageError::Busy`] when there are too many transfers.
    pub fn grant(&self, grant: Grant) -> Result<Ticket, StorageError> {
        let id = rand::random::<u128>();
        let expires_ms = self.book().issue(id, grant, now_ms()).ok_or(StorageError::Busy)?;
        Ok(Ticket { id, address: self.address.clone(), expires_ms })
    }

    /// Tickets that wait and transfers that run.
    pub fn counts(&self) -> (usize, usize) {
        self.book().counts()
    }

    /// Takes a ticket; the transfer counts as running until the guard drops.
    pub(super) fn begin(
        self: &Arc<Self>,
        id: u128,
        data_id: DataId,
        direction: Direction,
    ) -> Option<(Grant, Running)> {
        let grant = self.book().take(id, data_id, direction, now_ms())?;
        Some((grant, Running(self.clone())))
    }

    /// Resolves when the actor ended.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    fn book(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().expect("no panic while the book is held")
    }
}

/// One running transfer.
pub(super) struct Running(Arc<Transfers>);

impl Running {
    /// The store to move bytes with.
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.0.store
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.book().done();
    }
}
