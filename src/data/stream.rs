//! The byte stream under a data connection, on both sides.
//!
//! [`dial`] and [`accepted`] are the only places that make one; the transport decides whether it is
//! TLS.
//!
//! - `STREAM-1` a peer that takes no bytes for the stall limit while some wait is given up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::cluster::transport::{Carrier, TlsTrouble, Transport};

/// Connects to a peer's data plane; `limit` is that of the TCP connection.
///
/// # Errors
/// See [`TlsTrouble`]; after `limit` an `Io` of the kind `TimedOut`.
pub async fn dial(
    transport: &Transport,
    address: &str,
    limit: Duration,
    stall: Duration,
) -> Result<Paced<Carrier>, TlsTrouble> {
    let connect = tokio::time::timeout(limit, TcpStream::connect(address));
    let connected = connect.await.unwrap_or_else(|late| Err(late.into()));
    let carrier = transport.open(connected.map_err(TlsTrouble::Io)?).await?;
    Ok(Paced::new(carrier, stall))
}

/// Makes the stream of a connection that was accepted.
///
/// # Errors
/// See [`TlsTrouble`].
pub async fn accepted(
    transport: &Transport,
    stream: TcpStream,
    stall: Duration,
) -> Result<Paced<Carrier>, TlsTrouble> {
    Ok(Paced::new(transport.accept(stream).await?, stall))
}

/// A stream whose writes fail when nothing moves for too long (STREAM-1).
pub struct Paced<S> {
    inner: S,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    armed: bool,
}

impl<S> Paced<S> {
    /// Wraps a stream.
    pub fn new(inner: S, stall: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(stall));
        Paced { inner, stall, timer, armed: false }
    }

    /// Judges the outcome of an attempt to write.
    fn pace<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            self.armed = false;
            return attempt;
        }
        if !self.armed {
            self.armed = true;
            self.timer.as_mut().reset(Instant::now() + self.stall);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.pace(cx, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.pace(cx, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.inner).poll_flush(cx);
        self.pace(cx, attempt)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.pace(cx, attempt)
    }
}
