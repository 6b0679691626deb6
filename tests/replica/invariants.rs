//! What must hold at every step.
//!
//! What Raft calls a term is here a [`LeaderId`]: openraft orders leaders by term and then by replica,
//! and a voter may go on to a greater one of the same term. All that is said of terms is said of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use mocks3::replica::types::{Entry, LeaderId, ReplicaId, Vote};

#[derive(Default)]
struct Seen {
    /// Command index to key and outcome: the one order of commands.
    order: BTreeMap<u64, (u128, String)>,
    /// Command index to the digest of the state after it.
    digests: BTreeMap<u64, [u8; 16]>,
    /// How far each node has applied.
    nodes: BTreeMap<usize, u64>,
    /// How each replica voted last.
    votes: BTreeMap<ReplicaId, Vote>,
    /// Who has led.
    leaders: BTreeSet<LeaderId>,
    /// Index and term of an entry to its content and the term before it.
    entries: BTreeMap<(u64, LeaderId), (String, Option<LeaderId>)>,
    /// Index to term of what was applied anywhere, and the term in which that was first seen.
    committed: BTreeMap<u64, (LeaderId, LeaderId)>,
    /// What happened, in order: the same for the same seed.
    log: Vec<String>,
    /// What should not have happened.
    wrong: Vec<String>,
}

impl Seen {
    /// Kept, not raised: most of this is seen in tasks whose panic nobody would notice.
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }
}

/// Watches all nodes. Clones are the same observer.
#[derive(Clone, Default)]
pub struct Observer(Arc<Mutex<Seen>>);

impl Observer {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    /// Writes down what happened.
    pub fn note(&self, what: String) {
        self.seen().log.push(what);
    }

    /// All that was written down.
    pub fn story(&self) -> Vec<String> {
        self.seen().log.clone()
    }

    /// Keeps what should not have happened, for [`Observer::check`].
    pub fn expect(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.seen().expect(holds, otherwise);
    }

    /// Fails when anything was seen that should not have happened.
    pub fn check(&self) {
        let seen = self.seen();
        assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
    }

    /// A node has opened its machine, or taken an image.
    pub fn opened(&self, node: usize, applied: u64) {
        let mut seen = self.seen();
        seen.nodes.insert(node, applied);
        seen.log.push(format!("node {node} has {applied} commands"));
    }

    /// State machine safety: at each index every node applies the same command, with the same
    /// outcome, and leaves none out.
    pub fn applied(&self, node: usize, index: u64, key: u128, outcome: &impl Debug) {
        let mut seen = self.seen();
        let before = seen.nodes.insert(node, index);
        seen.expect(before == Some(index - 1), || {
            format!("node {node} left commands out: {before:?}, then {index}")
        });
        let this = (key, format!("{outcome:?}"));
        seen.log.push(format!("node {node} applied {index}: {key:x} {}", this.1));
        let first = seen.order.entry(index).or_insert_with(|| this.clone()).clone();
        seen.expect(first == this, || {
            format!("node {node} applied at {index} {this:?}, another one {first:?}")
        });
    }

    /// The same of whole states.
    pub fn digest(&self, node: usize, index: u64, digest: [u8; 16]) {
        let mut seen = self.seen();
        let first = *seen.digests.entry(index).or_insert(digest);
        seen.expect(first == digest, || format!("the state of node {node} at {index} differs"));
    }

    /// Election safety: a vote is never taken back, by no crash; so no two majorities voted for one
    /// term, and whoever leads does so in a term of its own.
    pub fn voted(&self, id: ReplicaId, vote: Vote, leads: bool) {
        let mut seen = self.seen();
        let last = seen.votes.insert(id, vote);
        let kept = last.is_none_or(|last| vote >= last);
        seen.expect(kept, || format!("{id} voted {last:?}, and then {vote}"));
        if leads {
            let leader = *vote.leader_id();
            let own = leader.voted_for() == Some(id) && vote.is_committed();
            seen.expect(own, || format!("{id} leads by the vote {vote}"));
            if seen.leaders.insert(leader) {
                seen.log.push(format!("{id} leads in term {}", leader.term));
            }
        }
    }

    /// Log matching: entries of the same index and term are the same, and so is what is before them.
    pub fn log(&self, entries: &[Entry]) {
        let mut seen = self.seen();
        let mut before = None;
        for entry in entries {
            let id = entry.log_id;
            let key = (id.index, id.leader_id);
            let content = format!("{:?}", entry.payload);
            let row = seen.entries.entry(key).or_insert((content.clone(), before));
            row.1 = row.1.or(before);
            let (same, past) = (row.0 == content, row.1);
            seen.expect(same, || format!("two entries at {id}"));
            seen.expect(before.is_none() || past == before, || format!("two pasts of {id}"));
            before = Some(id.leader_id);
        }
    }

    /// A node in `term` has applied the entry at this index and of this term.
    pub fn committed(&self, index: u64, of_term: LeaderId, term: LeaderId) {
        let mut seen = self.seen();
        let row = *seen.committed.entry(index).or_insert((of_term, term));
        seen.expect(row.0 == of_term, || format!("two committed entries at {index}"));
    }

    /// Leader completeness: a leader's log holds all that was committed in earlier terms.
    pub fn leader_has(&self, term: LeaderId, purged: u64, log: &[Entry]) {
        let mut seen = self.seen();
        let has: BTreeMap<u64, LeaderId> =
            log.iter().map(|e| (e.log_id.index, e.log_id.leader_id)).collect();
        let earlier =
            seen.committed.range(purged + 1..).filter(|(_, (_, in_term))| *in_term < term);
        let lacks = earlier.filter(|(index, (of_term, _))| has.get(index) != Some(of_term));
        let lacks: Vec<u64> = lacks.map(|(index, _)| *index).collect();
        seen.expect(lacks.is_empty(), || format!("the leader of term {term} lacks {lacks:?}"));
    }
}
