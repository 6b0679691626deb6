//! The clocks of the CPU fault, in nanoseconds: what the process and the calling thread have used
//! so far, and the time by which slots are cut. All include the running slice of the caller and
//! take under a microsecond (measured: fault-fidelity, section 8).

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// The CPU time of this process so far, all threads, those that have ended too, in ns.
pub fn process_cpu_ns() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// The CPU time of the calling thread so far, in ns.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// A time that only goes forward, from an unknown beginning, in ns.
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Sleeps until then by [`monotonic_ns`], or a little less if a signal comes. Nothing else wakes
/// it, so it is for times near by: no more than a slot.
pub fn sleep_until_ns(until: u64) {
    let until = TimeSpec::from(Duration::from_nanos(until));
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &until);
}

/// 0 if there is no such clock; every Linux has these three.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
