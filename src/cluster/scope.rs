//! The budget and identity of one piece of work, handed down from the edge to everything it causes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// W3C trace context (<https://www.w3.org/TR/trace-context/>): which trace and which span called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// 16-byte trace id; 0 = none.
    pub trace_id: u128,
    /// 8-byte id of the calling span; 0 = none.
    pub span_id: u64,
    /// Whether the trace is sampled.
    pub sampled: bool,
}

/// How long a piece of work may still take, and whose it is. Every call between actors carries one.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
    /// The trace that the work belongs to.
    pub trace: TraceContext,
    /// The request at the edge that caused the work (`x-amz-request-id`), or a fresh id.
    pub request_id: u128,
}

impl Scope {
    /// A new piece of work with a fresh request id and trace.
    pub fn new(timeout: Duration) -> Self {
        let request_id = uuid::Uuid::new_v4().as_u128();
        let trace = TraceContext { trace_id: request_id, span_id: 0, sampled: false };
        Scope { deadline: Instant::now() + timeout, trace, request_id }
    }

    /// The same work with at most `timeout` from now: the earlier of both deadlines counts.
    pub fn within(&self, timeout: Duration) -> Self {
        Scope { deadline: self.deadline.min(Instant::now() + timeout), ..*self }
    }

    /// The same identity with a new deadline, for work that outlives the request (clean-up).
    pub fn detached(&self, timeout: Duration) -> Self {
        Scope { deadline: Instant::now() + timeout, ..*self }
    }

    /// The time left; zero when the deadline has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
