//! What the queue's workers do: removing data from storage nodes and copying it to them.
//!
//! - `TASKS-1` every effect is idempotent: a task may be executed again after a crash at any point;
//! - `TASKS-2` a copy is made known in metadata only after it is durable, and removed again when the
//!   object went away meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::actors::metadata::command::{Applied, Command};
use crate::actors::metadata::model::Refused;
use crate::actors::metadata::query::{BlobInfo, Query, QueryReply};
use crate::actors::metadata::{self, MetadataReply};
use crate::actors::queue_worker::task::{SaveExpect, Task, TaskKind};
use crate::actors::queue_worker::worker::Executor;
use crate::actors::storage_node::message::{self as storage, StorageError};
use crate::cluster::{Cluster, Scope, To};
use crate::types::{DataId, InstanceId};

use super::delete::{self, Target};
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
            TaskKind::Save { bucket, key, source, expect } => {
                save::save(&self.env, bucket, key, source, expect).await
            }
            TaskKind::DeleteObject { bucket, key } => self.delete_object(bucket, key).await,
            TaskKind::SaveObject { bucket, key, .. } => {
                save::save(&self.env, bucket, key, "", &SaveExpect::StillAbsent).await
            }
        }
    }

    /// Deletes an object as the owner of its bucket; what is gone already is done.
    async fn delete_object(&self, bucket: &str, key: &str) -> Result<(), String> {
        let query = Query::GetBucket { bucket: bucket.to_owned() };
        let owner = match self.metadata(metadata::Message::Read(query)).await? {
            MetadataReply::Read(Ok(QueryReply::Bucket { bucket, .. })) => bucket.owner,
            MetadataReply::Read(Err(Refused::NoSuchBucket)) => return Ok(()),
            other => return Err(format!("unexpected answer {other:?}")),
        };
        let scope = Scope::new(CALL_LIMIT);
        let target = Target { key: key.to_owned(), version_id: None, if_match: None };
        let deleted = delete::delete(&self.env, &scope, bucket, &owner, vec![target]).await;
        match deleted.map_err(|e| e.to_string())?.pop() {
            Some(Err(refused)) => Err(refused.to_string()),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Removes data from the nodes that still are members; a removed member took its disk along.
    async fn delete(&self, data_id: DataId, nodes: &[InstanceId]) -> Result<(), String> {
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
        if blob.locations.contains(to) {
            return Ok(());
        }
        if !self.members().await?.contains(to) {
            return Ok(());
        }
        let (live, rest): (Vec<_>, Vec<_>) =
            blob.locations.into_iter().partition(|n| self.cluster.is_live(n));
        if live.is_empty() {
            return Err(format!("no live node has the data; they are at {rest:?}"));
        }
        let fetch = storage::Message::Fetch { data_id, from: live };
        self.tell_node(to, COPY_LIMIT, fetch).await?;
        let command = Command::AddLocation { data_id, instance: to.clone() };
        match self.apply(command).await? {
            Applied::Location { live: false } => {
                // TASKS-2: the object went away while we copied
                let request = storage::Message::Delete { data_ids: vec![data_id] };
                self.tell_node(to, CALL_LIMIT, request).await.map(drop)
            }
            _ => Ok(()),
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
        match self.metadata(metadata::Message::Read(query)).await? {
            MetadataReply::Read(Ok(reply)) => Ok(reply),
            other => Err(format!("unexpected answer {other:?}")),
        }
    }

    async fn apply(&self, command: Command) -> Result<Applied, String> {
        match self.metadata(metadata::Message::Apply(command)).await? {
            MetadataReply::Applied(Ok(applied)) => Ok(applied),
            other => Err(format!("unexpected answer {other:?}")),
        }
    }

    async fn metadata(&self, message: metadata::Message) -> Result<MetadataReply, String> {
        let answer = self.cluster.call(&Scope::new(CALL_LIMIT), To::Any, message).await;
        answer.map_err(|e| e.to_string())
    }
}

impl Executor for TaskExecutor {
    fn execute<'a>(
        &'a self,
        task: &'a Task,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(self.run(task))
    }
}
