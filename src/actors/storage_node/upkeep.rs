//! The upkeep of a storage node: compaction, scrubbing, reports of corrupt items, orphans. The
//! rounds are tasks that the actor begins at its tick; what is due is decided in `maintenance`.
//!
//! - `UPKEEP-1` one round of each kind at a time; a round that fails or panics does not stop the
//!   next;
//! - `UPKEEP-2` metadata that does not answer holds up neither compaction nor requests;
//! - `UPKEEP-3` a copy is discarded only where metadata, asked while no pull of it runs here, says
//!   that it is neither in place nor wanted at this node, or that nothing uses the data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::disk::Disk;
use super::maintenance::{PAGE, Scrub, Sweep, aborted, judge, missing};
use super::message::StorageError;
use super::store::{Error, ScrubCursor};
use crate::actors::metadata::command::{Applied, Command};
use crate::actors::metadata::query::{DataStatus, Query, QueryReply};
use crate::actors::metadata::{Message, MetadataReply};
use crate::cluster::{CallError, Cluster, Scope};
use crate::types::{DataId, now_ms};

/// How much compaction does before it looks up.
const COMPACT_BYTES: u64 = 32 << 20;
/// How many such steps a round makes at most.
const COMPACT_STEPS: usize = 8;
/// How long metadata may take for an answer.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// The first pause of a registration that failed, and the longest.
const REGISTER_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Compaction and scrubbing; blocks.
pub fn disk_round(disk: &Disk, scrub: &mut Scrub<ScrubCursor>) {
    for _ in 0..COMPACT_STEPS {
        match disk.store().compact_step(COMPACT_BYTES) {
            Ok(progress) if progress.more => (),
            Ok(_) => break,
            Err(Error::Full) => break, // tried again at the next tick, when something was deleted
            Err(error) => {
                disk.judge(error);
                break;
            }
        }
    }
    if let Some((cursor, max_bytes)) = scrub.due(Instant::now()) {
        let step = disk.store().scrub_step(cursor, max_bytes);
        step.corrupt.into_iter().for_each(|data_id| disk.note_corrupt(data_id));
        scrub.advanced(Instant::now(), step.cursor, step.bytes_read);
    }
}

/// What the node has to settle with metadata.
pub struct Liaison {
    /// The items.
    pub disk: Arc<Disk>,
    /// The way to metadata.
    pub cluster: Cluster,
    /// Set once metadata counts this node as a storage member.
    pub registered: Arc<AtomicBool>,
    /// Set once the catalog of metadata is known to be the one of the items.
    pub known: Arc<AtomicBool>,
}

/// No answer, or one that does not fit; tried again in a later round.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoAnswer(String);

impl From<CallError> for NoAnswer {
    fn from(error: CallError) -> Self {
        NoAnswer(error.to_string())
    }
}

