//! A response body that holds a place in the edge until it has ended or was dropped (HTTP-1).

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// The body and the place.
pub struct Held {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl Held {
    /// The body that gives the place back at its end.
    pub fn body(body: Body, place: OwnedSemaphorePermit) -> Body {
        if body.is_end_stream() { body } else { Body::new(Held { body, _place: place }) }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
