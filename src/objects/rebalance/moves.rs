//! The copies under way, and when a pass is due. Pure: times come in as values.
//!
//! - `MOVES-1` at most [`PER_NODE`] copies to one node are under way, so that one that takes none
//!   (full, away) holds up no other;
//! - `MOVES-2` a copy ends: it lands, is wanted no more, or is given up for this pass when its node is
//!   away or has taken none for [`STUCK`];
//! - `MOVES-3` a pass begins when the members changed or the last one is some time ago; while one of
//!   them is away it waits, but not for ever: what has too few copies must not wait for a node that
//!   nobody removes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::actors::metadata::query::BlobInfo;
use crate::types::{DataId, InstanceId};

/// Copies to one node at once: enough for small ones to follow each other closely.
pub const PER_NODE: usize = 32;
/// How long a node may take none of its copies.
pub const STUCK: Duration = Duration::from_secs(120);
/// How long a pass waits for members that are away.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The copies under way.
#[derive(Debug, Default)]
pub struct Moves {
    /// By item and node, with the bytes.
    open: BTreeMap<(DataId, InstanceId), u64>,
    /// How many are open at each node, and when the first began or the last one landed.
    nodes: BTreeMap<InstanceId, (usize, Instant)>,
    /// Nodes that get no more in this pass.
    stuck: BTreeSet<InstanceId>,
}

/// What came of copies under way.
#[derive(Debug, Default, PartialEq)]
pub struct Landed {
    /// Copies that were made.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Items that have no more copies under way.
    pub whole: Vec<BlobInfo>,
}

impl Moves {
    /// A new pass begins: every node gets its chance again.
    pub fn forgive(&mut self) {
        self.stuck.clear();
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether copies of an item are under way.
    pub fn holds(&self, data_id: DataId) -> bool {
        let first = (data_id, InstanceId::new());
        self.open.range(first..).next().is_some_and(|((id, _), _)| *id == data_id)
    }

    /// The items with copies under way.
    pub fn items(&self) -> BTreeSet<DataId> {
        self.open.keys().map(|(id, _)| *id).collect()
    }

    /// Whether a node may get one more now.
    pub fn has_room(&self, to: &str) -> bool {
        self.nodes.get(to).is_none_or(|(open, _)| *open < PER_NODE)
    }

    /// Whether a node gets no more in this pass.
    pub fn is_stuck(&self, to: &str) -> bool {
        self.stuck.contains(to)
    }

    /// A copy is under way.
    pub fn begin(&mut self, data_id: DataId, to: &str, len: u64, now: Instant) {
        if self.open.insert((data_id, to.to_owned()), len).is_none() {
            let node = self.nodes.entry(to.to_owned()).or_insert((0, now));
            node.0 += 1;
        }
    }

    /// Takes in what metadata says of some of the items; those that it does not name are gone.
    pub fn look(&mut self, asked: &[DataId], blobs: Vec<BlobInfo>, now: Instant) -> Landed {
        let mut landed = Landed::default();
        let known: BTreeMap<DataId, BlobInfo> = blobs.into_iter().map(|b| (b.data_id, b)).collect();
        let ended = |(id, to): &(DataId, InstanceId)| match known.get(id) {
            Some(blob) => !blob.lacking.contains(to),
            None => true,
        };
        let of = |key: &&(DataId, InstanceId)| asked.contains(&key.0);
        let keys: Vec<_> = self.open.keys().filter(of).filter(|k| ended(k)).cloned().collect();
        for key in keys {
            let bytes = self.end(&key);
            if known.get(&key.0).is_some_and(|blob| blob.locations.contains(&key.1)) {
                landed.copies += 1;
                landed.bytes += bytes;
                if let Some(node) = self.nodes.get_mut(&key.1) {
                    node.1 = now;
                }
            }
        }
        landed.whole = known.into_values().filter(|b| !self.holds(b.data_id)).collect();
        landed
    }

    /// Gives up the copies to nodes that are away or stuck, and says how many (MOVES-2).
    pub fn give_up(&mut self, now: Instant, is_live: impl Fn(&str) -> bool) -> u64 {
        let late = |since: Instant| now.saturating_duration_since(since) > STUCK;
        let given_up: Vec<_> = self
            .nodes
            .iter()
            .filter(|(node, (_, since))| !is_live(node) || late(*since))
            .map(|(node, _)| node.clone())
            .collect();
        let keys: Vec<_> =
            self.open.keys().filter(|(_, to)| given_up.contains(to)).cloned().collect();
        for key in &keys {
            self.end(key);
        }
        self.stuck.extend(given_up);
        keys.len() as u64
    }

    fn end(&mut self, key: &(DataId, InstanceId)) -> u64 {
        if let Some(node) = self.nodes.get_mut(&key.1) {
            node.0 -= 1;
            if node.0 == 0 {
                self.nodes.remove(&key.1);
            }
        }
        self.open.remove(key).unwrap_or(0)
    }
}

/// When the next pass is due.
#[derive(Debug, Default)]
pub struct Timetable {
    /// The members of the last pass, and when the next one is due without a change.
    last: Option<(Vec<InstanceId>, Instant)>,
    /// Since when a member is away.
    away_since: Option<Instant>,
}

impl Timetable {
    /// Whether a pass is to begin (MOVES-3).
    pub fn is_due(
        &mut self,
        members: &[InstanceId],
        now: Instant,
        is_live: impl Fn(&str) -> bool,
    ) -> bool {
        let waited = match members.iter().all(|member| is_live(member)) {
            true => {
                self.away_since = None;
                true
            }
            false => now - *self.away_since.get_or_insert(now) >= PATIENCE,
        };
        let due = match &self.last {
            Some((then, next)) => then != members || now >= *next,
            None => true,
        };
        due && waited
    }

