//! `make bench`: the same signed S3 load on MockS3 and on SeaweedFS, in turns, in one run.
//!
//! Closed loop over a few connections. What counts is operations per CPU second of the servers:
//! rounds are interleaved (A B C, B C A, ...) and ratios are medians over rounds, so that other
//! work on the machine, which makes times worthless, cancels out. The exit code says that
//! everything was answered and was right, and nothing about speed.
//!
//! - `BENCH-1` every answer is checked: status, and all bytes of a GET, or the entries of a LIST;
//! - `BENCH-2` only processes that were started here are measured and ended, by pid.

mod client;
mod data;
mod load;
mod process;
mod report;
mod rows;
mod subject;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use nix::sys::statvfs::statvfs;

use client::Payload;
use data::Data;
use load::Limit;
use report::Report;
use rows::Row;
use subject::{Kind, Subject};

/// Free disk space without which the run does not begin, in bytes.
const ROOM: u64 = 14 << 30;
/// How long subjects may take to come to rest between rows.
const REST_LIMIT: Duration = Duration::from_secs(60);

/// Arguments of the bench.
#[derive(Parser, Clone, Debug)]
pub struct Args {
    /// The program to measure.
    #[arg(long, default_value = "target/release/mocks3")]
    program: PathBuf,
    /// SeaweedFS.
    #[arg(long, default_value = ".deps/venv/bin/weed")]
    weed: PathBuf,
    /// Where data and results go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Whom to measure.
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL.map(|k| k.name().to_owned()))]
    subjects: Vec<String>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values_t = Row::all().map(|r| r.name()))]
    rows: Vec<String>,
    /// Rounds; ratios are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one window of load, at most.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// What one window may write or read, in MiB.
    #[arg(long, default_value_t = 256)]
    window_mib: u64,
    /// Connections at once.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Keys in each bucket that is listed.
    #[arg(long, default_value_t = 10_000)]
    list_keys: u64,
    /// How bodies are signed: "unsigned" (as SDKs do over TLS) or "signed" (their SHA-256).
    #[arg(long, default_value = "unsigned")]
    payload: Payload,
    /// Seed of the data.
    #[arg(long, env = "SEED", default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`; means nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let kinds = args.subjects.iter().map(|name| Kind::named(name));
    let kinds = kinds.collect::<anyhow::Result<Vec<_>>>()?;
    let rows = args.rows.iter().map(|name| Row::named(name));
    let rows = rows.collect::<anyhow::Result<Vec<_>>>()?;
    std::fs::create_dir_all(&args.out)?;
    let disk = statvfs(&args.out)?;
    let free = disk.blocks_available() * disk.fragment_size();
    ensure!(free > ROOM, "{} MiB free, the bench wants {}", free >> 20, ROOM >> 20);
    let work = tempfile::Builder::new().prefix("data-").tempdir_in(&args.out)?;
    let data = Data::new(args.seed);
    let mut subjects = Vec::new();
    for kind in kinds {
        let begun = Instant::now();
        let subject = Subject::start(kind, &args, work.path()).await;
        subjects.push(subject.with_context(|| format!("{} did not start", kind.name()))?);
        println!("{} is up after {:.1} s", kind.name(), begun.elapsed().as_secs_f64());
    }
    let mut report = Report::new(&args, &subjects);
    let idle = idle(&subjects).await?;
    for row in rows {
        row.prepare(&args, &data, &subjects).await?;
        rest(&subjects).await?;
        let mut windows = vec![Vec::new(); subjects.len()];
        for round in 0..args.rounds {
            for turn in 0..subjects.len() {
                let index = (round + turn) % subjects.len();
                let limit = Limit::new(&args, row.bytes());
                let window = row.run(&args, &data, &subjects[index], round, limit).await;
                let what = || format!("{} on {}", row.name(), subjects[index].kind.name());
                windows[index].push(window.with_context(what)?);
            }
        }
        report.add(&row, windows);
        row.clean_up(&args, &subjects).await?;
    }
    report.finish(&args, &subjects, &idle)?;
    for subject in subjects {
        subject.stop().await;
    }
    Ok(())
}

/// CPU milliseconds per second of each subject without load.
async fn idle(subjects: &[Subject]) -> anyhow::Result<Vec<f64>> {
    rest(subjects).await?;
    let before = subjects.iter().map(Subject::cpu).collect::<anyhow::Result<Vec<_>>>()?;
    let pause = Duration::from_secs(5);
    tokio::time::sleep(pause).await;
    let used = |(s, before): (&Subject, f64)| Ok((s.cpu()? - before) * 1e3 / pause.as_secs_f64());
    subjects.iter().zip(before).map(used).collect()
}

/// Waits until what the last row left behind (deletions, compaction) is done.
async fn rest(subjects: &[Subject]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let sum = || subjects.iter().map(Subject::cpu).sum::<anyhow::Result<f64>>();
    let mut last = sum()?;
    while begun.elapsed() < REST_LIMIT {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = sum()?;
        if now - last <= 0.02 * subjects.len() as f64 {
            return Ok(());
        }
        last = now;
    }
    println!("note: subjects did not come to rest within {} s", REST_LIMIT.as_secs());
    Ok(())
}
