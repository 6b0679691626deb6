//! Log lines about refused peers, paced: the first of a kind at once, then one per [`PAUSE`] that
//! says how many were left out. Kinds are fixed texts, so the table stays small.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The pause between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Pace {
    kinds: HashMap<&'static str, (Instant, u64)>,
}

impl Pace {
    /// Whether a line is due, and how many of the kind were left out since the last one.
    fn admit(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        match self.kinds.get_mut(kind) {
            Some((last, left_out)) if now - *last < PAUSE => {
                *left_out += 1;
                None
            }
            before => {
                let left_out = before.map_or(0, |(_, left_out)| *left_out);
                self.kinds.insert(kind, (now, 0));
                Some(left_out)
            }
        }
    }
}

/// The paced log of one node.
#[derive(Default)]
pub struct Complaints(Mutex<Pace>);

impl Complaints {
    /// Logs a refusal if one of its kind is due.
    pub fn complain(&self, kind: &'static str, peer: &str, why: &dyn std::fmt::Display) {
        let mut pace = self.0.lock().expect("no panic while the pace is held");
        let due = pace.admit(kind, Instant::now());
        drop(pace);
        if let Some(left_out) = due {
            tracing::warn!(peer, kind, left_out, "refused between nodes: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_is_said_at_once_and_the_rest_are_counted() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.admit("a", start), Some(0));
        assert_eq!(pace.admit("a", start + PAUSE / 2), None);
        assert_eq!(pace.admit("b", start + PAUSE / 2), Some(0), "kinds do not hide each other");
        assert_eq!(pace.admit("a", start + PAUSE * 9 / 10), None);
        assert_eq!(pace.admit("a", start + PAUSE), Some(2));
        assert_eq!(pace.admit("a", start + PAUSE * 3), Some(0));
    }
}
