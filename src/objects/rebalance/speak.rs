//! What the rebalancer says to others: to metadata, the queue and the storage nodes.

use std::time::Duration;

use crate::actors::metadata::command::{Applied, Command};
use crate::actors::metadata::model::Refused;
use crate::actors::metadata::query::{BlobInfo, Query, QueryReply};
use crate::actors::metadata::rebalance::{Phase, Progress, RebalanceStep};
use crate::actors::metadata::{Message, MetadataReply};
use crate::actors::queue_worker::task::KindName;
use crate::actors::queue_worker::{self, QueueReply};
use crate::actors::storage_node::message as storage;
use crate::cluster::{CallError, Cluster, Scope, To};
use crate::types::{DataId, InstanceId, Service, now_ms};

/// How many items are asked about at once.
pub const PAGE: usize = 100;
/// How many steps are sent at once.
const STEPS: usize = 64;
/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a node may take to say how far its rebalancer is.
const PROGRESS_LIMIT: Duration = Duration::from_secs(1);

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Not the answer to the question.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// Other members than it began with.
    #[error("the storage members changed")]
    Changed,
}

/// The calls of a rebalancer.
pub struct Speaker {
    cluster: Cluster,
}

impl Speaker {
    /// Speaks over this cluster.
    pub fn new(cluster: Cluster) -> Self {
        Speaker { cluster }
    }

    /// Whether a node is in session.
    pub fn is_live(&self, node: &str) -> bool {
        self.cluster.is_live(node)
    }

    /// The storage members.
    pub async fn members(&self) -> Result<Vec<InstanceId>, Trouble> {
        match self.ask(Query::Members).await? {
            QueryReply::Members { members } => Ok(members),
            other => Err(Trouble::Answer(format!("{other:?}"))),
        }
    }

    /// The items after this one; none at the end.
    pub async fn page(&self, after: Option<DataId>) -> Result<Vec<BlobInfo>, Trouble> {
        let max = PAGE as u32;
        self.blobs_of(Query::BlobsAfter { after, max }).await
    }

    /// Those of these items that are in use.
    pub async fn blobs(&self, data_ids: Vec<DataId>) -> Result<Vec<BlobInfo>, Trouble> {
        self.blobs_of(Query::Blobs { data_ids }).await
    }

    async fn blobs_of(&self, query: Query) -> Result<Vec<BlobInfo>, Trouble> {
        match self.ask(query).await? {
            QueryReply::Blobs { blobs } => Ok(blobs),
            other => Err(Trouble::Answer(format!("{other:?}"))),
        }
    }

    /// Whether no copy is being made, nor asked for.
    pub async fn nothing_is_replicated(&self) -> Result<bool, Trouble> {
        let rows = match self.ask(Query::Outbox { after: None, max: 1 }).await? {
            QueryReply::Outbox { rows, .. } => rows,
            other => return Err(Trouble::Answer(format!("{other:?}"))),
        };
        let stats = queue_worker::Message::Stats;
        match self.cluster.question(&Scope::new(LIMIT), stats).await {
            Ok(QueueReply::Stats(stats)) => {
                Ok(rows.is_empty() && stats.counts.unfinished_of(KindName::Replicate) == 0)
            }
            _ => Ok(false),
        }
    }

    /// Has metadata make a step; false where the data are in use no more.
    pub async fn step(&self, step: RebalanceStep) -> Result<bool, Trouble> {
        let command = Command::Rebalance { step, now_ms: now_ms() };
        match self.cluster.command(&Scope::new(LIMIT), Message::Apply(command)).await? {
            MetadataReply::Applied(Ok(Applied::Location { live })) => Ok(live),
            MetadataReply::Applied(Err(Refused::NoSuchNode)) => Err(Trouble::Changed),
            other => Err(Trouble::Answer(format!("{other:?}"))),
        }
    }

    /// The same for many; gives how many were of data in use.
    pub async fn steps(&self, steps: Vec<RebalanceStep>) -> Result<u64, Trouble> {
        let mut done = 0;
        for some in steps.chunks(STEPS) {
            let all = some.iter().map(|step| self.step(step.clone()));
            for live in futures::future::join_all(all).await {
                done += u64::from(live?);
            }
        }
        Ok(done)
    }

    /// The lengths of those items that a storage node has; none where it does not answer.
    pub async fn sizes(&self, node: &str, data_ids: Vec<DataId>) -> Vec<(DataId, u64)> {
        let request = storage::Message::Info { data_ids: data_ids.clone() };
        match self.cluster.call(&Scope::new(LIMIT), To::Instance(node), request).await {
            Ok(Ok(storage::Reply::Infos(infos))) => {
                let pairs = data_ids.into_iter().zip(infos);
                pairs.filter_map(|(id, info)| Some((id, info?.len))).collect()
            }
            _ => Vec::new(),
        }
    }

    async fn ask(&self, query: Query) -> Result<QueryReply, Trouble> {
        match self.cluster.question(&Scope::new(LIMIT), Message::Read(query)).await? {
            MetadataReply::Read(Ok(reply)) => Ok(reply),
            other => Err(Trouble::Answer(format!("{other:?}"))),
        }
    }
}

/// How far the rebalancing is: told by the metadata node on which it runs. `None` where no metadata
/// node answers.
pub async fn progress(cluster: &Cluster) -> Option<Progress> {
    let scope = Scope::new(PROGRESS_LIMIT);
    let nodes = cluster.members().into_iter();
    let nodes = nodes.filter(|member| member.services.contains(&Service::Metadata));
    let asked = nodes.map(|node| async move {
        match cluster.call(&scope, To::Instance(&node.instance), Message::Progress).await {
            Ok(MetadataReply::Progress(progress)) => Some(*progress),
            _ => None,
        }
    });
    let told = futures::future::join_all(asked).await.into_iter().flatten();
    told.max_by_key(|progress| progress.phase != Phase::Off)
}
