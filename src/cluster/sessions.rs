//! Sessions with the other nodes: our own accept loop and dialler in front of `ractor_cluster`.
//!
//! Every connection passes the handshake before `ractor_cluster` sees it. Of two nodes the one with
//! the smaller name dials; the other, when it was called first, calls back. Addresses come from the
//! seeds and from what peers know; lost ones are tried again with a jittered backoff.
//!
//! - `SES-1` one session per peer incarnation; a new one is taken only after the old one ended;
//! - `SES-2` at most [`PENDING_LIMIT`] connections are in the handshake at once;
//! - `SES-3` a node of another cluster never gets a session;
//! - `SES-4` the listener that `ractor_cluster` insists on takes nobody in: its port is known to
//!   nobody, and its TLS has no certificate.

mod dial_list;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use ractor_cluster::node::{NodeEventSubscription, NodeServerSessionInformation};
use ractor_cluster::{IncomingEncryptionMode, NodeServer, NodeServerMessage};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handshake::{self, HANDSHAKE_LIMIT, HandshakeError, Intro, Refused, Secret, Welcome};
use super::heartbeat::Heartbeat;
use super::link::{Link, Linked};
use super::members::{MemberInfo, Members};
use super::transport::{self, Carrier, Transport};
use dial_list::DialList;

/// How many connections may be in the handshake at once.
pub const PENDING_LIMIT: usize = 1024;
/// The largest frame that a member may send; our own messages stay far below.
const MAX_FRAME: u64 = 1024 * 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const DIAL_TICK: Duration = Duration::from_millis(100);

/// What a node needs to take part in the cluster.
pub struct SessionSettings {
    /// Shared by all members.
    pub secret: Secret,
    /// `host:port` of members to call first.
    pub seeds: Vec<String>,
    /// Kept on every disk; 0 = to be learnt from the first peer.
    pub cluster_id: u128,
    /// Called once when the cluster id was learnt, to keep it.
    pub on_cluster_id: Box<dyn Fn(u128) + Send + Sync>,
    /// How connections are made.
    pub transport: Transport,
}

/// The running sessions of a node.
pub struct Sessions {
    core: Arc<Core>,
    node_server: ActorRef<NodeServerMessage>,
    stop: CancellationToken,
}

struct Core {
    members: Arc<Members>,
    settings: SessionSettings,
    cluster_id: Mutex<u128>,
    heartbeat: Mutex<Option<Heartbeat>>,
    /// Handed to `ractor_cluster`, by label.
    links: Mutex<HashMap<String, Session>>,
    dial: Mutex<DialList>,
    next_label: AtomicU64,
}

struct Session {
    info: MemberInfo,
    link: Arc<Link>,
    ready: bool,
    silent: Arc<AtomicBool>,
}

impl Sessions {
    /// Starts `ractor_cluster`, the accept loop on `listener`, the dialler and the heartbeat.
    ///
    /// # Errors
    /// When the heartbeat's socket or the node server cannot be set up.
    pub async fn start(
        listener: TcpListener,
        members: Arc<Members>,
        settings: SessionSettings,
    ) -> anyhow::Result<Self> {
        let cookie = hex::encode(settings.secret.sign(&[b"cookie"]));
        let name = members.own().node_name();
        // SES-4
        let door = Some(IncomingEncryptionMode::Tls(transport::nobody()));
        let server = NodeServer::new(0, cookie, name, "mocks3".into(), door, None)
            .with_listen_addr(std::net::Ipv4Addr::LOCALHOST.into())
            .with_max_inbound_frame_size(MAX_FRAME);
        let (node_server, _) = Actor::spawn(None, server, ()).await?;
        let socket = std::net::UdpSocket::bind(listener.local_addr()?)?;
        let (secret, own) = (settings.secret.clone(), members.own().incarnation);
        let dial = DialList::new(&settings.seeds, &members.own().cluster_address);
        let core = Arc::new(Core {
            cluster_id: Mutex::new(settings.cluster_id),
            members,
            settings,
            heartbeat: Mutex::new(None),
            links: Mutex::default(),
            dial: Mutex::new(dial),
            next_label: AtomicU64::new(1),
        });
        let for_silence = core.clone();
        let silent = move |peer| for_silence.silent(peer);
        *lock(&core.heartbeat) = Some(Heartbeat::start(socket, secret, own, silent)?);
        node_server.cast(NodeServerMessage::SubscribeToEvents {
            id: "sessions".into(),
            subscription: Box::new(Events(core.clone())),
        })?;
        let stop = CancellationToken::new();
        let accept = accept_loop(core.clone(), listener, node_server.clone());
        let dial = dial_loop(core.clone(), node_server.clone());
        for task in [boxed(accept), boxed(dial)] {
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(task).await });
        }
        Ok(Sessions { core, node_server, stop })
    }

    /// The cluster's id, once known.
    pub fn cluster_id(&self) -> Option<u128> {
        Some(*lock(&self.core.cluster_id)).filter(|id| *id != 0)
    }

    /// The cluster got this id, unless it has one.
    pub fn belongs_to(&self, cluster_id: u128) {
        let _ = self.core.check_cluster(cluster_id); // it has another one: fine
    }

    /// Waits until each known address is in session or did not answer once, at most `limit`: a node
    /// that serves before it knows its peers would refuse what they could do.
    pub async fn settled(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline && !lock(&self.core.dial).settled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether every address that is known was called.
    pub fn are_settled(&self) -> bool {
        lock(&self.core.dial).settled()
    }

    /// Adds addresses to call (from Consul or another directory).
    pub fn add_addresses(&self, addresses: impl IntoIterator<Item = String>) {
        lock(&self.core.dial).add(addresses);
    }

    /// Takes and makes no further sessions: the node is about to say goodbye.
    pub fn leave(&self) {
        self.stop.cancel();
    }

    /// Ends all sessions and loops.
    pub fn stop(&self) {
        self.leave();
        for session in lock(&self.core.links).values() {
            session.link.close();
        }
        *lock(&self.core.heartbeat) = None;
        self.node_server.stop(Some("node stops".into()));
    }
}

