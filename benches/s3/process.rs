//! What processes cost, from `/proc`.

use std::collections::HashMap;
use std::fs;

use anyhow::Context;

/// Ticks per second of the times in `/proc`: fixed by the kernel's interface to programs.
const TICKS: f64 = 100.0;

/// What one process takes.
#[derive(Clone, Debug)]
pub struct Memory {
    /// What it is.
    pub name: String,
    /// Resident now, in KiB.
    pub rss_kib: u64,
    /// Resident at most so far, in KiB.
    pub peak_kib: u64,
}

/// A process and all that came of it.
pub fn family(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Processes come and go.
        let Ok(fields) = stat(pid) else { continue };
        children.entry(fields[1].parse()?).or_default().push(pid);
    }
    let (mut found, mut next) = (vec![root], 0);
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

/// CPU seconds, user and system, of a family, its ended children included.
pub fn cpu_seconds(root: u32) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for pid in family(root)? {
        let fields = stat(pid).with_context(|| format!("process {pid} is gone"))?;
        for time in &fields[11..15] {
            ticks += time.parse::<u64>()?;
        }
    }
    Ok(ticks as f64 / TICKS)
}

/// Memory of every process of a family.
pub fn memory(root: u32) -> anyhow::Result<Vec<Memory>> {
    let read = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            kib.with_context(|| format!("no {name} of {pid}"))
        };
        Ok(Memory { name: name(pid)?, rss_kib: field("VmRSS:")?, peak_kib: field("VmHWM:")? })
    };
    family(root)?.into_iter().map(read).collect()
}

/// The fields of `/proc/PID/stat` behind the name: state, parent, and so on.
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").context("stat has another form")?;
    Ok(fields.split(' ').map(str::to_owned).collect())
}

/// The service of a node of ours, else the first argument.
fn name(pid: u32) -> anyhow::Result<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    let args: Vec<_> = line.split(|&b| b == 0).map(String::from_utf8_lossy).collect();
    let service = args.iter().position(|arg| arg == "--service").and_then(|i| args.get(i + 1));
    let name = service.or_else(|| args.get(1)).context("a process without arguments")?;
    Ok(name.to_string())
}
