//! `make bench`: durable commits of the metadata group over real processes, for a group of one and a
//! group of three, beside what the disk's fdatasync allows in the same run; and how long writes
//! pause when the leader is killed.
//!
//! The bounds of the pause are those of the project's plan; the bench fails where one is broken.

mod disk;
#[path = "../../tests/cluster/harness.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "made for the tests")]
mod harness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use harness::{Node, Observer};
use mocks3::actors::metadata::command::{Command, NewObject, Precondition};
use mocks3::actors::metadata::{Group, Message, MetadataReply};
use mocks3::cluster::{Cluster, Scope};
use mocks3::replica::talk::standing;
use mocks3::types::{Service, now_ms};
use serde_json::json;

/// How long one command may take.
const LIMIT: Duration = Duration::from_millis(1800);
/// How long a cluster may take to be whole.
const WHOLE: Duration = Duration::from_secs(30);
const BUCKET: &str = "bench";

/// Arguments of the bench.
#[derive(Parser)]
struct Args {
    /// Where the nodes live, and the file with the figures.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How often the leader is killed.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Given by `cargo bench`; means nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.out)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("commits-").tempdir_in(&args.out)?;
    let mut rows = Vec::new();
    println!(
        "{:<9} {:>11} {:>11} {:>8} {:>8} {:>12} {:>7}",
        "replicas", "concurrency", "commits/s", "p50 ms", "p99 ms", "fdatasync/s", "ratio"
    );
    let mut pauses = Vec::new();
    for replicas in [1, 3] {
        let mut group = GroupOf::start(&dir.path().join(replicas.to_string()), replicas).await?;
        for concurrency in [1, 16, 128] {
            let length = Duration::from_secs_f64(args.seconds);
            let threads = concurrency.min(16);
            let syncs = disk::syncs_per_second(dir.path(), threads, length / 2)?;
            let (rate, p50, p99) = commits(&group.observer.cluster, concurrency, length).await?;
            let ratio = rate / syncs;
            println!(
                "{replicas:<9} {concurrency:>11} {rate:>11.0} {p50:>8.2} {p99:>8.2} {syncs:>12.0} \
                 {ratio:>7.2}"
            );
            rows.push(json!({ "replicas": replicas, "concurrency": concurrency,
                "commits_per_s": rate, "p50_ms": p50, "p99_ms": p99, "fdatasync_per_s": syncs,
                "sync_threads": threads, "ratio": ratio }));
        }
        if replicas == 3 {
            pauses = group.kill_leaders(args.kills).await?;
        }
    }
    pauses.sort();
    let at = now_ms() / 1000;
    let path = args.out.join(format!("commits-{at}.json"));
    let seconds: Vec<f64> = pauses.iter().map(Duration::as_secs_f64).collect();
    let all = json!({ "unix_time": at, "rows": rows, "leader_kill_pauses_s": seconds });
    std::fs::write(&path, serde_json::to_string_pretty(&all)?)?;
    println!("everything: {}", path.display());
    let Some(most) = pauses.last() else { return Ok(()) };
    let median = pauses[pauses.len() / 2];
    println!(
        "leader killed {} times: writes pause {median:.2?} (p50), {most:.2?} (max)",
        args.kills
    );
    ensure!(median <= Duration::from_secs(2), "the median pause exceeds 2 s");
    ensure!(*most <= Duration::from_secs(5), "the longest pause exceeds 5 s");
    Ok(())
}

/// A metadata group of real processes, and a member that talks to it.
struct GroupOf {
    nodes: Vec<Node>,
    seeds: Vec<String>,
    observer: Observer,
}

