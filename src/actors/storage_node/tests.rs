//! The storage node actor with its real store and the data plane over loopback sockets.

mod faults;
mod metadata;
mod transfers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use ractor::{Actor, ActorRef};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::message::{Message, NodeStats, Reply, StorageError, StoredInfo, Ticket};
use super::{Settings, StorageNode};
use crate::cluster::calls::instance_group;
use crate::cluster::envelope::Env;
use crate::cluster::transport::Transport;
use crate::cluster::{Cluster, MemberInfo, Members, Scope, Shell, To, Wire};
use crate::data::client::{ClientOptions, DataClient, TransferError};
use crate::data::desk::Desk;
use crate::data::server::{ServerLimits, serve};
use crate::types::{DataId, Service, new_instance_id};

const MIB: usize = 1 << 20;

/// One storage node in this process, with its own instance id, data server and directory.
struct Node {
    cluster: Cluster,
    service: StorageNode,
    actor: ActorRef<Env<Message>>,
    ended: JoinHandle<()>,
    client: DataClient,
    dir: PathBuf,
    _stop: DropGuard,
    _dir: tempfile::TempDir,
}

fn cluster() -> Cluster {
    let own = MemberInfo {
        instance: new_instance_id(Service::Storage),
        incarnation: 1,
        services: vec![Service::Storage],
        pid: 0,
        http_url: String::new(),
        s3_url: None,
        data_address: None,
        cluster_address: String::new(),
    };
    Cluster::new(Arc::new(Members::new(own)))
}

impl Node {
    async fn start() -> Node {
        Node::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut Settings)) -> Node {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        std::fs::create_dir(&dir).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (desk, stop) = (Arc::<Desk>::default(), CancellationToken::new());
        tokio::spawn(serve(
            listener,
            Transport::plain(),
            desk.clone(),
            ServerLimits::default(),
            Arc::new(|work| work),
            stop.clone(),
        ));
        let mut settings = Settings::new(dir.clone(), address);
        settings.options.segment_bytes = 16 << 20;
        change(&mut settings);
        let client = DataClient::new(ClientOptions::default());
        let service = StorageNode::new(settings, desk, client.clone());
        let cluster = cluster();
        let (actor, ended) = spawn(&service, &cluster).await;
        let _stop = stop.drop_guard();
        Node { cluster, service, actor, ended, client, dir, _stop, _dir: temp }
    }

    /// Kills the actor and starts the next life over the same directory.
    async fn kill_and_restart(&mut self) {
        self.actor.kill();
        (self.actor, self.ended) = spawn(&self.service, &self.cluster).await;
    }

    fn instance(&self) -> String {
        self.cluster.instance().to_owned()
    }

    async fn ask(&self, message: Message) -> Result<Reply, StorageError> {
        let scope = Scope::new(Duration::from_secs(20));
        self.cluster.call(&scope, To::Instance(self.cluster.instance()), message).await.unwrap()
    }

    async fn write(&self, data_id: DataId, bytes: &Bytes) -> Result<StoredInfo, StorageError> {
        match self.ask(Message::Write { data_id, bytes: bytes.clone() }).await? {
            Reply::Stored(info) => Ok(info),
            other => panic!("{other:?}"),
        }
    }

    async fn read(&self, data_id: DataId, offset: u64, len: u64) -> Result<Bytes, StorageError> {
        match self.ask(Message::Read { data_id, offset, len }).await? {
            Reply::Bytes(bytes) => Ok(bytes),
            other => panic!("{other:?}"),
        }
    }

    async fn info(&self, data_id: DataId) -> Option<StoredInfo> {
        match self.ask(Message::Info { data_ids: vec![data_id] }).await.unwrap() {
            Reply::Infos(infos) => infos[0],
            other => panic!("{other:?}"),
        }
    }

    async fn stats(&self) -> NodeStats {
        match self.ask(Message::Stats).await.unwrap() {
            Reply::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    async fn ticket(&self, message: Message) -> Result<Ticket, StorageError> {
        match self.ask(message).await? {
            Reply::Ticket(ticket) => Ok(ticket),
            other => panic!("{other:?}"),
        }
    }

    /// Streams `bytes` in; without `good_end` the source gives up after them.
    async fn put(
        &self,
        data_id: DataId,
        bytes: &Bytes,
        good_end: bool,
    ) -> Result<StoredInfo, TransferError> {
        let len = Some(bytes.len() as u64);
        let ticket = self.ticket(Message::BeginWrite { data_id, len }).await.unwrap();
        let (tx, rx) = mpsc::channel(2);
        let mut rest = bytes.clone();
        tokio::spawn(async move {
            while !rest.is_empty() {
                let _ = tx.send(rest.split_to(rest.len().min(MIB / 4))).await;
            }
            if good_end {
                let _ = tx.send(Bytes::new()).await;
            }
        });
        self.client.put(&ticket, data_id, rx, len).await
    }

    async fn get(&self, data_id: DataId, offset: u64, len: u64) -> Result<Bytes, TransferError> {
        let ticket = self.ticket(Message::BeginRead { data_id, offset, len }).await;
        let mut download = self.client.get(&ticket.unwrap(), data_id).await?;
        let mut all = Vec::new();
        while let Some(bytes) = download.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all.into())
    }
}

