//! Spoilt requests at a live node: at its HTTP ports, its data plane and its cluster port.
//!
//! Whatever comes is answered or shown out; nothing panics, memory stays bounded, and afterwards the
//! node serves a good request.

mod corpus;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mocks3::actors::storage_node::message::{Message, Reply, Ticket};
use mocks3::cluster::handshake::{self, Intro, Secret};
use mocks3::cluster::{Scope, To};
use mocks3::config::{Config, Durability};
use mocks3::data::client::{ClientOptions, DataClient};
use mocks3::types::{DataId, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::chance::{Chance, count_panics, panics};
use crate::node::{Running, SECRET, a_cluster, alone, rss_mib};

/// Connections at once.
const BATCH: usize = 32;
/// How long an answer may make us wait before we say that nothing more will come.
const PATIENCE: Duration = Duration::from_millis(60);
/// How long the node may then take to show us out.
const SHOWN_OUT: Duration = Duration::from_secs(8);
/// By how much the process may grow; buffers of thirty-two connections and caches included.
const GROWTH_MIB: u64 = 96;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Answered(u16),
    Closed,
    StillOpen,
}

/// Sends bytes to a port and sees what becomes of them.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> End {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut said = Vec::new();
    let talk = async {
        let (mut read, mut write) = stream.split();
        let sent = write.write_all(bytes); // the node may close before it has read all
        let heard = async {
            while !complete(&said) && said.len() < 4 << 20 {
                match tokio::time::timeout(PATIENCE, read.read_buf(&mut said)).await {
                    Ok(Ok(1..)) => {}
                    Ok(_) => return true,
                    Err(_) => return false,
                }
            }
            true
        };
        let (_, over) = tokio::join!(sent, heard);
        if !over {
            let _ = write.shutdown().await; // it may be gone already
        }
        over
    };
    if !talk.await {
        let rest = stream.read_to_end(&mut said);
        if tokio::time::timeout(SHOWN_OUT, rest).await.is_err() {
            return End::StillOpen;
        }
    }
    let status = said.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|s| std::str::from_utf8(s).ok()?.parse().ok());
    status.map_or(End::Closed, End::Answered)
}

/// Whether an HTTP answer is all there (it says how long it is).
fn complete(said: &[u8]) -> bool {
    let Some(head) = said.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&said[..head]).to_lowercase();
    let len = text
        .split("content-length:")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next()?.trim().parse::<usize>().ok());
    match len {
        Some(len) => said.len() >= head + 4 + len,
        None => said.ends_with(b"0\r\n\r\n") || text.starts_with("http/1.1 204"),
    }
}

/// What came of all exchanges so far.
#[derive(Default)]
struct Tally(BTreeMap<End, usize>);

impl Tally {
    async fn batch(&mut self, address: SocketAddr, requests: Vec<Vec<u8>>) {
        let ends = requests.iter().map(|bytes| exchange(address, bytes));
        let ends = futures::future::join_all(ends).await;
        for (bytes, end) in requests.iter().zip(ends) {
            *self.0.entry(end).or_default() += 1;
            let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(3000)]).into_owned();
            assert_ne!(end, End::StillOpen, "never shown out:\n{}", text());
            assert_ne!(end, End::Answered(500), "an internal error:\n{}", text());
        }
        assert_eq!(panics(), 0, "something panicked in this batch");
    }
}

async fn a_node(dir: &std::path::Path, anonymous: bool) -> Running {
    let mut config = Config::default();
    config.s3.anonymous = anonymous;
    config.storage.durability = Durability::Os;
    config.http.max_in_flight = 64;
    Running::start(dir, &Service::ALL, Vec::new(), config).await
}

/// The node is as good as new.
async fn serves(node: &Running) {
    let s3 = node.s3(&format!("good-{}", uuid::Uuid::new_v4().simple()));
    let bytes = vec![7u8; 1 << 20];
    s3.create_soon().await;
    assert_eq!(s3.put("a-key", &bytes).await, 200);
    assert!(s3.get("a-key").await == (200, bytes));
    assert_eq!(s3.list().await, ["a-key"]);
    assert_eq!(s3.delete("a-key").await, 204);
    for (service, address) in &node.http {
        let health = reqwest::get(format!("http://{address}/health")).await.unwrap();
        assert_eq!(health.status(), 200, "{service}");
    }
}

