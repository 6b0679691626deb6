//! The table, and the file with everything that was measured.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Args;
use crate::load::Window;
use crate::rows::Row;
use crate::subject::{Kind, Subject};

/// What was measured so far.
pub struct Report {
    kinds: Vec<Kind>,
    rows: Vec<Value>,
}

impl Report {
    /// Begins the table.
    pub fn new(args: &Args, subjects: &[Subject]) -> Report {
        println!("\n{} rounds, {} connections, {:?}", args.rounds, args.connections, args.payload);
        println!(
            "{:<13} {:<15} {:>9} {:>8} {:>9} {:>9} {:>10} {:>8}",
            "load", "subject", "ops/s", "MiB/s", "p50 ms", "p99 ms", "CPU ms/op", "vs weed"
        );
        Report { kinds: subjects.iter().map(|s| s.kind).collect(), rows: Vec::new() }
    }

    /// Adds a row: for each subject its windows, one a round.
    pub fn add(&mut self, row: &Row, windows: Vec<Vec<Window>>) {
        let weed = self.kinds.iter().position(|kind| *kind == Kind::Weed);
        for (kind, own) in self.kinds.iter().zip(&windows) {
            let ratio = weed.map(|weed| ratio(own, &windows[weed]));
            self.rows.push(line(row, *kind, own, ratio));
        }
    }

    /// Memory and rest, and the file.
    pub fn finish(self, args: &Args, subjects: &[Subject], idle: &[f64]) -> anyhow::Result<()> {
        println!("\n{:<15} {:<24} {:>9} {:>9}", "subject", "process", "RSS MiB", "peak MiB");
        let mut memory = Vec::new();
        for (subject, idle) in subjects.iter().zip(idle) {
            let name = subject.kind.name();
            for process in subject.memory()? {
                let (rss, peak) = (process.rss_kib >> 10, process.peak_kib >> 10);
                println!("{name:<15} {:<24} {rss:>9} {peak:>9}", process.name);
                memory.push(json!({ "subject": name, "process": process.name,
                    "rss_kib": process.rss_kib, "peak_kib": process.peak_kib }));
            }
            println!("{name:<15} without load: {idle:.1} ms CPU per second");
            memory.push(json!({ "subject": name, "idle_cpu_ms_per_s": idle }));
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let path = args.out.join(format!("s3-{at}.json"));
        let all = json!({ "unix_time": at, "args": format!("{args:?}"), "rows": self.rows,
            "memory": memory });
        std::fs::write(&path, serde_json::to_string_pretty(&all)?)?;
        println!("\neverything: {}", path.display());
        Ok(())
    }
}

/// Operations per CPU second, ours over theirs: the median over rounds.
fn ratio(own: &[Window], other: &[Window]) -> f64 {
    let each = own.iter().zip(other).map(|(a, b)| a.per_cpu_second() / b.per_cpu_second());
    median(each.collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    (at(values.len().saturating_sub(1) / 2) + at(values.len() / 2)) / 2.0
}

fn line(row: &Row, kind: Kind, windows: &[Window], ratio: Option<f64>) -> Value {
    let mut latencies: Vec<Duration> = windows.iter().flat_map(|w| &w.latencies).copied().collect();
    latencies.sort();
    let quantile = |q: f64| {
        let at = ((latencies.len() as f64 * q) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
    };
    let rate = median(windows.iter().map(|w| w.ops as f64 / w.wall.as_secs_f64()).collect());
    let mib = rate * row.bytes() as f64 / f64::from(1 << 20);
    let cpu = median(windows.iter().map(|w| 1e3 / w.per_cpu_second()).collect());
    let (p50, p99) = (quantile(0.5), quantile(0.99));
    let shown = match ratio {
        Some(ratio) if kind != Kind::Weed => format!("{ratio:.2}"),
        _ => "-".into(),
    };
    println!(
        "{:<13} {:<15} {rate:>9.1} {mib:>8.1} {p50:>9.2} {p99:>9.2} {cpu:>10.3} {shown:>8}",
        row.name(),
        kind.name()
    );
    let windows = windows
        .iter()
        .map(|w| json!({ "ops": w.ops, "wall_s": w.wall.as_secs_f64(), "cpu_s": w.cpu }));
    json!({ "load": row.name(), "subject": kind.name(), "ops_per_s": rate, "mib_per_s": mib,
        "p50_ms": p50, "p99_ms": p99, "cpu_ms_per_op": cpu, "ratio_to_weed": ratio,
        "windows": windows.collect::<Vec<_>>() })
}
