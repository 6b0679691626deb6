//! The processes: `mocks3 node`, one a service instance, each behind its front (`link`).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mocks3::types::{InstanceId, Service, new_instance_id};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::link::{Address, Links};

const HTTP: u16 = 8000;
const CLUSTER: u16 = 7000;
const DATA: u16 = 7001;
/// Small segments and short graces, so that the space of what was deleted comes back in the test.
const CONFIG: &str = r#"
[storage]
segment_size = "4MiB"
delete_grace = "5s"
orphan_grace = "10s"
orphan_check = "2s"
"#;

/// Which instances there are.
#[derive(Clone, Debug)]
pub struct Scale(Vec<(Service, usize)>);

impl Scale {
    /// From text like `metadata=3,storage=3`.
    pub fn parse(text: &str) -> Scale {
        let row = |part: &str| {
            let (service, count) = part.split_once('=').unwrap();
            (service.parse().unwrap(), count.parse().unwrap())
        };
        Scale(text.split(',').map(row).collect())
    }

    pub fn count(&self, service: Service) -> usize {
        self.0.iter().filter(|(s, _)| *s == service).map(|(_, count)| count).sum()
    }

    pub fn nodes(&self) -> Vec<Service> {
        self.0.iter().flat_map(|(service, count)| vec![*service; *count]).collect()
    }

    fn wanted(&self) -> String {
        let rows: Vec<String> = self.0.iter().map(|(s, n)| format!("{}={n}", s.short())).collect();
        rows.join(",")
    }
}

/// One node.
pub struct Node {
    pub service: Service,
    pub instance: InstanceId,
    pub dir: PathBuf,
    /// Further variables of its environment.
    pub variables: Vec<(&'static str, String)>,
    address: Address,
    child: Option<Child>,
}

impl Node {
    /// Where its HTTP API and, of a storage node, its S3 edge is; not behind the front.
    pub fn url(&self) -> String {
        format!("http://{}:{HTTP}", self.address.real)
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        }
    }
}

/// All of them; killed when dropped.
pub struct Cluster {
    pub scale: Scale,
    pub nodes: Vec<Node>,
    pub links: Arc<Links>,
    pub http: reqwest::Client,
    dir: PathBuf,
    id: u128,
}

impl Cluster {
    /// Starts everything.
    pub async fn start(dir: &Path, scale: Scale) -> Cluster {
        let mut cluster = Cluster::new(dir, scale).await;
        (0..cluster.nodes.len()).for_each(|n| cluster.run(n));
        cluster
    }

    /// Everything, to be started.
    pub async fn new(dir: &Path, scale: Scale) -> Cluster {
        let services = scale.nodes();
        let addresses = Links::addresses(services.len());
        let links = Links::start(addresses.clone(), CLUSTER).await.unwrap();
        let node = |(n, service): (usize, Service)| Node {
            service,
            instance: new_instance_id(service),
            dir: dir.join(format!("{n:02}-{}", service.short())),
            variables: Vec::new(),
            address: addresses[n],
            child: None,
        };
        let nodes = services.into_iter().enumerate().map(node).collect();
        std::fs::write(dir.join("config.toml"), CONFIG).unwrap();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy();
        let http = http.build().unwrap();
        let id = uuid::Uuid::new_v4().as_u128();
        Cluster { scale, nodes, links, http, dir: dir.to_owned(), id }
    }

    /// Starts a node on its disk and ports, if it does not run.
    pub fn run(&mut self, n: usize) {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != n);
        let seeds: Vec<String> =
            others.map(|(_, node)| format!("{}:{CLUSTER}", node.address.front)).collect();
        let node = &mut self.nodes[n];
        if node.child.is_some() {
            return;
        }
        std::fs::create_dir_all(&node.dir).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(node.dir.join("log"));
        let log = log.unwrap();
        let (real, front) = (node.address.real, node.address.front);
        let mut command = Command::new(env!("CARGO_BIN_EXE_mocks3"));
        command.args(["node", "--follow-parent", "--service", node.service.short()]);
        command.args(["--instance", &node.instance, "--cluster-id", &format!("{:032x}", self.id)]);
        command.args(["--http", &format!("{real}:{HTTP}")]);
        command.args(["--cluster-listen", &format!("{real}:{CLUSTER}")]);
        command.args(["--data-listen", &format!("{real}:{DATA}")]);
        command.args(["--advertise", &front.to_string(), "--bootstrap", &seeds.join(",")]);
        command.args(["--wanted", &self.scale.wanted(), "--data-dir"]).arg(node.dir.join("data"));
        command.arg("--config").arg(self.dir.join("config.toml"));
        command.env("MOCKS3_SECRET", "a secret of the nemesis").stdin(Stdio::null());
        command.envs(node.variables.iter().cloned());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        self.links.runs(n, Some(child.id()));
        node.child = Some(child);
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.nodes[n].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.links.runs(n, None);
    }

    pub fn freeze(&self, n: usize) {
        self.nodes[n].signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self, n: usize) {
        self.nodes[n].signal(Signal::SIGCONT);
    }

    /// Nodes that ended although nobody killed them.
    pub fn ended(&mut self) -> Vec<String> {
        let ended = |node: &mut Node| {
            let status = node.child.as_mut()?.try_wait().unwrap()?;
            Some(format!("{}: {status}, see {}", node.instance, node.dir.display()))
        };
        self.nodes.iter_mut().filter_map(ended).collect()
    }

    pub fn of(&self, service: Service) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].service == service).collect()
    }

    /// The S3 edges.
    pub fn edges(&self) -> Vec<String> {
        self.of(Service::Storage).into_iter().map(|n| self.nodes[n].url()).collect()
    }

    /// One JSON answer of any instance of a service.
    pub async fn json(&self, service: Service, path: &str) -> anyhow::Result<Value> {
        let mut last = anyhow::anyhow!("{service} has no instance");
        for n in self.of(service) {
            let asked = self.http.get(format!("{}{path}", self.nodes[n].url())).send().await;
            match asked.and_then(reqwest::Response::error_for_status) {
                Ok(answer) => return Ok(answer.json().await?),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// Who leads the group of a service; an instance that is alone leads.
    pub async fn leader(&self, service: Service) -> Option<usize> {
        if let [only] = self.of(service)[..] {
            return Some(only);
        }
        let groups = self.json(service, "/api/v1/groups").await.ok()?;
        let of = |group: &&Value| group["service"] == service.name();
        let leader = groups["groups"].as_array()?.iter().find(of)?["leader"].as_str()?.to_owned();
        self.nodes.iter().position(|node| node.instance == leader)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|n| self.kill(n));
    }
}

/// Waits until an answer is as it should be; else fails with what it was.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        let took = begun.elapsed();
        match answer {
            Ok(found) if took < limit => return (found, took),
            Ok(_) => panic!("{what}: only after {took:?}, not within {limit:?}"),
            Err(why) => assert!(took < limit, "not within {limit:?}: {what}: {why:#}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
