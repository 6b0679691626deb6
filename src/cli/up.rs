//! `mocks3 up`: a whole cluster on this machine, one child process per service instance.
//!
//! Resource metrics are per process, so one process per instance is what makes faults attributable.
//! Everything is planned and every port tried before the first child starts, so that a refusal leaves
//! nothing half-started. A child that dies is started again with a backoff; when `up` itself is
//! killed, its children end too.

mod child;
mod follow;
pub mod plan;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::status::{client, fetch_one};
use super::{Failure, load_config};
use crate::cluster::MemberState;
use crate::config::{DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY};
use crate::http::admin::all_running;
use crate::types::Service;
use child::Child;
use follow::Follower;
use plan::{DataDir, FirstPorts, Plan};

/// How long the cluster may take to become healthy.
const START_LIMIT: Duration = Duration::from_secs(60);
/// What `--ports` may be: five ports in a row from there must exist.
const PORT_BASES: std::ops::RangeInclusive<i64> = 1..=65_531;
/// How often the children are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `mocks3 up`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mocks3 up
  mocks3 up --scale storage=5,third-party=0 --data-dir /tmp/mocks3 --ports 9081
  MOCKS3_STORAGE__DURABILITY=os mocks3 up")]
pub struct UpArgs {
    /// Instances per service, as in storage=3,metadata=1 [default: metadata=1, storage=3, queue=1,
    /// third-party=1, mock-error=1].
    #[arg(long, value_delimiter = ',', value_parser = plan::parse_scale)]
    scale: Vec<(Service, usize)>,
    /// Where everything is kept; made if it is not there.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// HTTP port of the first metadata instance; the first storage, queue, third-party and
    /// mock-error instances take the next ones.
    #[arg(long, default_value_t = 8081, value_parser = clap::value_parser!(u16).range(PORT_BASES))]
    ports: u16,
    /// Found a new group of these services although there was one: after a loss of all its replicas.
    #[arg(long, value_delimiter = ',')]
    found_anew: Vec<Service>,
    /// Configuration file, for all nodes.
    #[arg(long, env = "MOCKS3_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs the cluster until interrupted.
pub fn run(args: UpArgs) -> Result<(), Failure> {
    let config = load_config(args.config.as_ref())?;
    let ports = FirstPorts::take(&args)?; // before anything is made on disk
    let data = DataDir::open(&args.data_dir)?;
    let plan = Plan::make(&args, ports, data)?;
    // children end with the *thread* that started them: this runtime stays on the main thread
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::run)?.block_on(async move {
        let mut cluster =
            Up { children: Vec::new(), client: client()?, follower: Follower::default() };
        let stop = super::stop_signal();
        tokio::pin!(stop);
        let started = tokio::select! {
            started = cluster.start(plan) => started.map(|()| true),
            () = &mut stop => Ok(false),
        };
        if let Ok(true) = started {
            cluster.print_ready(&config);
            tokio::select! {
                () = cluster.watch() => {}
                () = stop => println!("stopping"),
            }
        }
        cluster.stop().await;
        started.map(|_| ())
    })
}

struct Up {
    children: Vec<Child>,
    client: reqwest::Client,
    follower: Follower,
}

impl Up {
    async fn start(&mut self, plan: Plan) -> Result<(), Failure> {
        let count = plan.instances.len();
        println!("starting {count} nodes, data in {}", plan.data_dir.display());
        for instance in plan.into_children()? {
            let mut child = instance;
            child.start().map_err(Failure::run)?;
            self.children.push(child);
        }
        let deadline = Instant::now() + START_LIMIT;
        while !self.healthy().await {
            for child in &mut self.children {
                if let Some(status) = child.try_wait() {
                    let (name, why) = (&child.instance, child.last_words());
                    return Err(Failure::usage(format!("{name} did not start ({status}): {why}")));
                }
            }
            if Instant::now() > deadline {
                let limit = START_LIMIT.as_secs();
                return Err(Failure::run(format!("the cluster was not healthy within {limit} s")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether every node sees all others, and all their actors run.
    async fn healthy(&self) -> bool {
        for child in &self.children {
            let Ok(view) = fetch_one(&self.client, &child.http_url).await else { return false };
            let live = view.members.iter().filter(|m| m.state == MemberState::Live);
            if live.filter(|m| all_running(&m.actors)).count() != self.children.len() {
                return false;
            }
        }
        true
    }

    fn print_ready(&self, config: &crate::config::Config) {
        println!("\n{:<20} {:<58} {:>7}  URL", "SERVICE", "INSTANCE", "PID");
        for child in &self.children {
            let (service, pid) = (child.service.name(), child.pid());
            println!("{service:<20} {:<58} {pid:>7}  {}", child.instance, child.http_url);
        }
        let storage = self.children.iter().find(|c| c.service == Service::Storage);
        let Some(endpoint) = storage.map(|c| &c.http_url) else { return };
        println!("\nS3 endpoint  {endpoint}");
        if config.s3.default_user {
            println!("access key   {DEFAULT_ACCESS_KEY}\nsecret key   {DEFAULT_SECRET_KEY}\n");
            println!(
                "AWS_ACCESS_KEY_ID={DEFAULT_ACCESS_KEY} AWS_SECRET_ACCESS_KEY={DEFAULT_SECRET_KEY} \
                 AWS_DEFAULT_REGION={} aws --endpoint-url {endpoint} s3 mb s3://demo",
                config.s3.region
            );
        }
        println!("\nready; Ctrl-C stops everything");
    }

    /// Restarts what dies and prints what happens.
    async fn watch(&mut self) {
        loop {
            for child in &mut self.children {
                for line in child.look() {
                    println!("{}", follow::stamped(&line));
                }
            }
            let urls: Vec<String> = self.children.iter().map(|c| c.http_url.clone()).collect();
            for line in self.follower.look(&self.client, &urls).await {
                println!("{line}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops the edges first and metadata last, so that each can still finish its work.
    async fn stop(&mut self) {
        use Service::*;
        for service in [Storage, ThirdParty, MockError, Queue, Metadata] {
            let these = self.children.iter_mut().filter(|c| c.service == service);
            futures::future::join_all(these.map(Child::stop)).await;
        }
        println!("all nodes stopped");
    }
}