    /// A pass with these members ended; the next is due at this time.
    pub fn passed(&mut self, members: Vec<InstanceId>, next: Instant) {
        self.last = Some((members, next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(id: u128, locations: &[&str], lacking: &[&str]) -> BlobInfo {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
        BlobInfo {
            data_id: DataId(id),
            len: 10,
            md5: [0; 16],
            crc64: 0,
            references: 1,
            locations: names(locations),
            lacking: names(lacking),
        }
    }

    #[test]
    fn a_node_gets_so_many_at_once_and_others_are_not_held_up_by_it() {
        let (mut moves, now) = (Moves::default(), Instant::now());
        for id in 0..PER_NODE as u128 {
            assert!(moves.has_room("a"));
            moves.begin(DataId(id), "a", 1, now);
            moves.begin(DataId(id), "a", 1, now); // the same
        }
        assert!(!moves.has_room("a") && moves.has_room("b"), "MOVES-1");
        let landed = moves.look(&[DataId(3)], vec![blob(3, &["x", "a"], &[])], now);
        assert_eq!((landed.copies, landed.bytes, moves.has_room("a")), (1, 1, true));
        assert_eq!(moves.count(), PER_NODE - 1);
    }

    #[test]
    fn copies_land_go_on_or_are_wanted_no_more() {
        let (mut moves, now) = (Moves::default(), Instant::now());
        for (id, to) in [(1, "a"), (1, "b"), (2, "a"), (3, "a"), (4, "a")] {
            moves.begin(DataId(id), to, 10, now);
        }
        let ids = [1, 2, 3, 4].map(DataId);
        let two_of_three = blob(1, &["x", "a"], &["b"]);
        let (landed, unwanted) = (blob(2, &["x", "a"], &[]), blob(3, &["x"], &[]));
        let whole = vec![landed.clone(), unwanted.clone()];
        let got = moves.look(&ids, vec![two_of_three, landed, unwanted], now);
        assert_eq!(got, Landed { copies: 2, bytes: 20, whole }, "the fourth is gone");
        assert_eq!(moves.items().into_iter().collect::<Vec<_>>(), [DataId(1)]);
        assert!(moves.holds(DataId(1)) && !moves.holds(DataId(0)) && !moves.holds(DataId(2)));
    }

    #[test]
    fn what_goes_to_nodes_that_are_away_or_take_nothing_is_given_up() {
        let (mut moves, now) = (Moves::default(), Instant::now());
        for (id, to) in [(1, "away"), (2, "full"), (3, "slow"), (4, "slow")] {
            moves.begin(DataId(id), to, 10, now);
        }
        assert_eq!(moves.give_up(now, |node| node != "away"), 1);
        moves.look(&[DataId(3)], vec![blob(3, &["slow"], &[])], now + STUCK);
        assert_eq!(moves.give_up(now + STUCK, |_| true), 0);
        assert_eq!(moves.give_up(now + STUCK + Duration::from_secs(1), |_| true), 1, "MOVES-2");
        assert!(moves.is_stuck("away") && moves.is_stuck("full") && !moves.is_stuck("slow"));
        moves.forgive();
        assert!(!moves.is_stuck("full") && moves.count() == 1);
    }

    #[test]
    fn a_pass_is_due_at_first_after_a_change_and_from_time_to_time_and_waits_for_absent_members() {
        let (mut times, begin) = (Timetable::default(), Instant::now());
        let (two, three) = (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]);
        let all = |_: &str| true;
        let second = Duration::from_secs(1);
        assert!(!times.is_due(&two, begin, |n| n == "a"));
        assert!(times.is_due(&two, begin + second, all));
        times.passed(two.clone(), begin + 10 * second);
        assert!(!times.is_due(&two, begin + 9 * second, all));
        assert!(times.is_due(&two, begin + 10 * second, all), "some time ago");
        assert!(times.is_due(&three, begin + 2 * second, all), "another one");
        assert!(!times.is_due(&three, begin + 2 * second, |_| false));
        assert!(times.is_due(&three, begin + 2 * second + PATIENCE, |_| false), "MOVES-3");
    }
}
