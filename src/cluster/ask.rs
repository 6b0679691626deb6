//! Questions and commands to a role of which several instances hold the same state.
//!
//! A command goes to whoever leads them and is tried again under one key, so that it takes effect
//! once; a question goes to any of them, and to another one where the first cannot answer.
//!
//! - `ASK-1` an answer or an error comes before the scope's deadline;
//! - `ASK-2` a command's error leaves the outcome unknown ([`CallError::outcome_unknown`]) exactly
//!   where one of its attempts may have been served.

use std::time::Duration;

use ractor::ActorCell;

use super::calls::{CallError, Cluster, To, group_of};
use super::envelope::{Nack, Wire};
use super::scope::Scope;

/// How long is waited before the next attempt.
const PAUSE: Duration = Duration::from_millis(30);

impl Cluster {
    /// Has a command carried out by the one that leads its role.
    ///
    /// # Errors
    /// See [`CallError`] and ASK-2.
    pub async fn command<M: Wire>(&self, scope: &Scope, message: M) -> Result<M::Reply, CallError> {
        let (key, mut tries) = (rand::random::<u128>(), Tries::new(*scope));
        let mut named: Option<String> = None;
        loop {
            let leader = self.leader(M::ROLE, named.take().as_deref()).ok_or_else(nobody::<M>);
            let sent = self.send(&tries.scope, leader, key, message.clone());
            let error = match sent.await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if let CallError::Refused(Nack::NotLeader(leader)) = &error {
                named.clone_from(leader);
            }
            tries.failed(error)?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks one of those that hold the state of a role, the own node's first.
    ///
    /// # Errors
    /// See [`CallError`]; the last of those that were asked.
    pub async fn question<M: Wire>(
        &self,
        scope: &Scope,
        message: M,
    ) -> Result<M::Reply, CallError> {
        let mut tries = Tries::new(*scope);
        loop {
            let mut targets: Vec<_> =
                self.targets(&group_of(M::ROLE, To::Any)).into_iter().map(Ok).collect();
            if targets.is_empty() {
                targets.push(Err(nobody::<M>()));
            }
            let mut last = nobody::<M>();
            for target in targets {
                match self.send(&tries.scope, target, 0, message.clone()).await {
                    Ok(reply) => return Ok(reply),
                    Err(error) if tries.is_over() || !heals(&error) => return Err(error),
                    Err(error) => last = error,
                }
            }
            tries.failed(last)?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whoever is said to lead, else whoever says so of itself, else anybody: it will know.
    fn leader(&self, role: &str, named: Option<&str>) -> Option<ActorCell> {
        let named = named.map(|instance| group_of(role, To::Instance(instance)));
        let groups = named.into_iter().chain([To::Leader, To::Any].map(|to| group_of(role, to)));
        groups.flat_map(|group| self.targets(&group)).next()
    }
}

/// There is nobody to be asked.
fn nobody<M: Wire>() -> CallError {
    CallError::NoMember(M::ROLE.to_owned())
}

/// The attempts at one piece of work.
struct Tries {
    scope: Scope,
    maybe_done: bool,
}

impl Tries {
    fn new(scope: Scope) -> Self {
        Tries { scope, maybe_done: false }
    }

    fn is_over(&self) -> bool {
        self.scope.remaining() <= PAUSE
    }

    /// Takes note of a failed attempt; an error when it was the last.
    fn failed(&mut self, error: CallError) -> Result<(), CallError> {
        self.maybe_done |= error.outcome_unknown();
        if heals(&error) && !self.is_over() {
            return Ok(());
        }
        Err(match self.maybe_done && !error.outcome_unknown() {
            true => CallError::Dropped, // ASK-2: an earlier attempt was not heard of
            false => error,
        })
    }
}

/// Whether another attempt may find what this one did not: a new leader, a restarted actor, a
/// reconnected peer.
fn heals(error: &CallError) -> bool {
    match error {
        CallError::NoMember(_)
        | CallError::Dropped
        | CallError::Refused(Nack::NotLeader(_) | Nack::Unavailable(_)) => true,
        CallError::Overload
        | CallError::Deadline
        | CallError::TooLarge(_)
        | CallError::Refused(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_command_is_of_unknown_outcome_exactly_after_an_attempt_that_was_not_heard_of() {
        let limit = Duration::from_secs(1);
        let not_leader = || CallError::Refused(Nack::NotLeader(None));
        let mut tries = Tries::new(Scope::new(limit));
        assert_eq!(tries.failed(not_leader()), Ok(()));
        tokio::time::advance(limit).await;
        assert_eq!(tries.failed(not_leader()), Err(not_leader()), "nobody took it");
        let mut tries = Tries::new(Scope::new(limit));
        assert_eq!(tries.failed(CallError::Dropped), Ok(()));
        tokio::time::advance(limit).await;
        assert_eq!(tries.failed(not_leader()), Err(CallError::Dropped), "ASK-2");
        let mut tries = Tries::new(Scope::new(limit));
        assert_eq!(tries.failed(CallError::Overload), Err(CallError::Overload), "at once");
    }
}
