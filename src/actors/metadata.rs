//! The metadata actor: buckets, objects, versions, multipart state, placement, outbox.
//!
//! A thin shell around the catalog: commands go to the committer's thread, questions to reader
//! threads with a connection each. The relay hands outbox rows to the queue until it acknowledged
//! them, so that a task is as durable as the change that caused it.
//!
//! - `META-1` an answered command is on disk (as `metadata.durability` says);
//! - `META-2` a question that is asked after a command was answered sees it;
//! - `META-3` an outbox row goes away only after the queue has said that it holds the task.

mod blobs;
mod buckets;
pub mod command;
mod delete;
pub mod forget;
mod list;
mod list_more;
mod lookup;
pub mod model;
mod multipart;
mod nodes;
mod objects;
pub mod outbox;
pub mod query;
pub mod reader;
pub mod rebalance;
pub mod relay;
mod reply;
mod schema;
mod search;
mod step;
pub mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::actors::committer::{CommitError, Committer, Machine, Turn};
use crate::cluster::{ActorError, Call, Context, Nack, Reply, Service, Wire};
use crate::config::Durability;
use command::{Command, Outcome};
use model::Refused;
use query::{Query, QueryReply};
use reader::CatalogReader;
use rebalance::{Progress, ProgressCell};
use store::{Catalog, Fatal};

/// Reader threads, each with a connection.
const READERS: usize = 2;
/// After how many commands a checkpoint is made in a quiet moment.
const CHECKPOINT_COMMANDS: usize = 200;
/// Questions that may wait at one reader.
const READ_QUEUE: usize = 1024;

/// A request to the metadata actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "built once per call, then serialized or moved once")]
pub enum Message {
    /// Change something; answered [`MetadataReply::Applied`] once durable.
    Apply(Command),
    /// Ask something; answered [`MetadataReply::Read`].
    Read(Query),
    /// How far the rebalancer of this node is; answered [`MetadataReply::Progress`].
    Progress,
}

/// An answer of the metadata actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "built once per call, then serialized or moved once")]
pub enum MetadataReply {
    /// What came of a command.
    Applied(Outcome),
    /// What a question found.
    Read(Result<QueryReply, Refused>),
    /// The disk would not; nothing was changed.
    Failed(String),
    /// How far the rebalancer is.
    Progress(Box<Progress>),
}

impl Wire for Message {
    type Reply = MetadataReply;
    const VERSION: u16 = 1;
    const ROLE: &'static str = "metadata";

    fn kind(&self) -> &'static str {
        match self {
            Message::Apply(_) => "apply",
            Message::Read(_) => "read",
            Message::Progress => "progress",
        }
    }

    fn outcome(reply: &MetadataReply) -> &'static str {
        match reply {
            MetadataReply::Applied(Err(_)) | MetadataReply::Read(Err(_)) => "refused",
            MetadataReply::Applied(Ok(_))
            | MetadataReply::Read(Ok(_))
            | MetadataReply::Progress(_) => "ok",
            MetadataReply::Failed(_) => "failed",
        }
    }
}

impl Machine for Catalog {
    type Command = Command;
    type Outcome = Outcome;
    type Error = Fatal;

    fn applied(&self) -> u64 {
        self.applied_index()
    }

    fn apply(&mut self, first: u64, commands: &[Command]) -> Result<Vec<Outcome>, Fatal> {
        self.apply_batch(first, commands)
    }

    fn is_harmless(error: &Fatal) -> bool {
        matches!(error, Fatal::Full)
    }

    fn idle(&mut self) {
        if self.since_checkpoint() < CHECKPOINT_COMMANDS {
            return; // one after each commit would cost more than the commit
        }
        if let Err(error) = self.checkpoint() {
            tracing::warn!(%error, "checkpoint of the catalog failed");
        }
    }
}

/// The service: where its file is, and what outlives a restart of the actor.
#[derive(Clone)]
pub struct Metadata {
    path: PathBuf,
    durability: Durability,
    turn: Turn,
    outbox: Arc<Notify>,
    progress: ProgressCell,
}

impl Metadata {
    /// A metadata service over the catalog in this file; `outbox` is notified after every batch.
    pub fn new(path: PathBuf, outbox: Arc<Notify>) -> Self {
        let (turn, progress) = (Turn::default(), ProgressCell::default());
        Metadata { path, durability: Durability::Fsync, turn, outbox, progress }
    }

    /// The same with another durability.
    pub fn durable(self, durability: Durability) -> Self {
        Metadata { durability, ..self }
    }

    /// Where the rebalancer beside the actor says how far it is.
    pub fn progress(&self) -> ProgressCell {
        self.progress.clone()
    }
}

type Question = (Query, Reply<Message>);

/// What the actor holds while it runs.
pub struct State {
    committer: Committer<Catalog>,
    readers: Vec<mpsc::Sender<Question>>,
    turn: usize,
}

impl Service for Metadata {
    type Req = Message;
    type State = State;

    async fn start(&self, cx: &mut Context) -> Result<State, ActorError> {
        let (path, outbox) = (self.path.clone(), self.outbox.clone());
        let durability = self.durability;
        let open = move || Catalog::open_with(path, durability);
        let committer =
            Committer::start(&self.turn, cx.fail(), open, move || outbox.notify_one()).await?;
        let readers: Result<Vec<_>, _> =
            (0..READERS).map(|_| spawn_reader(self.path.clone())).collect();
        self.outbox.notify_one();
        Ok(State { committer, readers: readers?, turn: 0 })
    }

    async fn handle(
        &self,
        _cx: &mut Context,
        call: Call<Message>,
        state: &mut State,
    ) -> Result<(), ActorError> {
        match call.request {
            Message::Apply(command) => {
                let reply = call.reply;
                state.committer.submit(command, move |result| match result {
                    Ok(outcome) => reply.send(MetadataReply::Applied(outcome)),
                    Err(CommitError::Overload) => reply.refuse(Nack::Overload),
                    Err(CommitError::Harmless(why)) => reply.send(MetadataReply::Failed(why)),
                });
            }
            Message::Progress => {
                let progress = self.progress.lock().expect("no panic while it is held").clone();
                call.reply.send(MetadataReply::Progress(Box::new(progress)));
            }
            Message::Read(query) => {
                state.turn = (state.turn + 1) % state.readers.len();
                match state.readers[state.turn].try_send((query, call.reply)) {
                    Ok(()) => {}
                    Err(TrySendError::Full((_, reply))) => reply.refuse(Nack::Overload),
                    Err(TrySendError::Closed(_)) => {
                        return Err("a reader of the catalog died".into());
                    }
                }
            }
        }
        Ok(())
    }

    fn observe(&self, state: &State) -> serde_json::Value {
        serde_json::json!({ "commands_waiting": state.committer.waiting() })
    }
}

/// A thread that answers questions until its sender is dropped.
fn spawn_reader(path: PathBuf) -> Result<mpsc::Sender<Question>, ActorError> {
    let reader = CatalogReader::open(&path)?;
    let (tx, mut rx) = mpsc::channel::<Question>(READ_QUEUE);
    std::thread::Builder::new().name("metadata-reader".into()).spawn(move || {
        while let Some((query, reply)) = rx.blocking_recv() {
            match reader.query(&query) {
                Ok(answer) => reply.send(MetadataReply::Read(answer)),
                Err(error) => {
                    tracing::error!(%error, ?query, "reading the catalog failed");
                    reply.send(MetadataReply::Failed(error.to_string()));
                }
            }
        }
    })?;
    Ok(tx)
}
