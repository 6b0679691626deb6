//! The shell around every service actor: the only `impl Actor` of the services.
//!
//! A service says how it starts from disk, how it takes one request and what it does at its tick;
//! the shell owns mailbox, groups, deadlines, admission and the tasks that the actor began.
//!
//! - `SHELL-1` a request whose deadline has passed is refused without being begun;
//! - `SHELL-2` at most [`Service::MAX_IN_FLIGHT`] requests are in work; the next is refused with
//!   [`Nack::Overload`];
//! - `SHELL-3` every task that the actor spawned ends with the actor;
//! - `SHELL-4` an actor joins its groups only once its state stands, and leaves them by ending.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::calls::{Cluster, instance_group, leader_group};
use super::envelope::{Answer, Crash, Env, Meta, Nack, Wire};
use super::scope::Scope;

/// What ends an actor with an error: its supervisor starts it again from disk.
pub type ActorError = ActorProcessingErr;

/// One service actor, as its author writes it.
pub trait Service: Send + Sync + 'static {
    /// The requests it takes.
    type Req: Wire;
    /// What changes; built from disk at every start.
    type State: Send + 'static;
    /// How often [`Service::tick`] is called, if at all.
    const TICK: Option<Duration> = None;
    /// How many requests may be in work at once.
    const MAX_IN_FLIGHT: usize = 1024;

    /// Builds the state from disk.
    ///
    /// # Errors
    /// The supervisor tries again after its backoff.
    fn start(
        &self,
        cx: &mut Context,
    ) -> impl Future<Output = Result<Self::State, ActorError>> + Send;

    /// Takes one request. Must not hold up the mailbox: quick work is answered at once, slow work
    /// moves `call.reply` into a task ([`Context::spawn`]).
    ///
    /// # Errors
    /// Only where the state is not to be trusted any more; the actor is then rebuilt from disk.
    fn handle(
        &self,
        cx: &mut Context,
        call: Call<Self::Req>,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorError>> + Send;

    /// The regular work between requests.
    ///
    /// # Errors
    /// As for [`Service::handle`].
    fn tick(
        &self,
        _cx: &mut Context,
        _state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        async { Ok(()) }
    }

    /// The orderly end: finish what must be finished. Not called after a crash.
    fn stop(&self, _cx: &mut Context, _state: &mut Self::State) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// A small summary of the state for tests, `status` and `/api/v1/actors`.
    fn observe(&self, _state: &Self::State) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// One request, with the port for its answer.
pub struct Call<M: Wire> {
    /// Deadline and identity.
    pub scope: Scope,
    /// Idempotency key; 0 = none.
    pub key: u128,
    /// What is asked.
    pub request: M,
    /// Where the answer goes.
    pub reply: Reply<M>,
}

/// The port for one answer. Dropped unsent, the caller gets [`Nack::Dropped`].
pub struct Reply<M: Wire> {
    port: RpcReplyPort<Answer<M>>,
    in_flight: InFlight,
}

impl<M: Wire> Reply<M> {
    /// Answers the request.
    pub fn send(self, reply: M::Reply) {
        let _ = self.port.send(Ok(reply)); // the caller may have stopped waiting
    }

    /// Refuses the request.
    pub fn refuse(self, nack: Nack) {
        let _ = self.port.send(Err(nack));
    }

    /// How many requests of the actor are in work, this one included.
    pub fn in_flight(&self) -> usize {
        self.in_flight.0.load(Ordering::Relaxed)
    }
}

/// Counts one request while it is in work.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        InFlight(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an actor has at hand besides its state.
pub struct Context {
    myself: ActorCell,
    cluster: Cluster,
    tasks: JoinSet<()>,
    in_flight: Arc<AtomicUsize>,
    fail: Fail,
}

impl Context {
    /// The way to other actors.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Runs a task that is aborted when the actor ends.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {} // forget the finished ones
        self.tasks.spawn(task);
    }

    /// A handle by which a task of this actor says whether the actor leads those of its role.
    pub fn lead<M: Wire>(&self) -> impl Fn(bool) + Send + Sync + 'static {
        let (myself, group) = (self.myself.clone(), leader_group(M::ROLE));
        move |leads| match leads {
            true => ractor::pg::join(group.clone(), vec![myself.clone()]),
            false => ractor::pg::leave(group.clone(), vec![myself.clone()]),
        }
    }

    /// A handle with which a task of this actor can make the actor end and restart from disk.
    pub fn fail(&self) -> Fail {
        self.fail.clone()
    }
}

