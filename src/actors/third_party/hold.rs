//! Bodies that wait to be fetched over the data plane, each with the ticket that was given for it.
//!
//! The actor puts them in; the data server of the node takes them out, as from any store. Nothing
//! can be written here.
//!
//! - `HOLD-1` a body is given once, and only as a whole;
//! - `HOLD-2` one that is not fetched while its ticket is good is dropped, which ends its source;
//! - `HOLD-3` when the source of a stream fails, the stream ends in an error or early, never well.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::spool::SpoolFile;
use crate::actors::storage_node::message::StorageError;
use crate::data::store::{BlobStore, BlobWriter, Md5, Pieces};
use crate::types::{DataId, UnixMillis};

/// How a piece of a stream fails.
pub type PieceError = String;

/// A body that waits.
#[derive(Debug)]
pub enum Held {
    /// All of it, in memory.
    Bytes(Bytes),
    /// All of it, on disk.
    File(SpoolFile),
    /// As it comes.
    Stream(mpsc::Receiver<Result<Bytes, PieceError>>),
}

struct Entry {
    held: Held,
    len: u64,
    until: UnixMillis,
}

/// The bodies that wait on this node.
#[derive(Default)]
pub struct Hold {
    waiting: Mutex<HashMap<DataId, Entry>>,
}

impl Hold {
    /// Keeps a body of so many bytes until then.
    pub fn put(&self, data_id: DataId, held: Held, len: u64, until: UnixMillis) {
        self.lock().insert(data_id, Entry { held, len, until });
    }

    /// Drops what was not fetched in time (HOLD-2).
    pub fn sweep(&self, now: UnixMillis) {
        self.lock().retain(|_, entry| entry.until > now);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DataId, Entry>> {
        self.waiting.lock().expect("no panic while the table is held")
    }
}

/// The store that the data server sees.
pub struct HoldStore(pub Arc<Hold>);

impl BlobStore for HoldStore {
    fn writer(&self, _data_id: DataId, _md5: Md5) -> Result<Box<dyn BlobWriter>, StorageError> {
        Err(StorageError::Invalid("third-party nodes take no data".into()))
    }

    fn reader(&self, data_id: DataId, offset: u64, len: u64) -> Result<Pieces, StorageError> {
        let entry = self.0.lock().remove(&data_id).ok_or(StorageError::NotFound(data_id))?;
        if (offset, len) != (0, entry.len) {
            return Err(StorageError::Invalid("only whole bodies".into())); // HOLD-1
        }
        let io = |e: io::Error| StorageError::Io(e.to_string());
        Ok(match entry.held {
            Held::Bytes(bytes) => Box::new(std::iter::once(Ok(bytes)).filter(non_empty)),
            Held::File(file) => Box::new(file.pieces(0, len).map(move |p| p.map_err(io))),
            Held::Stream(mut pieces) => Box::new(std::iter::from_fn(move || {
                pieces.blocking_recv().map(|p| p.map_err(StorageError::Io))
            })),
        })
    }
}

fn non_empty(piece: &Result<Bytes, StorageError>) -> bool {
    piece.as_ref().is_ok_and(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_given_once_and_whole_and_not_after_its_time() {
        let hold = Arc::new(Hold::default());
        let store = HoldStore(hold.clone());
        let body = || Held::Bytes(Bytes::from_static(b"abc"));
        hold.put(DataId(1), body(), 3, 100);
        let all: Vec<_> = store.reader(DataId(1), 0, 3).unwrap().map(Result::unwrap).collect();
        assert_eq!(all, [Bytes::from_static(b"abc")]);
        assert!(store.reader(DataId(1), 0, 3).is_err(), "HOLD-1");
        hold.put(DataId(2), body(), 3, 100);
        assert!(store.reader(DataId(2), 1, 2).is_err(), "HOLD-1");
        hold.put(DataId(3), body(), 3, 100);
        hold.sweep(100);
        assert!(store.reader(DataId(3), 0, 3).is_err() && hold.waiting() == 0, "HOLD-2");
        assert!(store.writer(DataId(4), Md5::Computed).is_err());
    }

    #[test]
    fn a_stream_that_fails_gives_its_error() {
        let hold = Arc::new(Hold::default());
        let (tx, rx) = mpsc::channel(4);
        tx.try_send(Ok(Bytes::from_static(b"a"))).unwrap();
        tx.try_send(Err("cut".into())).unwrap();
        hold.put(DataId(1), Held::Stream(rx), 9, 1);
        let mut pieces = HoldStore(hold).reader(DataId(1), 0, 9).unwrap();
        assert_eq!(pieces.next(), Some(Ok(Bytes::from_static(b"a"))));
        assert_eq!(pieces.next(), Some(Err(StorageError::Io("cut".into())))); // HOLD-3
        drop(tx);
        assert_eq!(pieces.next(), None);
    }
}
