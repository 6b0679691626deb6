//! What the queue's workers do: removing data from storage nodes and copying it to them.
//!
//! - `TASKS-1` every effect is idempotent: a task may be executed again after a crash at any point,
//!   and changes nothing then, whatever was written meanwhile;
//! - `TASKS-2` a copy is made known in metadata only after it is durable, and removed again when the
//!   object went away meanwhile;
//! - `TASKS-3` data are deleted only where metadata, asked at that moment, says that nothing uses
//!   them nor ever will: a catalog that lost its last commits, or came out of a backup, may need
//!   again what a task is to delete.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::actors::metadata::command::{AbortAnswer, Applied, Command};
use crate::actors::metadata::model::Refused;
use crate::actors::metadata::query::{BlobInfo, DataStatus, Query, QueryReply};
use crate::actors::metadata::{self, MetadataReply};
use crate::actors::queue_worker::task::{SaveExpect, Task, TaskKind};
use crate::actors::queue_worker::worker::Executor;
use crate::actors::storage_node::message::{self as storage, StorageError};
use crate::cluster::{Cluster, Scope, To};
use crate::types::{DataId, InstanceId, now_ms};

use super::delete::{self, Target};
use super::error::FlowError;
use super::{Env, save};

/// How long metadata and small storage calls may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long a storage node may take to pull a copy.
const COPY_LIMIT: Duration = Duration::from_secs(600);

/// Executes tasks by messages to metadata and storage nodes.
pub struct TaskExecutor {
    env: Env,
    cluster: Cluster,
}

impl TaskExecutor {
    /// An executor on this node.
    pub fn new(env: Env) -> Self {
        TaskExecutor { cluster: env.cluster.clone(), env }
    }

    async fn run(&self, task: &Task) -> Result<(), String> {
        match &task.kind {
            TaskKind::Delete { data_id, nodes } | TaskKind::Cleanup { data_id, nodes } => {
                self.delete(*data_id, nodes).await
            }
            TaskKind::Replicate { data_id, to } => self.replicate(*data_id, to).await,
            TaskKind::Discard { data_id, from } => self.discard(*data_id, from).await,
            TaskKind::Save { bucket, key, source, expect } => {
                save::save(&self.env, bucket, key, source, expect).await
            }
            TaskKind::DeleteObject { bucket, key } => {
                self.delete_object(bucket, key, request_of(task)).await
            }
            TaskKind::SaveObject { bucket, key, .. } => {
                save::save(&self.env, bucket, key, "", &SaveExpect::StillAbsent).await
            }
        }
    }

