//! Runs a machine under openraft: applies what is committed, tells those who wait, and makes and
//! takes images.
//!
//! The machine itself is the snapshot that openraft knows: "built" means that all it applied is on
//! disk, so that the log before may go. A file is made only when another replica needs one.
//!
//! - `HOST-1` one use of the machine at a time;
//! - `HOST-2` the place in the log is kept in the transaction of what was applied there;
//! - `HOST-3` who waits for an outcome is told after it was applied here, or is dropped.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageIOError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::log::Held;
use super::machine::{Digest, Exec, Image, Keyed, Machine, ProposeError};
use super::types::{
    Entry, ImageMeta, ImageOf, Item, LogId, Membership, ReplicaId, StorageError, Types,
};
use crate::points::{self, Point};

/// What a machine keeps for us beside its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The last entry that was applied.
    pub applied: Option<LogId>,
    /// The last membership that was applied.
    pub membership: Membership,
}

/// Takes the outcomes of one proposal, in the order of its commands, or why there are none.
pub type Waiter<O> = Box<dyn FnOnce(Result<Vec<O>, ProposeError>) + Send>;

/// Who waits for which proposal.
pub struct Waiting<O>(Mutex<HashMap<u128, Waiter<O>>>);

impl<O> Default for Waiting<O> {
    fn default() -> Self {
        Waiting(Mutex::default())
    }
}

impl<O> Waiting<O> {
    /// Waits for a proposal's outcomes.
    pub fn add(&self, proposal: u128, waiter: Waiter<O>) {
        self.table().insert(proposal, waiter);
    }

    /// Waits no longer.
    pub fn take(&self, proposal: u128) -> Option<Waiter<O>> {
        self.table().remove(&proposal)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u128, Waiter<O>>> {
        self.0.lock().expect("no panic while the table is held")
    }
}

/// A machine under openraft. Cheap to clone; all clones are the same machine.
pub struct Host<M: Machine> {
    inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for Host<M> {
    fn clone(&self) -> Self {
        Host { inner: self.inner.clone() }
    }
}

struct Inner<M: Machine> {
    machine: Mutex<M>,
    mark: Mutex<Mark>,
    waiting: Waiting<M::Outcome>,
    /// The index in the log up to which was applied, for those who wait to read.
    applied: watch::Sender<u64>,
    /// A folder for images.
    images: PathBuf,
    images_made: AtomicU64,
    exec: Exec,
    _held: Held,
}

impl<M: Machine> Host<M> {
    /// Takes over a machine; images are made and received in the folder `images`.
    ///
    /// # Errors
    /// When the machine cannot be read.
    pub async fn new(machine: M, images: PathBuf, exec: Exec, held: Held) -> Result<Self, String> {
        let open = move || {
            // what a crash left applied need not be on disk yet, and the log may go because of it
            let mut machine = machine;
            machine.sync().map_err(|e| e.to_string())?;
            read_mark(&machine).map(|mark| (machine, mark))
        };
        let (machine, mark) = exec.run(open).await?;
        let applied = watch::Sender::new(index_of(mark.applied.as_ref()));
        let (machine, mark) = (Mutex::new(machine), Mutex::new(mark));
        let waiting = Waiting::default();
        let images_made = AtomicU64::new(0);
        let inner =
            Inner { machine, mark, waiting, applied, images, images_made, exec, _held: held };
        Ok(Host { inner: Arc::new(inner) })
    }

    /// Who waits for outcomes.
    pub fn waiting(&self) -> &Waiting<M::Outcome> {
        &self.inner.waiting
    }

    /// The index in the log up to which was applied.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.applied.subscribe()
    }

    /// Writes an image of the machine as it is now, and says what it holds.
    ///
    /// # Errors
    /// When the disk would not.
    pub async fn export_to(&self, to: PathBuf) -> Result<ImageMeta, String> {
        let inner = self.inner.clone();
        self.inner.exec.run(move || inner.export(&to)).await
    }

    /// Reads the whole state of the machine.
    ///
    /// # Errors
    /// When the disk would not.
    pub async fn digest(&self) -> Result<Digest, String> {
        let inner = self.inner.clone();
        let read = move || {
            let digester = inner.machine().digester().map_err(|e| e.to_string())?;
            digester().map_err(|e| e.to_string()) // the machine goes on meanwhile
        };
        self.inner.exec.run(read).await
    }

    /// A name for a file with an image: another one at each call.
    pub fn image_path(&self) -> PathBuf {
        let n = self.inner.images_made.fetch_add(1, Ordering::Relaxed);
        self.inner.images.join(format!("image-{n}"))
    }

    /// Lets the machine tidy up.
    pub async fn rest(&self) {
        let inner = self.inner.clone();
        self.inner.exec.run(move || inner.machine().idle()).await;
    }

    async fn with<T: Send + 'static>(
        &self,
        what: fn(AnyError) -> StorageIOError<ReplicaId>,
        work: impl FnOnce(&Inner<M>) -> Result<T, String> + Send + 'static,
    ) -> Result<T, StorageError> {
        let inner = self.inner.clone();
        let done = self.inner.exec.run(move || work(&inner)).await;
        done.map_err(|error| what(AnyError::error(error)).into())
    }
}