impl GroupOf {
    async fn start(dir: &Path, replicas: usize) -> anyhow::Result<Self> {
        let mut nodes: Vec<Node> = Vec::new();
        for n in 0..replicas {
            let seeds: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
            nodes.push(Node::start(&dir.join(n.to_string()), "metadata", &seeds));
        }
        let seeds: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        let observer = Observer::join(seeds.clone()).await;
        let group = GroupOf { nodes, seeds, observer };
        group.whole().await?;
        let (name, owner) = (BUCKET.to_owned(), "bench".to_owned());
        let bucket = Command::CreateBucket { name, owner, now_ms: now_ms() };
        ensure!(committed(&group.observer.cluster, bucket).await, "no bucket");
        Ok(group)
    }

    /// Waits until all vote and one leads; gives the leader's instance.
    async fn whole(&self) -> anyhow::Result<String> {
        let begun = Instant::now();
        let cluster = &self.observer.cluster;
        while begun.elapsed() < WHOLE {
            let members = cluster.members();
            let of = members.iter().filter(|m| m.services == [Service::Metadata]);
            let asked = of.map(|m| standing::<Group>(cluster, &m.instance, LIMIT));
            let all: Vec<_> =
                futures::future::join_all(asked).await.into_iter().flatten().collect();
            let vote = |s: &mocks3::replica::talk::Standing| s.voters.len() == self.nodes.len();
            let leader = all.iter().find(|s| s.leads).and_then(|s| s.leader.clone());
            if let Some(leader) = leader
                && all.len() == self.nodes.len()
                && all.iter().all(vote)
            {
                return Ok(leader.instance);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the group is not whole within {WHOLE:?}")
    }

    /// Kills the leader again and again; gives how long it took each time until a write succeeded.
    async fn kill_leaders(&mut self, times: usize) -> anyhow::Result<Vec<Duration>> {
        let mut pauses = Vec::new();
        for n in 0..times {
            let leader = self.whole().await?;
            let pid = self.observer.cluster.members().into_iter().find(|m| m.instance == leader);
            let pid = pid.context("the leader is no member")?.pid;
            let node = self.nodes.iter_mut().find(|node| node.child.id() == pid);
            let node = node.context("the leader is none of ours")?;
            node.kill();
            let killed = Instant::now();
            while !committed(&self.observer.cluster, row(&format!("after-{n}"))).await {
                ensure!(killed.elapsed() < WHOLE, "no write within {WHOLE:?} of the kill");
            }
            pauses.push(killed.elapsed());
            node.restart(&self.seeds);
        }
        Ok(pauses)
    }
}

/// A new row of some 150 bytes.
fn row(key: &str) -> Command {
    Command::Commit {
        bucket: BUCKET.into(),
        key: key.into(),
        data: None,
        size: 0,
        etag: "d41d8cd98f00b204e9800998ecf8427e".into(),
        object: NewObject { owner: "bench".into(), ..NewObject::default() },
        precondition: Precondition::Always,
        now_ms: now_ms(),
        grace_ms: 0,
    }
}

async fn committed(cluster: &Cluster, command: Command) -> bool {
    let answer = cluster.command(&Scope::new(LIMIT), Message::Apply(command)).await;
    matches!(answer, Ok(MetadataReply::Applied(Ok(_))))
}

/// Commits per second, and the latencies in milliseconds.
async fn commits(
    cluster: &Cluster,
    concurrency: usize,
    length: Duration,
) -> anyhow::Result<(f64, f64, f64)> {
    let begun = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let clients = (0..concurrency).map(|_| {
        let (cluster, next) = (cluster.clone(), next.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while begun.elapsed() < length {
                let key = format!("{concurrency}-{:012}", next.fetch_add(1, Ordering::Relaxed));
                let asked = Instant::now();
                ensure!(committed(&cluster, row(&key)).await, "a commit failed");
                latencies.push(asked.elapsed());
            }
            Ok(latencies)
        })
    });
    let mut all = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        all.extend(client.await??);
    }
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    all.sort();
    let quantile = |q: f64| all[(all.len() as f64 * q) as usize].as_secs_f64() * 1e3;
    Ok((rate, quantile(0.5), quantile(0.99)))
}
