//! What replicas of one group say to each other.
//!
//! The wire form is bincode in the one envelope (`cluster::envelope`); nothing exceeds its limit:
//! entries are read from the log in pieces, and images travel over the data plane.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};

use super::types::{ReplicaId, Types};

/// A request to a replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Rpc {
    /// Entries of the log, or none: the leader lives.
    Append(AppendEntriesRequest<Types>),
    /// Vote for me.
    Vote(VoteRequest<ReplicaId>),
    /// Up to which index must one have applied to read what is true now? For the leader.
    ReadIndex,
}

impl Rpc {
    /// A short name for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Rpc::Append(_) => "append",
            Rpc::Vote(_) => "vote",
            Rpc::ReadIndex => "read_index",
        }
    }
}

/// The answer of a replica.
#[derive(Debug, Serialize, Deserialize)]
pub enum RpcReply {
    /// To [`Rpc::Append`].
    Append(AppendEntriesResponse<ReplicaId>),
    /// To [`Rpc::Vote`].
    Vote(VoteResponse<ReplicaId>),
    /// To [`Rpc::ReadIndex`].
    ReadIndex(u64),
    /// It does not lead, or no majority answers it.
    NotLeader,
    /// The replica has ended, or ends.
    Failed(String),
}
