//! The data server of a storage node.
//!
//! One per node; finds the store through the [`Desk`]. Each connection, and so each transfer, runs
//! where the node's [`Runner`] puts it: in a supervised actor of its own.
//!
//! `PUT /data/{data_id}` and `GET /data/{data_id}`, each with the ticket in the header
//! `x-mocks3-ticket`. A good upload is answered 200 with a `StoredInfo`, a good download 200 with
//! exactly the granted range, everything else with a status and a `StorageError` (bincode).
//!
//! - `DSERVER-1` at most [`ServerLimits::connections`] connections; further ones are closed at
//!   once;
//! - `DSERVER-2` a connection that sends no complete request head within [`ServerLimits::idle`] is
//!   closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, Stream, StreamExt};
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, Running, Transfers};
use super::receive::{Expected, ReceiveError, Source, receive};
use super::store::Pieces;
use super::ticket::{Direction, Grant};
use super::words::{Hashes, StorageError};
use super::{BUFFER, HASHES_TRAILER, TICKET_HEADER, stream as wire};
use crate::cluster::transport::{TlsTrouble, Transport};
use crate::types::DataId;

/// How long what a refused client still sends is read, so that it gets to see the answer.
const LINGER: Duration = Duration::from_secs(1);
/// The pause after an accept that failed (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once.
    pub connections: usize,
    /// How long a connection may take for a request head, and how long it may be idle.
    pub idle: Duration,
    /// How long a transfer may move no byte. Longer than a client's limit, which covers the pauses
    /// of whoever uploads.
    pub stall: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        let (idle, stall) = (Duration::from_secs(30), Duration::from_secs(60));
        ServerLimits { connections: 512, idle, stall }
    }
}

/// Runs the work of one connection to its end.
pub type Runner = Arc<dyn Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync>;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves until `stop`; then, or when the future is dropped, all connections are closed.
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    desk: Arc<Desk>,
    limits: ServerLimits,
    runner: Runner,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "data plane cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // DSERVER-1; and without a living actor there is nothing to be had here (DATA-5).
        let (Ok(slot), Some(transfers)) = (slots.clone().try_acquire_owned(), desk.current())
        else {
            continue;
        };
        let transport = transport.clone();
        connections.spawn(runner(Box::pin(async move {
            let closed = transfers.closed().clone();
            let served = async {
                if let Err(refused) = connection(&transport, stream, transfers, limits).await {
                    refused.tell(&transport, peer);
                }
            };
            tokio::select! {
                () = served => (),
                () = closed.cancelled() => (), // DATA-5
            }
            drop(slot);
        })));
    }
}

/// Why a connection came to a bad end.
enum Ended {
    Tls(TlsTrouble),
    Http(hyper::Error),
}

impl Ended {
    /// An operator should know of peers that cannot talk to us; the rest is in a day's work.
    fn tell(&self, transport: &Transport, peer: SocketAddr) {
        let peer = format!("{peer} (data plane)");
        match self {
            Ended::Tls(trouble) => match trouble.complaint() {
                Some(kind) => transport.complain(kind, &peer, trouble),
                None => tracing::debug!(peer, %trouble, "data connection refused"),
            },
            Ended::Http(error) if error.is_parse() && !transport.is_tls() => {
                let why = "it does not speak HTTP (does it speak TLS? this node has no \
                           [cluster.tls])";
                transport.complain("not_http", &peer, &why);
            }
            Ended::Http(error) => tracing::debug!(peer, %error, "data connection ended"),
        }
    }
}

async fn connection(
    transport: &Transport,
    stream: TcpStream,
    transfers: Arc<Transfers>,
    limits: ServerLimits,
) -> Result<(), Ended> {
    let stream = wire::accepted(transport, stream, limits.stall).await.map_err(Ended::Tls)?;
    let service = service_fn(move |request| {
        crate::metrics::get().moved();
        answer(transfers.clone(), limits.stall, request)
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(Ended::Http)
}

/// Answers one request; an error breaks the connection.
async fn answer(
    transfers: Arc<Transfers>,
    stall: Duration,
    request: Request<Incoming>,
) -> Result<Response<Body>, ReceiveError> {
    let (head, body) = request.into_parts();
    let begun = direction(&head.method).and_then(|direction| {
        let data_id = path_id(head.uri.path())?;
        let ticket = head.headers.get(TICKET_HEADER)?.to_str().ok()?;
        let ticket = u128::from_str_radix(ticket, 16).ok()?;
        transfers.begin(ticket, data_id, direction)
    });
    let Some((grant, running)) = begun else {
        let why = "no such ticket (unknown, used, expired or for something else)";
        return Ok(refusal(StatusCode::FORBIDDEN, &StorageError::Invalid(why.into()), body));
    };
    match grant {
        Grant::Write { data_id, len } => {
            let framed = [CONTENT_LENGTH, TRANSFER_ENCODING];
            if !framed.iter().any(|name| head.headers.contains_key(name)) {
                let why = StorageError::Invalid("a body needs a length or chunks".into());
                return Ok(refusal(StatusCode::LENGTH_REQUIRED, &why, body)); // DATA-2
            }
            let hashed = head.headers.contains_key(TRAILER);
            upload(running, data_id, Expected { len, md5: None, hashed }, body, stall).await
        }
        Grant::Read { data_id, offset, len } => Ok(download(running, data_id, offset, len).await),
    }
}

fn direction(method: &Method) -> Option<Direction> {
    match *method {
        Method::PUT => Some(Direction::In),
        Method::GET => Some(Direction::Out),
        _ => None,
    }
}

fn path_id(path: &str) -> Option<DataId> {
    path.strip_prefix("/data/")?.parse().ok()
}

/// A request body as a source.
struct Frames {
    body: Incoming,
    hashes: Option<Hashes>,
}

impl Source for Frames {
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(frame) => self.hashes = frame.trailers_ref().and_then(hashes_of),
                },
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }

    fn hashes(&mut self) -> Option<Hashes> {
        self.hashes
    }
}

