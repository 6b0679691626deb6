//! What each service of a node consists of: its supervised actors and its HTTP edge.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::Request;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::disk::NodeDisk;
use super::founding::Founding;
use super::restore::full_text;
use crate::actors::census::Wanted;
use crate::actors::fault_injector::{self, FaultInjector};
use crate::actors::figures;
use crate::actors::member::Root;
use crate::actors::metadata::rebalance::ProgressCell;
use crate::actors::metadata::{self, Metadata};
use crate::actors::queue_worker::{self, Queue, worker, worker::WorkerCell};
use crate::actors::replicated::Leads;
use crate::actors::storage_node::{self, StorageNode, store};
use crate::actors::supervisor::restart::{Limits, Strategy};
use crate::actors::supervisor::{ChildSpec, SupervisorSpec};
use crate::actors::task;
use crate::actors::third_party::ThirdParty;
use crate::cluster::Cluster;
use crate::config::{Config, Durability};
use crate::data::desk::Desk;
use crate::events::EventLog;
use crate::http::json::JsonEnv;
use crate::http::linger::Lingering;
use crate::http::queue::{QueueEnv, WorkerHandle};
use crate::http::{self, Handler, admin, s3};
use crate::metrics;
use crate::objects::{Env, rebalance};
use crate::points;
use crate::replica::actor::{Home, ReplicaActor, Slot};
use crate::replica::backup::{Take, take_from};
use crate::replica::images::ImagePlane;
use crate::replica::{Machine, Settings, Synced, talk};
use crate::types::Service;

/// What the roles are built from.
pub struct Parts {
    /// The way to all actors.
    pub cluster: Cluster,
    /// The node's events.
    pub events: Arc<EventLog>,
    /// The configuration.
    pub config: Arc<Config>,
    /// The node's disk.
    pub disk: Arc<Mutex<NodeDisk>>,
    /// What the flows have at hand.
    pub env: Env,
    /// The queue's workers on this node, by name.
    pub workers: Vec<(String, Arc<WorkerCell>)>,
    /// Where the data plane's server and the storage node's actor meet.
    pub desk: Arc<Desk>,
    /// How many instances of each service there should be.
    pub wanted: Arc<Wanted>,
    /// Who may found a group of replicas.
    pub founding: Arc<Founding>,
    /// How images of replicas come and go, where the node has any.
    pub images: Option<Arc<ImagePlane>>,
    /// How images of the own replicas are taken for backups.
    pub backups: Backups,
    /// The data plane of third parties, where the node runs that service.
    pub outside: Option<Outside>,
}

/// How an image of each service's replica is taken; filled as the roles are built.
pub type Backups = Arc<Mutex<BTreeMap<Service, Take>>>;

/// Where bodies from third parties wait to be fetched.
pub struct Outside {
    /// Where its server and the third-party actor meet.
    pub desk: Arc<Desk>,
    /// `host:port` of that server.
    pub address: String,
}

impl Outside {
    /// The place that others reach at this address.
    pub fn new(address: SocketAddr) -> Self {
        Outside { desk: Arc::default(), address: address.to_string() }
    }
}

/// Names and switches of the queue's workers of one node.
pub fn workers(instance: &str, count: usize) -> Vec<(String, Arc<WorkerCell>)> {
    (1..=count).map(|n| (format!("{instance}/{n}"), Arc::default())).collect()
}

impl Parts {
    /// The task that asks an actor for its figures.
    fn figures<F>(&self, run: fn(Cluster) -> F) -> ChildSpec
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cluster = self.cluster.clone();
        task::child("figures", move || Box::pin(run(cluster.clone())))
    }

    fn subdir(&self, name: &str) -> anyhow::Result<std::path::PathBuf> {
        Ok(self.disk.lock().expect("no panic while the disk is held").subdir(name)?)
    }

    fn backups(&self) -> MutexGuard<'_, BTreeMap<Service, Take>> {
        self.backups.lock().expect("no panic while the table is held")
    }

    /// Where images of the node's replicas come from.
    fn images_from(&self) -> admin::ImagesFrom {
        let (take, disk) = (self.backups().clone(), self.disk.clone());
        let id = move || disk.lock().expect("no panic while the disk is held").cluster_id();
        admin::ImagesFrom { take, cluster_id: Arc::new(move || format!("{:032x}", id())) }
    }

    /// The role supervisor of a service; peers monitor it by this name.
    fn role(&self, service: Service, strategy: Strategy, children: Vec<ChildSpec>) -> ChildSpec {
        ChildSpec::supervisor(SupervisorSpec {
            name: service.short().into(),
            strategy,
            limits: Limits::default(),
            children,
            instance: self.cluster.instance().to_owned(),
            events: self.events.clone(),
        })
    }
}

