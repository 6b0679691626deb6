//! Restored replicas, as nodes find them: the state of the image, in a group of its own, which
//! others follow only by taking the image.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::actors::queue_worker::command::Command;
use crate::actors::queue_worker::task::{NewTask, TaskKind};
use crate::replica::message::{Rpc, RpcReply};
use crate::replica::types::{ImageMeta, Item, Peer, Vote};
use crate::replica::{
    Carrier, CarrierError, Exec, Keyed, LogStore, Replica, Settings, Setup, Synced,
};
use crate::types::DataId;

fn enqueue(id: &str) -> Command {
    let kind = TaskKind::Replicate { data_id: DataId(7), to: "s1".into() };
    Command::Enqueue { tasks: vec![NewTask::new(id, kind, 1_000)], limit: 100 }
}

/// An image of a queue with two tasks, and its digest.
fn image(dir: &Path) -> (PathBuf, Digest) {
    let mut queue = QueueMachine::open(&dir.join("source")).unwrap();
    let commands = ["a", "b"].map(|id| Keyed { key: 0, command: enqueue(id) });
    queue.apply(1, &commands, b"the mark of another group").unwrap();
    let image = dir.join("image");
    queue.exporter().unwrap()(&image).unwrap();
    (image, queue.digester().unwrap()().unwrap())
}

/// A restored node.
fn restored(dir: &Path) -> (Stopped, Digest) {
    let (image, digest) = image(dir);
    let mut node = Stopped::open(&dir.join("node"), Some((Service::Queue, "q1"))).unwrap();
    assert_eq!(node.prepare(Service::Queue, &image, 9), Ok(digest));
    node.tell(Service::Queue, 9).unwrap();
    assert_eq!(node.move_aside(Service::Queue).unwrap(), None);
    node.put(Service::Queue).unwrap();
    (node, digest)
}

/// Calls between replicas of this process.
#[derive(Clone, Default)]
struct Here(Arc<Mutex<HashMap<String, Replica<QueueMachine>>>>, Arc<Mutex<Vec<String>>>);

impl Here {
    fn replica(&self, peer: &Peer) -> Result<Replica<QueueMachine>, CarrierError> {
        let found = self.0.lock().unwrap().get(&peer.instance).cloned();
        found.ok_or_else(|| CarrierError("not there".into()))
    }
}

impl Carrier for Here {
    async fn call(&self, to: &Peer, rpc: Rpc, _: Duration) -> Result<RpcReply, CarrierError> {
        Ok(self.replica(to)?.serve(rpc).await)
    }

    async fn image(
        &self,
        to: &Peer,
        vote: Vote,
        meta: ImageMeta,
        file: PathBuf,
        _: Duration,
    ) -> Result<Vote, CarrierError> {
        self.1.lock().unwrap().push(to.instance.clone());
        let replica = self.replica(to)?;
        let copy = replica.host().image_path();
        std::fs::copy(file, &copy).unwrap();
        replica.install(vote, meta, copy).await.map_err(CarrierError)
    }
}

async fn start(dir: &Path, instance: &str, here: &Here) -> Replica<QueueMachine> {
    std::fs::create_dir_all(dir.join("images")).unwrap();
    let log = LogStore::open_file(&dir.join(LOG_FILE), Synced::Always, Arc::new(())).unwrap();
    let own = Peer { id: log.id(), instance: instance.to_owned() };
    let setup = Setup {
        group: "test",
        own,
        log,
        machine: QueueMachine::open(&dir.join(queue_worker::FILE)).unwrap(),
        images: dir.join("images"),
        exec: Exec::Blocking,
        held: Arc::new(()),
    };
    let replica = Replica::start(setup, &Settings::default(), here.clone()).await.unwrap();
    here.0.lock().unwrap().insert(instance.to_owned(), replica.clone());
    replica
}

