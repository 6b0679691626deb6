//! Data items: admitted, counted, freed, aborted, forgotten.
//!
//! Part of `step.rs`. Owns the tables `blob`, `manifest`, `outbox` (with `nodes.rs`) and the purge.
//!
//! 1. BLOB-1: `refs` of a live blob is the number of version rows and parts that name it, and at
//!    least 1; `refs` of a manifest is the number of version rows that name it.
//! 2. BLOB-2: a blob that falls to 0 becomes `FREED`, with one `Delete` row in the same commit.
//! 3. BLOB-3: an aborted id can never become live; a freed one neither, until it is purged.

use rusqlite::params;

use super::command::{AbortAnswer, Applied, MAX_BYTES, MAX_ITEMS, NewData, PURGE_LIMIT};
use super::model::Refused;
use super::nodes::OutboxKind;
use super::outbox::OutboxId;
use super::step::{Step, Stop, id_bytes, id_from, pack_nodes, unpack_nodes};
use crate::points::{self, Mutant};
use crate::types::{DataId, UnixMillis};

/// In use.
pub(super) const LIVE: i64 = 0;
/// Aborted before any use.
pub(super) const ABORTED: i64 = 1;
/// Was in use.
pub(super) const FREED: i64 = 2;

/// Bytes of a row: either one blob or a manifest of parts, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub data: Option<DataId>,
    pub manifest: Option<i64>,
}

