//! Our supervisor: keeps its children running, or ends so that its own supervisor sees it.
//!
//! The decisions are in [`restart`]; this shell spawns, kills and waits. None of the supervisors on
//! crates.io works with ractor's cluster feature (see ARCHITECTURE.md). Its message type counts as
//! remotable, though nothing of it ever is sent: that makes peers mirror the supervisor, so that they
//! can monitor it.
//!
//! - `SUP-1` children start in tasks of their own: a slow start never holds up the supervisor;
//! - `SUP-2` an orderly stop ends the children in reverse order and waits for each;
//! - `SUP-3` a child that runs but does not answer twice in a row is killed, and so comes back.

pub mod restart;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::message::{BoxedDowncastErr, SerializedMessage};
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr,
    SupervisionEvent,
};
use serde::{Deserialize, Serialize};

use crate::cluster::calls::instance_group;
use crate::cluster::envelope::Env;
use crate::cluster::{Cluster, Service, Shell};
use crate::events::{Event, EventKind, EventLog};
use restart::{Effect, Input, Limits, Restarts, Strategy};

/// How long a child may take to end in order before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long a child may take to answer when it is asked for the tree.
const OBSERVE_LIMIT: Duration = Duration::from_secs(1);
/// How long a child may take to answer when it is asked whether it hangs, and how often it is.
/// One that hangs is found within `2 * (CHECK_LIMIT + CHECK_INTERVAL)`. One missed answer is not
/// enough: a process that was stopped for a while finds all its deadlines passed.
const CHECK_LIMIT: Duration = Duration::from_secs(2);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const MISSES: u32 = 2;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How to start and ask one child.
#[derive(Clone)]
pub struct ChildSpec {
    name: String,
    start: Arc<dyn Fn(ActorCell) -> BoxFuture<Result<ActorCell, SpawnErr>> + Send + Sync>,
    /// Asks it what it has to say; none = no answer within the time given.
    observe: Arc<dyn Fn(ActorCell, Duration) -> BoxFuture<Option<Observed>> + Send + Sync>,
    /// Whether it has an orderly end; a task in the middle of its future has none.
    orderly: bool,
}

/// What a child says of itself.
#[derive(Default)]
struct Observed {
    summary: serde_json::Value,
    children: Vec<ActorNode>,
}

/// One actor in the tree that `status` and `/api/v1/actors` show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActorNode {
    /// The child's name under its supervisor.
    pub name: String,
    /// `running`, `starting`, `waiting` (backoff) or `not answering`.
    pub state: String,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it ended the last time, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
    /// What it says of itself.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub summary: serde_json::Value,
    /// Its own children, if it is a supervisor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ActorNode>,
}

impl ChildSpec {
    /// A service actor in its shell; `make` gives a fresh service for every start.
    pub fn service<S: Service>(
        name: &str,
        cluster: &Cluster,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        let cluster = cluster.clone();
        let start = move |supervisor: ActorCell| -> BoxFuture<Result<ActorCell, SpawnErr>> {
            let shell = Shell::new(make(), cluster.clone());
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, shell, (), supervisor).await?;
                Ok(actor.get_cell())
            })
        };
        let observe = |cell: ActorCell, limit: Duration| -> BoxFuture<Option<Observed>> {
            Box::pin(async move {
                let actor = ActorRef::<Env<S::Req>>::from(cell);
                let text = actor.call(Env::Observe, Some(limit)).await.ok()?.success_or(()).ok()?;
                let summary = serde_json::from_str(&text).unwrap_or_default();
                Some(Observed { summary, children: Vec::new() })
            })
        };
        let (start, observe) = (Arc::new(start), Arc::new(observe));
        ChildSpec { name: name.into(), start, observe, orderly: true }
    }

    /// A supervisor below this one.
    pub fn supervisor(spec: SupervisorSpec) -> Self {
        let name = spec.name.clone();
        let start = move |supervisor: ActorCell| -> BoxFuture<Result<ActorCell, SpawnErr>> {
            let spec = spec.clone();
            Box::pin(async move {
                let shell = Supervisor { spec };
                let (actor, _) = Actor::spawn_linked(None, shell, (), supervisor).await?;
                Ok(actor.get_cell())
            })
        };
        let observe = |cell: ActorCell, limit: Duration| -> BoxFuture<Option<Observed>> {
            Box::pin(async move {
                let actor = ActorRef::<Message>::from(cell);
                let answer = actor.call(Message::Observe, Some(limit + OBSERVE_LIMIT)).await;
                let children = answer.ok()?.success_or(()).ok()?;
                Some(Observed { children, ..Observed::default() })
            })
        };
        ChildSpec { name, start: Arc::new(start), observe: Arc::new(observe), orderly: true }
    }

    /// Any local actor, started by `start` under the given supervisor; it says nothing of itself, is
    /// not asked whether it hangs, and is killed when the node stops.
    pub fn local(
        name: &str,
        start: impl Fn(ActorCell) -> BoxFuture<Result<ActorCell, SpawnErr>> + Send + Sync + 'static,
    ) -> Self {
        let observe =
            |_, _| -> BoxFuture<Option<Observed>> { Box::pin(async { Some(Observed::default()) }) };
        let (start, observe) = (Arc::new(start), Arc::new(observe));
        ChildSpec { name: name.into(), start, observe, orderly: false }
    }
}

