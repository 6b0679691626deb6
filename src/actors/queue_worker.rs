//! The queue actor: tasks, their states and leases. Its workers are in [`worker`].
//!
//! A thin shell around the own replica of the queue: commands go into the log, questions past the
//! barrier to a blocking thread. The producer names a task, so that handing it in twice is handing it
//! in once.
//!
//! - `QUEUE-1` an answered command is in the log of a majority, on disk;
//! - `QUEUE-2` the lease of a worker that is gone ends by itself: its task goes to another.

mod apply;
pub mod command;
pub mod lease;
pub mod machine;
pub mod query;
mod stats;
pub mod store;
mod tables;
pub mod task;
pub mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::actors::redb_state;
use crate::actors::replicated::{self, Leads, Told};
use crate::cluster::{ActorError, Call, CallError, Cluster, Context, Reply, Scope, Service, Wire};
use crate::replica::actor::Slot;
use crate::replica::types::Item;
use crate::replica::{Keyed, Replica, talk};
use crate::types::{UnixMillis, now_ms};
use command::{Command, Enqueued, Outcome};
use machine::QueueMachine;
use query::{Cursor, TaskFilter, TaskPage};
use store::{QueueStore, StoreError};
use task::{NewTask, Task};

pub use stats::Stats;

/// The queue's file in the folder of its replica.
pub const FILE: &str = "queue.redb";
/// How many unfinished tasks the queue holds at most.
pub const TASK_LIMIT: u64 = 1_000_000;
/// How long finished tasks are kept for whoever asks.
const KEEP_FINISHED: Duration = Duration::from_secs(24 * 3600);
/// How many finished tasks are kept at most.
const KEEP_AT_MOST: u64 = 100_000;

/// A request to the queue actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Change something; answered [`QueueReply::Applied`] once durable.
    Apply(Command),
    /// One task; answered [`QueueReply::Task`].
    Get {
        /// Its id.
        id: String,
    },
    /// A page of tasks; answered [`QueueReply::Page`].
    List {
        /// Which ones.
        filter: TaskFilter,
        /// Where the last page ended.
        after: Option<Cursor>,
        /// How many at most.
        limit: u32,
    },
    /// Counts; answered [`QueueReply::Stats`].
    Stats,
    /// When the first waiting task is due, as the asked replica has it, which may lag; answered
    /// [`QueueReply::Due`].
    Due,
}

/// An answer of the queue actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QueueReply {
    /// What came of a command.
    Applied(Outcome),
    /// The task, if there is one of that id.
    Task(Option<Task>),
    /// Some tasks.
    Page(TaskPage),
    /// Counts.
    Stats(Stats),
    /// The disk would not; nothing was changed.
    Failed(String),
    /// To [`Message::Due`]: when, or that none waits.
    Due(Option<UnixMillis>),
}

impl Wire for Message {
    type Reply = QueueReply;
    const VERSION: u16 = 1;
    const ROLE: &'static str = "queue";

    fn kind(&self) -> &'static str {
        match self {
            Message::Apply(_) => "apply",
            Message::Get { .. } => "get",
            Message::List { .. } => "list",
            Message::Stats => "stats",
            Message::Due => "due",
        }
    }

    fn outcome(reply: &QueueReply) -> &'static str {
        match reply {
            QueueReply::Applied(Outcome::Refused(_)) => "refused",
            QueueReply::Applied(Outcome::Enqueued { results })
                if results.iter().any(|r| matches!(r, Enqueued::Refused(_))) =>
            {
                "refused"
            }
            QueueReply::Applied(_)
            | QueueReply::Task(_)
            | QueueReply::Page(_)
            | QueueReply::Stats(_)
            | QueueReply::Due(_) => "ok",
            QueueReply::Failed(_) => "failed",
        }
    }
}

/// Hands tasks to the queue; one result a task, in order.
///
/// # Errors
/// As for any call; whether the tasks were taken is unknown where the error says so, and handing
/// them in again is safe.
pub async fn enqueue(
    cluster: &Cluster,
    scope: &Scope,
    tasks: Vec<NewTask>,
) -> Result<Vec<Enqueued>, CallError> {
    let command = Command::Enqueue { tasks, limit: TASK_LIMIT };
    match cluster.command(scope, Message::Apply(command)).await? {
        QueueReply::Applied(Outcome::Enqueued { results }) => Ok(results),
        _ => Err(CallError::Overload),
    }
}

