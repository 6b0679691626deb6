//! The steps of a rebalancing in the catalog, and how far the rebalancing is.
//!
//! Part of `step.rs`; sent by the rebalancer (`objects/rebalance.rs`), which decides. A copy of live
//! data at a node is *in place* (`locations`), *wanted* (`lacking`) or not there (neither):
//!
//! ```text
//! not there --Want--> wanted --AddLocation--> in place --Release--> not there
//!                        ^--------DropLocation---'
//! ```
//!
//! 1. REBALANCE-1: `Release` leaves at least `keep` copies in place on members, and never none,
//!    whatever the one who sent it believed.
//! 2. REBALANCE-2: only a wanted copy comes in place: a node that may delete its bytes (it asks, and
//!    they are neither) becomes a location only after another `Want`.
//! 3. REBALANCE-3: each step may be sent again, and changes nothing then.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::command::Applied;
use super::model::Refused;
use super::nodes::OutboxKind;
use super::step::{Step, Stop};
use crate::types::{DataId, InstanceId, UnixMillis};

/// One step of a rebalancing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebalanceStep {
    /// A member is to have a copy: it becomes wanted, with a `Replicate` row.
    Want {
        /// The data.
        data_id: DataId,
        /// Where.
        instance: InstanceId,
        /// Writes a further `Replicate` row if it was wanted before.
        again: bool,
    },
    /// A member's copy is one too many: it is not offered from now on, and a `Discard` row has its
    /// bytes deleted.
    Release {
        /// The data.
        data_id: DataId,
        /// Where.
        instance: InstanceId,
        /// How many other members must have a copy in place; else nothing is done.
        keep: u32,
        /// How long the bytes stay, for reads that run.
        grace_ms: u64,
    },
}

impl Step<'_> {
    pub(super) fn rebalance(
        &mut self,
        step: &RebalanceStep,
        now: UnixMillis,
    ) -> Result<Applied, Stop> {
        match step {
            RebalanceStep::Want { data_id, instance, again } => {
                self.want(*data_id, instance, *again, now)
            }
            RebalanceStep::Release { data_id, instance, keep, grace_ms } => {
                let due = now.saturating_add(*grace_ms);
                self.release_copy(*data_id, instance, *keep, due)
            }
        }
    }

    fn want(
        &mut self,
        data: DataId,
        instance: &str,
        again: bool,
        now: UnixMillis,
    ) -> Result<Applied, Stop> {
        let node = self.member(instance)?;
        let Some((locations, mut lacking)) = self.copies(data)? else {
            return Ok(Applied::Location { live: false });
        };
        let wanted = lacking.contains(&node);
        if locations.contains(&node) || (wanted && !again) {
            return Ok(Applied::Location { live: true });
        }
        if !wanted {
            lacking.push(node);
            self.set_copies(data, &locations, &lacking)?;
        }
        self.outbox(OutboxKind::Replicate, data, &[node], now)?;
        Ok(Applied::Location { live: true })
    }

    fn release_copy(
        &mut self,
        data: DataId,
        instance: &str,
        keep: u32,
        due: UnixMillis,
    ) -> Result<Applied, Stop> {
        let node = self.member(instance)?;
        let Some((mut locations, mut lacking)) = self.copies(data)? else {
            return Ok(Applied::Location { live: false });
        };
        let members = self.all_members()?;
        let others = locations.iter().filter(|no| **no != node && members.contains(no)).count();
        let known = locations.contains(&node) || lacking.contains(&node);
        if !known || others < (keep as usize).max(1) {
            return Ok(Applied::Location { live: true }); // REBALANCE-1, REBALANCE-3
        }
        locations.retain(|no| *no != node);
        lacking.retain(|no| *no != node);
        self.set_copies(data, &locations, &lacking)?;
        // Also where it was only wanted: it may have got one that nobody reported.
        self.outbox(OutboxKind::Discard, data, &[node], due)?;
        Ok(Applied::Location { live: true })
    }

    /// The number of a member.
    pub(super) fn member(&self, instance: &str) -> Result<u32, Stop> {
        let numbers = self.member_numbers(&[instance.to_owned()])?;
        Ok(*numbers.first().ok_or(Refused::NoSuchNode)?)
    }
}

/// What the rebalancer does at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It does not run on this node.
    #[default]
    Off,
    /// All is in its place, as far as it can be; it looks again from time to time.
    Resting,
    /// It counts what is to be moved.
    Counting,
    /// It has copies made and lets others go.
    Moving,
}

/// How far the rebalancer is; all but `phase` is of the pass that runs, or of the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Storage members when the pass began.
    pub members: u64,
    /// Copies that each data item is to have.
    pub copies: u64,
    /// Copies to be made.
    pub moves: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Copies that were made.
    pub moved: u64,
    /// Bytes of these.
    pub moved_bytes: u64,
    /// Copies under way.
    pub open: u64,
    /// Copies too many that were let go.
    pub released: u64,
    /// Copies that could not be made or let go now; a later pass tries again.
    pub postponed: u64,
    /// Bytes per second that the pass moves on average.
    pub rate: u64,
    /// When the pass began; 0 before the first.
    pub since_ms: UnixMillis,
}

/// Where the rebalancer of a node says how far it is, and the metadata actor reads it.
pub type ProgressCell = Arc<Mutex<Progress>>;
