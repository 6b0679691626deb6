//! The servers under load: MockS3 in three shapes, and SeaweedFS.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Args;
use crate::client::{Client, Op, Target};
use crate::load::{Limit, Script, drive};
use crate::process::{self, Memory};

/// How long a subject may take to serve its first requests, and to end.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Ports are taken from here: below those of outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One process with metadata, one storage node and queue; nothing is synced.
    Node,
    /// `up` with one storage node: a process for each service; nothing is synced.
    Up,
    /// `up` as it comes: three copies, synced.
    Default,
    /// `weed server -s3`: one process, one copy, nothing is synced.
    Weed,
}

impl Kind {
    /// All, in their order.
    pub const ALL: [Kind; 4] = [Kind::Node, Kind::Up, Kind::Default, Kind::Weed];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Node => "mocks3-os-1",
            Kind::Up => "mocks3-os-1-up",
            Kind::Default => "mocks3-fsync-3",
            Kind::Weed => "weed",
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> anyhow::Result<Kind> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        found.with_context(|| format!("no subject {name}"))
    }
}

/// A running server.
pub struct Subject {
    /// What it is.
    pub kind: Kind,
    /// Where it answers.
    pub target: Target,
    child: Child,
}

impl Subject {
    /// Starts one and waits until it stores objects.
    pub async fn start(kind: Kind, args: &Args, dir: &Path) -> anyhow::Result<Subject> {
        let dir = dir.join(kind.name());
        std::fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        let ports = Ports::free(12)?;
        let (mut command, port) = match kind {
            Kind::Weed => weed(args, &dir, &ports)?,
            _ => mocks3(kind, args, &dir, &ports)?,
        };
        let log = std::fs::File::create(dir.join("log"))?;
        command.current_dir(&dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        drop(ports);
        let program = command.get_program().to_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program:?}"))?;
        let (access_key, secret_key) = match kind {
            Kind::Weed => (WEED_KEY, WEED_SECRET),
            _ => ("mocks3", "mocks3-dev-secret"),
        };
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let target = Target { address, access_key, secret_key, payload: args.payload };
        let mut subject = Subject { kind, target, child };
        let begun = Instant::now();
        while let Err(error) = subject.first_object().await {
            if let Some(status) = subject.child.try_wait()? {
                bail!("it ended with {status}; see {}", dir.display());
            }
            if begun.elapsed() > START_LIMIT {
                return Err(error.context("it stores nothing"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(subject)
    }

    async fn first_object(&self) -> anyhow::Result<()> {
        self.make_bucket("bench-first").await?;
        let path = "/bench-first/object".to_owned();
        self.once(Op::new(Method::PUT, path, Bytes::from_static(b"first"))).await
    }

    async fn once(&self, op: Op) -> anyhow::Result<()> {
        Client::connect(&self.target).await?.run(&op).await.map(drop)
    }

    /// Makes a bucket, where it is not there.
    pub async fn make_bucket(&self, name: &str) -> anyhow::Result<()> {
        let path = format!("/{name}");
        if self.once(Op::new(Method::HEAD, path.clone(), Bytes::new())).await.is_err() {
            self.once(Op::new(Method::PUT, path, Bytes::new())).await?;
        }
        Ok(())
    }

    /// Deletes all objects of a bucket.
    pub async fn empty_bucket(&self, name: &str) -> anyhow::Result<()> {
        loop {
            let keys = self.keys(name).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let limit = Limit { time: START_LIMIT, ops: keys.len() as u64 };
            let name = name.to_owned();
            let delete: Script = Arc::new(move |n| {
                let path = format!("/{name}/{}", keys[n as usize]);
                Op::new(Method::DELETE, path, Bytes::new())
            });
            drive(&self.target, 8, limit, delete).await?;
        }
    }

    async fn keys(&self, bucket: &str) -> anyhow::Result<Vec<String>> {
        let op = Op {
            query: "list-type=2".into(),
            ..Op::new(Method::GET, format!("/{bucket}"), Bytes::new())
        };
        let text = Client::connect(&self.target).await?.text(&op).await?;
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        Ok(keys.map(|(key, _)| key.to_owned()).collect())
    }

    /// CPU seconds so far, of all its processes.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    /// Memory of its processes.
    pub fn memory(&self) -> anyhow::Result<Vec<Memory>> {
        process::memory(self.child.id())
    }

    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal); // it may have ended
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGKILL); // the children of `up` end with it
            let _ = self.child.wait();
        }
    }
}

