//! Joining, losing and finding members again.

use std::time::{Duration, Instant};

use mocks3::actors::member::{MemberReply, Message};
use mocks3::cluster::{CallError, Scope, To};
use mocks3::events::{Event, EventKind};
use mocks3::types::Service;
use nix::sys::signal::Signal;

use crate::harness::{Node, Observer, SECRET, isolated, until};

const JOIN: Duration = Duration::from_secs(10);
/// The promise: a killed, frozen or cut-off peer is out within this.
const OUT: Duration = Duration::from_secs(2);

/// A metadata and a queue node that know each other through one seed, and the observer.
async fn three(dir: &std::path::Path) -> (Node, Node, Observer) {
    let metadata = Node::start(&dir.join("m"), "metadata", &[]);
    let seeds = vec![metadata.address.clone()];
    let queue = Node::start(&dir.join("q"), "queue", &seeds);
    let observer = Observer::join(seeds).await;
    until("both are members", JOIN, || observer.peers() == ["metadata", "queue"]).await;
    (metadata, queue, observer)
}

async fn ask(
    observer: &Observer,
    instance: &str,
    limit: Duration,
) -> Result<MemberReply, CallError> {
    observer.cluster.call(&Scope::new(limit), To::Instance(instance), Message::Actors).await
}

/// What a node has recorded.
pub async fn events(observer: &Observer, instance: &str) -> Vec<Event> {
    let ask = Message::Events { after: 0 };
    match observer.cluster.call(&Scope::new(JOIN), To::Instance(instance), ask).await {
        Ok(MemberReply::Events(events)) => events,
        other => panic!("no events: {other:?}"),
    }
}

#[test]
fn nodes_find_each_other_through_one_seed_and_answer_calls() {
    isolated("membership::nodes_find_each_other_through_one_seed_and_answer_calls", || async {
        let dir = tempfile::tempdir().unwrap();
        let (_m, _q, observer) = three(dir.path()).await;
        for service in [Service::Metadata, Service::Queue] {
            let instance = observer.instance_of(service);
            let answer = ask(&observer, &instance, JOIN).await;
            assert!(matches!(answer, Ok(MemberReply::Actors(_))), "{answer:?}");
        }
        assert!(observer.sessions.cluster_id().is_some(), "the id was not learnt from the peers");
        let nobody = ask(&observer, "queue-service-none", JOIN).await;
        assert!(matches!(nobody, Err(CallError::NoMember(_))), "{nobody:?}");
    });
}

#[test]
fn a_killed_node_is_out_in_time_and_back_on_its_disk_under_its_id() {
    isolated(
        "membership::a_killed_node_is_out_in_time_and_back_on_its_disk_under_its_id",
        || async {
            let dir = tempfile::tempdir().unwrap();
            let (metadata, mut queue, observer) = three(dir.path()).await;
            let before = observer.instance_of(Service::Queue);
            for _ in 0..3 {
                queue.kill();
                until("the killed node is out", OUT, || observer.peers() == ["metadata"]).await;
                queue.restart(std::slice::from_ref(&metadata.address));
                until("it is back", JOIN, || observer.peers() == ["metadata", "queue"]).await;
                assert_eq!(observer.instance_of(Service::Queue), before);
                let scope = Duration::from_secs(5);
                assert!(ask(&observer, &before, scope).await.is_ok());
            }
        },
    );
}

#[test]
fn a_frozen_node_is_out_in_time_with_its_pending_calls_and_back_when_it_thaws() {
    isolated(
        "membership::a_frozen_node_is_out_in_time_with_its_pending_calls_and_back_when_it_thaws",
        || async {
            let dir = tempfile::tempdir().unwrap();
            let (_metadata, queue, observer) = three(dir.path()).await;
            let instance = observer.instance_of(Service::Queue);
            queue.freeze();
            let begun = Instant::now();
            let pending = ask(&observer, &instance, Duration::from_secs(30)).await;
            let took = begun.elapsed();
            assert_eq!(pending, Err(CallError::Dropped));
            assert!(took < OUT, "the pending call failed only after {took:?}");
            until("the frozen node is out", OUT, || observer.peers() == ["metadata"]).await;
            queue.signal(Signal::SIGCONT);
            until("it is back", JOIN, || observer.peers() == ["metadata", "queue"]).await;
            assert!(ask(&observer, &instance, JOIN).await.is_ok());
        },
    );
}

#[test]
fn a_busy_node_is_not_taken_for_dead() {
    isolated("membership::a_busy_node_is_not_taken_for_dead", || async {
        let dir = tempfile::tempdir().unwrap();
        let (_metadata, _queue, observer) = three(dir.path()).await;
        let mut changes = observer.cluster.table().subscribe();
        // block all tokio workers of this process: only its heartbeat thread goes on answering
        let workers = std::thread::available_parallelism().unwrap().get();
        let handle = tokio::runtime::Handle::current();
        let until = Instant::now() + Duration::from_secs(4);
        let busy = (0..workers).map(|_| {
            handle.spawn(async move {
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            })
        });
        for task in busy.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(changes.try_recv().is_err(), "a peer was lost while this process was busy");
        let own = observer.cluster.instance().to_owned();
        let metadata = observer.instance_of(Service::Metadata);
        let events = events(&observer, &metadata).await;
        let lost = events.iter().find(|e| e.subject == own && e.kind == EventKind::MemberLost);
        assert!(lost.is_none(), "the busy process was taken for dead: {lost:?}");
    });
}

#[test]
fn a_node_that_is_asked_to_stop_says_goodbye() {
    isolated("membership::a_node_that_is_asked_to_stop_says_goodbye", || async {
        let dir = tempfile::tempdir().unwrap();
        let (_metadata, mut queue, observer) = three(dir.path()).await;
        let instance = observer.instance_of(Service::Queue);
        let metadata = observer.instance_of(Service::Metadata);
        queue.signal(Signal::SIGTERM);
        let status = queue.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", queue.log());
        until("its sessions have ended", OUT, || observer.peers() == ["metadata"]).await;
        tokio::time::sleep(Duration::from_millis(200)).await; // a late "lost" would be seen
        let seen: Vec<EventKind> = events(&observer, &metadata)
            .await
            .into_iter()
            .filter(|e| e.subject.contains(&instance))
            .map(|e| e.kind)
            .collect();
        assert!(seen.contains(&EventKind::MemberLeft), "{seen:?}");
        assert!(!seen.contains(&EventKind::MemberLost), "{seen:?}");
    });
}

#[test]
fn a_node_of_another_cluster_and_one_without_the_secret_stay_outside() {
    isolated(
        "membership::a_node_of_another_cluster_and_one_without_the_secret_stay_outside",
        || async {
            let dir = tempfile::tempdir().unwrap();
            let metadata = Node::start(&dir.path().join("m"), "metadata", &[]);
            let seeds = vec![metadata.address.clone()];
            let stranger = Observer::join_as(seeds.clone(), SECRET, 77).await;
            let thief = Node::start_at(
                &dir.path().join("q"),
                "queue",
                &seeds,
                crate::harness::free_port(),
                "not the secret",
            );
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(stranger.peers(), Vec::<String>::new());
            assert!(!metadata.log().contains("member joined"), "{}", metadata.log());
            assert!(!thief.log().contains("member joined"), "{}", thief.log());
            assert!(metadata.log().contains("another cluster"), "{}", metadata.log());
        },
    );
}
