//! Bodies on the client's side of the data plane: what a source sends, and a range that comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue};
use hyper::body::{Body, Frame, Incoming};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::HASHES_TRAILER;
use super::client::{CALLEE, TransferError};
use super::local::LocalRange;
use super::pool::{Connection, Pool};
use super::receive::Source;
use super::words::Hashes;
use crate::metrics::CallTimer;

/// The body of a request.
pub(super) enum Upload {
    /// Of a `GET`.
    Empty,
    /// Of a `PUT`.
    Chunks(Chunks),
}

impl Upload {
    /// Whether hashes come behind it.
    pub fn is_hashed(&self) -> bool {
        matches!(self, Upload::Chunks(chunks) if chunks.is_hashed())
    }
}

/// What a source sends, up to its good end.
pub(super) struct Chunks {
    source: mpsc::Receiver<Bytes>,
    left: Option<u64>,
    hashes: Option<oneshot::Receiver<Hashes>>,
    found: Option<Hashes>,
    /// Cancelled at the good end.
    pub ended: CancellationToken,
    /// Cancelled where the source gave up.
    pub aborted: CancellationToken,
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
            Ok(None) => chunks.found.map(|hashes| Ok(Frame::trailers(trailers(hashes)))),
            Err(gave_up) => Some(Err(gave_up)),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Upload::Empty)
    }
}

fn trailers(hashes: Hashes) -> HeaderMap {
    let bytes = [&hashes.md5[..], &hashes.crc64.to_be_bytes()].concat();
    let value = HeaderValue::try_from(hex::encode(bytes)).expect("hex is a header value");
    HeaderMap::from_iter([(HASHES_TRAILER.parse().expect("a header's name"), value)])
}

impl Chunks {
    pub fn new(
        source: mpsc::Receiver<Bytes>,
        len: Option<u64>,
        hashes: Option<oneshot::Receiver<Hashes>>,
    ) -> Self {
        let (ended, aborted) = (CancellationToken::new(), CancellationToken::new());
        Chunks { source, left: len, hashes, found: None, ended, aborted }
    }

    pub fn is_hashed(&self) -> bool {
        self.hashes.is_some()
    }

    /// Judges what the source sent; `None` is the good end.
    fn take(&mut self, next: Option<Bytes>) -> Result<Option<Bytes>, GaveUp> {
        let taken = self.check(next);
        match taken {
            Ok(Some(_)) => {}
            Ok(None) => self.ended.cancel(),
            Err(_) => self.aborted.cancel(),
        }
        taken
    }

    fn check(&mut self, next: Option<Bytes>) -> Result<Option<Bytes>, GaveUp> {
        let bytes = next.ok_or(GaveUp)?;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes.len() as u64).ok_or(GaveUp)?;
            if bytes.is_empty() && *left > 0 {
                return Err(GaveUp);
            }
        }
        if !bytes.is_empty() {
            return Ok(Some(bytes));
        }
        if let Some(hashes) = &mut self.hashes {
            self.found = Some(hashes.try_recv().map_err(|_| GaveUp)?);
        }
        Ok(None)
    }
}

/// The way within the process.
impl Source for Chunks {
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        if self.ended.is_cancelled() {
            return None;
        }
        let next = self.source.recv().await;
        self.take(next).map_err(|gave_up| gave_up.to_string()).transpose()
    }

    fn hashes(&mut self) -> Option<Hashes> {
        self.found
    }
}

/// A range on its way from a node; checked for its length.
pub struct Download {
    /// `None` after the end.
    from: Option<From>,
    len: u64,
    left: u64,
    /// Until the end (DCLIENT-3).
    timer: Option<CallTimer<'static>>,
}

enum From {
    Wire(Wire),
    Local(LocalRange),
}

/// A range that comes over a connection.
struct Wire {
    body: Incoming,
    connection: Connection,
    pool: Arc<Pool>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

type Piece = Option<Result<Bytes, TransferError>>;

impl Download {
    pub(super) fn wire(
        body: Incoming,
        len: u64,
        connection: Connection,
        pool: Arc<Pool>,
        stall: Duration,
    ) -> Self {
        let timer = Box::pin(tokio::time::sleep(stall));
        let wire = Wire { body, connection, pool, stall, timer, waiting: false };
        Download::new(From::Wire(wire), len)
    }

    pub(super) fn local(range: LocalRange) -> Self {
        let len = range.len;
        Download::new(From::Local(range), len)
    }

    fn new(from: From, len: u64) -> Self {
        let timer = Some(CallTimer::begin(CALLEE, "body"));
        Download { from: Some(from), len, left: len, timer }
    }

    fn count(&mut self, outcome: &'static str) {
        if let Some(timer) = self.timer.take() {
            timer.end(outcome);
        }
    }

    /// The length of the range, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn fail(&mut self, error: TransferError) -> Poll<Piece> {
        self.from = None; // DCLIENT-2
        self.count(error.name());
        Poll::Ready(Some(Err(error)))
    }

    /// The proper end of the body.
    fn end(&mut self) -> Poll<Piece> {
        if self.left > 0 {
            let why = format!("body ended {} bytes early", self.left);
            return self.fail(TransferError::Broken(why));
        }
        self.count("ok");
        if let Some(From::Wire(wire)) = self.from.take() {
            wire.pool.give_back(wire.connection);
        }
        Poll::Ready(None)
    }
}

/// A reader that has all bytes need not wait for the end behind them.
impl Drop for Download {
    fn drop(&mut self) {
        if self.left == 0 {
            self.count("ok");
        }
    }
}

impl Wire {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            return self.wait(cx);
        };
        self.waiting = false;
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
            Err(error) => Err(TransferError::Broken(error.to_string())),
        }))
    }

    /// Measures the peer's pause; the consumer's own does not count.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if !std::mem::replace(&mut self.waiting, true) {
            self.timer.as_mut().reset(Instant::now() + self.stall);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(TransferError::Stalled)))
    }
}

impl LocalRange {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if self.closed.is_cancelled() {
            let why = "the storage actor ended".to_owned();
            return Poll::Ready(Some(Err(TransferError::Broken(why)))); // DATA-5
        }
        let piece = ready!(self.bytes.as_mut().poll_next(cx));
        Poll::Ready(piece.map(|p| p.map_err(|e| TransferError::Broken(e.to_string()))))
    }
}

impl Stream for Download {
    type Item = Result<Bytes, TransferError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        let this = &mut *self;
        let piece = match &mut this.from {
            None => return Poll::Ready(None),
            Some(From::Wire(wire)) => wire.poll(cx),
            Some(From::Local(range)) => range.poll(cx),
        };
        match ready!(piece) {
            Some(Ok(bytes)) => match this.left.checked_sub(bytes.len() as u64) {
                Some(left) => {
                    this.left = left;
                    Poll::Ready(Some(Ok(bytes)))
                }
                None => this.fail(TransferError::Broken("body is too long".into())),
            },
            Some(Err(error)) => this.fail(error),
            None => this.end(),
        }
    }
}