/// What a supervisor is made of.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Its name, for the tree and the events.
    pub name: String,
    /// Who goes with whom.
    pub strategy: Strategy,
    /// Intensity and backoff.
    pub limits: Limits,
    /// The children in their order of start.
    pub children: Vec<ChildSpec>,
    /// The instance that it works for.
    pub instance: String,
    /// Where its events are told.
    pub events: Arc<EventLog>,
}

/// The group in which peers find the supervisor of this name on this instance.
pub fn supervisor_group(name: &str, instance: &str) -> String {
    instance_group(&format!("supervisor:{name}"), instance)
}

/// What a supervisor is told. Nothing of it crosses nodes.
pub enum Message {
    /// A start ended well or badly.
    Started(usize, u64, Result<ActorCell, String>),
    /// A wait is over.
    BackoffOver(usize, u64),
    /// Ask the children whether they answer (SUP-3).
    Check,
    /// Whether a child of this start answered.
    Checked(usize, u64, bool),
    /// The children and what they say of themselves.
    Observe(RpcReplyPort<Vec<ActorNode>>),
    /// End the children in order, then yourself.
    Stop(RpcReplyPort<()>),
}

impl ractor::Message for Message {
    fn serializable() -> bool {
        true // so that peers mirror and monitor it
    }
    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        Err(BoxedDowncastErr)
    }
    fn deserialize(_: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        Err(BoxedDowncastErr)
    }
}

/// The actor.
pub struct Supervisor {
    spec: SupervisorSpec,
}

/// Its state.
pub struct State {
    core: Restarts,
    rows: Vec<Row>,
    stopping: bool,
}

#[derive(Default)]
struct Row {
    cell: Option<ActorCell>,
    /// Of the current start; answers to earlier ones are stale.
    generation: u64,
    state: &'static str,
    restarts: u64,
    last_end: Option<String>,
    /// Being asked whether it answers.
    checking: bool,
    /// So many answers in a row did not come.
    missed: u32,
}

impl Supervisor {
    /// Starts a supervisor that has no other above it; its end is awaited on the join handle.
    ///
    /// # Errors
    /// When the actor cannot be spawned.
    pub async fn start_root(
        spec: SupervisorSpec,
    ) -> Result<(ActorRef<Message>, tokio::task::JoinHandle<()>), SpawnErr> {
        Actor::spawn(None, Supervisor { spec }, ()).await
    }