impl Step<'_> {
    /// Whether this data was committed before; then the command is a retry.
    pub(super) fn is_retry(&self, data: &NewData) -> Result<bool, Stop> {
        let state =
            self.one("SELECT state FROM blob WHERE data=?1", [id_bytes(data.data_id)], |r| {
                r.get::<_, i64>(0)
            })?;
        match state {
            Some(ABORTED) => Err(Refused::Aborted.into()),
            known => Ok(known.is_some()),
        }
    }

    /// Takes fresh data in, with one reference.
    pub(super) fn admit(&mut self, data: &NewData, now: UnixMillis) -> Result<(), Stop> {
        if data.len > MAX_BYTES {
            return Err(Refused::InvalidArgument { what: "at most 1 PiB".to_owned() }.into());
        }
        let locations = self.member_numbers(&data.locations)?;
        let (have, need) = (locations.len() as u32, data.quorum);
        if have < need {
            return Err(Refused::NotEnoughLocations { have, need }.into());
        }
        let mut lacking = self.member_numbers(&data.missing)?;
        lacking.retain(|no| !locations.contains(no));
        self.run(
            "INSERT INTO blob VALUES(?1,?2,?3,?4,1,0,0,?5,?6)",
            params![
                id_bytes(data.data_id),
                data.len as i64,
                data.md5,
                data.crc64 as i64,
                pack_nodes(&locations),
                pack_nodes(&lacking)
            ],
        )?;
        for node in lacking {
            self.outbox(OutboxKind::Replicate, data.data_id, &[node], now)?;
        }
        Ok(())
    }

    /// One more row uses this content.
    pub(super) fn share(&self, content: Content) -> Result<(), Stop> {
        if let Some(data) = content.data {
            self.run("UPDATE blob SET refs=refs+1 WHERE data=?1", [id_bytes(data)])?;
        }
        if let Some(manifest) = content.manifest {
            self.run("UPDATE manifest SET refs=refs+1 WHERE no=?1", [manifest])?;
        }
        Ok(())
    }

    /// One row less uses this content.
    pub(super) fn release(
        &mut self,
        content: Content,
        now: UnixMillis,
        grace: u64,
    ) -> Result<(), Stop> {
        if let Some(data) = content.data {
            self.release_blob(data, now, grace)?;
        }
        if let Some(manifest) = content.manifest {
            let refs = self.one(
                "UPDATE manifest SET refs=refs-1 WHERE no=?1 RETURNING refs",
                [manifest],
                |r| r.get::<_, i64>(0),
            )?;
            if refs == Some(0) {
                self.run("DELETE FROM manifest WHERE no=?1", [manifest])?;
                self.release_parts(manifest, now, grace)?;
            }
        }
        Ok(())
    }

    /// Removes all parts of a manifest.
    pub(super) fn release_parts(
        &mut self,
        manifest: i64,
        now: UnixMillis,
        grace: u64,
    ) -> Result<(), Stop> {
        let sql = "SELECT data FROM part WHERE manifest=?1 ORDER BY no";
        for data in self.all(sql, [manifest], |r| r.get(0))? {
            self.release_blob(id_from(data), now, grace)?;
        }
        self.run("DELETE FROM part WHERE manifest=?1", [manifest])?;
        Ok(())
    }

    pub(super) fn release_blob(
        &mut self,
        data: DataId,
        now: UnixMillis,
        grace: u64,
    ) -> Result<(), Stop> {
        let (refs, mut nodes, lacking) = self
            .one(
                "UPDATE blob SET refs=refs-1 WHERE data=?1 RETURNING refs, locations, lacking",
                [id_bytes(data)],
                |r| {
                    let nodes = unpack_nodes(r.get_ref(1)?.as_blob()?);
                    Ok((r.get::<_, i64>(0)?, nodes, unpack_nodes(r.get_ref(2)?.as_blob()?)))
                },
            )?
            .ok_or(super::store::Fatal::Broken("a row names a blob that is not there"))?;
        if refs > 0 || points::breaks(Mutant::DeleteWithoutOutbox) {
            return Ok(());
        }
        self.run(
            "UPDATE blob SET state=?2, gone_ms=?3, locations=x'', lacking=x'' WHERE data=?1",
            params![id_bytes(data), FREED, now as i64],
        )?;
        // A node that lacks a copy may have got one that nobody reported.
        nodes.extend(lacking);
        self.outbox(OutboxKind::Delete, data, &nodes, now.saturating_add(grace))
    }

    pub(super) fn abort_data(&mut self, ids: &[DataId], now: UnixMillis) -> Result<Applied, Stop> {
        check_items(ids.len())?;
        let members = self.all_members()?;
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            let state = self.one("SELECT state FROM blob WHERE data=?1", [id_bytes(*id)], |r| {
                r.get::<_, i64>(0)
            })?;
            answers.push(match state {
                Some(LIVE) => AbortAnswer::Referenced,
                Some(FREED) => AbortAnswer::Freed,
                Some(_) => AbortAnswer::Aborted,
                None => {
                    self.run(
                        "INSERT INTO blob VALUES(?1,0,x'',0,0,?2,?3,x'',x'')",
                        params![id_bytes(*id), ABORTED, now as i64],
                    )?;
                    self.outbox(OutboxKind::Cleanup, *id, &members, now)?;
                    AbortAnswer::Aborted
                }
            });
        }
        Ok(Applied::AbortedData { answers })
    }

    pub(super) fn purge(&mut self, before: UnixMillis) -> Result<Applied, Stop> {
        for statement in [
            "DELETE FROM blob WHERE data IN (SELECT data FROM blob \
             WHERE state<>0 AND gone_ms<?1 ORDER BY gone_ms, data LIMIT ?2)",
            "DELETE FROM upload WHERE no IN (SELECT no FROM upload \
             WHERE open=0 AND done_ms<?1 ORDER BY done_ms, no LIMIT ?2)",
            "DELETE FROM request WHERE id IN (SELECT id FROM request \
             WHERE at_ms<?1 ORDER BY at_ms, id LIMIT ?2)",
        ] {
            self.run(statement, params![before as i64, PURGE_LIMIT])?;
        }
        Ok(Applied::Done)
    }

    pub(super) fn ack_outbox(&mut self, ids: &[OutboxId]) -> Result<Applied, Stop> {
        check_items(ids.len())?;
        for id in ids {
            self.run("DELETE FROM outbox WHERE idx=?1 AND n=?2", params![id.index as i64, id.n])?;
        }
        Ok(Applied::Done)
    }
}

/// Refuses lists that are longer than a command may hold (COMMAND-3).
pub(super) fn check_items(count: usize) -> Result<(), Stop> {
    match count <= MAX_ITEMS {
        true => Ok(()),
        false => {
            Err(Refused::InvalidArgument { what: format!("at most {MAX_ITEMS} items") }.into())
        }
    }
}
