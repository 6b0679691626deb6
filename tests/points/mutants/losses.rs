//! Data that are gone although somebody was told that they are there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mocks3::points::{self, Mutant, Point};
use mocks3::types::Service;

use super::{CLIENTS, LOAD, ONE, load, start};
use crate::checker::check;
use crate::clients::{Client, PROBES, Record};
use crate::cluster::{Cluster, until};
use crate::history::{Act, Operation};
use crate::s3::{Answer, S3};

/// How often it is tried: what was on disk last need not have been a PUT.
const ROUNDS: usize = 5;
/// How long one storage node is alone.
const ALONE: Duration = Duration::from_secs(1);
/// How soon there must be service after what happened.
const HEAL: Duration = Duration::from_secs(10);
/// How long metadata stays away: longer than clients wait.
const AWAY: Duration = Duration::from_secs(6);
/// How long it may take until metadata comes to its point.
const DEATH: Duration = Duration::from_secs(20);

/// Lets something happen under load; whether all that clients were told still holds afterwards. What
/// cannot be read then counts as gone.
async fn holds_after(
    mutant: Option<Mutant>,
    misfortune: impl AsyncFnOnce(&mut Cluster, &Record),
) -> Result<(), String> {
    let (_dir, mut cluster) = start(ONE, mutant).await;
    let load = load(&cluster, Client::write);
    tokio::time::sleep(LOAD).await;
    misfortune(&mut cluster, &load.record).await;
    (0..cluster.nodes.len()).for_each(|n| cluster.run(n));
    every_edge_writes(&cluster).await;
    let record = load.end().await;
    let mut reader = Client::new(CLIENTS, &cluster.edges(), 0, record.clone());
    let untold = reader.read_all().await;
    let mut history = record.history();
    let last = history.iter().filter_map(|o| o.ended).max().unwrap();
    history.extend(untold.iter().map(|key| gone(key, last)));
    check(&history).map_err(|fault| fault.to_string())?;
    let wrong = [untold, record.wrong()].concat();
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) }
}

/// Waits for that; what is written need not be readable.
async fn every_edge_writes(cluster: &Cluster) {
    let edges: Vec<S3> = cluster.edges().iter().map(|url| S3::new(url)).collect();
    let write = async || {
        for edge in &edges {
            let answer = edge.put(PROBES, "probe", "probe".into(), None).await;
            let good = matches!(answer, Answer::Told { status, .. } if status == 200);
            anyhow::ensure!(good, "{answer:?}");
        }
        Ok(())
    };
    until("every edge writes", HEAL, write).await;
}

/// The read of a key that could not be read.
fn gone(key: &str, at: u64) -> Operation {
    let key = key.split(' ').next().unwrap().to_owned();
    Operation { client: CLIENTS, begun: at, ended: Some(at), act: Act::Read { key, saw: None } }
}

/// All storage nodes die at once.
async fn all_die(cluster: &mut Cluster, _: &Record) {
    for n in cluster.of(Service::Storage) {
        cluster.kill(n);
    }
}

/// Two of three storage nodes die; the third goes on for a while, and loses its disk.
async fn one_is_lost(cluster: &mut Cluster, _: &Record) {
    let storage = cluster.of(Service::Storage);
    storage[1..].iter().for_each(|n| cluster.kill(*n));
    tokio::time::sleep(ALONE).await;
    cluster.kill(storage[0]);
    std::fs::remove_dir_all(cluster.nodes[storage[0]].dir.join("data")).unwrap();
}

/// Metadata dies with commands on disk that nobody was told of, and applies them when it comes back:
/// after the time-outs of those who sent them. Nobody writes any more then.
async fn commits_come_late(cluster: &mut Cluster, record: &Record) {
    let metadata = cluster.of(Service::Metadata)[0];
    let point = format!("{}:40", Point::Logged.name());
    cluster.kill(metadata);
    cluster.nodes[metadata].variables.push((points::CRASH, point));
    cluster.run(metadata);
    let dead = async || {
        anyhow::ensure!(!cluster.ended().is_empty(), "it lives");
        Ok(())
    };
    until("metadata comes to its point", DEATH, dead).await;
    record.stop.store(true, Ordering::Relaxed);
    cluster.kill(metadata);
    cluster.nodes[metadata].variables.retain(|(name, _)| *name != points::CRASH);
    tokio::time::sleep(AWAY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_too_early_is_missed() {
    assert_eq!(holds_after(None, all_die).await, Ok(()));
    let found = holds_after(Some(Mutant::AckBeforeDurable), all_die).await;
    eprintln!("found: {}", found.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lay_on_one_node_alone_is_missed() {
    assert_eq!(holds_after(None, one_is_lost).await, Ok(()));
    let found = holds_after(Some(Mutant::WriteQuorumOne), one_is_lost).await;
    eprintln!("found: {}", found.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_were_cleaned_up_although_committed_are_missed() {
    assert_eq!(holds_after(None, commits_come_late).await, Ok(()));
    let mut found = Ok(());
    for _ in 0..ROUNDS {
        if found.is_ok() {
            found = holds_after(Some(Mutant::CleanupBeforeAbort), commits_come_late).await;
        }
    }
    eprintln!("found: {}", found.unwrap_err());
}
