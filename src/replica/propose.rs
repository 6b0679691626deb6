//! The way of a command into the log: what waits together becomes one entry.
//!
//! - `PROP-1` a command that is refused was not proposed: only [`ProposeError::Unknown`] leaves open
//!   what becomes of it.

use std::path::PathBuf;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::batch::Batch;
use super::chance::random_u128;
use super::engine::{Engine, Status};
use super::host::Host;
use super::machine::{Exec, Machine, ProposeError};
use super::types::{Item, Proposal};
use crate::points::{self, Point};

/// How many entries are on their way at once.
const IN_FLIGHT: usize = 2;

/// Is told what became of a command.
pub type Done<O> = Box<dyn FnOnce(Result<O, ProposeError>) + Send>;
/// A command that waits.
pub type Submitted<O> = (Item, Done<O>);

/// Makes entries of what was submitted, in its order, and tells those whose entry came to nothing.
pub async fn propose<M: Machine>(
    engine: Engine,
    host: Host<M>,
    disk: Room,
    mut queue: mpsc::Receiver<Submitted<M::Outcome>>,
) {
    let mut in_flight = FuturesUnordered::new();
    let mut held: Option<Submitted<M::Outcome>> = None;
    loop {
        let room = in_flight.len() < IN_FLIGHT;
        let first = match held.take() {
            Some(first) if room => first,
            kept => {
                held = kept;
                tokio::select! {
                    biased;
                    Some(()) = in_flight.next() => continue,
                    next = queue.recv(), if room && held.is_none() => match next {
                        Some(first) => first,
                        None => return,
                    },
                }
            }
        };
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some((item, done)) = next {
            if let Err(over) = batch.push(item, done) {
                held = Some(over);
                break;
            }
            next = queue.try_recv().ok();
        }
        let (items, waiters) = batch.into_parts();
        let full = (!disk.is_left()).then_some(ProposeError::NoSpace);
        if let Some(why) = refusal(&engine.status()).or(full) {
            waiters.into_iter().for_each(|done| done(Err(why.clone())));
            continue;
        }
        let id = random_u128();
        host.waiting().add(id, Box::new(move |outcomes| answer(waiters, outcomes)));
        let (raft, host) = (engine.raft.clone(), host.clone());
        in_flight.push(async move {
            let sent = raft.client_write_ff(Proposal { id, items }).await;
            points::at(Point::Proposed);
            let committed = match sent {
                Ok(receiver) => receiver.await.is_ok_and(|result| result.is_ok()),
                Err(_) => false,
            };
            if !committed && let Some(waiter) = host.waiting().take(id) {
                // it may stand in a log: only the next leader knows
                waiter(Err(ProposeError::Unknown));
            }
        });
    }
}

/// Why nothing can be proposed now; then nothing was.
fn refusal(status: &Status) -> Option<ProposeError> {
    match (status.leads, status.quorum) {
        (false, _) => Some(ProposeError::NotLeader(status.leader.clone())),
        (true, false) => Some(ProposeError::NoQuorum),
        (true, true) => None,
    }
}

fn answer<O>(waiters: Vec<Done<O>>, outcomes: Result<Vec<O>, ProposeError>) {
    match outcomes {
        Ok(outcomes) => {
            for (done, outcome) in waiters.into_iter().zip(outcomes) {
                done(Ok(outcome));
            }
        }
        Err(error) => waiters.into_iter().for_each(|done| done(Err(error.clone()))),
    }
}

/// How much space a log needs to go on.
const RESERVE: u64 = 4 << 20;

/// The disk that the log is on. A log that cannot be written ends its replica: it is better to refuse
/// what comes while there is still space.
#[derive(Clone)]
pub struct Room {
    /// A folder on it.
    pub dir: PathBuf,
    /// A simulated disk is never full.
    pub exec: Exec,
}

impl Room {
    /// Whether the log may go on.
    pub fn is_left(&self) -> bool {
        if self.exec == Exec::Inline {
            return true;
        }
        match nix::sys::statvfs::statvfs(&self.dir) {
            Ok(stat) => stat.blocks_available() * stat.fragment_size() > RESERVE,
            Err(_) => true, // the write will say what is wrong
        }
    }
}