/// Attacks the HTTP ports of a node, one after the other, with what `corpus` gives for each.
async fn attack_http(name: &str, anonymous: bool) {
    let dir = tempfile::tempdir().unwrap();
    let node = a_node(dir.path(), anonymous).await;
    serves(&node).await;
    let mut targets = Vec::new();
    for (service, address) in node.http.clone() {
        let mut requests = corpus::json(address).await;
        if service == Service::Storage {
            requests.extend(corpus::s3(&node.s3("fuzz"), anonymous));
        }
        targets.push((address, requests));
    }
    let cut = b"PUT /fuzz?versioning HTTP/1.1\r\nhost: x\r\ncontent-length: 75\r\n\r\n<Versio";
    let refused = if anonymous { 400 } else { 403 };
    let end = exchange(node.address(Service::Storage), cut).await;
    assert_eq!(end, End::Answered(refused), "a body that breaks off is the client's fault");
    let mut chance = Chance::new(name, 8);
    count_panics();
    let (mut tally, before) = (Tally::default(), rss_mib());
    while chance.goes_on() {
        for (n, (address, requests)) in targets.iter().enumerate() {
            // the S3 edge has the most to read
            let batches = if node.address(Service::Storage) == *address { 3 } else { 1 };
            for _ in 0..batches {
                let others = &targets[chance.below(targets.len())].1;
                let spoilt = (0..BATCH).map(|_| {
                    let request = chance.pick(requests).clone();
                    if chance.one_in(12) { request } else { chance.spoil(&request, others) }
                });
                tally.batch(*address, spoilt.collect()).await;
            }
            let grown = rss_mib().saturating_sub(before);
            assert!(grown < GROWTH_MIB, "the process grew by {grown} MiB at target {n}");
        }
    }
    eprintln!("{name}: {:?}, {} MiB then {} MiB", tally.0, before, rss_mib());
    assert!(tally.0.contains_key(&End::Answered(200)), "not even the unspoilt ones got through");
    serves(&node).await;
    assert_eq!(panics(), 0);
    node.stop().await;
}

#[test]
fn spoilt_http_requests_hurt_nobody() {
    alone("hostile::spoilt_http_requests_hurt_nobody", || attack_http("http", false));
}

#[test]
fn spoilt_http_requests_hurt_nobody_where_anonymous_ones_are_served() {
    let name = "hostile::spoilt_http_requests_hurt_nobody_where_anonymous_ones_are_served";
    alone(name, || attack_http("anonymous http", true));
}

/// A permit of the storage node, unless too many are out.
async fn ticket(node: &Running, message: Message) -> Option<Ticket> {
    let scope = Scope::new(Duration::from_secs(5));
    let Ok(Reply::Ticket(ticket)) = a_cluster().call(&scope, To::Any, message).await.unwrap()
    else {
        return None;
    };
    assert_eq!(Some(&ticket.address), node.info.data_address.as_ref());
    Some(ticket)
}

