//! The CPU fault: keeps the process at so many cores, its own service included, by threads that
//! burn what is missing.
//!
//! All CPU faults of a process share one [ledger]: their curves are summed, and the total is held
//! at the sum. Each fault brings threads of its own (`fault-cpu-0` ...), as crowded and as nice as
//! it says; each thread asks the term of its fault itself. The method and its constants: measured,
//! fault-fidelity, sections 1 to 3.
//!
//! - `CPU-1` a fault is dropped from the sum, and its threads leave, within a slot (7 ms) of its
//!   end, though nobody calls anything;
//! - `CPU-2` what is asked for is what counts for it + the shortfall - the excess (what the service
//!   used beyond it) + what is owed, which is at most 50 ms for each core;
//! - `CPU-3` a thread is never less nice than who started the fault.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::burner::Fault;
use self::ledger::LEDGER;
use super::effect::{Curve, Effect, Progress, Refusal, Released};
use super::term::{End, Term};

mod account;
mod books;
mod burner;
mod clock;
mod ledger;
#[cfg(test)]
mod tests;

pub use self::clock::{process_cpu_ns, thread_cpu_ns};

/// The most burner threads for a core.
pub const CROWD: u32 = 8;

/// What a CPU fault is, besides its curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The most that the curve may ask for, in cores: above 0, up to all that the process may run
    /// on.
    pub cores: f64,
    /// How many threads burn for each core or part of it, 1 to [`CROWD`]: the total is the same,
    /// but the service stands in a longer line.
    #[serde(default = "one")]
    pub crowd: u32,
    /// How nice the threads are, 0 to 19; 19 uses the CPU, but hardly hurts.
    #[serde(default)]
    pub nice: i32,
}

fn one() -> u32 {
    1
}

impl Settings {
    /// Whether they make sense on this machine.
    ///
    /// # Errors
    /// The first that does not, and what would be right.
    pub fn check(&self) -> Result<(), Refusal> {
        let wrong = |why: String| Err(Refusal::Invalid(why));
        let most = usable_cores();
        if !(self.cores > 0.0 && self.cores <= most as f64) {
            return wrong(format!("cores: expected more than 0, up to {most}, got {}", self.cores));
        }
        if !(1..=CROWD).contains(&self.crowd) {
            return wrong(format!("crowd: expected 1 to {CROWD}, got {}", self.crowd));
        }
        if !(0..=19).contains(&self.nice) {
            return wrong(format!("nice: expected 0 to 19, got {}", self.nice));
        }
        Ok(())
    }

    fn threads(&self) -> u32 {
        self.crowd * self.cores.ceil() as u32
    }
}

/// How many cores the process may run on, whatever its quota: to burn beyond a quota is a fault of
/// its own, since the whole process is throttled then.
pub fn usable_cores() -> usize {
    let own = nix::unistd::Pid::from_raw(0);
    let allowed = nix::sched::sched_getaffinity(own).map(|set| {
        (0..nix::sched::CpuSet::count()).filter(|n| set.is_set(*n).unwrap_or(false)).count()
    });
    let known = || std::thread::available_parallelism().map_or(1, |n| n.get());
    allowed.unwrap_or_else(|_| known())
}

/// A CPU fault at work.
pub struct CpuSpike {
    fault: Arc<Fault>,
    threads: Vec<JoinHandle<()>>,
}

impl CpuSpike {
    /// Starts it. The curve gives cores.
    ///
    /// # Errors
    /// Settings that make no sense; the system gives no more threads.
    pub fn start(settings: Settings, curve: Curve, term: Term) -> Result<CpuSpike, Refusal> {
        settings.check()?;
        let (id, count) = (LEDGER.number(), settings.threads());
        let fault = Arc::new(Fault::new(id, term.clone(), settings.nice));
        // Threads that find no account leave again: so nobody burns if one cannot be started.
        let threads = LEDGER.add((id, term, curve), (settings.cores, count), |before| {
            (0..count).map(|n| spawn(&fault, before + n, n)).collect()
        })?;
        Ok(CpuSpike { fault, threads })
    }

    /// Ends it, if it is not over, and waits for its threads.
    fn stop(&mut self) -> End {
        let end = self.fault.term.end(End::Deleted);
        self.fault.hurry();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic has ended the term
        }
        end
    }

    fn report(&self, view: books::View) -> Progress {
        Progress {
            requested: view.requested,
            effective: view.effective,
            requested_total: view.requested_total,
            effective_total: view.effective_total,
            shortfall_total: view.shortfall_total,
            onset: view.onset.map(|at| LEDGER.instant(at)),
            settled: view.settled.map(|at| LEDGER.instant(at)),
            aside: vec![("burnt_cpu_s", self.fault.burnt()), ("excess_cpu_s", view.excess_total)],
            limited_by: view.limited_by,
        }
    }
}

fn spawn(fault: &Arc<Fault>, name: u32, index: u32) -> Result<JoinHandle<()>, Refusal> {
    let fault = Arc::clone(fault);
    let thread = std::thread::Builder::new().name(format!("fault-cpu-{name}"));
    let failed =
        |e: std::io::Error| Refusal::System { what: "start a burner thread", why: e.to_string() };
    thread.spawn(move || fault.burn(index)).map_err(failed)
}

impl Effect for CpuSpike {
    fn progress(&self) -> Progress {
        self.report(LEDGER.view(self.fault.id))
    }

    fn release(mut self: Box<Self>) -> Released {
        let end = self.stop();
        let stopped = self.fault.stopped().unwrap_or_else(Instant::now);
        let progress = self.report(LEDGER.remove(self.fault.id));
        Released { progress, end, stopped, released: Instant::now() }
    }
}

impl Drop for CpuSpike {
    fn drop(&mut self) {
        self.stop();
        LEDGER.remove(self.fault.id); // does nothing after a release
    }
}
