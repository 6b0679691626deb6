//! The fault injector: the records that say which faults are injected, and which were.
//!
//! Here are its messages. What they do is in [`machine`] (changes, through the replicated log) and
//! [`store`] (questions).
//!
//! - `INJECT-1` an answered change is in the log of a majority;
//! - `INJECT-2` a question that is asked after a change was answered sees it.

pub mod command;
pub mod machine;
pub mod store;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::actors::redb_state;
use crate::actors::replicated::{self, Leads};
use crate::cluster::{ActorError, Call, Context, Service, Wire};
use crate::replica::actor::Slot;
use crate::replica::{Keyed, Replica, talk};
use command::{Collection, Command, Outcome, Record};
use store::{RecordPage, RecordStore, Stats};

pub use machine::RecordMachine as Machine;

/// A request to the fault injector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Change something; answered [`Reply::Applied`].
    Apply(Command),
    /// One record; answered [`Reply::Record`].
    Get {
        /// Where.
        collection: Collection,
        /// Its id.
        id: String,
    },
    /// A page of records by id; answered [`Reply::Page`].
    List {
        /// Where.
        collection: Collection,
        /// The last id of the page before.
        after: Option<String>,
        /// How many at most.
        limit: u32,
    },
    /// Counts; answered [`Reply::Stats`].
    Stats,
}

/// An answer of the fault injector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// What came of a command.
    Applied(Outcome),
    /// The record, if there is one of that id.
    Record(Option<Record>),
    /// Some records.
    Page(RecordPage),
    /// Counts.
    Stats(Stats),
    /// The disk would not; nothing was changed.
    Failed(String),
}

impl Wire for Message {
    type Reply = Reply;
    const VERSION: u16 = 1;
    const ROLE: &'static str = "fault_injector";

    fn kind(&self) -> &'static str {
        match self {
            Message::Apply(_) => "apply",
            Message::Get { .. } => "get",
            Message::List { .. } => "list",
            Message::Stats => "stats",
        }
    }

    fn outcome(reply: &Reply) -> &'static str {
        match reply {
            Reply::Applied(Outcome::Refused(_)) => "refused",
            Reply::Applied(_) | Reply::Record(_) | Reply::Page(_) | Reply::Stats(_) => "ok",
            Reply::Failed(_) => "failed",
        }
    }
}

/// The file of the records in the folder of their replica.
pub const FILE: &str = "faults.redb";

/// The group of the fault injector's replicas.
#[derive(Clone, Debug)]
pub struct Group;

impl talk::Group for Group {
    const NAME: &'static str = "mock-error";
    const ROLE: &'static str = "fault_injector_replica";
}

/// Where the actor finds the store of the machine that its replica has open.
pub type Stores = redb_state::Stores<machine::Records>;

/// The service: where its replica and its store are.
#[derive(Clone)]
pub struct FaultInjector {
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
    store: Arc<RecordStore>,
}

impl Service for FaultInjector {
    type Req = Message;
    type State = State;

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
        let (reply, store, failed) = (call.reply, state.store.clone(), Reply::Failed);
        let replica = &state.replica;
        match call.request {
            Message::Apply(command) => {
                let command = Keyed { key: call.key, command };
                replicated::submit(replica, command, reply, Reply::Applied);
            }
            Message::Get { collection, id } => {
                let ask = move || store.get(collection, &id).map(Reply::Record);
                replicated::read_store(cx, replica, reply, ask, failed);
            }
            Message::List { collection, after, limit } => {
                let ask = move || {
                    store.list(collection, after.as_deref(), limit as usize).map(Reply::Page)
                };
                replicated::read_store(cx, replica, reply, ask, failed);
            }
            Message::Stats => {
                let ask = move || store.stats().map(Reply::Stats);
                replicated::read_store(cx, replica, reply, ask, failed);
            }
        }
        Ok(())
    }

    fn observe(&self, state: &State) -> serde_json::Value {
        serde_json::json!({ "commands_waiting": state.replica.waiting() })
    }
}
