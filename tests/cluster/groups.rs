//! Groups of metadata replicas among real nodes that are started by hand: founding, members that
//! come, leave, crash and return, and what is answered while there is no quorum.
//!
//! Everything is seen from outside, over HTTP: an observer in session would have a say in founding.

mod founding;
mod members;
mod quorum;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use mocks3::types::{Service, new_instance_id};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Further, Node, SECRET, free_port};

/// How long anything may take that the cluster does by itself.
const SOON: Duration = Duration::from_secs(20);
/// The promise: an answer without a quorum, whatever it is.
const ANSWERED: Duration = Duration::from_secs(2);
/// The promise: full service after a loss is healed.
const HEALED: Duration = Duration::from_secs(10);

/// Asks until there is an answer, or fails.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) => assert!(begun.elapsed() < limit, "not within {limit:?}: {what}: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What came back over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: bool,
    pub body: Value,
    pub took: Duration,
}

impl Answer {
    /// Whether it is a refusal as it should be while nothing can be known.
    fn assert_refused(&self, what: &str) {
        assert_eq!(self.status, 503, "{what}: {self:?}");
        assert!(self.retry_after, "{what}: no Retry-After: {self:?}");
        assert!(self.took < ANSWERED, "{what}: {self:?}");
    }
}

/// One node: what it is started with each time.
pub struct Inhabitant {
    pub node: Node,
    pub instance: String,
    port: u16,
}

/// Nodes of one cluster, on disks of their own.
pub struct Town {
    dir: TempDir,
    client: reqwest::Client,
    arguments: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    pub all: Vec<Inhabitant>,
}

impl Town {
    /// Nobody yet; each will be started with these arguments and variables.
    pub fn new(arguments: &[&str], variables: &[(&'static str, &'static str)]) -> Town {
        Town {
            dir: tempfile::tempdir().unwrap(),
            client: reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap(),
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            variables: variables.to_vec(),
            all: Vec::new(),
        }
    }

    /// So many metadata nodes, all started at once and each told of all.
    pub fn of(
        count: usize,
        arguments: &[&str],
        variables: &[(&'static str, &'static str)],
    ) -> Town {
        let mut town = Town::new(arguments, variables);
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        for port in &ports {
            town.start("metadata", *port, &ports);
        }
        town
    }

    fn start(&mut self, service: &'static str, port: u16, seeds: &[u16]) -> usize {
        let dir = self.dir.path().join(self.all.len().to_string());
        let instance = new_instance_id(service.parse::<Service>().unwrap());
        let node = self.launch(&dir, service, &instance, port, seeds);
        self.all.push(Inhabitant { node, instance, port });
        self.all.len() - 1
    }

    fn launch(
        &self,
        dir: &Path,
        service: &'static str,
        instance: &str,
        port: u16,
        seeds: &[u16],
    ) -> Node {
        let mut arguments = self.arguments.clone();
        arguments.extend(["--instance".to_owned(), instance.to_owned()]);
        let variables: Vec<(&str, &Path)> =
            self.variables.iter().map(|(name, value)| (*name, Path::new(*value))).collect();
        let further = Further { arguments: &arguments, variables: &variables };
        let seeds: Vec<String> = seeds.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Node::start_with(dir, service, &seeds, port, SECRET, further)
    }

    /// A further node that is told of all that are there.
    pub fn join(&mut self, service: &'static str) -> usize {
        let seeds = self.ports();
        self.start(service, free_port(), &seeds)
    }

    /// The same, but told of one only.
    pub fn join_one(&mut self, service: &'static str, seed: usize) -> usize {
        self.start(service, free_port(), &[self.all[seed].port])
    }

    fn ports(&self) -> Vec<u16> {
        self.all.iter().map(|one| one.port).collect()
    }

