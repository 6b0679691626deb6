//! Which copies of a data item are to be made and which are too many. Pure.
//!
//! Used by the rebalancer, which asks again after each step. The nodes that are to have an item are
//! those that an upload of today would choose (`placement.rs`).
//!
//! - `REBPLAN-1` a copy is too many only when all nodes that are to have the item have it: the number
//!   of copies never falls below the wanted one;
//! - `REBPLAN-2` carrying the steps out, in any order, comes to rest with exactly the wanted copies;
//! - `REBPLAN-3` a node that joins moves no more than its share (PLACE-3).

use crate::actors::metadata::query::BlobInfo;
use crate::config::Quorum;
use crate::objects::placement;
use crate::types::InstanceId;

/// Where data items are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The storage members, away or not.
    pub members: Vec<InstanceId>,
    /// How many of them are to have each item, where there are so many.
    pub replicas: usize,
}

/// Something to do about one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A copy is to be made.
    Copy {
        /// Where.
        to: InstanceId,
        /// Metadata wants it already.
        wanted: bool,
    },
    /// A copy is to be let go, or wanted no more.
    Release {
        /// Where it is.
        from: InstanceId,
        /// Who has one and keeps it.
        kept: Vec<InstanceId>,
    },
}

impl Goal {
    /// How many copies each item is to have.
    pub fn copies(&self) -> usize {
        self.replicas.max(1).min(self.members.len())
    }