    fn step(&self, myself: &ActorRef<Message>, state: &mut State, input: Input) -> Step {
        if state.stopping {
            return Ok(());
        }
        for effect in state.core.step(Instant::now(), input, rand::random()) {
            match effect {
                Effect::Start(child) => self.start_child(myself, state, child),
                Effect::Kill(child) => {
                    let row = &mut state.rows[child];
                    match &row.cell {
                        Some(cell) => cell.kill(),
                        None => row.generation += 1, // was starting: see `Started`
                    }
                    if row.cell.is_none() {
                        self.step(myself, state, Input::Ended(child))?;
                    }
                }
                Effect::Wait(child, wait) => {
                    let row = &mut state.rows[child];
                    row.state = "waiting";
                    let generation = row.generation;
                    myself.send_after(wait, move || Message::BackoffOver(child, generation));
                }
                Effect::Escalate(child) => {
                    let name = &self.spec.children[child].name;
                    let why = state.rows[child].last_end.clone().unwrap_or_default();
                    self.tell(EventKind::Escalated, name, &why);
                    return Err(format!("{name} ended too often: {why}").into());
                }
            }
        }
        Ok(())
    }

    fn start_child(&self, myself: &ActorRef<Message>, state: &mut State, child: usize) {
        let row = &mut state.rows[child];
        row.generation += 1;
        row.state = "starting";
        (row.checking, row.missed) = (false, 0);
        let (generation, myself) = (row.generation, myself.clone());
        let start = self.spec.children[child].start.clone();
        tokio::spawn(async move {
            let started = start(myself.get_cell()).await.map_err(|e| e.to_string());
            let told = myself.cast(Message::Started(child, generation, started.clone()));
            if let (Err(_), Ok(cell)) = (told, started) {
                cell.kill(); // the supervisor ended meanwhile
            }
        });
    }

    fn started(
        &self,
        myself: &ActorRef<Message>,
        state: &mut State,
        (child, generation): (usize, u64),
        result: Result<ActorCell, String>,
    ) -> Step {
        let row = &mut state.rows[child];
        match result {
            Ok(cell) if row.generation != generation || state.stopping => {
                cell.kill();
                Ok(())
            }
            Ok(cell) => {
                row.state = "running";
                let ended = cell.get_status() >= ractor::ActorStatus::Stopping;
                row.cell = Some(cell);
                self.tell(EventKind::ActorStarted, &self.spec.children[child].name, "");
                self.step(myself, state, Input::Started(child))?;
                if ended {
                    return self.ended_child(myself, state, child, "ended while starting".into());
                }
                Ok(())
            }
            Err(_) if row.generation != generation => Ok(()),
            Err(why) => self.ended_child(myself, state, child, why),
        }
    }

    fn ended(
        &self,
        myself: &ActorRef<Message>,
        state: &mut State,
        actor: ActorId,
        cause: String,
    ) -> Step {
        let is = |row: &Row| row.cell.as_ref().is_some_and(|c| c.get_id() == actor);
        match state.rows.iter().position(is) {
            Some(child) => self.ended_child(myself, state, child, cause),
            None => Ok(()), // ended while starting: told by `Started`
        }
    }

    fn ended_child(
        &self,
        myself: &ActorRef<Message>,
        state: &mut State,
        child: usize,
        cause: String,
    ) -> Step {
        let row = &mut state.rows[child];
        row.cell = None;
        row.restarts += 1;
        let cause = if row.missed >= MISSES { "did not answer: killed".into() } else { cause };
        row.last_end = Some(cause.clone());
        let name = &self.spec.children[child].name;
        crate::metrics::get().actor_restarts.with_label_values(&[name]).inc();
        self.tell(EventKind::ActorEnded, &self.spec.children[child].name, &cause);
        self.step(myself, state, Input::Ended(child))
    }

    fn tell(&self, kind: EventKind, child: &str, detail: &str) {
        let subject = format!("{}/{child}", self.spec.name);
        self.spec.events.record(Event::now(kind, &self.spec.instance, &subject, detail));
    }

    /// Asks each running child that is not being asked already.
    fn check(&self, myself: &ActorRef<Message>, state: &mut State) {
        for (child, (row, spec)) in state.rows.iter_mut().zip(&self.spec.children).enumerate() {
            let Some(cell) = row.cell.clone().filter(|_| !row.checking) else { continue };
            row.checking = true;
            let (generation, myself) = (row.generation, myself.clone());
            let asked = (spec.observe)(cell, CHECK_LIMIT);
            tokio::spawn(async move {
                let answered = asked.await.is_some();
                let _ = myself.cast(Message::Checked(child, generation, answered)); // ended: fine
            });
        }
    }