/// The supervised children of one service.
pub fn build(service: Service, parts: &Parts) -> anyhow::Result<ChildSpec> {
    match service {
        Service::Metadata => metadata_role(parts),
        Service::Queue => queue_role(parts),
        Service::Storage => storage_role(parts),
        Service::ThirdParty => third_party_role(parts),
        Service::MockError => mock_error_role(parts),
    }
}

fn third_party_role(parts: &Parts) -> anyhow::Result<ChildSpec> {
    let outside = parts.outside.as_ref().context("a third-party node needs a data plane")?;
    let (dir, settings) = (parts.subdir("third-party")?, parts.config.third_party.clone());
    let (desk, address) = (outside.desk.clone(), outside.address.clone());
    let service = ThirdParty::new(dir, settings, desk, address);
    let children = vec![ChildSpec::service("third_party", &parts.cluster, move || service.clone())];
    Ok(parts.role(Service::ThirdParty, Strategy::OneForOne, children))
}

fn storage_role(parts: &Parts) -> anyhow::Result<ChildSpec> {
    let config = &parts.config.storage;
    let own = parts.cluster.table().own();
    let address = own.data_address.clone().context("a storage node needs a data address")?;
    let mut settings = storage_node::Settings::new(parts.subdir("segments")?, address);
    settings.options.segment_bytes = config.segment_size.0;
    settings.options.quota_bytes = Some(config.quota.0).filter(|quota| *quota > 0);
    settings.options.durability = match config.durability {
        Durability::Fsync => store::Durability::Fsync,
        Durability::Os => store::Durability::Os,
    };
    settings.scrub_rate = config.scrub_rate.0;
    settings.orphan_check = config.orphan_check.0;
    settings.orphan_grace = config.orphan_grace.0;
    let node = StorageNode::new(settings, parts.desk.clone(), parts.env.data.clone());
    let children = vec![
        ChildSpec::service("storage_node", &parts.cluster, move || node.clone()),
        parts.figures(figures::storage),
    ];
    Ok(parts.role(Service::Storage, Strategy::OneForOne, children))
}

/// Those of the program; a test may ask for shorter logs.
fn replica_settings() -> Settings {
    let usual = Settings::default();
    let (sync_every, keep) = points::log_lengths().unwrap_or((usual.sync_every, usual.keep));
    Settings { sync_every, keep, ..usual }
}

/// Where the replica of one service lives, and where it is found.
fn home<M: Machine>(
    service: Service,
    parts: &Parts,
    open: impl Fn() -> Result<M, String> + Send + Sync + 'static,
) -> anyhow::Result<(Home<M>, Slot<M>)> {
    let images = parts.images.clone().context("a node with replicas needs their data plane")?;
    let slot: Slot<M> = Arc::default();
    parts.backups().insert(service, take_from(slot.clone()));
    let home = Home {
        dir: parts.subdir(service.short())?,
        open: Box::new(open),
        slot: slot.clone(),
        images,
        settings: replica_settings(),
        service,
        expect: parts.wanted.get(&service).copied().unwrap_or(1),
        may_found: parts.founding.asked_for(service),
        known: parts.founding.known.clone(),
        synced: Synced::Always,
        remove_after: parts.config.cluster.remove_after.0,
        events: parts.events.clone(),
    };
    Ok((home, slot))
}

/// The actor of a replica.
fn replica<G: talk::Group, M: Machine>(parts: &Parts, home: Home<M>) -> ChildSpec {
    let actor = ReplicaActor::<G, M>::new(home);
    ChildSpec::service("replica", &parts.cluster, move || actor.clone())
}

fn metadata_role(parts: &Parts) -> anyhow::Result<ChildSpec> {
    let (outbox, leads) = (Arc::new(Notify::new()), Leads::default());
    let path = parts.subdir("metadata")?.join(metadata::FILE);
    let of = (path.clone(), outbox.clone());
    let open = move || metadata::open(&of.0, &of.1).map_err(|e| full_text(&e));
    let (mut home, slot) = home(Service::Metadata, parts, open)?;
    home.synced = match parts.config.metadata.durability {
        Durability::Fsync => Synced::Always,
        Durability::Os => Synced::Never,
    };
    let progress = ProgressCell::default();
    let service = Metadata { path, slot, leads: leads.clone(), progress: progress.clone() };
    let of = (parts.cluster.clone(), outbox, leads.clone());
    let relay = move || -> task::Work {
        let (cluster, outbox, leads) = of.clone();
        Box::pin(metadata::relay::run(cluster, outbox, leads))
    };
    let of = (parts.cluster.clone(), leads.clone());
    let forget = move || -> task::Work {
        let (cluster, leads) = of.clone();
        Box::pin(metadata::forget::run(cluster, leads))
    };
    let of = (parts.cluster.clone(), rebalance::Settings::new(&parts.config), progress, leads);
    let rebalance = move || -> task::Work {
        let (cluster, settings, progress, leads) = of.clone();
        Box::pin(rebalance::run(cluster, settings, progress, leads))
    };
    let children = vec![
        replica::<metadata::Group, _>(parts, home),
        ChildSpec::service("metadata", &parts.cluster, move || service.clone()),
        task::child("relay", relay),
        task::child("forget", forget),
        task::child("rebalance", rebalance),
        parts.figures(figures::metadata),
    ];
    Ok(parts.role(Service::Metadata, Strategy::RestForOne, children))
}