/// What is replicated.
pub type Machine = Told<QueueMachine>;

/// The group of the queue's replicas.
#[derive(Clone, Debug)]
pub struct Group;

impl talk::Group for Group {
    const NAME: &'static str = "queue";
    const ROLE: &'static str = "queue_replica";
}

/// Where the actor finds the store of the machine that its replica has open.
pub type Stores = redb_state::Stores<machine::Tasks>;

/// Opens the queue in this file, tells where its store is, and wakes the workers by `changed` when
/// something was applied.
///
/// # Errors
/// When the file cannot be opened.
pub fn open(path: &Path, stores: &Stores, changed: &Arc<Notify>) -> Result<Machine, StoreError> {
    let (machine, changed) = (stores.open(path)?, changed.clone());
    Ok(Told { machine, tell: Box::new(move || changed.notify_waiters()) })
}

/// The service: where its replica and its store are.
#[derive(Clone)]
pub struct Queue {
    /// The own replica.
    pub slot: Slot<Machine>,
    /// Its store.
    pub stores: Stores,
    /// Told whether the replica leads.
    pub leads: Leads,
}

/// What the actor holds while it runs.
pub struct State {
    replica: Replica<Machine>,
    store: Arc<QueueStore>,
}

impl Service for Queue {
    type Req = Message;
    type State = State;
    const TICK: Option<Duration> = Some(Duration::from_secs(1));

    async fn start(&self, cx: &mut Context) -> Result<State, ActorError> {
        let replica = replicated::begin::<Message, _>(cx, &self.slot, &self.leads).await?;
        let store = self.stores.get().ok_or("the replica has closed its store")?;
        Ok(State { replica, store })
    }

    async fn handle(
        &self,
        cx: &mut Context,
        call: Call<Message>,
        state: &mut State,
    ) -> Result<(), ActorError> {
        let reply = call.reply;
        match call.request {
            Message::Apply(command) => {
                let command = Keyed { key: call.key, command };
                replicated::submit(&state.replica, command, reply, QueueReply::Applied);
            }
            Message::Get { id } => {
                read(cx, state, reply, move |s| Ok(QueueReply::Task(s.get(&id)?)));
            }
            Message::List { filter, after, limit } => {
                let list = move |s: &QueueStore| s.list(&filter, after, limit as usize);
                read(cx, state, reply, move |s| Ok(QueueReply::Page(list(s)?)));
            }
            Message::Stats => read(cx, state, reply, |s| Ok(QueueReply::Stats(s.stats()?))),
            Message::Due => match state.store.first_due() {
                Ok(due) => reply.send(QueueReply::Due(due)),
                Err(error) => reply.send(QueueReply::Failed(error.to_string())),
            },
        }
        Ok(())
    }

    /// Proposes only what has something to do: an idle queue writes nothing.
    async fn tick(&self, _cx: &mut Context, state: &mut State) -> Result<(), ActorError> {
        if !*self.leads.borrow() {
            return Ok(());
        }
        let now_ms = now_ms();
        let finished_before_ms = now_ms.saturating_sub(KEEP_FINISHED.as_millis() as u64);
        if state.store.has_overdue_lease(now_ms)? {
            propose(state, &Command::ExpireLeases { now_ms }); // QUEUE-2
        }
        if state.store.has_old(finished_before_ms, KEEP_AT_MOST)? {
            propose(state, &Command::Purge { finished_before_ms, keep: KEEP_AT_MOST });
        }
        Ok(())
    }

    fn observe(&self, state: &State) -> serde_json::Value {
        serde_json::json!({ "commands_waiting": state.replica.waiting() })
    }
}

/// Hands in a command whose outcome nobody waits for: it is proposed again at the next tick.
fn propose(state: &State, command: &Command) {
    let body = bincode::serialize(command).expect("plain data always encodes");
    state.replica.submit(Item { key: 0, body: body.into() }, |_| ());
}

fn read(
    cx: &mut Context,
    state: &State,
    reply: Reply<Message>,
    ask: impl FnOnce(&QueueStore) -> Result<QueueReply, StoreError> + Send + 'static,
) {
    let (store, failed) = (state.store.clone(), QueueReply::Failed);
    replicated::read_store(cx, &state.replica, reply, move || ask(&store), failed);
}
