//! One replica of one group: the machine, its log, and the tasks between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{InitializeError, RaftError};
use openraft::{Config, ServerState, SnapshotPolicy};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::batch::Batch;
use super::engine::{Engine, Life, Status};
use super::host::Host;
use super::log::{Held, LogStore};
use super::machine::{Exec, Image, Machine, ProposeError};
use super::message::{Rpc, RpcReply};
use super::network::{Carrier, Exporter, Network};
use super::propose::{Room, Submitted, propose};
use super::reads::{LIMIT, ReadError, Reads};
use super::types::{ImageMeta, ImageOf, Item, Peer, Raft, ReplicaId, Vote};
use crate::points::{self, Point};

/// How many commands may wait to be proposed.
const QUEUE: usize = 8192;
/// Time and space of a group. The same on all its replicas.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often the leader shows that it lives; also how long it waits for an answer to entries.
    pub heartbeat: Duration,
    /// A replica that hears no leader for the longer one, and then for something between both, asks
    /// for votes.
    pub election: (Duration, Duration),
    /// After so many entries the machine is synced, so that the log before may go.
    pub sync_every: u64,
    /// So many entries before that are kept all the same, for replicas that are a little behind.
    pub keep: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            heartbeat: Duration::from_millis(150),
            election: (Duration::from_millis(500), Duration::from_millis(900)),
            sync_every: 5000,
            keep: 2000,
        }
    }
}

impl Settings {
    fn config(&self, name: &str) -> Result<Config, String> {
        let config = Config {
            cluster_name: name.into(),
            heartbeat_interval: self.heartbeat.as_millis() as u64,
            election_timeout_min: self.election.0.as_millis() as u64,
            election_timeout_max: self.election.1.as_millis() as u64,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.sync_every),
            replication_lag_threshold: self.sync_every + self.keep,
            max_in_snapshot_log_to_keep: self.keep,
            purge_batch_size: 256,
            max_payload_entries: 64,
            install_snapshot_timeout: 600_000,
            ..Config::default()
        };
        config.validate().map_err(|e| e.to_string())
    }
}

/// What a replica is made of.
pub struct Setup<M> {
    /// Which group, for logs.
    pub group: &'static str,
    /// Who it is: the id of its log, and its instance.
    pub own: Peer,
    /// Its log.
    pub log: LogStore,
    /// Its machine.
    pub machine: M,
    /// A folder of its own on the machine's disk, for images.
    pub images: PathBuf,
    /// Where disk work runs.
    pub exec: Exec,
    /// Let go once the disk is.
    pub held: Held,
}

/// A running replica. Cheap to clone; it ends with [`Replica::stop`].
pub struct Replica<M: Machine> {
    inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Replica { inner: self.inner.clone() }
    }
}

struct Inner<M: Machine> {
    own: Peer,
    engine: Engine,
    host: Host<M>,
    room: Room,
    queue: mpsc::Sender<Submitted<M::Outcome>>,
    reads: Reads,
    tasks: std::sync::Mutex<JoinSet<()>>,
}

impl<M: Machine> Replica<M> {
    /// Starts a replica on its disk. One with a new log waits until it is initialised or added.
    ///
    /// # Errors
    /// When log or machine cannot be read.
    pub async fn start<C: Carrier>(
        setup: Setup<M>,
        settings: &Settings,
        carrier: C,
    ) -> Result<Self, String> {
        let Setup { group, own, log, machine, images, exec, held } = setup;
        let room = Room { dir: images.clone(), exec };
        let host = Host::new(machine, images, exec, held).await?;
        check_machine(&log, &host).await?;
        let network = Network { carrier: carrier.clone(), exporter: host.clone() };
        let config = Arc::new(settings.config(group)?);
        let life = Life::begin(&log).await?;
        let raft = Raft::new(own.id, config, network, log.clone(), host.clone());
        let raft = raft.await.map_err(|e| e.to_string())?;
        let engine = Engine::new(raft, own.id, life, log);
        let (queue, submitted) = mpsc::channel(QUEUE);
        let of = (engine.clone(), host.clone());
        let ask = move || barrier(of.0.clone(), of.1.clone(), carrier.clone());
        let (reads, serve_reads) = Reads::new(ask);
        let mut tasks = JoinSet::new();
        tasks.spawn(propose(engine.clone(), host.clone(), room.clone(), submitted));
        tasks.spawn(serve_reads);
        tasks.spawn(rest(host.clone()));
        let elects = engine.clone();
        tasks.spawn(async move { elects.elect_later().await });
        let tasks = std::sync::Mutex::new(tasks);
        let inner = Inner { own, engine, host, room, queue, reads, tasks };
        Ok(Replica { inner: Arc::new(inner) })
    }

