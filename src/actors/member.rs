//! The member actor: what a node tells its peers about itself beyond the handshake.
//!
//! Every node runs one. It shows the node's actor tree and its events, and takes the goodbye of a
//! peer that leaves in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::supervisor::{self, ActorNode};
use crate::cluster::codec::MESSAGE_LIMIT;
use crate::cluster::{ActorError, Call, Cluster, Context, Scope, Service, To, Wire};
use crate::events::{Event, EventLog};
use crate::replica::KnownGroups;

/// How long a node may take to ask its own tree.
const OBSERVE_LIMIT: Duration = Duration::from_secs(1);
/// How often a node listens for groups.
const LISTEN: Duration = Duration::from_secs(2);
/// Room for the rest of a reply beside a text.
const TEXT_LIMIT: usize = MESSAGE_LIMIT as usize - 1024;

/// A request to a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Your actor tree.
    Actors,
    /// Your events above this number, at most 200.
    Events {
        /// The number that the asker has seen.
        after: u64,
    },
    /// I leave in order.
    Goodbye {
        /// Who leaves.
        instance: String,
    },
    /// The groups of replicas that you have heard of.
    Groups,
}

/// An answer of a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MemberReply {
    /// The tree as JSON (a list of [`ActorNode`]).
    Actors(String),
    /// Some events, oldest first.
    Events(Vec<Event>),
    /// Heard.
    Done,
    /// The ids of the groups, one a service.
    Groups(BTreeMap<crate::types::Service, u128>),
}

impl Wire for Message {
    type Reply = MemberReply;
    const VERSION: u16 = 1;
    const ROLE: &'static str = "member";

    fn kind(&self) -> &'static str {
        match self {
            Message::Actors => "actors",
            Message::Events { .. } => "events",
            Message::Goodbye { .. } => "goodbye",
            Message::Groups => "groups",
        }
    }
}

/// Where the root supervisor is, once it stands.
pub type Root = watch::Receiver<Option<ActorRef<supervisor::Message>>>;

/// The service.
#[derive(Clone)]
pub struct Member {
    /// The root of the node's tree.
    pub root: Root,
    /// The node's events.
    pub events: Arc<EventLog>,
    /// The groups that the node has heard of.
    pub known: Arc<KnownGroups>,
}

impl Service for Member {
    type Req = Message;
    type State = ();

    async fn start(&self, _cx: &mut Context) -> Result<(), ActorError> {
        Ok(())
    }

    async fn handle(
        &self,
        cx: &mut Context,
        call: Call<Message>,
        _state: &mut (),
    ) -> Result<(), ActorError> {
        match call.request {
            Message::Actors => {
                let root = self.root.clone();
                cx.spawn(async move {
                    let mut tree = tree(&root).await;
                    let mut text = serde_json::to_string(&tree).unwrap_or_default();
                    if text.len() > TEXT_LIMIT {
                        drop_summaries(&mut tree);
                        text = serde_json::to_string(&tree).unwrap_or_default();
                    }
                    call.reply.send(MemberReply::Actors(text));
                });
            }
            Message::Events { after } => {
                let mut events = self.events.since(after, 200);
                events.iter_mut().for_each(|e| e.detail.truncate(floor(&e.detail, 512)));
                call.reply.send(MemberReply::Events(events));
            }
            Message::Groups => call.reply.send(MemberReply::Groups(self.known.all())),
            Message::Goodbye { instance } => {
                cx.cluster().table().left(&instance);
                call.reply.send(MemberReply::Done);
            }
        }
        Ok(())
    }
}

/// The last character boundary at or below `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

fn drop_summaries(tree: &mut [ActorNode]) {
    for node in tree {
        node.summary = serde_json::Value::Null;
        drop_summaries(&mut node.children);
    }
}

/// The own node's tree.
pub async fn tree(root: &Root) -> Vec<ActorNode> {
    let Some(root) = root.borrow().clone() else { return Vec::new() };
    let answer = root.call(supervisor::Message::Observe, Some(OBSERVE_LIMIT)).await;
    answer.ok().and_then(|a| a.success_or(()).ok()).unwrap_or_default()
}

/// A peer's tree, or nothing where it does not answer.
pub async fn tree_of(cluster: &Cluster, instance: &str) -> Option<Vec<ActorNode>> {
    let scope = Scope::new(2 * OBSERVE_LIMIT);
    match cluster.call(&scope, To::Instance(instance), Message::Actors).await {
        Ok(MemberReply::Actors(text)) => serde_json::from_str(&text).ok(),
        _ => None,
    }
}

/// What the other live members that run a service have heard of groups; `None` for one that does not
/// answer.
pub async fn groups_of_others(
    cluster: &Cluster,
    limit: Duration,
) -> Vec<(String, Option<BTreeMap<crate::types::Service, u128>>)> {
    let scope = Scope::new(limit);
    let others = cluster.members().into_iter();
    let others = others.filter(|m| m.instance != cluster.instance() && !m.services.is_empty());
    let asked = others.map(|m| async move {
        let answer = cluster.call(&scope, To::Instance(&m.instance), Message::Groups).await;
        let known = match answer {
            Ok(MemberReply::Groups(known)) => Some(known),
            _ => None,
        };
        (m.instance, known)
    });
    futures::future::join_all(asked).await
}

/// Listens for groups that this node has not heard of yet, for ever.
pub async fn listen(cluster: Cluster, known: Arc<KnownGroups>) {
    let unheard = |s: &&crate::types::Service| known.get(**s).is_none();
    loop {
        if crate::types::Service::REPLICATED.iter().any(|s| unheard(&s)) {
            for (_, groups) in groups_of_others(&cluster, LISTEN).await {
                known.heard(&groups.unwrap_or_default());
            }
        }
        tokio::time::sleep(LISTEN).await;
    }
}

/// Says goodbye to all live peers, in at most `limit`.
pub async fn say_goodbye(cluster: &Cluster, limit: Duration) {
    let scope = Scope::new(limit);
    let own = cluster.instance().to_owned();
    let tell = cluster.members().into_iter().filter(|m| m.instance != own).map(|peer| {
        let goodbye = Message::Goodbye { instance: own.clone() };
        async move { cluster.call(&scope, To::Instance(&peer.instance), goodbye).await }
    });
    for error in futures::future::join_all(tell).await.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a peer did not hear the goodbye");
    }
}
