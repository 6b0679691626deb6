//! The metadata actor: buckets, objects, versions, multipart state, placement, outbox.
//!
//! A thin shell around the own replica of the catalog: commands go into the log, questions past the
//! barrier to reader threads with a connection each. On the leader the relay hands outbox rows to the
//! queue until it acknowledged them, so that a task is as durable as the change that caused it.
//!
//! - `META-1` an answered command is in the log of a majority, on disk (as `metadata.durability`
//!   says);
//! - `META-2` a question that is asked after a command was answered, anywhere, sees it;
//! - `META-3` an outbox row goes away only after the queue has said that it holds the task.

mod blobs;
mod buckets;
pub mod command;
mod delete;
mod digest;
pub mod forget;
mod intents;
mod list;
mod list_more;
mod lookup;
mod machine;
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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::actors::replicated::{self, Leads, Told};
use crate::cluster::{ActorError, Call, Context, Nack, Reply, Service, Wire};
use crate::replica::actor::Slot;
use crate::replica::{Keyed, Replica, talk};
use command::{Command, Outcome};
use model::Refused;
use query::{Query, QueryReply};
use reader::CatalogReader;
use rebalance::{Progress, ProgressCell};
use store::{Catalog, Fatal};

/// The catalog's file in the folder of its replica.
pub const FILE: &str = "meta.db";
/// Reader threads, each with a connection.
const READERS: usize = 2;
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

/// What is replicated.
pub type Machine = Told<Catalog>;

/// The group of the catalog's replicas.
#[derive(Clone, Debug)]
pub struct Group;

impl talk::Group for Group {
    const NAME: &'static str = "metadata";
    const ROLE: &'static str = "metadata_replica";
}

/// Opens the catalog in this file; `outbox` is notified when there may be rows to relay.
///
/// # Errors
/// When the file cannot be opened.
pub fn open(path: &Path, outbox: &Arc<Notify>) -> Result<Machine, Fatal> {
    let (machine, outbox) = (Catalog::open(path)?, outbox.clone());
    outbox.notify_one();
    Ok(Told { machine, tell: Box::new(move || outbox.notify_one()) })
}

/// The service: where its replica and its file are.
#[derive(Clone)]
pub struct Metadata {
    /// The catalog's file, for the readers.
    pub path: PathBuf,
    /// The own replica.
    pub slot: Slot<Machine>,
    /// Told whether that leads.
    pub leads: Leads,
    /// Where the rebalancer beside the actor says how far it is.
    pub progress: ProgressCell,
}

type Question = (Query, Reply<Message>);

/// What the actor holds while it runs.
pub struct State {
    replica: Replica<Machine>,
    readers: Vec<mpsc::Sender<Question>>,
    turn: usize,
}

impl Service for Metadata {
    type Req = Message;
    type State = State;

    async fn start(&self, cx: &mut Context) -> Result<State, ActorError> {
        let replica = replicated::begin::<Message, _>(cx, &self.slot, &self.leads).await?;
        let readers: Result<Vec<_>, _> =
            (0..READERS).map(|_| spawn_reader(self.path.clone())).collect();
        Ok(State { replica, readers: readers?, turn: 0 })
    }

    async fn handle(
        &self,
        cx: &mut Context,
        call: Call<Message>,
        state: &mut State,
    ) -> Result<(), ActorError> {
        match call.request {
            Message::Apply(command) => {
                let command = Keyed { key: call.key, command };
                replicated::submit(&state.replica, command, call.reply, MetadataReply::Applied);
            }
            Message::Progress => {
                let progress = self.progress.lock().expect("no panic while it is held").clone();
                call.reply.send(MetadataReply::Progress(Box::new(progress)));
            }
            Message::Read(query) => {
                state.turn = (state.turn + 1) % state.readers.len();
                let (reader, fail) = (state.readers[state.turn].clone(), cx.fail());
                let ask = move |reply| match reader.try_send((query, reply)) {
                    Ok(()) => {}
                    Err(TrySendError::Full((_, reply))) => reply.refuse(Nack::Overload),
                    Err(TrySendError::Closed(_)) => fail.now("a reader of the catalog died"),
                };
                replicated::read(cx, &state.replica, call.reply, ask);
            }
        }
        Ok(())
    }

    fn observe(&self, state: &State) -> serde_json::Value {
        serde_json::json!({ "commands_waiting": state.replica.waiting() })
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
