//! Closed-loop load: so many connections, each with its next request as soon as the last one was
//! answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Args;
use crate::client::{Client, Op, Target};
use crate::subject::Subject;

/// What is done after the load belongs to it for this long (flushes, log writes).
const AFTERMATH: Duration = Duration::from_millis(300);

/// When a window ends.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Time.
    pub time: Duration,
    /// Operations.
    pub ops: u64,
}

impl Limit {
    /// The window of the arguments for operations that move so many bytes.
    pub fn new(args: &Args, bytes: u64) -> Limit {
        let ops = ((args.window_mib << 20) / bytes.max(1)).max(1);
        Limit { time: Duration::from_secs_f64(args.seconds), ops }
    }
}

/// What one window of load gave.
#[derive(Clone, Debug)]
pub struct Window {
    /// Operations.
    pub ops: u64,
    /// Length of the load.
    pub wall: Duration,
    /// CPU seconds of all processes of the subject.
    pub cpu: f64,
    /// Of each operation.
    pub latencies: Vec<Duration>,
}

impl Window {
    /// Operations per CPU second.
    pub fn per_cpu_second(&self) -> f64 {
        self.ops as f64 / self.cpu.max(0.01)
    }
}

/// What the n-th request of a window is.
pub type Script = Arc<dyn Fn(u64) -> Op + Send + Sync>;

/// Runs the requests of a script, each once, for as long as the limit lets it.
pub async fn drive(
    target: &Target,
    connections: usize,
    limit: Limit,
    script: Script,
) -> anyhow::Result<Vec<Duration>> {
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(target).await?;
        let (next, script) = (next.clone(), script.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while begun.elapsed() < limit.time {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= limit.ops {
                    break;
                }
                latencies.push(client.run(&script(n)).await?);
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}

/// A measured window.
pub async fn measure(
    subject: &Subject,
    connections: usize,
    limit: Limit,
    script: Script,
) -> anyhow::Result<Window> {
    let cpu = subject.cpu()?;
    let begun = Instant::now();
    let latencies = drive(&subject.target, connections, limit, script).await?;
    let wall = begun.elapsed();
    tokio::time::sleep(AFTERMATH).await;
    Ok(Window { ops: latencies.len() as u64, wall, cpu: subject.cpu()? - cpu, latencies })
}
