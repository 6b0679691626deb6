//! Actors with a disk: what they acknowledged before a crash is there after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mocks3::actors::metadata::command::Command as Change;
use mocks3::actors::metadata::query::{Query, QueryReply};
use mocks3::actors::metadata::{self, Metadata, MetadataReply};
use mocks3::actors::queue_worker::task::{NewTask, TaskKind};
use mocks3::actors::queue_worker::{self, Queue, QueueReply, command::Enqueued};
use mocks3::actors::supervisor::restart::{Limits, Strategy};
use mocks3::actors::supervisor::{ChildSpec, Message, Supervisor, SupervisorSpec};
use mocks3::cluster::{Cluster, MemberInfo, Members, Scope, To};
use mocks3::types::{DataId, Service, new_instance_id, now_ms};
use ractor::ActorRef;

fn cluster() -> Cluster {
    Cluster::new(Arc::new(Members::new(MemberInfo {
        instance: new_instance_id(Service::Metadata),
        incarnation: 1,
        services: vec![Service::Metadata],
        pid: 0,
        http_url: String::new(),
        s3_url: None,
        data_address: None,
        cluster_address: String::new(),
    })))
}

async fn supervise(cluster: &Cluster, child: ChildSpec) -> ActorRef<Message> {
    let limits = Limits { max_restarts: 1000, ..Limits::default() };
    let spec = SupervisorSpec {
        name: "state".into(),
        strategy: Strategy::OneForOne,
        limits,
        children: vec![child],
        instance: cluster.instance().to_owned(),
        events: Arc::default(),
    };
    Supervisor::start_root(spec).await.unwrap().0
}

/// Kills the actor of a role on this instance, wherever it is in its work.
fn kill(role: &str, cluster: &Cluster) {
    let group = mocks3::cluster::calls::instance_group(role, cluster.instance());
    for cell in ractor::pg::get_members(&group) {
        cell.kill();
    }
}

async fn create_bucket(cluster: &Cluster, name: &str) -> bool {
    let change = Change::CreateBucket { name: name.into(), owner: "o".into(), now_ms: now_ms() };
    let scope = Scope::new(Duration::from_secs(1));
    let to = cluster.instance().to_owned();
    let answer = cluster.call(&scope, To::Instance(&to), metadata::Message::Apply(change)).await;
    matches!(answer, Ok(MetadataReply::Applied(Ok(_))))
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_buckets_survive_kills_of_the_metadata_actor() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster();
    let service = Metadata::new(dir.path().join("meta.db"), Arc::default());
    let child = ChildSpec::service("metadata", &cluster, move || service.clone());
    let root = supervise(&cluster, child).await;
    let mut acknowledged = Vec::new();
    let begun = Instant::now();
    for round in 0.. {
        let names: Vec<String> = (0..8).map(|i| format!("bucket-{round}-{i}")).collect();
        let creating = names.iter().map(|name| create_bucket(&cluster, name));
        let (done, ()) = tokio::join!(futures::future::join_all(creating), async {
            tokio::time::sleep(Duration::from_micros(200 * (round % 12))).await;
            kill("metadata", &cluster);
        });
        acknowledged.extend(names.into_iter().zip(done).filter(|(_, ok)| *ok).map(|(n, _)| n));
        if begun.elapsed() > Duration::from_secs(4) {
            break;
        }
    }
    assert!(acknowledged.len() > 20, "only {} acknowledged", acknowledged.len());
    // back within its backoff, and everything acknowledged is there
    let begun = Instant::now();
    while !create_bucket(&cluster, "the-last-one").await {
        assert!(begun.elapsed() < Duration::from_secs(10), "the actor did not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for name in acknowledged {
        let query = metadata::Message::Read(Query::GetBucket { bucket: name.clone() });
        let scope = Scope::new(Duration::from_secs(2));
        let to = cluster.instance().to_owned();
        let answer = cluster.call(&scope, To::Instance(&to), query).await.unwrap();
        let there = matches!(answer, MetadataReply::Read(Ok(QueryReply::Bucket { .. })));
        assert!(there, "{name} was acknowledged and is lost: {answer:?}");
    }
    root.stop(None);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_tasks_survive_kills_of_the_queue_actor() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster();
    let service = Queue::new(dir.path().join("queue.redb"), Arc::default());
    let child = ChildSpec::service("queue", &cluster, move || service.clone());
    let root = supervise(&cluster, child).await;
    let mut acknowledged = Vec::new();
    let begun = Instant::now();
    for round in 0.. {
        let id = format!("task-{round}");
        let kind = TaskKind::Cleanup { data_id: DataId::new(), nodes: vec!["n".into()] };
        let task = NewTask::new(id.clone(), kind, now_ms());
        let scope = Scope::new(Duration::from_secs(1));
        let (taken, ()) =
            tokio::join!(queue_worker::enqueue(&cluster, &scope, vec![task]), async {
                if round % 3 == 0 {
                    tokio::time::sleep(Duration::from_micros(100 * (round % 30))).await;
                    kill("queue", &cluster);
                }
            });
        if taken.is_ok_and(|t| t == [Enqueued::New]) {
            acknowledged.push(id);
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if begun.elapsed() > Duration::from_secs(4) {
            break;
        }
    }
    assert!(acknowledged.len() > 5, "only {} acknowledged", acknowledged.len());
    let begun = Instant::now();
    for id in acknowledged {
        loop {
            let scope = Scope::new(Duration::from_secs(2));
            let get = queue_worker::Message::Get { id: id.clone() };
            match cluster.call(&scope, To::Any, get).await {
                Ok(QueueReply::Task(task)) => {
                    assert!(task.is_some(), "{id} was acknowledged and is lost");
                    break;
                }
                other => assert!(begun.elapsed() < Duration::from_secs(10), "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    root.stop(None);
}
