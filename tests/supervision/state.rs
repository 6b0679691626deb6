//! Actors with a disk: what they acknowledged before a crash is there after it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mocks3::actors::metadata::{self, Metadata};
use mocks3::actors::queue_worker::{self, Queue};
use mocks3::actors::storage_node::{self, StorageNode};
use mocks3::actors::supervisor::restart::{Limits, Strategy};
use mocks3::actors::supervisor::{ActorNode, ChildSpec, Message, Supervisor, SupervisorSpec};
use mocks3::actors::third_party::ThirdParty;
use mocks3::cluster::{Cluster, MemberInfo, Members, Wire};
use mocks3::data::client::{ClientOptions, DataClient};
use mocks3::replica::actor::{Home, ReplicaActor, Slot};
use mocks3::replica::images::ImagePlane;
use mocks3::replica::{KnownGroups, Machine, Settings, Synced, talk};
use mocks3::types::{Service, new_instance_id};
use proptest::prelude::*;
use ractor::ActorRef;

use crate::subjects::{ENDS, End, KINDS, Kind, Ledger};

/// Waits between restarts are short, so that a case sees many of them.
const LIMITS: Limits = Limits {
    max_restarts: 1000,
    window: Duration::from_secs(10),
    backoff: Duration::from_millis(5),
    backoff_max: Duration::from_millis(20),
};
/// How long a new life may take to answer: its backoff, and opening its disk on a busy machine.
const BACK: Duration = Duration::from_secs(5);

/// How long it may take until one that hangs is back: two missed checks, and its backoff.
const HUNG: Duration = Duration::from_secs(10);

fn cluster(service: Service) -> Cluster {
    Cluster::new(Arc::new(Members::new(MemberInfo {
        instance: new_instance_id(service),
        incarnation: 1,
        services: vec![service],
        pid: 0,
        http_url: String::new(),
        s3_url: None,
        data_address: None,
        cluster_address: String::new(),
    })))
}

/// Where the only replica of a group lives.
fn home<M: Machine>(
    service: Service,
    dir: &Path,
    slot: Slot<M>,
    open: impl Fn() -> Result<M, String> + Send + Sync + 'static,
) -> Home<M> {
    let client = DataClient::new(ClientOptions::default());
    Home {
        dir: dir.into(),
        open: Box::new(open),
        slot,
        images: Arc::new(ImagePlane::new(&Arc::default(), "127.0.0.1:9".into(), client)),
        settings: Settings::default(),
        service,
        expect: 1,
        may_found: Arc::new(|_| Box::pin(async { Ok(()) })),
        known: Arc::new(KnownGroups::new(BTreeMap::new(), Box::new(|_, _| ()))),
        synced: Synced::Always,
        remove_after: Duration::from_secs(600),
        events: Arc::default(),
    }
}

fn replica<G: talk::Group, M: Machine>(cluster: &Cluster, home: Home<M>) -> ChildSpec {
    let actor = ReplicaActor::<G, M>::new(home);
    ChildSpec::service(G::ROLE, cluster, move || actor.clone())
}

fn metadata_children(cluster: &Cluster, dir: &Path) -> Vec<ChildSpec> {
    let (slot, path): (Slot<metadata::Machine>, _) = (Arc::default(), dir.join("meta.db"));
    let service = Metadata {
        path: path.clone(),
        slot: slot.clone(),
        leads: Arc::default(),
        progress: Arc::default(),
    };
    let open = move || metadata::open(&path, &Arc::default()).map_err(|e| e.to_string());
    vec![
        replica::<metadata::Group, _>(cluster, home(Service::Metadata, dir, slot, open)),
        ChildSpec::service(metadata::Message::ROLE, cluster, move || service.clone()),
    ]
}

fn queue_children(cluster: &Cluster, dir: &Path) -> Vec<ChildSpec> {
    let (slot, path): (Slot<queue_worker::Machine>, _) = (Arc::default(), dir.join("queue.redb"));
    let stores = queue_worker::Stores::default();
    let service = Queue { slot: slot.clone(), stores: stores.clone(), leads: Arc::default() };
    let open =
        move || queue_worker::open(&path, &stores, &Arc::default()).map_err(|e| e.to_string());
    vec![
        replica::<queue_worker::Group, _>(cluster, home(Service::Queue, dir, slot, open)),
        ChildSpec::service(queue_worker::Message::ROLE, cluster, move || service.clone()),
    ]
}

