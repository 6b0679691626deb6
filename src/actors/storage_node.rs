//! The storage node actor: the bytes of objects on this node's disk.
//!
//! Asked by the flows in `objects`, by queue workers and by other storage nodes ([`message`]). A
//! thin shell: small bodies go through the mailbox to blocking threads, large ones over the data
//! plane with the tickets it gives out; the segment store ([`store`]) groups their syncs. Owns the
//! directory of the store.
//!
//! - `STORAGE-1` what was answered `Stored` is durable; killing the actor at any await loses none
//!   of it;
//! - `STORAGE-2` the end of the actor ends its transfers, tickets and tasks, and the next life
//!   opens the store only after the last thread of this one let go of it;
//! - `STORAGE-3` at most [`THREADS`] requests touch the disk at once; the others wait outside of
//!   threads.

pub mod disk;
pub mod fetch;
pub mod maintenance;
pub mod message;
pub mod store;
pub mod upkeep;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::cluster::{ActorError, Call, Context, Reply as Port, Service};
use crate::data::client::DataClient;
use crate::data::desk::{Desk, OpenDesk, TransferLimits};
use crate::data::ticket::Grant;
use crate::types::{DataId, InstanceId};
use disk::{Disk, SharedDisk};
use fetch::{Puller, Pulls};
use maintenance::{Scrub, Sweep};
use message::{INLINE_LIMIT, Message, Reply, StorageError};
use store::{Options, ScrubCursor};
use upkeep::Liaison;

/// How many requests touch the disk at once.
pub const THREADS: usize = 64;
/// The most ids in one request.
const MAX_IDS: usize = 1000;
/// How long a new life waits for the threads of the last one.
const TURN_LIMIT: Duration = Duration::from_secs(30);

type Answer = Result<Reply, StorageError>;
/// Held by whichever life of the actor has the store open.
type Turn = Arc<Mutex<()>>;

/// Settings of a storage node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the segment store.
    pub dir: PathBuf,
    /// How the store is opened.
    pub options: Options,
    /// `host:port` under which peers reach the data server.
    pub data_address: String,
    /// Bounds of the data plane.
    pub transfers: TransferLimits,
    /// How fast the scrubber reads, in bytes per second; 0: it does not.
    pub scrub_rate: u64,
    /// How long the scrubber rests after a pass.
    pub scrub_rest: Duration,
    /// How often metadata is asked about items that lie here.
    pub orphan_check: Duration,
    /// How long an item may lie here without being referenced.
    pub orphan_grace: Duration,
}

impl Settings {
    /// The defaults for a store in `dir` whose data server is at `data_address`.
    pub fn new(dir: PathBuf, data_address: String) -> Self {
        Settings {
            dir,
            options: Options::default(),
            data_address,
            transfers: TransferLimits::default(),
            scrub_rate: 20 << 20,
            scrub_rest: Duration::from_secs(600),
            orphan_check: Duration::from_secs(60),
            orphan_grace: Duration::from_secs(600),
        }
    }
}

/// The service: its settings, and what outlives a restart of the actor.
#[derive(Clone)]
pub struct StorageNode {
    settings: Arc<Settings>,
    desk: Arc<Desk>,
    client: DataClient,
    turn: Turn,
}

impl StorageNode {
    /// A storage node whose transfers the data server finds at `desk`; `client` pulls copies.
    pub fn new(settings: Settings, desk: Arc<Desk>, client: DataClient) -> Self {
        StorageNode { settings: Arc::new(settings), desk, client, turn: Turn::default() }
    }
}

/// What the actor holds while it runs.
pub struct State {
    /// Closes the data plane when the state drops (STORAGE-2).
    desk: OpenDesk,
    registered: Arc<AtomicBool>,
    known: Arc<AtomicBool>,
    disk: Arc<Disk>,
    threads: Arc<Semaphore>,
    pulls: Pulls,
    scrub: Arc<Mutex<Scrub<ScrubCursor>>>,
    sweep: Arc<Mutex<Sweep>>,
}

