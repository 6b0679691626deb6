//! Backups of a replicated state: an image taken of a running replica, and a replica that begins
//! with one.
//!
//! A state machine changes by its log alone. So a backup is not fed to a running group: it becomes
//! the state of a *new* group of one, and whoever else is to be of that group joins with a new disk,
//! and gets the state as any replica does that comes late.
//!
//! - `BACKUP-1` an image holds all that was answered before it was asked for;
//! - `BACKUP-2` a replica that begins with an image looks like one that has applied and purged its
//!   log up to there: nobody can follow it without having taken the image;
//! - `BACKUP-3` its group is a new one: replicas of the old one are strangers to it (`TALK-1`), and
//!   can neither feed it nor vote in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use openraft::CommittedLeaderId;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::actor::Slot;
use super::host::Mark;
use super::images::measure;
use super::log::LogStore;
use super::machine::{Digest, Machine};
use super::synced::Synced;
use super::types::{LogId, Membership, Peer};

/// An image that was taken. Its file has no name any more: it goes with this.
#[derive(Debug)]
pub struct Taken {
    /// Its bytes.
    pub file: File,
    /// Its length in bytes.
    pub len: u64,
    /// Its CRC-64/NVME.
    pub crc64: u64,
    /// The next one is taken when this is let go: each of them needs the room of the whole state.
    pub turn: OwnedMutexGuard<()>,
}

/// Why no image was taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// One is on its way already.
    #[error("another image is being taken")]
    Busy,
    /// The replica does not run.
    #[error("the replica does not run")]
    NotRunning,
    /// What was answered so far cannot be told.
    #[error(transparent)]
    Barrier(#[from] super::reads::ReadError),
    /// The disk would not.
    #[error("image: {0}")]
    Disk(String),
}

/// Takes an image of the own replica.
pub type Take =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Taken, TakeError>> + Send>> + Send + Sync>;

/// Takes images of the replica in this slot.
pub fn take_from<M: Machine>(slot: Slot<M>) -> Take {
    let turn = Arc::new(Mutex::new(()));
    Arc::new(move || {
        let (slot, turn) = (slot.clone(), turn.clone());
        Box::pin(async move {
            let turn = turn.try_lock_owned().map_err(|_| TakeError::Busy)?;
            take(&slot, turn).await
        })
    })
}

async fn take<M: Machine>(slot: &Slot<M>, turn: OwnedMutexGuard<()>) -> Result<Taken, TakeError> {
    let replica = slot.borrow().clone().ok_or(TakeError::NotRunning)?;
    replica.barrier().await?; // BACKUP-1
    let path = replica.host().image_path();
    replica.host().export_to(path.clone()).await.map_err(TakeError::Disk)?;
    let open = move || -> std::io::Result<(File, (u64, u64))> {
        let file = File::open(&path);
        let measured = measure(&path);
        std::fs::remove_file(&path)?;
        Ok((file?, measured?))
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let opened = opened.map_err(|e| TakeError::Disk(e.to_string()))?;
    let (file, (len, crc64)) = opened.map_err(|e| TakeError::Disk(e.to_string()))?;
    Ok(Taken { file, len, crc64, turn })
}

/// Has a new machine take an image, and reads all of it.
///
/// # Errors
/// When it is no image of such a machine, or the disk will not.
pub fn import<M: Machine>(machine: &mut M, image: &Path) -> Result<Digest, M::Error> {
    machine.import(image)?;
    machine.digester()?()
}

/// Makes a machine, and a log in a new file beside it, those of the one replica of a new group
/// (BACKUP-2, BACKUP-3).
///
/// # Errors
/// When the disk will not.
pub fn seed<M: Machine>(
    machine: &mut M,
    log: &Path,
    group: u128,
    instance: &str,
) -> Result<(), String> {
    let log = LogStore::open_file(log, Synced::Always, Arc::new(())).map_err(|e| e.to_string())?;
    let own = Peer { id: log.id(), instance: instance.to_owned() };
    let at = LogId::new(CommittedLeaderId::new(1, own.id), 1);
    let voters = vec![BTreeSet::from([own.id])];
    let alone = openraft::Membership::new(voters, BTreeMap::from([(own.id, own)]));
    let mark = Mark { applied: Some(at), membership: Membership::new(Some(at), alone) };
    let mark = bincode::serialize(&mark).map_err(|e| e.to_string())?;
    let written = machine.apply(machine.applied() + 1, &[], &mark).and_then(|_| machine.sync());
    written.map_err(|e| e.to_string())?;
    log.seed(group, at).map_err(|e| e.to_string())
}
