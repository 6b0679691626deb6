//! Starts real nodes, and takes part in their cluster.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mocks3::cluster::handshake::Secret;
use mocks3::cluster::sessions::{SessionSettings, Sessions};
use mocks3::cluster::transport::Transport;
use mocks3::cluster::{Cluster, MemberInfo, Members};
use mocks3::types::{Service, new_instance_id};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::net::TcpListener;

pub const SECRET: &str = "a secret of the tests";
/// In whose environment the name of a test stands, that process runs it.
pub const MARK: &str = "MOCKS3TEST_ISOLATED";

/// Runs a test in a process of its own: the caller's, when that is the one, else a child's.
pub fn isolated<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if std::env::var(MARK).as_deref() == Ok(name) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(test());
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    let status = command.args([name, "--exact", "--nocapture"]).env(MARK, name).status().unwrap();
    assert!(status.success(), "{name} failed in its own process: {status}");
}

/// Waits until a condition holds, or fails with what it was.
pub async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// A running `mocks3 node`; killed when dropped.
pub struct Node {
    pub child: Child,
    pub address: String,
    pub dir: PathBuf,
    pub service: &'static str,
}

/// A port that was free a moment ago, outside the range of outgoing connections.
pub fn free_port() -> u16 {
    let free = |port: &u16| {
        std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()
            && std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    let random = || 20_000 + (uuid::Uuid::new_v4().as_u128() % 12_000) as u16;
    std::iter::repeat_with(random).find(free).unwrap()
}

impl Node {
    /// Starts a node in a directory; `seeds` are cluster addresses of others.
    pub fn start(dir: &Path, service: &'static str, seeds: &[String]) -> Node {
        Node::start_at(dir, service, seeds, free_port(), SECRET)
    }

    /// The same at a given cluster port and with a given secret.
    pub fn start_at(
        dir: &Path,
        service: &'static str,
        seeds: &[String],
        port: u16,
        secret: &str,
    ) -> Node {
        Node::start_with(dir, service, seeds, port, secret, &[])
    }

    /// The same with further variables of the environment.
    pub fn start_with(
        dir: &Path,
        service: &'static str,
        seeds: &[String],
        port: u16,
        secret: &str,
        variables: &[(&str, &Path)],
    ) -> Node {
        let address = format!("127.0.0.1:{port}");
        std::fs::create_dir_all(dir).unwrap();
        let log = std::fs::File::create(dir.join("test.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mocks3"));
        command.args(["node", "--service", service, "--http", "127.0.0.1:0", "--follow-parent"]);
        command.args(["--cluster-listen", &address, "--data-dir"]).arg(dir);
        if !seeds.is_empty() {
            command.args(["--bootstrap", &seeds.join(",")]);
        }
        command.env("MOCKS3_SECRET", secret).stdin(Stdio::null());
        command.envs(variables.iter().copied());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Node { child, address, dir: dir.to_owned(), service }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Stops it as it stands; back when all its threads stand still, which takes a moment.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let pid = Pid::from_raw(self.child.id() as i32);
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGSTOP));
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on its disk and port.
    pub fn restart(&mut self, seeds: &[String]) {
        self.kill();
        let port = self.address.rsplit(':').next().unwrap().parse().unwrap();
        let again = Node::start_at(&self.dir, self.service, seeds, port, SECRET);
        drop(std::mem::replace(self, again));
    }

    pub fn rss_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// The loopback ports on which the process listens, whatever for.
    pub fn tcp_ports(&self) -> Vec<u16> {
        let own = |inode: &str| {
            let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
            let link = std::path::PathBuf::from(format!("socket:[{inode}]"));
            open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == link))
        };
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().skip(1).map(|l| l.split_whitespace().collect::<Vec<_>>());
        let listening = rows.filter(|row| row[3] == "0A" && own(row[9]));
        listening.map(|row| u16::from_str_radix(&row[1][9..], 16).unwrap()).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("test.log")).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The test process as a member: it runs nothing but the sessions.
pub struct Observer {
    pub cluster: Cluster,
    pub sessions: Sessions,
}

impl Observer {
    pub async fn join(seeds: Vec<String>) -> Observer {
        Observer::join_as(seeds, SECRET, 0).await
    }

    pub async fn join_as(seeds: Vec<String>, secret: &str, cluster_id: u128) -> Observer {
        Observer::join_over(Transport::plain(), seeds, secret, cluster_id).await
    }

    pub async fn join_over(
        transport: Transport,
        seeds: Vec<String>,
        secret: &str,
        cluster_id: u128,
    ) -> Observer {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let members = Arc::new(Members::new(MemberInfo {
            instance: new_instance_id(Service::MockError),
            incarnation: uuid::Uuid::new_v4().as_u128(),
            services: Vec::new(), // it only looks on
            pid: std::process::id(),
            http_url: "http://127.0.0.1:1".into(),
            s3_url: None,
            data_address: None,
            cluster_address: address.to_string(),
        }));
        let settings = SessionSettings {
            secret: Secret::new(secret),
            seeds,
            cluster_id,
            on_cluster_id: Box::new(|_| ()),
            transport,
        };
        let sessions = Sessions::start(listener, members.clone(), settings).await.unwrap();
        Observer { cluster: Cluster::new(members), sessions }
    }

    /// The live peers, by service name.
    pub fn peers(&self) -> Vec<String> {
        let own = self.cluster.instance().to_owned();
        let others = self.cluster.members().into_iter().filter(|m| m.instance != own);
        let mut names: Vec<String> = others.map(|m| m.services[0].short().to_owned()).collect();
        names.sort();
        names
    }

    /// The instance id of the only peer of a service.
    pub fn instance_of(&self, service: Service) -> String {
        let members = self.cluster.members();
        let own = self.cluster.instance();
        let of = |m: &&MemberInfo| m.services == [service] && m.instance != own;
        members.iter().find(of).unwrap().instance.clone()
    }
}