impl Service for StorageNode {
    type Req = Message;
    type State = State;
    const TICK: Option<Duration> = Some(Duration::from_secs(1));

    async fn start(&self, cx: &mut Context) -> Result<State, ActorError> {
        let waited = tokio::time::timeout(TURN_LIMIT, self.turn.clone().lock_owned()).await;
        let turn = waited.map_err(|_| "threads of the last life still hold the store")?;
        let (settings, fail) = (self.settings.clone(), cx.fail());
        let open = move || Disk::open(&settings.dir, settings.options.clone(), fail, turn);
        let disk = Arc::new(tokio::task::spawn_blocking(open).await??);
        tracing::info!(recovery = ?disk.store().recovery(), "segment store open");

        let settings = &self.settings;
        let (shared, address) = (SharedDisk(disk.clone()), settings.data_address.clone());
        let desk = self.desk.open(address, Arc::new(shared), settings.transfers);
        let registered = Arc::new(AtomicBool::new(false));
        let known = Arc::new(AtomicBool::new(false));
        let liaison = Liaison {
            disk: disk.clone(),
            cluster: cx.cluster().clone(),
            registered: registered.clone(),
            known: known.clone(),
        };
        cx.spawn(async move { liaison.register().await });
        let now = Instant::now();
        let scrub = Scrub::new(settings.scrub_rate, settings.scrub_rest, now);
        let sweep = Sweep::new(settings.orphan_check, settings.orphan_grace, now);
        Ok(State {
            registered,
            known,
            desk,
            disk,
            threads: Arc::new(Semaphore::new(THREADS)),
            pulls: Pulls::default(),
            scrub: Arc::new(Mutex::new(scrub)),
            sweep: Arc::new(Mutex::new(sweep)),
        })
    }

    async fn handle(
        &self,
        cx: &mut Context,
        call: Call<Message>,
        state: &mut State,
    ) -> Result<(), ActorError> {
        let port = call.reply;
        if let Err(error) = check(&call.request) {
            port.send(Err(error));
            return Ok(());
        }
        match call.request {
            Message::Write { data_id, bytes } => {
                run(cx, state, port, move |disk| disk.put(data_id, &bytes).map(Reply::Stored));
            }
            Message::WriteHashed { data_id, bytes, hashes } => run(cx, state, port, move |disk| {
                disk.put_hashed(data_id, &bytes, hashes).map(Reply::Stored)
            }),
            Message::BeginWrite { data_id, len } => {
                let transfers = state.desk.transfers().clone();
                run(cx, state, port, move |disk| {
                    disk.check_room(len.unwrap_or(0))?;
                    transfers.grant(Grant::Write { data_id, len }).map(Reply::Ticket)
                });
            }
            Message::Read { data_id, offset, len } => {
                // What lies in memory is given at once: a thread would cost more than the read.
                if let Some(bytes) = state.disk.read_cached(data_id, offset, len) {
                    port.send(Ok(Reply::Bytes(bytes)));
                    return Ok(());
                }
                run(cx, state, port, move |disk| disk.read(data_id, offset, len).map(Reply::Bytes));
            }
            Message::BeginRead { data_id, offset, len } => {
                let transfers = state.desk.transfers(); // a look into the index: no disk
                let checked = state.disk.check_range(data_id, offset, len);
                let grant = |()| transfers.grant(Grant::Read { data_id, offset, len });
                port.send(checked.and_then(grant).map(Reply::Ticket));
            }
            Message::Delete { data_ids } => {
                run(cx, state, port, move |disk| disk.delete(&data_ids).map(|()| Reply::Done));
            }
            Message::Info { data_ids } => run(cx, state, port, move |disk| {
                Ok(Reply::Infos(data_ids.into_iter().map(|id| disk.info(id)).collect()))
            }),
            Message::Fetch { data_id, from } => self.on_fetch(cx, state, port, data_id, from),
            Message::Discard { data_id } => on_discard(cx, state, port, data_id),
            Message::Stats => run(cx, state, port, |disk| Ok(Reply::Stats(disk.stats()))),
        }
        Ok(())
    }

