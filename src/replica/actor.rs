//! The actor of one replica: opens its disk, answers the other replicas and whoever asks how it
//! stands, founds the group or lets itself be taken in, and looks after the members while it leads.
//!
//! The service's own actor finds the replica in its [`Slot`].
//!
//! - `RACT-1` a replica that cannot go on ends its actor, which opens it anew from disk;
//! - `RACT-2` a disk is opened only after whatever held it in an earlier life has let go of it.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::found::{MayFound, Promise, founding};
use super::group::{Replica, Settings, Setup};
use super::images::ImagePlane;
use super::known::KnownGroups;
use super::log::LogStore;
use super::machine::{Exec, Machine};
use super::steward::{ENDS, Leave, Steward};
use super::synced::Synced;
use super::talk::{ActorCarrier, Answer, Ask, Group, Message, Question, Standing};
use super::types::Peer;
use crate::cluster::{ActorError, Call, Context, Reply, Scope, Service as ActorService};
use crate::events::EventLog;
use crate::types::Service;

/// The log's file in the folder of a replica.
pub const LOG_FILE: &str = "log.redb";
/// How long a new life waits for the last one to let go of the disk.
const TURN_LIMIT: Duration = Duration::from_secs(30);
/// How many may ask to leave at once.
const LEAVES: usize = 64;
/// Between two attempts to leave.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the service's actor finds the replica that runs now.
pub type Slot<M> = Arc<watch::Sender<Option<Replica<M>>>>;

/// Waits for the replica of a slot.
///
/// # Errors
/// When none came within the limit.
pub async fn replica_of<M: Machine>(slot: &Slot<M>, limit: Duration) -> Result<Replica<M>, String> {
    let mut slot = slot.subscribe();
    let found = tokio::time::timeout(limit, slot.wait_for(Option::is_some)).await;
    let found = found.map_err(|_| "the replica does not run".to_owned())?;
    found.map_err(|e| e.to_string())?.clone().ok_or_else(|| "the replica does not run".to_owned())
}

/// One replica, as its node describes it.
pub struct Home<M: Machine> {
    /// Its folder: log and images.
    pub dir: PathBuf,
    /// Opens its machine.
    pub open: Box<dyn Fn() -> Result<M, String> + Send + Sync>,
    /// Where it is found while it runs.
    pub slot: Slot<M>,
    /// How images come and go.
    pub images: Arc<ImagePlane>,
    /// Time and space.
    pub settings: Settings,
    /// The service whose state it is: all its instances have a replica.
    pub service: Service,
    /// How many new replicas found a group together.
    pub expect: usize,
    /// Whether a new one may found a group now, as far as the node can find out.
    pub may_found: MayFound,
    /// Told to which group the replica belongs.
    pub known: Arc<KnownGroups>,
    /// Whether the log is forced to the disk.
    pub synced: Synced,
    /// How long one may be away before another takes its place.
    pub remove_after: Duration,
    /// Where changes of the leader and the members are told.
    pub events: Arc<EventLog>,
}

/// The actor's service.
pub struct ReplicaActor<G, M: Machine> {
    home: Arc<Home<M>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    group: PhantomData<fn() -> G>,
}

impl<G, M: Machine> Clone for ReplicaActor<G, M> {
    fn clone(&self) -> Self {
        ReplicaActor { home: self.home.clone(), turn: self.turn.clone(), group: PhantomData }
    }
}

impl<G: Group, M: Machine> ReplicaActor<G, M> {
    /// The actor of a replica.
    pub fn new(home: Home<M>) -> Self {
        ReplicaActor { home: Arc::new(home), turn: Arc::default(), group: PhantomData }
    }
}

/// What the actor holds while it runs.
pub struct State<G, M: Machine> {
    replica: Replica<M>,
    carrier: ActorCarrier<G>,
    log: LogStore,
    own: Peer,
    promise: Arc<Mutex<Promise>>,
    leaves: mpsc::Sender<Leave>,
    home: Arc<Home<M>>,
}

impl<G, M: Machine> Drop for State<G, M> {
    fn drop(&mut self) {
        self.home.slot.send_replace(None);
        let replica = self.replica.clone();
        tokio::spawn(async move { replica.stop().await });
    }
}

impl<G: Group, M: Machine> ActorService for ReplicaActor<G, M> {
    type Req = Message<G>;
    type State = State<G, M>;

    async fn start(&self, cx: &mut Context) -> Result<State<G, M>, ActorError> {
        let turn = tokio::time::timeout(TURN_LIMIT, self.turn.clone().lock_owned()).await;
        let held = Arc::new(turn.map_err(|_| "the last life still holds the disk")?); // RACT-2
        let home = self.home.clone();
        let of = (home.clone(), held.clone());
        let open = move || -> Result<_, String> {
            let (home, held) = of;
            std::fs::create_dir_all(home.dir.join("images")).map_err(|e| e.to_string())?;
            let log = LogStore::open_file(&home.dir.join(LOG_FILE), home.synced, held);
            Ok((log.map_err(|e| e.to_string())?, (home.open)()?))
        };
        let (log, machine) = tokio::task::spawn_blocking(open).await??;
        let own = Peer { id: log.id(), instance: cx.cluster().instance().to_owned() };
        let carrier =
            ActorCarrier::<G>::new(cx.cluster().clone(), log.clone(), home.images.clone());
        let setup = Setup {
            group: G::NAME,
            own: own.clone(),
            log: log.clone(),
            machine,
            images: home.dir.join("images"),
            exec: Exec::Blocking,
            held,
        };
        let replica = Replica::start(setup, &home.settings, carrier.clone()).await?;
        let promise = Arc::new(Mutex::new(Promise::default()));
        let (leaves, asked) = mpsc::channel(LEAVES);
        cx.spawn(ended(replica.clone(), cx.fail()));
        cx.spawn(founding::<G, M>(
            replica.clone(),
            log.clone(),
            cx.cluster().clone(),
            home.clone(),
            promise.clone(),
        ));
        let steward = Steward {
            replica: replica.clone(),
            carrier: carrier.clone(),
            cluster: cx.cluster().clone(),
            service: home.service,
            remove_after: home.remove_after,
            events: home.events.clone(),
        };
        cx.spawn(steward.run(asked));
        home.slot.send_replace(Some(replica.clone()));
        Ok(State { replica, carrier, log, own, promise, leaves, home })
    }

