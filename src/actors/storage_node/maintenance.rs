//! What upkeep is due: how much to scrub, which items to ask metadata about, what to drop. Pure.
//!
//! Driven by `upkeep`, which reads clock and disk.
//!
//! - `MAINT-1` the scrubber reads at its rate on average, bursts are bounded, and it rests between
//!   passes;
//! - `MAINT-2` an item is dropped as an orphan only when it is older than the grace *and* metadata
//!   has said that it is aborted: from then on it can never become referenced;
//! - `MAINT-3` every item is asked about once in ten rounds or less;
//! - `MAINT-4` what metadata holds to be here and is not is found page by page, and reported;
//! - `MAINT-5` only the catalog under which the items were written has a say in what is dropped.

use std::time::Duration;

use tokio::time::Instant;

use crate::actors::metadata::command::AbortAnswer;
use crate::actors::metadata::query::{BlobInfo, DataStatus};
use crate::actors::pace::Pace;
use crate::types::{DataId, UnixMillis};

/// How many ids go into one question.
pub const PAGE: usize = 1000;
/// In how many rounds all items are asked about.
const ROUNDS: u64 = 10;
/// The least number of pages in a round.
const LEAST_PAGES: u64 = 4;

/// The pace of the scrubber, with a cursor `C` of the store.
#[derive(Debug)]
pub struct Scrub<C> {
    pace: Pace,
    rest: Duration,
    cursor: C,
    rests_until: Option<Instant>,
}

impl<C: Copy + Default> Scrub<C> {
    /// A scrubber that reads `rate` bytes a second (0: never) and rests after each pass.
    pub fn new(rate: u64, rest: Duration, now: Instant) -> Self {
        Scrub { pace: Pace::new(rate, now), rest, cursor: C::default(), rests_until: None }
    }

    /// Where to go on and how many bytes to read, if any are due.
    pub fn due(&mut self, now: Instant) -> Option<(C, u64)> {
        let due = self.pace.due(now);
        if self.rests_until.is_some_and(|until| now < until) {
            return None;
        }
        self.rests_until = None;
        due.map(|bytes| (self.cursor, bytes))
    }

    /// A step was made; `None` ends the pass.
    pub fn advanced(&mut self, now: Instant, cursor: Option<C>, bytes_read: u64) {
        self.pace.spent(bytes_read);
        self.cursor = cursor.unwrap_or_default();
        if cursor.is_none() {
            self.rests_until = Some(now + self.rest);
        }
    }
}

/// The rounds in which metadata is asked about what lies here.
#[derive(Debug)]
pub struct Sweep {
    every: Duration,
    grace_ms: u64,
    next_round: Instant,
    cursor: Option<DataId>,
    pages_left: u64,
    /// Metadata's books are compared behind this id next.
    pub compared: Option<DataId>,
}

impl Sweep {
    /// Rounds begin every `every`; items younger than `grace` are left alone.
    pub fn new(every: Duration, grace: Duration, now: Instant) -> Self {
        let grace_ms = grace.as_millis() as u64;
        let next_round = now + every;
        Sweep { every, grace_ms, next_round, cursor: None, pages_left: 0, compared: None }
    }

    /// Whether a page is to be asked about now; `items` is how many there are.
    pub fn due(&mut self, now: Instant, items: u64) -> bool {
        if now >= self.next_round {
            self.next_round = now + self.every;
            self.pages_left = items.div_ceil(PAGE as u64 * ROUNDS).max(LEAST_PAGES); // MAINT-3
        }
        self.pages_left > 0
    }

    /// The page begins after this id.
    pub fn cursor(&self) -> Option<DataId> {
        self.cursor
    }

    /// A page of ids with the times they were stored: goes on behind it, and says which are old
    /// enough.
    pub fn page(
        &mut self,
        page: impl IntoIterator<Item = (DataId, UnixMillis)>,
        now: UnixMillis,
    ) -> Vec<DataId> {
        let (mut count, mut old) = (0, Vec::new());
        self.pages_left = self.pages_left.saturating_sub(1);
        for (data_id, stored_at) in page {
            count += 1;
            self.cursor = Some(data_id);
            if stored_at <= self.old_before(now) {
                old.push(data_id);
            }
        }
        if count < PAGE {
            (self.cursor, self.pages_left) = (None, 0); // the end: the next round begins anew
        }
        old
    }

    /// What happened before this time is older than the grace.
    pub fn old_before(&self, now: UnixMillis) -> UnixMillis {
        now.saturating_sub(self.grace_ms)
    }

    /// The page could not be asked about: the round ends, the next one begins with that page.
    pub fn failed(&mut self, cursor: Option<DataId>) {
        (self.cursor, self.pages_left) = (cursor, 0);
    }
}

/// What metadata's answers about some ids ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// To be aborted in metadata first.
    pub abort: Vec<DataId>,
    /// To be deleted here.
    pub delete: Vec<DataId>,
}

/// Judges ids by their status. What was freed before `freed_before` is beyond its task: a copy that
/// was made while the task ran, or after it.
pub fn judge(ids: &[DataId], statuses: &[DataStatus], freed_before: UnixMillis) -> Verdict {
    let mut verdict = Verdict::default();
    for (id, status) in ids.iter().zip(statuses) {
        match status {
            DataStatus::Referenced => {}
            DataStatus::Freed { since_ms } if *since_ms >= freed_before => {} // its task is on the way
            DataStatus::Freed { .. } | DataStatus::Aborted => verdict.delete.push(*id),
            DataStatus::Unknown => verdict.abort.push(*id),
        }
    }
    verdict
}

