//! What the actor and its fetches share: sources, cache, waiting bodies, spool, permits and
//! counts.
//!
//! Made by the actor at its start, and gone with it. Locks are held for a look-up only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::hold::Hold;
use super::message::{Opened, Refusal, Stats};
use super::sources::Sources;
use super::spool::Spool;
use crate::data::desk::Transfers;

/// A small object in the cache.
#[derive(Debug)]
pub struct Kept {
    /// All but the bytes.
    pub opened: Opened,
    /// The bytes.
    pub bytes: Bytes,
}

/// Numbers that fetches go by.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Fetches at once.
    pub fetches: usize,
    /// How long all sources together may take to begin an answer.
    pub timeout: Duration,
}

/// Shared by the actor and its tasks.
pub struct Shared {
    sources: Mutex<Sources>,
    cache: Mutex<Cache<Kept>>,
    /// Bodies that wait for the data plane.
    pub hold: Arc<Hold>,
    /// Bodies on disk.
    pub spool: Arc<Spool>,
    /// Gives out tickets.
    pub transfers: Arc<Transfers>,
    /// One per fetch under way.
    pub permits: Arc<Semaphore>,
    /// Numbers.
    pub limits: FetchLimits,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    found: AtomicU64,
    absent: AtomicU64,
    failed: AtomicU64,
}

impl Shared {
    /// Puts the parts together.
    pub fn new(
        sources: Sources,
        cache: Cache<Kept>,
        hold: Arc<Hold>,
        spool: Spool,
        transfers: Arc<Transfers>,
        limits: FetchLimits,
    ) -> Self {
        Shared {
            sources: Mutex::new(sources),
            cache: Mutex::new(cache),
            hold,
            spool: Arc::new(spool),
            transfers,
            permits: Arc::new(Semaphore::new(limits.fetches)),
            limits,
            counts: Counts::default(),
        }
    }

    /// The sources.
    pub fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().expect("no panic while the sources are held")
    }

    /// The cache.
    pub fn cache(&self) -> MutexGuard<'_, Cache<Kept>> {
        self.cache.lock().expect("no panic while the cache is held")
    }

    /// Counts one request by its outcome.
    pub fn count<T>(&self, outcome: &Result<Option<T>, Refusal>) {
        let kind = match outcome {
            Ok(Some(_)) => &self.counts.found,
            Ok(None) => &self.counts.absent,
            Err(_) => &self.counts.failed,
        };
        for counter in [&self.counts.requests, kind] {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All counts.
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let cache = self.cache();
        let (cached, (entries, bytes)) = (cache.counts(), cache.size());
        Stats {
            requests: get(&self.counts.requests),
            found: get(&self.counts.found),
            absent: get(&self.counts.absent),
            failed: get(&self.counts.failed),
            cache_hits: cached.hits,
            cache_misses: cached.misses,
            cache_evicted: cached.evicted,
            cache_entries: entries as u64,
            cache_bytes: bytes,
            cache_limit: cache.limit(),
            spool_bytes: self.spool.used(),
            fetching: (self.limits.fetches - self.permits.available_permits()) as u64,
        }
    }
}