    /// Deletes an object, whoever owns its bucket; what is gone already is done.
    async fn delete_object(&self, bucket: &str, key: &str, request: u128) -> Result<(), String> {
        let scope = Scope::new(CALL_LIMIT);
        let target = Target { key: key.to_owned(), version_id: None, if_match: None };
        match delete::delete_once(&self.env, &scope, bucket, target, request).await {
            Ok(()) | Err(FlowError::Refused(Refused::NoSuchBucket)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Removes data from the nodes that still are members; a removed member took its disk along.
    async fn delete(&self, data_id: DataId, nodes: &[InstanceId]) -> Result<(), String> {
        if !self.is_free(data_id).await? {
            return Ok(()); // TASKS-3
        }
        let members = self.members().await?;
        let at = nodes.iter().filter(|n| members.contains(n)).map(|node| async move {
            let request = storage::Message::Delete { data_ids: vec![data_id] };
            self.tell_node(node, CALL_LIMIT, request).await.map_err(|e| format!("{node}: {e}"))
        });
        let failed = futures::future::join_all(at).await.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), Err)
    }

    /// Has a node pull a copy, then adds it to the locations. A node that was removed meanwhile
    /// needs none.
    async fn replicate(&self, data_id: DataId, to: &InstanceId) -> Result<(), String> {
        let Some(blob) = self.blob(data_id).await? else { return Ok(()) }; // gone meanwhile
        if !blob.lacking.contains(to) {
            return Ok(()); // it is there, or not wanted any more
        }
        if !self.members().await?.contains(to) {
            return Ok(());
        }
        let (live, rest): (Vec<_>, Vec<_>) =
            blob.locations.into_iter().partition(|n| self.cluster.is_live(n));
        // Also without a source: the node may have a good copy that was taken for bad.
        let none = live.is_empty();
        let fetch = storage::Message::Fetch { data_id, from: live };
        self.tell_node(to, COPY_LIMIT, fetch).await.map_err(|error| match none {
            true => format!("no live node has the data; they are at {rest:?}; {to}: {error}"),
            false => error,
        })?;
        let command = Command::AddLocation { data_id, instance: to.clone() };
        match self.apply(command).await? {
            Applied::Location { live: false } => {
                // TASKS-2: the object went away while we copied, or is not to be there any more
                self.discard(data_id, to).await
            }
            _ => Ok(()),
        }
    }

    /// Has a node delete what is not wanted there. The node asks metadata itself, since it alone
    /// can keep copies from arriving meanwhile (TASKS-3).
    async fn discard(&self, data_id: DataId, from: &InstanceId) -> Result<(), String> {
        if !self.members().await?.contains(from) {
            return Ok(()); // a removed member took its disk along
        }
        let request = storage::Message::Discard { data_id };
        self.tell_node(from, CALL_LIMIT, request).await.map(drop)
    }

    /// Whether nothing uses data nor ever will. What metadata has forgotten, or never knew, is
    /// aborted first, so that it stays so.
    async fn is_free(&self, data_id: DataId) -> Result<bool, String> {
        let data_ids = vec![data_id];
        let statuses = match self.ask(Query::DataStatus { data_ids: data_ids.clone() }).await? {
            QueryReply::DataStatus { statuses } => statuses,
            other => return Err(format!("unexpected answer {other:?}")),
        };
        match statuses.first() {
            Some(DataStatus::Freed { .. } | DataStatus::Aborted) => Ok(true),
            Some(DataStatus::Referenced) => Ok(false),
            Some(DataStatus::Unknown) | None => {
                let abort = Command::Abort { data_ids, now_ms: now_ms() };
                match self.apply(abort).await? {
                    Applied::AbortedData { answers } => Ok(answers == [AbortAnswer::Aborted]),
                    other => Err(format!("unexpected answer {other:?}")),
                }
            }
        }
    }

    async fn members(&self) -> Result<Vec<InstanceId>, String> {
        match self.ask(Query::Members).await? {
            QueryReply::Members { members } => Ok(members),
            other => Err(format!("unexpected answer {other:?}")),
        }
    }

    async fn blob(&self, data_id: DataId) -> Result<Option<BlobInfo>, String> {
        match self.ask(Query::Blobs { data_ids: vec![data_id] }).await? {
            QueryReply::Blobs { blobs } => {
                Ok(blobs.into_iter().find(|b| b.data_id == data_id && b.references > 0))
            }
            other => Err(format!("unexpected answer {other:?}")),
        }
    }

    async fn tell_node(
        &self,
        node: &str,
        limit: Duration,
        request: storage::Message,
    ) -> Result<storage::Reply, String> {
        let answer = self.cluster.call(&Scope::new(limit), To::Instance(node), request).await;
        answer.map_err(|e| e.to_string())?.map_err(|e: StorageError| e.to_string())
    }

    async fn ask(&self, query: Query) -> Result<QueryReply, String> {
        let scope = Scope::new(CALL_LIMIT);
        let asked = self.cluster.question(&scope, metadata::Message::Read(query)).await;
        match asked.map_err(|e| e.to_string())? {
            MetadataReply::Read(Ok(reply)) => Ok(reply),
            other => Err(format!("unexpected answer {other:?}")),
        }
    }

    async fn apply(&self, command: Command) -> Result<Applied, String> {
        let scope = Scope::new(CALL_LIMIT);
        let told = self.cluster.command(&scope, metadata::Message::Apply(command)).await;
        match told.map_err(|e| e.to_string())? {
            MetadataReply::Applied(Ok(applied)) => Ok(applied),
            other => Err(format!("unexpected answer {other:?}")),
        }
    }
}

/// The request number of a task's effect, the same each time that it is executed.
fn request_of(task: &Task) -> u128 {
    u128::from_be_bytes(md5::compute(format!("task {} {}", task.id, task.created_ms)).0)
}

impl Executor for TaskExecutor {
    fn execute<'a>(
        &'a self,
        task: &'a Task,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(self.run(task))
    }
}
