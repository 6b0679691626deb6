//! The log of a replica that begins with a state out of a backup.

use redb::Durability;

use super::{HEAD, LogError, LogStore, encode};
use crate::replica::types::{LogId, Vote};

impl LogStore {
    /// Makes a new log that of a replica of this group which has applied and purged all up to `at`.
    ///
    /// # Errors
    /// When the disk will not, or the replica belongs to a group.
    pub fn seed(&self, group: u128, at: LogId) -> Result<(), LogError> {
        let mut own = self.file.group();
        if own.is_some() {
            return Err(LogError::Member);
        }
        let vote = Vote::new(at.leader_id.term, self.id());
        self.file.write(Durability::Immediate, |tx| {
            let mut head = tx.open_table(HEAD)?;
            head.insert("group", encode(&group)?.as_slice())?;
            head.insert("vote", encode(&vote)?.as_slice())?;
            head.insert("purged", encode(&at)?.as_slice())?;
            Ok(())
        })?;
        *own = Some(group);
        Ok(())
    }
}
