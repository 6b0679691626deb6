//! How much work of a bounded rate is due: for the scrubber and for rebalancing. Pure.
//!
//! - `PACE-1` over time no more than the rate is spent, but for the last overshoot;
//! - `PACE-2` no more than [`BURST`] is saved up.

use std::time::Duration;

use tokio::time::Instant;

/// How much may be saved up.
const BURST: Duration = Duration::from_secs(2);

/// A credit in bytes that grows at a rate.
#[derive(Debug)]
pub struct Pace {
    rate: u64,
    credit: i64,
    last: Instant,
}

impl Pace {
    /// No credit yet; `rate` bytes a second (0: never any).
    pub fn new(rate: u64, now: Instant) -> Self {
        Pace { rate, credit: 0, last: now }
    }

    /// How many bytes are due, if any.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.last).min(BURST);
        self.last = now;
        let earned = self.rate as f64 * elapsed.as_secs_f64();
        let most = self.rate as f64 * BURST.as_secs_f64();
        self.credit = (self.credit as f64 + earned).min(most) as i64;
        (self.credit > 0).then_some(self.credit as u64)
    }

    /// So many bytes were spent; may be more than were due.
    pub fn spent(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
