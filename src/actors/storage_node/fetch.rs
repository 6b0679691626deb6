//! Pulling a copy of an item from a peer. Runs as a task of the storage node actor.
//!
//! - `FETCH-1` what is stored has the length and MD5 that the source says it has;
//! - `FETCH-2` one pull per item at a time, and at most [`PULLS`] in all; others are told to wait;
//! - `FETCH-3` a pull goes on when its caller stops waiting: a retry then finds the copy here.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::disk::{Disk, SharedDisk};
use super::message::{INLINE_LIMIT, Message, Reply, StorageError, StoredInfo};
use crate::cluster::{Cluster, Scope, To};
use crate::data::client::{DataClient, Download, TransferError};
use crate::data::receive::{Expected, ReceiveError, Source, receive};
use crate::types::{DataId, InstanceId};

/// How many pulls run at once.
pub const PULLS: usize = 8;
/// How long a call to the source may take.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// How long a pull may move no byte; above the client's own limit.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// The pulls that run.
#[derive(Clone, Default)]
pub struct Pulls(Arc<Mutex<HashSet<DataId>>>);

/// One running pull.
pub struct Pull {
    pulls: Pulls,
    data_id: DataId,
}

impl Pulls {
    /// Begins a pull, if there is room for it (FETCH-2).
    pub fn begin(&self, data_id: DataId) -> Option<Pull> {
        let mut running = self.0.lock().expect("no panic while the set is held");
        let begun = running.len() < PULLS && running.insert(data_id);
        begun.then(|| Pull { pulls: self.clone(), data_id })
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.0.lock().expect("no panic while the set is held").len()
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        let mut running = self.pulls.0.lock().expect("no panic while the set is held");
        running.remove(&self.data_id);
    }
}

/// What a pull works with.
pub struct Puller {
    /// Where the copy goes.
    pub disk: Arc<Disk>,
    /// The way to the sources.
    pub cluster: Cluster,
    /// The streams from the sources.
    pub client: DataClient,
}

impl Puller {
    /// Pulls the item from the first source that has a good copy, unless one is here already.
    ///
    /// # Errors
    /// That of the last source tried; `NotFound` where there was none.
    pub async fn pull(
        &self,
        data_id: DataId,
        from: &[InstanceId],
    ) -> Result<StoredInfo, StorageError> {
        let disk = self.disk.clone();
        let here = tokio::task::spawn_blocking(move || disk.verified(data_id)).await;
        if let Ok(Some(info)) = here {
            return Ok(info);
        }
        let mut last = StorageError::NotFound(data_id);
        for instance in from.iter().filter(|i| *i != self.cluster.instance()) {
            match self.pull_from(data_id, instance).await {
                Ok(info) => {
                    self.disk.reported(data_id); // repaired
                    return Ok(info);
                }
                Err(StorageError::Full) => return Err(StorageError::Full),
                Err(error) => {
                    tracing::debug!(%data_id, instance, %error, "copy could not be pulled");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn pull_from(&self, data_id: DataId, instance: &str) -> Result<StoredInfo, StorageError> {
        let infos = self.ask(instance, Message::Info { data_ids: vec![data_id] }).await?;
        let Reply::Infos(infos) = infos else { return Err(unexpected(&infos)) };
        let info = infos.into_iter().next().flatten().ok_or(StorageError::NotFound(data_id))?;
        let (offset, len) = (0, info.len);
        let mut source = if len <= INLINE_LIMIT {
            match self.ask(instance, Message::Read { data_id, offset, len }).await? {
                Reply::Bytes(bytes) => Copy::Whole(Some(bytes)),
                other => return Err(unexpected(&other)),
            }
        } else {
            let ticket =
                match self.ask(instance, Message::BeginRead { data_id, offset, len }).await? {
                    Reply::Ticket(ticket) => ticket,
                    other => return Err(unexpected(&other)),
                };
            Copy::Stream(self.client.get(&ticket, data_id).await.map_err(from_transfer)?)
        };
        let store = Arc::new(SharedDisk(self.disk.clone()));
        // FETCH-1: a copy is hashed here in full
        let expected = Expected { len: Some(len), md5: Some(info.md5), hashed: false };
        match receive(store, data_id, expected, &mut source, STALL_LIMIT).await {
            Ok(stored) => Ok(stored),
            Err(ReceiveError::Refused(error)) => Err(error),
            Err(broken) => Err(StorageError::Io(broken.to_string())),
        }
    }

    async fn ask(&self, instance: &str, message: Message) -> Result<Reply, StorageError> {
        let scope = Scope::new(CALL_LIMIT);
        let answer = self.cluster.call(&scope, To::Instance(instance), message).await;
        answer.map_err(|e| StorageError::Io(format!("{instance}: {e}")))?
    }
}

fn unexpected(reply: &Reply) -> StorageError {
    StorageError::Io(format!("unexpected reply {reply:?}"))
}

fn from_transfer(error: TransferError) -> StorageError {
    match error {
        TransferError::Refused(error) => error,
        error => StorageError::Io(error.to_string()),
    }
}

/// The bytes of a peer's copy.
enum Copy {
    Whole(Option<Bytes>),
    Stream(Download),
}

impl Source for Copy {
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        match self {
            Copy::Whole(bytes) => bytes.take().map(Ok),
            Copy::Stream(download) => Some(download.next().await?.map_err(|e| e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_pulled_once_at_a_time_and_only_so_many_together() {
        let pulls = Pulls::default();
        let first = pulls.begin(DataId(0));
        assert!(first.is_some());
        assert!(pulls.begin(DataId(0)).is_none());
        let more: Vec<_> = (1..20).filter_map(|n| pulls.begin(DataId(n))).collect();
        assert_eq!((more.len(), pulls.running()), (PULLS - 1, PULLS));
        drop(first);
        assert!(pulls.begin(DataId(0)).is_some());
    }
}
