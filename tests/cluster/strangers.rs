//! Who knocks at the cluster port without being a member costs little and is shown out soon.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mocks3::types::Service;

use crate::harness::{Node, Observer, isolated, until};

const JOIN: Duration = Duration::from_secs(10);
pub const CLOSED: Duration = Duration::from_millis(3500);

/// Waits until the other side closes, up to the limit.
pub fn closed_after(stream: &mut TcpStream, limit: Duration) -> Option<Duration> {
    let begun = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = [0u8; 256];
    while begun.elapsed() < limit {
        match stream.read(&mut buffer) {
            Ok(0) => return Some(begun.elapsed()),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Some(begun.elapsed()),
        }
    }
    None
}

#[test]
fn garbage_at_the_cluster_port_is_closed_and_hurts_nobody() {
    isolated("strangers::garbage_at_the_cluster_port_is_closed_and_hurts_nobody", || async {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(&dir.path().join("m"), "metadata", &[]);
        let observer = Observer::join(vec![node.address.clone()]).await;
        until("it is a member", JOIN, || observer.peers() == ["metadata"]).await;
        let inputs: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            &[0xff; 64],
            &u64::MAX.to_be_bytes(),
            &[0; 4],
            &[0, 0, 0, 50, 1, 2, 3], // half a frame
        ];
        for input in inputs {
            let mut stream = TcpStream::connect(&node.address).unwrap();
            stream.write_all(input).unwrap();
            assert!(closed_after(&mut stream, CLOSED).is_some(), "still open after {input:?}");
        }
        assert_eq!(observer.peers(), ["metadata"]);
    });
}

#[test]
fn no_port_of_a_node_waits_for_the_rest_of_a_strangers_frame() {
    isolated("strangers::no_port_of_a_node_waits_for_the_rest_of_a_strangers_frame", || async {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(&dir.path().join("m"), "metadata", &[]);
        let observer = Observer::join(vec![node.address.clone()]).await;
        until("it is a member", JOIN, || observer.peers() == ["metadata"]).await;
        let ports = node.tcp_ports();
        // HTTP, cluster, data, images, and the one that `ractor_cluster` opens for itself (SES-4)
        assert_eq!(ports.len(), 5, "{ports:?}");
        for port in ports {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(&[0, 0, 0, 0, 0, 0, 4, 0, 1, 2, 3]).unwrap();
            assert!(closed_after(&mut stream, CLOSED).is_some(), "port {port} waits");
        }
        assert_eq!(observer.peers(), ["metadata"]);
    });
}

#[test]
fn sixty_giant_half_frames_cost_less_than_32_mib() {
    isolated("strangers::sixty_giant_half_frames_cost_less_than_32_mib", || async {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(&dir.path().join("m"), "metadata", &[]);
        let observer = Observer::join(vec![node.address.clone()]).await;
        until("it is a member", JOIN, || observer.peers() == ["metadata"]).await;
        let announced =
            [(16u64 << 20).to_be_bytes().to_vec(), (16u32 << 20).to_be_bytes().to_vec()];
        let grown = giants_cost(&node, &announced);
        assert!(grown < 32, "RSS grew by {grown} MiB");
        assert_eq!(observer.peers(), ["metadata"]);
    });
}

/// By how many MiB a node grows while sixty connections for each of these beginnings go on with
/// 16 MiB; each must be closed in time.
pub fn giants_cost(node: &Node, beginnings: &[Vec<u8>]) -> u64 {
    let before = node.rss_mib();
    let mut most = before;
    for beginning in beginnings {
        let mut streams: Vec<TcpStream> =
            (0..60).map(|_| TcpStream::connect(&node.address).unwrap()).collect();
        for stream in &mut streams {
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            let _ = stream.write_all(beginning);
            let _ = stream.write_all(&vec![7u8; (16 << 20) - 1]); // refused on the way: right
            most = most.max(node.rss_mib());
        }
        for stream in &mut streams {
            assert!(closed_after(stream, CLOSED).is_some(), "still open");
        }
    }
    most - before
}

#[test]
fn four_hundred_idle_sockets_change_nothing_for_the_members() {
    isolated("strangers::four_hundred_idle_sockets_change_nothing_for_the_members", || async {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(&dir.path().join("m"), "metadata", &[]);
        let first = Observer::join(vec![node.address.clone()]).await;
        until("it is a member", JOIN, || first.peers() == ["metadata"]).await;
        let mut idle: Vec<TcpStream> =
            (0..400).map(|_| TcpStream::connect(&node.address).unwrap()).collect();
        let opened = Instant::now();
        // a newcomer gets in while they sit there, and nobody is thrown out
        let late = Node::start(&dir.path().join("q"), "queue", std::slice::from_ref(&node.address));
        until("a newcomer joins", Duration::from_secs(3), || {
            first.peers() == ["metadata", "queue"]
        })
        .await;
        assert!(first.cluster.is_live(&first.instance_of(Service::Metadata)));
        drop(late);
        for stream in &mut idle {
            let left = CLOSED.saturating_sub(opened.elapsed()).max(Duration::from_secs(1));
            assert!(closed_after(stream, left).is_some(), "an idle socket is still open");
        }
    });
}
