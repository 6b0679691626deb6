//! Random crash sequences across three processes: actors end in every way, processes are killed, and
//! nothing that was acknowledged is lost.
//!
//! The nodes are processes of this test binary, so that they can be told over their standard input
//! which actor is to end and how.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mocks3::actors::member::{self, MemberReply};
use mocks3::actors::supervisor::{ActorNode, supervisor_group};
use mocks3::cluster::handshake::Secret;
use mocks3::cluster::{Scope, To};
use mocks3::config::Config;
use mocks3::events::{Event, EventKind};
use mocks3::node::{Addresses, Node as Running, NodeOptions};
use mocks3::types::Service;
use ractor::ActorCell;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::harness::{MARK, Node, Observer, SECRET, free_port, isolated, until};
use crate::membership::events;
use crate::subjects::{ENDS, End, KINDS, Kind, Ledger};

/// In whose environment this stands, that process is a node: services, port, folder, seeds.
const NODE: &str = "MOCKS3TEST_NODE";
const JOIN: Duration = Duration::from_secs(10);
/// The three processes, and what runs in each.
const NODES: [&str; 3] = ["metadata,third-party", "queue,storage", "storage"];

/// Starts this binary again as a node that takes orders.
fn start(test: &str, dir: &Path, service: &'static str, port: u16, seeds: &[String]) -> Node {
    std::fs::create_dir_all(dir).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(dir.join("test.log"));
    let log = log.unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env_remove(MARK).env("RUST_BACKTRACE", "0");
    command.env(NODE, format!("{service}|{port}|{}|{}", dir.display(), seeds.join(",")));
    command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
    let address = format!("127.0.0.1:{port}");
    Node { child: command.spawn().unwrap(), address, dir: dir.to_owned(), service }
}

/// What such a process does: runs its node, and ends actors as it is told. It ends with its stdin.
fn be_a_node(arguments: &str) {
    let mut parts = arguments.split('|');
    let mut part = || parts.next().unwrap();
    let services: Vec<Service> = part().split(',').map(|s| s.parse().unwrap()).collect();
    let any = "127.0.0.1:0".parse().unwrap();
    let cluster_listen = format!("127.0.0.1:{}", part()).parse().unwrap();
    let options = NodeOptions {
        addresses: Addresses {
            http: vec![any; services.len()],
            cluster: cluster_listen,
            data: any,
            advertise: None,
        },
        services,
        instance: None,
        data_dir: part().into(),
        bootstrap: part().split(',').filter(|s| !s.is_empty()).map(Into::into).collect(),
        cluster_id: None,
        secret: Secret::new(SECRET),
        wanted: Default::default(),
        found_anew: Vec::new(),
        config: Config::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = Running::start(options).await.unwrap();
        let instance = node.info().instance;
        std::thread::spawn({
            let handle = tokio::runtime::Handle::current();
            move || {
                for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                    if let Some(seed) = line.strip_prefix("each ") {
                        handle.block_on(end_each(&instance, seed.parse().unwrap()));
                        continue;
                    }
                    let mut words = line.split_whitespace().map(|w| w.parse::<usize>().unwrap());
                    let kind = KINDS[words.next().unwrap()];
                    handle.block_on(kind.end(&instance, ENDS[words.next().unwrap()]));
                }
                std::process::exit(0);
            }
        });
        eprintln!("ended: {:?}", node.run(std::future::pending()).await);
    });
}

