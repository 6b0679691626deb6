//! How replicas reach each other: an actor per replica, called over the cluster's sessions; images
//! over the data plane.
//!
//! - `TALK-1` a replica takes nothing that was meant for another group, or for another replica: one
//!   that lost its disk has another id, and what its predecessor promised binds nobody.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::images::{ImagePlane, ImageSource};
use super::log::LogStore;
pub use super::machine::Digest;
use super::message::{Rpc, RpcReply};
use super::network::{Carrier, CarrierError};
use super::types::{ImageMeta, Peer, ReplicaId, Vote};
use crate::cluster::{Cluster, Scope, To, Wire};

/// A kind of group: one a service with state. A cluster has one group of each kind.
pub trait Group: Clone + Debug + Send + Sync + 'static {
    /// Its name in messages to people.
    const NAME: &'static str;
    /// The process group of its replicas' actors.
    const ROLE: &'static str;
}

/// What is said to a replica of a group of kind `G`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
#[expect(clippy::large_enum_variant, reason = "built once per call, then serialized or moved once")]
pub enum Message<G> {
    /// Said to one replica of one group.
    Member {
        /// The group.
        group: u128,
        /// The replica.
        to: ReplicaId,
        /// What.
        ask: Ask,
    },
    /// Asked of whoever is there.
    Stranger(Question, PhantomData<fn() -> G>),
}

/// What members of a group ask each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Consensus.
    Rpc(Rpc),
    /// Take this image in place of your state; answered [`Answer::Taken`].
    Image {
        /// In the name of this leader.
        vote: Vote,
        /// What it holds.
        meta: ImageMeta,
        /// Where it is.
        source: ImageSource,
    },
    /// Let me go: I stop. For the leader; answered [`Answer::Done`] once the group counts on it no
    /// longer.
    Leave(ReplicaId),
}

/// What anybody may ask a replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// How do you stand? Answered [`Answer::Standing`].
    Standing,
    /// Let your group go on without you: your node stops. Asked by the own node; answered
    /// [`Answer::Done`] once the group counts on it no longer.
    Depart,
    /// I would found the group: found none yourself, and help nobody else to; answered
    /// [`Answer::Promised`].
    Found {
        /// Who.
        founder: ReplicaId,
    },
    /// Read all your state and make a digest of it. Answered [`Answer::Digest`].
    Digest,
}

/// How a replica stands, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Who it is.
    pub id: ReplicaId,
    /// The group that it belongs to; none: its disk is new.
    pub group: Option<u128>,
    /// Whether it leads.
    pub leads: bool,
    /// Who leads, as far as it knows.
    pub leader: Option<Peer>,
    /// The term.
    pub term: u64,
    /// The last entry in its log.
    pub last: u64,
    /// The last entry that it applied.
    pub applied: u64,
    /// Who votes, as far as it knows.
    pub voters: Vec<Peer>,
    /// Who learns, as far as it knows.
    pub learners: Vec<Peer>,
}

/// An answer of a replica.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Ask::Rpc`].
    Rpc(RpcReply),
    /// To [`Ask::Image`]: the vote that it knows of.
    Taken(Vote),
    /// To [`Ask::Leave`].
    Done,
    /// To [`Question::Standing`].
    Standing(Standing),
    /// To [`Question::Found`].
    Promised(bool),
    /// It was meant for somebody else (TALK-1).
    Stranger,
    /// It was meant for the leader.
    NotLeader,
    /// It could not.
    Failed(String),
    /// To [`Question::Digest`].
    Digest(Digest),
}

impl<G: Group> Wire for Message<G> {
    type Reply = Answer;
    const VERSION: u16 = 1;
    const ROLE: &'static str = G::ROLE;

    fn kind(&self) -> &'static str {
        match self {
            Message::Member { ask: Ask::Rpc(rpc), .. } => rpc.kind(),
            Message::Member { ask: Ask::Image { .. }, .. } => "image",
            Message::Member { ask: Ask::Leave(_), .. } => "leave",
            Message::Stranger(Question::Standing, _) => "standing",
            Message::Stranger(Question::Depart, _) => "depart",
            Message::Stranger(Question::Digest, _) => "digest",
            Message::Stranger(Question::Found { .. }, _) => "found",
        }
    }

    fn outcome(answer: &Answer) -> &'static str {
        match answer {
            Answer::Stranger => "stranger",
            Answer::Failed(_) => "failed",
            Answer::NotLeader | Answer::Rpc(RpcReply::NotLeader) => "not_leader",
            Answer::Rpc(RpcReply::Failed(_)) => "failed",
            _ => "ok",
        }
    }
}

