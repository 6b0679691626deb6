//! One node: composes a process out of supervisor, actors, sessions and HTTP edges, and ends it in
//! order.

mod addresses;
pub mod disk;
mod founding;
pub mod restore;
mod roles;

pub use addresses::Addresses;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use ractor::ActorRef;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actors::census::{self, Wanted};
use crate::actors::supervisor::restart::{Limits, Strategy};
use crate::actors::supervisor::{self, ChildSpec, Supervisor, SupervisorSpec};
use crate::actors::{fault_injector, member, metadata, queue_worker, task, watch as peer_watch};
use crate::cluster::consul::Consul;
use crate::cluster::handshake::Secret;
use crate::cluster::sessions::{SessionSettings, Sessions};
use crate::cluster::transport::{FilesError, TlsFiles, Transport};
use crate::cluster::{Cluster, MemberInfo, Members, Scope};
use crate::config::{Config, Tls};
use crate::data::client::{ClientOptions, DataClient};
use crate::data::desk::Desk;
use crate::data::{self, server::ServerLimits};
use crate::events::EventLog;
use crate::http::{EdgeSettings, serve};
use crate::metrics;
use crate::objects::fallback::third_party::ThirdPartyFallback;
use crate::objects::{Env, ObjectSettings, Requests};
use crate::replica::images::ImagePlane;
use crate::replica::{KnownGroups, talk};
use crate::types::Service;
use disk::NodeDisk;
use founding::Founding;

/// How long peers get to hear the goodbye.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// How long the groups of a node's replicas have to let them go.
const DEPART_LIMIT: Duration = Duration::from_secs(5);

/// How long a node waits for its peers before it opens its edges.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// What a node is started with.
pub struct NodeOptions {
    /// What it runs.
    pub services: Vec<Service>,
    /// Its id; kept with its disk, made up when the disk is new.
    pub instance: Option<String>,
    /// Its place on disk.
    pub data_dir: PathBuf,
    /// Where it listens; HTTP in the order of `services`.
    pub addresses: Addresses,
    /// Members to call first (`host:port` of their cluster listener), or `consul://host:port`.
    pub bootstrap: Vec<String>,
    /// The cluster's id, where it is known.
    pub cluster_id: Option<u128>,
    /// Shared by all members.
    pub secret: Secret,
    /// How many instances of each service there should be, where somebody said so.
    pub wanted: Wanted,
    /// The services whose group may be founded although there was one: all its replicas are lost.
    pub found_anew: Vec<Service>,
    /// The configuration.
    pub config: Config,
}

/// A running node.
pub struct Node {
    services: Vec<Service>,
    cluster: Cluster,
    sessions: Arc<Sessions>,
    root: ActorRef<supervisor::Message>,
    root_ended: tokio::task::JoinHandle<()>,
    edges: Edges,
}

/// What serves the sockets of a node. An edge that ends before it was asked to takes the node along:
/// it restarts as a whole.
#[derive(Default)]
struct Edges {
    running: TaskTracker,
    stop: CancellationToken,
    broken: CancellationToken,
}

impl Edges {
    fn spawn(&self, name: &'static str, edge: impl Future<Output = ()> + Send + 'static) {
        let (stop, broken) = (self.stop.clone(), self.broken.clone());
        self.running.spawn(async move {
            let ended = tokio::spawn(edge).await; // so that a panic is seen
            if !stop.is_cancelled() {
                tracing::error!(name, ?ended, "an edge ended; the node ends");
                broken.cancel();
            }
        });
    }
}

/// How a node came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// Its root supervisor gave up.
    Escalated,
}

/// The sockets of a node, bound before anything else so that a taken port is noticed first.
struct Sockets {
    http: Vec<TcpListener>,
    cluster: TcpListener,
    data: TcpListener,
    /// Bodies from third parties have a data plane of their own: a node may run both services.
    outside: Option<TcpListener>,
    /// So have images of replicas.
    images: Option<TcpListener>,
}

impl Sockets {
    async fn bind(options: &NodeOptions) -> anyhow::Result<Self> {
        let bind = |what: &'static str, address: SocketAddr| async move {
            let bound = TcpListener::bind(address).await;
            bound.with_context(|| format!("cannot listen on {address} ({what})"))
        };
        let mut http = Vec::new();
        let Addresses { http: wanted, cluster, data, .. } = &options.addresses;
        for (service, address) in options.services.iter().zip(wanted) {
            http.push(bind(service.name(), *address).await?);
        }
        let any_port: SocketAddr = (data.ip(), 0).into();
        let cluster = bind("cluster", *cluster).await?;
        let data = bind("data plane", *data).await?;
        let outside = match options.services.contains(&Service::ThirdParty) {
            true => Some(bind("third-party bodies", any_port).await?),
            false => None,
        };
        let images = match replicated(&options.services).next() {
            Some(_) => Some(bind("images of replicas", any_port).await?),
            None => None,
        };
        Ok(Sockets { http, cluster, data, outside, images })
    }
}

