//! The books of all CPU faults of a process, as plain numbers: what is owed, who burns how much in
//! the next slot, and what is forgiven. A ledger, not a PI loop: what the service uses by itself
//! counts, and is made up for in the next slot. No clock, no thread: who steps them reads the
//! clocks and burns.
//!
//! - `BOOKS-1` a burn is never negative, never longer than what is left of the slot, and a slot is
//!   never longer than [`SLOT`];
//! - `BOOKS-2` the process as a whole is held at the sum of the targets, and of each fault what is
//!   owed is what was asked for, less what is effective and the shortfall, plus the excess;
//! - `BOOKS-3` no more is owed than [`WINDUP`] a core, either way: what is beyond is forgiven and
//!   counted as shortfall or excess, so that a hole is never paid back as a burst;
//! - `BOOKS-4` a fault that is over takes its debt with it.
//!
//! Constants: measured, fault-fidelity, sections 2 and 3. All times are seconds.

use super::account::{Account, Window};
use crate::faults::effect::Curve;

#[cfg(test)]
mod tests;

/// The length of a slot: 4 ms x the golden ratio. Not commensurate with any tick, so that a monitor
/// that samples by ticks is not deceived.
pub const SLOT: f64 = 6.472e-3;
/// Shorter burns are left for the next slot.
pub const LEAST: f64 = 20e-6;
/// The most that is owed for each core of the peaks.
pub const WINDUP: f64 = 0.05;
/// The own load must be above the target by so much to be named, in cores.
const NOTICEABLE: f64 = 0.01;

/// The clocks, all from the same beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The time.
    pub at: f64,
    /// The CPU time of the process, all of it.
    pub cpu: f64,
    /// The CPU time of all burners.
    pub burnt: f64,
}

/// What a thread is to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// To burn, of its own CPU time; 0: nothing.
    pub burn: f64,
    /// When the slot ends.
    pub until: f64,
}

/// How a fault goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Cores, now; 0 when it is over.
    pub requested: f64,
    /// Cores, over the last window; 0 when it is over.
    pub effective: f64,
    /// Core seconds.
    pub requested_total: f64,
    /// Core seconds.
    pub effective_total: f64,
    /// Core seconds.
    pub shortfall_total: f64,
    /// Core seconds that the process used beyond what was asked for.
    pub excess_total: f64,
    /// When a thread was first told to burn.
    pub onset: Option<f64>,
    /// When it was first within its tolerance.
    pub settled: Option<f64>,
    /// Why it is not as asked for, now.
    pub limited_by: Option<String>,
}

/// All faults of a process.
pub struct Books {
    accounts: Vec<Account>,
    last: Reading,
    targets: f64,
    window: Window<3>,
}

impl Books {
    /// Books without a fault.
    pub fn new(now: Reading) -> Books {
        Books {
            accounts: Vec::new(),
            last: now,
            targets: 0.0,
            window: Window::new(now.at, [now.cpu, now.burnt, 0.0]),
        }
    }

    /// Adds a fault as of the last reading. Its number must be new.
    pub fn open(&mut self, id: u64, curve: Curve, cores: f64, threads: u32) {
        if self.threads() == 0 {
            let Reading { at, cpu, burnt } = self.last;
            self.window = Window::new(at, [cpu, burnt, self.targets]);
        }
        self.accounts.push(Account::new(id, self.last.at, curve, cores, threads));
    }

    /// Ends a fault as of the last reading (BOOKS-4); it can be viewed until it is removed.
    pub fn close(&mut self, id: u64) {
        if let Some(account) = self.accounts.iter_mut().find(|a| a.id == id && !a.closed) {
            account.close();
        }
    }

    /// Forgets a fault.
    pub fn remove(&mut self, id: u64) {
        self.accounts.retain(|a| a.id != id);
    }

    /// Whether the curve of a fault panicked: it asks for nothing since.
    pub fn broken(&self, id: u64) -> bool {
        self.accounts.iter().any(|a| a.id == id && a.broken())
    }

    /// How many threads there are for those that are not over.
    pub fn threads(&self) -> u32 {
        self.open_accounts().map(|a| a.threads).sum()
    }

