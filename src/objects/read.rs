//! Bytes from storage nodes: piece after piece, from any node that has them.
//!
//! Used by GET and by copies that move bytes. Small pieces come in a message, larger ones in a
//! data-plane stream; when a node fails, the next one goes on at the same byte.
//!
//! - `READ-1` what is given out was checked by the node that sent it, and is neither skipped nor
//!   given twice;
//! - `READ-2` a node that says "corrupt" or "not here" is reported to metadata, which has the copy
//!   made again; one that breaks off in the middle is asked why, in the background;
//! - `READ-3` at most a few chunks wait between a node and the client;
//! - `READ-4` where no known node gives the next byte, metadata is asked for others: the data may have
//!   moved since they were looked up, however long ago that was.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::actors::metadata::command::Command;
use crate::actors::metadata::query::{Query, QueryReply};
use crate::actors::storage_node::message::{INLINE_LIMIT, Message, Reply, StorageError};
use crate::cluster::{Scope, To};
use crate::types::{DataId, InstanceId, now_ms};

use super::error::Unavailable;
use super::range::Piece;
use super::{Env, metadata, placement, request};

/// Chunks that wait for the client.
const WAITING_CHUNKS: usize = 4;
/// How often nodes that were busy are asked again, and after which pause.
const BUSY_ROUNDS: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

type NodeStream = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// Reads the pieces of an object in order.
pub struct Reader {
    env: Env,
    scope: Scope,
    pieces: VecDeque<Piece>,
    current: Option<Current>,
}

/// The piece being read.
struct Current {
    piece: Piece,
    done: u64,
    untried: VecDeque<InstanceId>,
    busy: Vec<InstanceId>,
    rounds: u32,
    open: Option<(InstanceId, NodeStream)>,
}

impl Reader {
    /// A reader at the first byte of the first piece.
    pub fn new(env: &Env, scope: &Scope, pieces: Vec<Piece>) -> Self {
        Reader { env: env.clone(), scope: *scope, pieces: pieces.into(), current: None }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// `Unreadable` where no node gives the next byte.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Unavailable> {
        loop {
            if self.current.as_ref().is_none_or(Current::is_done) {
                match self.pieces.pop_front() {
                    Some(piece) => self.current = Some(self.begin(piece)),
                    None => return Ok(None),
                }
            }
            let Some(current) = &mut self.current else { continue };
            if current.is_done() {
                continue;
            }
            if current.open.is_none() {
                current.open_next(&self.env, &self.scope).await?;
            }
            if let Some(bytes) = current.read(&self.env, &self.scope).await {
                return Ok(Some(bytes));
            }
        }
    }

    fn begin(&self, piece: Piece) -> Current {
        let own = self.env.cluster.instance();
        let live = |instance: &str| self.env.cluster.is_live(instance);
        let order = placement::read_order(&piece.locations, own, piece.data_id, live);
        let untried = order.into();
        Current { piece, done: 0, untried, busy: Vec::new(), rounds: 0, open: None }
    }
}

impl Current {
    fn is_done(&self) -> bool {
        self.done == self.piece.len
    }

    /// Opens the rest of the piece at the next node, if there is one.
    async fn open_next(&mut self, env: &Env, scope: &Scope) -> Result<(), Unavailable> {
        let Some(node) = self.untried.pop_front() else {
            if self.busy.is_empty() || self.rounds == BUSY_ROUNDS {
                return self.look_again(env, scope).await;
            }
            tokio::time::sleep(BUSY_PAUSE).await;
            self.rounds += 1;
            self.untried = std::mem::take(&mut self.busy).into();
            return Ok(());
        };
        let data_id = self.piece.data_id;
        let (offset, len) = (self.piece.offset + self.done, self.piece.len - self.done);
        let patience = self.patience(env, env.settings.node_timeout);
        match open(env, &scope.within(patience), &node, data_id, offset, len).await {
            Ok(stream) => self.open = Some((node, stream)),
            Err(OpenError::Refused(StorageError::Busy)) => self.busy.push(node),
            Err(OpenError::Refused(error)) => {
                tracing::warn!(%node, %data_id, %error, "a copy cannot be read");
                if is_bad_copy(&error) {
                    report(env, scope, data_id, node);
                }
            }
            Err(OpenError::Away(why)) => {
                tracing::warn!(%node, %data_id, why, "a storage node does not answer");
            }
        }
        Ok(())
    }

    /// Asks metadata for nodes that were not known before (READ-4).
    async fn look_again(&mut self, env: &Env, scope: &Scope) -> Result<(), Unavailable> {
        let data_id = self.piece.data_id;
        let scope = scope.detached(env.settings.metadata_timeout);
        let asked = metadata::read(env, &scope, Query::Blobs { data_ids: vec![data_id] }).await;
        let Ok(QueryReply::Blobs { blobs }) = asked else { return Err(Unavailable::Unreadable) };
        let mut nodes: Vec<_> = blobs.into_iter().flat_map(|blob| blob.locations).collect();
        nodes.retain(|node| !self.piece.locations.contains(node));
        if nodes.is_empty() {
            return Err(Unavailable::Unreadable);
        }
        let live = |instance: &str| env.cluster.is_live(instance);
        self.untried = placement::read_order(&nodes, env.cluster.instance(), data_id, live).into();
        self.piece.locations.extend(nodes);
        Ok(())
    }

