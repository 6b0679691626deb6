//! What a task does when it is executed again, or when metadata thinks otherwise (TASKS-1, TASKS-3).

use std::sync::Arc;
use std::time::Duration;

use mocks3::actors::metadata::query::{Found, Query, QueryReply};
use mocks3::actors::metadata::{Message, MetadataReply};
use mocks3::actors::queue_worker::task::{Task, TaskKind, TaskState};
use mocks3::actors::queue_worker::worker::Executor;
use mocks3::cluster::{Cluster, Members, Scope, To};
use mocks3::config::Config;
use mocks3::data::client::{ClientOptions, DataClient};
use mocks3::objects::request::Requests;
use mocks3::objects::tasks::TaskExecutor;
use mocks3::objects::{Env, ObjectSettings};
use mocks3::types::{DataId, Service};

use crate::node::{Running, S3, alone};

const BUCKET: &str = "tasks";

/// An executor in the process of a node: it reaches the node's actors.
fn executor(node: &Running) -> (TaskExecutor, Cluster) {
    let cluster = Cluster::new(Arc::new(Members::new(node.info.clone())));
    let env = Env {
        cluster: cluster.clone(),
        data: DataClient::new(ClientOptions::default()),
        settings: Arc::new(ObjectSettings::new(&Config::default())),
        requests: Requests::default(),
        fallback: None,
    };
    (TaskExecutor::new(env), cluster)
}

fn task(id: &str, kind: TaskKind) -> Task {
    Task {
        id: id.to_owned(),
        kind,
        state: TaskState::Running,
        priority: 100,
        attempts: 1,
        lost: 0,
        max_attempts: 10,
        not_before_ms: 1,
        created_ms: 1,
        updated_ms: 1,
        started_ms: None,
        finished_ms: None,
        lease: None,
        last_token: 1,
        last_error: None,
        object: None,
    }
}

async fn data_of(cluster: &Cluster, key: &str) -> DataId {
    let (bucket, key) = (BUCKET.to_owned(), key.to_owned());
    let lookup = Message::Read(Query::Lookup { bucket, key, version_id: None });
    let scope = Scope::new(Duration::from_secs(5));
    match cluster.call(&scope, To::Any, lookup).await.unwrap() {
        MetadataReply::Read(Ok(QueryReply::Object {
            found: Found::Object { parts, .. }, ..
        })) => parts[0].data_id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_that_is_executed_again_destroys_nothing_that_is_in_use() {
    let name = "tasks::a_task_that_is_executed_again_destroys_nothing_that_is_in_use";
    alone(name, || async {
        let dir = tempfile::tempdir().unwrap();
        let services = [Service::Metadata, Service::Queue, Service::Storage];
        let node = Running::start(dir.path(), &services, Vec::new(), Config::default()).await;
        let s3 = node.s3(BUCKET);
        s3.create_soon().await;
        let (executor, cluster) = executor(&node);
        repeated(&executor, &s3).await;
        mistaken(&executor, &cluster, &s3, &node.info.instance).await;
        node.stop().await;
    });
}

/// Its first execution was not heard of, the key was written again, and the task came once more.
async fn repeated(executor: &TaskExecutor, s3: &S3) {
    let delete =
        |id| task(id, TaskKind::DeleteObject { bucket: BUCKET.to_owned(), key: "k".to_owned() });
    assert_eq!(s3.put("k", b"old").await, 200);
    executor.execute(&delete("once")).await.unwrap();
    assert_eq!(s3.get("k").await.0, 404);
    assert_eq!(s3.put("k", b"new").await, 200);
    executor.execute(&delete("once")).await.unwrap();
    assert_eq!(s3.get("k").await, (200, b"new".to_vec()), "the repetition deleted a newer object");
    executor.execute(&delete("another")).await.unwrap();
    assert_eq!(s3.get("k").await.0, 404);
}

/// The queue has a task to delete data that metadata still uses: so does one whose metadata came
/// out of a backup, or lost its last commits.
async fn mistaken(executor: &TaskExecutor, cluster: &Cluster, s3: &S3, instance: &str) {
    assert_eq!(s3.put("used", b"bytes").await, 200);
    let (data_id, nodes) = (data_of(cluster, "used").await, vec![instance.to_owned()]);
    for kind in [
        TaskKind::Delete { data_id, nodes: nodes.clone() },
        TaskKind::Cleanup { data_id, nodes: nodes.clone() },
        TaskKind::Discard { data_id, from: instance.to_owned() },
    ] {
        executor.execute(&task("mistaken", kind)).await.unwrap();
        assert_eq!(s3.get("used").await, (200, b"bytes".to_vec()));
    }
    assert_eq!(s3.delete("used").await, 204);
    executor.execute(&task("right", TaskKind::Delete { data_id, nodes })).await.unwrap();
}
