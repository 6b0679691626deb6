//! Looks after the members of a group, on its leader: takes in who comes, lets go who leaves, and
//! carries out what [`plan`] decides.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use tokio::sync::{mpsc, oneshot};

use super::engine::Status;
use super::group::Replica;
use super::machine::Machine;
use super::plan::{self, Seen, Step, View};
use super::talk::{ActorCarrier, Group, Standing, standing};
use super::types::{Peer, ReplicaId};
use crate::cluster::Cluster;
use crate::events::{Event, EventKind, EventLog};
use crate::types::Service;

/// How often the leader looks.
const INTERVAL: Duration = Duration::from_millis(300);
/// How long others have to say how they stand.
const ASK_LIMIT: Duration = Duration::from_millis(500);
/// How long a step may take before the next look.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// How long is waited for others that leave, too, before one is let go.
const GATHER: Duration = Duration::from_millis(400);
/// One that is so few entries behind has caught up.
const LEVEL: u64 = 512;

/// What one is told that may not leave.
pub const ENDS: &str = "the group would not go on: too few would be left";

/// A replica that asks to leave.
pub struct Leave {
    /// Who.
    pub id: ReplicaId,
    /// Told once the group counts on it no longer, or why not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// The other live instances of a service.
pub fn instances(cluster: &Cluster, service: Service) -> Vec<String> {
    let others = cluster.members().into_iter().filter(|m| m.instance != cluster.instance());
    others.filter(|m| m.services.contains(&service)).map(|m| m.instance).collect()
}

/// What it works with.
pub struct Steward<G, M: Machine> {
    /// The replica that may lead.
    pub replica: Replica<M>,
    /// The way to the others.
    pub carrier: ActorCarrier<G>,
    /// Who is in session.
    pub cluster: Cluster,
    /// The service whose instances are taken in.
    pub service: Service,
    /// How long one may be away before another takes its place.
    pub remove_after: Duration,
    /// Where changes are told.
    pub events: std::sync::Arc<EventLog>,
}

/// What the leader remembers between two looks.
#[derive(Default)]
struct Memory {
    leads_in: Option<u64>,
    away_since: HashMap<ReplicaId, Instant>,
    leaving: BTreeMap<ReplicaId, (Instant, Vec<Leave>)>,
}

impl<G: Group, M: Machine> Steward<G, M> {
    /// Looks for ever.
    pub async fn run(self, mut asked: mpsc::Receiver<Leave>) {
        let mut memory = Memory::default();
        loop {
            tokio::select! {
                leave = asked.recv() => match leave {
                    Some(leave) => memory.leaves(leave),
                    None => return,
                },
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let status = self.replica.status();
            if !(status.leads && status.quorum) {
                memory = Memory::default(); // whoever asks to leave is told by the dropped port
                continue;
            }
            if memory.leads_in.replace(status.term) != Some(status.term) {
                let detail = format!("term {}", status.term);
                self.tell(EventKind::LeaderElected, &self.replica.own().instance, &detail);
            }
            self.look(&status, &mut memory).await;
        }
    }

    async fn look(&self, status: &Status, memory: &mut Memory) {
        let peers = instances(&self.cluster, self.service);
        let asked = peers.iter().map(|peer| async move {
            (peer.clone(), standing::<G>(&self.cluster, peer, ASK_LIMIT).await)
        });
        let standings: Vec<(String, Standing)> = futures::future::join_all(asked)
            .await
            .into_iter()
            .filter_map(|(peer, standing)| Some((peer, standing?)))
            .collect();
        let mut view = self.view(status, &standings, memory);
        memory.refuse_end(&mut view);
        if let Some(step) = plan::next(&view)
            && !memory.gathers()
        {
            self.carry_out(step, status).await;
        }
        memory.let_go(&self.replica.status());
    }

    fn view(&self, status: &Status, standings: &[(String, Standing)], memory: &mut Memory) -> View {
        let membership = status.membership.membership();
        let voters: BTreeSet<ReplicaId> = membership.voter_ids().collect();
        let own = self.replica.id();
        let here = |peer: &Peer| {
            peer.id == own || standings.iter().any(|(i, s)| *i == peer.instance && s.id == peer.id)
        };
        let another =
            |peer: &Peer| standings.iter().any(|(i, s)| *i == peer.instance && s.id != peer.id);
        let members: Vec<Seen> = membership
            .nodes()
            .map(|(id, peer)| {
                let live = here(peer);
                let since = memory.away_since.entry(*id).or_insert_with(Instant::now);
                if live {
                    *since = Instant::now();
                }
                let matched = status.matched.get(id).copied().unwrap_or(0);
                Seen {
                    id: *id,
                    votes: voters.contains(id),
                    live,
                    level: *id == own || matched + LEVEL >= status.last,
                    leaves: memory.leaving.contains_key(id),
                    lost: another(peer) || since.elapsed() > self.remove_after,
                }
            })
            .collect();
        memory.away_since.retain(|id, _| members.iter().any(|m| m.id == *id));
        let group = self.carrier.group();
        let strange = |s: &Standing| {
            (s.group.is_none() || s.group == group) && !members.iter().any(|m| m.id == s.id)
        };
        let strangers = standings.iter().filter(|(_, s)| strange(s));
        let strangers = strangers.map(|(i, s)| Peer { id: s.id, instance: i.clone() }).collect();
        View { own, members, strangers, changing: membership.get_joint_config().len() > 1 }
    }

    async fn carry_out(&self, step: Step, status: &Status) {
        let raft = self.replica.raft();
        let (kind, subject, detail) = self.words(&step, status);
        let work = async {
            match step {
                Step::Add(peer) => raft.add_learner(peer.id, peer, false).await,
                // who votes no more is dropped, and taken in again as a learner at the next look
                Step::Voters(ids) => {
                    raft.change_membership(ChangeMembers::ReplaceAllVoters(ids), false).await
                }
                Step::Remove(id) => {
                    let ids = BTreeSet::from([id]);
                    raft.change_membership(ChangeMembers::RemoveNodes(ids), false).await
                }
                Step::StandAside => {
                    let led = self.replica.stand_aside().await;
                    tracing::info!(group = G::NAME, led, "stood aside for another leader");
                    return;
                }
            }
            .map_or_else(
                |error| tracing::info!(group = G::NAME, %error, "membership unchanged"),
                |_| self.tell(kind, &subject, &detail),
            );
        };
        if tokio::time::timeout(STEP_LIMIT, work).await.is_err() {
            tracing::info!(group = G::NAME, "a change of membership takes long");
        }
    }

    fn words(&self, step: &Step, status: &Status) -> (EventKind, String, String) {
        let membership = status.membership.membership();
        let name = |id: &ReplicaId| match membership.get_node(id) {
            Some(peer) => peer.instance.clone(),
            None => id.to_string(),
        };
        match step {
            Step::Add(peer) => (EventKind::ReplicaAdded, peer.instance.clone(), "learns".into()),
            Step::Remove(id) => (EventKind::ReplicaRemoved, name(id), "no longer counted".into()),
            Step::StandAside => (EventKind::VotersChanged, G::NAME.into(), String::new()),
            Step::Voters(ids) => {
                let names: Vec<String> = ids.iter().map(name).collect();
                (EventKind::VotersChanged, G::NAME.into(), names.join(", "))
            }
        }
    }

    fn tell(&self, kind: EventKind, subject: &str, detail: &str) {
        let detail = format!("{}: {detail}", G::NAME);
        self.events.record(Event::now(kind, self.cluster.instance(), subject, &detail));
    }
}

impl Memory {
    fn leaves(&mut self, leave: Leave) {
        let entry = self.leaving.entry(leave.id).or_insert_with(|| (Instant::now(), Vec::new()));
        entry.1.push(leave);
    }

    /// Whether somebody asked to leave so lately that others may, too.
    fn gathers(&self) -> bool {
        self.leaving.values().any(|(since, _)| since.elapsed() < GATHER)
    }

    /// Keeps those who are the end of the whole group.
    fn refuse_end(&mut self, view: &mut View) {
        if !self.leaving.is_empty() && !self.gathers() && !plan::goes_on(view) {
            view.members.iter_mut().for_each(|m| m.leaves = false);
            for (_, (_, leaves)) in std::mem::take(&mut self.leaving) {
                for leave in leaves {
                    let _ = leave.done.send(Err(ENDS.into())); // it stopped waiting
                }
            }
        }
    }

    /// Tells those who may go: who does not vote is not missed.
    fn let_go(&mut self, status: &Status) {
        let membership = status.membership.membership();
        let voters: BTreeSet<ReplicaId> = membership.voter_ids().collect();
        for (id, (_, leaves)) in &mut self.leaving {
            if !voters.contains(id) {
                for leave in leaves.drain(..) {
                    let _ = leave.done.send(Ok(())); // it stopped waiting
                }
            }
        }
        self.leaving.retain(|id, _| membership.get_node(id).is_some());
    }
}
