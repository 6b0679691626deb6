//! Watches the role supervisors of the peers: their end is an event on this node, with its cause.
//!
//! Remote actors are monitored, never linked: a link would take the mirror actor away from its
//! session. The monitor tells only that it ended; the cause is asked from the peer, or is the end of
//! the session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::member::{self, MemberReply};
use super::supervisor::{ChildSpec, supervisor_group};
use crate::cluster::{Cluster, MemberEvent, Scope, To};
use crate::events::{Event, EventKind, EventLog};

/// How often new supervisors are looked for.
const INTERVAL: Duration = Duration::from_millis(500);

/// What the watcher tells itself.
pub enum Message {
    /// Look for supervisors that are not watched yet.
    Look,
}

impl ractor::Message for Message {}

/// The actor.
pub struct Watch {
    cluster: Cluster,
    events: Arc<EventLog>,
}

/// Whom it watches: instance and role of each supervisor.
type Watched = HashMap<ActorId, (String, String)>;

impl Actor for Watch {
    type Msg = Message;
    type State = Watched;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (): (),
    ) -> Result<Watched, ActorProcessingErr> {
        myself.send_interval(INTERVAL, || Message::Look);
        Ok(Watched::new())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        _: Message,
        watched: &mut Watched,
    ) -> Result<(), ActorProcessingErr> {
        let own = self.cluster.instance().to_owned();
        for peer in self.cluster.members().into_iter().filter(|m| m.instance != own) {
            for service in &peer.services {
                let role = service.short();
                for cell in ractor::pg::get_members(&supervisor_group(role, &peer.instance)) {
                    let row = (peer.instance.clone(), role.to_owned());
                    if watched.insert(cell.get_id(), row).is_none() {
                        myself.get_cell().monitor(cell);
                    }
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Message>,
        event: SupervisionEvent,
        watched: &mut Watched,
    ) -> Result<(), ActorProcessingErr> {
        let (SupervisionEvent::ActorTerminated(cell, ..) | SupervisionEvent::ActorFailed(cell, _)) =
            event
        else {
            return Ok(());
        };
        if let Some((instance, role)) = watched.remove(&cell.get_id()) {
            let (cluster, events) = (self.cluster.clone(), self.events.clone());
            tokio::spawn(async move {
                let cause = cause(&cluster, &instance, &role).await;
                let subject = format!("{role}@{instance}");
                let kind = EventKind::PeerSupervisorEnded;
                events.record(Event::now(kind, cluster.instance(), &subject, &cause));
            });
        }
        Ok(())
    }
}

/// Why the supervisor ended: the peer's own word, or its silence.
async fn cause(cluster: &Cluster, instance: &str, role: &str) -> String {
    let scope = Scope::new(Duration::from_secs(1));
    let ask = member::Message::Events { after: 0 };
    match cluster.call(&scope, To::Instance(instance), ask).await {
        Ok(MemberReply::Events(events)) => {
            let about = |e: &&Event| {
                let ended = matches!(e.kind, EventKind::Escalated | EventKind::ActorEnded);
                ended && e.subject.ends_with(&format!("/{role}"))
            };
            let last = events.iter().rev().find(about).map(|e| e.detail.clone());
            last.unwrap_or_else(|| "ended; the peer does not say why".into())
        }
        Ok(_) | Err(_) => "its node was lost".into(),
    }
}

/// The watcher as a child of the root supervisor.
pub fn child(cluster: &Cluster, events: &Arc<EventLog>) -> ChildSpec {
    let (cluster, events) = (cluster.clone(), events.clone());
    ChildSpec::local("watch", move |supervisor: ActorCell| {
        let watch = Watch { cluster: cluster.clone(), events: events.clone() };
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, watch, (), supervisor).await?;
            Ok(actor.get_cell())
        })
    })
}

/// Records members coming and going, for ever.
pub async fn record_members(cluster: Cluster, events: Arc<EventLog>) {
    let mut changes = cluster.table().subscribe();
    loop {
        let (kind, info, detail) = match changes.recv().await {
            Ok(MemberEvent::Joined(info)) => (EventKind::MemberJoined, info, String::new()),
            Ok(MemberEvent::Lost(info, cause)) => (EventKind::MemberLost, info, cause),
            Ok(MemberEvent::Left(info)) => (EventKind::MemberLeft, info, "said goodbye".into()),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        };
        events.record(Event::now(kind, cluster.instance(), &info.instance, &detail));
    }
}