    async fn handle(
        &self,
        cx: &mut Context,
        call: Call<Message<G>>,
        state: &mut State<G, M>,
    ) -> Result<(), ActorError> {
        let reply = call.reply;
        let (group, to, ask) = match call.request {
            Message::Stranger(Question::Standing, _) => {
                reply.send(Answer::Standing(standing(state)));
                return Ok(());
            }
            Message::Stranger(Question::Depart, _) => {
                cx.spawn(depart(state.replica.clone(), state.carrier.clone(), call.scope, reply));
                return Ok(());
            }
            Message::Stranger(Question::Digest, _) => {
                let host = state.replica.host().clone();
                cx.spawn(async move {
                    reply.send(host.digest().await.map_or_else(Answer::Failed, Answer::Digest));
                });
                return Ok(());
            }
            Message::Stranger(Question::Found { founder }, _) => {
                let free = state.log.group().is_none();
                let mut promise = state.promise.lock().expect("no panic while it is held");
                reply.send(Answer::Promised(
                    free && promise.give(founder, std::time::Instant::now()),
                ));
                return Ok(());
            }
            Message::Member { group, to, ask } => (group, to, ask),
        };
        if to != state.own.id {
            reply.send(Answer::Stranger); // TALK-1
            return Ok(());
        }
        let (replica, log, images) =
            (state.replica.clone(), state.log.clone(), state.home.images.clone());
        let leaves = state.leaves.clone();
        cx.spawn(async move {
            if !log.is_of(group).await {
                return reply.send(Answer::Stranger);
            }
            reply.send(match ask {
                Ask::Rpc(rpc) => Answer::Rpc(replica.serve(rpc).await),
                Ask::Leave(id) => leave(&leaves, id).await,
                Ask::Image { vote, meta, source } => {
                    let file = replica.host().image_path();
                    let taken = match images.fetch(&source, &file).await {
                        Ok(()) => replica.install(vote, meta, file.clone()).await,
                        Err(error) => Err(error.to_string()),
                    };
                    let _ = tokio::fs::remove_file(&file).await; // never made: fine
                    taken.map_or_else(Answer::Failed, Answer::Taken)
                }
            });
        });
        Ok(())
    }

    fn observe(&self, state: &State<G, M>) -> serde_json::Value {
        let status = state.replica.status();
        serde_json::json!({
            "ready": status.leader.is_some(),
            "leads": status.leads,
            "term": status.term,
            "applied": status.applied,
            "commands_waiting": state.replica.waiting(),
        })
    }
}

/// Asks the steward to let a replica go, and waits until it has.
async fn leave(leaves: &mpsc::Sender<Leave>, id: super::types::ReplicaId) -> Answer {
    let (done, gone) = tokio::sync::oneshot::channel();
    if leaves.try_send(Leave { id, done }).is_err() {
        return Answer::Failed("too many leave".into());
    }
    match gone.await {
        Ok(Ok(())) => Answer::Done,
        Ok(Err(why)) => Answer::Failed(why),
        Err(_) => Answer::NotLeader,
    }
}

/// Asks the leader to let the own replica go, again and again: on the way the lead may change.
async fn depart<G: Group, M: Machine>(
    replica: Replica<M>,
    carrier: ActorCarrier<G>,
    scope: Scope,
    reply: Reply<Message<G>>,
) {
    if replica.status().membership.membership().nodes().count() <= 1 {
        return reply.send(Answer::Failed(ENDS.into()));
    }
    let mut why = "nobody leads".to_owned();
    while scope.remaining() > PAUSE {
        if let Some(leader) = replica.status().leader {
            match carrier.ask(&leader, Ask::Leave(replica.id()), scope.remaining()).await {
                Ok(Answer::NotLeader) => why = "the lead changes".into(),
                Ok(_) => return reply.send(Answer::Done),
                Err(error) if error.0 == ENDS => return reply.send(Answer::Failed(error.0)),
                Err(error) => why = error.0,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    reply.send(Answer::Failed(why));
}

/// Ends the actor when its replica ended by itself (RACT-1).
async fn ended<M: Machine>(replica: Replica<M>, fail: crate::cluster::Fail) {
    let why = replica.ended().await;
    tracing::error!(why, "a replica ended: restarting it from disk");
    fail.now(why);
}

fn standing<G, M: Machine>(state: &State<G, M>) -> Standing {
    let status = state.replica.status();
    let peers = |votes: bool| {
        let membership = status.membership.membership();
        let voters: Vec<_> = membership.voter_ids().collect();
        let nodes = membership.nodes().filter(|(id, _)| voters.contains(id) == votes);
        nodes.map(|(_, peer)| peer.clone()).collect()
    };
    Standing {
        id: state.own.id,
        group: state.log.group(),
        leads: status.leads,
        leader: status.leader.clone(),
        term: status.term,
        last: status.last,
        applied: status.applied,
        voters: peers(true),
        learners: peers(false),
    }
}