/// The services of a node that have a replica.
fn replicated(services: &[Service]) -> impl Iterator<Item = Service> {
    services.iter().copied().filter(|service| Service::REPLICATED.contains(service))
}

impl Node {
    /// Starts a node: binds its sockets, opens its disk, joins the cluster, starts its actors and
    /// opens its edges.
    ///
    /// # Errors
    /// When a port is taken, the disk cannot be used, or the configuration forbids the addresses.
    pub async fn start(options: NodeOptions) -> anyhow::Result<Self> {
        options.addresses.check(options.config.s3.default_user)?;
        let transport = transport(&options.config)?;
        let sockets = Sockets::bind(&options).await?;
        let mut disk =
            NodeDisk::open(&options.data_dir, &options.services, options.instance.as_deref())?;
        if let Some(id) = options.cluster_id {
            disk.set_cluster_id(id)?;
        } else if disk.cluster_id() == 0
            && let Some(id) = new_cluster(&options, &disk)
        {
            disk.set_cluster_id(id)?;
        }
        let info = member_info(&options, &disk, &sockets)?;
        let first = options.services.first().copied().unwrap_or(Service::Storage);
        metrics::init(first.name(), &info.instance);
        let members = Arc::new(Members::new(info));
        let cluster = Cluster::new(members.clone());
        let events = Arc::new(EventLog::default());
        let stop = CancellationToken::new();
        let cluster_id = disk.cluster_id();
        let groups = disk.groups();
        let disk = Arc::new(Mutex::new(disk));
        let settings = SessionSettings {
            secret: options.secret.clone(),
            seeds: seeds(&options.bootstrap).cloned().collect(),
            cluster_id,
            on_cluster_id: keep_cluster_id(disk.clone()),
            transport: transport.clone(),
        };
        let sessions = Arc::new(Sessions::start(sockets.cluster, members, settings).await?);
        let keep = keep_group(disk.clone(), sessions.clone());
        let known = Arc::new(KnownGroups::new(groups, keep));
        let desk = Arc::<Desk>::default();
        let mut data_client = DataClient::over(transport.clone(), ClientOptions::default());
        if let Some(address) = &cluster.table().own().data_address {
            data_client = data_client.beside(address.clone(), desk.clone());
        }
        let storage_nodes = options.wanted.get(&Service::Storage).copied().unwrap_or(0);
        let fallback = ThirdPartyFallback::new(cluster.clone(), data_client.clone());
        let env = Env {
            cluster: cluster.clone(),
            data: data_client,
            settings: Arc::new(ObjectSettings::new(&options.config).expecting(storage_nodes)),
            requests: Requests::default(),
            fallback: Some(Arc::new(fallback)),
        };
        let agents = options.bootstrap.iter().filter_map(|b| consul_address(b));
        let own = || cluster.table().own().clone();
        let agents = agents.map(|at| Consul::new(at, own(), known.clone()));
        let agents = agents.collect::<Result<Vec<_>, _>>()?;
        let own_address = cluster.table().own().cluster_address.clone();
        let founding = Arc::new(Founding {
            cluster: cluster.clone(),
            sessions: sessions.clone(),
            known: known.clone(),
            has_seeds: seeds(&options.bootstrap).any(|seed| *seed != own_address),
            consul: agents.first().cloned(), // their key-value store is one
            anew: options.found_anew.clone(),
        });
        let (image_desk, images) = match &sockets.images {
            Some(l) => {
                let (desk, address) =
                    (Arc::<Desk>::default(), options.addresses.told(l.local_addr()?));
                let client = DataClient::over(transport.clone(), ClientOptions::default());
                let plane = ImagePlane::new(&desk, address.to_string(), client);
                (Some(desk), Some(Arc::new(plane)))
            }
            None => (None, None),
        };
        let parts = roles::Parts {
            cluster: cluster.clone(),
            events: events.clone(),
            config: Arc::new(options.config.clone()),
            disk,
            workers: roles::workers(cluster.instance(), options.config.queue.workers),
            env,
            desk,
            wanted: Arc::new(options.wanted.clone()),
            founding,
            images,
            backups: roles::Backups::default(),
            outside: match &sockets.outside {
                Some(l) => Some(roles::Outside::new(options.addresses.told(l.local_addr()?))),
                None => None,
            },
        };
        let (tell_root, root_known) = watch::channel(None);
        let roles = options.services.iter().map(|s| roles::build(*s, &parts));
        let roles = roles.collect::<anyhow::Result<Vec<_>>>()?;
        let requests = parts.env.requests.child(cluster.instance(), &events);
        let roles = std::iter::once(requests).chain(roles).collect();
        let wanted = parts.wanted.clone();
        let spec = root_spec(roles, &cluster, &events, (root_known.clone(), wanted), &known);
        let (root, root_ended) = Supervisor::start_root(spec).await?;
        tell_root.send_replace(Some(root.clone()));
        metrics::sample(options.data_dir.clone(), stop.clone());
        sessions.settled(SETTLE_LIMIT).await;
        let edges = Edges { stop: stop.clone(), ..Edges::default() };
        let edge = EdgeSettings {
            max_in_flight: options.config.http.max_in_flight,
            header_timeout: options.config.http.header_timeout.0,
            write_stall: options.config.http.write_stall.0,
            drain_timeout: options.config.http.drain_timeout.0,
            s3: false,
        };
        for (service, listener) in options.services.iter().zip(sockets.http) {
            let handler = roles::handler(*service, &parts, root_known.clone());
            let edge = EdgeSettings { s3: *service == Service::Storage, ..edge };
            edges.spawn("http", serve(listener, handler, edge, stop.clone()));
        }
        let (limits, runner) = (ServerLimits::default(), transfers(&parts.env.requests));
        let serve_data = |listener, desk: &Arc<Desk>| {
            let (desk, runner) = (desk.clone(), runner.clone());
            data::server::serve(listener, transport.clone(), desk, limits, runner, stop.clone())
        };
        edges.spawn("data plane", serve_data(sockets.data, &parts.desk));
        if let (Some(listener), Some(outside)) = (sockets.outside, &parts.outside) {
            edges.spawn("third-party bodies", serve_data(listener, &outside.desk));
        }
        if let (Some(listener), Some(desk)) = (sockets.images, &image_desk) {
            edges.spawn("images of replicas", serve_data(listener, desk));
        }
        for consul in agents {
            edges.spawn("consul", consul.run(sessions.clone(), stop.clone()));
        }
        edges.running.close();
        let services = options.services;
        Ok(Node { services, cluster, sessions, root, root_ended, edges })
    }

