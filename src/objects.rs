//! The flows of the object store: PUT, GET, DELETE, COPY, multipart, LIST; one file a flow.
//!
//! Called by the S3 edge, the JSON API and the executors of queue tasks; they call the metadata
//! actor and the storage nodes. What is decided (placement, quorum, ranges, conditions,
//! checksums) is plain code in files of its own; the flows only drive it. A flow owns nothing
//! that outlives its request but the clean-up of data whose commit failed ([`abort`]).
//!
//! - `FLOW-1` an upload is acknowledged only when W of the N chosen nodes hold it (durable as
//!   `storage.durability` says) and metadata has committed it; W is computed from N;
//! - `FLOW-2` data whose commit failed or is unknown are first aborted in metadata; only the
//!   clean-up task that this writes deletes bytes;
//! - `FLOW-3` bytes that a client gets were checked against their checksum by the node that sent
//!   them;
//! - `FLOW-4` no flow holds more than a few chunks of a body in memory.

pub mod abort;
pub mod body;
pub mod bucket;
pub mod condition;
pub mod copy;
pub mod delete;
pub mod digest;
pub mod error;
pub mod fallback;
pub mod get;
pub mod list;
pub mod metadata;
pub mod multipart;
pub mod placement;
pub mod put;
pub mod range;
pub mod read;
pub mod rebalance;
pub mod request;
pub mod save;
pub mod tags;
pub mod tasks;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::config::{Config, Quorum};
use crate::data::client::DataClient;

pub use error::FlowError;
pub use fallback::Fallback;
pub use request::Requests;

/// What every flow has at hand. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// The way to the other actors.
    pub cluster: Cluster,
    /// Streams to and from storage nodes.
    pub data: DataClient,
    /// Numbers of the configuration.
    pub settings: Arc<ObjectSettings>,
    /// Where the actors of requests are supervised.
    pub requests: Requests,
    /// Where objects may be had that are not here.
    pub fallback: Option<Arc<dyn Fallback>>,
}

/// The numbers that the flows go by.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectSettings {
    /// N, where there are so many storage members.
    pub replicas: usize,
    /// W.
    pub write_quorum: Quorum,
    /// How long the rest of the N is waited for once W have the data.
    pub straggler_wait: Duration,
    /// A node that takes or gives no byte for so long is left, where others go on.
    pub stall_limit: Duration,
    /// A transfer in which nothing moves for so long is given up.
    pub transfer_limit: Duration,
    /// A client that sends no byte of its body for so long is given up.
    pub client_limit: Duration,
    /// How long a storage node may take to answer a message.
    pub node_timeout: Duration,
    /// How long metadata may take to answer, retries included.
    pub metadata_timeout: Duration,
    /// How long deleted or replaced data stay readable.
    pub delete_grace: Duration,
    /// Storage nodes that must have joined once before anything is written.
    pub first_nodes: u64,
    /// The least size of every part but the last.
    pub min_part_bytes: u64,
    /// How long clean-up after a failed commit is tried before it is left to the orphan check.
    pub abort_limit: Duration,
}

impl Default for ObjectSettings {
    fn default() -> Self {
        ObjectSettings::new(&Config::default())
    }
}

impl ObjectSettings {
    /// The settings that a configuration asks for.
    pub fn new(config: &Config) -> Self {
        ObjectSettings {
            replicas: config.storage.replicas,
            first_nodes: 1,
            write_quorum: config.storage.write_quorum,
            straggler_wait: Duration::from_millis(250),
            stall_limit: Duration::from_secs(1),
            transfer_limit: Duration::from_secs(10),
            client_limit: Duration::from_secs(30),
            node_timeout: Duration::from_millis(1800),
            metadata_timeout: config.metadata.timeout.0,
            min_part_bytes: config.s3.min_part_size.0,
            delete_grace: config.storage.delete_grace.0,
            abort_limit: Duration::from_secs(900),
        }
    }

    /// The settings of a cluster that is to have so many storage nodes.
    pub fn expecting(self, storage_nodes: usize) -> Self {
        let first_nodes = storage_nodes.min(self.replicas).max(1) as u64;
        ObjectSettings { first_nodes, ..self }
    }

    /// The grace of deleted data in milliseconds.
    pub fn grace_ms(&self) -> u64 {
        self.delete_grace.as_millis() as u64
    }
}

/// A new version id: opaque, and in order of time.
pub(crate) fn new_version_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// A name for a command that may be retried.
pub(crate) fn new_request() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}