    /// Who it is.
    pub fn id(&self) -> ReplicaId {
        self.inner.own.id
    }

    /// Who it is, and its instance.
    pub fn own(&self) -> &Peer {
        &self.inner.own
    }

    /// The machine's host.
    pub fn host(&self) -> &Host<M> {
        &self.inner.host
    }

    /// Openraft, for membership and tests.
    pub fn raft(&self) -> &Raft {
        &self.inner.engine.raft
    }

    /// Founds the group with these voters. Does nothing where it was founded before.
    ///
    /// # Errors
    /// When the replica has ended.
    pub async fn initialize(&self, voters: BTreeMap<ReplicaId, Peer>) -> Result<(), String> {
        match self.inner.engine.raft.initialize(voters).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Hands in an encoded command; `done` is called once with its outcome, after it was applied
    /// here, or with why there is none. When the replica ends before, `done` is dropped.
    pub fn submit(
        &self,
        item: Item,
        done: impl FnOnce(Result<M::Outcome, ProposeError>) + Send + 'static,
    ) {
        if !Batch::<()>::fits_alone(&item) {
            return done(Err(ProposeError::TooLarge(item.body.len())));
        }
        if let Err(error) = self.inner.queue.try_send((item, Box::new(done))) {
            let (mpsc::error::TrySendError::Full((_, done))
            | mpsc::error::TrySendError::Closed((_, done))) = error;
            done(Err(ProposeError::Overload));
        }
    }

    /// How many commands wait to be proposed.
    pub fn waiting(&self) -> usize {
        self.inner.queue.max_capacity() - self.inner.queue.capacity()
    }

    /// Waits until a read of the own machine sees all that was answered before now.
    ///
    /// # Errors
    /// [`ReadError`], within [`LIMIT`].
    pub async fn barrier(&self) -> Result<(), ReadError> {
        if self.is_current() {
            return Ok(());
        }
        let status = self.status();
        self.inner.reads.pass().await?;
        self.inner.engine.passed(&status);
        Ok(())
    }

    /// Whether a read of the own machine sees all that was answered before now, without asking: so
    /// it is while nobody else votes, since every answer was then applied here before it was given.
    pub fn is_current(&self) -> bool {
        self.inner.engine.is_current()
    }

    /// Answers another replica.
    pub async fn serve(&self, rpc: Rpc) -> RpcReply {
        let raft = &self.inner.engine.raft;
        match rpc {
            Rpc::Append(request) if !request.entries.is_empty() && !self.inner.room.is_left() => {
                RpcReply::Failed("no space left for the log".into())
            }
            Rpc::Append(request) => match raft.append_entries(request).await {
                Ok(response) => RpcReply::Append(response),
                Err(error) => RpcReply::Failed(error.to_string()),
            },
            Rpc::Vote(request) => match raft.vote(request).await {
                Ok(response) => RpcReply::Vote(response),
                Err(error) => RpcReply::Failed(error.to_string()),
            },
            Rpc::ReadIndex => match self.inner.engine.read_index().await {
                Ok(index) => RpcReply::ReadIndex(index),
                Err(_) => RpcReply::NotLeader,
            },
        }
    }

    /// Takes a received image in place of the own state, unless it knows of a later leader; gives
    /// the vote that it knows of.
    ///
    /// # Errors
    /// When the replica has ended.
    pub async fn install(
        &self,
        vote: Vote,
        meta: ImageMeta,
        file: PathBuf,
    ) -> Result<Vote, String> {
        points::at(Point::ImageReceived);
        let image = ImageOf { meta, snapshot: Box::new(Image::File(file)) };
        let taken = self.inner.engine.raft.install_full_snapshot(vote, image).await;
        taken.map(|response| response.vote).map_err(|e| e.to_string())
    }

    /// How it stands now.
    pub fn status(&self) -> Status {
        self.inner.engine.status()
    }

    /// As the leader, lets another one lead; says whether one does. Until then, and for a second at
    /// least, the group does nothing.
    pub async fn stand_aside(&self) -> bool {
        self.inner.engine.stand_aside().await
    }

    /// Tells whether it leads, at once and at each change, until it has ended.
    pub async fn leadership(&self, mut told: impl FnMut(bool)) {
        let mut metrics = self.inner.engine.raft.metrics();
        let mut last = None;
        loop {
            let leads = metrics.borrow_and_update().state == ServerState::Leader;
            if last.replace(leads) != Some(leads) {
                told(leads);
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until it has ended by itself, and says why.
    pub async fn ended(&self) -> String {
        let mut metrics = self.inner.engine.raft.metrics();
        match metrics.wait_for(|m| m.running_state.is_err()).await {
            Ok(m) => m.running_state.as_ref().err().map_or_else(String::new, ToString::to_string),
            Err(_) => "it was dropped".into(),
        }
    }

    /// Ends it: nothing is applied any more when this returns.
    pub async fn stop(&self) {
        let mut tasks =
            std::mem::take(&mut *self.inner.tasks.lock().expect("no panic while they are held"));
        tasks.shutdown().await;
        let _ = self.inner.engine.raft.shutdown().await; // it may have ended by itself
    }
}

/// A machine that holds less than what the log let go of has lost its file: what is missing cannot be
/// made again here.
async fn check_machine<M: Machine>(log: &LogStore, host: &Host<M>) -> Result<(), String> {
    let (purged, applied) = (log.purged().await?, *host.applied().borrow());
    match purged > applied {
        true => Err(format!(
            "the state ends at entry {applied}, the log begins after entry {purged}: the state was \
             lost; without its whole folder the instance joins its group as a new one"
        )),
        false => Ok(()),
    }
}

/// One barrier: the leader's read index, then the own machine up to it.
async fn barrier<M: Machine, C: Carrier>(
    engine: Engine,
    host: Host<M>,
    carrier: C,
) -> Result<(), ReadError> {
    let pass = async {
        let status = engine.status();
        let index = match (status.leads, &status.leader) {
            (true, _) => engine.read_index().await?,
            (false, Some(leader)) => match carrier.call(leader, Rpc::ReadIndex, LIMIT).await {
                Ok(RpcReply::ReadIndex(index)) => index,
                _ => return Err(ReadError::Unavailable),
            },
            (false, None) => return Err(ReadError::Unavailable),
        };
        let reached = host.applied().wait_for(|applied| *applied >= index).await.is_ok();
        reached.then_some(()).ok_or(ReadError::Unavailable)
    };
    tokio::time::timeout(LIMIT, pass).await.unwrap_or(Err(ReadError::Unavailable))
}

/// Lets the machine tidy up now and then.
async fn rest<M: Machine>(host: Host<M>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.rest().await;
    }
}

impl<M: Machine> Exporter for Host<M> {
    async fn export(&self) -> Result<(ImageMeta, PathBuf), String> {
        let file = self.image_path();
        self.export_to(file.clone()).await.map(|meta| (meta, file))
    }
}
