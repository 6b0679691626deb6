//! Figures of the services for `/metrics`, which cost too much to keep at each change.
//!
//! A supervised task beside each actor with state; asks it every [`INTERVAL`]. An actor that does not
//! answer leaves its last figures standing.

use std::time::Duration;

use super::metadata::query::{Query, QueryReply};
use super::metadata::{self, MetadataReply};
use super::queue_worker::task::KindName;
use super::queue_worker::{self, QueueReply};
use super::storage_node::message as storage;
use crate::cluster::{Cluster, Scope, To, Wire};
use crate::metrics;

/// How often an actor is asked.
const INTERVAL: Duration = Duration::from_secs(2);

/// The catalog's objects.
pub async fn metadata(cluster: Cluster) {
    let ask = || metadata::Message::Read(Query::Stats { bucket: None });
    every_interval(&cluster, ask, |reply| {
        if let MetadataReply::Read(Ok(QueryReply::Stats { stats })) = reply {
            metrics::get().objects.with_label_values::<&str>(&[]).set(stats.objects as i64);
        }
    })
    .await;
}

/// The bytes that a storage node occupies.
pub async fn storage(cluster: Cluster) {
    every_interval(
        &cluster,
        || storage::Message::Stats,
        |reply| {
            if let Ok(storage::Reply::Stats(stats)) = reply {
                let bytes = metrics::get().storage_usage.with_label_values::<&str>(&[]);
                bytes.set(stats.disk_bytes as i64);
            }
        },
    )
    .await;
}

/// The unfinished tasks of the queue.
pub async fn queue(cluster: Cluster) {
    every_interval(
        &cluster,
        || queue_worker::Message::Stats,
        |reply| {
            if let QueueReply::Stats(stats) = reply {
                for queue in KindName::QUEUES {
                    let kinds = KindName::ALL.into_iter().filter(|kind| kind.queue() == queue);
                    let open: u64 = kinds.map(|kind| stats.counts.unfinished_of(kind)).sum();
                    metrics::get().queue_length.with_label_values(&[queue]).set(open as i64);
                }
            }
        },
    )
    .await;
}

async fn every_interval<M: Wire>(
    cluster: &Cluster,
    ask: impl Fn() -> M + Send,
    take: impl Fn(M::Reply) + Send,
) {
    let own = cluster.instance().to_owned();
    loop {
        if let Ok(reply) = cluster.call(&Scope::new(INTERVAL), To::Instance(&own), ask()).await {
            take(reply);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
