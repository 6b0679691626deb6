//! Storage members and their numbers, and the copies of data on them.
//!
//! Part of `step.rs`. Owns the table `node` and the columns `locations` and `lacking` of `blob`.
//!
//! 1. NODE-1: a node keeps its number for ever; a removed one that registers again is the same
//!    node.
//! 2. NODE-2: a copy is in `locations` or in `lacking` of its blob, never in both.

use rusqlite::{OptionalExtension, params};

use super::command::Applied;
use super::model::Refused;
use super::outbox::OutboxTask;
use super::step::{Step, Stop, id_bytes, pack_nodes, unpack_nodes};
use crate::types::{DataId, UnixMillis};

/// Nodes that have a copy, and nodes that lack one.
type Copies = (Vec<u32>, Vec<u32>);

impl Step<'_> {
    pub(super) fn register_node(
        &mut self,
        instance: &str,
        catalog: u128,
        now: UnixMillis,
    ) -> Result<Applied, Stop> {
        self.run(
            "INSERT INTO node SELECT coalesce(max(no),0)+1, ?1, 1, ?2 FROM node WHERE true
             ON CONFLICT(instance) DO UPDATE SET active=1",
            params![instance, now as i64],
        )?;
        let candidate = catalog.to_be_bytes();
        self.run("UPDATE state SET catalog=coalesce(catalog, ?1)", [candidate])?;
        let id = self.one("SELECT catalog FROM state", [], |r| r.get::<_, [u8; 16]>(0))?;
        Ok(Applied::Registered { catalog: id.map_or(catalog, u128::from_be_bytes) })
    }

    pub(super) fn remove_node(&mut self, instance: &str) -> Result<Applied, Stop> {
        match self.run("UPDATE node SET active=0 WHERE instance=?1", [instance])? {
            0 => Err(Refused::NoSuchNode.into()),
            _ => Ok(Applied::Done),
        }
    }

    /// The numbers of those instances that are members, each once, in the order given.
    pub(super) fn member_numbers(&self, instances: &[String]) -> Result<Vec<u32>, Stop> {
        let mut statement =
            self.db.prepare_cached("SELECT no FROM node WHERE instance=?1 AND active=1")?;
        let mut numbers = Vec::with_capacity(instances.len());
        for instance in instances {
            let number = statement.query_row([instance], |r| r.get::<_, u32>(0)).optional()?;
            numbers.extend(number.filter(|no| !numbers.contains(no)));
        }
        Ok(numbers)
    }

    pub(super) fn all_members(&self) -> Result<Vec<u32>, Stop> {
        self.all("SELECT no FROM node WHERE active=1 ORDER BY no", [], |r| r.get(0))
    }

    pub(super) fn add_location(&mut self, data: DataId, instance: &str) -> Result<Applied, Stop> {
        let node = self.member(instance)?;
        let Some((mut locations, mut lacking)) = self.copies(data)? else {
            return Ok(Applied::Location { live: false });
        };
        if locations.contains(&node) {
            return Ok(Applied::Location { live: true });
        }
        if !lacking.contains(&node) {
            return Ok(Applied::Location { live: false }); // REBALANCE-2
        }
        lacking.retain(|no| *no != node);
        locations.push(node);
        self.set_copies(data, &locations, &lacking)?;
        Ok(Applied::Location { live: true })
    }

    pub(super) fn drop_location(
        &mut self,
        data: DataId,
        instance: &str,
        again: bool,
        now: UnixMillis,
    ) -> Result<Applied, Stop> {
        let node = self.member(instance)?;
        let Some((mut locations, mut lacking)) = self.copies(data)? else {
            return Ok(Applied::Location { live: false });
        };
        let pending = lacking.contains(&node);
        if !pending && !locations.contains(&node) {
            // Released: a reader that began before has found it gone. Nobody misses it.
            return Ok(Applied::Location { live: true });
        }
        let members = self.all_members()?;
        let others = locations.iter().any(|no| *no != node && members.contains(no));
        if locations.contains(&node) && !others {
            // The last one known: wrong here and there, or only taken for it, it is all there is.
            return Ok(Applied::Location { live: true });
        }
        locations.retain(|no| *no != node);
        if !pending {
            lacking.push(node);
        }
        self.set_copies(data, &locations, &lacking)?;
        if !pending || again {
            self.outbox(OutboxKind::Replicate, data, &[node], now)?;
        }
        Ok(Applied::Location { live: true })
    }

    /// The nodes that have and that lack a copy of live data.
    pub(super) fn copies(&self, data: DataId) -> Result<Option<Copies>, Stop> {
        self.one(
            "SELECT locations, lacking FROM blob WHERE data=?1 AND state=0",
            [id_bytes(data)],
            |r| {
                Ok((unpack_nodes(r.get_ref(0)?.as_blob()?), unpack_nodes(r.get_ref(1)?.as_blob()?)))
            },
        )
    }

    pub(super) fn set_copies(
        &self,
        data: DataId,
        locations: &[u32],
        lacking: &[u32],
    ) -> Result<(), Stop> {
        self.run(
            "UPDATE blob SET locations=?2, lacking=?3 WHERE data=?1",
            params![id_bytes(data), pack_nodes(locations), pack_nodes(lacking)],
        )?;
        Ok(())
    }

    /// Leaves work for the queue, in the same transaction as its cause.
    pub(super) fn outbox(
        &mut self,
        kind: OutboxKind,
        data: DataId,
        nodes: &[u32],
        not_before: UnixMillis,
    ) -> Result<(), Stop> {
        let (index, n) = self.next_outbox();
        self.run(
            "INSERT INTO outbox VALUES(?1,?2,?3,?4,?5,?6)",
            params![index, n, kind as i64, id_bytes(data), pack_nodes(nodes), not_before as i64],
        )?;
        Ok(())
    }
}

/// How an [`OutboxTask`] is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutboxKind {
    Delete = 1,
    Cleanup = 2,
    Replicate = 3,
    Discard = 4,
}

impl OutboxKind {
    /// The task of a stored row, or `None` where the row makes no sense.
    pub fn task(kind: i64, data_id: DataId, mut nodes: Vec<String>) -> Option<OutboxTask> {
        match kind {
            1 => Some(OutboxTask::Delete { data_id, nodes }),
            2 => Some(OutboxTask::Cleanup { data_id, nodes }),
            3 => nodes.pop().map(|to| OutboxTask::Replicate { data_id, to }),
            4 => nodes.pop().map(|from| OutboxTask::Discard { data_id, from }),
            _ => None,
        }
    }
}
