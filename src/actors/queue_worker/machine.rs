//! The queue as a replicated state machine: its tables, and its commands on them.
//!
//! [`redb_state`](crate::actors::redb_state) makes a machine and a store of them.

use redb::{Error, ReadTransaction, WriteTransaction};

use super::apply::apply;
use super::command::{Command, Outcome};
use super::tables::{self, FIGURES, Tables, read_figures};
use crate::actors::redb_state::{EachTable, Machine, Schema};

/// What a task takes in the file with its indexes (measured).
const TYPICAL_TASK_BYTES: u64 = 400;

/// The one writer of a [`QueueStore`](super::store::QueueStore).
pub type QueueMachine = Machine<Tasks>;

/// Tasks, their states and leases.
#[derive(Debug)]
pub struct Tasks;

impl Schema for Tasks {
    type Command = Command;
    type Outcome = Outcome;
    type Tables<'tx> = Tables<'tx>;

    const FORMAT: &'static str = "queue 2";

    fn each_table(each: &mut impl EachTable) -> Result<(), Error> {
        tables::each_table(each)
    }

    fn open(tx: &WriteTransaction) -> Result<Tables<'_>, Error> {
        Tables::open(tx)
    }

    fn apply(tables: &mut Tables<'_>, _index: u64, command: &Command) -> Result<Outcome, Error> {
        apply(tables, command)
    }

    fn close(tables: Tables<'_>) -> Result<(), Error> {
        tables.close()
    }

    fn used_bytes(tx: &ReadTransaction) -> Result<u64, Error> {
        let tasks = read_figures(&tx.open_table(FIGURES)?)?.counts.all();
        Ok(tasks * TYPICAL_TASK_BYTES)
    }
}
