//! The actor cluster: how nodes find, trust and watch each other, and how actors call each other.
//!
//! `ractor` and `ractor_cluster` carry the messages; everything that makes them dependable is here:
//! handshake, failure detection, reconnection, the one envelope, deadlines, admission, credit.

mod ask;
pub mod calls;
pub mod codec;
pub mod consul;
pub mod envelope;
pub mod handshake;
pub mod heartbeat;
pub mod link;
pub mod members;
pub mod scope;
pub mod sessions;
pub mod shell;
pub mod transport;

pub use calls::{CallError, Cluster, To};
pub use envelope::{Nack, Wire};
pub use members::{MemberEvent, MemberInfo, MemberState, Members};
pub use scope::{Scope, TraceContext};
pub use shell::{ActorError, Call, Context, Fail, Reply, Service, Shell};
