//! The data client: streams items to and from storage nodes. Used by the S3 flows and by storage
//! nodes that pull a copy. Cheap to clone; clones share their connections.
//!
//! - `DCLIENT-1` an upload is always sent in chunks, also where its length is known: so it counts
//!   only once its source said that it is good (the final empty `Bytes`);
//! - `DCLIENT-2` dropping a future or a download closes the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::TICKET_HEADER;
use super::pool::{Connection, Pool};
use super::words::{StorageError, StoredInfo, Ticket};
use crate::cluster::transport::Transport;
use crate::types::DataId;

/// The largest answer that is read, apart from the bytes of a download.
const ANSWER_BYTES: usize = 64 * 1024;

/// Limits of the client.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// How long connecting may take.
    pub connect: Duration,
    /// How long a transfer may move no byte for the peer's sake. Pauses of the source do not
    /// count.
    pub stall: Duration,
    /// How long the peer may take to answer once it has the whole request (it syncs its disk
    /// then).
    pub answer: Duration,
    /// How long an unused connection is kept. Shorter than the server keeps it.
    pub idle: Duration,
    /// How many unused connections are kept per address.
    pub idle_connections: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            connect: Duration::from_secs(1),
            stall: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(15),
            idle_connections: 8,
        }
    }
}

/// Why a transfer did not come to its good end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The node cannot be reached; nothing happened.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, String),
    /// The node refused; nothing is stored.
    #[error(transparent)]
    Refused(StorageError),
    /// The connection broke; an upload may be stored if all of it was sent.
    #[error("transfer broke off: {0}")]
    Broken(String),
    /// The node moved no bytes, or gave no answer, for too long; as for `Broken`.
    #[error("the peer stood still")]
    Stalled,
    /// The source of an upload gave up, or did not hold to its length; nothing is stored.
    #[error("the source of the upload gave up")]
    Aborted,
}

/// Streams to and from storage nodes.
#[derive(Clone)]
pub struct DataClient {
    pool: Arc<Pool>,
    options: ClientOptions,
}

impl DataClient {
    /// A client without connections, over plain TCP.
    pub fn new(options: ClientOptions) -> Self {
        DataClient::over(Transport::plain(), options)
    }

    /// A client without connections.
    pub fn over(transport: Transport, options: ClientOptions) -> Self {
        DataClient { pool: Pool::new(options, transport), options }
    }

    /// Streams an item in. The source sends its bytes and then one empty `Bytes` as its good end;
    /// a source that is dropped without it aborts the upload, and nothing is stored (DCLIENT-1).
    /// With `len` the source must send exactly that much.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn put(
        &self,
        ticket: &Ticket,
        data_id: DataId,
        chunks: mpsc::Receiver<Bytes>,
        len: Option<u64>,
    ) -> Result<StoredInfo, TransferError> {
        let ended = CancellationToken::new();
        let aborted = CancellationToken::new();
        let (done, gave_up) = (ended.clone(), aborted.clone());
        let source = Chunks { source: chunks, left: len, ended, aborted };
        let request = request(Method::PUT, ticket, data_id, Upload::Chunks(source));
        let unanswered = async {
            done.cancelled().await;
            tokio::time::sleep(self.options.answer).await;
        };
        let sent = tokio::select! {
            sent = self.send(ticket, request) => sent,
            () = unanswered => Err(TransferError::Stalled),
        };
        let outcome = match sent {
            Ok((response, connection)) => self.stored(response, connection).await,
            Err(error) => Err(error),
        };
        match outcome {
            Err(_) if gave_up.is_cancelled() => Err(TransferError::Aborted),
            outcome => outcome,
        }
    }

    /// How many connections wait for their next transfer.
    pub fn idle_connections(&self) -> usize {
        self.pool.idle()
    }

    async fn stored(
        &self,
        response: Response<Incoming>,
        connection: Connection,
    ) -> Result<StoredInfo, TransferError> {
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let info = self.answer(response).await?;
        self.pool.give_back(connection);
        Ok(info)
    }

    /// Streams a granted range out.
    ///
    /// # Errors
    /// See [`TransferError`]; the stream ends after its first error.
    pub async fn get(&self, ticket: &Ticket, data_id: DataId) -> Result<Download, TransferError> {
        let request = request(Method::GET, ticket, data_id, Upload::Empty);
        let sent = tokio::time::timeout(self.options.answer, self.send(ticket, request)).await;
        let (response, connection) = sent.map_err(|_| TransferError::Stalled)??;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        // Without a declared length a broken body could not be told from a whole one (DATA-3).
        let len = response.body().size_hint().exact();
        let len = len.ok_or_else(|| TransferError::Broken("no length was declared".into()))?;
        Ok(Download {
            body: response.into_body(),
            len,
            left: len,
            connection: Some(connection),
            pool: self.pool.clone(),
            stall: self.options.stall,
            timer: Box::pin(tokio::time::sleep(self.options.stall)),
            waiting: false,
        })
    }

    /// Sends on an idle connection, or on a new one where that turns out to be closed.
    async fn send(
        &self,
        ticket: &Ticket,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Connection), TransferError> {
        let address = &ticket.address;
        loop {
            let idle = self.pool.take(address);
            let reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self
                    .pool
                    .connect(address)
                    .await
                    .map_err(|e| TransferError::Connect(address.clone(), e.to_string()))?,
            };
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(TransferError::Broken(error.into_error().to_string())),
                },
            }
        }
    }

    async fn refused(&self, response: Response<Incoming>) -> TransferError {
        match self.answer::<StorageError>(response).await {
            Ok(error) => TransferError::Refused(error),
            Err(error) => error,
        }
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, TransferError> {
        let read = Limited::new(response.into_body(), ANSWER_BYTES).collect();
        let read = tokio::time::timeout(self.options.answer, read).await;
        let bytes = read
            .map_err(|_| TransferError::Stalled)?
            .map_err(|e| TransferError::Broken(e.to_string()))?
            .to_bytes();
        bincode::deserialize(&bytes).map_err(|e| TransferError::Broken(e.to_string()))
    }
}

