//! The relay: carries outbox rows of the catalog to the queue, and acknowledges them.
//!
//! Runs as a supervised task beside the metadata actor. Safe to repeat at any point: the queue knows
//! a task by its id, and an acknowledged row is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::command::{Applied, Command};
use super::outbox::{OutboxRow, OutboxTask};
use super::query::{Query, QueryReply};
use super::{Message, MetadataReply};
use crate::actors::queue_worker::{
    self, command::Enqueued, task::NEVER_GIVE_UP, task::NewTask, task::TaskKind,
};
use crate::actors::replicated::{Leads, until_leading};
use crate::cluster::{CallError, Cluster, Scope, To};
use crate::points::{self, Point};

/// How many rows travel at once.
const BATCH: u32 = 200;
/// How long one round may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The look without being notified, and the wait after trouble.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("unexpected answer: {0}")]
    Answer(String),
}

/// Relays for ever, while the own replica leads.
pub async fn run(cluster: Cluster, notify: Arc<Notify>, leads: Leads) {
    loop {
        until_leading(&leads).await;
        match round(&cluster).await {
            Ok(true) => continue, // more is waiting
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "outbox relay waits"),
        }
        let _ = tokio::time::timeout(INTERVAL, notify.notified()).await;
    }
}

/// One page of rows; true when there may be more.
async fn round(cluster: &Cluster) -> Result<bool, RelayError> {
    let scope = Scope::new(LIMIT);
    let own = cluster.instance().to_owned();
    let read = Message::Read(Query::Outbox { after: None, max: BATCH });
    let (rows, more) = match cluster.call(&scope, To::Instance(&own), read).await? {
        MetadataReply::Read(Ok(QueryReply::Outbox { rows, more })) => (rows, more),
        other => return Err(RelayError::Answer(format!("{other:?}"))),
    };
    if rows.is_empty() {
        return Ok(false);
    }
    let tasks = rows.iter().map(to_task).collect();
    let results = queue_worker::enqueue(cluster, &scope, tasks).await?;
    points::at(Point::Relayed);
    let taken: Vec<_> = rows
        .iter()
        .zip(&results)
        .filter(|(_, r)| matches!(r, Enqueued::New | Enqueued::Known))
        .map(|(row, _)| row.id)
        .collect();
    let all = taken.len() == rows.len();
    let ack = Message::Apply(Command::AckOutbox { ids: taken });
    match cluster.command(&scope, ack).await? {
        MetadataReply::Applied(Ok(Applied::Done)) => Ok(more && all),
        other => Err(RelayError::Answer(format!("{other:?}"))),
    }
}

fn to_task(row: &OutboxRow) -> NewTask {
    let kind = match row.task.clone() {
        OutboxTask::Delete { data_id, nodes } => TaskKind::Delete { data_id, nodes },
        OutboxTask::Cleanup { data_id, nodes } => TaskKind::Cleanup { data_id, nodes },
        OutboxTask::Replicate { data_id, to } => TaskKind::Replicate { data_id, to },
        OutboxTask::Discard { data_id, from } => TaskKind::Discard { data_id, from },
    };
    // The data id, too: a catalog that lost its last commits in a power loss (`durability = "os"`)
    // uses numbers again, whose tasks the queue may still know.
    let data_id = row.task.data_id();
    let mut task = NewTask::new(format!("{}-{data_id}", row.id), kind, row.not_before_ms);
    task.max_attempts = NEVER_GIVE_UP;
    task
}
