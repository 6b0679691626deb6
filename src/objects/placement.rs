//! Which storage nodes get the data of an upload, and how many must have them.
//!
//! Used by the write flow. Plain functions; liveness comes in as a value.
//!
//! - `PLACE-1` N and W depend on the members and the settings alone, never on who is alive now;
//! - `PLACE-2` the same data id gets the same nodes from the same members, in any order of
//!   members;
//! - `PLACE-3` another member joining moves no more than its share (rendezvous hashing);
//! - `PLACE-4` nothing is written before as many nodes have joined once as there should be (at most
//!   N): what came earlier would have too few copies for ever.

use crate::config::Quorum;
use crate::points::{self, Mutant};
use crate::types::{DataId, InstanceId};

/// Where data go, and how many copies make them safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The N nodes.
    pub targets: Vec<InstanceId>,
    /// W.
    pub quorum: usize,
}

/// Fewer nodes than the quorum can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{have} of {need} storage nodes that must take the data can be reached")]
pub struct NoQuorum {
    /// Nodes within reach.
    pub have: usize,
    /// W.
    pub need: usize,
}

/// Chooses N nodes out of all members, and W.
pub fn plan(members: &[InstanceId], replicas: usize, rule: Quorum, data_id: DataId) -> Plan {
    let mut targets = members.to_vec();
    if targets.len() > replicas.max(1) {
        targets.sort_by_cached_key(|instance| std::cmp::Reverse(weight(data_id, instance)));
        targets.truncate(replicas.max(1));
    }
    let quorum = match points::breaks(Mutant::WriteQuorumOne) {
        false => quorum(rule, targets.len()),
        true => 1,
    };
    Plan { targets, quorum }
}

/// W out of N. A number larger than N is kept: such a cluster cannot write until it has grown.
pub fn quorum(rule: Quorum, n: usize) -> usize {
    match rule {
        Quorum::Majority => n / 2 + 1,
        Quorum::All => n.max(1),
        Quorum::Count(count) => count.max(1),
    }
}

impl Plan {
    /// Parts the targets in those within reach and the others.
    ///
    /// # Errors
    /// [`NoQuorum`] where fewer than W are within reach.
    pub fn reach(
        &self,
        is_live: impl Fn(&str) -> bool,
    ) -> Result<(Vec<InstanceId>, Vec<InstanceId>), NoQuorum> {
        let (live, absent): (Vec<_>, Vec<_>) =
            self.targets.iter().cloned().partition(|instance| is_live(instance));
        if live.len() < self.quorum {
            return Err(NoQuorum { have: live.len(), need: self.quorum });
        }
        Ok((live, absent))
    }
}

/// The order in which copies are read: the own node first, then the others from a start that
/// spreads the load by data id; nodes out of reach are left out.
pub fn read_order(
    locations: &[InstanceId],
    own: &str,
    data_id: DataId,
    is_live: impl Fn(&str) -> bool,
) -> Vec<InstanceId> {
    let mut order: Vec<_> = locations.iter().filter(|l| is_live(l)).cloned().collect();
    order.sort_by_cached_key(|instance| (instance != own, weight(data_id, instance)));
    order
}

fn weight(data_id: DataId, instance: &str) -> [u8; 16] {
    let mut context = md5::Context::new();
    context.consume(data_id.0.to_be_bytes());
    context.consume(instance);
    context.finalize().0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(n: usize) -> Vec<InstanceId> {
        (0..n).map(|i| format!("storage-service-{i}")).collect()
    }

    #[test]
    fn the_quorum_follows_from_n() {
        let rows = [
            (Quorum::Majority, [1, 1, 2, 2, 3]),
            (Quorum::All, [1, 1, 2, 3, 4]),
            (Quorum::Count(2), [2, 2, 2, 2, 2]),
        ];
        for (rule, expected) in rows {
            let got: Vec<_> = (0..5).map(|n| quorum(rule, n)).collect();
            assert_eq!(got, expected, "{rule:?}");
        }
    }

    #[test]
    fn up_to_n_members_all_get_the_data_and_beyond_them_a_stable_choice_of_n() {
        let id = DataId(7);
        for n in 1..=3 {
            assert_eq!(plan(&members(n), 3, Quorum::Majority, id).targets, members(n));
        }
        let chosen = plan(&members(9), 3, Quorum::Majority, id);
        assert_eq!((chosen.targets.len(), chosen.quorum), (3, 2));
        let mut shuffled = members(9);
        shuffled.reverse();
        assert_eq!(plan(&shuffled, 3, Quorum::Majority, id), chosen, "PLACE-2");
    }

    #[test]
    fn a_new_member_takes_only_its_share() {
        let moved = (0..2_000u128)
            .filter(|&i| {
                let before = plan(&members(5), 3, Quorum::Majority, DataId(i)).targets;
                let after = plan(&members(6), 3, Quorum::Majority, DataId(i)).targets;
                let kept = after.iter().filter(|t| before.contains(t)).count();
                assert!(kept >= 2, "PLACE-3: at most the new one replaces another");
                kept < 3
            })
            .count();
        assert!((850..1150).contains(&moved), "{moved} of 2000, expected about half");
    }

    #[test]
    fn fewer_than_w_within_reach_is_refused_and_w_does_not_shrink() {
        let plan = plan(&members(3), 3, Quorum::Majority, DataId(1));
        let only = |k: usize| move |i: &str| members(k).iter().any(|m| m == i);
        assert_eq!(plan.reach(only(1)), Err(NoQuorum { have: 1, need: 2 }));
        let (live, absent) = plan.reach(only(2)).unwrap();
        assert_eq!((live, absent), (members(2), members(3)[2..].to_vec()));
    }

    #[test]
    fn reads_begin_at_the_own_node_and_spread_over_the_others() {
        let own = &members(3)[1];
        let firsts: std::collections::HashSet<_> = (0..64)
            .map(|i| {
                let order = read_order(&members(3), own, DataId(i), |_| true);
                assert_eq!((order.len(), &order[0]), (3, own));
                order[1].clone()
            })
            .collect();
        assert_eq!(firsts.len(), 2);
        assert_eq!(read_order(&members(3), "x", DataId(1), |i| i == own), [own.as_str()]);
    }
}
