//! The queue actor: tasks, their states and leases. Its workers are in [`worker`].
//!
//! A thin shell around the queue's state machine: commands go to the committer's thread, questions to
//! a blocking thread. The producer names a task, so that handing it in twice is handing it in once.
//!
//! - `QUEUE-1` an answered command is on disk;
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

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::actors::committer::{CommitError, Committer, Machine, Turn};
use crate::cluster::{
    ActorError, Call, CallError, Cluster, Context, Nack, Reply, Scope, Service, To, Wire,
};
use crate::replica::{self, Keyed};
use crate::types::now_ms;
use command::{Command, Enqueued, Outcome};
use machine::QueueMachine;
use query::{Cursor, TaskFilter, TaskPage};
use store::{QueueStore, StoreError};
use task::{NewTask, Task};

pub use stats::Stats;

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
            | QueueReply::Stats(_) => "ok",
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
    match cluster.call(scope, To::Any, Message::Apply(command)).await? {
        QueueReply::Applied(Outcome::Enqueued { results }) => Ok(results),
        _ => Err(CallError::Overload),
    }
}

/// The state machine as the committer wants it: on disk when it returns.
struct Indexed(QueueMachine);

impl Machine for Indexed {
    type Command = Command;
    type Outcome = Outcome;
    type Error = StoreError;

    fn applied(&self) -> u64 {
        replica::Machine::applied(&self.0)
    }

    fn apply(&mut self, first: u64, commands: &[Command]) -> Result<Vec<Outcome>, StoreError> {
        let keyless = |command: &Command| Keyed { key: 0, command: command.clone() };
        let commands: Vec<Keyed<Command>> = commands.iter().map(keyless).collect();
        let outcomes = replica::Machine::apply(&mut self.0, first, &commands, &[])?;
        replica::Machine::sync(&mut self.0)?;
        Ok(outcomes)
    }

    fn is_harmless(_: &StoreError) -> bool {
        false // redb wants to be opened again after any failed write
    }
}

/// The service: where its file is, and what outlives a restart of the actor.
#[derive(Clone)]
pub struct Queue {
    path: PathBuf,
    turn: Turn,
    changed: Arc<Notify>,
}

impl Queue {
    /// A queue service over this file; `changed` wakes the workers when there may be work.
    pub fn new(path: PathBuf, changed: Arc<Notify>) -> Self {
        Queue { path, turn: Turn::default(), changed }
    }

    fn submit(&self, state: &State, command: Command, reply: Reply<Message>) {
        let wakes = may_bring_work(&command).then(|| self.changed.clone());
        state.committer.submit(command, move |result| {
            match result {
                Ok(outcome) => reply.send(QueueReply::Applied(outcome)),
                Err(CommitError::Overload) => reply.refuse(Nack::Overload),
                Err(CommitError::Harmless(why)) => reply.send(QueueReply::Failed(why)),
            }
            if let Some(changed) = wakes {
                changed.notify_waiters();
            }
        });
    }
}

/// Whether a worker may find a task after this command. A lease must not count: workers that wake
/// each other by asking would never rest.
fn may_bring_work(command: &Command) -> bool {
    match command {
        Command::Enqueue { .. }
        | Command::Fail { .. }
        | Command::Release { .. }
        | Command::Retry { .. }
        | Command::SetStatus { .. }
        | Command::WorkerDied { .. } => true,
        Command::Lease { .. }
        | Command::Renew { .. }
        | Command::Complete { .. }
        | Command::Cancel { .. }
        | Command::ExpireLeases { .. }
        | Command::Purge { .. } => false,
    }
}

/// What the actor holds while it runs.
pub struct State {
    /// Let go before the committer, whose thread closes the file.
    store: Arc<QueueStore>,
    committer: Committer<Indexed>,
}

impl Service for Queue {
    type Req = Message;
    type State = State;
    const TICK: Option<Duration> = Some(Duration::from_secs(1));

    async fn start(&self, cx: &mut Context) -> Result<State, ActorError> {
        let path = self.path.clone();
        let (tx, rx) = tokio::sync::oneshot::channel();
        let open = move || -> Result<Indexed, StoreError> {
            let store = Arc::new(QueueStore::open(&path)?);
            let _ = tx.send(store.clone());
            Ok(Indexed(QueueMachine::new(store)?))
        };
        let committer = Committer::start(&self.turn, cx.fail(), open, || ()).await?;
        Ok(State { committer, store: rx.await? })
    }

    async fn handle(
        &self,
        cx: &mut Context,
        call: Call<Message>,
        state: &mut State,
    ) -> Result<(), ActorError> {
        let reply = call.reply;
        match call.request {
            Message::Apply(command) => self.submit(state, command, reply),
            Message::Get { id } => {
                read(cx, state, reply, move |s| Ok(QueueReply::Task(s.get(&id)?)));
            }
            Message::List { filter, after, limit } => {
                let list = move |s: &QueueStore| s.list(&filter, after, limit as usize);
                read(cx, state, reply, move |s| Ok(QueueReply::Page(list(s)?)));
            }
            Message::Stats => read(cx, state, reply, |s| Ok(QueueReply::Stats(s.stats()?))),
        }
        Ok(())
    }

    async fn tick(&self, _cx: &mut Context, state: &mut State) -> Result<(), ActorError> {
        let now = now_ms();
        let before = now.saturating_sub(KEEP_FINISHED.as_millis() as u64);
        let changed = self.changed.clone();
        state.committer.submit(Command::ExpireLeases { now_ms: now }, move |result| {
            if matches!(result, Ok(Outcome::TakenBack { waiting: 1.., .. })) {
                changed.notify_waiters();
            }
        }); // QUEUE-2
        let purge = Command::Purge { finished_before_ms: before, keep: KEEP_AT_MOST };
        state.committer.submit(purge, |_| ());
        Ok(())
    }

    fn observe(&self, state: &State) -> serde_json::Value {
        serde_json::json!({ "commands_waiting": state.committer.waiting() })
    }
}

fn read(
    cx: &mut Context,
    state: &State,
    reply: Reply<Message>,
    ask: impl FnOnce(&QueueStore) -> Result<QueueReply, StoreError> + Send + 'static,
) {
    let store = state.store.clone();
    cx.spawn(async move {
        let asked = tokio::task::spawn_blocking(move || ask(&store)).await;
        match asked {
            Ok(Ok(answer)) => reply.send(answer),
            Ok(Err(error)) => reply.send(QueueReply::Failed(error.to_string())),
            Err(_) => {} // panicked: the dropped port says so
        }
    });
}
