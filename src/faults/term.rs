//! Until when a fault may hurt: until it is stopped, its lease ends or its deadline comes, whichever is
//! first. A dead man's switch: each thread that hurts holds a clone and asks it by itself, so that the
//! fault ends in time though everything else of the program is dead.
//!
//! - `TERM-1` what is over stays over, and for the reason that was first;
//! - `TERM-2` a lease is renewed only while the term is not over, and never beyond the deadline;
//! - `TERM-3` whoever waits is woken by the end: at once by a stop, else within [`SLICE`].

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The longest that anybody sleeps without asking again.
pub const SLICE: Duration = Duration::from_millis(20);

/// Why a fault is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Its duration is over.
    Expired,
    /// Nobody renewed its lease: its injectors are dead, frozen or cut off.
    LeaseLost,
    /// It was deleted or disabled.
    Deleted,
    /// Everything was aborted.
    Aborted,
    /// A guard saw what it was to watch for.
    Guard,
    /// It could not go on: its thread failed.
    Failed,
}

impl End {
    const ALL: [End; 6] =
        [End::Expired, End::LeaseLost, End::Deleted, End::Aborted, End::Guard, End::Failed];
}

/// The term of one fault. Clones are the same term.
#[derive(Clone, Debug)]
pub struct Term(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    /// In ns since `begun`.
    deadline: u64,
    /// In ns since `begun`; no later than the deadline.
    lease: AtomicU64,
    /// 0 while it lasts, else 1 + the number of its [`End`].
    ended: AtomicU8,
    bell: Mutex<()>,
    rung: Condvar,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Term {
    /// Begins now.
    pub fn new(duration: Duration, lease: Duration) -> Term {
        let deadline = nanos(duration);
        Term(Arc::new(Inner {
            begun: Instant::now(),
            deadline,
            lease: AtomicU64::new(nanos(lease).min(deadline)),
            ended: AtomicU8::new(0),
            bell: Mutex::new(()),
            rung: Condvar::new(),
        }))
    }

    /// How long ago it began.
    pub fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// Whether it is over, and why.
    pub fn over(&self) -> Option<End> {
        self.over_at(nanos(self.elapsed()))
    }

    fn over_at(&self, now: u64) -> Option<End> {
        if let Some(end) = self.ended() {
            return Some(end);
        }
        if now >= self.0.deadline {
            return Some(self.end(End::Expired));
        }
        (now >= self.0.lease.load(Ordering::Acquire)).then(|| self.end(End::LeaseLost))
    }

    fn ended(&self) -> Option<End> {
        let number = self.0.ended.load(Ordering::Acquire);
        number.checked_sub(1).map(|n| End::ALL[usize::from(n)])
    }

    /// Ends it, unless it is over already; gives the reason that stands (TERM-1).
    pub fn end(&self, why: End) -> End {
        let number = 1 + End::ALL.iter().position(|e| *e == why).unwrap_or_default() as u8;
        let first = self.0.ended.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire);
        let _bell = self.0.bell.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.rung.notify_all();
        match first {
            Ok(_) => why,
            Err(_) => self.ended().unwrap_or(why),
        }
    }

    /// Lets the lease end so long from now, unless it ends later anyway; false: the term is over.
    pub fn renew(&self, lease: Duration) -> bool {
        let now = nanos(self.elapsed());
        if self.over_at(now).is_some() {
            return false;
        }
        let until = now.saturating_add(nanos(lease)).min(self.0.deadline); // TERM-2
        self.0.lease.fetch_max(until, Ordering::AcqRel);
        true
    }

    /// Sleeps until then, or until it is over; says whether it is.
    pub fn wait(&self, until: Instant) -> Option<End> {
        loop {
            if let Some(end) = self.over() {
                return Some(end);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let bell = self.0.bell.lock().unwrap_or_else(PoisonError::into_inner);
            if self.ended().is_none() {
                let _ = self.0.rung.wait_timeout(bell, left.min(SLICE)); // TERM-3
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn the_first_reason_stands() {
        let term = Term::new(LONG, LONG);
        assert_eq!(term.over(), None);
        assert_eq!(term.end(End::Guard), End::Guard);
        assert_eq!(term.end(End::Aborted), End::Guard);
        assert_eq!(term.over(), Some(End::Guard));
        assert!(!term.renew(LONG));
    }

    #[test]
    fn a_lease_that_nobody_renews_ends_it_and_one_that_is_renewed_does_not_outlive_the_deadline() {
        let (short, lease) = (Duration::from_millis(60), Duration::from_millis(20));
        let lost = Term::new(LONG, lease);
        assert_eq!(lost.wait(Instant::now() + LONG), Some(End::LeaseLost));
        assert!(!lost.renew(LONG), "it came back");
        let kept = Term::new(short, lease);
        assert!(kept.renew(LONG));
        assert_eq!(kept.wait(Instant::now() + LONG), Some(End::Expired));
        assert!(kept.elapsed() >= short);
    }

    #[test]
    fn whoever_waits_is_woken_at_once_by_a_stop() {
        let term = Term::new(LONG, LONG);
        let waits = {
            let term = term.clone();
            std::thread::spawn(move || term.wait(Instant::now() + LONG))
        };
        assert_eq!(term.wait(Instant::now() + Duration::from_millis(30)), None);
        let begun = Instant::now();
        term.end(End::Deleted);
        assert_eq!(waits.join().unwrap(), Some(End::Deleted));
        assert!(begun.elapsed() < Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn it_is_over_no_later_than_its_deadline_and_stays_over(
            deadline in 1_u64..1000,
            steps in prop::collection::vec((0_u64..200, 0_u64..400), 1..40),
        ) {
            let term = Term::new(Duration::from_nanos(deadline), LONG);
            let (mut now, mut over) = (0, None);
            for (pass, lease) in steps {
                now += pass;
                let at = term.over_at(now);
                prop_assert!(over.is_none() || over == at);
                prop_assert!(at.is_some() || now < deadline);
                over = at;
                if at.is_none() {
                    let until = now.saturating_add(lease).min(term.0.deadline);
                    term.0.lease.store(until, Ordering::Release);
                }
            }
        }
    }
}
