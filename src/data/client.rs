//! The data client: streams items to and from storage nodes. Used by the S3 flows and by storage
//! nodes that pull a copy. Cheap to clone; clones share their connections.
//!
//! - `DCLIENT-1` an upload is always sent in chunks, also where its length is known: so it counts
//!   only once its source said that it is good (the final empty `Bytes`);
//! - `DCLIENT-2` dropping a future or a download closes the connection;
//! - `DCLIENT-3` every transfer is in the metrics of calls, callee `data`: `put` (with the pauses of
//!   its source), `put_answer` (from the good end of the source on), `get` (up to the head), `body`
//!   (from the head to the end, with the pauses of its reader).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

pub use super::body::Download;
use super::body::{Chunks, Upload};
use super::desk::Desk;
use super::local::Local;
use super::pool::{Connection, Pool};
use super::words::{Hashes, StorageError, StoredInfo, Ticket};
use super::{HASHES_TRAILER, TICKET_HEADER};
use crate::cluster::transport::Transport;
use crate::metrics::CallTimer;
use crate::types::DataId;

/// The largest answer that is read, apart from the bytes of a download.
const ANSWER_BYTES: usize = 64 * 1024;

/// The name of the data planes in the metrics of calls.
pub(super) const CALLEE: &str = "data";

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

impl TransferError {
    /// A short name for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            TransferError::Connect(..) => "connect",
            TransferError::Refused(error) => error.name(),
            TransferError::Broken(_) => "broken",
            TransferError::Stalled => "stalled",
            TransferError::Aborted => "aborted",
        }
    }
}

/// The word of a transfer's end for metrics.
fn outcome<T>(result: &Result<T, TransferError>) -> &'static str {
    result.as_ref().map_or_else(TransferError::name, |_| "ok")
}

/// Streams to and from storage nodes.
#[derive(Clone)]
pub struct DataClient {
    pool: Arc<Pool>,
    options: ClientOptions,
    local: Option<Arc<Local>>,
}

impl DataClient {
    /// A client without connections, over plain TCP.
    pub fn new(options: ClientOptions) -> Self {
        DataClient::over(Transport::plain(), options)
    }

    /// A client without connections.
    pub fn over(transport: Transport, options: ClientOptions) -> Self {
        DataClient { pool: Pool::new(options, transport), options, local: None }
    }

    /// The same client beside a storage node of this process, whose data plane is at `address`: no
    /// connection is made to it.
    pub fn beside(self, address: String, desk: Arc<Desk>) -> Self {
        DataClient { local: Some(Arc::new(Local { address, desk })), ..self }
    }

    fn local(&self, ticket: &Ticket) -> Option<&Arc<Local>> {
        self.local.as_ref().filter(|local| local.address == ticket.address)
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
        self.upload(ticket, data_id, Chunks::new(chunks, len, None)).await
    }

    /// The same for a source that hashes its bytes: the node checks the CRC, and takes the MD5
    /// over. The hashes must be there before the good end; without them the upload is aborted.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn put_hashed(
        &self,
        ticket: &Ticket,
        data_id: DataId,
        chunks: mpsc::Receiver<Bytes>,
        len: Option<u64>,
        hashes: oneshot::Receiver<Hashes>,
    ) -> Result<StoredInfo, TransferError> {
        self.upload(ticket, data_id, Chunks::new(chunks, len, Some(hashes))).await
    }

    async fn upload(
        &self,
        ticket: &Ticket,
        data_id: DataId,
        source: Chunks,
    ) -> Result<StoredInfo, TransferError> {
        let timer = CallTimer::begin(CALLEE, "put");
        let ended = source.ended.clone();
        let transfer = self.transfer(ticket, data_id, source);
        tokio::pin!(transfer);
        let result = tokio::select! {
            result = &mut transfer => result,
            () = ended.cancelled() => {
                let answer = CallTimer::begin(CALLEE, "put_answer");
                let result = transfer.await;
                answer.end(outcome(&result));
                result
            }
        };
        timer.end(outcome(&result)); // DCLIENT-3
        result
    }

    async fn transfer(
        &self,
        ticket: &Ticket,
        data_id: DataId,
        mut source: Chunks,
    ) -> Result<StoredInfo, TransferError> {
        let (done, gave_up) = (source.ended.clone(), source.aborted.clone());
        let unanswered = async {
            done.cancelled().await;
            tokio::time::sleep(self.options.answer).await;
        };
        let transfer = async {
            if let Some(local) = self.local(ticket) {
                let hashed = source.is_hashed();
                return local.put(ticket, data_id, &mut source, hashed).await;
            }
            let request = request(Method::PUT, ticket, data_id, Upload::Chunks(source));
            let (response, connection) = self.send(ticket, request).await?;
            self.stored(response, connection).await
        };
        let outcome = tokio::select! {
            outcome = transfer => outcome,
            () = unanswered => Err(TransferError::Stalled),
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
        let timer = CallTimer::begin(CALLEE, "get");
        let result = self.open(ticket, data_id).await;
        timer.end(outcome(&result));
        result
    }

    async fn open(&self, ticket: &Ticket, data_id: DataId) -> Result<Download, TransferError> {
        if let Some(local) = self.local(ticket) {
            let opened = tokio::time::timeout(self.options.answer, local.get(ticket, data_id));
            let range = opened.await.map_err(|_| TransferError::Stalled)??;
            return Ok(Download::local(range));
        }
        let request = request(Method::GET, ticket, data_id, Upload::Empty);
        let sent = tokio::time::timeout(self.options.answer, self.send(ticket, request)).await;
        let (response, connection) = sent.map_err(|_| TransferError::Stalled)??;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        // Without a declared length a broken body could not be told from a whole one (DATA-3).
        let len = response.body().size_hint().exact();
        let len = len.ok_or_else(|| TransferError::Broken("no length was declared".into()))?;
        let (body, pool) = (response.into_body(), self.pool.clone());
        Ok(Download::wire(body, len, connection, pool, self.options.stall))
    }

    /// Sends on an idle connection, or on a new one where that turns out to be closed.
    async fn send(
        &self,
        ticket: &Ticket,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Connection), TransferError> {
        let address = &ticket.address;
        crate::metrics::get().moved();
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
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/data/{data_id}"))
        .header(http::header::HOST, &ticket.address)
        .header(TICKET_HEADER, format!("{:032x}", ticket.id));
    if body.is_hashed() {
        request = request.header(http::header::TRAILER, HASHES_TRAILER);
    }
    request.body(body).expect("an address that connects, a hex number and a UUID make a request")
}