fn request(method: Method, ticket: &Ticket, data_id: DataId, body: Upload) -> Request<Upload> {
    Request::builder()
        .method(method)
        .uri(format!("/data/{data_id}"))
        .header(http::header::HOST, &ticket.address)
        .header(TICKET_HEADER, format!("{:032x}", ticket.id))
        .body(body)
        .expect("an address that connects, a hex number and a UUID make a request")
}

/// The body of a request.
pub(super) enum Upload {
    /// Of a `GET`.
    Empty,
    /// Of a `PUT`.
    Chunks(Chunks),
}

/// What a source sends, up to its good end.
pub(super) struct Chunks {
    source: mpsc::Receiver<Bytes>,
    left: Option<u64>,
    ended: CancellationToken,
    aborted: CancellationToken,
}

/// Ends the connection without a proper end of the body.
#[derive(Debug, thiserror::Error)]
#[error("the source of the upload gave up")]
pub(super) struct GaveUp;

impl Body for Upload {
    type Data = Bytes;
    type Error = GaveUp;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GaveUp>>> {
        let Upload::Chunks(chunks) = self.get_mut() else { return Poll::Ready(None) };
        if chunks.ended.is_cancelled() {
            return Poll::Ready(None);
        }
        let next = ready!(chunks.source.poll_recv(cx));
        Poll::Ready(match chunks.take(next) {
            Ok(Some(bytes)) => Some(Ok(Frame::data(bytes))),
            Ok(None) => {
                chunks.ended.cancel();
                None
            }
            Err(gave_up) => {
                chunks.aborted.cancel();
                Some(Err(gave_up))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Upload::Empty)
    }
}

impl Chunks {
    fn take(&mut self, next: Option<Bytes>) -> Result<Option<Bytes>, GaveUp> {
        let bytes = next.ok_or(GaveUp)?;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes.len() as u64).ok_or(GaveUp)?;
            if bytes.is_empty() && *left > 0 {
                return Err(GaveUp);
            }
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

/// A range on its way from a node; checked for its length.
pub struct Download {
    body: Incoming,
    len: u64,
    left: u64,
    /// `None` after the end.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Download {
    /// The length of the range, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn fail(&mut self, error: TransferError) -> Poll<Option<Result<Bytes, TransferError>>> {
        self.connection = None; // DCLIENT-2
        Poll::Ready(Some(Err(error)))
    }

    /// Measures the peer's pause; the consumer's own does not count.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransferError>>> {
        if !std::mem::replace(&mut self.waiting, true) {
            self.timer.as_mut().reset(Instant::now() + self.stall);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.fail(TransferError::Stalled)
    }
}

impl Stream for Download {
    type Item = Result<Bytes, TransferError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.connection.is_none() {
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => return this.wait(cx),
            Poll::Ready(frame) => frame,
        };
        this.waiting = false;
        match frame {
            Some(Ok(frame)) => {
                let bytes = frame.into_data().unwrap_or_default();
                match this.left.checked_sub(bytes.len() as u64) {
                    Some(left) => this.left = left,
                    None => return this.fail(TransferError::Broken("body is too long".into())),
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Err(error)) => this.fail(TransferError::Broken(error.to_string())),
            None if this.left > 0 => {
                let why = format!("body ended {} bytes early", this.left);
                this.fail(TransferError::Broken(why))
            }
            None => {
                if let Some(connection) = this.connection.take() {
                    this.pool.give_back(connection);
                }
                Poll::Ready(None)
            }
        }
    }
}
