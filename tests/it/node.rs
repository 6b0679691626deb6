//! A whole node in the process of the test, and clients for it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mocks3::cluster::handshake::Secret;
use mocks3::cluster::{Cluster, MemberInfo, Members};
use mocks3::config::{Config, DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY};
use mocks3::node::{Addresses, Ended, Node, NodeOptions};
use mocks3::types::{Service, new_instance_id};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

pub const SECRET: &str = "a secret of the tests";
const MARK: &str = "MOCKS3TEST_ALONE";
/// How long a presigned URL is good.
pub const SIGNED: Duration = Duration::from_secs(3600);

/// Runs a test in a process of its own: `ractor`'s registries and our metrics are per process.
pub fn alone<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if std::env::var(MARK).as_deref() == Ok(name) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(test());
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let status = command.args([name, "--exact", "--nocapture"]).env(MARK, name).status().unwrap();
    assert!(status.success(), "{name} failed in its own process: {status}");
}

fn info(instance: String) -> MemberInfo {
    MemberInfo {
        instance,
        incarnation: 1,
        services: Vec::new(), // it only looks on
        pid: std::process::id(),
        http_url: String::new(),
        s3_url: None,
        data_address: None,
        cluster_address: String::new(),
    }
}

/// The way to the actors of this process.
pub fn a_cluster() -> Cluster {
    Cluster::new(Arc::new(Members::new(info(new_instance_id(Service::MockError)))))
}

/// A node that runs in this process.
pub struct Running {
    pub info: MemberInfo,
    /// The HTTP address of each of its services.
    pub http: Vec<(Service, SocketAddr)>,
    stop: tokio::sync::oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Ended>,
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Running {
    pub async fn start(
        dir: &Path,
        services: &[Service],
        seeds: Vec<String>,
        config: Config,
    ) -> Running {
        let choose = || services.iter().map(|_| free_address()).collect::<Vec<SocketAddr>>();
        let mut http = choose();
        let any = "127.0.0.1:0".parse().unwrap();
        let options = |http: &[SocketAddr]| NodeOptions {
            services: services.to_vec(),
            instance: None,
            data_dir: dir.to_owned(),
            addresses: Addresses { http: http.to_vec(), cluster: any, data: any, advertise: None },
            bootstrap: seeds.clone(),
            cluster_id: None,
            secret: Secret::new(SECRET),
            config: config.clone(),
            wanted: Default::default(),
            found_anew: Vec::new(),
        };
        let mut started = Node::start(options(&http)).await;
        for _ in 0..100 {
            match &started {
                // its last tasks let go of the folder a moment after the end
                Err(error) if error.to_string().contains("is in use") => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    started = Node::start(options(&http)).await;
                }
                // somebody else was given the port meanwhile
                Err(error) if format!("{error:#}").contains("Address already in use") => {
                    http = choose();
                    started = Node::start(options(&http)).await;
                }
                _ => break,
            }
        }
        let node = started.unwrap();
        let info = node.info();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let asked = async {
            let _ = stopped.await; // a dropped sender asks, too
        };
        let ended = tokio::spawn(node.run(asked));
        let http = services.iter().copied().zip(http).collect();
        Running { info, http, stop, ended }
    }

    pub fn address(&self, service: Service) -> SocketAddr {
        self.http.iter().find(|(s, _)| *s == service).unwrap().1
    }

    /// An S3 client on this node.
    pub fn s3(&self, bucket: &str) -> S3 {
        S3::new(self.address(Service::Storage), bucket)
    }

    /// Stops it in order.
    pub async fn stop(self) {
        let _ = self.stop.send(()); // it may have ended
        assert_eq!(self.ended.await.unwrap(), Ended::Stopped);
    }
}

/// One bucket behind presigned URLs.
pub struct S3 {
    pub bucket: Bucket,
    pub credentials: Credentials,
    client: reqwest::Client,
}

impl S3 {
    pub fn new(address: SocketAddr, bucket: &str) -> S3 {
        let endpoint = format!("http://{address}").parse().unwrap();
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), "us-east-1").unwrap();
        let credentials = Credentials::new(DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20));
        S3 { bucket, credentials, client: client.build().unwrap() }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Vec<u8>) {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    async fn create(&self) -> u16 {
        let url = self.bucket.create_bucket(&self.credentials).sign(SIGNED);
        self.send(self.client.put(url)).await.0
    }

    /// Makes the bucket and writes to it. A node that has just started answers 503 until metadata
    /// knows its storage: that is asked again for a while, and nothing else is.
    pub async fn create_soon(&self) {
        assert_eq!(self.create().await, 200);
        for _ in 0..100 {
            match self.put("first", b"x").await {
                200 => return assert_eq!(self.delete("first").await, 204),
                503 => tokio::time::sleep(Duration::from_millis(50)).await,
                other => panic!("the first upload was answered {other}"),
            }
        }
        panic!("no upload was taken within 5 s");
    }

    pub async fn put(&self, key: &str, body: &[u8]) -> u16 {
        let url = self.bucket.put_object(Some(&self.credentials), key).sign(SIGNED);
        self.send(self.client.put(url).body(body.to_vec())).await.0
    }

    pub async fn get(&self, key: &str) -> (u16, Vec<u8>) {
        let url = self.bucket.get_object(Some(&self.credentials), key).sign(SIGNED);
        self.send(self.client.get(url)).await
    }

    pub async fn delete(&self, key: &str) -> u16 {
        let url = self.bucket.delete_object(Some(&self.credentials), key).sign(SIGNED);
        self.send(self.client.delete(url)).await.0
    }

    /// The keys of the bucket.
    pub async fn list(&self) -> Vec<String> {
        let url = self.bucket.list_objects_v2(Some(&self.credentials)).sign(SIGNED);
        let (status, body) = self.send(self.client.get(url)).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{text}");
        let keys = text.split("<Key>").skip(1);
        keys.map(|rest| rest.split("</Key>").next().unwrap().to_owned()).collect()
    }
}

/// The resident memory of this process.
pub fn rss_mib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096 / (1 << 20)
}
