//! The data plane over real loopback sockets, with a store in memory (and, in `storage_node`, with
//! the real one).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::{ClientOptions, DataClient, TransferError};
use super::desk::{Desk, OpenDesk, TransferLimits};
use super::fake::{FakeStore, ROTTEN, TOO_MUCH};
use super::server::{ServerLimits, serve};
use super::ticket::Grant;
use super::words::{StorageError, StoredInfo, Ticket};
use crate::cluster::transport::Transport;
use crate::cluster::transport::tests::World;
use crate::types::DataId;

const MIB: usize = 1 << 20;

struct Bench {
    store: FakeStore,
    desk: Arc<Desk>,
    open: OpenDesk,
    client: DataClient,
    address: String,
    _stop: tokio_util::sync::DropGuard,
}

fn quick(millis: u64) -> ClientOptions {
    let limit = Duration::from_millis(millis);
    ClientOptions { stall: limit, answer: limit, idle: limit, ..ClientOptions::default() }
}

async fn bench(limits: ServerLimits, options: ClientOptions) -> Bench {
    let plain = Transport::plain;
    bench_over(plain(), plain(), limits, options).await
}

async fn bench_over(
    servers: Transport,
    clients: Transport,
    limits: ServerLimits,
    options: ClientOptions,
) -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (desk, store, stop) =
        (Arc::<Desk>::default(), FakeStore::default(), CancellationToken::new());
    let open = desk.open(address.clone(), Arc::new(store.clone()), TransferLimits::default());
    tokio::spawn(serve(
        listener,
        servers,
        desk.clone(),
        limits,
        Arc::new(|work| work),
        stop.clone(),
    ));
    let (client, _stop) = (DataClient::over(clients, options), stop.drop_guard());
    Bench { store, desk, open, client, address, _stop }
}

async fn default_bench() -> Bench {
    bench(ServerLimits::default(), ClientOptions::default()).await
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect::<Vec<u8>>().into()
}

impl Bench {
    fn ticket(&self, grant: Grant) -> Ticket {
        self.open.transfers().grant(grant).unwrap()
    }

    async fn put(
        &self,
        data_id: DataId,
        bytes: &Bytes,
        len: Option<u64>,
        good_end: bool,
    ) -> Result<StoredInfo, TransferError> {
        let ticket = self.ticket(Grant::Write { data_id, len });
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
        let ticket = self.ticket(Grant::Read { data_id, offset, len });
        let mut download = self.client.get(&ticket, data_id).await?;
        assert_eq!(download.len(), len);
        let mut all = Vec::new();
        while let Some(bytes) = download.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all.into())
    }

    /// Waits until no transfer runs and no writer is open.
    async fn settled(&self) {
        let quiet = || {
            let writing = self.store.writing.load(Ordering::SeqCst);
            writing == 0 && self.open.transfers().counts().1 == 0
        };
        eventually("transfers end", quiet).await;
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}

#[tokio::test]
async fn items_of_every_size_come_back_byte_for_byte() {
    let bench = default_bench().await;
    for (n, len) in [0, 1, MIB - 1, MIB, 3 * MIB + 7].into_iter().enumerate() {
        let (id, bytes) = (DataId(n as u128), pattern(len));
        let declared = (n % 2 == 0).then_some(len as u64);
        let info = bench.put(id, &bytes, declared, true).await.unwrap();
        assert_eq!((info.len, info.md5), (len as u64, md5::compute(&bytes).0));
        assert_eq!(bench.get(id, 0, len as u64).await.unwrap(), bytes);
        let (from, to) = (len / 3, len / 2);
        let middle = bench.get(id, from as u64, (to - from) as u64).await.unwrap();
        assert_eq!(middle, bytes.slice(from..to));
    }
    bench.settled().await;
    assert_eq!(bench.client.idle_connections(), 1, "transfers in turn share one connection");
}

