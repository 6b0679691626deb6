//! Promises broken on purpose, each by a switch (`src/points.rs`): the checks must see it. Where no
//! promise is broken they must see nothing in the same run.

mod leftovers;
mod losses;
mod outside;
mod reads;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mocks3::points::{self, Mutant};
use tokio::task::JoinHandle;

use crate::clients::{Client, Record};
use crate::cluster::{Cluster, Scale};
use crate::run::begin;

const ONE: &str = "metadata=1,storage=3,queue=1";
const CLIENTS: u32 = 8;
/// How long clients write before anything happens.
const LOAD: Duration = Duration::from_secs(3);

/// A cluster that breaks this promise.
async fn start(scale: &str, mutant: Option<Mutant>) -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::Builder::new().prefix("points-").tempdir().unwrap();
    let mut cluster = Cluster::new(dir.path(), Scale::parse(scale)).await;
    for node in &mut cluster.nodes {
        node.variables.push(("MOCKS3_STORAGE__DELETE_GRACE", "1s".to_owned()));
        node.variables.push(("MOCKS3_STORAGE__ORPHAN_GRACE", "1h".to_owned())); // only tasks clean
        node.variables.push(("MOCKS3_THIRD_PARTY__CACHE_SIZE", "0B".to_owned())); // it is asked
        node.variables.extend(mutant.map(|mutant| (points::MUTANT, mutant.name().to_owned())));
    }
    begin(&mut cluster).await;
    (dir, cluster)
}

/// Clients at work.
struct Load {
    record: Arc<Record>,
    clients: Vec<JoinHandle<()>>,
}

/// Has clients do this until they are to stop.
fn load<W>(cluster: &Cluster, work: impl Fn(Client) -> W) -> Load
where
    W: Future<Output = ()> + Send + 'static,
{
    let (record, edges, seed) = (Record::new(), cluster.edges(), rand::random());
    let new_client = |n| Client::new(n, &edges, seed, record.clone());
    let clients = (0..CLIENTS).map(|n| tokio::spawn(work(new_client(n)))).collect();
    Load { record, clients }
}

impl Load {
    async fn end(self) -> Arc<Record> {
        self.record.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        self.record
    }
}
