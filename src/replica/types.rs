//! The types that openraft is instantiated with: the same for every group, so that it is compiled
//! once. Commands travel as bytes; the machine's host decodes them.

use bytes::Bytes;
use openraft::storage::Snapshot;
use openraft::{RaftTypeConfig, SnapshotMeta};
use serde::{Deserialize, Serialize};

use super::chance::Runtime;
use super::machine::Image;

/// Who a replica is: made up with its log, and gone with it. One that lost its log must not vote
/// under its old name.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct ReplicaId(pub u128);

impl From<u64> for ReplicaId {
    fn from(id: u64) -> Self {
        ReplicaId(id.into())
    }
}

impl std::fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", uuid::Uuid::from_u128(self.0))
    }
}

/// A replica, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who it is.
    pub id: ReplicaId,
    /// Its instance, `{service}-{uuid}`.
    pub instance: String,
}

/// One command as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The same for every retry of one intent; 0 = none.
    pub key: u128,
    /// The encoded command.
    pub body: Bytes,
}

/// What an entry of the log carries: commands that were proposed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Known to the proposer alone: finds those who wait for the outcomes.
    pub id: u128,
    /// The commands, in their order.
    pub items: Vec<Item>,
}

/// The instantiation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = Proposal;
    type R = (); // outcomes go from the machine to those who wait, see `host`
    type NodeId = ReplicaId;
    type Node = Peer;
    type Entry = Entry;
    type SnapshotData = Image;
    type AsyncRuntime = Runtime;
    type Responder = openraft::impls::OneshotResponder<Types>;
}

/// Openraft, so instantiated.
pub type Raft = openraft::Raft<Types>;
/// An entry of the log.
pub type Entry = openraft::Entry<Types>;
/// Term, leader and index of an entry.
pub type LogId = openraft::LogId<ReplicaId>;
/// Who leads, and in which term: ordered by the term, then by the replica. There may be several of one
/// term, of which the greatest counts.
pub type LeaderId = openraft::LeaderId<ReplicaId>;
/// Term and candidate.
pub type Vote = openraft::Vote<ReplicaId>;
/// Who votes, who learns, and the entry that says so.
pub type Membership = openraft::StoredMembership<ReplicaId, Peer>;
/// What openraft makes of a failed disk.
pub type StorageError = openraft::StorageError<ReplicaId>;
/// What an image holds.
pub type ImageMeta = SnapshotMeta<ReplicaId, Peer>;
/// An image of a machine, and what it holds.
pub type ImageOf = Snapshot<Types>;