    /// The next bytes of the open stream; `None` = it is of no more use.
    async fn read(&mut self, env: &Env, scope: &Scope) -> Option<Bytes> {
        let patience = self.patience(env, env.settings.transfer_limit);
        let (node, stream) = self.open.as_mut()?;
        let why = match timeout(patience, stream.next()).await {
            Ok(Some(Ok(mut bytes))) => {
                bytes.truncate((self.piece.len - self.done).min(bytes.len() as u64) as usize);
                self.done += bytes.len() as u64;
                return Some(bytes).filter(|b| !b.is_empty());
            }
            Ok(Some(Err(why))) => why,
            Ok(None) => "ended early".into(),
            Err(_) => "stood still".into(),
        };
        let data_id = self.piece.data_id;
        tracing::warn!(%node, %data_id, why, at = self.done, "a read broke off");
        let node = node.clone();
        self.open = None;
        probe(env, scope, data_id, node, self.piece.offset + self.done);
        None
    }

    /// How long a node may keep us waiting: not long where there is another one to ask.
    fn patience(&self, env: &Env, last: Duration) -> Duration {
        if self.untried.is_empty() { last } else { env.settings.stall_limit.min(last) }
    }
}

enum OpenError {
    Refused(StorageError),
    Away(String),
}

async fn open(
    env: &Env,
    scope: &Scope,
    node: &str,
    data_id: DataId,
    offset: u64,
    len: u64,
) -> Result<NodeStream, OpenError> {
    let message = if len <= INLINE_LIMIT {
        Message::Read { data_id, offset, len }
    } else {
        Message::BeginRead { data_id, offset, len }
    };
    let reply = env.cluster.call(scope, To::Instance(node), message).await;
    let reply = reply.map_err(|e| OpenError::Away(e.to_string()))?.map_err(OpenError::Refused)?;
    match reply {
        Reply::Bytes(bytes) => Ok(Box::pin(futures::stream::iter([Ok(bytes)]))),
        Reply::Ticket(ticket) => {
            let download = timeout(scope.remaining(), env.data.get(&ticket, data_id)).await;
            match download {
                Ok(Ok(stream)) => Ok(Box::pin(stream.map(|r| r.map_err(|e| e.to_string())))),
                Ok(Err(crate::data::client::TransferError::Refused(error))) => {
                    Err(OpenError::Refused(error))
                }
                Ok(Err(error)) => Err(OpenError::Away(error.to_string())),
                Err(_) => Err(OpenError::Away("no answer to the ticket".into())),
            }
        }
        other => Err(OpenError::Away(format!("unexpected reply {other:?}"))),
    }
}

fn is_bad_copy(error: &StorageError) -> bool {
    matches!(error, StorageError::NotFound(_) | StorageError::Corrupt(_))
}

/// Tells metadata in the background that a copy is bad (READ-2).
fn report(env: &Env, scope: &Scope, data_id: DataId, instance: InstanceId) {
    let (env, scope) = (env.clone(), scope.detached(env.settings.metadata_timeout));
    tokio::spawn(async move {
        let command = Command::DropLocation {
            data_id,
            instance: instance.clone(),
            again: false,
            now_ms: now_ms(),
        };
        if let Err(error) = metadata::apply(&env, &scope, command).await {
            tracing::warn!(%error, %instance, %data_id, "a bad copy could not be reported");
        }
    });
}

/// Asks a node in the background why it broke off at this byte, and reports its copy if it is bad.
fn probe(env: &Env, scope: &Scope, data_id: DataId, node: InstanceId, offset: u64) {
    let (env, scope) = (env.clone(), scope.detached(env.settings.transfer_limit));
    tokio::spawn(async move {
        let message = Message::Read { data_id, offset, len: 1 };
        if let Ok(Err(error)) = env.cluster.call(&scope, To::Instance(&node), message).await
            && is_bad_copy(&error)
        {
            report(&env, &scope, data_id, node);
        }
    });
}

/// The body of an answer: so many bytes, or an error before them.
pub struct ObjectBody {
    chunks: mpsc::Receiver<Result<Bytes, Unavailable>>,
    left: u64,
    /// The whole body, where it came in one piece.
    whole: Option<Bytes>,
}

impl ObjectBody {
    /// How many bytes are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Gives out `len` bytes of a source from a task of its own; `first` was read already.
    pub fn pump<S>(env: &Env, len: u64, first: Option<Bytes>, source: S) -> Self
    where
        S: Stream<Item = Result<Bytes, Unavailable>> + Send + 'static,
    {
        let (tx, chunks) = mpsc::channel(WAITING_CHUNKS);
        let whole = first.clone().filter(|bytes| bytes.len() as u64 == len);
        if whole.is_some() {
            return ObjectBody { chunks, left: len, whole }; // nothing is left to be done
        }
        let run_env = env.clone();
        tokio::spawn(async move {
            let work = async move {
                let mut source = std::pin::pin!(futures::stream::iter(first.map(Ok)).chain(source));
                while let Some(item) = source.next().await {
                    let failed = item.is_err();
                    if tx.send(item).await.is_err() || failed {
                        return; // the client went away, or there is no more to give
                    }
                }
            };
            // ended from outside: the channel closes early, which the body below tells the client
            let _ = request::run(&run_env, "get_body", work).await;
        });
        ObjectBody { chunks, left: len, whole: None }
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, Unavailable>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(bytes) = self.whole.take() {
            self.left = 0;
            return Poll::Ready(Some(Ok(bytes)));
        }
        let next = std::task::ready!(self.chunks.poll_recv(cx));
        let next = next.unwrap_or(Err(Unavailable::Gone)).and_then(|bytes| {
            let left = self.left.checked_sub(bytes.len() as u64).ok_or(Unavailable::Unreadable)?;
            self.left = left;
            Ok(bytes)
        });
        if next.is_err() {
            self.left = 0;
        }
        Poll::Ready(Some(next))
    }
}

/// A reader as a stream.
pub fn stream(reader: Reader) -> impl Stream<Item = Result<Bytes, Unavailable>> + Send {
    futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|bytes| (bytes, reader)))
    })
}
