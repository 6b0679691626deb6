//! How long operations took, as counts by size: four to each doubling, from a microsecond on.

use std::time::Duration;

const BUCKETS: usize = 128;
/// To each doubling.
const FINE: f64 = 4.0;

#[derive(Clone, Debug)]
pub(super) struct Latencies([u64; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Latencies([0; BUCKETS])
    }
}

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let doublings = (took.as_secs_f64() * 1e6).max(1.0).log2();
        self.0[((doublings * FINE) as usize).min(BUCKETS - 1)] += 1;
    }

    /// So long at the most took this part of them, in ms, rounded up by at most a fifth.
    pub(super) fn quantile_ms(&self, part: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        let rank = ((all as f64 * part).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.0.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(((bucket as f64 + 1.0) / FINE).exp2() / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_fifth() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile_ms(0.5), None);
        (1..=1000).for_each(|n| latencies.add(Duration::from_micros(n * 10)));
        for (part, want) in [(0.5, 5.0), (0.99, 9.9), (0.001, 0.01)] {
            let have = latencies.quantile_ms(part).unwrap();
            assert!(want <= have && have <= want * 1.2, "{have} for {want}");
        }
        latencies.add(Duration::MAX);
        assert!(latencies.quantile_ms(1.0).unwrap() > 1e6);
    }
}
