//! How a group comes to be, exactly once.
//!
//! - `FOUND-1` only a replica with a new disk founds, and only when as many new ones as are expected
//!   are in session and none of them belongs to a group;
//! - `FOUND-2` each of them has promised not to help another founder, for as long as the founding may
//!   take. Of two that would found, the lower id goes first;
//! - `FOUND-4` no node in session has heard of a group of this kind, nor has Consul, where it is used;
//! - `FOUND-3` a group begins to work only when a majority of the replicas it was founded with belong
//!   to it: a founder that crashes early leaves no second group behind.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::actor::Home;
use super::group::Replica;
use super::log::{LogStore, Voters};
use super::machine::Machine;
use super::talk::{Answer, Group, Message, Question, Standing, standing};
use super::types::{Peer, ReplicaId};
use crate::cluster::{Cluster, Scope, To};

/// How long a promise binds. Founding takes less.
const BINDS: Duration = Duration::from_secs(5);
/// How long others have to answer.
const LIMIT: Duration = Duration::from_secs(1);
/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(100);

/// Asks whether the replica of this id may found a group now; the text says why not.
pub type MayFound =
    Arc<dyn Fn(u128) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Whom this replica has promised to let found.
#[derive(Debug, Default)]
pub struct Promise(Option<(ReplicaId, Instant)>);

impl Promise {
    /// Promises it to this one, unless it is promised to another.
    pub fn give(&mut self, founder: ReplicaId, now: Instant) -> bool {
        let bound = self.0.is_some_and(|(to, at)| to != founder && now.duration_since(at) < BINDS);
        if !bound {
            self.0 = Some((founder, now));
        }
        !bound
    }
}

/// What a new replica makes of what the others say.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// Not enough are here.
    Few,
    /// There is a group: it will take us in.
    Group,
    /// Another one founds.
    NotMine,
    /// We found.
    Mine,
}

/// Decides who founds (FOUND-1).
pub fn find(own: ReplicaId, expect: usize, others: &[Standing]) -> Finding {
    if others.iter().any(|other| other.group.is_some()) {
        return Finding::Group;
    }
    match others.len() + 1 {
        here if here < expect => Finding::Few,
        _ if others.iter().any(|other| other.id < own) => Finding::NotMine,
        _ => Finding::Mine,
    }
}

/// Founds the group if that is up to this replica; done once it belongs to one.
pub async fn founding<G: Group, M: Machine>(
    replica: Replica<M>,
    log: LogStore,
    cluster: Cluster,
    home: Arc<Home<M>>,
    promise: Arc<Mutex<Promise>>,
) {
    let mut said = String::new();
    while log.group().is_none() {
        let peers: Vec<String> = super::steward::instances(&cluster, home.service);
        let asked = peers.iter().map(|peer| async {
            standing::<G>(&cluster, peer, LIMIT).await.map(|standing| (peer.clone(), standing))
        });
        let others: Vec<_> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        let standings: Vec<Standing> = others.iter().map(|(_, s)| s.clone()).collect();
        let mine = find(replica.id(), home.expect, &standings) == Finding::Mine;
        if mine
            && may_found(&home, &replica, &mut said).await
            && promised::<G, M>(&replica, &cluster, &peers, &promise).await
        {
            let peer = |(instance, s): (String, Standing)| Peer { id: s.id, instance };
            let voters = founders(replica.own(), others.into_iter().map(peer));
            match log.found(rand::random(), voters).await {
                Ok(()) => tracing::info!(group = G::NAME, "group founded"),
                Err(error) => tracing::warn!(group = G::NAME, error, "group not founded"),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
    if let Some(group) = log.group() {
        home.known.is_of(home.service, group);
    }
    if let Err(error) = begin(&replica, &log).await {
        tracing::error!(group = G::NAME, error, "the new group does not begin");
    }
}

/// FOUND-4; says why not, once.
async fn may_found<M: Machine>(home: &Home<M>, replica: &Replica<M>, said: &mut String) -> bool {
    match (home.may_found)(replica.id().0).await {
        Ok(()) => true,
        Err(why) => {
            if *said != why {
                tracing::info!(service = %home.service, why, "no group is founded yet");
                *said = why;
            }
            false
        }
    }
}

/// Who votes at first: the founder and as many others as make an odd number (FOUND-3).
fn founders(own: &Peer, others: impl Iterator<Item = Peer>) -> Voters {
    let mut all: Vec<Peer> = others.collect();
    all.sort_by_key(|peer| peer.id);
    let count = super::plan::odd(all.len() + 1);
    let first = std::iter::once(own.clone()).chain(all).take(count);
    first.map(|peer| (peer.id, peer)).collect()
}

/// Writes the first entry of a group that this replica founded, if it has not done so before.
async fn begin<M: Machine>(replica: &Replica<M>, log: &LogStore) -> Result<(), String> {
    match log.founders().await? {
        Some(voters) => replica.initialize(voters).await,
        None => Ok(()),
    }
}

/// FOUND-2.
async fn promised<G: Group, M: Machine>(
    replica: &Replica<M>,
    cluster: &Cluster,
    peers: &[String],
    own: &Mutex<Promise>,
) -> bool {
    let founder = replica.id();
    if !own.lock().expect("no panic while it is held").give(founder, Instant::now()) {
        return false;
    }
    let ask = |peer: String| async move {
        let ask = Message::<G>::Stranger(Question::Found { founder }, PhantomData);
        let answer = cluster.call(&Scope::new(LIMIT), To::Instance(&peer), ask).await;
        matches!(answer, Ok(Answer::Promised(true)))
    };
    let answers = futures::future::join_all(peers.iter().cloned().map(ask)).await;
    answers.into_iter().all(|promised| promised)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(id: u128) -> Standing {
        Standing {
            id: ReplicaId(id),
            group: None,
            leads: false,
            leader: None,
            term: 0,
            last: 0,
            applied: 0,
            voters: Vec::new(),
            learners: Vec::new(),
        }
    }

    #[test]
    fn the_lowest_of_enough_new_ones_founds_and_nobody_where_there_is_a_group() {
        let own = ReplicaId(5);
        let member = Standing { group: Some(1), ..new(9) };
        assert_eq!(find(own, 1, &[]), Finding::Mine);
        assert_eq!(find(own, 3, &[new(6)]), Finding::Few);
        assert_eq!(find(own, 3, &[new(6), new(7)]), Finding::Mine);
        assert_eq!(find(own, 3, &[new(4), new(7)]), Finding::NotMine);
        assert_eq!(find(own, 3, &[new(6), member.clone(), new(7)]), Finding::Group);
        assert_eq!(find(own, 1, &[member]), Finding::Group);
    }

    #[test]
    fn the_founder_votes_at_first_with_as_many_others_as_make_it_odd() {
        let peer = |n: u128| Peer { id: ReplicaId(n), instance: n.to_string() };
        for (all, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (7, 5)] {
            let founders = founders(&peer(1), (2..=all).map(peer));
            assert_eq!(founders.len(), voters, "of {all}");
            assert!(founders.contains_key(&ReplicaId(1)));
        }
    }

    #[test]
    fn a_promise_binds_to_one_founder_for_a_while() {
        let (mut promise, now) = (Promise::default(), Instant::now());
        assert!(promise.give(ReplicaId(1), now));
        assert!(promise.give(ReplicaId(1), now), "asked again");
        assert!(!promise.give(ReplicaId(2), now + BINDS / 2));
        assert!(promise.give(ReplicaId(2), now + BINDS));
    }
}
