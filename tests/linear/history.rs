//! What clients of an object store asked and were told: the material of the checker.
//!
//! - `HIST-1` each value is written by one operation only (bodies are unique, so ETags are);
//! - `HIST-2` a write whose outcome the client never learned has no end: it may take effect at any
//!   time after it was begun, once or never. A read that was not answered says nothing: leave it out;
//! - `HIST-3` a refused write (412) did nothing, and at some point of its time its condition did
//!   not hold. A write that did nothing for another known reason is left out.

use std::collections::BTreeMap;
use std::fmt;

/// What an object holds, by a number of its own.
pub type Value = u64;

/// Under which condition a write is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// None.
    Always,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match` with the ETag of this value.
    Holds(Value),
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// PUT; `refused` where the answer was 412.
    Put { key: String, value: Value, when: When, refused: bool },
    /// DELETE.
    Delete { key: String },
    /// GET or HEAD; None: there was no such key.
    Read { key: String, saw: Option<Value> },
    /// LIST of all keys from `from` (included) to `to` (excluded), at one point of time.
    List { from: String, to: String, saw: BTreeMap<String, Value> },
}

/// One operation of one client. Times are of one clock, in any unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: u32,
    pub begun: u64,
    /// None: the outcome was never learned (HIST-2).
    pub ended: Option<u64>,
    pub act: Act,
}

impl Act {
    /// Whether it could have changed anything.
    pub fn writes(&self) -> bool {
        matches!(self, Act::Put { refused: false, .. } | Act::Delete { .. })
    }

    /// The key that it is about; None for a list.
    pub fn key(&self) -> Option<&str> {
        match self {
            Act::Put { key, .. } | Act::Delete { key } | Act::Read { key, .. } => Some(key),
            Act::List { .. } => None,
        }
    }

    /// What it says about one key, if it does.
    pub fn of(&self, wanted: &str) -> Option<Act> {
        match self {
            Act::List { from, to, saw } => {
                let inside = from.as_str() <= wanted && wanted < to.as_str();
                let saw = saw.get(wanted).copied();
                inside.then(|| Act::Read { key: wanted.to_owned(), saw })
            }
            act => (act.key() == Some(wanted)).then(|| act.clone()),
        }
    }
}

impl Operation {
    /// What was known of it at a moment: a write that was still going on may have happened or not.
    pub fn as_of(&self, moment: u64) -> Option<Operation> {
        if self.begun > moment {
            return None;
        }
        let mut seen = self.clone();
        if self.ended.is_none_or(|end| end > moment) {
            match &mut seen.act {
                Act::Put { refused, .. } => *refused = false,
                Act::Delete { .. } => {}
                Act::Read { .. } | Act::List { .. } => return None,
            }
            seen.ended = None;
        }
        Some(seen)
    }
}

/// Each key of a history.
pub fn keys(history: &[Operation]) -> Vec<String> {
    let listed = history.iter().filter_map(|o| match &o.act {
        Act::List { saw, .. } => Some(saw.keys().cloned()),
        _ => None,
    });
    let named = history.iter().filter_map(|o| o.act.key().map(str::to_owned));
    let mut keys: Vec<String> = listed.flatten().chain(named).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// What a history says about one key: a list is a read of it.
pub fn of_key(history: &[Operation], key: &str) -> Vec<Operation> {
    let of = |o: &Operation| Some(Operation { act: o.act.of(key)?, ..o.clone() });
    history.iter().filter_map(of).collect()
}

fn held(saw: Option<Value>) -> String {
    saw.map_or("nothing".into(), |value| format!("#{value}"))
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Act::Put { key, value, when, refused } => {
                write!(f, "PUT {key} #{value}")?;
                match when {
                    When::Always => {}
                    When::Absent => write!(f, " if absent")?,
                    When::Holds(other) => write!(f, " if it holds #{other}")?,
                }
                if *refused { write!(f, ": refused") } else { Ok(()) }
            }
            Act::Delete { key } => write!(f, "DELETE {key}"),
            Act::Read { key, saw } => write!(f, "read {key}: {}", held(*saw)),
            Act::List { from, to, saw } => {
                let rows = saw.iter().map(|(key, value)| format!("{key}=#{value}"));
                write!(f, "LIST {from:?}..{to:?}: {}", rows.collect::<Vec<_>>().join(" "))
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ended = self.ended.map_or("?".into(), |end| end.to_string());
        write!(f, "[{} .. {ended}] client {}: {}", self.begun, self.client, self.act)
    }
}
