//! What is written down about a flood while it runs, and how it is told. Pure but for the stamps.

use std::time::{Duration, Instant};

use super::super::effect::{Curve, Progress};
use super::level::Level;
use super::pace::Pace;
use super::trail::{SHORT, Totals};
use super::wire::Trouble;

/// For how long a cause is told after it was last seen.
const FRESH: Duration = Duration::from_secs(1);

/// Why a flood is less than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// What came of a connection.
    Trouble(Trouble),
    /// As many attempts are under way as may be: the target does not answer.
    Unanswered,
    /// The target does not read: the buffers are full.
    Unread,
    /// Files are kept free for the process itself: its limit, and for how many connections it
    /// leaves.
    Files(u64, usize),
    /// Connections are opened no faster.
    Opening,
    /// The threads of the flood did not get the time.
    Busy,
}

impl Cause {
    fn text(self) -> String {
        let text = match self {
            Cause::Trouble(Trouble::Refused) => "the target refuses connections",
            Cause::Trouble(Trouble::Reset) => "the target resets or ends connections",
            Cause::Trouble(Trouble::TimedOut) => "the target does not take connections in time",
            Cause::Trouble(Trouble::NoPort) => "no local port to the target is left",
            Cause::Trouble(Trouble::NoFile) => "no file descriptor is left (EMFILE or ENFILE)",
            Cause::Trouble(Trouble::NoMemory) => "the kernel has no memory for another connection",
            Cause::Trouble(Trouble::Forbidden) => "the target is not one that may be hit",
            Cause::Trouble(Trouble::Other) => "the target cannot be reached",
            Cause::Unanswered => {
                "the target does not answer: all attempts that may be are under way"
            }
            Cause::Unread => "the target does not read: the buffers are full",
            Cause::Opening => "connections are opened no faster",
            Cause::Busy => "the threads of the flood did not get enough time",
            Cause::Files(limit, left) => {
                return format!(
                    "open files: RLIMIT_NOFILE of {limit} leaves room for {left} connections"
                );
            }
        };
        text.to_owned()
    }
}

/// The ledger of the mode.
#[derive(Debug)]
pub(super) enum Account {
    /// Connections or bytes per second.
    Rate(Pace),
    /// Connections held.
    Level(Level),
}

/// The books of a flood.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) account: Account,
    /// How many items of the ledger are one of the curve.
    unit: f64,
    /// In items.
    ceiling: f64,
    now: Duration,
    troubles: [u64; Trouble::ALL.len()],
    cause: Option<(Cause, Duration)>,
    /// What stood in the way a moment ago; a cause only if something was given up because of it.
    hint: Option<(Cause, Duration)>,
    onset: Option<Instant>,
    settled: Option<Instant>,
    /// By thread, in seconds.
    cpu: Vec<f64>,
    /// Threads that have not ended.
    pub(super) running: usize,
    /// When the last thread stopped hurting, and when it had given everything back.
    pub(super) ended: Option<(Instant, Instant)>,
}

impl Books {
    /// Of a flood by so many threads; `unit` items of the ledger are one of the curve.
    pub(super) fn new(account: Account, unit: f64, ceiling: f64, threads: usize) -> Books {
        Books {
            account,
            unit,
            ceiling: ceiling * unit,
            now: Duration::ZERO,
            troubles: [0; Trouble::ALL.len()],
            cause: None,
            hint: None,
            onset: None,
            settled: None,
            cpu: vec![0.0; threads],
            running: threads,
            ended: None,
        }
    }

    fn totals(&self) -> &dyn Totals {
        match &self.account {
            Account::Rate(pace) => pace,
            Account::Level(level) => level,
        }
    }

    /// Time goes on.
    pub(super) fn advance(&mut self, now: Duration, curve: &Curve) {
        let items = |at| curve(at) * self.unit;
        self.now = self.now.max(now);
        match &mut self.account {
            Account::Rate(pace) => {
                if pace.advance(now, &items) {
                    let hint = self.hint.filter(|(_, at)| now <= *at + SHORT);
                    self.suspect(hint.map_or(Cause::Busy, |(cause, _)| cause));
                }
            }
            Account::Level(level) => level.advance(now, &items),
        }
    }

    /// The ledger of a rate.
    pub(super) fn pace(&mut self) -> Option<&mut Pace> {
        match &mut self.account {
            Account::Rate(pace) => Some(pace),
            Account::Level(_) => None,
        }
    }

    /// The ledger of a level.
    pub(super) fn level(&mut self) -> Option<&mut Level> {
        match &mut self.account {
            Account::Level(level) => Some(level),
            Account::Rate(_) => None,
        }
    }

