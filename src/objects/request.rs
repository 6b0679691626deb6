//! One actor per S3 request and per data-plane connection: supervised, so that a fault (or an
//! operator) can reach a single one.
//!
//! The actors are local: thousands of them come and go without a word to the peers. Their supervisor
//! restarts nothing, since a request has nobody to come back for; it records those that crashed.
//!
//! - `REQ-1` a request whose actor is killed or panics ends with [`Gone`], which the edge answers
//!   with 503; nothing else is touched;
//! - `REQ-2` when the requests' supervisor ends, all its requests end.

use std::future::Future;
use std::sync::{Arc, RwLock};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::Env;
use crate::actors::supervisor::ChildSpec;
use crate::actors::task::TaskActor;
use crate::events::{Event, EventKind, EventLog};

/// The actor of a request ended before the request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's actor was killed")]
pub struct Gone;

/// Where request actors are supervised; shared by the edge and the supervisor tree.
#[derive(Clone, Default)]
pub struct Requests {
    supervisor: Arc<RwLock<Option<ActorCell>>>,
}

impl Requests {
    fn cell(&self) -> Option<ActorCell> {
        self.supervisor.read().expect("no panic while the cell is held").clone()
    }

    /// The supervisor of requests, as a child of its role's supervisor.
    pub fn child(&self, instance: &str, events: &Arc<EventLog>) -> ChildSpec {
        let (requests, instance, events) = (self.clone(), instance.to_owned(), events.clone());
        ChildSpec::local("requests", move |supervisor| {
            let (requests, instance) = (requests.clone(), instance.clone());
            let actor = RequestSupervisor { requests, instance, events: events.clone() };
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, actor, (), supervisor).await?;
                Ok(actor.get_cell())
            })
        })
    }
}

/// Runs the work of one request in an actor of its own.
///
/// # Errors
/// [`Gone`] when the actor ended first.
pub async fn run<T: Send + 'static>(
    env: &Env,
    kind: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Gone> {
    env.requests.run(kind, work).await
}

impl Requests {
    /// Runs some work in an actor of its own.
    ///
    /// # Errors
    /// [`Gone`] when the actor ended first.
    pub async fn run<T: Send + 'static>(
        &self,
        kind: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Gone> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let work = Box::pin(async move {
            let _ = tx.send(work.await); // the client may have gone
        });
        let Some(supervisor) = self.cell() else { return Err(Gone) };
        let spawned = Actor::spawn_linked(None, TaskActor, work, supervisor).await;
        let (actor, _) = spawned.map_err(|_| Gone)?;
        let guard = KillOnDrop(actor.get_cell());
        let done = rx.await.map_err(|_| {
            tracing::warn!(kind, "request ended before it was answered");
            Gone
        });
        drop(guard);
        done
    }
}

/// A client that went away takes its request along.
struct KillOnDrop(ActorCell);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill(); // ended by itself: nothing happens
    }
}

/// The supervisor of requests.
struct RequestSupervisor {
    requests: Requests,
    instance: String,
    events: Arc<EventLog>,
}

/// It is told nothing.
enum Never {}

impl ractor::Message for Never {}

impl Actor for RequestSupervisor {
    type Msg = Never;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Never>, (): ()) -> Result<(), ActorProcessingErr> {
        let mut cell = self.requests.supervisor.write().expect("no panic while the cell is held");
        *cell = Some(myself.get_cell());
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Never>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => {
                let text = error.to_string();
                let event =
                    Event::now(EventKind::ActorEnded, &self.instance, "requests/one", &text);
                self.events.record(event);
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ActorTerminated(..)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::actors::supervisor::restart::{Limits, Strategy};
    use crate::actors::supervisor::{Message, Supervisor, SupervisorSpec};

    async fn start() -> (Requests, ActorRef<Message>, Arc<EventLog>) {
        let (requests, events) = (Requests::default(), Arc::<EventLog>::default());
        let spec = SupervisorSpec {
            name: "node".into(),
            strategy: Strategy::OneForOne,
            limits: Limits::default(),
            children: vec![requests.child("i", &events)],
            instance: "i".into(),
            events: events.clone(),
        };
        let (root, _) = Supervisor::start_root(spec).await.unwrap();
        until(|| requests.cell().is_some()).await;
        (requests, root, events)
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("in time");
    }

    /// Some work that waits to be told, in an actor of its own.
    fn waiting(
        requests: &Requests,
    ) -> (tokio::sync::oneshot::Sender<u32>, tokio::task::JoinHandle<Result<u32, Gone>>) {
        let ((go, wait), requests) = (tokio::sync::oneshot::channel(), requests.clone());
        let work = async move { wait.await.expect("told") };
        (go, tokio::spawn(async move { requests.run("test", work).await }))
    }

    #[tokio::test]
    async fn a_request_that_is_killed_or_panics_is_gone_and_touches_nobody() {
        let (requests, root, events) = start().await;
        let (_never, victim) = waiting(&requests);
        let children = || requests.cell().unwrap().get_children();
        until(|| children().len() == 1).await;
        let cell = children().remove(0);
        let (go, sibling) = waiting(&requests);
        cell.kill();
        assert_eq!(victim.await.unwrap(), Err(Gone)); // REQ-1
        let panics = requests.run("test", async { panic!("in a request") }).await;
        assert_eq!(panics, Err::<(), _>(Gone));
        go.send(7).unwrap();
        assert_eq!(sibling.await.unwrap(), Ok(7));
        until(|| events.since(0, 100).iter().any(|e| e.detail.contains("in a request"))).await;
        until(|| children().is_empty()).await;
        root.stop(None);
    }

    #[tokio::test]
    async fn requests_end_with_their_supervisor_and_new_ones_run_under_its_next_life() {
        let (requests, root, _events) = start().await;
        let (_never, victim) = waiting(&requests);
        let before = requests.cell().unwrap();
        until(|| before.get_children().len() == 1).await;
        before.kill();
        assert_eq!(victim.await.unwrap(), Err(Gone)); // REQ-2
        until(|| requests.cell().is_some_and(|cell| cell.get_id() != before.get_id())).await;
        assert_eq!(requests.run("test", async { 8 }).await, Ok(8));
        root.stop(None);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_takes_its_request_along() {
        let (requests, root, _events) = start().await;
        let (go, client) = waiting(&requests);
        until(|| requests.cell().unwrap().get_children().len() == 1).await;
        client.abort();
        until(|| go.is_closed()).await;
        root.stop(None);
    }
}
