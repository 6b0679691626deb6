//! To which group a replica belongs: once, and for good.

use redb::Durability;

use super::{File, HEAD, LogError, LogStore, Voters, encode};

impl LogStore {
    /// Whether the replica belongs to this group; a new one does from now on.
    pub async fn is_of(&self, group: u128) -> bool {
        match self.group() {
            Some(own) => own == group,
            None => self.join(group).await.is_ok() && self.group() == Some(group),
        }
    }

    /// Makes a new replica one of this group, for good.
    ///
    /// # Errors
    /// When the disk will not.
    pub async fn join(&self, group: u128) -> Result<(), String> {
        let file = self.file.clone();
        self.exec.run(move || file.join(group)).await.map_err(|e| e.to_string())
    }

    /// Makes a new replica the founder of this group, together with these voters, for good.
    ///
    /// # Errors
    /// When the disk will not, or the replica belongs to a group.
    pub async fn found(&self, group: u128, voters: Voters) -> Result<(), String> {
        let file = self.file.clone();
        self.exec.run(move || file.found(group, &voters)).await.map_err(|e| e.to_string())
    }

    /// Makes a replica new again whose group never began.
    ///
    /// # Errors
    /// When the disk will not.
    pub async fn give_up(&self) -> Result<(), String> {
        let file = self.file.clone();
        self.exec.run(move || file.give_up()).await.map_err(|e| e.to_string())
    }

    /// With whom this replica founded its group, if it did.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn founders(&self) -> Result<Option<Voters>, String> {
        let file = self.file.clone();
        self.exec.run(move || file.head("founders")).await.map_err(|e| e.to_string())
    }
}

impl File {
    fn join(&self, group: u128) -> Result<(), LogError> {
        let mut own = self.group();
        if own.is_none() {
            self.write(Durability::Immediate, |tx| {
                tx.open_table(HEAD)?.insert("group", encode(&group)?.as_slice())?;
                Ok(())
            })?;
            *own = Some(group);
        }
        Ok(())
    }

    fn found(&self, group: u128, voters: &Voters) -> Result<(), LogError> {
        let mut own = self.group();
        if own.is_some() {
            return Err(LogError::Member);
        }
        self.write(Durability::Immediate, |tx| {
            let mut head = tx.open_table(HEAD)?;
            head.insert("group", encode(&group)?.as_slice())?;
            head.insert("founders", encode(voters)?.as_slice())?;
            Ok(())
        })?;
        *own = Some(group);
        Ok(())
    }

    fn give_up(&self) -> Result<(), LogError> {
        let mut own = self.group();
        self.write(Durability::Immediate, |tx| {
            let mut head = tx.open_table(HEAD)?;
            head.remove("group")?;
            head.remove("founders")?;
            Ok(())
        })?;
        *own = None;
        Ok(())
    }
}