    /// What is to be done about an item; none where all is well, or nobody has it.
    pub fn steps(&self, blob: &BlobInfo) -> Vec<Step> {
        let is_member = |node: &&InstanceId| self.members.contains(node);
        let have: Vec<_> = blob.locations.iter().filter(is_member).collect();
        if have.is_empty() {
            return Vec::new();
        }
        let rule = Quorum::Majority; // has no say in where the copies are
        let home = placement::plan(&self.members, self.replicas, rule, blob.data_id).targets;
        let missing = home.iter().filter(|node| !have.contains(node));
        let copies: Vec<_> = missing
            .map(|node| Step::Copy { to: node.clone(), wanted: blob.lacking.contains(node) })
            .collect();
        if !copies.is_empty() {
            return copies; // REBPLAN-1
        }
        let known = have.into_iter().chain(blob.lacking.iter().filter(is_member));
        known
            .filter(|node| !home.contains(node))
            .map(|node| Step::Release { from: node.clone(), kept: home.clone() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DataId;
    use proptest::prelude::*;

    fn node(n: usize) -> InstanceId {
        format!("storage-service-{n}")
    }

    fn goal(members: impl IntoIterator<Item = usize>, replicas: usize) -> Goal {
        Goal { members: members.into_iter().map(node).collect(), replicas }
    }

    fn blob(id: u128, locations: &[usize], lacking: &[usize]) -> BlobInfo {
        BlobInfo {
            data_id: DataId(id),
            len: 1,
            md5: [0; 16],
            crc64: 0,
            references: 1,
            locations: locations.iter().copied().map(node).collect(),
            lacking: lacking.iter().copied().map(node).collect(),
        }
    }

    /// As the catalog and a node would.
    fn carry_out(step: &Step, blob: &mut BlobInfo) {
        match step {
            Step::Copy { to, .. } => {
                blob.lacking.retain(|n| n != to);
                blob.locations.push(to.clone());
            }
            Step::Release { from, .. } => {
                blob.lacking.retain(|n| n != from);
                blob.locations.retain(|n| n != from);
            }
        }
    }

    /// Carries out steps, the `pick`th of those that are open each time, until there are none;
    /// gives the copies made.
    fn settle(goal: &Goal, blob: &mut BlobInfo, mut pick: usize) -> usize {
        let (mut copied, mut done) = (0, 0);
        loop {
            let steps = goal.steps(blob);
            if steps.is_empty() {
                return copied;
            }
            done += 1;
            assert!(done <= 20, "REBPLAN-2: {blob:?} does not come to rest");
            pick = pick.wrapping_mul(31).wrapping_add(7);
            let step = &steps[pick % steps.len()];
            let before = blob.locations.len();
            carry_out(step, blob);
            match step {
                Step::Copy { .. } => copied += 1,
                Step::Release { kept, .. } => {
                    assert!(kept.iter().all(|n| blob.locations.contains(n)), "REBPLAN-1");
                    assert!(blob.locations.len() >= goal.copies().min(before), "REBPLAN-1");
                }
            }
        }
    }

    #[test]
    fn copies_are_made_before_others_are_let_go() {
        let five = goal(0..5, 2);
        let home = placement::plan(&five.members, 2, Quorum::All, DataId(3)).targets;
        let away: Vec<usize> = (0..5).filter(|&n| !home.contains(&node(n))).collect();
        let mut item = blob(3, &away[..2], &[]);
        let copy = |to: &InstanceId, wanted| Step::Copy { to: to.clone(), wanted };
        assert_eq!(five.steps(&item), [copy(&home[0], false), copy(&home[1], false)]);
        item.lacking.push(home[0].clone());
        assert_eq!(five.steps(&item), [copy(&home[0], true), copy(&home[1], false)]);
        item.locations.extend(home.clone());
        item.lacking = vec![node(away[2])];
        let release = |n| Step::Release { from: node(n), kept: home.clone() };
        assert_eq!(five.steps(&item), [release(away[0]), release(away[1]), release(away[2])]);
        item.locations = home.clone();
        item.lacking.clear();
        assert_eq!(five.steps(&item), []);
        assert_eq!(five.steps(&blob(3, &[], &[1])), [], "nobody could give it");
        assert_eq!(five.steps(&blob(3, &[9], &[])), [], "only a node that is no member has it");
    }

    #[test]
    fn a_wanted_number_that_is_raised_or_lowered_is_reached_by_old_items_too() {
        let mut item = blob(1, &[0], &[]);
        assert_eq!(settle(&goal(0..3, 3), &mut item, 0), 2);
        assert_eq!(item.locations.len(), 3);
        assert_eq!(settle(&goal(0..3, 1), &mut item, 0), 0);
        assert_eq!(item.locations.len(), 1);
    }

    #[test]
    fn a_joining_node_gets_its_share_and_nothing_else_moves() {
        let (before, after) = (goal(0..4, 2), goal(0..5, 2));
        let (mut moved, count) = (0, 2000);
        for id in 0..count {
            let mut item = blob(id, &[0, 1], &[]);
            settle(&before, &mut item, 1);
            for step in after.steps(&item) {
                assert!(matches!(step, Step::Copy { to, .. } if to == node(4)), "REBPLAN-3");
            }
            moved += settle(&after, &mut item, 1);
        }
        let share = 2 * count as usize / 5;
        assert!((share * 9 / 10..share * 11 / 10).contains(&moved), "{moved}, not about {share}");
    }

    proptest! {
        #[test]
        fn any_item_comes_to_rest_with_the_wanted_copies_whatever_joins_and_leaves(
            id in any::<u128>(),
            first in prop::collection::btree_set(0..8usize, 1..4),
            lacking in prop::collection::vec(0..8usize, 0..3),
            // each time other members, one of which has a copy, and another number of copies
            changes in prop::collection::vec(
                (prop::collection::btree_set(0..8usize, 1..8), 1..5usize, any::<usize>()),
                1..6,
            ),
        ) {
            let first: Vec<_> = first.into_iter().collect();
            let lacking: Vec<_> = lacking.into_iter().filter(|n| !first.contains(n)).collect();
            let mut item = blob(id, &first, &lacking);
            for (members, replicas, pick) in changes {
                let goal = goal(members, replicas);
                let hidden: Vec<_> =
                    item.locations.iter().filter(|n| !goal.members.contains(n)).cloned().collect();
                if hidden.len() == item.locations.len() {
                    prop_assert_eq!(goal.steps(&item), []);
                    continue;
                }
                // metadata shows the copies on members alone
                item.locations.retain(|n| goal.members.contains(n));
                item.lacking.retain(|n| goal.members.contains(n));
                settle(&goal, &mut item, pick);
                prop_assert_eq!(item.locations.len(), goal.copies());
                prop_assert!(item.lacking.is_empty());
                item.locations.extend(hidden);
            }
        }
    }
}
