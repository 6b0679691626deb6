//! Reads that are answered from a replica that was left behind.

use std::time::Instant;

use mocks3::points::Mutant;
use mocks3::types::Service;

use super::start;
use crate::checker::{Fault, check};
use crate::clients::PROBES;
use crate::cluster::Cluster;
use crate::history::{Act, Operation, When};
use crate::s3::{Answer, S3};

const WRITES: u64 = 8;

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
