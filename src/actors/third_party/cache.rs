//! The cache of small objects from sources: bounded in bytes, least recently used first out, each
//! for a while. Pure: times come in as values.
//!
//! Owned by `fetch.rs` behind a lock.
//!
//! - `CACHE-1` the cost of all entries never exceeds the limit;
//! - `CACHE-2` what is given out is no older than the time to live;
//! - `CACHE-3` only whole objects that passed every check of their source come in (the caller's
//!   duty).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::types::UnixMillis;

/// What an entry costs besides its bytes.
const ENTRY_COST: u64 = 256;

/// A cache of values under (bucket, key).
#[derive(Debug)]
pub struct Cache<V> {
    limit: u64,
    ttl_ms: u64,
    entries: HashMap<(String, String), Entry<V>>,
    /// Turn of last use to key: the first is the least recently used.
    order: BTreeMap<u64, (String, String)>,
    turn: u64,
    cost: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Entry<V> {
    value: Arc<V>,
    cost: u64,
    since: UnixMillis,
    turn: u64,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Asked and there.
    pub hits: u64,
    /// Asked and not there.
    pub misses: u64,
    /// Thrown out for want of room or for age.
    pub evicted: u64,
}

impl<V> Cache<V> {
    /// An empty cache of `limit` bytes; 0 keeps nothing.
    pub fn new(limit: u64, ttl_ms: u64) -> Self {
        let (entries, order) = (HashMap::new(), BTreeMap::new());
        Cache { limit, ttl_ms, entries, order, turn: 0, cost: 0, counts: Counts::default() }
    }

    /// The entry, which becomes the most recently used one.
    pub fn get(&mut self, bucket: &str, key: &str, now: UnixMillis) -> Option<Arc<V>> {
        let id = (bucket.to_owned(), key.to_owned());
        let fresh = self.entries.get(&id).is_some_and(|e| now < e.since + self.ttl_ms);
        if !fresh {
            self.counts.misses += 1;
            self.counts.evicted += u64::from(self.take(&id)); // CACHE-2
            return None;
        }
        self.counts.hits += 1;
        self.turn += 1;
        let entry = self.entries.get_mut(&id)?;
        self.order.remove(&entry.turn);
        entry.turn = self.turn;
        self.order.insert(self.turn, id);
        Some(entry.value.clone())
    }

    /// Keeps a value of so many bytes, unless it alone exceeds the limit.
    pub fn put(&mut self, bucket: &str, key: &str, value: V, bytes: u64, now: UnixMillis) {
        let id = (bucket.to_owned(), key.to_owned());
        self.take(&id);
        let cost = bytes + ENTRY_COST + (bucket.len() + key.len()) as u64;
        if cost > self.limit {
            return;
        }
        while self.cost + cost > self.limit {
            let Some(oldest) = self.order.first_key_value().map(|(_, id)| id.clone()) else {
                break;
            };
            self.take(&oldest); // CACHE-1
            self.counts.evicted += 1;
        }
        self.turn += 1;
        self.cost += cost;
        self.order.insert(self.turn, id.clone());
        let entry = Entry { value: Arc::new(value), cost, since: now, turn: self.turn };
        self.entries.insert(id, entry);
    }

    /// Forgets an entry; says whether it was there.
    pub fn remove(&mut self, bucket: &str, key: &str) -> bool {
        self.take(&(bucket.to_owned(), key.to_owned()))
    }

    /// Throws out what is too old.
    pub fn sweep(&mut self, now: UnixMillis) {
        let ttl_ms = self.ttl_ms;
        let old = self.entries.iter().filter(|(_, e)| now >= e.since + ttl_ms);
        let old: Vec<_> = old.map(|(id, _)| id.clone()).collect();
        for id in old {
            self.take(&id);
            self.counts.evicted += 1;
        }
    }

    /// Number of entries, and their cost in bytes.
    pub fn size(&self) -> (usize, u64) {
        (self.entries.len(), self.cost)
    }

    /// The most bytes that it holds.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What happened since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn take(&mut self, id: &(String, String)) -> bool {
        let Some(entry) = self.entries.remove(id) else { return false };
        self.order.remove(&entry.turn);
        self.cost -= entry.cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::new(3 * (ENTRY_COST + 12), 1000);
        for key in ["a", "b", "c"] {
            cache.put("b", key, key, 10, 0);
        }
        assert!(cache.get("b", "a", 1).is_some());
        cache.put("b", "d", "d", 10, 2);
        let there = ["a", "b", "c", "d"].map(|k| cache.get("b", k, 3).is_some());
        assert_eq!(there, [true, false, true, true]);
    }

    #[test]
    fn old_entries_and_too_large_ones_are_not_given() {
        let mut cache = Cache::new(1000, 100);
        cache.put("b", "k", 1, 10, 0);
        assert_eq!(cache.get("b", "k", 99).as_deref(), Some(&1));
        assert_eq!(cache.get("b", "k", 100), None);
        assert_eq!(cache.size(), (0, 0));
        cache.put("b", "large", 1, 1000, 0);
        assert_eq!(cache.get("b", "large", 0), None);
        cache.put("b", "k", 1, 10, 0);
        cache.sweep(100);
        assert_eq!(cache.size(), (0, 0));
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_what_is_given_is_what_was_put_last(
            limit in 0u64..2000, steps: Vec<(u8, u8, u16, u8)>,
        ) {
            let mut cache = Cache::new(limit, 50);
            let (mut now, mut last) = (0u64, HashMap::new());
            for (number, (what, key, bytes, wait)) in steps.into_iter().enumerate() {
                now += u64::from(wait % 16);
                let key = (key % 6).to_string();
                match what % 4 {
                    0 | 1 => {
                        cache.put("b", &key, number, u64::from(bytes % 700), now);
                        last.insert(key, (number, now));
                    }
                    2 => if let Some(value) = cache.get("b", &key, now) {
                        let (number, since) = last[&key];
                        prop_assert_eq!(*value, number);
                        prop_assert!(now - since < 50, "CACHE-2");
                    },
                    _ => { cache.remove("b", &key); cache.sweep(now); }
                }
                let (entries, cost) = cache.size();
                prop_assert!(cost <= limit, "CACHE-1");
                prop_assert_eq!(entries, cache.order.len());
                prop_assert_eq!(cost, cache.entries.values().map(|e| e.cost).sum::<u64>());
            }
        }
    }
}
