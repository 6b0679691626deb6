//! Kills and failing disks: what was acknowledged stays, what was under way ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::actors::storage_node::store::{DiskHook, DiskOp};
use crate::cluster::CallError;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_actor_loses_nothing_acknowledged_and_ends_its_transfers() {
    let mut node = Node::start().await;
    for round in 0..5_u128 {
        let (small, large) = (DataId(10 * round), DataId(10 * round + 1));
        let bytes = pattern(round as usize, 3 * MIB);
        node.write(small, &bytes.slice(..1000)).await.unwrap();
        node.put(large, &bytes, true).await.unwrap();
        // One upload and one download are under way, some writes are in the mailbox.
        let half = DataId(10 * round + 2);
        let ticket = node.ticket(Message::BeginWrite { data_id: half, len: None }).await.unwrap();
        let (tx, rx) = mpsc::channel(2);
        tx.send(bytes.clone()).await.unwrap();
        let client = node.client.clone();
        let upload = tokio::spawn(async move { client.put(&ticket, half, rx, None).await });
        let read = Message::BeginRead { data_id: large, offset: 0, len: 3 * MIB as u64 };
        let stale = node.ticket(read).await.unwrap();
        let scope = Scope::new(Duration::from_secs(5));
        let write = Message::Write { data_id: DataId(10 * round + 3), bytes: bytes.slice(..10) };
        let calling = node.cluster.clone();
        let maybe = tokio::spawn(async move {
            calling.call(&scope, To::Instance(calling.instance()), write).await
        });
        tokio::time::sleep(Duration::from_millis(5 * round as u64)).await;
        node.kill_and_restart().await;

        let end = upload.await.unwrap();
        assert!(matches!(end, Err(TransferError::Broken(_))), "{end:?}");
        assert!(node.client.get(&stale, large).await.is_err(), "a ticket outlived its actor");
        assert_eq!(node.read(small, 0, 1000).await.unwrap(), bytes.slice(..1000));
        assert!(node.get(large, 0, 3 * MIB as u64).await.unwrap() == bytes);
        assert_eq!(node.info(half).await, None);
        if maybe.await.unwrap().is_ok() {
            assert_eq!(node.read(DataId(10 * round + 3), 0, 10).await.unwrap(), bytes.slice(..10));
        }
    }
}

#[derive(Default)]
struct FailingSync(AtomicBool);

impl DiskHook for FailingSync {
    fn on(&self, op: DiskOp<'_>) -> io::Result<()> {
        match op {
            DiskOp::Sync if self.0.load(Ordering::SeqCst) => Err(io::Error::other("bad cable")),
            _ => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_never_acknowledged_and_ends_the_actor() {
    let hook = Arc::<FailingSync>::default();
    let asked = hook.clone();
    let mut node = Node::start_with(|s| s.options.hook = Some(asked)).await;
    node.write(DataId(1), &pattern(0, 10)).await.unwrap();
    hook.0.store(true, Ordering::SeqCst);
    let (scope, own) = (Scope::new(Duration::from_secs(5)), To::Instance(node.cluster.instance()));
    let write = Message::Write { data_id: DataId(2), bytes: pattern(0, 10) };
    let answer = node.cluster.call(&scope, own, write).await;
    // Either may win: the answer, or the end of the actor.
    let said = matches!(answer, Ok(Err(StorageError::Io(_))) | Err(CallError::Dropped));
    assert!(said, "{answer:?}");
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut node.ended).await;
    assert!(ended.is_ok(), "the actor goes on with a store that it cannot trust");
    hook.0.store(false, Ordering::SeqCst);
    node.kill_and_restart().await;
    assert_eq!(node.read(DataId(1), 0, 10).await.unwrap(), pattern(0, 10));
    node.write(DataId(2), &pattern(0, 10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_serves_reads_and_deletes() {
    let node = Node::start_with(|s| {
        s.options.quota_bytes = Some(40 << 20);
        s.options.segment_bytes = 8 << 20;
    })
    .await;
    node.write(DataId(1), &pattern(0, 10)).await.unwrap();
    let mut stored = Vec::new();
    let refused = loop {
        let data_id = DataId(100 + stored.len() as u128);
        let ticket = node.ticket(Message::BeginWrite { data_id, len: None }).await.unwrap();
        let (tx, rx) = mpsc::channel(4);
        tokio::spawn(async move {
            for piece in [pattern(0, 3 * MIB), Bytes::new()] {
                let _ = tx.send(piece).await;
            }
        });
        match node.client.put(&ticket, data_id, rx, None).await {
            Ok(_) => stored.push(data_id),
            Err(error) => break error,
        }
        assert!(stored.len() < 40, "the quota does not hold");
    };
    let full = TransferError::Refused(StorageError::Full);
    assert!(refused == full || matches!(refused, TransferError::Broken(_)), "{refused:?}");
    assert_eq!(node.read(DataId(1), 0, 10).await.unwrap(), pattern(0, 10));
    assert_eq!(node.ask(Message::Delete { data_ids: stored }).await, Ok(Reply::Done));
    eventually("there is room again", || async {
        node.write(DataId(2), &pattern(0, 10)).await.is_ok()
    })
    .await;
}
