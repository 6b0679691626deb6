//! Outcomes under the keys of their commands: a command that comes again is answered, not applied
//! (STATE-2).
//!
//! - `ANSWER-1` refusals are kept too: a second try is not a second chance, or a client that retries
//!   could see "refused" for what its other try then does.
//! - `ANSWER-2` an outcome goes away by the index of its command alone, or when the bytes of all
//!   exceed their limit, oldest first: on every replica with the same command (STATE-3).

use std::marker::PhantomData;

use redb::{Error, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::{EachTable, Schema, corrupted, decode, encode};

/// Index of the command -> its key and encoded outcome.
const ANSWERS: TableDefinition<u64, (u128, &[u8])> = TableDefinition::new("answers");
/// Key -> index of the command.
const KEYS: TableDefinition<u128, u64> = TableDefinition::new("keys");

pub(super) fn each_table(each: &mut impl EachTable) -> Result<(), Error> {
    each.table(ANSWERS)?;
    each.table(KEYS)
}

/// The kept outcomes, open in one write transaction.
pub(super) struct Answers<'tx, S> {
    by_index: Table<'tx, u64, (u128, &'static [u8])>,
    by_key: Table<'tx, u128, u64>,
    oldest: Option<u64>,
    bytes: u64,
    schema: PhantomData<S>,
}

impl<'tx, S: Schema> Answers<'tx, S> {
    /// Opens the tables, in which stand `bytes` of outcomes.
    pub(super) fn open(tx: &'tx WriteTransaction, bytes: u64) -> Result<Self, Error> {
        let (by_index, by_key) = (tx.open_table(ANSWERS)?, tx.open_table(KEYS)?);
        let oldest = first(&by_index)?;
        Ok(Answers { by_index, by_key, oldest, bytes, schema: PhantomData })
    }

    /// Bytes of all outcomes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The outcome that is known under the key, or that of `apply`, which is kept. Key 0 is none.
    pub(super) fn once(
        &mut self,
        index: u64,
        key: u128,
        apply: impl FnOnce() -> Result<S::Outcome, Error>,
    ) -> Result<S::Outcome, Error> {
        while self.oldest.is_some_and(|oldest| oldest.saturating_add(S::KEEP_COMMANDS) <= index) {
            self.forget_oldest()?;
        }
        if key == 0 {
            return apply();
        }
        if let Some(known) = self.find(key)? {
            return Ok(known);
        }
        let outcome = apply()?;
        self.keep(index, key, &encode(&outcome))?;
        Ok(outcome)
    }

    fn find(&self, key: u128) -> Result<Option<S::Outcome>, Error> {
        let Some(index) = self.by_key.get(key)?.map(|index| index.value()) else { return Ok(None) };
        let row = self.by_index.get(index)?;
        let row = row.ok_or_else(|| corrupted(format!("outcome {index} is missing")))?;
        decode("outcome", row.value().1).map(Some)
    }

    fn keep(&mut self, index: u64, key: u128, outcome: &[u8]) -> Result<(), Error> {
        self.by_index.insert(index, (key, outcome))?;
        self.by_key.insert(key, index)?;
        self.bytes += outcome.len() as u64;
        self.oldest = self.oldest.or(Some(index));
        while self.bytes > S::KEEP_BYTES && self.oldest.is_some() {
            self.forget_oldest()?;
        }
        Ok(())
    }

    fn forget_oldest(&mut self) -> Result<(), Error> {
        if let Some((_, row)) = self.by_index.pop_first()? {
            let (key, outcome) = row.value();
            self.by_key.remove(key)?;
            self.bytes = self.bytes.saturating_sub(outcome.len() as u64);
        }
        self.oldest = first(&self.by_index)?;
        Ok(())
    }
}

fn first(by_index: &Table<'_, u64, (u128, &'static [u8])>) -> Result<Option<u64>, Error> {
    Ok(by_index.first()?.map(|(index, _)| index.value()))
}
