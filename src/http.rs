//! The HTTP edges: they translate requests into messages, and nothing else.
//!
//! One listener per service of the node: accept loop, bound on requests in work, orderly drain.
//!
//! - `HTTP-1` at most `max_in_flight` requests are in work per edge, each until the last byte of its
//!   answer; the next gets 503 with `Retry-After`;
//! - `HTTP-2` after a stop was asked for, requests in work may finish for `drain_timeout`, then
//!   their connections are closed;
//! - `HTTP-3` who is refused while waiting for "100 Continue" will not send the body, and hyper may
//!   take the next request for it: that connection ends;
//! - `HTTP-4` who is refused in the middle of the body hears why ([`linger`]);
//! - `HTTP-5` a client that takes none of its answer for `write_stall` loses its connection, and with
//!   it the request ends.

pub mod admin;
pub mod backup;
pub mod error;
pub mod groups;
mod held;
pub mod json;
pub mod linger;
pub mod metadata;
pub mod queue;
pub mod rebalance;
pub mod s3;
pub mod storage;
pub mod third_party;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics;
use held::Held;
use linger::Lingering;

/// What serves the requests of one edge.
pub type Handler = Arc<
    dyn Fn(Request<Lingering>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>
        + Send
        + Sync,
>;

/// Bounds of one edge.
#[derive(Clone, Copy, Debug)]
pub struct EdgeSettings {
    /// Requests in work at once.
    pub max_in_flight: usize,
    /// How long a client may take to send its head.
    pub header_timeout: Duration,
    /// How long a client may take none of its answer.
    pub write_stall: Duration,
    /// How long requests may go on after the stop.
    pub drain_timeout: Duration,
    /// It serves S3: refuses in S3's words what is.
    pub s3: bool,
}

/// How many connections one edge holds at once.
const MAX_CONNECTIONS: usize = 8192;

/// Serves until the token is cancelled and the requests in work are done.
pub async fn serve(
    listener: TcpListener,
    handler: Handler,
    settings: EdgeSettings,
    stop: CancellationToken,
) {
    let in_flight = Arc::new(Semaphore::new(settings.max_in_flight));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await; // EMFILE would spin
                continue;
            }
        };
        let Ok(place) = connections.clone().try_acquire_owned() else { continue };
        let _ = stream.set_nodelay(true);
        metrics::get().moved();
        give_up_stalled(&stream, settings.write_stall);
        let (handler, in_flight, stop) = (handler.clone(), in_flight.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(json::Peer(peer));
                admit(handler.clone(), in_flight.clone(), settings.s3, request)
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(settings.header_timeout)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "connection ended badly");
            }
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(settings.drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(open = tasks.len(), "requests were still in work at the end"); // HTTP-2
    }
}

/// HTTP-5: the kernel breaks the connection when nothing is acknowledged, or the peer's window stays
/// shut, for so long. Only the kernel sees that: megabytes wait in its buffers, and a slow reader
/// takes minutes until there is room for the next write (RFC 5482, tcp(7)).
fn give_up_stalled(stream: &TcpStream, limit: Duration) {
    let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = setsockopt(stream, TcpUserTimeout, &limit_ms) {
        tracing::warn!(%error, "no limit for clients that take nothing of their answer");
    }
}

/// HTTP-1.
async fn admit(
    handler: Handler,
    in_flight: Arc<Semaphore>,
    s3: bool,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let Ok(permit) = in_flight.try_acquire_owned() else {
        let why = "too many requests at once";
        let (head, _body) = request.into_parts();
        return Ok(match s3 && s3::is_s3(&head) {
            true => s3::overload(why),
            false => error::ApiError::overload(why).into_http(),
        });
    };
    let expects = request.headers().contains_key(http::header::EXPECT);
    let mut response = handler(request.map(|body| Lingering::new(body, expects))).await;
    if expects && response.status().as_u16() >= 300 {
        let close = http::HeaderValue::from_static("close");
        response.headers_mut().insert(http::header::CONNECTION, close); // HTTP-3
    }
    Ok(response.map(|body| Held::body(body, permit)))
}