    /// Stamps what was seen for the first time, at the end of a tick of thread `index`.
    pub(super) fn stamp(&mut self, index: usize, cpu: f64) {
        self.cpu[index] = cpu;
        let totals = self.totals();
        let books = totals.progress();
        let (hurts, settled) = (books.effective + books.effective_total > 0.0, totals.settled());
        if hurts {
            self.onset.get_or_insert_with(Instant::now);
        }
        if settled {
            self.settled.get_or_insert_with(Instant::now);
        }
    }

    /// Counts trouble and takes it for the cause of whatever is missing.
    pub(super) fn trouble(&mut self, troubles: &[Trouble]) {
        for trouble in troubles {
            self.troubles[*trouble as usize] += 1;
            self.blame(Cause::Trouble(*trouble));
        }
    }

    /// Something is missing because of this.
    pub(super) fn blame(&mut self, cause: Cause) {
        self.cause = Some((cause, self.now));
    }

    /// Something is missing, perhaps because of this: unless a better cause is known.
    pub(super) fn suspect(&mut self, cause: Cause) {
        let vague = |known| matches!(known, Cause::Unread | Cause::Opening | Cause::Busy);
        if self.fresh().is_none_or(vague) {
            self.blame(cause);
        }
    }

    /// This stands in the way now; perhaps only for a moment.
    pub(super) fn hint(&mut self, cause: Cause) {
        self.hint = Some((cause, self.now));
    }

    fn fresh(&self) -> Option<Cause> {
        self.cause.filter(|(_, at)| self.now <= *at + FRESH).map(|(cause, _)| cause)
    }

    /// A thread has ended; the last one closes the books.
    pub(super) fn leave(&mut self, stopped: Instant, released: Instant) {
        let (a, b) = self.ended.unwrap_or((stopped, released));
        self.ended = Some((a.max(stopped), b.max(released)));
        self.running = self.running.saturating_sub(1);
        if self.running == 0
            && let Account::Rate(pace) = &mut self.account
        {
            pace.close();
        }
    }

    /// As it is told, in the unit of the curve.
    pub(super) fn progress(&self) -> Progress {
        let items = self.totals().progress();
        let counts = Trouble::ALL.iter().map(|t| (t.name(), self.troubles[*t as usize] as f64));
        let ceiling = (items.requested > self.ceiling).then(|| {
            format!(
                "ceiling: {} was asked for, no more than {} is given",
                items.requested / self.unit,
                self.ceiling / self.unit
            )
        });
        Progress {
            requested: items.requested / self.unit,
            effective: items.effective / self.unit,
            requested_total: items.requested_total / self.unit,
            effective_total: items.effective_total / self.unit,
            shortfall_total: items.shortfall_total / self.unit,
            onset: self.onset,
            settled: self.settled,
            aside: counts.chain([("cpu_seconds", self.cpu.iter().sum())]).collect(),
            limited_by: ceiling.or_else(|| self.fresh().map(Cause::text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn books(ceiling: f64) -> Books {
        Books::new(Account::Rate(Pace::new(ceiling, 0.0)), 1.0, ceiling, 1)
    }

    fn pass(books: &mut Books, ms: u64, rate: f64) {
        let curve: Curve = Arc::new(move |_| rate);
        books.advance(Duration::from_millis(ms), &curve);
    }

    #[test]
    fn a_cause_is_told_for_as_long_as_it_is_fresh_and_a_ceiling_comes_first() {
        let mut books = books(100.0);
        books.trouble(&[Trouble::Refused, Trouble::Refused, Trouble::NoFile]);
        books.suspect(Cause::Busy);
        assert!(books.progress().limited_by.unwrap().contains("EMFILE"));
        pass(&mut books, 900, 200.0);
        let told = books.progress();
        assert!(told.limited_by.unwrap().contains("200 was asked for, no more than 100"));
        assert!(told.aside.contains(&("refused", 2.0)) && told.aside.contains(&("no_file", 1.0)));
        pass(&mut books, 1001, 0.0);
        assert_eq!(books.progress().limited_by.unwrap(), Cause::Busy.text(), "a hole unexplained");
        pass(&mut books, 2002, 0.0);
        assert_eq!(books.progress().limited_by, None);
    }

    #[test]
    fn books_in_mib_are_told_in_mib() {
        let mib = 1_048_576.0;
        let pace = Account::Rate(Pace::new(4096.0 * mib, 2.0 * mib));
        let mut books = Books::new(pace, mib, 4096.0, 1);
        pass(&mut books, 100, 2.0);
        let granted = books.pace().unwrap().take(u64::MAX);
        books.pace().unwrap().settle(granted, 0, 0);
        pass(&mut books, 101, 0.0);
        let told = books.progress();
        assert!((told.requested_total - 0.201).abs() < 1e-6, "{told:?}");
        assert!((told.effective_total - 0.2).abs() < 1e-5, "{told:?}");
        assert!((told.effective - 2.0).abs() < 0.05, "{told:?}");
    }
}