fn hashes_of(trailers: &HeaderMap) -> Option<Hashes> {
    let bytes: [u8; 24] = hex::decode(trailers.get(HASHES_TRAILER)?).ok()?.try_into().ok()?;
    let (md5, crc64) = bytes.split_at(16);
    Some(Hashes { md5: md5.try_into().ok()?, crc64: u64::from_be_bytes(crc64.try_into().ok()?) })
}

async fn upload(
    running: Running,
    data_id: DataId,
    expected: Expected,
    body: Incoming,
    stall: Duration,
) -> Result<Response<Body>, ReceiveError> {
    let mut frames = Frames { body, hashes: None };
    let store = running.store().clone();
    match receive(store, data_id, expected, &mut frames, stall).await {
        Ok(info) => Ok(reply(StatusCode::OK, &info)),
        Err(ReceiveError::Refused(error)) => Ok(refusal(status(&error), &error, frames.body)),
        Err(broken) => Err(broken),
    }
}

async fn download(running: Running, data_id: DataId, offset: u64, len: u64) -> Response<Body> {
    match open_range(running, data_id, offset, len).await {
        Ok(bytes) => {
            let body = StreamBody::new(bytes.map(|r| r.map(Frame::data)));
            let mut response = Response::new(body.boxed_unsync());
            response.headers_mut().insert(CONTENT_LENGTH, len.into());
            response
        }
        Err(error) => reply(status(&error), &error),
    }
}

/// Opens a granted range, and reads its first piece: a missing or bad item is said, not broken off.
pub(super) async fn open_range(
    running: Running,
    data_id: DataId,
    offset: u64,
    len: u64,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, StorageError> {
    let store = running.store().clone();
    let opened = blocking(move || {
        let mut pieces = store.reader(data_id, offset, len)?;
        Ok((pieces.next().transpose()?, pieces))
    });
    let (first, pieces) = opened.await?;
    Ok(outgoing(first, pieces, len, running))
}

/// The granted range; ends with an error where it comes out shorter (DATA-3). The next piece is
/// read when the connection wants it, so that two pieces at most are in memory (DATA-4).
fn outgoing(
    first: Option<Bytes>,
    pieces: Pieces,
    len: u64,
    running: Running,
) -> impl Stream<Item = io::Result<Bytes>> {
    let begin = (first, Some(pieces), len, running);
    stream::try_unfold(begin, |(ready, mut pieces, left, running)| async move {
        let next = match ready {
            Some(bytes) => Some(bytes),
            None if left == 0 => return Ok(None),
            None => {
                let mut reader = pieces.take().expect("taken only while a piece is read");
                let read = blocking(move || Ok((reader.next().transpose()?, reader))).await;
                let (next, reader) = read.map_err(io::Error::other)?;
                pieces = Some(reader);
                next
            }
        };
        let Some(bytes) = next else {
            return Err(io::Error::other(format!("item ends {left} bytes early")));
        };
        let left = left.saturating_sub(bytes.len() as u64);
        Ok(Some((bytes, (None, pieces, left, running))))
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StorageError::Io(error.to_string())))
}

fn status(error: &StorageError) -> StatusCode {
    match error {
        StorageError::NotFound(_) => StatusCode::NOT_FOUND,
        StorageError::Full => StatusCode::INSUFFICIENT_STORAGE,
        StorageError::Conflict(_) => StatusCode::CONFLICT,
        StorageError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        StorageError::Invalid(_) => StatusCode::BAD_REQUEST,
        StorageError::Corrupt(_) | StorageError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn reply(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let bytes = bincode::serialize(value).expect("plain values always encode");
    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Refuses a request whose body may still be coming: it is read on for a moment.
fn refusal(status: StatusCode, error: &StorageError, mut body: Incoming) -> Response<Body> {
    tokio::spawn(async move {
        let drain = async { while let Some(Ok(_)) = body.frame().await {} };
        let _ = tokio::time::timeout(LINGER, drain).await;
    });
    reply(status, error)
}