    /// The own member entry.
    pub fn info(&self) -> MemberInfo {
        self.cluster.table().own().clone()
    }

    /// Runs until `asked` is done, the root supervisor gives up or an edge breaks; then ends in
    /// order: edges drain, peers are told, actors stop, sessions close.
    pub async fn run(mut self, asked: impl Future<Output = ()>) -> Ended {
        let (ended, root_lives) = tokio::select! {
            () = asked => (Ended::Stopped, true),
            () = self.edges.broken.cancelled() => (Ended::Escalated, true),
            _ = &mut self.root_ended => (Ended::Escalated, false),
        };
        self.edges.stop.cancel();
        self.edges.running.wait().await;
        if root_lives && ended == Ended::Stopped {
            self.depart().await;
        }
        self.sessions.leave();
        if root_lives {
            member::say_goodbye(&self.cluster, GOODBYE_LIMIT).await;
            let limit = Some(Duration::from_secs(20));
            if self.root.call(supervisor::Message::Stop, limit).await.is_err() {
                tracing::warn!("the root supervisor did not stop in order");
            }
            self.root.stop(None);
        }
        self.sessions.stop();
        ended
    }

    /// Lets the groups of the own replicas go on without them.
    async fn depart(&self) {
        let leave = replicated(&self.services).map(|service| async move {
            let scope = Scope::new(DEPART_LIMIT);
            let left = match service {
                Service::Metadata => talk::depart::<metadata::Group>(&self.cluster, &scope).await,
                Service::Queue => talk::depart::<queue_worker::Group>(&self.cluster, &scope).await,
                Service::MockError => {
                    talk::depart::<fault_injector::Group>(&self.cluster, &scope).await
                }
                Service::Storage | Service::ThirdParty => return, // no replica
            };
            match left {
                Ok(()) => tracing::info!(%service, "the group goes on without this replica"),
                Err(why) => tracing::info!(%service, why, "the group still counts on this replica"),
            }
        });
        futures::future::join_all(leave).await;
    }
}

/// Runs each connection of the data plane in an actor beside those of the requests.
fn transfers(requests: &Requests) -> data::server::Runner {
    let requests = requests.clone();
    Arc::new(move |work| {
        let requests = requests.clone();
        Box::pin(async move {
            let _ = requests.run("transfer", work).await; // killed: the connection is closed
        })
    })
}