async fn spawn(
    service: &StorageNode,
    cluster: &Cluster,
) -> (ActorRef<Env<Message>>, JoinHandle<()>) {
    let shell = Shell::new(service.clone(), cluster.clone());
    let (actor, ended) = Actor::spawn(None, shell, ()).await.unwrap();
    let group = instance_group(Message::ROLE, cluster.instance());
    eventually("only the new actor is in its group", || async {
        let ids = ractor::pg::get_members(&group).into_iter().map(|member| member.get_id());
        ids.eq([actor.get_id()])
    })
    .await;
    (actor, ended)
}

/// Bytes without repetition, other ones for every `seed`.
fn pattern(seed: usize, len: usize) -> Bytes {
    let mut state = seed as u64 + 1;
    let xorshift = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    });
    xorshift.take(len).collect::<Vec<u8>>().into()
}

/// Flips one bit of the first record that holds `needle` in the segment files of `dir`.
fn damage(dir: &Path, needle: &[u8]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        if let Some(at) = bytes.windows(needle.len()).position(|w| w == needle) {
            bytes[at] ^= 1;
            // In place: the store has the file open.
            use std::os::unix::fs::FileExt;
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
            return;
        }
    }
    panic!("no segment holds the bytes");
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 10 s: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_items_are_written_read_listed_and_deleted_by_message() {
    let node = Node::start().await;
    let (id, bytes) = (DataId(1), pattern(0, 1000));
    let info = node.write(id, &bytes).await.unwrap();
    assert_eq!((info.len, info.md5), (1000, md5::compute(&bytes).0));
    assert_eq!(node.write(id, &bytes).await, Ok(info), "the same again");
    assert_eq!(node.write(id, &pattern(1, 1000)).await, Err(StorageError::Conflict(id)));
    assert_eq!(node.read(id, 0, 1000).await.unwrap(), bytes);
    assert_eq!(node.read(id, 990, 10).await.unwrap(), bytes.slice(990..));
    assert_eq!(node.read(DataId(2), 0, 1).await, Err(StorageError::NotFound(DataId(2))));
    assert_eq!(node.stats().await.items, 1);
    let infos = node.ask(Message::Info { data_ids: vec![DataId(2), id] }).await;
    assert_eq!(infos, Ok(Reply::Infos(vec![None, Some(info)])));
    for _ in 0..2 {
        let deleted = node.ask(Message::Delete { data_ids: vec![id, DataId(2)] }).await;
        assert_eq!(deleted, Ok(Reply::Done));
    }
    assert_eq!(node.info(id).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_out_of_bounds_are_refused() {
    let node = Node::start_with(|s| s.options.quota_bytes = Some(64 << 20)).await;
    let (data_id, ids) = (DataId(1), vec![DataId(1); 1001]);
    node.write(data_id, &pattern(0, 10)).await.unwrap();
    let invalid = [
        Message::Write { data_id: DataId(2), bytes: pattern(0, 64 * 1024 + 1) },
        Message::Read { data_id, offset: 0, len: 64 * 1024 + 1 },
        Message::Read { data_id, offset: 1, len: 10 },
        Message::BeginRead { data_id, offset: u64::MAX, len: 2 },
        Message::Delete { data_ids: ids.clone() },
        Message::Info { data_ids: ids },
    ];
    for message in invalid {
        let answer = node.ask(message.clone()).await;
        assert!(matches!(answer, Err(StorageError::Invalid(_))), "{message:?}: {answer:?}");
    }
    let too_long = Message::BeginWrite { data_id: DataId(3), len: Some(1 << 30) };
    assert_eq!(node.ask(too_long).await, Err(StorageError::Full));
    let unknown = Message::BeginRead { data_id: DataId(4), offset: 0, len: 0 };
    assert_eq!(node.ask(unknown).await, Err(StorageError::NotFound(DataId(4))));
}
