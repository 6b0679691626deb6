//! Who is to vote and who to learn: decided by the leader, one step at a time, from what it sees.
//!
//! - `PLAN-1` the number of voters is odd, and at most [`VOTERS`]; what is more learns. Two are allowed
//!   while one that votes alone hands over;
//! - `PLAN-2` a replica becomes a voter only when it is live and has caught up;
//! - `PLAN-3` a voter that is only away is never removed unless another takes its place, or three are
//!   left without it: a crash alone does not make fewer copies of what is acknowledged;
//! - `PLAN-5` the leader always stays a voter: to leave, it first lets another lead. Dropped, it could
//!   hold the entry that says so while those who vote now lack it, and then these could not win a
//!   vote against its longer log, and it would not stand (found by the simulation);
//! - `PLAN-4` one change at a time, and none while one is under way.

use std::collections::BTreeSet;

use super::types::{Peer, ReplicaId};

/// The most voters of a group.
pub const VOTERS: usize = 5;

/// A replica of the group, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub id: ReplicaId,
    /// Whether it votes; else it learns.
    pub votes: bool,
    /// Whether it is in session.
    pub live: bool,
    /// Whether its log is as long as the leader's, or nearly.
    pub level: bool,
    /// Whether it leaves in order.
    pub leaves: bool,
    /// Whether it is away for longer than `remove_after`, or came back without its disk, as another.
    pub lost: bool,
}

/// What the leader sees.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The leader itself.
    pub own: ReplicaId,
    /// All of the group, itself included.
    pub members: Vec<Seen>,
    /// Live replicas that are not of the group yet.
    pub strangers: Vec<Peer>,
    /// Whether a change of the voters is under way.
    pub changing: bool,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let it learn.
    Add(Peer),
    /// Let these vote, and only these: whoever else did is dropped.
    Voters(BTreeSet<ReplicaId>),
    /// Take a learner out.
    Remove(ReplicaId),
    /// Let another one lead.
    StandAside,
}

/// The next step, if there is one.
pub fn next(view: &View) -> Option<Step> {
    let voters: BTreeSet<ReplicaId> =
        view.members.iter().filter(|m| m.votes).map(|m| m.id).collect();
    let wanted = wanted(view);
    if view.changing || wanted != voters {
        return Some(Step::Voters(wanted)); // also ends a change that an earlier leader began
    }
    if leader_leaves(view) && view.members.iter().any(|m| m.id != view.own && m.votes && fit(m)) {
        return Some(Step::StandAside); // PLAN-5
    }
    if let Some(peer) = view.strangers.first() {
        return Some(Step::Add(peer.clone()));
    }
    let over = |m: &&Seen| !m.votes && (m.leaves || m.lost);
    view.members.iter().find(over).map(|m| Step::Remove(m.id))
}

fn leader_leaves(view: &View) -> bool {
    view.members.iter().any(|m| m.id == view.own && m.leaves)
}

/// Whether it could lead or vote at once (PLAN-2).
fn fit(m: &Seen) -> bool {
    m.live && m.level && !m.leaves
}

/// Who should vote.
fn wanted(view: &View) -> BTreeSet<ReplicaId> {
    let stays = |m: &&Seen| m.votes && (!m.leaves || m.id == view.own); // PLAN-5
    let staying: Vec<&Seen> = view.members.iter().filter(stays).collect();
    let fresh = view.members.iter().filter(|m| !m.votes && fit(m));
    // the best first: whoever leads, who is there, who is away, who could become one, who is lost
    let rank = |m: &Seen| match (m.id == view.own, m.votes, m.live, m.lost) {
        (true, ..) => 0,
        (_, true, true, _) => 1,
        (_, true, false, false) => 2,
        (_, false, ..) => 3,
        (_, true, false, true) => 4,
    };
    let mut all: Vec<&Seen> = staying.iter().copied().chain(fresh).collect();
    all.sort_by_key(|m| (rank(m), m.id));
    let lost = all.iter().filter(|m| rank(m) == 4).count();
    // PLAN-3: the lost ones count, unless three or more are left without them
    let count = match odd(all.len() - lost) {
        without @ 3.. => without,
        without => without.max(odd(all.len())),
    };
    let hands_over = leader_leaves(view) && count == 1 && all.len() > 1;
    all.into_iter().take(count + usize::from(hands_over)).map(|m| m.id).collect()
}