fn queue_role(parts: &Parts) -> anyhow::Result<ChildSpec> {
    let (changed, stores) = (Arc::new(Notify::new()), queue_worker::Stores::default());
    let path = parts.subdir("queue")?.join(queue_worker::FILE);
    let of = (path, stores.clone(), changed.clone());
    let open = move || queue_worker::open(&of.0, &of.1, &of.2).map_err(|e| full_text(&e));
    let (home, slot) = home(Service::Queue, parts, open)?;
    let service = Queue { slot, stores, leads: Leads::default() };
    let mut children = vec![
        replica::<queue_worker::Group, _>(parts, home),
        ChildSpec::service("queue", &parts.cluster, move || service.clone()),
    ];
    let executor: Arc<dyn worker::Executor> =
        Arc::new(crate::objects::tasks::TaskExecutor::new(parts.env.clone()));
    for (n, (name, cell)) in (1..).zip(&parts.workers) {
        let worker = worker::Worker {
            name: name.clone(),
            cluster: parts.cluster.clone(),
            executor: executor.clone(),
            cell: cell.clone(),
            changed: changed.clone(),
            lease: parts.config.queue.lease.0,
        };
        let run = move || -> task::Work { Box::pin(worker.clone().run()) };
        children.push(task::child(&format!("worker-{n}"), run));
    }
    children.push(parts.figures(figures::queue));
    Ok(parts.role(Service::Queue, Strategy::OneForOne, children))
}

fn mock_error_role(parts: &Parts) -> anyhow::Result<ChildSpec> {
    let stores = fault_injector::Stores::default();
    let of = (parts.subdir("mock-error")?.join(fault_injector::FILE), stores.clone());
    let open = move || of.1.open(&of.0).map_err(|e| full_text(&e));
    let (home, slot) = home(Service::MockError, parts, open)?;
    let service = FaultInjector { slot, stores, leads: Leads::default() };
    let children = vec![
        replica::<fault_injector::Group, _>(parts, home),
        ChildSpec::service("fault_injector", &parts.cluster, move || service.clone()),
    ];
    Ok(parts.role(Service::MockError, Strategy::OneForOne, children))
}

/// What serves the HTTP port of one service.
pub fn handler(service: Service, parts: &Parts, root: Root) -> Handler {
    let admin = admin::Admin {
        service,
        cluster: parts.cluster.clone(),
        root,
        events: parts.events.clone(),
        wanted: parts.wanted.clone(),
        images: parts.images_from(),
    };
    let env = JsonEnv::new(parts.env.clone(), &parts.config);
    let common = admin::api(admin.clone());
    match service {
        Service::Metadata => json_only(service, http::metadata::router(env, common)),
        Service::Storage => {
            let edge = s3::service(parts.env.clone(), &parts.config.s3);
            with_s3(edge, http::storage::router(env, common))
        }
        Service::Queue => {
            let workers = parts
                .workers
                .iter()
                .map(|(name, cell)| WorkerHandle { name: name.clone(), cell: cell.clone() });
            let env = QueueEnv { json: env, workers: workers.collect() };
            json_only(service, http::queue::router(env, common))
        }
        Service::ThirdParty => json_only(service, http::third_party::router(env, common)),
        Service::MockError => json_only(service, admin::router(admin, env.gate)),
    }
}

/// Signed requests and everything outside the JSON API's few paths are S3's.
fn with_s3(edge: s3::Edge, router: Router) -> Handler {
    let json = json_only(Service::Storage, router);
    Arc::new(move |request: Request<Lingering>| {
        let (head, body) = request.into_parts();
        if !s3::is_s3(&head) {
            return json(Request::from_parts(head, body));
        }
        let edge = edge.clone();
        let method = head.method.clone();
        Box::pin(async move {
            let begun = Instant::now();
            let response = edge.call(Request::from_parts(head, body)).await;
            let status = response.status().as_u16();
            let operation = response.extensions().get::<s3::Operation>();
            let operation = operation.map_or("Unknown", |operation| &operation.0);
            metrics::get().served("s3", method.as_str(), operation, status, begun.elapsed());
            response
        })
    })
}

fn json_only(service: Service, router: Router) -> Handler {
    Arc::new(move |request: Request<Lingering>| {
        let router = router.clone();
        let method = request.method().clone();
        Box::pin(async move {
            let begun = Instant::now();
            let response = match router.oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status().as_u16();
            metrics::get().served(
                service.short(),
                method.as_str(),
                "json",
                status,
                begun.elapsed(),
            );
            response
        })
    })
}
