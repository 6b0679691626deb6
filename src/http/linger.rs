//! The body of a request, of which a refusal may leave a rest.
//!
//! Put around every body by the accept loop. Most clients send everything before they listen: were
//! the connection closed at once, they would see a reset instead of the answer.
//!
//! - `LINGER-1` what is left of a body is read away, up to [`MAX_REST`] bytes for [`MAX_TIME`]; then
//!   the connection is closed;
//! - `LINGER-2` nothing is read from who waits for "100 Continue": reading would ask for the body.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// How much of an unwanted body is read, in bytes.
const MAX_REST: usize = 16 << 20;
/// For how long.
const MAX_TIME: Duration = Duration::from_secs(5);

/// A body whose rest is read away when it is dropped.
pub struct Lingering {
    inner: Option<Incoming>,
    touched: bool,
    waits: bool,
}

impl Lingering {
    /// Around a body; `waits` says that its client sends it only when asked for.
    pub fn new(inner: Incoming, waits: bool) -> Self {
        Lingering { inner: Some(inner), touched: false, waits }
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.touched = true;
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(inner).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.inner = None; // the end, or broken: nothing is left
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(rest) = self.inner.take().filter(|inner| !inner.is_end_stream()) else { return };
        if self.waits && !self.touched {
            return; // LINGER-2
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(MAX_TIME, read_away(rest)));
        }
    }
}

async fn read_away(mut rest: Incoming) {
    let mut left = MAX_REST;
    while let Some(Ok(frame)) = rest.frame().await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(len) {
            Some(less) => left = less,
            None => return,
        }
    }
}