/// Of a page of metadata's books, the data that should be here and are not.
pub fn missing(page: &[BlobInfo], own: &str, here: impl Fn(DataId) -> bool) -> Vec<DataId> {
    let ours = page.iter().filter(|blob| blob.locations.iter().any(|at| at == own));
    ours.map(|blob| blob.data_id).filter(|id| !here(*id)).collect()
}

/// The ids that were aborted for good, and may be deleted (MAINT-2).
pub fn aborted(ids: &[DataId], answers: &[AbortAnswer]) -> Vec<DataId> {
    let pairs = ids.iter().zip(answers);
    pairs.filter(|(_, answer)| **answer == AbortAnswer::Aborted).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_scrubber_keeps_its_rate_whatever_the_size_of_its_steps() {
        for overshoot in [0, MIB / 2, 5 * MIB] {
            let begin = Instant::now();
            let mut scrub = Scrub::<u32>::new(2 * MIB, seconds(600), begin);
            let mut read = 0;
            for n in 1..=1000 {
                let now = begin + Duration::from_millis(100 * n);
                if let Some((_, bytes)) = scrub.due(now) {
                    scrub.advanced(now, Some(1), bytes + overshoot);
                    read += bytes + overshoot;
                }
            }
            let wanted = 2 * MIB * 100;
            assert!(read.abs_diff(wanted) <= 6 * MIB, "{read} read, not about {wanted}");
        }
    }

    #[test]
    fn the_scrubber_saves_up_little_rests_after_a_pass_and_starts_over() {
        let begin = Instant::now();
        let mut scrub = Scrub::<u32>::new(MIB, seconds(600), begin);
        assert_eq!(scrub.due(begin + seconds(500)), Some((0, 2 * MIB)), "bursts are bounded");
        scrub.advanced(begin + seconds(500), Some(7), 2 * MIB);
        assert_eq!(scrub.due(begin + seconds(501)), Some((7, MIB)));
        scrub.advanced(begin + seconds(501), None, MIB);
        assert_eq!(scrub.due(begin + seconds(1100)), None, "it rests");
        assert_eq!(scrub.due(begin + seconds(1101)).map(|(cursor, _)| cursor), Some(0));
        let mut never = Scrub::<u32>::new(0, seconds(1), begin);
        assert_eq!(never.due(begin + seconds(100)), None);
    }

    /// All ids that a sweep over `items` items asks about, in `rounds` rounds.
    fn sweep(items: u64, rounds: u64) -> Vec<u128> {
        let begin = Instant::now();
        let mut sweep = Sweep::new(seconds(60), seconds(600), begin);
        let mut asked = Vec::new();
        for round in 1..=rounds {
            let now = begin + seconds(60 * round);
            while sweep.due(now, items) {
                let from = sweep.cursor().map_or(0, |id| id.0 + 1);
                let to = u128::from(items).min(from + PAGE as u128);
                asked.extend(
                    sweep.page((from..to).map(|n| (DataId(n), 0)), 600_000).iter().map(|id| id.0),
                );
            }
        }
        asked
    }

    #[test]
    fn every_item_is_asked_about_in_ten_rounds_and_small_stores_in_each() {
        for items in [0, 1, 999, 1000, 1001, 3500] {
            assert_eq!(
                sweep(items, 1),
                (0..u128::from(items)).collect::<Vec<_>>(),
                "{items} items"
            );
            assert_eq!(sweep(items, 2).len() as u64, 2 * items, "{items} items");
        }
        for items in [50_000, 123_456] {
            let asked = sweep(items, ROUNDS);
            assert_eq!(asked, (0..u128::from(items)).collect::<Vec<_>>(), "{items} items");
        }
    }

    #[test]
    fn young_items_are_left_alone_and_a_failed_page_is_asked_about_again() {
        let begin = Instant::now();
        let mut sweep = Sweep::new(seconds(60), Duration::from_millis(100), begin);
        assert!(!sweep.due(begin, 5));
        assert!(sweep.due(begin + seconds(60), 5));
        let page = (0..PAGE as u128).map(|n| (DataId(n), if n == 3 { 900 } else { 901 }));
        assert_eq!(sweep.page(page, 1000), [DataId(3)]);
        assert_eq!(sweep.cursor(), Some(DataId(999)));
        sweep.failed(None);
        assert!(!sweep.due(begin + seconds(61), 5), "the round is over");
        assert!(sweep.due(begin + seconds(120), 5));
        assert_eq!(sweep.cursor(), None);
    }

    #[test]
    fn only_what_metadata_has_aborted_or_freed_long_ago_is_deleted() {
        use DataStatus::{Aborted, Freed, Referenced, Unknown};
        let ids: Vec<DataId> = (0..5).map(DataId).collect();
        let (late, early) = (Freed { since_ms: 100 }, Freed { since_ms: 99 });
        let verdict = judge(&ids, &[Referenced, late, Aborted, Unknown, early], 100);
        let delete = vec![DataId(2), DataId(4)];
        assert_eq!(verdict, Verdict { abort: vec![DataId(3)], delete });
        let answers = [AbortAnswer::Referenced, AbortAnswer::Freed, AbortAnswer::Aborted];
        assert_eq!(aborted(&ids, &answers), [DataId(2)]);
    }
}