/// How many of so many vote (PLAN-1).
pub fn odd(count: usize) -> usize {
    count.min(VOTERS).saturating_sub(1) / 2 * 2 + usize::from(count > 0)
}

/// Whether the group goes on when all leave that ask to. It does not when half of those that vote
/// leave at once: that is the end of the whole cluster, which comes back as it was. One that votes
/// alone may go when another is ready to take over.
pub fn goes_on(view: &View) -> bool {
    let voters = view.members.iter().filter(|m| m.votes);
    let leaving = voters.clone().filter(|m| m.leaves).count();
    let heir = view.members.iter().any(|m| m.id != view.own && fit(m));
    leaving * 2 < voters.count() || (leaving == 1 && heir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn voter(n: u128) -> Seen {
        let id = ReplicaId(n);
        Seen { id, votes: true, live: true, level: true, leaves: false, lost: false }
    }

    fn learner(n: u128) -> Seen {
        Seen { votes: false, ..voter(n) }
    }

    fn view(members: Vec<Seen>) -> View {
        View { own: members[0].id, members, ..View::default() }
    }

    fn voters(ids: &[u128]) -> Option<Step> {
        Some(Step::Voters(ids.iter().map(|n| ReplicaId(*n)).collect()))
    }

    #[test]
    fn one_and_two_have_one_voter_three_and_four_have_three_five_have_five() {
        for (count, expected) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)] {
            assert_eq!(odd(count), expected, "of {count}");
        }
        assert_eq!(next(&view(vec![voter(1)])), None);
        assert_eq!(next(&view(vec![voter(1), learner(2)])), None);
        assert_eq!(next(&view(vec![voter(1), learner(2), learner(3)])), voters(&[1, 2, 3]));
    }

    #[test]
    fn who_lags_or_is_away_does_not_become_a_voter() {
        let lags = Seen { level: false, ..learner(3) };
        assert_eq!(next(&view(vec![voter(1), learner(2), lags])), None);
        let away = Seen { live: false, ..learner(3) };
        assert_eq!(next(&view(vec![voter(1), learner(2), away])), None);
    }

    #[test]
    fn a_voter_that_is_away_stays_until_its_time_is_over_and_another_can_take_its_place() {
        let away = Seen { live: false, ..voter(3) };
        assert_eq!(next(&view(vec![voter(1), voter(2), away.clone()])), None);
        assert_eq!(next(&view(vec![voter(1), voter(2), away.clone(), learner(4)])), None);
        let lost = Seen { lost: true, ..away };
        assert_eq!(next(&view(vec![voter(1), voter(2), lost.clone()])), None, "PLAN-3");
        assert_eq!(
            next(&view(vec![voter(1), voter(2), lost.clone(), learner(4)])),
            voters(&[1, 2, 4])
        );
        let five =
            vec![voter(1), voter(2), voter(4), lost.clone(), Seen { id: ReplicaId(5), ..lost }];
        assert_eq!(next(&view(five)), voters(&[1, 2, 4]), "three are left");
    }

    #[test]
    fn who_leaves_goes_at_once() {
        let leaves = |m: Seen| Seen { leaves: true, ..m };
        assert_eq!(next(&view(vec![voter(1), voter(2), leaves(voter(3))])), voters(&[1]));
        assert_eq!(
            next(&view(vec![voter(1), voter(2), leaves(voter(3)), learner(4)])),
            voters(&[1, 2, 4])
        );
        assert_eq!(
            next(&view(vec![voter(1), leaves(learner(2))])),
            Some(Step::Remove(ReplicaId(2)))
        );
    }

    #[test]
    fn a_leader_that_leaves_first_lets_another_lead() {
        let leaves = |m: Seen| Seen { leaves: true, ..m };
        let aside = Some(Step::StandAside);
        assert_eq!(next(&view(vec![leaves(voter(1)), voter(2), voter(3)])), aside);
        assert_eq!(next(&view(vec![leaves(voter(1)), learner(2)])), voters(&[1, 2]));
        assert_eq!(next(&view(vec![leaves(voter(1)), voter(2)])), aside);
        let away = Seen { live: false, ..learner(2) };
        assert_eq!(next(&view(vec![leaves(voter(1)), away])), None, "there is nobody");
        assert_eq!(next(&view(vec![voter(1), voter(2)])), voters(&[1]), "it stays after all");
    }

    #[test]
    fn a_stranger_is_taken_in_after_the_voters_are_settled() {
        let peer = Peer { id: ReplicaId(9), instance: "x".into() };
        let mut view = view(vec![voter(1)]);
        view.strangers = vec![peer.clone()];
        assert_eq!(next(&view), Some(Step::Add(peer)));
        view.changing = true;
        assert_eq!(next(&view), voters(&[1]), "PLAN-4");
    }

    #[test]
    fn half_of_the_voters_never_leave_at_once() {
        let leaves = |m: Seen| Seen { leaves: true, ..m };
        let group = |all: u128, leaving: u128| {
            let one = |n| if n <= leaving { leaves(voter(n)) } else { voter(n) };
            view((1..=all).map(one).collect())
        };
        for (all, leaving, may) in
            [(1, 1, false), (3, 1, true), (3, 2, false), (3, 3, false), (5, 2, true), (5, 3, false)]
        {
            assert_eq!(goes_on(&group(all, leaving)), may, "{leaving} of {all}");
        }
        assert!(goes_on(&view(vec![leaves(voter(1)), learner(2)])));
        assert!(!goes_on(&view(vec![leaves(voter(1)), leaves(learner(2))])));
    }

    fn any_seen() -> impl Strategy<Value = Vec<Seen>> {
        let one = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        proptest::collection::vec(one, 1..9).prop_map(|rows| {
            let seen = |(n, (votes, live, level, leaves, lost)): (
                usize,
                (bool, bool, bool, bool, bool),
            )| Seen {
                id: ReplicaId(n as u128),
                votes: votes || n == 0,
                live: live || n == 0,
                level: level || n == 0,
                leaves,
                lost: lost && !live && n > 0,
            };
            rows.into_iter().enumerate().map(seen).collect()
        })
    }

    proptest! {
        #[test]
        fn whatever_is_seen_the_voters_are_odd_few_and_fit_and_the_plan_comes_to_rest(members in any_seen()) {
            let mut view = view(members);
            for _ in 0..20 {
                match next(&view) {
                    None => return Ok(()),
                    Some(Step::Voters(ids)) => {
                        let hands_over = ids.len() == 2 && leader_leaves(&view);
                        prop_assert!((ids.len() % 2 == 1 || hands_over) && ids.len() <= VOTERS);
                        prop_assert!(ids.contains(&view.own), "PLAN-5");
                        for m in &mut view.members {
                            let new = ids.contains(&m.id) && !m.votes;
                            prop_assert!(!new || (m.live && m.level && !m.leaves), "PLAN-2");
                            m.votes = ids.contains(&m.id);
                        }
                    }
                    Some(Step::Remove(id)) => view.members.retain(|m| m.id != id),
                    Some(Step::StandAside) => return Ok(()),
                    Some(Step::Add(_)) => unreachable!(),
                }
            }
            prop_assert!(false, "no rest: {view:?}");
        }
    }
}
