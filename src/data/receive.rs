//! The receiving half of a transfer: from a body into a store.
//!
//! The connection is read while a blocking thread writes the batch before, one at a time; while
//! the peer is slow no thread is held. Used by `server` (uploads) and by nodes that pull a copy.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, JoinHandle};

use super::store::{BlobStore, BlobWriter};
use super::words::{StorageError, StoredInfo};
use crate::types::DataId;

/// A batch is handed to the writer when it holds this many bytes, or as soon as the writer is
/// idle.
const BATCH: usize = 256 * 1024;

/// Where bytes come from.
pub trait Source: Send {
    /// The next bytes, or `None` after a proper end. Must be cancel safe.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, String>>> + Send;
}

/// What is known of an item before its bytes come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Its exact length.
    pub len: Option<u64>,
    /// Its MD5.
    pub md5: Option<[u8; 16]>,
}

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The store would not.
    #[error(transparent)]
    Refused(#[from] StorageError),
    /// The source broke off or stood still.
    #[error("source broke off: {0}")]
    Broken(String),
}

impl From<JoinError> for ReceiveError {
    fn from(error: JoinError) -> Self {
        // Only a panic in the store, or the end of the runtime.
        ReceiveError::Refused(StorageError::Io(error.to_string()))
    }
}

type Writer = Box<dyn BlobWriter>;

/// Streams a whole item into the store. Dropping the future discards what was written.
///
/// # Errors
/// Nothing is stored then; an item other than the expected one is an error too (DATA-2).
pub async fn receive(
    store: Arc<dyn BlobStore>,
    data_id: DataId,
    expected: Expected,
    source: &mut impl Source,
    stall: Duration,
) -> Result<StoredInfo, ReceiveError> {
    let len = expected.len;
    let writer = tokio::task::spawn_blocking(move || store.writer(data_id)).await??;
    let mut lane = Lane { idle: Some(writer), busy: None, batch: Vec::new(), size: 0 };
    let mut received = 0;
    while let Some(bytes) = lane.feed(source, stall).await? {
        received += bytes.len() as u64;
        if len.is_some_and(|len| received > len) {
            return Err(wrong_length(len, received));
        }
        lane.push(bytes);
    }
    if len.is_some_and(|len| received != len) {
        return Err(wrong_length(len, received));
    }
    let writer = lane.drain().await?;
    Ok(tokio::task::spawn_blocking(move || writer.finish(expected.md5)).await??)
}

fn wrong_length(len: Option<u64>, received: u64) -> ReceiveError {
    let len = len.unwrap_or_default();
    let text = format!("body has {received} bytes or more, not the declared {len}");
    ReceiveError::Refused(StorageError::Invalid(text))
}

/// The writer, the batch that it writes, and the batch that is gathered meanwhile.
struct Lane {
    idle: Option<Writer>,
    busy: Option<JoinHandle<Result<Writer, StorageError>>>,
    batch: Vec<Bytes>,
    size: usize,
}

impl Lane {
    fn push(&mut self, bytes: Bytes) {
        self.size += bytes.len();
        self.batch.push(bytes);
        self.start();
    }

    /// Hands the batch to the writer, if that is idle.
    fn start(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Some(mut writer) = self.idle.take() {
            let batch = std::mem::take(&mut self.batch);
            self.size = 0;
            self.busy = Some(tokio::task::spawn_blocking(move || {
                for bytes in batch {
                    writer.write(&bytes)?;
                }
                Ok(writer)
            }));
        }
    }

    /// Waits for the writer; at once where it is idle.
    async fn settle(&mut self) -> Result<(), ReceiveError> {
        if let Some(busy) = &mut self.busy {
            let written = busy.await;
            self.busy = None;
            self.idle = Some(written??);
        }
        Ok(())
    }

    /// The next bytes of the source; keeps the writer going meanwhile, and waits while the batch
    /// is full.
    async fn feed(
        &mut self,
        source: &mut impl Source,
        stall: Duration,
    ) -> Result<Option<Bytes>, ReceiveError> {
        loop {
            let full = self.size >= BATCH;
            let writing = self.busy.is_some();
            tokio::select! {
                settled = self.settle(), if writing => {
                    settled?;
                    self.start();
                }
                next = tokio::time::timeout(stall, source.next()), if !full => {
                    let stood_still = |_| ReceiveError::Broken("no bytes for too long".into());
                    return next.map_err(stood_still)?.transpose().map_err(ReceiveError::Broken);
                }
            }
        }
    }

    /// Writes what is left.
    async fn drain(mut self) -> Result<Writer, ReceiveError> {
        loop {
            self.settle().await?;
            self.start();
            if self.busy.is_none() {
                break;
            }
        }
        Ok(self.idle.expect("an idle lane has its writer"))
    }
}