/// Ends its actor with an error, from any task or thread.
#[derive(Clone)]
pub struct Fail(Arc<dyn Fn(String) + Send + Sync>);

impl Fail {
    /// A handle that calls `f` with the reason instead (tests).
    #[cfg(test)]
    pub fn from_fn(f: impl Fn(String) + Send + Sync + 'static) -> Self {
        Fail(Arc::new(f))
    }

    /// Ends the actor; its supervisor restarts it from disk.
    pub fn now(&self, why: impl std::fmt::Display) {
        (self.0)(why.to_string());
    }
}

/// The actor that runs a [`Service`].
pub struct Shell<S: Service> {
    service: S,
    cluster: Cluster,
}

impl<S: Service> Shell<S> {
    /// Wraps a service.
    pub fn new(service: S, cluster: Cluster) -> Self {
        Shell { service, cluster }
    }

    async fn serve(
        &self,
        meta: Meta,
        request: S::Req,
        port: RpcReplyPort<Answer<S::Req>>,
        state: &mut ShellState<S>,
    ) -> Result<(), ActorError> {
        if Instant::now() >= meta.scope.deadline {
            let _ = port.send(Err(Nack::Deadline)); // SHELL-1
            return Ok(());
        }
        if state.cx.in_flight.load(Ordering::Relaxed) >= S::MAX_IN_FLIGHT {
            let _ = port.send(Err(Nack::Overload)); // SHELL-2
            return Ok(());
        }
        let reply = Reply { port, in_flight: InFlight::enter(&state.cx.in_flight) };
        let call = Call { scope: meta.scope, key: meta.key, request, reply };
        self.service.handle(&mut state.cx, call, &mut state.inner).await
    }
}

/// The shell's state: the service's own, and what it has at hand.
pub struct ShellState<S: Service> {
    inner: S::State,
    cx: Context,
}

impl<S: Service> Actor for Shell<S> {
    type Msg = Env<S::Req>;
    type State = ShellState<S>;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let to_self = myself.clone();
        let fail = Fail(Arc::new(move |why| {
            let _ = to_self.cast(Env::Fail(why)); // already ended: nothing to end
        }));
        let mut cx = Context {
            myself: myself.get_cell(),
            cluster: self.cluster.clone(),
            tasks: JoinSet::new(),
            in_flight: Arc::new(AtomicUsize::new(0)),
            fail,
        };
        let inner = self.service.start(&mut cx).await?;
        Ok(ShellState { inner, cx })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let role = S::Req::ROLE;
        ractor::pg::join(role.to_owned(), vec![myself.get_cell()]); // SHELL-4
        ractor::pg::join(instance_group(role, self.cluster.instance()), vec![myself.get_cell()]);
        if let Some(period) = S::TICK {
            myself.send_interval(period, || Env::Tick);
        }
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Env::Call(meta, request, port) => self.serve(meta, request, port, state).await,
            Env::Tick => self.service.tick(&mut state.cx, &mut state.inner).await,
            Env::Fail(why) => Err(why.into()),
            Env::Crash(Crash::Panic) => panic!("asked to panic"),
            Env::Crash(Crash::Hang) => std::future::pending().await,
            Env::Observe(port) => {
                let _ = port.send(self.service.observe(&state.inner).to_string());
                Ok(())
            }
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.service.stop(&mut state.cx, &mut state.inner).await;
        Ok(())
    }
}
