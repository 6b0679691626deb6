//! False alarms: a machine that is busy with something else is no reason to take anybody for dead.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mocks3::types::Service;
use serde_json::Value;

use crate::checks;
use crate::cluster::{Cluster, Scale, until};
use crate::s3::{Answer, S3};

/// Burners for each core of the machine.
const BURNERS: usize = 4;
/// How long they burn, unless `MOCKS3TEST_SECONDS` says otherwise.
const SECONDS: u64 = 600;
/// Between two requests of the light traffic.
const PAUSE: Duration = Duration::from_millis(200);
const START: Duration = Duration::from_secs(60);
const BUCKET: &str = "alarms";
/// What must not happen.
const ALARMS: [&str; 3] = ["member_lost", "leader_elected", "replica_removed"];

/// Foreign processes that use up all cores; killed when dropped.
struct Burners(Vec<Child>);

impl Burners {
    fn start() -> Burners {
        let cores = std::thread::available_parallelism().unwrap().get();
        let burner = |_| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            shell.spawn().unwrap()
        };
        Burners((0..cores * BURNERS).map(burner).collect())
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The events of a node after a number; and the number of the last one.
async fn events(cluster: &Cluster, n: usize, after: u64) -> anyhow::Result<(Vec<Value>, u64)> {
    let url = format!("{}/api/v1/events?after={after}&limit=1000", cluster.nodes[n].url());
    let page: Value = cluster.http.get(url).send().await?.json().await?;
    let events = page["events"].as_array().context("no events")?.clone();
    Ok((events, page["next"].as_u64().context("no number")?))
}

/// Whether this is told of somebody who led before already: of the founding, a little late.
fn is_old(event: &Value, leaders: &BTreeMap<String, String>) -> bool {
    let term = event["detail"].as_str().and_then(|detail| detail.rsplit(' ').next());
    let row = format!("{} {}", event["subject"], term.unwrap_or_default());
    event["kind"] == "leader_elected" && leaders.values().any(|leader| *leader == row)
}

/// Who leads each group in which term.
async fn leaders(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, String>> {
    let told = cluster.json(Service::Metadata, "/api/v1/groups").await?;
    let groups = told["groups"].as_array().context("no groups")?;
    let row = |g: &Value| (g["service"].to_string(), format!("{} {}", g["leader"], g["term"]));
    ensure!(groups.iter().all(|g| g["leader"].is_string()), "somebody does not lead");
    Ok(groups.iter().map(row).collect())
}

#[test]
#[ignore = "heavy: ten minutes of a machine that is busy with something else"]
fn a_busy_machine_makes_no_member_lost_and_no_other_leader() {
    let seconds = std::env::var("MOCKS3TEST_SECONDS").ok().and_then(|s| s.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let cluster =
            Cluster::start(dir.path(), Scale::parse("metadata=3,storage=3,queue=3")).await;
        let s3 = S3::new(&cluster.edges()[0]);
        let bucket = async || match s3.create_bucket(BUCKET).await {
            Answer::Told { status, .. } if status.is_success() => Ok(()),
            other => anyhow::bail!("{other:?}"),
        };
        until("a bucket", START, bucket).await;
        until("probes", START, async || match s3.create_bucket(crate::clients::PROBES).await {
            Answer::Told { status, .. } if status.is_success() || status == 409 => Ok(()),
            other => anyhow::bail!("{other:?}"),
        })
        .await;
        checks::full_service(&cluster).await;
        let before = until("leaders", START, async || leaders(&cluster).await).await.0;
        let mut seen = Vec::new();
        for n in 0..cluster.nodes.len() {
            seen.push(events(&cluster, n, 0).await.unwrap().1);
        }
        let burners = Burners::start();
        let (begun, mut served, mut not) = (Instant::now(), 0, 0);
        while begun.elapsed() < length {
            let key = format!("k{}", (served + not) % 20);
            match s3.put(BUCKET, &key, "light traffic".into(), None).await {
                Answer::Told { status, .. } if status.is_success() => served += 1,
                _ => not += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
        drop(burners);
        eprintln!("alarms: {served} requests served, {not} not, in {length:?}");
        let mut alarms = Vec::new();
        for (n, after) in seen.into_iter().enumerate() {
            let (all, _) = events(&cluster, n, after).await.unwrap();
            let is_alarm = |e: &Value| e["kind"].as_str().is_some_and(|k| ALARMS.contains(&k));
            let new = all.into_iter().filter(is_alarm).filter(|e| !is_old(e, &before));
            alarms.extend(new.map(|e| e.to_string()));
        }
        assert_eq!(alarms, Vec::<String>::new());
        assert_eq!(leaders(&cluster).await.unwrap(), before);
        assert!(served > 0, "nothing was served");
    });
}
