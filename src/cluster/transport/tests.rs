//! Carriers over real loopback sockets; files that do not belong together.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

#[path = "../../../tests/cluster/certificates.rs"]
pub mod certificates;
use certificates::{Authority, Papers};

fn files(papers: &Papers) -> TlsFiles {
    let Papers { ca, cert, key } = papers.clone();
    TlsFiles { ca, cert, key }
}

/// A transport with a fresh certificate of this CA.
pub fn member_of(authority: &Authority) -> Transport {
    Transport::load(Some(&files(&authority.issue("node", NAME)))).unwrap()
}

/// Who speaks what, in a folder that must outlive them.
pub struct World {
    pub ours: Transport,
    pub other_ca: Transport,
    _dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let authority = |name: &str| Authority::new(&dir.path().join(name));
        let (ours, other_ca) = (member_of(&authority("a")), member_of(&authority("b")));
        World { ours, other_ca, _dir: dir }
    }
}

/// Sends a word through a new connection; what each side made of it.
async fn talk(
    dialler: &Transport,
    acceptor: &Transport,
) -> (Result<Vec<u8>, String>, Result<u32, String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let there = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut carrier = acceptor.accept(stream).await.map_err(|e| e.to_string())?;
        let word = carrier.read_u32().await.map_err(|e| e.to_string())?;
        carrier.write_all(b"heard").await.map_err(|e| e.to_string())?;
        carrier.shutdown().await.map_err(|e| e.to_string())?;
        Ok(word)
    };
    let here = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut carrier = dialler.open(stream).await.map_err(|e| e.to_string())?;
        carrier.write_u32(7).await.map_err(|e| e.to_string())?;
        carrier.flush().await.map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        carrier.read_to_end(&mut answer).await.map_err(|e| e.to_string())?;
        Ok(answer)
    };
    tokio::join!(here, there)
}

#[tokio::test]
async fn two_nodes_of_one_ca_talk_and_two_without_tls_do() {
    let world = World::new();
    for transport in [&world.ours, &Transport::plain()] {
        let (here, there) = talk(transport, transport).await;
        assert_eq!((here, there), (Ok(b"heard".to_vec()), Ok(7)));
    }
}

#[tokio::test]
async fn a_plain_peer_and_one_of_another_ca_are_refused_soon_and_with_a_reason() {
    let world = World::new();
    let plain = Transport::plain();
    // TLS-1, TLS-2: (dialler, acceptor, what the acceptor says)
    let rows = [
        (&plain, &world.ours, "does not speak TLS"),
        (&world.other_ca, &world.ours, "another CA"),
        (&world.ours, &world.other_ca, "another CA"),
    ];
    for (dialler, acceptor, reason) in rows {
        let begun = Instant::now();
        let (here, there) = talk(dialler, acceptor).await;
        assert!(begun.elapsed() < HANDSHAKE_LIMIT, "after {:?}", begun.elapsed());
        let said = there.unwrap_err();
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert_ne!(here, Ok(b"heard".to_vec()), "{reason}");
    }
}

#[tokio::test]
async fn a_certificate_that_a_dialler_cannot_show_is_missed() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let roots = world.ours.tls.as_ref().unwrap().connector.config().clone();
    let mut anonymous = (*roots).clone();
    anonymous.client_auth_cert_resolver = Arc::new(Nothing);
    let name = ServerName::try_from(NAME).unwrap();
    let dial = TlsConnector::from(Arc::new(anonymous)).connect(name, stream);
    let accept = async { world.ours.accept(listener.accept().await.unwrap().0).await };
    let (_, accepted) = tokio::join!(dial, accept);
    let said = accepted.expect_err("nobody gets in without a certificate").to_string();
    assert!(said.contains("certificate is not good"), "{said}");
}

/// A dialler without any certificate.
#[derive(Debug)]
struct Nothing;
impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up_in_time() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let refused = world.ours.accept(listener.accept().await.unwrap().0).await.err();
    assert!(matches!(refused, Some(TlsTrouble::Timeout)), "{refused:?}");
    assert!(begun.elapsed() <= HANDSHAKE_LIMIT * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_door_for_nobody_opens_to_no_member() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accept = async { nobody().accept(listener.accept().await.unwrap().0).await.is_err() };
    let (dialled, refused) = tokio::join!(world.ours.open(stream), accept);
    assert!(refused && dialled.is_err());
}

#[test]
fn files_that_cannot_work_are_refused_with_the_name_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("a"));
    let theirs = Authority::new(&dir.path().join("b"));
    let (good, twin) = (files(&ours.issue("n", NAME)), files(&ours.issue("twin", NAME)));
    assert!(Transport::load(Some(&good)).unwrap().is_tls());
    let foreign = files(&theirs.issue("n", NAME));
    let unnamed = files(&ours.issue("unnamed", "example.org"));
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "nothing of the kind\n").unwrap();
    let absent = dir.path().join("absent.pem");
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        files
    };
    let rows = [
        (with(&|f| f.ca = absent.clone()), "tls.ca: cannot use"),
        (with(&|f| f.cert = absent.clone()), "absent.pem"),
        (with(&|f| f.key = absent.clone()), "tls.key: cannot use"),
        (with(&|f| f.ca = empty.clone()), "no PEM certificate"),
        (with(&|f| f.cert = empty.clone()), "no PEM certificate"),
        (with(&|f| f.key = empty.clone()), "no PEM private key"),
        (with(&|f| f.key = good.cert.clone()), "no PEM private key"),
        (with(&|f| f.key = twin.key.clone()), "do not belong together"),
        (with(&|f| f.ca = foreign.ca.clone()), "does not stand up to"),
        (unnamed, "DNS:mocks3"),
    ];
    for (files, reason) in rows {
        let said = Transport::load(Some(&files)).err().expect(reason).to_string();
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert_eq!(said.lines().count(), 1, "{said:?}");
    }
}
