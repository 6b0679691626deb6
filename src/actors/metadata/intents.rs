//! The keys under which commands were applied, and what came of them.
//!
//! Used by `store.rs`. Owns the table `intent` (outcomes by command index) and an index over it in
//! memory: keys are random, so one on disk would dirty a page or two for each command; the table
//! only grows at one end and goes away at the other.
//!
//! 1. INTENT-1: a key is known to the commands at the [`KEPT`] indexes after the one it was first
//!    applied at, and to no later one, however the batches are cut.
//! 2. INTENT-2: key, outcome and effect are written in one transaction; the index in memory follows
//!    after its commit.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, params};

use super::command::Outcome;
use super::step::{pack, unpack};
use super::store::Fatal;

/// For how many command indexes a key is known. Part of the format: replicas must agree on it.
pub(super) const KEPT: u64 = 50_000;

/// All keys that are known.
#[derive(Debug, Default)]
pub(super) struct Intents {
    index_of: HashMap<u128, u64>,
    /// By index, the oldest first.
    order: VecDeque<(u64, u128)>,
}

impl Intents {
    /// Reads the keys.
    pub fn load(db: &Connection) -> Result<Intents, Fatal> {
        let mut intents = Intents::default();
        let mut statement = db.prepare("SELECT idx, key FROM intent ORDER BY idx")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let key = u128::from_be_bytes(row.get(1)?);
            intents.add(row.get::<_, i64>(0)? as u64, key);
        }
        Ok(intents)
    }

    /// Begins a batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch { before: self, new: Vec::new(), index_of: HashMap::new() }
    }

    /// Takes over what a batch added, after its commit at the index `applied`.
    pub fn keep(&mut self, new: Vec<(u64, u128)>, applied: u64) {
        for (index, key) in new {
            self.add(index, key);
        }
        while let Some((index, key)) =
            self.order.pop_front_if(|(index, _)| expired(*index, applied))
        {
            // the key may have been used again since
            if self.index_of.get(&key) == Some(&index) {
                self.index_of.remove(&key);
            }
        }
    }

    fn add(&mut self, index: u64, key: u128) {
        self.index_of.insert(key, index);
        self.order.push_back((index, key));
    }
}

/// Nothing after `applied` knows a key of `index` any more (INTENT-1).
fn expired(index: u64, applied: u64) -> bool {
    index + KEPT <= applied
}

/// The keys known within a batch.
pub(super) struct Batch<'a> {
    before: &'a Intents,
    new: Vec<(u64, u128)>,
    index_of: HashMap<u128, u64>,
}

impl Batch<'_> {
    /// The outcome that is known for `key`, or that of `apply`, which is known from then on. Key 0
    /// is never known.
    pub fn once(
        &mut self,
        db: &Connection,
        index: u64,
        key: u128,
        apply: impl FnOnce() -> Result<Outcome, Fatal>,
    ) -> Result<Outcome, Fatal> {
        if key == 0 {
            return apply();
        }
        let known = self.index_of.get(&key).or_else(|| self.before.index_of.get(&key));
        if let Some(first) = known.filter(|first| !expired(**first, index - 1)) {
            let mut find = db.prepare_cached("SELECT outcome FROM intent WHERE idx=?1")?;
            let outcome: Vec<u8> = find.query_row([*first as i64], |r| r.get(0))?;
            return unpack(&outcome);
        }
        let outcome = apply()?;
        db.prepare_cached("INSERT INTO intent VALUES(?1,?2,?3)")?.execute(params![
            index as i64,
            key.to_be_bytes(),
            pack(&outcome)
        ])?;
        self.index_of.insert(key, index);
        self.new.push((index, key));
        Ok(outcome)
    }

    /// Removes what nobody after `applied` knows: as many rows as came, all at the low end.
    pub fn forget(&self, db: &Connection, applied: u64) -> Result<(), Fatal> {
        let upto = applied.saturating_sub(KEPT) as i64;
        db.prepare_cached("DELETE FROM intent WHERE idx<=?1")?.execute([upto])?;
        Ok(())
    }

    /// What is to be kept after the commit.
    pub fn into_new(self) -> Vec<(u64, u128)> {
        self.new
    }
}