fn boxed<T>(
    task: impl Future<Output = T> + Send + 'static,
) -> std::pin::Pin<Box<dyn Future<Output = T> + Send>> {
    Box::pin(task)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no panic while a session table is held")
}

impl Core {
    fn intro(&self) -> Intro {
        let cluster_id = *lock(&self.cluster_id);
        Intro { cluster_id, member: self.members.own().clone() }
    }

    /// The answer to a caller, and what follows from it.
    fn decide(&self, intro: &Intro) -> Welcome {
        let refused = self.check_cluster(intro.cluster_id).err().or_else(|| {
            lock(&self.dial).add([intro.member.cluster_address.clone()]);
            self.check_turn(&intro.member).err()
        });
        Welcome {
            cluster_id: *lock(&self.cluster_id),
            member: self.members.own().clone(),
            known: lock(&self.dial).known(),
            refused,
        }
    }

    /// SES-3, and learns the id where it is not known yet.
    fn check_cluster(&self, theirs: u128) -> Result<(), Refused> {
        let mut own = lock(&self.cluster_id);
        match (*own, theirs) {
            (_, 0) => Ok(()),
            (0, id) => {
                *own = id;
                (self.settings.on_cluster_id)(id);
                Ok(())
            }
            (own, theirs) if own == theirs => Ok(()),
            (own, _) => Err(Refused::OtherCluster(own)),
        }
    }

    /// The smaller name dials; an older session with the same instance must end first.
    fn check_turn(&self, peer: &MemberInfo) -> Result<(), Refused> {
        if peer.node_name() >= self.members.own().node_name() {
            lock(&self.dial).hurry(&peer.cluster_address);
            return Err(Refused::YouWait);
        }
        self.make_room(peer)
    }

    /// SES-1: closes what still stands with that instance.
    fn make_room(&self, peer: &MemberInfo) -> Result<(), Refused> {
        let mut busy = false;
        for session in lock(&self.links).values() {
            if session.info.instance == peer.instance {
                session.link.close();
                busy = true;
            }
        }
        if busy { Err(Refused::AlreadyJoined) } else { Ok(()) }
    }

    /// Hands an authenticated stream to `ractor_cluster`.
    fn hand_over(
        &self,
        stream: Carrier,
        info: MemberInfo,
        is_server: bool,
        node_server: &ActorRef<NodeServerMessage>,
    ) {
        let number = self.next_label.fetch_add(1, Ordering::Relaxed);
        let label = format!("{}/{number}", info.node_name());
        let link = Arc::new(Link::default());
        let session = Session { info, link: link.clone(), ready: false, silent: Arc::default() };
        lock(&self.links).insert(label.clone(), session);
        let stream = Box::new(Linked::new(Box::new(stream), link, label.clone()));
        let opened = NodeServerMessage::ConnectionOpenedExternal { stream, is_server };
        if node_server.cast(opened).is_err() {
            lock(&self.links).remove(&label); // the node stops
        }
    }

    /// Says why a connection was not made, where an operator should know.
    fn complain(&self, peer: &str, error: &HandshakeError) {
        match error.complaint() {
            Some(kind) => self.settings.transport.complain(kind, peer, error),
            None => tracing::debug!(peer, %error, "handshake failed"),
        }
    }

    fn ready(&self, label: &str) {
        let info = {
            let mut links = lock(&self.links);
            let Some(session) = links.get_mut(label) else { return };
            session.ready = true;
            session.info.clone()
        };
        lock(&self.dial).connected(&info.cluster_address);
        match (info.cluster_address.parse::<SocketAddr>(), &*lock(&self.heartbeat)) {
            (Ok(address), Some(heartbeat)) => heartbeat.watch(info.incarnation, address),
            (Err(_), _) => tracing::warn!(
                peer = info.instance,
                address = info.cluster_address,
                "peer's cluster address is no socket address: not watched by the heartbeat"
            ),
            (_, None) => {}
        }
        tracing::info!(peer = info.instance, "member joined");
        self.members.joined(info);
    }

