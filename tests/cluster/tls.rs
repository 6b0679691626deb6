//! TLS between nodes: real processes with certificates of their own CA, and who stays outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use mocks3::cluster::transport::{NAME, TlsFiles, Transport};

use crate::certificates::{Authority, Papers};
use crate::harness::{Further, Node, Observer, SECRET, free_port, isolated, until};
use crate::strangers::{CLOSED, closed_after, giants_cost};

const JOIN: Duration = Duration::from_secs(10);
/// The promise: who does not fit is refused within this.
const REFUSED: Duration = Duration::from_secs(3);

fn node(dir: &Path, service: &'static str, seeds: &[String], papers: &Papers) -> Node {
    let variables = [
        ("MOCKS3_CLUSTER__TLS__CA", &*papers.ca),
        ("MOCKS3_CLUSTER__TLS__CERT", &*papers.cert),
        ("MOCKS3_CLUSTER__TLS__KEY", &*papers.key),
    ];
    let further = Further { variables: &variables, ..Further::default() };
    Node::start_with(dir, service, seeds, free_port(), SECRET, further)
}

fn transport(papers: &Papers) -> Transport {
    let Papers { ca, cert, key } = papers.clone();
    Transport::load(Some(&TlsFiles { ca, cert, key })).unwrap()
}

async fn said(node: &Node, what: &str) {
    until(&format!("the log says {what:?}"), REFUSED, || node.log().contains(what)).await;
}

#[test]
fn nodes_with_certificates_of_one_ca_find_each_other_and_notice_a_death() {
    isolated(
        "tls::nodes_with_certificates_of_one_ca_find_each_other_and_notice_a_death",
        || async {
            let dir = tempfile::tempdir().unwrap();
            let ca = Authority::new(&dir.path().join("ca"));
            let papers = |name: &str| ca.issue(name, NAME);
            let metadata = node(&dir.path().join("m"), "metadata", &[], &papers("m"));
            let seeds = vec![metadata.address.clone()];
            let mut queue = node(&dir.path().join("q"), "queue", &seeds, &papers("q"));
            let own = transport(&papers("o"));
            let observer = Observer::join_over(own, seeds, SECRET, 0).await;
            let both = || observer.peers() == ["metadata", "queue"];
            until("both are members", JOIN, both).await;
            assert!(!clear_text_passes(&metadata), "the port talks to who has no certificate");
            queue.kill();
            let gone = || observer.peers() == ["metadata"];
            until("the killed node is out", Duration::from_secs(2), gone).await;
        },
    );
}

/// Whether the port takes the first word of our own handshake in clear.
fn clear_text_passes(node: &Node) -> bool {
    let mut stream = TcpStream::connect(&node.address).unwrap();
    let hello = [&[0, 0, 0, 38][..], b"MS3C", &[1, 0], &[7; 32]].concat();
    stream.write_all(&hello).unwrap();
    stream.set_read_timeout(Some(CLOSED)).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // a reset is as good as an end
    answer.len() > 7 // a TLS alert and no more
}

#[test]
fn plain_peers_and_those_of_another_ca_stay_outside_and_the_log_says_why() {
    isolated(
        "tls::plain_peers_and_those_of_another_ca_stay_outside_and_the_log_says_why",
        || async {
            let dir = tempfile::tempdir().unwrap();
            let (ours, theirs) =
                (Authority::new(&dir.path().join("a")), Authority::new(&dir.path().join("b")));
            let with = node(&dir.path().join("w"), "metadata", &[], &ours.issue("w", NAME));
            let without = Node::start(&dir.path().join("o"), "metadata", &[]);
            let friend = transport(&ours.issue("friend", NAME));
            let friend = Observer::join_over(friend, vec![with.address.clone()], SECRET, 0).await;
            until("a friend is in", JOIN, || friend.peers() == ["metadata"]).await;
            let other = Observer::join_as(vec![without.address.clone()], SECRET, 0).await;
            until("so is a plain one", JOIN, || other.peers() == ["metadata"]).await;

            let stranger = transport(&theirs.issue("s", NAME));
            let seed = |node: &Node| vec![node.address.clone()];
            let plain = Observer::join_as(seed(&with), SECRET, 0).await;
            said(&with, "does not speak TLS").await;
            let tls = Observer::join_over(stranger.clone(), seed(&without), SECRET, 0).await;
            said(&without, "it speaks TLS, and this node has no [cluster.tls]").await;
            let foreign = Observer::join_over(stranger, seed(&with), SECRET, 0).await;
            said(&with, "has it another CA?").await;
            tokio::time::sleep(REFUSED).await; // several more attempts
            for observer in [&plain, &tls, &foreign] {
                assert_eq!(observer.peers(), [""; 0]);
            }
            assert_eq!(
                (friend.peers(), other.peers()),
                (vec!["metadata".into()], vec!["metadata".into()])
            );
            let lines = with.log().matches("refused between nodes").count();
            assert!(lines < 12, "{lines} lines for two strangers");
        },
    );
}

#[test]
fn giant_half_records_and_idle_sockets_at_a_tls_port_cost_little() {
    isolated("tls::giant_half_records_and_idle_sockets_at_a_tls_port_cost_little", || async {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(&dir.path().join("ca"));
        let node = node(&dir.path().join("m"), "metadata", &[], &ca.issue("m", NAME));
        let own = transport(&ca.issue("o", NAME));
        let observer = Observer::join_over(own, vec![node.address.clone()], SECRET, 0).await;
        until("it is a member", JOIN, || observer.peers() == ["metadata"]).await;
        // a handshake record that announces a message of 16 MiB, and records that never end
        let announced = [0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
        let endless = [0x16, 3, 1, 0xff, 0xff];
        let grown = giants_cost(&node, &[announced.to_vec(), endless.to_vec()]);
        assert!(grown < 32, "RSS grew by {grown} MiB");
        let mut idle: Vec<TcpStream> =
            (0..400).map(|_| TcpStream::connect(&node.address).unwrap()).collect();
        let opened = Instant::now();
        for stream in &mut idle {
            let left = CLOSED.saturating_sub(opened.elapsed()).max(Duration::from_secs(1));
            assert!(closed_after(stream, left).is_some(), "an idle socket is still open");
        }
        assert_eq!(observer.peers(), ["metadata"]);
    });
}

#[test]
fn a_node_whose_files_do_not_fit_ends_with_code_2_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) =
        (Authority::new(&dir.path().join("a")), Authority::new(&dir.path().join("b")));
    let good = ours.issue("n", NAME);
    let foreign = theirs.issue("n", NAME);
    let rows = [
        (Papers { ca: foreign.ca.clone(), ..good.clone() }, "does not stand up to"),
        (Papers { key: foreign.key, ..good.clone() }, "do not belong together"),
        (Papers { cert: dir.path().join("absent.pem"), ..good }, "absent.pem"),
    ];
    for (n, (papers, reason)) in rows.iter().enumerate() {
        let mut node = node(&dir.path().join(format!("n{n}")), "metadata", &[], papers);
        let status = node.child.wait().unwrap();
        let log = node.log();
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains(reason) && log.contains("cluster.tls"), "{log}");
        assert_eq!(log.trim_end().lines().count(), 1, "{log}");
    }
}
