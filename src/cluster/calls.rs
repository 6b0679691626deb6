//! Calls from one actor to another, wherever it lives: the only way to reach a service.
//!
//! Actors are looked up in their process group at each call, local ones first; references to
//! remote actors are never kept, since they die with their session.
//!
//! - `CALL-1` every call has a deadline;
//! - `CALL-2` what is over the message limit is refused before it is sent;
//! - `CALL-3` the encoded requests that wait at one target never exceed [`CREDIT_KIB`] in sum.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorCell, ActorId, ActorRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::codec::{self, MESSAGE_LIMIT};
use super::envelope::{Env, Meta, Nack, Wire};
use super::members::{MemberInfo, Members};
use super::scope::Scope;
use crate::metrics::CallTimer;

/// How many KiB of requests may wait at one target.
pub const CREDIT_KIB: u32 = 1024;
/// How long a caller waits for credit before it is told that the target is overloaded.
const CREDIT_WAIT: Duration = Duration::from_secs(1);

/// Who is to serve a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// Any actor of the role: a local one first, else the live ones in turn.
    Any,
    /// The actor of the role on this instance.
    Instance(&'a str),
    /// The actor of the role that leads, or says that it does: it refuses where it does not.
    Leader,
}

/// Why a call gave no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No actor of that role (on that instance) is in session.
    #[error("no live {0} in the cluster")]
    NoMember(String),
    /// The target has too much to do; the work was not begun.
    #[error("target is overloaded")]
    Overload,
    /// No answer in time; whether the work was done is unknown.
    #[error("no answer before the deadline")]
    Deadline,
    /// The target or the session ended; whether the work was done is unknown.
    #[error("the target ended before it answered")]
    Dropped,
    /// The request (not begun) or its reply exceeds the message limit.
    #[error("message of {0} bytes exceeds the limit")]
    TooLarge(u64),
    /// The target could not read or would not take the request; the work was not begun.
    #[error("refused: {0}")]
    Refused(Nack),
}

impl CallError {
    /// Whether the work may have been done all the same.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, CallError::Deadline | CallError::Dropped)
    }

    /// A short name for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            CallError::NoMember(_) => "no_member",
            CallError::Overload => "overload",
            CallError::Deadline => "deadline",
            CallError::Dropped => "dropped",
            CallError::TooLarge(_) => "too_large",
            CallError::Refused(_) => "refused",
        }
    }
}

/// The group of those actors of a role that lead.
pub fn leader_group(role: &str) -> String {
    format!("{role}!leader")
}

/// The group of a role on one instance.
pub fn instance_group(role: &str, instance: &str) -> String {
    format!("{role}@{instance}")
}

/// The way to all actors of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    members: Arc<Members>,
    credit: Mutex<HashMap<ActorId, Arc<Semaphore>>>,
    turn: AtomicUsize,
}

impl Cluster {
    /// A handle for the node whose members these are.
    pub fn new(members: Arc<Members>) -> Self {
        let credit = Mutex::new(HashMap::new());
        Cluster { inner: Arc::new(Inner { members, credit, turn: AtomicUsize::new(0) }) }
    }

    /// The own instance id.
    pub fn instance(&self) -> &str {
        self.inner.members.own_instance()
    }

    /// Whether an instance is in session now; the own one always is.
    pub fn is_live(&self, instance: &str) -> bool {
        self.inner.members.is_live(instance)
    }

    /// The live members, the own node first.
    pub fn members(&self) -> Vec<MemberInfo> {
        self.inner.members.live()
    }

    /// The table of members, live and lost.
    pub fn table(&self) -> &Arc<Members> {
        &self.inner.members
    }

    /// Calls an actor and waits for its reply until the scope's deadline.
    ///
    /// # Errors
    /// See [`CallError`]; only `Deadline` and `Dropped` leave the outcome unknown.
    pub async fn call<M: Wire>(
        &self,
        scope: &Scope,
        to: To<'_>,
        message: M,
    ) -> Result<M::Reply, CallError> {
        self.send(scope, self.find::<M>(to), 0, message).await
    }