/// A head of the data plane with a good ticket where one is to be had, and some body.
async fn transfer(node: &Running, chance: &mut Chance) -> Vec<u8> {
    let data_id = DataId::new();
    let len = (chance.number() % 300_000) as usize;
    let permit = match chance.one_in(3) {
        true => ticket(node, Message::BeginWrite { data_id, len: None }).await,
        false => None,
    };
    let id = permit.map_or_else(|| chance.number().into(), |t| t.id);
    let method = if chance.one_in(4) { "GET" } else { "PUT" };
    let head =
        format!("{method} /data/{data_id} HTTP/1.1\r\nhost: x\r\nx-mocks3-ticket: {id:032x}\r\n");
    let body = vec![b'x'; len];
    match chance.one_in(2) {
        true => {
            [head.as_bytes(), format!("content-length: {len}\r\n\r\n").as_bytes(), &body].concat()
        }
        false => {
            let begin = format!("transfer-encoding: chunked\r\n\r\n{len:x}\r\n");
            [head.as_bytes(), begin.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
        }
    }
}

#[test]
fn spoilt_transfers_at_the_data_plane_hurt_nobody() {
    alone("hostile::spoilt_transfers_at_the_data_plane_hurt_nobody", || async {
        let dir = tempfile::tempdir().unwrap();
        let node = a_node(dir.path(), false).await;
        serves(&node).await;
        let address = node.info.data_address.clone().unwrap().parse().unwrap();
        let mut chance = Chance::new("data plane", 5);
        count_panics();
        let (mut tally, before) = (Tally::default(), rss_mib());
        let none = [Vec::new()];
        while chance.goes_on() {
            let mut requests = Vec::new();
            for _ in 0..BATCH {
                let good = transfer(&node, &mut chance).await;
                // the head is where decisions are made
                let end = good.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 40;
                let (head, body) = good.split_at(end.min(good.len()));
                let unspoilt = chance.one_in(4);
                let head = if unspoilt { head.to_vec() } else { chance.spoil(head, &none) };
                requests.push([&head, body].concat());
            }
            tally.batch(address, requests).await;
        }
        let grown = rss_mib().saturating_sub(before);
        eprintln!("data plane: {:?}, grew by {grown} MiB", tally.0);
        assert!(grown < GROWTH_MIB, "the process grew by {grown} MiB");
        assert!(tally.0.contains_key(&End::Answered(200)), "no good transfer got through");

        let data_id = DataId::new();
        let permit = loop {
            // tickets that nobody presented expire
            if let Some(permit) = ticket(&node, Message::BeginWrite { data_id, len: None }).await {
                break permit;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let (tx, rx) = tokio::sync::mpsc::channel(4);
        for bytes in [vec![1u8; 100_000], vec![2; 100_000], Vec::new()] {
            tx.send(bytes.into()).await.unwrap();
        }
        let client = DataClient::new(ClientOptions::default());
        let stored = client.put(&permit, data_id, rx, None).await.unwrap();
        assert_eq!(stored.len, 200_000);
        serves(&node).await;
        assert_eq!(panics(), 0);
        node.stop().await;
    });
}

#[test]
fn spoilt_handshakes_at_the_cluster_port_hurt_nobody() {
    alone("hostile::spoilt_handshakes_at_the_cluster_port_hurt_nobody", || async {
        let dir = tempfile::tempdir().unwrap();
        let node = a_node(dir.path(), false).await;
        serves(&node).await;
        let address: SocketAddr = node.info.cluster_address.parse().unwrap();
        let mut chance = Chance::new("cluster port", 5);
        count_panics();
        let (mut tally, before) = (Tally::default(), rss_mib());
        let hello = [&[0, 0, 0, 38][..], b"MS3C", &[1, 0], &[7; 32]].concat();
        let corpus = vec![
            hello.clone(),
            [hello, vec![0, 0, 1, 0], vec![5; 256]].concat(),
            [&[0, 0, 0xff, 0xff][..], &[9; 4000]].concat(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        ];
        while chance.goes_on() {
            let spoilt = (0..BATCH).map(|_| {
                let given = chance.pick(&corpus).clone();
                chance.spoil(&given, &corpus)
            });
            tally.batch(address, spoilt.collect()).await;
        }
        let grown = rss_mib().saturating_sub(before);
        eprintln!("cluster port: {:?}, grew by {grown} MiB", tally.0);
        assert!(grown < 32, "the process grew by {grown} MiB");
        // a member still gets its welcome
        let intro = Intro { cluster_id: 0, member: a_cluster().table().own().clone() };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let welcome = handshake::dial(&mut stream, &Secret::new(SECRET), &intro).await.unwrap();
        assert_eq!(welcome.member.instance, node.info.instance);
        serves(&node).await;
        assert_eq!(panics(), 0);
        node.stop().await;
    });
}