impl Liaison {
    /// Makes this node a storage member; tries until it is done.
    pub async fn register(&self) {
        let mut pause = REGISTER_PAUSE.0;
        loop {
            let instance = self.cluster.instance().to_owned();
            let catalog = uuid::Uuid::new_v4().as_u128();
            let command = Command::RegisterStorageNode { instance, catalog, now_ms: now_ms() };
            match self.apply(command).await {
                Ok(Applied::Registered { catalog }) => {
                    self.registered.store(true, Ordering::Relaxed);
                    return self.meet(catalog);
                }
                Ok(other) => tracing::warn!(?other, "unexpected answer to the registration"),
                Err(error) => tracing::debug!(%error, "not registered yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(REGISTER_PAUSE.1);
        }
    }

    /// Keeps the id of the catalog that our items belong to. Another one knows none of them, and
    /// would have all of them dropped for orphans: from then on nothing is (MAINT-5).
    fn meet(&self, catalog: u128) {
        match self.disk.store().belongs_to(catalog) {
            Ok(true) => self.known.store(true, Ordering::Relaxed),
            Ok(false) => tracing::error!(
                "metadata has another catalog than the one that these data were written under: it \
                 was lost, or came from elsewhere. Nothing is dropped here. Bring the old catalog \
                 back, or remove the file CATALOG of the storage node to give its data up"
            ),
            Err(error) => tracing::error!(%error, "cannot keep the id of the catalog"),
        }
    }

    /// Reports corrupt items and drops orphans, as far as due.
    pub async fn round(&self, mut sweep: OwnedMutexGuard<Sweep>) {
        if let Err(error) = self.report().await {
            tracing::debug!(%error, "corrupt items could not be reported yet");
        }
        if !self.known.load(Ordering::Relaxed) {
            return;
        }
        let disk = self.disk.clone();
        let items = tokio::task::spawn_blocking(move || disk.stats().items).await.unwrap_or(0);
        let mut swept = false;
        while sweep.due(Instant::now(), items) {
            swept = true;
            let cursor = sweep.cursor();
            if let Err(error) = self.sweep_page(&mut sweep).await {
                tracing::warn!(%error, "orphan check could not be done");
                sweep.failed(cursor);
            }
        }
        if swept && let Err(error) = self.compare(&mut sweep).await {
            tracing::debug!(%error, "the books could not be compared yet");
        }
    }

    /// Compares a page of metadata's books with what is here: a copy whose record was damaged beyond
    /// recognition is in no list of ours (MAINT-4).
    async fn compare(&self, sweep: &mut Sweep) -> Result<(), NoAnswer> {
        let page = Query::BlobsAfter { after: sweep.compared, max: PAGE as u32 };
        let blobs = match self.ask(page).await? {
            QueryReply::Blobs { blobs } => blobs,
            other => return Err(NoAnswer(format!("unexpected answer {other:?}"))),
        };
        sweep.compared = blobs.last().map(|blob| blob.data_id);
        let (disk, own) = (self.disk.clone(), self.cluster.instance().to_owned());
        let look = move || missing(&blobs, &own, |id| disk.info(id).is_some());
        let lost = tokio::task::spawn_blocking(look).await.map_err(|e| NoAnswer(e.to_string()))?;
        if let Some(first) = lost.first() {
            tracing::error!(count = lost.len(), %first, "copies that should be here are not");
        }
        lost.into_iter().for_each(|data_id| self.disk.note_corrupt(data_id));
        Ok(())
    }

    /// Tells metadata of each corrupt item: it is not offered any more, and made again.
    async fn report(&self) -> Result<(), NoAnswer> {
        for data_id in self.disk.unreported() {
            let instance = self.cluster.instance().to_owned();
            let command =
                Command::DropLocation { data_id, instance, again: false, now_ms: now_ms() };
            self.apply(command).await?;
            self.disk.reported(data_id);
        }
        Ok(())
    }

    async fn sweep_page(&self, sweep: &mut Sweep) -> Result<(), NoAnswer> {
        let (disk, after) = (self.disk.clone(), sweep.cursor());
        let read = tokio::task::spawn_blocking(move || disk.store().ids_page(after, PAGE)).await;
        let page = read.map_err(|e| NoAnswer(e.to_string()))?;
        let old = sweep.page(page.into_iter().map(|(id, stored_at, _)| (id, stored_at)), now_ms());
        if old.is_empty() {
            return Ok(());
        }
        let statuses = match self.ask(Query::DataStatus { data_ids: old.clone() }).await? {
            QueryReply::DataStatus { statuses } => statuses,
            other => return Err(NoAnswer(format!("unexpected answer {other:?}"))),
        };
        let verdict = judge(&old, &statuses, sweep.old_before(now_ms()));
        let mut delete = verdict.delete;
        if !verdict.abort.is_empty() {
            delete.extend(self.abort(verdict.abort).await?);
        }
        if !delete.is_empty() {
            tracing::info!(count = delete.len(), "orphans dropped");
            let disk = self.disk.clone();
            let deleted = tokio::task::spawn_blocking(move || disk.delete(&delete)).await;
            deleted.map_err(|e| NoAnswer(e.to_string()))?.map_err(|e| NoAnswer(e.to_string()))?;
        }
        Ok(())
    }

    /// Aborts ids in metadata and says which of them are aborted now (MAINT-2).
    async fn abort(&self, data_ids: Vec<DataId>) -> Result<Vec<DataId>, NoAnswer> {
        let command = Command::Abort { data_ids: data_ids.clone(), now_ms: now_ms() };
        match self.apply(command).await? {
            Applied::AbortedData { answers } => Ok(aborted(&data_ids, &answers)),
            other => Err(NoAnswer(format!("unexpected answer {other:?}"))),
        }
    }

    /// Deletes an item if it is not wanted here (UPKEEP-3).
    ///
    /// # Errors
    /// `Busy` before the catalog is known to be ours (MAINT-5), and where it does not answer.
    pub async fn discard(&self, data_id: DataId) -> Result<(), StorageError> {
        if !self.known.load(Ordering::Relaxed) {
            return Err(StorageError::Busy);
        }
        let wanted = self.is_wanted(data_id).await;
        let wanted = wanted.map_err(|e| StorageError::Io(format!("metadata: {e}")))?;
        if wanted {
            return Ok(());
        }
        let disk = self.disk.clone();
        let deleted = tokio::task::spawn_blocking(move || disk.delete(&[data_id])).await;
        deleted.map_err(|e| StorageError::Io(e.to_string()))?
    }

    async fn is_wanted(&self, data_id: DataId) -> Result<bool, NoAnswer> {
        let data_ids = vec![data_id];
        let blobs = match self.ask(Query::Blobs { data_ids: data_ids.clone() }).await? {
            QueryReply::Blobs { blobs } => blobs,
            other => return Err(NoAnswer(format!("unexpected answer {other:?}"))),
        };
        if let Some(blob) = blobs.first() {
            let own = self.cluster.instance();
            return Ok(blob.locations.iter().chain(&blob.lacking).any(|at| at == own));
        }
        match self.ask(Query::DataStatus { data_ids }).await? {
            QueryReply::DataStatus { statuses } => Ok(!matches!(
                statuses.first(),
                Some(DataStatus::Freed { .. } | DataStatus::Aborted)
            )),
            other => Err(NoAnswer(format!("unexpected answer {other:?}"))),
        }
    }

    async fn apply(&self, command: Command) -> Result<Applied, NoAnswer> {
        let scope = Scope::new(CALL_LIMIT);
        match self.cluster.command(&scope, Message::Apply(command)).await? {
            MetadataReply::Applied(Ok(applied)) => Ok(applied),
            other => Err(NoAnswer(format!("unexpected answer {other:?}"))),
        }
    }

    async fn ask(&self, query: Query) -> Result<QueryReply, NoAnswer> {
        let scope = Scope::new(CALL_LIMIT);
        match self.cluster.question(&scope, Message::Read(query)).await? {
            MetadataReply::Read(Ok(reply)) => Ok(reply),
            other => Err(NoAnswer(format!("unexpected answer {other:?}"))),
        }
    }
}