#[tokio::test]
async fn a_source_that_gives_up_leaves_nothing_even_after_its_last_byte() {
    let bench = default_bench().await;
    let bytes = pattern(2 * MIB);
    for (n, declared) in [None, Some(2 * MIB as u64), Some(3 * MIB as u64)].into_iter().enumerate()
    {
        let id = DataId(n as u128);
        let end = bench.put(id, &bytes, declared, false).await;
        assert_eq!(end, Err(TransferError::Aborted), "declared {declared:?}");
    }
    let empty = bench.put(DataId(9), &Bytes::new(), Some(0), false).await;
    assert_eq!(empty, Err(TransferError::Aborted));
    bench.settled().await;
    assert!(bench.store.items.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_source_that_does_not_hold_to_its_length_leaves_nothing() {
    let bench = default_bench().await;
    for declared in [MIB as u64 - 1, MIB as u64 + 1, 0] {
        let end = bench.put(DataId(1), &pattern(MIB), Some(declared), true).await;
        assert_eq!(end, Err(TransferError::Aborted), "declared {declared}");
    }
    // Also where the two sides disagree: the ticket says another length than the sender.
    for body in ["2\r\nab\r\n0\r\n\r\n", "5\r\nabcde\r\n0\r\n\r\n"] {
        let ticket = bench.ticket(Grant::Write { data_id: DataId(1), len: Some(4) });
        let answer = raw_put(&bench, ticket.id, "Transfer-Encoding: chunked", body, false).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    bench.settled().await;
    assert!(bench.store.items.lock().unwrap().is_empty());
}

/// Sends a `PUT` of item 1 as bytes and returns the answer; `cut` closes the sending side at the
/// end.
async fn raw_put(bench: &Bench, id: u128, framing: &str, body: &str, cut: bool) -> String {
    let mut socket = TcpStream::connect(&bench.address).await.unwrap();
    let head = format!(
        "PUT /data/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-mocks3-ticket: {id:032x}\r\n\
         {framing}\r\n\r\n",
        DataId(1),
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    if cut {
        socket.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn only_a_properly_ended_body_counts() {
    let bench = default_bench().await;
    let rows = [
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", "HTTP/1.1 200"),
        ("Content-Length: 3", "abc", "HTTP/1.1 200"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n", ""),
        ("Transfer-Encoding: chunked", "3\r\nab", ""),
        ("Content-Length: 4", "abc", ""),
        ("X-Nothing: 1", "", "HTTP/1.1 411"),
    ];
    for (framing, body, answer) in rows {
        bench.store.items.lock().unwrap().clear();
        let ticket = bench.ticket(Grant::Write { data_id: DataId(1), len: None });
        let got = raw_put(&bench, ticket.id, framing, body, answer.is_empty()).await;
        let right =
            if answer.is_empty() { !got.contains(" 200 ") } else { got.starts_with(answer) };
        assert!(right, "{framing:?} {body:?}: {got:?}");
        bench.settled().await;
        let stored = bench.store.items.lock().unwrap().len();
        assert_eq!(stored, usize::from(answer.ends_with("200")), "{framing:?} {body:?}");
    }
}

#[tokio::test]
async fn refusals_are_told_and_a_ticket_is_good_once() {
    let bench = default_bench().await;
    let full = bench.put(TOO_MUCH, &pattern(64 * MIB), None, true).await;
    assert!(
        matches!(full, Err(TransferError::Refused(StorageError::Full) | TransferError::Broken(_))),
        "{full:?}"
    );
    let gone = bench.get(DataId(404), 0, 1).await;
    assert_eq!(gone, Err(TransferError::Refused(StorageError::NotFound(DataId(404)))));

    bench.put(DataId(1), &pattern(10), None, true).await.unwrap();
    let ticket = bench.ticket(Grant::Read { data_id: DataId(1), offset: 0, len: 10 });
    assert!(bench.client.get(&ticket, DataId(1)).await.is_ok());
    let again = bench.client.get(&ticket, DataId(1)).await.err();
    let invalid = |e: &Option<TransferError>| {
        matches!(e, Some(TransferError::Refused(StorageError::Invalid(_))))
    };
    assert!(invalid(&again), "{again:?}");
    let guessed = Ticket { id: 1, ..ticket };
    assert!(invalid(&bench.client.get(&guessed, DataId(1)).await.err()));
}

#[tokio::test]
async fn a_corrupt_piece_breaks_the_stream_after_the_good_ones() {
    let bench = default_bench().await;
    bench.store.items.lock().unwrap().insert(ROTTEN, pattern(4 * MIB));
    let ticket = bench.ticket(Grant::Read { data_id: ROTTEN, offset: 0, len: 4 * MIB as u64 });
    let mut download = bench.client.get(&ticket, ROTTEN).await.unwrap();
    let (mut good, mut end) = (Vec::new(), None);
    while let Some(next) = download.next().await {
        match next {
            Ok(bytes) => good.extend_from_slice(&bytes),
            Err(error) => end = Some(error),
        }
    }
    assert!(matches!(end, Some(TransferError::Broken(_))), "{end:?}");
    assert!(good.len() <= MIB);
    assert_eq!(good, pattern(good.len()));
}

#[tokio::test]
async fn a_slow_reader_is_read_ahead_of_by_little_and_given_up_when_it_stands_still() {
    let limits = ServerLimits { stall: Duration::from_millis(500), ..ServerLimits::default() };
    let bench = bench(limits, ClientOptions::default()).await;
    let len = 64 * MIB;
    bench.store.items.lock().unwrap().insert(DataId(1), pattern(len));
    let ticket = bench.ticket(Grant::Read { data_id: DataId(1), offset: 0, len: len as u64 });
    let download = bench.client.get(&ticket, DataId(1)).await.unwrap();
    eventually("the reader is given up", || bench.open.transfers().counts().1 == 0).await;
    // What sockets and buffers hold on loopback, and two pieces; not the item.
    let read = bench.store.read.load(Ordering::SeqCst);
    assert!(read <= 16 * MIB, "{read} bytes were read ahead");
    let end = download.fold(None, |_, next| async move { next.err() }).await;
    assert!(matches!(end, Some(TransferError::Broken(_))), "{end:?}");
}

#[tokio::test]
async fn peers_that_stand_still_are_given_up() {
    let limit = Duration::from_millis(300);
    let limits = ServerLimits { idle: limit, stall: limit, ..ServerLimits::default() };
    let bench = bench(limits, quick(5_000)).await;
    // A source that pauses too long for the server.
    let ticket = bench.ticket(Grant::Write { data_id: DataId(1), len: None });
    let (tx, rx) = mpsc::channel(2);
    tx.send(pattern(10)).await.unwrap();
    let end = bench.client.put(&ticket, DataId(1), rx, None).await;
    assert!(matches!(end, Err(TransferError::Broken(_))), "{end:?}");
    bench.settled().await;
    // Connections that say nothing, or only half a head.
    let mut silent = TcpStream::connect(&bench.address).await.unwrap();
    let mut half = TcpStream::connect(&bench.address).await.unwrap();
    half.write_all(b"GET /data/x HTTP/1.1\r\nHo").await.unwrap();
    for (name, socket) in [("silent", &mut silent), ("half", &mut half)] {
        assert!(closes(socket).await, "{name} was not closed");
    }
}

async fn closes(socket: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    let end = socket.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), end).await.is_ok()
}

#[tokio::test]
async fn a_connection_too_many_is_closed_at_once_and_the_others_stay() {
    let limits = ServerLimits { connections: 2, ..ServerLimits::default() };
    let bench = bench(limits, ClientOptions::default()).await;
    bench.put(DataId(1), &pattern(10), None, true).await.unwrap();
    let _second = TcpStream::connect(&bench.address).await.unwrap();
    let mut third = TcpStream::connect(&bench.address).await.unwrap();
    assert!(closes(&mut third).await);
    assert_eq!(bench.get(DataId(1), 0, 10).await.unwrap(), pattern(10));
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_by_the_client() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let ticket = Ticket { id: 1, address, expires_ms: u64::MAX };
    let client = DataClient::new(quick(300));
    let get = client.get(&ticket, DataId(1)).await.err();
    assert_eq!(get, Some(TransferError::Stalled));
    // An upload that is taken in but never answered, and one that is not even taken in.
    let (tx, rx) = mpsc::channel(2);
    tx.send(Bytes::new()).await.unwrap();
    assert_eq!(client.put(&ticket, DataId(1), rx, None).await, Err(TransferError::Stalled));
    let (tx, rx) = mpsc::channel(2);
    let endless = tokio::spawn(async move { while tx.send(pattern(MIB)).await.is_ok() {} });
    let end = client.put(&ticket, DataId(1), rx, None).await;
    assert!(matches!(end, Err(TransferError::Broken(_))), "{end:?}");
    endless.await.unwrap();
    let nobody = Ticket { address: "127.0.0.1:1".into(), ..ticket };
    let end = client.get(&nobody, DataId(1)).await.err();
    assert!(matches!(end, Some(TransferError::Connect(..))), "{end:?}");
}

#[tokio::test]
async fn the_end_of_the_actor_ends_its_transfers_and_tickets() {
    let mut bench = default_bench().await;
    bench.store.items.lock().unwrap().insert(DataId(1), pattern(32 * MIB));
    let read = Grant::Read { data_id: DataId(1), offset: 0, len: 32 * MIB as u64 };
    let mut download = bench.client.get(&bench.ticket(read), DataId(1)).await.unwrap();
    assert!(download.next().await.unwrap().is_ok());
    let (tx, rx) = mpsc::channel(2);
    tx.send(pattern(10)).await.unwrap();
    let write = bench.ticket(Grant::Write { data_id: DataId(2), len: None });
    let client = bench.client.clone();
    let upload = tokio::spawn(async move { client.put(&write, DataId(2), rx, None).await });
    eventually("the upload runs", || bench.store.writing.load(Ordering::SeqCst) == 1).await;
    let old = bench.ticket(read);

    let store = Arc::new(bench.store.clone());
    let weak = Arc::downgrade(&store);
    bench.open = bench.desk.open(bench.address.clone(), store, TransferLimits::default());
    let end = upload.await.unwrap();
    assert!(matches!(end, Err(TransferError::Broken(_))), "{end:?}");
    let end = download.fold(None, |_, next| async move { next.err() }).await;
    assert!(matches!(end, Some(TransferError::Broken(_))), "{end:?}");
    assert!(bench.client.get(&old, DataId(1)).await.is_err(), "a ticket outlived its actor");
    assert_eq!(bench.get(DataId(1), 0, 5).await.unwrap(), pattern(5), "the next actor serves");
    bench.settled().await;
    drop(bench);
    eventually("the server lets go of the store", || weak.upgrade().is_none()).await;
}

#[tokio::test]
async fn idle_connections_are_bounded_and_closed() {
    let bench = bench(ServerLimits::default(), quick(400)).await;
    let bytes = pattern(10);
    let puts = (0..20).map(|n| bench.put(DataId(n), &bytes, None, true));
    assert!(futures::future::join_all(puts).await.iter().all(Result::is_ok));
    let kept = bench.client.idle_connections();
    assert!((1..=8).contains(&kept), "{kept} idle connections");
    eventually("idle connections are closed", || bench.client.idle_connections() == 0).await;
}

#[tokio::test]
async fn over_tls_items_come_back_byte_for_byte_on_one_connection() {
    let world = World::new();
    let both = || world.ours.clone();
    let bench = bench_over(both(), both(), ServerLimits::default(), ClientOptions::default()).await;
    for (n, len) in [0, 1, MIB, 8 * MIB + 7].into_iter().enumerate() {
        let (id, bytes) = (DataId(n as u128), pattern(len));
        let info = bench.put(id, &bytes, None, true).await.unwrap();
        assert_eq!((info.len, info.md5), (len as u64, md5::compute(&bytes).0));
        assert!(bench.get(id, 0, len as u64).await.unwrap() == bytes, "{len} bytes differ");
        assert_eq!(bench.client.idle_connections(), 1, "connections are kept under TLS, too");
    }
    let cut = bench.put(DataId(99), &pattern(MIB), None, false).await;
    assert_eq!(cut, Err(TransferError::Aborted));
    bench.settled().await;
    assert!(!bench.store.items.lock().unwrap().contains_key(&DataId(99)));
}

#[tokio::test]
async fn nothing_moves_between_plain_and_tls_or_under_another_ca() {
    let world = World::new();
    let (tls, other, plain) = (world.ours.clone(), world.other_ca.clone(), Transport::plain());
    let rows = [(&tls, &plain), (&plain, &tls), (&tls, &other), (&other, &tls)];
    for (n, (server, client)) in rows.into_iter().enumerate() {
        let (server, client) = (server.clone(), client.clone());
        let bench =
            bench_over(server, client, ServerLimits::default(), ClientOptions::default()).await;
        let begun = std::time::Instant::now();
        let put = bench.put(DataId(1), &pattern(MIB), None, true).await;
        assert!(
            matches!(put, Err(TransferError::Connect(..) | TransferError::Broken(_))),
            "row {n}: {put:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(3), "row {n}: {:?}", begun.elapsed());
        assert!(bench.store.items.lock().unwrap().is_empty());
    }
}
