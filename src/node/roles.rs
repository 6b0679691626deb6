//! What each service of a node consists of: its supervised actors and its HTTP edge.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::disk::NodeDisk;
use crate::actors::member::Root;
use crate::actors::metadata::{self, Metadata};
use crate::actors::queue_worker::{Queue, worker};
use crate::actors::supervisor::restart::{Limits, Strategy};
use crate::actors::supervisor::{ChildSpec, SupervisorSpec};
use crate::actors::task;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::events::EventLog;
use crate::http::{Handler, admin};
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
    /// Cancelled when the node stops.
    pub stop: CancellationToken,
}

impl Parts {
    fn subdir(&self, name: &str) -> anyhow::Result<std::path::PathBuf> {
        Ok(self.disk.lock().expect("no panic while the disk is held").subdir(name)?)
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
        Service::Storage | Service::ThirdParty | Service::MockError => {
            Ok(parts.role(service, Strategy::OneForOne, Vec::new()))
        }
    }
}

fn metadata_role(parts: &Parts) -> anyhow::Result<ChildSpec> {
    let outbox = Arc::new(Notify::new());
    let service = Metadata::new(parts.subdir("metadata")?.join("meta.db"), outbox.clone());
    let cluster = parts.cluster.clone();
    let relay = move || -> task::Work {
        Box::pin(metadata::relay::run(cluster.clone(), outbox.clone()))
    };
    let children = vec![
        ChildSpec::service("metadata", &parts.cluster, move || service.clone()),
        task::child("relay", relay),
    ];
    Ok(parts.role(Service::Metadata, Strategy::RestForOne, children))
}

fn queue_role(parts: &Parts) -> anyhow::Result<ChildSpec> {
    let changed = Arc::new(Notify::new());
    let service = Queue::new(parts.subdir("queue")?.join("queue.redb"), changed.clone());
    let mut children = vec![ChildSpec::service("queue", &parts.cluster, move || service.clone())];
    let executor: Arc<dyn worker::Executor> =
        Arc::new(crate::objects::tasks::TaskExecutor::new(parts.cluster.clone()));
    for n in 1..=parts.config.queue.workers {
        let worker = worker::Worker {
            name: format!("{}/{n}", parts.cluster.instance()),
            cluster: parts.cluster.clone(),
            executor: executor.clone(),
            cell: Arc::default(),
            changed: changed.clone(),
            lease: parts.config.queue.lease.0,
        };
        let run = move || -> task::Work { Box::pin(worker.clone().run()) };
        children.push(task::child(&format!("worker-{n}"), run));
    }
    Ok(parts.role(Service::Queue, Strategy::OneForOne, children))
}

/// What serves the HTTP port of one service.
pub fn handler(service: Service, parts: &Parts, root: Root) -> Handler {
    let admin = admin::Admin {
        service,
        cluster: parts.cluster.clone(),
        root,
        events: parts.events.clone(),
    };
    json_only(admin::router(admin))
}

fn json_only(router: Router) -> Handler {
    Arc::new(move |request: Request<Incoming>| {
        let router = router.clone();
        Box::pin(async move {
            match router.oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    })
}