    /// The same to a target that was looked up; a retry under the same key is applied once.
    pub(super) async fn send<M: Wire>(
        &self,
        scope: &Scope,
        target: Result<ActorCell, CallError>,
        key: u128,
        message: M,
    ) -> Result<M::Reply, CallError> {
        let timer = CallTimer::begin(M::ROLE, message.kind());
        let result = match (codec::encoded_size(&message), target) {
            (size, _) if size > MESSAGE_LIMIT => Err(CallError::TooLarge(size)), // CALL-2
            (size, Ok(target)) => self.deliver(scope, target, key, message, size).await,
            (_, Err(error)) => Err(error),
        };
        timer.end(result.as_ref().map_or_else(CallError::name, M::outcome));
        result
    }

    async fn deliver<M: Wire>(
        &self,
        scope: &Scope,
        target: ActorCell,
        key: u128,
        message: M,
        size: u64,
    ) -> Result<M::Reply, CallError> {
        let _credit = self.credit(&target, size, scope).await?;
        let remaining = scope.remaining();
        if remaining.is_zero() {
            return Err(CallError::Deadline);
        }
        let actor = ActorRef::<Env<M>>::from(target);
        let meta = Meta { scope: *scope, key };
        match actor.call(|port| Env::Call(meta, message, port), Some(remaining)).await {
            Ok(CallResult::Success(Ok(reply))) => Ok(reply),
            Ok(CallResult::Success(Err(nack))) => Err(from_nack(nack)),
            Ok(CallResult::Timeout) => Err(CallError::Deadline),
            Ok(CallResult::SenderError) => Err(CallError::Dropped),
            Err(_) => Err(CallError::Dropped), // the mailbox closed under us
        }
    }

    fn find<M: Wire>(&self, to: To<'_>) -> Result<ActorCell, CallError> {
        let group = group_of(M::ROLE, to);
        self.targets(&group).into_iter().next().ok_or(CallError::NoMember(group))
    }

    /// All who could serve a call, in the order in which they should be asked: a local one first,
    /// then the others in turn.
    pub(super) fn targets(&self, group: &str) -> Vec<ActorCell> {
        let mut members = ractor::pg::get_members(&group.to_owned());
        if !members.is_empty() {
            let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
            let first = turn % members.len();
            members.rotate_left(first);
        }
        members.sort_by_key(|m| !m.get_id().is_local()); // stable
        members
    }

    /// Waits until the target may take `size` more bytes (CALL-3).
    async fn credit(
        &self,
        target: &ActorCell,
        size: u64,
        scope: &Scope,
    ) -> Result<OwnedSemaphorePermit, CallError> {
        let semaphore = {
            let mut table = self.inner.credit.lock().expect("no panic while the table is held");
            if table.len() > 1024 {
                table.retain(|_, s| s.available_permits() < CREDIT_KIB as usize);
            }
            let full = || Arc::new(Semaphore::new(CREDIT_KIB as usize));
            table.entry(target.get_id()).or_insert_with(full).clone()
        };
        let units = 1 + (size / 1024) as u32;
        let wait = CREDIT_WAIT.min(scope.remaining());
        match tokio::time::timeout(wait, semaphore.acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(CallError::Overload),
        }
    }
}

/// The process group in which the targets of a call are found.
pub(super) fn group_of(role: &str, to: To<'_>) -> String {
    match to {
        To::Any => role.to_owned(),
        To::Instance(instance) => instance_group(role, instance),
        To::Leader => leader_group(role),
    }
}

fn from_nack(nack: Nack) -> CallError {
    match nack {
        Nack::Overload => CallError::Overload,
        Nack::Dropped => CallError::Dropped,
        Nack::TooLarge => CallError::TooLarge(0),
        Nack::Decode
        | Nack::Version
        | Nack::Deadline
        | Nack::Unavailable(_)
        | Nack::NotLeader(_) => CallError::Refused(nack),
    }
}
