//! The actor with real sources on loopback, good and bad ones; bodies over the real data plane.

mod upstream;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use ractor::Actor;
use tokio_util::sync::CancellationToken;

use super::ThirdParty;
use super::message::{Body, Expect, Listed, Message, Mode, Open, Opened, Refusal, Reply, Stats};
use crate::cluster::envelope::Env;
use crate::cluster::transport::Transport;
use crate::cluster::{Cluster, MemberInfo, Members, Scope, Shell, To};
use crate::config::{self, Source, Span};
use crate::data::client::{ClientOptions, DataClient};
use crate::data::desk::Desk;
use crate::data::server::{ServerLimits, serve};
use crate::types::{Service, new_instance_id};
use upstream::{Does, Upstream, body};

const MIB: usize = 1 << 20;

/// One instance of the service, as a node would run it.
struct Rig {
    cluster: Cluster,
    data: DataClient,
    desk: Arc<Desk>,
    address: String,
    settings: config::ThirdParty,
    dir: tempfile::TempDir,
    actor: ractor::ActorRef<Env<Message>>,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
        self.actor.kill();
    }
}

fn source(upstream: &Upstream, name: &str, priority: u32) -> Source {
    let text = format!("name = \"{name}\"\ntype = \"http\"\nendpoint = \"{}\"", upstream.url);
    let source: Source = toml::from_str(&text).unwrap();
    // long enough for a busy machine, short where a test waits for it
    let mute = matches!(upstream.does, Does::Silent | Does::Stalls);
    let timeout = if mute { Span::millis(300) } else { Span::secs(5) };
    Source { priority, timeout, retry_interval: Span::millis(5), max_retries: 1, ..source }
}