fn children(kind: Kind, cluster: &Cluster, dir: &Path) -> Vec<ChildSpec> {
    let (name, address) = (kind.role(), "127.0.0.1:9".to_owned());
    let child = match kind {
        Kind::Metadata | Kind::MetadataReplica => return metadata_children(cluster, dir),
        Kind::Queue | Kind::QueueReplica => return queue_children(cluster, dir),
        Kind::Storage => {
            let settings = storage_node::Settings::new(dir.join("segments"), address);
            let client = DataClient::new(ClientOptions::default());
            let service = StorageNode::new(settings, Arc::default(), client);
            ChildSpec::service(name, cluster, move || service.clone())
        }
        Kind::ThirdParty => {
            let settings = Default::default();
            let service = ThirdParty::new(dir.into(), settings, Arc::default(), address);
            ChildSpec::service(name, cluster, move || service.clone())
        }
    };
    vec![child]
}

async fn supervise(cluster: &Cluster, children: Vec<ChildSpec>) -> ActorRef<Message> {
    let spec = SupervisorSpec {
        name: "state".into(),
        strategy: Strategy::OneForOne,
        limits: LIMITS,
        children,
        instance: cluster.instance().to_owned(),
        events: Arc::default(),
    };
    Supervisor::start_root(spec).await.unwrap().0
}

/// One step of a case: so many requests one after another, and an end of the actor in the midst.
type Step = (End, u64, u64);

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    let step = (proptest::sample::select(&ENDS[..]), 1u64..12, 0u64..12_000);
    proptest::collection::vec(step, 1..8)
}

async fn survives(kind: Kind, steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(kind.service());
    let instance = cluster.instance().to_owned();
    let root = supervise(&cluster, children(kind, &cluster, dir.path())).await;
    let (mut ledger, mut n) = (Ledger::default(), 0);
    kept_within(BACK, kind, (&cluster, &instance), n, &mut ledger).await;
    for (how, requests, after_us) in steps {
        let load = async {
            for _ in 0..requests {
                n += 1;
                kind.keep((&cluster, &instance), n, &mut ledger).await;
            }
        };
        let crash = async {
            tokio::time::sleep(Duration::from_micros(after_us)).await;
            // a replica's actor may be on its way back while its service serves already
            let begun = Instant::now();
            while !kind.end(&instance, how).await {
                assert!(begun.elapsed() < BACK, "{kind:?}: nobody there to be ended");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::join!(load, crash);
        // It is back, takes requests, and has what it said it has.
        n += 1;
        kept_within(BACK, kind, (&cluster, &instance), n, &mut ledger).await;
        kind.check((&cluster, &instance), &ledger).await;
    }
    root.call(Message::Stop, Some(Duration::from_secs(10))).await.unwrap();
    root.stop(None);
}

/// Asks for something to be kept until that is acknowledged.
async fn kept_within(
    limit: Duration,
    kind: Kind,
    at: (&Cluster, &str),
    n: u64,
    ledger: &mut Ledger,
) {
    let begun = Instant::now();
    while !kind.keep(at, n, ledger).await {
        assert!(begun.elapsed() < limit, "{kind:?}: not there within {limit:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn hangs(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(kind.service());
    let instance = cluster.instance().to_owned();
    let root = supervise(&cluster, children(kind, &cluster, dir.path())).await;
    let (at, mut ledger) = ((&cluster, instance.as_str()), Ledger::default());
    kept_within(BACK, kind, at, 1, &mut ledger).await;
    assert!(kind.end(&instance, End::Hang).await);
    // what a replica is asked by its service does not go through its actor
    let serves = matches!(kind, Kind::MetadataReplica | Kind::QueueReplica);
    assert_eq!(kind.keep(at, 2, &mut ledger).await, serves, "{kind:?} does not hang");
    let seen = root.call(Message::Observe, Some(Duration::from_secs(5))).await.unwrap().unwrap();
    let of = |seen: &[ActorNode]| seen.iter().find(|a| a.name == kind.role()).unwrap().clone();
    assert_eq!(of(&seen).state, "not answering", "{kind:?}");
    let begun = Instant::now();
    let end = loop {
        let seen = root.call(Message::Observe, Some(Duration::from_secs(5))).await;
        if let Some(end) = of(&seen.unwrap().unwrap()).last_end {
            break end;
        }
        assert!(begun.elapsed() < HUNG, "{kind:?} was not found out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(end.contains("did not answer"), "{end}");
    kept_within(HUNG, kind, at, 3, &mut ledger).await;
    kind.check(at, &ledger).await;
    root.stop(None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_hangs_is_found_out_killed_and_comes_back_with_all_it_acknowledged() {
    futures::future::join_all(KINDS.map(hangs)).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Whatever ends it and whenever: an actor is back within its backoff, with all that it
    /// acknowledged.
    #[test]
    fn acknowledged_state_survives_random_crashes_of_each_kind(steps in steps()) {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(futures::future::join_all(KINDS.map(|kind| survives(kind, steps.clone()))));
    }
}
