//! What this process uses, read from the kernel.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// One sample of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time since the process started, seconds.
    pub cpu_seconds: f64,
    /// CPU use since the last sample, percent of all cores that the process may use.
    pub cpu_percent: f64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Resident memory, percent of the machine's.
    pub memory_percent: f64,
    /// Use of the data directory's filesystem, percent.
    pub disk_percent: f64,
    /// Requests, messages and connections at the own sockets since the last sample, per second.
    pub moved_per_second: f64,
    /// Open file descriptors.
    pub open_fds: u64,
}

/// Takes samples and remembers the last one for the rates.
pub struct Sampler {
    data_dir: PathBuf,
    cores: f64,
    memory_bytes: u64,
    last: Option<(Instant, Duration, u64)>,
}

impl Sampler {
    /// A sampler; the directory tells which filesystem counts.
    pub fn new(data_dir: PathBuf) -> Self {
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let memory_bytes = read_kib("/proc/meminfo", "MemTotal:").unwrap_or(0) * 1024;
        Sampler { data_dir, cores, memory_bytes, last: None }
    }

    /// Takes a sample; `moved` is what went over the own sockets so far. What cannot be read counts
    /// as 0.
    pub fn sample(&mut self, moved: u64) -> Usage {
        let now = Instant::now();
        let cpu =
            clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Into::into);
        let rss_bytes = read_kib("/proc/self/status", "VmRSS:").unwrap_or(0) * 1024;
        let (cpu_percent, moved_per_second) = match self.last {
            Some((then, cpu_then, moved_then)) if now > then => {
                let seconds = (now - then).as_secs_f64();
                let used = cpu.saturating_sub(cpu_then).as_secs_f64();
                let new = moved.saturating_sub(moved_then) as f64;
                (100.0 * used / seconds / self.cores, new / seconds)
            }
            _ => (0.0, 0.0),
        };
        self.last = Some((now, cpu, moved));
        Usage {
            cpu_seconds: cpu.as_secs_f64(),
            cpu_percent,
            rss_bytes,
            memory_percent: 100.0 * rss_bytes as f64 / self.memory_bytes.max(1) as f64,
            disk_percent: disk_percent(&self.data_dir),
            moved_per_second,
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64),
        }
    }
}

fn read_kib(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn disk_percent(dir: &std::path::Path) -> f64 {
    let Ok(stat) = nix::sys::statvfs::statvfs(dir) else { return 0.0 };
    let (all, free) = (stat.blocks() as f64, stat.blocks_free() as f64);
    100.0 * (all - free) / all.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_sample_sees_the_work_done_since_the_first() {
        let mut sampler = Sampler::new(".".into());
        let first = sampler.sample(10);
        let until = Instant::now() + Duration::from_millis(60);
        let mut sum = 0u64;
        while Instant::now() < until {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        let second = sampler.sample(40);
        assert!(second.moved_per_second > 0.0 && second.moved_per_second <= 30.0 / 0.06);
        assert!(second.cpu_seconds > first.cpu_seconds && second.cpu_percent > 0.0, "{sum}");
        assert!(second.rss_bytes > 1 << 20 && second.open_fds > 2);
        assert!(second.disk_percent > 0.0 && second.disk_percent <= 100.0);
        assert!(second.memory_percent > 0.0 && second.memory_percent < 100.0);
    }
}