/// Ends every actor of this process that a supervisor has as its child, in random order: killed, or
/// first told to stop (which a task does not hear). First the leaves, then the role supervisors.
async fn end_each(instance: &str, seed: u64) {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let named = |name: &str| ractor::pg::get_local_members(&supervisor_group(name, instance));
    let roles: Vec<ActorCell> = Service::ALL.iter().flat_map(|s| named(s.short())).collect();
    let is_role = |cell: &ActorCell| roles.iter().any(|role| role.get_id() == cell.get_id());
    let all = roles.iter().cloned().chain(named("node"));
    let mut leaves: Vec<ActorCell> =
        all.flat_map(|s| s.get_children()).filter(|c| !is_role(c)).collect();
    leaves.shuffle(&mut random);
    for cell in leaves.into_iter().chain(roles.clone()) {
        if random.random() {
            cell.stop(Some("told to".into()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cell.kill();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
    }
}

/// Tells the process of a node to end one of its actors.
fn order(node: &mut Node, kind: Kind, how: End) {
    let (kind, how) = (
        KINDS.iter().position(|k| *k == kind).unwrap(),
        ENDS.iter().position(|e| *e == how).unwrap(),
    );
    writeln!(node.child.stdin.as_mut().unwrap(), "{kind} {how}").unwrap();
}

/// Three nodes, and the observer that knows all of them.
async fn three(test: &str, dir: &Path) -> (Vec<Node>, Observer) {
    let mut nodes: Vec<Node> = Vec::new();
    for (n, service) in NODES.into_iter().enumerate() {
        let seeds: Vec<String> = nodes.first().map(|n| n.address.clone()).into_iter().collect();
        nodes.push(start(test, &dir.join(n.to_string()), service, free_port(), &seeds));
    }
    let observer = Observer::join(nodes.iter().map(|n| n.address.clone()).collect()).await;
    until("all are members", JOIN, || observer.peers().len() == NODES.len()).await;
    (nodes, observer)
}

/// In which of the three processes the actor of a kind runs that the test asks.
fn place(kind: Kind) -> usize {
    let runs = |services: &&str| services.split(',').any(|s| s.parse() == Ok(kind.service()));
    NODES.iter().rposition(runs).unwrap()
}

/// The instance ids of the nodes, in their order; they keep them across restarts.
fn instances(observer: &Observer) -> Vec<String> {
    let members = observer.cluster.members();
    let of = |wanted: &&str| {
        let wanted: Vec<Service> = wanted.split(',').map(|s| s.parse().unwrap()).collect();
        members.iter().find(|m| m.services == wanted).unwrap().instance.clone()
    };
    NODES.iter().map(of).collect()
}

#[test]
fn nothing_acknowledged_is_lost_in_random_crashes_across_three_processes() {
    let name = "crashes::nothing_acknowledged_is_lost_in_random_crashes_across_three_processes";
    if let Ok(arguments) = std::env::var(NODE) {
        return be_a_node(&arguments);
    }
    isolated(name, || async {
        let seed = std::env::var("MOCKS3TEST_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        eprintln!("MOCKS3TEST_SEED={seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let (mut nodes, observer) = three(name, dir.path()).await;
        let instances = instances(&observer);
        let at = |kind: Kind| (&observer.cluster, instances[place(kind)].as_str());
        let mut ledgers: Vec<(Kind, Ledger)> = KINDS.map(|k| (k, Ledger::default())).into();
        for round in 0..20u64 {
            let kind = KINDS[random.random_range(0..KINDS.len())];
            let how = ENDS.get(random.random_range(0..=ENDS.len())); // none: the whole process
            let pause = Duration::from_micros(random.random_range(0..15_000));
            let load = ledgers.iter_mut().map(|(kind, ledger)| async move {
                for n in 0..10 {
                    kind.keep(at(*kind), round * 100 + n, ledger).await;
                }
            });
            let node = &mut nodes[place(kind)];
            let crash = async {
                tokio::time::sleep(pause).await;
                match how {
                    Some(how) => order(node, kind, *how),
                    None => node.kill(),
                }
            };
            tokio::join!(futures::future::join_all(load), crash);
            if how.is_none() {
                let port = node.address.rsplit(':').next().unwrap().parse().unwrap();
                let seeds: Vec<String> = match place(kind) {
                    0 => Vec::new(),
                    _ => vec![nodes[0].address.clone()],
                };
                let node = &mut nodes[place(kind)];
                let (dir, service) = (node.dir.clone(), node.service);
                let again = start(name, &dir, service, port, &seeds);
                drop(std::mem::replace(node, again));
            }
            for (n, (kind, ledger)) in (50..).zip(&mut ledgers) {
                let begun = Instant::now();
                while !kind.keep(at(*kind), round * 100 + n, ledger).await {
                    let log = || nodes[place(*kind)].log();
                    assert!(
                        begun.elapsed() < JOIN,
                        "{} not back after {how:?}: {}",
                        kind.role(),
                        log()
                    );
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        for (kind, ledger) in &ledgers {
            kind.check(at(*kind), ledger).await;
        }
    });
}

/// `supervisor/child` of all that a tree shows, and whether it runs.
fn paths(parent: &str, tree: &[ActorNode]) -> Vec<(String, bool)> {
    let below = |node: &ActorNode| {
        let own = (format!("{parent}/{}", node.name), node.state == "running");
        std::iter::once(own).chain(paths(&node.name, &node.children)).collect::<Vec<_>>()
    };
    tree.iter().flat_map(below).collect()
}

#[test]
fn every_actor_of_every_node_comes_back() {
    let name = "crashes::every_actor_of_every_node_comes_back";
    if let Ok(arguments) = std::env::var(NODE) {
        return be_a_node(&arguments);
    }
    isolated(name, || async {
        let dir = tempfile::tempdir().unwrap();
        let (mut nodes, observer) = three(name, dir.path()).await;
        let instances = instances(&observer);
        let at = |kind: Kind| (&observer.cluster, instances[place(kind)].as_str());
        let mut ledgers: Vec<(Kind, Ledger)> = KINDS.map(|k| (k, Ledger::default())).into();
        let mut expected = Vec::new();
        for instance in &instances {
            let tree = member::tree_of(&observer.cluster, instance).await.unwrap();
            expected.push(paths("node", &tree));
        }
        let seen: Vec<&str> = expected.iter().flatten().map(|(path, _)| path.as_str()).collect();
        for path in ["metadata/relay", "metadata/forget", "queue/worker-1", "node/requests"] {
            assert!(seen.contains(&path), "{path} is not in {seen:?}");
        }
        for node in &mut nodes {
            let seed = rand::random::<u64>();
            eprintln!("seed {seed}");
            writeln!(node.child.stdin.as_mut().unwrap(), "each {seed}").unwrap();
        }
        let load = ledgers.iter_mut().map(|(kind, ledger)| async move {
            for n in 0..200 {
                kind.keep(at(*kind), n, ledger).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        futures::future::join_all(load).await;
        for (n, (instance, expected)) in instances.iter().zip(&expected).enumerate() {
            let begun = Instant::now();
            loop {
                let tree = member::tree_of(&observer.cluster, instance).await.unwrap_or_default();
                let ask = member::Message::Events { after: 0 };
                let scope = Scope::new(Duration::from_secs(1));
                let events = observer.cluster.call(&scope, To::Instance(instance), ask).await;
                let events = match events {
                    Ok(MemberReply::Events(events)) => events,
                    _ => Vec::new(), // it is one of those that end
                };
                let ended = |path: &str| {
                    let about = |e: &&Event| e.subject == path;
                    events.iter().filter(about).any(|e| e.kind == EventKind::ActorEnded)
                };
                let left: Vec<_> = expected.iter().filter(|(path, _)| !ended(path)).collect();
                let now = paths("node", &tree);
                let whole = now.len() == expected.len() && now.iter().all(|(_, runs)| *runs);
                if left.is_empty() && whole {
                    break;
                }
                let late = begun.elapsed() > JOIN;
                assert!(!late, "did not end: {left:?}; now {now:?}: {}", nodes[n].log());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(nodes[n].child.try_wait().unwrap().is_none(), "the node ended");
        }
        for (kind, ledger) in &ledgers {
            kind.check(at(*kind), ledger).await;
        }
    });
}

#[test]
fn too_many_crashes_end_the_role_and_its_peers_say_why() {
    let name = "crashes::too_many_crashes_end_the_role_and_its_peers_say_why";
    if let Ok(arguments) = std::env::var(NODE) {
        return be_a_node(&arguments);
    }
    isolated(name, || async {
        let dir = tempfile::tempdir().unwrap();
        let (mut nodes, observer) = three(name, dir.path()).await;
        let instances = instances(&observer);
        tokio::time::sleep(Duration::from_secs(1)).await; // the peers have begun to watch
        let begun = Instant::now();
        let ended = loop {
            order(&mut nodes[2], Kind::Storage, End::Panic);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut seen = events(&observer, &instances[0]).await.into_iter();
            let ended = |e: &Event| e.kind == EventKind::PeerSupervisorEnded;
            if let Some(event) = seen.find(ended) {
                break event;
            }
            if begun.elapsed() > Duration::from_secs(30) {
                let here = events(&observer, &instances[2]).await;
                panic!("no event: {:#?}\n{here:#?}", events(&observer, &instances[0]).await);
            }
        };
        assert!(ended.subject.contains(&instances[2]), "{ended:?}");
        assert!(ended.detail.contains("panic"), "the cause is not said: {ended:?}");
        let mut ledger = Ledger::default();
        let at = (&observer.cluster, instances[2].as_str());
        let begun = Instant::now();
        while !Kind::Storage.keep(at, 1, &mut ledger).await {
            assert!(begun.elapsed() < JOIN, "the role did not come back: {}", nodes[2].log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