/// Asks the replica of an instance how it stands.
pub async fn standing<G: Group>(
    cluster: &Cluster,
    instance: &str,
    limit: Duration,
) -> Option<Standing> {
    let ask = Message::<G>::Stranger(Question::Standing, PhantomData);
    match cluster.call(&Scope::new(limit), To::Instance(instance), ask).await {
        Ok(Answer::Standing(standing)) => Some(standing),
        _ => None,
    }
}

/// Lets the group of the own replica go on without it.
///
/// # Errors
/// The text says why it does not.
pub async fn depart<G: Group>(cluster: &Cluster, scope: &Scope) -> Result<(), String> {
    let ask = Message::<G>::Stranger(Question::Depart, PhantomData);
    match cluster.call(scope, To::Instance(cluster.instance()), ask).await {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Failed(why)) => Err(why),
        Ok(other) => Err(format!("unexpected answer {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Has the replica of an instance read all its state.
pub async fn digest<G: Group>(
    cluster: &Cluster,
    instance: &str,
    limit: Duration,
) -> Option<Digest> {
    let ask = Message::<G>::Stranger(Question::Digest, PhantomData);
    match cluster.call(&Scope::new(limit), To::Instance(instance), ask).await {
        Ok(Answer::Digest(digest)) => Some(digest),
        _ => None,
    }
}

/// Carries messages of one replica to the others, by actor calls.
pub struct ActorCarrier<G> {
    cluster: Cluster,
    log: LogStore,
    images: Arc<ImagePlane>,
    group: PhantomData<fn() -> G>,
}

impl<G> Clone for ActorCarrier<G> {
    fn clone(&self) -> Self {
        let (cluster, log, images) = (self.cluster.clone(), self.log.clone(), self.images.clone());
        ActorCarrier { cluster, log, images, group: PhantomData }
    }
}

impl<G: Group> ActorCarrier<G> {
    /// The carrier of the replica with this log.
    pub fn new(cluster: Cluster, log: LogStore, images: Arc<ImagePlane>) -> Self {
        ActorCarrier { cluster, log, images, group: PhantomData }
    }

    /// The group of the own replica.
    pub fn group(&self) -> Option<u128> {
        self.log.group()
    }

    /// Asks another replica of the own group.
    ///
    /// # Errors
    /// When no answer came, or the replica is not the one that was meant.
    pub async fn ask(&self, to: &Peer, ask: Ask, limit: Duration) -> Result<Answer, CarrierError> {
        let group = self.log.group().ok_or_else(|| CarrierError("in no group".into()))?;
        let message = Message::<G>::Member { group, to: to.id, ask };
        let scope = Scope::new(limit);
        match self.cluster.call(&scope, To::Instance(&to.instance), message).await {
            Ok(Answer::Stranger) => Err(CarrierError(format!("{} is another now", to.instance))),
            Ok(Answer::Failed(why)) => Err(CarrierError(why)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(CarrierError(error.to_string())),
        }
    }
}

impl<G: Group> Carrier for ActorCarrier<G> {
    async fn call(&self, to: &Peer, rpc: Rpc, limit: Duration) -> Result<RpcReply, CarrierError> {
        match self.ask(to, Ask::Rpc(rpc), limit).await? {
            Answer::Rpc(reply) => Ok(reply),
            other => Err(CarrierError(format!("unexpected answer {other:?}"))),
        }
    }

    async fn image(
        &self,
        to: &Peer,
        vote: Vote,
        meta: ImageMeta,
        file: PathBuf,
        limit: Duration,
    ) -> Result<Vote, CarrierError> {
        let offer = self.images.offer(file).await.map_err(|e| CarrierError(e.to_string()))?;
        let ask = Ask::Image { vote, meta, source: offer.source.clone() };
        match self.ask(to, ask, limit).await? {
            Answer::Taken(vote) => Ok(vote),
            other => Err(CarrierError(format!("unexpected answer {other:?}"))),
        }
    }
}