    /// Books what happened since the last reading.
    pub fn advance(&mut self, now: Reading) {
        let (from, to) = (self.last.at, now.at);
        let used = (now.cpu - self.last.cpu).max(0.0);
        if to <= from {
            return;
        }
        self.last = now;
        if self.open_accounts().next().is_none() {
            return;
        }
        let owed = self.debt();
        self.open_mut().for_each(|a| a.ask(from, to));
        self.targets += self.debt() - owed;
        self.spread(used, |a| a.debt.max(0.0), Account::credit);
        self.forgive();
        self.open_mut().for_each(|a| a.observe(to));
        self.window.note(to, [now.cpu, now.burnt, self.targets]);
    }

    /// What a thread of a fault is to do from the last reading on; None: its fault is over.
    pub fn slot(&mut self, id: u64, index: u32) -> Option<Slot> {
        let now = self.last.at;
        let before: u32 = self.open_accounts().take_while(|a| a.id != id).map(|a| a.threads).sum();
        let phase = f64::from(before + index) / f64::from(self.threads().max(1));
        let until = slot_end(now, phase);
        let due = |a: &Account| a.debt + a.sums(now, until).1;
        let total: f64 = self.open_accounts().map(due).sum();
        let positive: f64 = self.open_accounts().map(|a| due(a).max(0.0)).sum();
        let account = self.open_mut().find(|a| a.id == id)?;
        let part = if positive > 0.0 { due(account).max(0.0) / positive } else { 0.0 };
        let burn = (total.max(0.0) * part / f64::from(account.threads)).min(until - now);
        let burn = if burn < LEAST { 0.0 } else { burn };
        if burn > 0.0 {
            account.onset.get_or_insert(now);
        }
        Some(Slot { burn, until })
    }

    /// How a fault went until the last reading.
    pub fn view(&self, id: u64) -> Option<View> {
        let at = self.last.at;
        let account = self.accounts.iter().find(|a| a.id == id)?;
        let now = |value: f64| if account.closed { 0.0 } else { value };
        Some(View {
            requested: now(account.asks(at)),
            effective: now(account.recent(at).0),
            requested_total: account.asked,
            effective_total: account.effective,
            shortfall_total: account.shortfall,
            excess_total: account.excess,
            onset: account.onset,
            settled: account.settled,
            limited_by: if account.closed { None } else { self.limit(account) },
        })
    }

    fn limit(&self, account: &Account) -> Option<String> {
        let Reading { at, cpu, burnt } = self.last;
        let (effective, forgiven) = account.recent(at);
        let rates = self.window.rates(at, [cpu, burnt, self.targets]);
        if rates.is_some_and(|(_, [used, own, target])| used - own > target + NOTICEABLE) {
            return Some("the service itself uses more".into());
        }
        if forgiven > 0.0 {
            return Some(format!("the machine gave {effective:.2} cores in the last 100 ms"));
        }
        let over = account.asks(at) > account.cores;
        over.then(|| format!("its ceiling of {} cores", account.cores))
    }

    fn debt(&self) -> f64 {
        self.open_accounts().map(|a| a.debt).sum()
    }

    /// BOOKS-3.
    fn forgive(&mut self) {
        let limit = WINDUP * self.open_accounts().map(|a| a.cores.ceil()).sum::<f64>();
        let debt = self.debt();
        if debt > limit {
            self.spread(debt - limit, |a| a.debt.max(0.0), Account::forgive);
        } else if debt < -limit {
            self.spread(-debt - limit, |a| (-a.debt).max(0.0), Account::release);
        }
    }

    /// Gives each its part of a total by a weight; equal parts if nobody has any.
    fn spread(
        &mut self,
        total: f64,
        weight: impl Fn(&Account) -> f64,
        mut give: impl FnMut(&mut Account, f64),
    ) {
        let sum: f64 = self.open_accounts().map(&weight).sum();
        let equal = 1.0 / self.open_accounts().count().max(1) as f64;
        for account in self.open_mut() {
            let part = if sum > 0.0 { weight(account) / sum } else { equal };
            give(account, total * part);
        }
    }

    fn open_accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().filter(|a| !a.closed)
    }

    fn open_mut(&mut self) -> impl Iterator<Item = &mut Account> {
        self.accounts.iter_mut().filter(|a| !a.closed)
    }
}

/// When the slot ends in which `now` is, for a thread whose slots begin by `phase` of a slot later.
fn slot_end(now: f64, phase: f64) -> f64 {
    let shift = phase * SLOT;
    let end = (((now - shift) / SLOT).floor() + 1.0) * SLOT + shift;
    end.clamp(now, now + SLOT) // whatever the rounding did
}