fn root_spec(
    roles: Vec<ChildSpec>,
    cluster: &Cluster,
    events: &Arc<EventLog>,
    (root, wanted): (member::Root, Arc<Wanted>),
    known: &Arc<KnownGroups>,
) -> SupervisorSpec {
    let member = member::Member { root, events: events.clone(), known: known.clone() };
    let of = (cluster.clone(), known.clone());
    let listen = move || -> task::Work { Box::pin(member::listen(of.0.clone(), of.1.clone())) };
    let (for_members, for_events) = (cluster.clone(), events.clone());
    let record = move || -> task::Work {
        Box::pin(peer_watch::record_members(for_members.clone(), for_events.clone()))
    };
    let (for_census, census_events) = (cluster.clone(), events.clone());
    let count = move || -> task::Work {
        Box::pin(census::run(for_census.clone(), wanted.clone(), census_events.clone()))
    };
    let mut children = vec![
        ChildSpec::service("member", cluster, move || member.clone()),
        task::child("members", record),
        peer_watch::child(cluster, events),
        task::child("census", count),
        task::child("groups", listen),
    ];
    children.extend(roles);
    SupervisorSpec {
        name: "node".into(),
        strategy: Strategy::OneForOne,
        limits: Limits::default(),
        children,
        instance: cluster.instance().to_owned(),
        events: events.clone(),
    }
}

fn keep_cluster_id(disk: Arc<Mutex<NodeDisk>>) -> Box<dyn Fn(u128) + Send + Sync> {
    Box::new(move |id| {
        let mut disk = disk.lock().expect("no panic while the disk is held");
        if let Err(error) = disk.set_cluster_id(id) {
            tracing::error!(%error, "cannot keep the cluster id");
        }
    })
}

/// Keeps the id of a group. Who founds the metadata group founds the cluster, where nobody gave it
/// an id: then it is that of the group.
fn keep_group(
    disk: Arc<Mutex<NodeDisk>>,
    sessions: Arc<Sessions>,
) -> Box<dyn Fn(Service, u128) + Send + Sync> {
    Box::new(move |service, id| {
        let kept = disk.lock().expect("no panic while the disk is held").set_group(service, id);
        if let Err(error) = kept {
            tracing::error!(%error, %service, "cannot keep the id of a group");
        }
        if service == Service::Metadata {
            sessions.belongs_to(id);
        }
    })
}

/// The id of the cluster that a new node begins: one that may meet others learns theirs instead.
fn new_cluster(options: &NodeOptions, disk: &NodeDisk) -> Option<u128> {
    let begins = options.bootstrap.is_empty() && options.services.contains(&Service::Metadata);
    let founded = disk.groups().get(&Service::Metadata).copied();
    founded.or_else(|| begins.then(|| uuid::Uuid::new_v4().as_u128()))
}

fn member_info(
    options: &NodeOptions,
    disk: &NodeDisk,
    sockets: &Sockets,
) -> anyhow::Result<MemberInfo> {
    let told = |l: &TcpListener| l.local_addr().map(|bound| options.addresses.told(bound));
    let urls: Vec<String> = sockets
        .http
        .iter()
        .map(|l| told(l).map(|a| format!("http://{a}")))
        .collect::<Result<_, _>>()?;
    let of = |s: Service| options.services.iter().position(|o| *o == s).map(|i| urls[i].clone());
    let storage = options.services.contains(&Service::Storage);
    Ok(MemberInfo {
        instance: disk.identity().instance.clone(),
        incarnation: uuid::Uuid::new_v4().as_u128(),
        services: options.services.clone(),
        pid: std::process::id(),
        http_url: urls.first().cloned().context("a node needs at least one service")?,
        s3_url: of(Service::Storage),
        data_address: storage.then(|| told(&sockets.data)).transpose()?.map(|a| a.to_string()),
        cluster_address: told(&sockets.cluster)?.to_string(),
    })
}

/// How nodes of this configuration talk to each other.
///
/// # Errors
/// When the files of `[cluster.tls]` cannot be used.
pub fn transport(config: &Config) -> Result<Transport, FilesError> {
    let Tls { ca, cert, key } = config.cluster.tls.clone();
    let files = TlsFiles { ca, cert, key };
    Transport::load(config.cluster.tls.is_on().then_some(&files))
}

/// The addresses of members among the places to begin with.
fn seeds(bootstrap: &[String]) -> impl Iterator<Item = &String> {
    bootstrap.iter().filter(|b| consul_address(b).is_none())
}

/// `host:port` of the agent, where this names one.
fn consul_address(bootstrap: &str) -> Option<&str> {
    bootstrap.strip_prefix("consul://").map(|address| address.trim_end_matches('/'))
}