async fn propose(replica: &Replica<QueueMachine>, command: &Command) {
    let body = bincode::serialize(command).unwrap().into();
    let (done, outcome) = tokio::sync::oneshot::channel();
    replica.submit(Item { key: 0, body }, move |outcome| drop(done.send(outcome)));
    outcome.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_restored_replica_leads_its_own_group_and_gives_all_its_state_to_who_joins() {
    let dir = TempDir::new().unwrap();
    let (node, digest) = restored(dir.path());
    let here = Here::default();
    let one = start(&node.place(Service::Queue), "q1", &here).await;
    let leads = one.raft().wait(Some(Duration::from_secs(10)));
    leads.state(openraft::ServerState::Leader, "it votes alone").await.unwrap();
    one.barrier().await.unwrap();
    assert_eq!(one.host().digest().await, Ok(digest), "the state is that of the image");

    let two = start(&dir.path().join("fresh"), "q2", &here).await;
    one.raft().add_learner(two.id(), two.own().clone(), true).await.unwrap();
    propose(&one, &enqueue("c")).await;
    let read = async {
        while two.barrier().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await; // it hears of the leader first
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the second one follows");
    assert_eq!(*here.1.lock().unwrap(), ["q2"], "BACKUP-2: it came by the image");
    let both = (one.host().digest().await.unwrap(), two.host().digest().await.unwrap());
    assert_eq!(both.0, both.1);
    assert_eq!(both.0.applied, 3, "commands count on from the image");
    one.stop().await;
    two.stop().await;
}

#[test]
fn what_was_there_is_moved_aside_and_a_failed_restore_touches_nothing() {
    let dir = TempDir::new().unwrap();
    let (node, digest) = restored(dir.path());
    let place = node.place(Service::Queue);
    let before = std::fs::read(place.join(queue_worker::FILE)).unwrap();
    let bad = dir.path().join("bad");
    std::fs::write(&bad, b"no image").unwrap();
    node.prepare(Service::Queue, &bad, 10).unwrap_err();
    assert_eq!(std::fs::read(place.join(queue_worker::FILE)).unwrap(), before);
    let image = dir.path().join("image");
    assert_eq!(node.prepare(Service::Queue, &image, 10), Ok(digest), "after a failed one");
    let aside = node.move_aside(Service::Queue).unwrap().unwrap();
    assert_eq!(std::fs::read(aside.join(queue_worker::FILE)).unwrap(), before);
    assert!(!node.has_state(Service::Queue).unwrap());
    node.put(Service::Queue).unwrap();
    assert!(node.has_state(Service::Queue).unwrap());
    let log = LogStore::open_file(&place.join(LOG_FILE), Synced::Always, Arc::new(())).unwrap();
    assert_eq!(log.group(), Some(10));
}

#[test]
fn a_node_that_runs_or_is_none_is_refused() {
    let dir = TempDir::new().unwrap();
    let open = |new| Stopped::open(dir.path(), new).map(|_| ());
    assert!(matches!(open(None), Err(DiskError::Io { .. })));
    let runs = NodeDisk::open(dir.path(), &[Service::Queue, Service::Storage], None).unwrap();
    assert!(matches!(open(None), Err(DiskError::Locked(_))));
    let instance = runs.identity().instance.clone();
    drop(runs);
    let node = Stopped::open(dir.path(), None).unwrap();
    assert_eq!((node.instance(), node.services().len()), (instance.as_str(), 2));
}

#[test]
fn only_services_with_a_replicated_state_take_an_image() {
    let dir = TempDir::new().unwrap();
    let (image, digest) = image(dir.path());
    let bytes = std::fs::read(&image).unwrap();
    let take = |service: Service, name: &str| take(service, &image, &dir.path().join(name), None);
    assert_eq!(take(Service::Queue, "a"), Ok(digest));
    assert!(std::fs::read(&image).unwrap() == bytes, "the image of a backup was written to");
    take(Service::Metadata, "b").unwrap_err();
    assert!(take(Service::Storage, "c").unwrap_err().contains("no replicated state"));
}
