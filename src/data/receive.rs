//! The receiving half of a transfer: from a body into a store.
//!
//! The connection is read while a blocking thread writes the batch before, one at a time; while
//! the peer is slow no thread is held. Used by `server` (uploads) and by nodes that pull a copy.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, JoinHandle};

use super::store::{BlobStore, BlobWriter, Md5};
use super::words::{Hashes, StorageError, StoredInfo};
use crate::types::DataId;

/// A batch is handed to the writer when it holds this many bytes, or as soon as the writer is
/// idle.
const BATCH: usize = 256 * 1024;

/// Where bytes come from.
pub trait Source: Send {
    /// The next bytes, or `None` after a proper end. Must be cancel safe.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, String>>> + Send;

    /// The hashes that came behind the bytes; asked for after a proper end.
    fn hashes(&mut self) -> Option<Hashes> {
        None
    }
}

/// What is known of an item before its bytes come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Its exact length.
    pub len: Option<u64>,
    /// Its MD5.
    pub md5: Option<[u8; 16]>,
    /// Whether its hashes come behind it; its MD5 is not computed then.
    pub hashed: bool,
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
    let md5 = if expected.hashed { Md5::Given } else { Md5::Computed };
    let begin = Item::New(store, data_id, md5);
    let mut lane = Lane { idle: Some(begin), busy: None, batch: Vec::new(), size: 0 };
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
    let hashes = source.hashes();
    let finish = move |writer: Writer| match (expected.hashed, hashes) {
        (false, _) => writer.finish(expected.md5),
        (true, Some(hashes)) => writer.finish_hashed(hashes),
        (true, None) => Err(StorageError::Invalid("no hashes came behind the body".into())),
    };
    lane.end(finish).await
}

fn wrong_length(len: Option<u64>, received: u64) -> ReceiveError {
    let len = len.unwrap_or_default();
    let text = format!("body has {received} bytes or more, not the declared {len}");
    ReceiveError::Refused(StorageError::Invalid(text))
}

/// An item that is to be written, or is begun. Begun on a blocking thread, with its first batch.
enum Item {
    New(Arc<dyn BlobStore>, DataId, Md5),
    Begun(Writer),
}

impl Item {
    fn write(self, batch: &[Bytes]) -> Result<Writer, StorageError> {
        let mut writer = match self {
            Item::New(store, data_id, md5) => store.writer(data_id, md5)?,
            Item::Begun(writer) => writer,
        };
        for bytes in batch {
            writer.write(bytes)?;
        }
        Ok(writer)
    }
}

/// The writer, the batch that it writes, and the batch that is gathered meanwhile.
struct Lane {
    idle: Option<Item>,
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
        if let Some(item) = self.idle.take() {
            let batch = std::mem::take(&mut self.batch);
            self.size = 0;
            self.busy = Some(tokio::task::spawn_blocking(move || item.write(&batch)));
        }
    }

    /// Waits for the writer; at once where it is idle.
    async fn settle(&mut self) -> Result<(), ReceiveError> {
        if let Some(busy) = &mut self.busy {
            let written = busy.await;
            self.busy = None;
            self.idle = Some(Item::Begun(written??));
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

    /// Writes what is left, and finishes the item.
    async fn end(
        mut self,
        finish: impl FnOnce(Writer) -> Result<StoredInfo, StorageError> + Send + 'static,
    ) -> Result<StoredInfo, ReceiveError> {
        self.settle().await?;
        let item = self.idle.expect("a settled lane has its item");
        let batch = self.batch;
        let last = move || finish(item.write(&batch)?);
        Ok(tokio::task::spawn_blocking(last).await??)
    }
}
