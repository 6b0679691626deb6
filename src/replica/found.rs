//! How a group comes to be, exactly once.
//!
//! - `FOUND-1` only a replica with a new disk founds, and only when as many new ones as are expected
//!   are in session and none of them belongs to a group;
//! - `FOUND-2` each of them has promised not to help another founder, for as long as the founding may
//!   take. Of two that would found, the lower id goes first;
//! - `FOUND-4` no node in session has heard of a group of this kind, nor has Consul, where it is used;
//! - `FOUND-5` a group begins only once all in session have taken note of it, so that they found no
//!   other should the founder be gone; one whose founder was gone before is given up where there is
//!   another by then;
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

/// What a replica would do.
#[derive(Clone, Copy, Debug)]
pub enum Intent {
    /// The one of this id founds a group (FOUND-4).
    Found(u128),
    /// The group of this id begins, which it founded (FOUND-5).
    Begin(u128),
}

/// Why it may not.
#[derive(Clone, Debug)]
pub enum Doubt {
    /// Not yet, and why.
    Wait(String),
    /// There is another group.
    Another(String),
}

/// Asks whether a replica may do that now.
pub type MayFound =
    Arc<dyn Fn(Intent) -> Pin<Box<dyn Future<Output = Result<(), Doubt>> + Send>> + Send + Sync>;

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

/// Founds the group if that is up to this replica; done once it belongs to one that works.
pub async fn founding<G: Group, M: Machine>(
    replica: Replica<M>,
    log: LogStore,
    cluster: Cluster,
    home: Arc<Home<M>>,
    promise: Arc<Mutex<Promise>>,
) {
    let mut said = String::new();
    loop {
        let Some(group) = log.group() else {
            found_one::<G, M>(&replica, &log, &cluster, (&home, &promise), &mut said).await;
            tokio::time::sleep(INTERVAL).await;
            continue;
        };
        match begin(&replica, &log, &home, group, &mut said).await {
            Ok(true) => return home.known.is_of(home.service, group),
            Ok(false) => tracing::warn!(group = G::NAME, "the group that was founded is given up"),
            Err(error) => {
                return tracing::error!(group = G::NAME, error, "the new group does not begin");
            }
        }
    }
}

/// Looks once whether to found a group, and does so.
async fn found_one<G: Group, M: Machine>(
    replica: &Replica<M>,
    log: &LogStore,
    cluster: &Cluster,
    (home, promise): (&Home<M>, &Mutex<Promise>),
    said: &mut String,
) {
    let peers: Vec<String> = super::steward::instances(cluster, home.service);
    let asked = peers.iter().map(|peer| async {
        standing::<G>(cluster, peer, LIMIT).await.map(|standing| (peer.clone(), standing))
    });
    let others: Vec<_> = futures::future::join_all(asked).await.into_iter().flatten().collect();
    let standings: Vec<Standing> = others.iter().map(|(_, s)| s.clone()).collect();
    let mine = find(replica.id(), home.expect, &standings) == Finding::Mine;
    if mine
        && allowed(home, Intent::Found(replica.id().0), said).await == Some(true)
        && promised::<G, M>(replica, cluster, &peers, promise).await
    {
        let peer = |(instance, s): (String, Standing)| Peer { id: s.id, instance };
        let voters = founders(replica.own(), others.into_iter().map(peer));
        match log.found(rand::random(), voters).await {
            Ok(()) => tracing::info!(group = G::NAME, "group founded"),
            Err(error) => tracing::warn!(group = G::NAME, error, "group not founded"),
        }
    }
}

/// Whether a replica may do that; `None`: not yet, which is said once.
async fn allowed<M: Machine>(home: &Home<M>, intent: Intent, said: &mut String) -> Option<bool> {
    let (why, answer) = match (home.may_found)(intent).await {
        Ok(()) => return Some(true),
        Err(Doubt::Wait(why)) => (why, None),
        Err(Doubt::Another(why)) => (why, Some(false)),
    };
    if *said != why {
        tracing::info!(service = %home.service, why, "no group is founded yet");
        *said = why;
    }
    answer
}

/// Who votes at first: the founder and as many others as make an odd number (FOUND-3).
fn founders(own: &Peer, others: impl Iterator<Item = Peer>) -> Voters {
    let mut all: Vec<Peer> = others.collect();
    all.sort_by_key(|peer| peer.id);
    let count = super::plan::odd(all.len() + 1);
    let first = std::iter::once(own.clone()).chain(all).take(count);
    first.map(|peer| (peer.id, peer)).collect()
}

/// Writes the first entry of a group that this replica founded, if it has not done so before; false:
/// there is another (FOUND-5).
async fn begin<M: Machine>(
    replica: &Replica<M>,
    log: &LogStore,
    home: &Home<M>,
    group: u128,
    said: &mut String,
) -> Result<bool, String> {
    let Some(voters) = log.founders().await? else { return Ok(true) };
    if replica.raft().is_initialized().await.map_err(|e| e.to_string())? {
        return Ok(true);
    }
    home.known.founds(home.service, Some(group));
    loop {
        match allowed(home, Intent::Begin(group), said).await {
            Some(true) => break,
            Some(false) => {
                home.known.founds(home.service, None);
                return log.give_up().await.map(|()| false);
            }
            None => tokio::time::sleep(INTERVAL).await,
        }
    }
    replica.initialize(voters).await.map(|()| true)
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
    use crate::replica::Synced;

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

    #[tokio::test]
    async fn a_group_that_is_given_up_leaves_the_replica_as_new_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        let open = || LogStore::open_file(&path, Synced::Always, Arc::new(())).unwrap();
        let log = open();
        let id = log.id();
        log.found(1, Voters::new()).await.unwrap();
        assert!(log.found(2, Voters::new()).await.is_err(), "it has founded one");
        log.give_up().await.unwrap();
        assert_eq!((log.group(), log.founders().await), (None, Ok(None)));
        drop(log);
        let log = open();
        assert_eq!((log.id(), log.group()), (id, None));
        assert!(log.is_of(3).await, "another group takes it in");
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