    /// SUP-3. That the child was killed is told as its end, as of any other.
    fn checked(&self, row: &mut Row, answered: bool) {
        row.checking = false;
        row.missed = if answered { 0 } else { row.missed + 1 };
        if let Some(cell) = row.cell.as_ref().filter(|_| row.missed >= MISSES) {
            cell.kill();
        }
    }

    /// Asks the children in a task, so that a hung one does not hold up the supervisor.
    fn observe(&self, state: &State, port: RpcReplyPort<Vec<ActorNode>>) {
        let asked: Vec<_> = state
            .rows
            .iter()
            .zip(&self.spec.children)
            .map(|(row, spec)| {
                let node = ActorNode {
                    name: spec.name.clone(),
                    state: row.state.to_owned(),
                    restarts: row.restarts,
                    last_end: row.last_end.clone(),
                    ..ActorNode::default()
                };
                (node, row.cell.clone().map(|cell| (spec.observe)(cell, OBSERVE_LIMIT)))
            })
            .collect();
        tokio::spawn(async move {
            let asked = asked.into_iter().map(|(mut node, said)| async move {
                let Some(asked) = said else { return node };
                match asked.await {
                    Some(said) => (node.summary, node.children) = (said.summary, said.children),
                    None => node.state = "not answering".to_owned(),
                }
                node
            });
            let _ = port.send(futures::future::join_all(asked).await);
        });
    }

    /// SUP-2.
    async fn stop(&self, state: &mut State) {
        state.stopping = true;
        for (row, spec) in state.rows.iter_mut().zip(&self.spec.children).rev() {
            let Some(cell) = row.cell.take() else { continue };
            if !spec.orderly || self.stop_below(&cell).await.is_err() {
                let _ = cell.kill_and_wait(Some(STOP_LIMIT)).await; // ended by itself: fine
            }
        }
    }

    async fn stop_below(&self, cell: &ActorCell) -> Result<(), ()> {
        if cell.is_message_type_of::<Message>() == Some(true) {
            let below = ActorRef::<Message>::from(cell.clone());
            below.call(Message::Stop, Some(STOP_LIMIT)).await.map_err(|_| ())?;
        }
        cell.stop_and_wait(None, Some(STOP_LIMIT)).await.map_err(|_| ())
    }
}

type Step = Result<(), ActorProcessingErr>;

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        (): (),
    ) -> Result<State, ActorProcessingErr> {
        let count = self.spec.children.len();
        let core = Restarts::new(self.spec.strategy, self.spec.limits, count);
        let rows = std::iter::repeat_with(Row::default).take(count).collect();
        Ok(State { core, rows, stopping: false })
    }

    async fn post_start(&self, myself: ActorRef<Message>, state: &mut State) -> Step {
        let group = supervisor_group(&self.spec.name, &self.spec.instance);
        ractor::pg::join(group, vec![myself.get_cell()]);
        myself.send_interval(CHECK_INTERVAL, || Message::Check);
        self.step(&myself, state, Input::Begin)
    }

    async fn handle(&self, myself: ActorRef<Message>, message: Message, state: &mut State) -> Step {
        match message {
            Message::Started(child, generation, result) => {
                self.started(&myself, state, (child, generation), result)
            }
            Message::BackoffOver(child, generation) => {
                match state.rows[child].generation == generation {
                    true => self.step(&myself, state, Input::BackoffOver(child)),
                    false => Ok(()),
                }
            }
            Message::Check => {
                self.check(&myself, state);
                Ok(())
            }
            Message::Checked(child, generation, answered) => {
                let row = &mut state.rows[child];
                if row.generation == generation {
                    self.checked(row, answered);
                }
                Ok(())
            }
            Message::Observe(port) => {
                self.observe(state, port);
                Ok(())
            }
            Message::Stop(port) => {
                self.stop(state).await;
                let _ = port.send(());
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Step {
        match event {
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                let cause = reason.unwrap_or_else(|| "ended".into());
                self.ended(&myself, state, actor.get_id(), cause)
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                self.ended(&myself, state, actor.get_id(), error.to_string())
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => Ok(()),
        }
    }
}
