//! Openraft, with what we know better: how it stands, the read index, when to ask for votes, and how
//! to stand aside for another leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::ServerState;

use super::log::LogStore;
use super::reads::{LIMIT, ReadError};
use super::types::{LeaderId, Membership, Peer, Raft, ReplicaId};

/// A leader that has not heard a majority for so long refuses commands.
const QUORUM_SILENCE: u64 = 1000;
/// How long a replica that comes back waits to be spoken to before it asks for votes: the others may
/// have gone on without it, and will take it in again.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a leader that stands aside waits for another before it leads on.
const ASIDE: Duration = Duration::from_secs(4);

/// How a replica stands, for `status` and for those who decide on members.
#[derive(Clone, Debug)]
pub struct Status {
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
    /// Whether, as the leader, it hears a majority.
    pub quorum: bool,
    /// Who votes and who learns.
    pub membership: Arc<Membership>,
    /// As the leader: up to where each replica is known to follow.
    pub matched: BTreeMap<ReplicaId, u64>,
}

/// Openraft under one replica. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// It.
    pub raft: Raft,
    own: ReplicaId,
    life: Life,
    alone: Alone,
    /// Whether it lets another lead: then it does nothing that would keep the others from voting.
    aside: Arc<AtomicBool>,
}

impl Engine {
    /// Over openraft as it was just opened on this log.
    pub fn new(raft: Raft, own: ReplicaId, life: Life, log: LogStore) -> Engine {
        Engine { raft, own, life, alone: Alone::new(own, log), aside: Arc::default() }
    }

    /// How it stands now. One that stands aside does not lead.
    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow().clone();
        let leads = metrics.state == ServerState::Leader && !self.stands_aside();
        let nodes = metrics.membership_config.membership();
        let leader = metrics.current_leader.and_then(|id| nodes.get_node(&id).cloned());
        let alone = nodes.voter_ids().count() == 1;
        let heard = metrics.millis_since_quorum_ack.is_some_and(|ms| ms < QUORUM_SILENCE);
        let matched = metrics.replication.into_iter().flatten();
        Status {
            leads,
            leader: leader.filter(|leader| leads || leader.id != self.own),
            term: metrics.current_term,
            last: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            quorum: leads && (alone || heard),
            membership: metrics.membership_config.clone(),
            matched: matched.map(|(id, at)| (id, at.map_or(0, |at| at.index))).collect(),
        }
    }

    /// Whether this replica has applied all that anybody was answered, without asking: so it is
    /// while nobody else votes.
    pub fn is_current(&self) -> bool {
        self.alone.holds(&self.raft)
    }

    /// A barrier was passed that was begun when this replica stood so.
    pub fn passed(&self, before: &Status) {
        self.alone.passed(before);
    }

    /// Up to where a majority had committed when it confirmed that this replica leads.
    ///
    /// # Errors
    /// When it does not lead, or no majority answers.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        if self.stands_aside() {
            return Err(ReadError::Unavailable);
        }
        let leader = *self.raft.metrics().borrow().vote.leader_id();
        let asked = tokio::time::timeout(LIMIT, self.raft.get_read_log_id()).await;
        match asked {
            Ok(Ok((index, _))) => Ok(self.life.at_least(index.map_or(0, |id| id.index), leader)),
            _ => Err(ReadError::Unavailable),
        }
    }

    /// Asks for votes only after others had time to show that they went on.
    pub async fn elect_later(&self) {
        let others = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().voter_ids().any(|id| id != self.own)
        };
        if others {
            self.raft.runtime_config().elect(false);
            let mut metrics = self.raft.metrics();
            let led = metrics.wait_for(|m| m.current_leader.is_some());
            let _ = tokio::time::timeout(SILENCE, led).await; // either way it may now
            self.raft.runtime_config().elect(true);
        }
    }

    /// As the leader, goes silent until another one leads; says whether one does. Openraft 0.9 has
    /// no transfer of leadership: the others vote once they hear nothing.
    pub async fn stand_aside(&self) -> bool {
        self.aside.store(true, Ordering::Release);
        let _on = Resume(self); // also when nobody waits for us any more
        self.raft.runtime_config().heartbeat(false);
        self.raft.runtime_config().elect(false);
        let own = self.own;
        let mut metrics = self.raft.metrics();
        let led = metrics.wait_for(|m| m.current_leader.is_some_and(|leader| leader != own));
        matches!(tokio::time::timeout(ASIDE, led).await, Ok(Ok(_)))
    }

    fn stands_aside(&self) -> bool {
        self.aside.load(Ordering::Acquire)
    }
}

/// Ends standing aside.
struct Resume<'a>(&'a Engine);

impl Drop for Resume<'_> {
    fn drop(&mut self) {
        self.0.raft.runtime_config().heartbeat(true);
        self.0.raft.runtime_config().elect(true);
        self.0.aside.store(false, Ordering::Release);
    }
}

/// Knows whether this replica alone makes the group.
#[derive(Clone)]
struct Alone {
    own: ReplicaId,
    log: LogStore,
    /// The term in which a barrier was passed while it was alone: since then it has applied all.
    term: Arc<AtomicU64>,
}

impl Alone {
    fn new(own: ReplicaId, log: LogStore) -> Self {
        Alone { own, log, term: Arc::new(AtomicU64::new(0)) }
    }

    fn holds(&self, raft: &Raft) -> bool {
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        metrics.current_term == self.term.load(Ordering::Acquire)
            && metrics.state == ServerState::Leader
            && self.votes_alone(&metrics.membership_config)
    }

    /// Openraft tells its membership a little late, the log knows of a wider one before anybody else
    /// can.
    fn votes_alone(&self, membership: &Membership) -> bool {
        let at = membership.log_id().as_ref().map_or(0, |id| id.index);
        let mut voters = membership.membership().voter_ids();
        at >= self.log.shared_at() && voters.next() == Some(self.own) && voters.next().is_none()
    }

    fn passed(&self, before: &Status) {
        if before.leads && self.votes_alone(&before.membership) {
            self.term.store(before.term, Ordering::Release);
        }
    }
}

/// Where the log stood when this replica was opened.
///
/// Openraft lets a leader that was restarted lead on in the same term, and then takes for committed
/// only what the machine has on disk (0.9.25, `Leader::new`): reads could miss what was answered
/// before the crash. In that term all that its log held counts.
#[derive(Clone, Copy)]
pub struct Life {
    leader: Option<LeaderId>,
    last: u64,
}

impl Life {
    /// Of this log, as it is before openraft opens it.
    pub async fn begin(log: &LogStore) -> Result<Life, String> {
        log.end().await.map(|(leader, last)| Life { leader, last })
    }

    fn at_least(self, index: u64, leader: LeaderId) -> u64 {
        if self.leader == Some(leader) { index.max(self.last) } else { index }
    }
}