/// Ports in a row, held until the subject starts.
struct Ports {
    first: u16,
    _held: Vec<(TcpListener, UdpSocket)>,
}

impl Ports {
    fn free(count: u16) -> anyhow::Result<Ports> {
        for _ in 0..200 {
            let first = rand::random_range(PORTS);
            let hold = |port| {
                let address = (Ipv4Addr::LOCALHOST, port);
                Some((TcpListener::bind(address).ok()?, UdpSocket::bind(address).ok()?))
            };
            if let Some(_held) = (first..first + count).map(hold).collect() {
                return Ok(Ports { first, _held });
            }
        }
        bail!("no {count} free ports in a row")
    }
}

/// Data go away soon after their deletion, so that the disk has room for the next row.
const MOCKS3_CONFIG: &str = "[storage]\ndelete_grace = \"1s\"\n";
const OS_1: &str = "replicas = 1\ndurability = \"os\"\n[metadata]\ndurability = \"os\"\n";

fn mocks3(kind: Kind, args: &Args, dir: &Path, ports: &Ports) -> anyhow::Result<(Command, u16)> {
    let program = args.program.canonicalize().context("the program to measure")?;
    let mut command = Command::new(program);
    let extra = if kind == Kind::Default { "" } else { OS_1 };
    let config = dir.join("mocks3.toml");
    std::fs::write(&config, format!("{MOCKS3_CONFIG}{extra}"))?;
    command.env("MOCKS3_SECRET", "only for this bench");
    let port = if kind == Kind::Node {
        let listen = (0..3).map(|n| format!("127.0.0.1:{}", ports.first + n));
        let listen = listen.collect::<Vec<_>>().join(",");
        command.args(["node", "--service", "storage,metadata,queue", "--http", &listen]);
        ports.first
    } else {
        command.args(["up", "--ports", &ports.first.to_string()]);
        ports.first + 1
    };
    if kind == Kind::Up {
        command.args(["--scale", "storage=1,third-party=0,mock-error=0"]);
    }
    command.arg("--config").arg(config).arg("--data-dir").arg(dir.join("data"));
    Ok((command, port))
}

const WEED_KEY: &str = "bench-key";
const WEED_SECRET: &str = "bench-secret-key";

fn weed(args: &Args, dir: &Path, ports: &Ports) -> anyhow::Result<(Command, u16)> {
    let program = args.weed.canonicalize().context("SeaweedFS (make deps installs it)")?;
    let mut command = Command::new(program);
    let user = serde_json::json!({ "identities": [{
        "name": "bench",
        "credentials": [{ "accessKey": WEED_KEY, "secretKey": WEED_SECRET }],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    std::fs::write(dir.join("s3.json"), user.to_string())?;
    command.env("HOME", dir).args(["server", "-s3", "-s3.config", "s3.json"]);
    command.args(["-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-dir"]).arg(dir);
    let names = ["s3", "master", "volume", "filer"];
    let names = names.iter().flat_map(|name| [format!("{name}.port"), format!("{name}.port.grpc")]);
    for (port, name) in (ports.first..).zip(names) {
        command.arg(format!("-{name}")).arg(port.to_string());
    }
    // Every bucket takes volumes of its own; what the other two switch on is no part of S3.
    command.args(["-volume.max", "200", "-s3.port.iceberg", "0", "-s3.port.lance", "0"]);
    command.arg("-master.telemetry=false");
    Ok((command, ports.first))
}