    fn ended(&self, label: &str) {
        let Some(session) = lock(&self.links).remove(label) else { return };
        lock(&self.dial).lost(&session.info.cluster_address);
        if let Some(heartbeat) = &*lock(&self.heartbeat) {
            heartbeat.forget(session.info.incarnation);
        }
        if session.ready {
            let silent = session.silent.load(Ordering::Relaxed);
            let cause = if silent { "silent: no answer to pings" } else { "connection closed" };
            self.members.lost(&session.info.instance, session.info.incarnation, cause);
        }
    }

    /// Told by the heartbeat's thread.
    fn silent(&self, incarnation: u128) {
        for session in lock(&self.links).values() {
            if session.info.incarnation == incarnation {
                session.silent.store(true, Ordering::Relaxed);
                session.link.close();
            }
        }
    }
}

/// Session events of `ractor_cluster`, by label.
struct Events(Arc<Core>);

impl NodeEventSubscription for Events {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {}
    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}
    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.0.ready(&session.peer_addr);
    }
    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.0.ended(&session.peer_addr);
    }
}

async fn accept_loop(
    core: Arc<Core>,
    listener: TcpListener,
    node_server: ActorRef<NodeServerMessage>,
) {
    let pending = Arc::new(Semaphore::new(PENDING_LIMIT));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept on the cluster port failed");
                tokio::time::sleep(Duration::from_millis(100)).await; // EMFILE would spin
                continue;
            }
        };
        let Ok(permit) = pending.clone().try_acquire_owned() else { continue }; // SES-2
        let (core, node_server) = (core.clone(), node_server.clone());
        tokio::spawn(async move {
            let _permit = permit;
            match in_time(accept(&core, stream)).await {
                Ok((stream, intro)) => core.hand_over(stream, intro.member, true, &node_server),
                Err(HandshakeError::Refused(Refused::OtherCluster(_))) => {
                    let (peer, why) = (peer.to_string(), "it belongs to another cluster");
                    core.settings.transport.complain("other_cluster", &peer, &why);
                }
                Err(error) => core.complain(&peer.to_string(), &error),
            }
        });
    }
}

async fn accept(core: &Core, stream: TcpStream) -> Result<(Carrier, Intro), HandshakeError> {
    let mut stream = core.settings.transport.accept(stream).await?;
    let secret = &core.settings.secret;
    let intro = handshake::accept(&mut stream, secret, |i| core.decide(i)).await?;
    Ok((stream, intro))
}

/// TLS and our own handshake share one limit.
async fn in_time<T>(
    talk: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(HANDSHAKE_LIMIT, talk).await.unwrap_or(Err(HandshakeError::Timeout))
}

async fn dial_loop(core: Arc<Core>, node_server: ActorRef<NodeServerMessage>) {
    let mut tick = tokio::time::interval(DIAL_TICK);
    loop {
        tick.tick().await;
        let due = lock(&core.dial).due(Instant::now());
        for address in due {
            let (core, node_server) = (core.clone(), node_server.clone());
            tokio::spawn(async move {
                let result = dial(&core, &address, &node_server).await;
                if let Err(error) = &result {
                    core.complain(&address, error);
                }
                let jitter = rand::random_range(0.5..1.0);
                lock(&core.dial).finished(&address, result.is_ok(), jitter);
            });
        }
    }
}

async fn dial(
    core: &Core,
    address: &str,
    node_server: &ActorRef<NodeServerMessage>,
) -> Result<(), HandshakeError> {
    let connect = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address));
    let stream = connect.await.map_err(|_| HandshakeError::Timeout)??;
    let (stream, welcome) = in_time(introduce(core, stream)).await?;
    if welcome.member.incarnation == core.members.own().incarnation {
        lock(&core.dial).own_address(address); // a seed that is ourselves
        return Ok(());
    }
    if let Some(Refused::OtherCluster(id)) = welcome.refused {
        return Err(Refused::OtherCluster(id).into());
    }
    core.check_cluster(welcome.cluster_id)?;
    lock(&core.dial).add(welcome.known);
    lock(&core.dial).add([welcome.member.cluster_address.clone()]);
    match welcome.refused {
        Some(Refused::YouWait) => Ok(()),
        Some(why) => Err(why.into()),
        None => {
            core.make_room(&welcome.member)?;
            core.hand_over(stream, welcome.member, false, node_server);
            Ok(())
        }
    }
}

async fn introduce(core: &Core, stream: TcpStream) -> Result<(Carrier, Welcome), HandshakeError> {
    let mut stream = core.settings.transport.open(stream).await?;
    let welcome = handshake::dial(&mut stream, &core.settings.secret, &core.intro()).await?;
    Ok((stream, welcome))
}