impl<M: Machine> Inner<M> {
    fn machine(&self) -> std::sync::MutexGuard<'_, M> {
        self.machine.lock().expect("a machine that panicked ended its replica")
    }

    fn mark(&self) -> Mark {
        self.mark.lock().expect("no panic while the mark is held").clone()
    }

    fn apply(&self, entries: Vec<Entry>) -> Result<usize, String> {
        let mut mark = self.mark();
        let (mut commands, mut proposals) = (Vec::new(), Vec::new());
        let count = entries.len();
        for Entry { log_id, payload } in entries {
            match payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) => {
                    proposals.push((proposal.id, proposal.items.len()));
                    let decode = |item: Item| {
                        let command = bincode::deserialize(&item.body);
                        command.map(|command| Keyed { key: item.key, command })
                    };
                    for item in proposal.items {
                        commands.push(decode(item).map_err(|e| format!("entry {log_id}: {e}"))?);
                    }
                }
                EntryPayload::Membership(membership) => {
                    mark.membership = Membership::new(Some(log_id), membership);
                }
            }
            mark.applied = Some(log_id);
        }
        let bytes = bincode::serialize(&mark).map_err(|e| e.to_string())?;
        let mut machine = self.machine();
        points::at(Point::Committed);
        let first = machine.applied() + 1;
        let outcomes = machine.apply(first, &commands, &bytes).map_err(|e| e.to_string())?;
        drop(machine);
        points::at(Point::Applied);
        self.applied_to(mark);
        let mut outcomes = outcomes.into_iter();
        for (id, commands) in proposals {
            let mine = outcomes.by_ref().take(commands).collect();
            if let Some(waiter) = self.waiting.take(id) {
                waiter(Ok(mine)); // HOST-3
            }
        }
        Ok(count)
    }

    fn applied_to(&self, mark: Mark) {
        let index = index_of(mark.applied.as_ref());
        *self.mark.lock().expect("no panic while the mark is held") = mark;
        self.applied.send_replace(index);
    }

    /// Makes sure that all that was applied is on disk, and says what that is.
    fn sync(&self) -> Result<ImageMeta, String> {
        let mut machine = self.machine();
        let mark = self.mark(); // not newer than what is applied: `apply` tells it afterwards
        machine.sync().map_err(|e| e.to_string())?;
        Ok(meta_of(&mark))
    }

    fn export(&self, to: &Path) -> Result<ImageMeta, String> {
        let exporter = self.machine().exporter().map_err(|e| e.to_string())?;
        let mark = exporter(to).map_err(|e| e.to_string())?; // the machine goes on meanwhile
        Ok(meta_of(&decode_mark(&mark)?))
    }

    fn import(&self, from: &Path) -> Result<(), String> {
        let mut machine = self.machine();
        machine.import(from).map_err(|e| e.to_string())?;
        points::at(Point::ImageTaken);
        let mark = read_mark(&*machine)?;
        drop(machine);
        self.applied_to(mark);
        Ok(())
    }
}

fn read_mark<M: Machine>(machine: &M) -> Result<Mark, String> {
    decode_mark(&machine.mark().map_err(|e| e.to_string())?)
}

fn decode_mark(bytes: &[u8]) -> Result<Mark, String> {
    match bytes.is_empty() {
        true => Ok(Mark::default()),
        false => bincode::deserialize(bytes).map_err(|e| format!("mark: {e}")),
    }
}

fn index_of(applied: Option<&LogId>) -> u64 {
    applied.map_or(0, |id| id.index)
}

fn meta_of(mark: &Mark) -> ImageMeta {
    let snapshot_id = mark.applied.as_ref().map_or_else(|| "0".into(), ToString::to_string);
    SnapshotMeta {
        last_log_id: mark.applied,
        last_membership: mark.membership.clone(),
        snapshot_id,
    }
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Host<M> {
    async fn build_snapshot(&mut self) -> Result<ImageOf, StorageError> {
        let meta = self.with(StorageIOError::write_state_machine, Inner::sync).await?;
        points::at(Point::Synced);
        Ok(ImageOf { meta, snapshot: Box::new(Image::Live) })
    }
}

impl<M: Machine> RaftStateMachine<Types> for Host<M> {
    type SnapshotBuilder = Host<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let mark = self.inner.mark();
        Ok((mark.applied, mark.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let apply = move |inner: &Inner<M>| inner.apply(entries);
        let count = self.with(StorageIOError::write_state_machine, apply).await?;
        Ok(vec![(); count])
    }

    async fn get_snapshot_builder(&mut self) -> Host<M> {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError> {
        Ok(Box::new(Image::File(self.image_path())))
    }

    async fn install_snapshot(
        &mut self,
        _meta: &ImageMeta,
        image: Box<Image>,
    ) -> Result<(), StorageError> {
        let Image::File(path) = *image else { return Ok(()) }; // the own one
        self.with(StorageIOError::write_state_machine, move |inner| inner.import(&path)).await
    }

    /// The machine as it stands on disk after a start, or as it was last synced or taken over.
    async fn get_current_snapshot(&mut self) -> Result<Option<ImageOf>, StorageError> {
        let mark = self.inner.mark();
        let image = || ImageOf { meta: meta_of(&mark), snapshot: Box::new(Image::Live) };
        Ok(mark.applied.is_some().then(image))
    }
}
