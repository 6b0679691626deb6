//! What must be true once everything is healed, by what the services say of themselves and by what
//! is on the disks.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use mocks3::types::Service;
use serde_json::Value;

use crate::clients::{BUCKETS, Client, PROBES};
use crate::cluster::{Cluster, until};
use crate::s3::{Answer, S3};

/// How soon there must be full service after the last fault.
const HEAL: Duration = Duration::from_secs(10);
/// How long tasks, copies and cleaning may take.
const SETTLE: Duration = Duration::from_secs(120);
/// How many nodes hold each object.
const COPIES: usize = 3;
const SEGMENT: u64 = 4 << 20;

/// Every edge stores and gives back an object; how long that took.
pub async fn full_service(cluster: &Cluster) -> Duration {
    let edges: Vec<S3> = cluster.edges().iter().map(|url| S3::new(url)).collect();
    let all = async || {
        let probes = edges.iter().enumerate().map(|(n, edge)| probe(n, edge));
        futures::future::try_join_all(probes).await
    };
    until("every edge serves", HEAL, all).await.1
}

async fn probe(n: usize, edge: &S3) -> anyhow::Result<()> {
    let (key, body) = (format!("probe-{n}"), format!("{}", rand::random::<u64>()));
    match edge.put(PROBES, &key, body.clone().into(), None).await {
        Answer::Told { status, .. } if status.is_success() => {}
        other => bail!("edge {n}, PUT: {other:?}"),
    }
    match edge.read(reqwest::Method::GET, PROBES, &key).await {
        Answer::Told { status, body: found, .. } if status.is_success() => {
            ensure!(found == body, "edge {n}: {found:?} instead of {body}");
        }
        other => bail!("edge {n}, GET: {other:?}"),
    }
    Ok(())
}

/// All tasks are done, also those on their way to the queue.
pub async fn no_open_task(cluster: &Cluster) -> Duration {
    let ask = async || {
        let queue = cluster.json(Service::Queue, "/api/v1/stats").await?;
        let metadata = cluster.json(Service::Metadata, "/api/v1/stats").await?;
        let (open, outbox) = (&queue["total_queue_length"], &metadata["outbox"]);
        ensure!(
            *open == 0 && *outbox == 0,
            "{open} open tasks ({}), outbox {outbox}",
            queue["states"]
        );
        ensure!(queue["failed_tasks"] == 0, "dead letters: {}", queue["failed_tasks"]);
        Ok(())
    };
    until("no open task", SETTLE, ask).await.1
}

/// Metadata's rows of a bucket.
async fn rows(cluster: &Cluster, bucket: &str) -> anyhow::Result<Vec<Value>> {
    let path = format!("/api/v1/metadata?bucket={bucket}&limit=1000");
    let page = cluster.json(Service::Metadata, &path).await?;
    ensure!(page["next"].is_null(), "the buckets of the test fit one page");
    page["metadata"].as_array().cloned().context("no rows")
}

/// By metadata's word every object is on its full number of nodes.
pub async fn all_copies(cluster: &Cluster) -> Duration {
    let ask = async || {
        for bucket in BUCKETS {
            for row in rows(cluster, bucket).await? {
                let nodes = row["storage_nodes"].as_array().map_or(0, Vec::len);
                ensure!(nodes == COPIES, "{bucket}/{}: {nodes} copies", row["key"]);
            }
        }
        Ok(())
    };
    until("all copies are there", SETTLE, ask).await.1
}

/// Each storage node alone gives back every object: the others are stopped meanwhile. The reads go
/// into the history, which says what is right.
pub async fn each_copy_serves(cluster: &mut Cluster, mut reader: impl FnMut(&str) -> Client) {
    let storage = cluster.of(Service::Storage);
    for &alone in &storage {
        let others: Vec<usize> = storage.iter().copied().filter(|n| *n != alone).collect();
        others.iter().for_each(|n| cluster.kill(*n));
        let url = cluster.nodes[alone].url();
        let ask = async || match reader(&url).read_all().await {
            untold if untold.is_empty() => Ok(()),
            untold => bail!("{untold:?}"),
        };
        until("one node alone gives back everything", HEAL, ask).await;
        others.iter().for_each(|n| cluster.run(*n));
        full_service(cluster).await;
    }
}

/// What lies on each storage node's disk is hardly more than the living objects.
pub async fn no_orphan_data(cluster: &Cluster) -> Duration {
    let ask = async || {
        let mut living = 0;
        for bucket in BUCKETS {
            let sizes = rows(cluster, bucket).await?;
            living += sizes.iter().filter_map(|row| row["size"].as_u64()).sum::<u64>();
        }
        for n in cluster.of(Service::Storage) {
            let dir = cluster.nodes[n].dir.join("data/segments");
            let (used, bound) = (used(&dir), living * 11 / 10 + SEGMENT);
            ensure!(used > 0 && used <= bound, "{}: {used}, bound {bound}", dir.display());
        }
        Ok(())
    };
    until("disk use is within its bound", SETTLE, ask).await.1
}

/// Bytes that the segments of a folder really occupy.
fn used(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let segments = files.filter(|f| f.file_name().to_string_lossy().starts_with("seg-"));
    segments.filter_map(|f| f.metadata().ok()).map(|m| m.blocks() * 512).sum()
}

/// The replicas of each group applied the same and hold the same.
pub async fn replicas_are_equal(cluster: &Cluster) -> Duration {
    let ask = async || {
        let replicated = [Service::Metadata, Service::Queue, Service::MockError].into_iter();
        let several: Vec<Service> = replicated.filter(|s| cluster.scale.count(*s) > 1).collect();
        if several.is_empty() {
            return Ok(()); // each is alone, and equal to itself
        }
        let told = cluster.json(several[0], "/api/v1/groups?digest=true").await?;
        let groups = told["groups"].as_array().context("no groups")?;
        for service in several {
            let group = groups.iter().find(|g| g["service"] == service.name());
            let replicas = group.and_then(|g| g["replicas"].as_array()).context("no replicas")?;
            let digests: Vec<&Value> = replicas.iter().map(|r| &r["digest"]).collect();
            ensure!(digests.len() == cluster.scale.count(service), "{service}: {digests:?}");
            let same = digests.iter().all(|d| d.is_string() && *d == digests[0]);
            ensure!(same, "{service}: {digests:?}");
        }
        Ok(())
    };
    until("all replicas are equal", SETTLE, ask).await.1
}
