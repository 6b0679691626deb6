//! Group commit: many writers share one `fdatasync`.
//!
//! - SYNC-1: whoever asks has already written its bytes. A leader takes all askers that are there
//!   when it starts; those who come later wait for the next round, even if their bytes happened
//!   to get in.
//! - SYNC-2: after a failed sync nothing is known about what is on disk (the kernel may have
//!   dropped the pages): the group stops for good, and everybody hears so.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use super::error::Error;
use super::locked;
use super::segment::Segment;

/// The meeting point of writers that want their bytes durable.
#[derive(Default)]
pub struct GroupSync {
    round: Mutex<Round>,
    wake: Condvar,
}

#[derive(Default)]
struct Round {
    dirty: BTreeMap<u32, Arc<Segment>>,
    /// How many have asked.
    asked: u64,
    /// How many of them, in order, have been served.
    served: u64,
    leading: bool,
    failed: Option<String>,
}

impl GroupSync {
    /// Returns once everything written to `segments` before the call is durable.
    ///
    /// # Errors
    /// `Fatal` if a sync failed, now or before.
    pub fn sync<'a>(
        &self,
        segments: impl IntoIterator<Item = &'a Arc<Segment>>,
    ) -> Result<(), Error> {
        let mut round = locked(&self.round);
        for segment in segments {
            if !segment.is_sealed() {
                round.dirty.entry(segment.id).or_insert_with(|| segment.clone());
            }
        }
        round.asked += 1;
        let ticket = round.asked;
        loop {
            if let Some(reason) = &round.failed {
                return Err(Error::Fatal(reason.clone()));
            }
            if round.served >= ticket {
                return Ok(());
            }
            if round.leading {
                round = self.wake.wait(round).unwrap_or_else(|e| e.into_inner());
                continue;
            }
            round.leading = true;
            let (dirty, upto) = (std::mem::take(&mut round.dirty), round.asked);
            drop(round);
            let result = dirty.values().try_for_each(|segment| {
                segment.sync().map_err(|e| format!("cannot sync {}: {e}", segment.path().display()))
            });
            round = locked(&self.round);
            round.leading = false;
            match result {
                Ok(()) => round.served = upto,
                Err(reason) => round.failed = round.failed.take().or(Some(reason)),
            }
            self.wake.notify_all();
        }
    }

    /// Stops the group: the state of the disk is not known any more.
    pub fn stop(&self, reason: String) {
        let mut round = locked(&self.round);
        round.failed = round.failed.take().or(Some(reason));
        self.wake.notify_all();
    }

    /// Refuses where the group has stopped.
    ///
    /// # Errors
    /// `Fatal`, with the reason.
    pub fn check(&self) -> Result<(), Error> {
        locked(&self.round).failed.clone().map_or(Ok(()), |reason| Err(Error::Fatal(reason)))
    }
}