impl Rig {
    async fn start(sources: Vec<Source>) -> Self {
        let settings = config::ThirdParty { sources, breaker_failures: 4, ..Default::default() };
        let instance = new_instance_id(Service::ThirdParty);
        let info = MemberInfo {
            instance,
            incarnation: 1,
            services: vec![Service::ThirdParty],
            pid: 1,
            http_url: String::new(),
            s3_url: None,
            data_address: None,
            cluster_address: String::new(),
        };
        let cluster = Cluster::new(Arc::new(Members::new(info)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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
        let dir = tempfile::tempdir().unwrap();
        let make =
            ThirdParty::new(dir.path().into(), settings.clone(), desk.clone(), address.clone());
        let (actor, _) = Actor::spawn(None, Shell::new(make, cluster.clone()), ()).await.unwrap();
        let options = ClientOptions { stall: Duration::from_secs(2), ..ClientOptions::default() };
        let data = DataClient::new(options);
        Rig { cluster, data, desk, address, settings, dir, actor, stop }
    }

    async fn restart(&mut self) {
        self.actor.stop(None); // a killed one takes no notice
        let group = crate::cluster::calls::instance_group("third_party", self.cluster.instance());
        while !ractor::pg::get_members(&group).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (settings, desk) = (self.settings.clone(), self.desk.clone());
        let make = ThirdParty::new(self.dir.path().into(), settings, desk, self.address.clone());
        let shell = Shell::new(make, self.cluster.clone());
        self.actor = Actor::spawn(None, shell, ()).await.unwrap().0;
    }

    async fn call(&self, message: Message) -> Result<Reply, Refusal> {
        let scope = Scope::new(Duration::from_secs(20));
        for _ in 0..100 {
            let to = To::Instance(self.cluster.instance());
            match self.cluster.call(&scope, to, message.clone()).await {
                Ok(answer) => return answer,
                Err(crate::cluster::CallError::NoMember(_)) => {
                    tokio::time::sleep(Duration::from_millis(10)).await; // post_start joins late
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the actor never joined its group");
    }

    async fn open(&self, key: &str, mode: Mode, expect: Option<Expect>) -> Result<Reply, Refusal> {
        let (bucket, key) = ("b".to_owned(), key.to_owned());
        self.call(Message::Open(Open { bucket, key, expect, source: None, mode })).await
    }

    /// All the bytes of an answer, or how their stream broke.
    async fn bytes(&self, opened: &Opened) -> Result<Vec<u8>, String> {
        match &opened.body {
            Body::None => Ok(Vec::new()),
            Body::Inline(bytes) => Ok(bytes.to_vec()),
            Body::Ticket { ticket, data_id } => {
                let opening = self.data.get(ticket, *data_id).await;
                let mut download = opening.map_err(|e| e.to_string())?;
                let mut all = Vec::new();
                while let Some(piece) = download.next().await {
                    all.extend_from_slice(&piece.map_err(|e| e.to_string())?);
                }
                Ok(all)
            }
        }
    }

    async fn stats(&self) -> Stats {
        let Ok(Reply::Stats(stats)) = self.call(Message::Stats).await else { panic!("no stats") };
        stats
    }
}

/// What a client got.
#[derive(Debug, PartialEq)]
enum Got {
    /// Exactly the right bytes.
    Right,
    /// A stream that broke.
    Broken,
    /// Nothing, since no source could give it.
    Failed,
    /// Nothing, since no source has it.
    Absent,
}

async fn get(rig: &Rig, key: &str, mode: Mode, expect: Option<Expect>, size: usize) -> Got {
    match rig.open(key, mode, expect).await {
        Ok(Reply::Absent) => Got::Absent,
        Err(Refusal::Failed(_)) => Got::Failed,
        Ok(Reply::Opened(opened)) => match rig.bytes(&opened).await {
            Ok(bytes) => {
                assert_eq!(opened.size, size as u64);
                assert!(bytes == body(size), "{} wrong bytes of {size} were given", bytes.len());
                assert_ne!(mode, Mode::Head);
                Got::Right
            }
            Err(_) => Got::Broken,
        },
        other => panic!("unexpected {other:?}"),
    }
}

fn expect(size: usize) -> Expect {
    Expect { size: size as u64, md5: md5::compute(body(size)).0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_bodies_of_all_sizes_come_byte_for_byte() {
    for does in [Does::Good, Does::Summed, Does::Chunked] {
        for size in [0, 1, 64 * 1024, 64 * 1024 + 1, MIB + 1, 9 * MIB] {
            let upstream = Upstream::start(does, size).await;
            let rig = Rig::start(vec![source(&upstream, "a", 1)]).await;
            for (mode, expected) in [(Mode::Stream, None), (Mode::Checked, Some(expect(size)))] {
                let got = get(&rig, "k", mode, expected, size).await;
                assert_eq!(got, Got::Right, "{does:?} {size} {mode:?}");
            }
            let Ok(Reply::Opened(head)) = rig.open("h", Mode::Head, None).await else { panic!() };
            let declared = if does == Does::Chunked { 0 } else { size as u64 };
            assert_eq!((head.size, head.body), (declared, Body::None));
            let stats = rig.stats().await;
            assert_eq!((stats.spool_bytes, stats.failed), (0, 0), "nothing stays on disk");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_source_never_gives_a_whole_wrong_body() {
    use Got::{Absent, Broken, Failed};
    let (small, large) = (100_000, 9 * MIB);
    // does, small streamed, large streamed, small expected, large expected
    let rows = [
        (Does::Status(500), Failed, Failed, Failed, Failed),
        (Does::Status(403), Failed, Failed, Failed, Failed),
        (Does::Status(302), Failed, Failed, Failed, Failed),
        (Does::Status(206), Failed, Failed, Failed, Failed),
        (Does::Missing, Absent, Absent, Absent, Absent),
        (Does::Silent, Failed, Failed, Failed, Failed),
        (Does::Stalls, Failed, Broken, Failed, Failed),
        (Does::Truncated, Failed, Broken, Failed, Failed),
        (Does::ChunkedTruncated, Failed, Failed, Failed, Failed),
        (Does::Unframed, Failed, Failed, Failed, Failed),
        // a declared sum that is not the expected one: the source has another object
        (Does::WrongSum, Failed, Broken, Absent, Absent),
    ];
    for (does, small_streamed, large_streamed, small_expected, large_expected) in rows {
        for (size, streamed, expected) in
            [(small, small_streamed, small_expected), (large, large_streamed, large_expected)]
        {
            let upstream = Upstream::start(does, size).await;
            let rig = Rig::start(vec![source(&upstream, "a", 1)]).await;
            let got = get(&rig, "k", Mode::Stream, None, size).await;
            assert_eq!(got, streamed, "{does:?} {size} streamed");
            let got = get(&rig, "k", Mode::Checked, Some(expect(size)), size).await;
            assert_eq!(got, expected, "{does:?} {size} expected");
            let got = get(&rig, "k", Mode::Stream, Some(expect(size)), size).await;
            assert!(matches!(got, Failed | Broken | Absent), "{does:?} {size} save: {got:?}");
            assert_eq!(rig.stats().await.cache_entries, 0, "nothing wrong is kept");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_that_nobody_declared_are_found_where_a_row_knows_better() {
    for size in [1, 100_000, MIB + 1, 9 * MIB] {
        let upstream = Upstream::start(Does::WrongByte, size).await;
        let rig = Rig::start(vec![source(&upstream, "a", 1)]).await;
        let got = get(&rig, "k", Mode::Checked, Some(expect(size)), size).await;
        assert_eq!(got, Got::Failed, "{size}");
        let got = get(&rig, "k", Mode::Stream, Some(expect(size)), size).await;
        assert!(matches!(got, Got::Failed | Got::Broken), "{size} {got:?}");
        let rig = Rig::start(vec![source(&upstream, "a", 1)]).await; // its breaker is closed
        let other = Some(Expect { size: size as u64 + 1, ..expect(size) });
        assert_eq!(get(&rig, "k", Mode::Checked, other, size).await, Got::Absent, "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_source_serves_where_the_first_fails_or_has_nothing() {
    let size = 100_000;
    let good = Upstream::start(Does::Good, size).await;
    for does in [Does::Missing, Does::Status(500), Does::Silent, Does::Truncated, Does::WrongSum] {
        let bad = Upstream::start(does, size).await;
        let rig = Rig::start(vec![source(&good, "good", 2), source(&bad, "bad", 1)]).await;
        let Ok(Reply::Opened(opened)) = rig.open("k", Mode::Stream, None).await else {
            panic!("{does:?}")
        };
        assert_eq!((opened.source.as_str(), bad.asked("/b/k") > 0), ("good", true), "{does:?}");
        assert!(rig.bytes(&opened).await.unwrap() == body(size));
        assert_eq!(opened.head.content_type.as_deref(), Some("text/x-test"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_source_is_tried_again_and_then_left_alone() {
    let flaky = Upstream::start(Does::FailsFirst(1), 10).await;
    let rig = Rig::start(vec![source(&flaky, "a", 1)]).await;
    assert_eq!(get(&rig, "k", Mode::Stream, None, 10).await, Got::Right);
    assert_eq!(flaky.asked("/b/k"), 2);
    let dead = Upstream::start(Does::Status(500), 10).await;
    let rig = Rig::start(vec![source(&dead, "a", 1)]).await;
    for _ in 0..5 {
        assert_eq!(get(&rig, "k", Mode::Stream, None, 10).await, Got::Failed);
    }
    assert_eq!(dead.asked("/b/k"), 4, "the breaker opens after 4 failures");
    let Ok(Reply::Sources(views)) = rig.call(Message::Sources).await else { panic!() };
    assert_eq!((views[0].breaker.as_str(), views[0].counts.failed), ("open", 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn small_objects_are_cached_until_they_are_thrown_out() {
    let upstream = Upstream::start(Does::Good, 1000).await;
    let rig = Rig::start(vec![source(&upstream, "a", 1)]).await;
    for _ in 0..3 {
        assert_eq!(get(&rig, "k", Mode::Stream, None, 1000).await, Got::Right);
    }
    assert_eq!(upstream.asked("/b/k"), 1);
    let (bucket, key) = ("b".to_owned(), "k".to_owned());
    let evict = Message::Evict { bucket, key };
    assert_eq!(rig.call(evict.clone()).await, Ok(Reply::Evicted(true)));
    assert_eq!(rig.call(evict).await, Ok(Reply::Evicted(false)));
    assert_eq!(get(&rig, "k", Mode::Stream, None, 1000).await, Got::Right);
    assert_eq!(upstream.asked("/b/k"), 2);
    let stats = rig.stats().await;
    assert_eq!((stats.requests, stats.found, stats.cache_hits), (4, 4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn added_sources_outlive_the_actor_and_can_be_removed() {
    let upstream = Upstream::start(Does::Good, 10).await;
    let mut rig = Rig::start(Vec::new()).await;
    assert_eq!(get(&rig, "k", Mode::Stream, None, 10).await, Got::Absent);
    let added = source(&upstream, "added", 1);
    assert_eq!(rig.call(Message::PutSource { source: added }).await, Ok(Reply::Done));
    rig.restart().await;
    assert_eq!(get(&rig, "k", Mode::Stream, None, 10).await, Got::Right);
    let remove = Message::RemoveSource { name: "added".into() };
    assert_eq!(rig.call(remove.clone()).await, Ok(Reply::Done));
    assert_eq!(rig.call(remove).await, Err(Refusal::NoSuchSource));
    rig.restart().await;
    assert_eq!(get(&rig, "k", Mode::Stream, None, 10).await, Got::Absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_breaks_when_the_actor_dies_and_a_body_that_nobody_fetches_is_dropped() {
    let size = 64 * MIB;
    let upstream = Upstream::start(Does::Good, size).await;
    let mut rig = Rig::start(vec![source(&upstream, "a", 1)]).await;
    let Ok(Reply::Opened(opened)) = rig.open("k", Mode::Stream, None).await else { panic!() };
    let Body::Ticket { ticket, data_id } = &opened.body else { panic!() };
    let mut download = rig.data.get(ticket, *data_id).await.unwrap();
    let first = download.next().await.unwrap().unwrap();
    assert!(!first.is_empty());
    rig.actor.kill();
    let mut got = first.len();
    let broke = loop {
        match download.next().await {
            Some(Ok(piece)) => got += piece.len(),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broke && got < size, "TP-3: {got} of {size} bytes came, and a good end");
    rig.restart().await;
    let Ok(Reply::Opened(_)) = rig.open("k", Mode::Stream, None).await else { panic!() };
    assert_eq!(rig.stats().await.fetching, 1);
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while rig.stats().await.fetching > 0 {
        assert!(tokio::time::Instant::now() < limit, "HOLD-2");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn the_largest_answers_fit_into_a_message() {
    use super::message::{HEAD_LIMIT, ListedObject, SourceView};
    use crate::cluster::codec::{MESSAGE_LIMIT, encoded_size};
    let text = "x".repeat(256);
    let described = format!(
        "name = \"{text}\"\ntype = \"s3\"\nendpoint = \"http://{text}\"\naccess_key = \"{text}\"\n\
         secret_key = \"{text}\"\nregion = \"{text}\"\nbucket = \"{text}\""
    );
    let view = SourceView {
        source: toml::from_str(&described).unwrap(),
        added: true,
        changed_ms: 0,
        breaker: "half_open".into(),
        counts: Default::default(),
    };
    let sources = Reply::Sources(vec![view; config::MAX_SOURCES]);
    let mut opened = Opened {
        source: text,
        size: 0,
        etag: "e".repeat(256),
        md5: Some([0; 16]),
        last_modified_ms: Some(0),
        head: Default::default(),
        cached: false,
        body: Body::Inline(vec![0; 64 * 1024].into()),
    };
    opened.head.content_type = Some("x".repeat(HEAD_LIMIT));
    let entry = ListedObject {
        key: "k".repeat(1024),
        size: 0,
        etag: "e".repeat(64),
        last_modified: "t".repeat(32),
    };
    let listed = Listed { source: "x".repeat(256), objects: vec![entry; 113], truncated: true };
    for reply in [sources, Reply::Opened(Box::new(opened)), Reply::Listed(listed)] {
        let size = encoded_size(&Ok::<_, Refusal>(reply));
        assert!(size < MESSAGE_LIMIT, "TP-WIRE-1: {size}");
    }
}
