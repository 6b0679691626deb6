//! Bodies that broke off on their way in.
//!
//! Where `s3s` reads a document itself, it takes a body that the client did not finish for a fault
//! of ours. The edge hands it bodies in [`Watched`] and sets such an answer right.
//!
//! - `BROKEN-1` a body that the client broke off is never answered 500.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Whether a body broke off. Clones tell of the same body.
#[derive(Clone, Default)]
pub struct Broken(Arc<AtomicBool>);

impl Broken {
    /// Whether it did.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body that tells when it breaks off.
pub struct Watched<B> {
    inner: Pin<Box<B>>,
    broken: Broken,
}

impl<B> Watched<B> {
    /// Watches a body.
    pub fn new(inner: B, broken: Broken) -> Self {
        Watched { inner: Box::pin(inner), broken }
    }
}

impl<B: Body<Data = Bytes>> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = self.inner.as_mut().poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.broken.0.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
