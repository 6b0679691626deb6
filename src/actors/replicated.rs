//! What the actors of the replicated services share: the way of a command into the log, of a
//! question past the barrier, and the word who leads.
//!
//! Each of them is a thin shell beside its replica's actor (`replica/actor.rs`), restarted after it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::cluster::{ActorError, Context, Nack, Reply, Wire};
use crate::points::{self, Mutant, Point};
use crate::replica::actor::{Slot, replica_of};
use crate::replica::types::Item;
use crate::replica::{Digester, Export, Keyed, Machine, ProposeError, ReadError, Replica};

/// How long an actor waits for its replica.
const REPLICA_LIMIT: Duration = Duration::from_secs(40);

/// Whether the own replica leads, for the tasks that only then have something to do.
pub type Leads = Arc<watch::Sender<bool>>;

/// Waits until the own replica leads.
pub async fn until_leading(leads: &Leads) {
    let mut leads = leads.subscribe();
    let _ = leads.wait_for(|leads| *leads).await; // the sender is ours: it lives
}

/// Finds the replica of a starting actor, and keeps the others told whether it leads.
///
/// # Errors
/// When the replica does not come up.
pub async fn begin<W: Wire, M: Machine>(
    cx: &mut Context,
    slot: &Slot<M>,
    leads: &Leads,
) -> Result<Replica<M>, ActorError> {
    let replica = replica_of(slot, REPLICA_LIMIT).await?;
    let (told, tell, fail) = (leads.clone(), cx.lead::<W>(), cx.fail());
    let of = replica.clone();
    cx.spawn(async move {
        let _led = Led(told.clone());
        let tell = |leads| {
            tell(leads);
            told.send_replace(leads);
        };
        of.leadership(tell).await;
        fail.now("its replica ended");
    });
    Ok(replica)
}

/// Whoever ends leads no longer.
struct Led(Leads);

impl Drop for Led {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// Hands a command in; answered once it is applied here, or refused with why it was not.
pub fn submit<W: Wire, M: Machine>(
    replica: &Replica<M>,
    Keyed { key, command }: Keyed<M::Command>,
    reply: Reply<W>,
    answer: impl FnOnce(M::Outcome) -> W::Reply + Send + 'static,
) {
    match bincode::serialize(&command) {
        Ok(body) => replica.submit(Item { key, body: body.into() }, move |done| match done {
            Ok(outcome) => {
                points::at(Point::ActorAnswers);
                reply.send(answer(outcome));
            }
            Err(error) => refuse(reply, error),
        }),
        Err(error) => reply.refuse(Nack::Unavailable(error.to_string())),
    }
}

fn refuse<W: Wire>(reply: Reply<W>, error: ProposeError) {
    reply.refuse(match error {
        ProposeError::Overload => Nack::Overload,
        ProposeError::NotLeader(leader) => Nack::NotLeader(leader.map(|peer| peer.instance)),
        ProposeError::NoSpace | ProposeError::NoQuorum => Nack::Unavailable(error.to_string()),
        ProposeError::TooLarge(_) => Nack::TooLarge,
        ProposeError::Unknown => Nack::Dropped,
    });
}

/// Lets a question through once the own state holds all that was answered before it.
pub fn read<W: Wire, M: Machine>(
    cx: &mut Context,
    replica: &Replica<M>,
    reply: Reply<W>,
    ask: impl FnOnce(Reply<W>) + Send + 'static,
) {
    if replica.is_current() || points::breaks(Mutant::ReadWithoutBarrier) {
        return ask(reply);
    }
    let replica = replica.clone();
    cx.spawn(async move {
        match replica.barrier().await {
            Ok(()) => ask(reply),
            Err(ReadError::Overload) => reply.refuse(Nack::Overload),
            Err(error @ ReadError::Unavailable) => {
                reply.refuse(Nack::Unavailable(error.to_string()));
            }
        }
    });
}

/// Has a question that got past the barrier answered on a thread that may block.
pub fn read_store<W: Wire, M: Machine, E: std::fmt::Display>(
    cx: &mut Context,
    replica: &Replica<M>,
    reply: Reply<W>,
    ask: impl FnOnce() -> Result<W::Reply, E> + Send + 'static,
    failed: fn(String) -> W::Reply,
) {
    read(cx, replica, reply, move |reply| {
        let answer = move || reply.send(ask().unwrap_or_else(|error| failed(error.to_string())));
        drop(tokio::task::spawn_blocking(answer)); // should it panic, the dropped port says so
    });
}

/// A machine that tells when it has applied something.
pub struct Told<M> {
    /// The machine.
    pub machine: M,
    /// Told after each batch.
    pub tell: Box<dyn Fn() + Send>,
}

impl<M: Machine> Machine for Told<M> {
    type Command = M::Command;
    type Outcome = M::Outcome;
    type Error = M::Error;

    fn applied(&self) -> u64 {
        self.machine.applied()
    }

    fn mark(&self) -> Result<Vec<u8>, M::Error> {
        self.machine.mark()
    }

    fn apply(
        &mut self,
        first: u64,
        commands: &[Keyed<M::Command>],
        mark: &[u8],
    ) -> Result<Vec<M::Outcome>, M::Error> {
        let outcomes = self.machine.apply(first, commands, mark)?;
        if !commands.is_empty() {
            (self.tell)();
        }
        Ok(outcomes)
    }

    fn sync(&mut self) -> Result<(), M::Error> {
        self.machine.sync()
    }

    fn exporter(&self) -> Result<Export<M::Error>, M::Error> {
        self.machine.exporter()
    }

    fn import(&mut self, from: &std::path::Path) -> Result<(), M::Error> {
        self.machine.import(from)?;
        (self.tell)();
        Ok(())
    }

    fn digester(&self) -> Result<Digester<M::Error>, M::Error> {
        self.machine.digester()
    }

    fn idle(&mut self) {
        self.machine.idle();
    }
}
