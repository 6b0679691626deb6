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

use serde::{Deserialize, Serialize};

use crate::cluster::Wire;
use command::{Collection, Command, Outcome, Record};
use store::{RecordPage, Stats};

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