    /// Starts a node again on its port, told of all; on its disk, or on a new one.
    pub fn restart(&mut self, n: usize, wiped: bool) {
        self.all[n].node.kill();
        let dir = self.all[n].node.dir.clone();
        if wiped {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        let Inhabitant { node, instance, port } = &self.all[n];
        let again = self.launch(&dir, node.service, instance, *port, &self.ports());
        self.all[n].node = again;
    }

    /// SIGTERM to these at once; all have to end well and in time.
    pub async fn terminate(&mut self, these: &[usize], limit: Duration) {
        for n in these {
            self.all[*n].node.signal(Signal::SIGTERM);
        }
        for n in these {
            let node = &mut self.all[*n].node;
            let status = eventually("the node ends", limit, async || {
                node.child.try_wait().unwrap().ok_or_else(|| node.log())
            })
            .await;
            assert_eq!(status.code(), Some(0), "{}", node.log());
        }
    }

    /// Where a node serves HTTP, once it does.
    async fn url(&self, n: usize) -> String {
        let node = &self.all[n].node;
        eventually("the node serves", SOON, async || {
            let log = node.log();
            let at = log.lines().rfind(|line| line.contains("node started")).ok_or(log.clone())?;
            let url = at.split("http=\"").nth(1).and_then(|rest| rest.split('"').next());
            url.map(ToOwned::to_owned).ok_or(log.clone())
        })
        .await
    }

    /// One request to a node; a status of 0: it was not answered.
    pub async fn ask(&self, n: usize, path: &str, body: Option<Value>) -> Answer {
        let url = format!("{}/api/v1{path}", self.url(n).await);
        let request = match body {
            Some(body) => self.client.post(url).json(&body),
            None => self.client.get(url),
        };
        let begun = Instant::now();
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let retry_after = answer.headers().contains_key("retry-after");
                let body = answer.json().await.unwrap_or_default();
                Answer { status, retry_after, body, took: begun.elapsed() }
            }
            Err(error) => {
                let body = json!(error.to_string());
                Answer { status: 0, retry_after: false, body, took: begun.elapsed() }
            }
        }
    }

    /// Makes a bucket through a node.
    pub async fn create(&self, n: usize, bucket: &str) -> Answer {
        self.ask(n, "/buckets", Some(json!({ "name": bucket }))).await
    }

    /// Makes a bucket through a node, as soon as that can be done.
    pub async fn create_within(&self, n: usize, bucket: &str, limit: Duration) {
        eventually("a bucket is made", limit, async || match self.create(n, bucket).await {
            Answer { status: 201 | 409, .. } => Ok(()), // 409: an earlier attempt made it after all
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Whether there is a bucket, asked of a node, as soon as it can say.
    pub async fn has(&self, n: usize, bucket: &str) -> bool {
        let path = format!("/buckets/{bucket}");
        eventually("a bucket is found or not", HEALED, async || {
            match self.ask(n, &path, None).await {
                Answer { status: 200, .. } => Ok(true),
                Answer { status: 404, .. } => Ok(false),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// What `mocks3 status` says of a node's cluster.
    pub async fn status(&self, n: usize) -> String {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mocks3"));
        let output = command.args(["status", "--url", &self.url(n).await]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// How the metadata group stands, as a node sees it.
    pub async fn group(&self, n: usize) -> Value {
        let answer = self.ask(n, "/groups", None).await;
        let groups = answer.body["groups"].as_array().cloned().unwrap_or_default();
        let of = |g: &Value| g["service"] == json!(Service::Metadata);
        groups.into_iter().find(of).unwrap_or_default()
    }

    /// Waits until these and only these vote, those learn, and somebody leads; then the group.
    pub async fn stands(&self, at: usize, voters: &[usize], learners: &[usize]) -> Value {
        let names = |of: &[usize]| -> BTreeSet<String> {
            of.iter().map(|n| self.all[*n].instance.clone()).collect()
        };
        let told = |value: &Value| -> BTreeSet<String> {
            let rows = value.as_array().into_iter().flatten();
            rows.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let what = format!("{voters:?} vote and {learners:?} learn");
        eventually(&what, SOON, async || {
            let group = self.group(at).await;
            let rows = group["replicas"].as_array().map_or(0, Vec::len);
            let whole = told(&group["voters"]) == names(voters)
                && told(&group["learners"]) == names(learners)
                && rows == voters.len() + learners.len()
                && group["leader"].is_string();
            if whole { Ok(group) } else { Err(format!("{group}\n{}", self.logs())) }
        })
        .await
    }

    /// The node that leads, as another one sees it.
    pub async fn leader(&self, at: usize) -> usize {
        eventually("somebody leads", SOON, async || {
            let group = self.group(at).await;
            let of = |one: &Inhabitant| group["leader"] == json!(one.instance);
            self.all.iter().position(of).ok_or_else(|| group.to_string())
        })
        .await
    }

    /// The id of the replica of a node, as another one sees it.
    pub fn replica_id(&self, group: &Value, n: usize) -> String {
        let rows = group["replicas"].as_array().unwrap();
        let row = rows.iter().find(|row| row["instance"] == json!(self.all[n].instance));
        row.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until all replicas say that they hold the same state.
    pub async fn are_equal(&self, at: usize, count: usize) {
        eventually("all replicas hold the same", SOON, async || {
            let answer = self.ask(at, "/groups?digest=true", None).await;
            let rows = answer.body["groups"][0]["replicas"].as_array().cloned().unwrap_or_default();
            let digests: BTreeSet<_> = rows.iter().filter_map(|r| r["digest"].as_str()).collect();
            let same = rows.len() == count && digests.len() == 1;
            if same { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    /// The id of the metadata group that a node keeps on its disk.
    pub fn known(&self, n: usize) -> Option<String> {
        let text = std::fs::read(self.all[n].node.dir.join("node.json")).ok()?;
        let identity: Value = serde_json::from_slice(&text).ok()?;
        identity["groups"][json!(Service::Metadata).as_str()?].as_str().map(ToOwned::to_owned)
    }

    /// The end of all logs, for a test that fails.
    fn logs(&self) -> String {
        let tail = |log: String| {
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(12)..].join("\n")
        };
        let logs = self.all.iter().map(|one| format!("{}\n{}", one.instance, tail(one.node.log())));
        logs.collect::<Vec<_>>().join("\n")
    }
}