    async fn tick(&self, cx: &mut Context, state: &mut State) -> Result<(), ActorError> {
        if let Ok(mut scrub) = state.scrub.clone().try_lock_owned() {
            let disk = state.disk.clone();
            cx.spawn(async move {
                let round = move || upkeep::disk_round(&disk, &mut scrub);
                if let Err(error) = tokio::task::spawn_blocking(round).await {
                    tracing::error!(%error, "upkeep of the disk failed");
                }
            });
        }
        if let Ok(sweep) = state.sweep.clone().try_lock_owned() {
            let liaison = liaison(cx, state);
            cx.spawn(async move { liaison.round(sweep).await });
        }
        Ok(())
    }

    fn observe(&self, state: &State) -> serde_json::Value {
        let (tickets, transfers) = state.desk.transfers().counts();
        serde_json::json!({
            "ready": state.registered.load(Ordering::Relaxed),
            "tickets": tickets,
            "transfers": transfers,
            "pulls": state.pulls.running(),
            "disk_threads": THREADS - state.threads.available_permits(),
            "corrupt_unreported": state.disk.unreported().len(),
        })
    }
}

impl StorageNode {
    fn on_fetch(
        &self,
        cx: &mut Context,
        state: &State,
        port: Port<Message>,
        data_id: DataId,
        from: Vec<InstanceId>,
    ) {
        let Some(pull) = state.pulls.begin(data_id) else {
            return port.send(Err(StorageError::Busy));
        };
        let (disk, cluster) = (state.disk.clone(), cx.cluster().clone());
        let puller = Puller { disk, cluster, client: self.client.clone() };
        cx.spawn(async move {
            let pulled = puller.pull(data_id, &from).await;
            drop(pull);
            port.send(pulled.map(Reply::Stored));
        });
    }
}

/// Held against pulls of the same item (UPKEEP-3): one that was answered before is known to
/// metadata as wanted, and a later one finds nothing here and makes its copy anew.
fn on_discard(cx: &mut Context, state: &State, port: Port<Message>, data_id: DataId) {
    let Some(pull) = state.pulls.begin(data_id) else {
        return port.send(Err(StorageError::Busy));
    };
    let liaison = liaison(cx, state);
    cx.spawn(async move {
        let done = liaison.discard(data_id).await;
        drop(pull);
        port.send(done.map(|()| Reply::Done));
    });
}

fn liaison(cx: &Context, state: &State) -> Liaison {
    Liaison {
        disk: state.disk.clone(),
        cluster: cx.cluster().clone(),
        registered: state.registered.clone(),
        known: state.known.clone(),
    }
}

/// Refuses requests that are out of bounds.
fn check(request: &Message) -> Result<(), StorageError> {
    let too_much = match request {
        Message::Write { bytes, .. } | Message::WriteHashed { bytes, .. } => {
            bytes.len() as u64 > INLINE_LIMIT
        }
        Message::Read { len, .. } => *len > INLINE_LIMIT,
        Message::Delete { data_ids } | Message::Info { data_ids } => data_ids.len() > MAX_IDS,
        Message::BeginWrite { .. }
        | Message::BeginRead { .. }
        | Message::Fetch { .. }
        | Message::Discard { .. }
        | Message::Stats => false,
    };
    let why = || format!("at most {INLINE_LIMIT} bytes and {MAX_IDS} ids in one message");
    if too_much { Err(StorageError::Invalid(why())) } else { Ok(()) }
}

/// Does disk work on a blocking thread, and answers with what comes of it.
fn run(
    cx: &mut Context,
    state: &State,
    port: Port<Message>,
    work: impl FnOnce(&Disk) -> Answer + Send + 'static,
) {
    let (disk, threads) = (state.disk.clone(), state.threads.clone());
    cx.spawn(async move {
        let Ok(_thread) = threads.acquire_owned().await else { return };
        // A panic drops the port, which tells the caller.
        if let Ok(answer) = tokio::task::spawn_blocking(move || work(&disk)).await {
            port.send(answer);
        }
    });
}
