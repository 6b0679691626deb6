//! The wrapped stream under one session: the switch that ends it, and a backstop for silence.
//!
//! `ractor_cluster` never gives up a silent peer. The failure detector (`heartbeat`) ends the
//! session of a peer that stopped answering by closing its [`Link`]: the reader then sees a reset,
//! the session ends, and with it every pending call.
//!
//! - `LINK-1` after [`Link::close`] both halves fail at their next poll, and a waiting one is woken;
//! - `LINK-2` a session from which nothing was read for [`IDLE_LIMIT`] ends by itself.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep};

/// How long a session may be silent. The built-in pings come every 5 s at the latest, so this only
/// catches what the heartbeat cannot see (TCP cut while UDP passes).
pub const IDLE_LIMIT: Duration = Duration::from_secs(15);

/// Any connected stream under a session: plain TCP or TLS.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Duplex for T {}

/// The switch of one session.
#[derive(Default)]
pub struct Link {
    closed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Link {
    /// Ends the session under this link.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    fn check(&self) -> io::Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

/// A stream under its link.
pub struct Linked {
    stream: Box<dyn Duplex>,
    link: Arc<Link>,
    label: String,
}

impl Linked {
    /// Puts a stream under a link; `label` comes back in the session events.
    pub fn new(stream: Box<dyn Duplex>, link: Arc<Link>, label: String) -> Self {
        Linked { stream, link, label }
    }
}

impl ractor_cluster::ClusterBidiStream for Linked {
    fn split(self: Box<Self>) -> (ractor_cluster::BoxRead, ractor_cluster::BoxWrite) {
        let (read, write) = tokio::io::split(self.stream);
        let idle = Box::pin(tokio::time::sleep(IDLE_LIMIT));
        let reader = Reader { half: read, link: self.link.clone(), idle };
        (Box::new(reader), Box::new(Writer { half: write, link: self.link }))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

struct Reader {
    half: ReadHalf<Box<dyn Duplex>>,
    link: Arc<Link>,
    idle: Pin<Box<Sleep>>,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.link.reader.register(cx.waker());
        self.link.check()?;
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.half).poll_read(cx, buf) {
            if buf.filled().len() > before {
                self.idle.as_mut().reset(Instant::now() + IDLE_LIMIT);
            }
            return Poll::Ready(result);
        }
        match self.idle.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())), // LINK-2
            Poll::Pending => Poll::Pending,
        }
    }
}

struct Writer {
    half: WriteHalf<Box<dyn Duplex>>,
    link: Arc<Link>,
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.link.writer.register(cx.waker());
        self.link.check()?;
        Pin::new(&mut self.half).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.writer.register(cx.waker());
        self.link.check()?;
        Pin::new(&mut self.half).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ractor_cluster::ClusterBidiStream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn closing_the_link_ends_a_waiting_read_and_further_writes() {
        let (near, _far) = tokio::io::duplex(64);
        let link = Arc::new(Link::default());
        let linked = Linked::new(Box::new(near), link.clone(), "peer".into());
        let (mut read, mut write) = Box::new(linked).split();
        let waiting = tokio::spawn(async move { read.read_u8().await });
        tokio::task::yield_now().await;
        link.close();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let error = write.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_session_ends_by_itself_and_a_talking_one_does_not() {
        let (near, mut far) = tokio::io::duplex(64);
        let linked = Linked::new(Box::new(near), Arc::default(), "peer".into());
        let (mut read, _write) = Box::new(linked).split();
        let talker = tokio::spawn(async move {
            for _ in 0..4 {
                tokio::time::sleep(IDLE_LIMIT / 2).await;
                far.write_u8(1).await.unwrap();
            }
            far
        });
        for _ in 0..4 {
            assert_eq!(read.read_u8().await.unwrap(), 1);
        }
        let _far = talker.await.unwrap();
        assert_eq!(read.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
