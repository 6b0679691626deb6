//! Streams in and out of the real store, and copies from node to node.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn items_of_every_size_are_streamed_in_and_out() {
    let node = Node::start().await;
    for (n, len) in [0, 1, MIB, MIB + 1, 64 * MIB].into_iter().enumerate() {
        let (id, bytes) = (DataId(n as u128), pattern(n, len));
        let info = node.put(id, &bytes, true).await.unwrap();
        assert_eq!((info.len, info.md5), (len as u64, md5::compute(&bytes).0));
        assert!(node.get(id, 0, len as u64).await.unwrap() == bytes, "{len} bytes");
        let (from, to) = (len / 3, len / 2);
        let part = node.get(id, from as u64, (to - from) as u64).await.unwrap();
        assert!(part == bytes.slice(from..to), "a part of {len} bytes");
    }
    assert_eq!(node.stats().await.items, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_leaves_nothing_also_after_a_restart() {
    let mut node = Node::start().await;
    let end = node.put(DataId(1), &pattern(0, 20 * MIB), false).await;
    assert_eq!(end, Err(TransferError::Aborted));
    assert_eq!((node.info(DataId(1)).await, node.stats().await.live_bytes), (None, 0));
    node.kill_and_restart().await;
    assert_eq!((node.info(DataId(1)).await, node.stats().await.live_bytes), (None, 0));
    let again = pattern(1, 20 * MIB);
    node.put(DataId(1), &again, true).await.unwrap();
    assert!(node.get(DataId(1), 0, 20 * MIB as u64).await.unwrap() == again);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_transfers() {
    let node = Node::start_with(|s| s.transfers.transfers = 3).await;
    let begin = |n| Message::BeginWrite { data_id: DataId(n), len: None };
    let mut tickets = Vec::new();
    for n in 0..3 {
        tickets.push(node.ticket(begin(n)).await.unwrap());
    }
    assert_eq!(node.ask(begin(3)).await, Err(StorageError::Busy));
    let (tx, rx) = mpsc::channel(1);
    tx.send(Bytes::new()).await.unwrap();
    node.client.put(&tickets[0], DataId(0), rx, None).await.unwrap();
    eventually("a place is free", || async { node.ask(begin(3)).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_pulled_from_the_first_peer_that_has_a_good_one() {
    let (bad, good, to) = (Node::start().await, Node::start().await, Node::start().await);
    let from =
        vec![to.instance(), cluster().instance().to_owned(), bad.instance(), good.instance()];
    for (n, len) in [0, 1000, 5 * MIB + 3].into_iter().enumerate() {
        let (data_id, bytes) = (DataId(n as u128), pattern(n, len));
        let info = good.put(data_id, &bytes, true).await.unwrap();
        if len > 0 {
            bad.put(data_id, &bytes, true).await.unwrap();
            damage(&bad.dir, &bytes[..64]);
        }
        let pulled = to.ask(Message::Fetch { data_id, from: from.clone() }).await.unwrap();
        let Reply::Stored(pulled) = pulled else { panic!("{pulled:?}") };
        assert_eq!((pulled.len, pulled.md5, pulled.crc64), (info.len, info.md5, info.crc64));
        assert!(to.get(data_id, 0, len as u64).await.unwrap() == bytes);
    }
    let nobody = to.ask(Message::Fetch { data_id: DataId(9), from }).await;
    assert_eq!(nobody, Err(StorageError::NotFound(DataId(9))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_item_breaks_its_stream_is_reported_and_repaired_by_a_copy() {
    let (node, peer) = (Node::start().await, Node::start().await);
    let (data_id, bytes, len) = (DataId(1), pattern(0, 4 * MIB), 4 * MIB as u64);
    for at in [&node, &peer] {
        at.put(data_id, &bytes, true).await.unwrap();
    }
    damage(&node.dir, &bytes[2 * MIB + 5..2 * MIB + 600]);
    let end = node.get(data_id, 0, len).await;
    assert!(matches!(end, Err(TransferError::Broken(_))), "{end:?}");
    assert_eq!(node.read(data_id, 2 * MIB as u64, 1).await, Err(StorageError::Corrupt(data_id)));
    let good = node.read(data_id, MIB as u64, 9).await.unwrap();
    assert_eq!(good, bytes.slice(MIB..MIB + 9), "the other chunks are good");
    assert_eq!(node.stats().await.corrupt, 1);
    let fetch = Message::Fetch { data_id, from: vec![peer.instance()] };
    for _ in 0..2 {
        assert!(matches!(node.ask(fetch.clone()).await, Ok(Reply::Stored(_))));
    }
    assert!(node.get(data_id, 0, len).await.unwrap() == bytes);
    assert_eq!(node.stats().await.corrupt, 0);
}
