//! Promises broken on purpose: the checks must see it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mocks3::points::{self, Mutant};
use mocks3::types::Service;

use crate::checker::{Fault, check};
use crate::checks;
use crate::clients::{Client, PROBES, Record};
use crate::cluster::{Cluster, Scale};
use crate::history::{Act, Operation, When};
use crate::run::{begin, just_referenced};
use crate::s3::{Answer, S3};

const CLIENTS: u32 = 8;
const WRITES: u64 = 8;
const LOAD: Duration = Duration::from_secs(4);
/// How long after the last delete its data may lie around: the grace, and the way of the task.
const GONE: Duration = Duration::from_secs(20);

/// A cluster that breaks this promise.
async fn start(scale: &str, mutant: Option<Mutant>) -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::Builder::new().prefix("points-").tempdir().unwrap();
    let mut cluster = Cluster::new(dir.path(), Scale::parse(scale)).await;
    for node in &mut cluster.nodes {
        node.variables.push(("MOCKS3_STORAGE__DELETE_GRACE", "1s".to_owned()));
        node.variables.push(("MOCKS3_STORAGE__ORPHAN_GRACE", "1h".to_owned())); // only tasks clean
        node.variables.extend(mutant.map(|mutant| (points::MUTANT, mutant.name().to_owned())));
    }
    begin(&mut cluster).await;
    (dir, cluster)
}

/// Has clients write and delete for a while.
async fn load(cluster: &Cluster) {
    let (record, edges, seed) = (Record::new(), cluster.edges(), rand::random());
    let new_client = |n| Client::new(n, &edges, seed, record.clone());
    let clients: Vec<_> = (0..CLIENTS).map(|n| tokio::spawn(new_client(n).run())).collect();
    tokio::time::sleep(LOAD).await;
    record.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

/// Cuts a replica that does not lead off from the others; storage nodes reach it all the same.
async fn cut_off(cluster: &Cluster) {
    let all = cluster.of(Service::Metadata);
    let leader = cluster.leader(Service::Metadata).await.unwrap();
    let lone = all.iter().copied().find(|n| *n != leader).unwrap();
    for other in all.into_iter().filter(|n| *n != lone) {
        cluster.links.cut(lone, other);
        cluster.links.cut(other, lone);
    }
}

/// Overwrites one key and reads it at once through each edge; what was answered.
async fn write_and_read(cluster: &Cluster) -> Vec<Operation> {
    let edges: Vec<S3> = cluster.edges().iter().map(|url| S3::new(url)).collect();
    let (begun, mut history, key) = (Instant::now(), Vec::new(), "mutant");
    let now = || begun.elapsed().as_nanos() as u64;
    for value in 1..=WRITES {
        let from = now();
        let answer = edges[0].put(PROBES, key, value.to_string().into(), None).await;
        let ended = matches!(answer, Answer::Told { status, .. } if status == 200).then(now);
        let (key, when, refused) = (key.to_owned(), When::Always, false);
        let act = Act::Put { key: key.clone(), value, when, refused };
        history.push(Operation { client: 0, begun: from, ended, act });
        for edge in &edges {
            let from = now();
            let answer = edge.read(reqwest::Method::GET, PROBES, &key).await;
            let Answer::Told { status, body, .. } = answer else { continue };
            let saw = match status.as_u16() {
                200 => Some(String::from_utf8_lossy(&body).parse().unwrap()),
                404 => None,
                _ => continue,
            };
            let act = Act::Read { key: key.clone(), saw };
            history.push(Operation { client: 0, begun: from, ended: Some(now()), act });
        }
    }
    history
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: real processes; not yet run on a quiet machine in release"]
async fn reads_without_a_barrier_are_found_by_the_checker() {
    let scale = "metadata=3,storage=3,queue=1";
    let (_dir, cluster) = start(scale, None).await;
    cut_off(&cluster).await;
    let history = write_and_read(&cluster).await;
    let answered = history.iter().filter(|o| o.ended.is_some()).count() as u64;
    assert!(answered > 2 * WRITES, "hardly anything was answered: {history:?}");
    let found = check(&history);
    assert!(found.is_ok(), "although no promise is broken: {found:?}");
    drop(cluster);
    let (_dir, cluster) = start(scale, Some(Mutant::ReadWithoutBarrier)).await;
    cut_off(&cluster).await;
    match check(&write_and_read(&cluster).await) {
        Err(Fault::Broken(broken)) => eprintln!("found: {:?}", broken.culprit),
        other => panic!("not found: {other:?}"),
    }
}

/// Whether only what is referenced is on the nodes, as soon as all tasks are done.
async fn is_clean(mutant: Option<Mutant>) -> bool {
    let (_dir, cluster) = start("metadata=1,storage=3,queue=1", mutant).await;
    load(&cluster).await;
    let clean = async {
        checks::no_open_task(&cluster).await;
        while let Err(why) = just_referenced(&cluster).await {
            eprintln!("left over: {why:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(GONE, clean).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: real processes; not yet run on a quiet machine in release"]
async fn deletes_without_an_outbox_row_are_found_by_what_is_left_over() {
    assert!(is_clean(None).await, "data are left over although no promise is broken");
    assert!(!is_clean(Some(Mutant::DeleteWithoutOutbox)).await, "not found");
}
