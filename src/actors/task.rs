//! An actor that runs one future: workers, relays and single requests, where a supervisor, a kill or
//! a fault must be able to reach them.
//!
//! Its message type is local: thousands of them come and go without being told to the peers.
//!
//! - `TASK-1` killing the actor drops the future at its next await;
//! - `TASK-2` a panic in the future ends the actor with an error that its supervisor sees.

use std::future::Future;
use std::pin::Pin;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};

use super::supervisor::ChildSpec;

/// The future that the actor runs.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The one message: run what you were given.
pub struct Run(Work);

impl ractor::Message for Run {}

/// The actor.
pub struct TaskActor;

impl Actor for TaskActor {
    type Msg = Run;
    type State = ();
    type Arguments = Work;

    async fn pre_start(&self, myself: ActorRef<Run>, work: Work) -> Result<(), ActorProcessingErr> {
        myself.cast(Run(work))?;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Run>,
        Run(work): Run,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        work.await;
        myself.stop(Some("done".into()));
        Ok(())
    }
}

/// A child that runs a future which is made anew at every start and is not expected to end.
pub fn child(name: &str, make: impl Fn() -> Work + Send + Sync + 'static) -> ChildSpec {
    let start = move |supervisor: ActorCell| -> Pin<Box<dyn Future<Output = _> + Send>> {
        let work = make();
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, TaskActor, work, supervisor).await?;
            Ok(actor.get_cell())
        })
    };
    ChildSpec::local(name, start)
}
