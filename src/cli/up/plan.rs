//! What `up` will start: instances, their directories and their ports, decided and tried beforehand.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::UpArgs;
use super::child::Child;
use crate::cli::Failure;
use crate::node::disk::{self, FORMAT};
use crate::types::{InstanceId, Service, new_instance_id};

/// Where free ports are looked for: below the range from which the kernel takes ports for outgoing
/// connections, so that a node that was stopped finds its port again.
const FREE_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Reads one `service=count`.
pub fn parse_scale(text: &str) -> Result<(Service, usize), String> {
    let (service, count) = text.split_once('=').ok_or("expected SERVICE=COUNT, as in storage=3")?;
    let count = count.parse::<usize>().ok().filter(|n| *n <= 64);
    Ok((service.parse()?, count.ok_or("expected a count from 0 to 64, as in storage=3")?))
}

/// What `cluster.json` keeps.
#[derive(Debug, Serialize, Deserialize)]
struct ClusterFile {
    format: u32,
    cluster_id: String,
    /// All instances that were ever started here, in their order.
    instances: Vec<InstanceRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct InstanceRow {
    service: Service,
    instance: InstanceId,
}

/// The data directory of a whole cluster, locked.
pub struct DataDir {
    dir: PathBuf,
    file: ClusterFile,
    lock: Flock<std::fs::File>,
}

impl DataDir {
    /// Opens or makes it.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        DataDir::open_of(dir, || uuid::Uuid::new_v4().as_u128())
    }

    /// Opens it; one that is made belongs to the cluster of this id.
    pub fn open_of(dir: &Path, cluster_id: impl FnOnce() -> u128) -> Result<Self, Failure> {
        let io = |e: std::io::Error| Failure::usage(format!("cannot use {}: {e}", dir.display()));
        std::fs::create_dir_all(dir).map_err(io)?;
        let dir = dir.canonicalize().map_err(io)?;
        let lock = disk::lock(&dir.join("up.lock")).map_err(Failure::usage)?;
        let path = dir.join("cluster.json");
        let file = disk::read_json::<ClusterFile>(&path).map_err(Failure::usage)?;
        let file = file.unwrap_or_else(|| ClusterFile {
            format: FORMAT,
            cluster_id: format!("{:032x}", cluster_id()),
            instances: Vec::new(),
        });
        if file.format != FORMAT {
            let error = disk::DiskError::Format { path: dir, found: file.format };
            return Err(Failure::usage(error));
        }
        let data = DataDir { dir, file, lock };
        data.secret_file()?;
        Ok(data)
    }

    /// The instances of one service: known ones first, new ones made up.
    fn instances(&mut self, service: Service, count: usize) -> Vec<InstanceId> {
        let known = self.file.instances.iter().filter(|row| row.service == service);
        let mut chosen: Vec<InstanceId> = known.map(|row| row.instance.clone()).collect();
        if chosen.len() > count {
            let left = chosen.len() - count;
            let what = match Service::REPLICATED.contains(&service) {
                true => {
                    "if half or more of those that vote are among them, nobody serves their state"
                }
                false => "data they hold alone is not readable",
            };
            println!("note: {left} known {service} instances stay stopped; {what}");
        }
        chosen.truncate(count);
        while chosen.len() < count {
            let instance = new_instance_id(service);
            self.file.instances.push(InstanceRow { service, instance: instance.clone() });
            chosen.push(instance);
        }
        chosen
    }

    /// All instances of a service that were ever started here, the one that is always started
    /// first; where there is none, one is made up.
    pub fn known(&mut self, service: Service) -> Vec<InstanceId> {
        let known = self.file.instances.iter().filter(|row| row.service == service).count();
        self.instances(service, known.max(1))
    }

    /// The cluster's id, 32 hex digits.
    pub fn cluster_id(&self) -> &str {
        &self.file.cluster_id
    }

    /// Where an instance keeps its data.
    pub fn node_dir(&self, instance: &str) -> PathBuf {
        node_dir(&self.dir, instance)
    }

    /// Keeps the instances that were made up.
    pub fn save(&self) -> Result<(), Failure> {
        disk::write_json(&self.dir.join("cluster.json"), &self.file).map_err(Failure::usage)
    }

    /// The cluster secret, made at the first start, readable by its owner only.
    fn secret_file(&self) -> Result<PathBuf, Failure> {
        let path = self.dir.join("cluster.secret");
        if !path.exists() {
            let secret = hex::encode(rand::random::<[u8; 32]>());
            disk::write_whole(&path, secret.as_bytes(), 0o600).map_err(Failure::usage)?;
        }
        Ok(path)
    }
}

fn node_dir(data_dir: &Path, instance: &str) -> PathBuf {
    data_dir.join("nodes").join(instance)
}

/// One instance to be started.
pub struct Instance {
    service: Service,
    id: InstanceId,
    http: Port,
    cluster: Port,
    data: Port,
}

/// A port that is held until the child that gets it starts.
struct Port {
    number: u16,
    _tcp: TcpListener,
    _udp: UdpSocket,
}

impl Port {
    fn take(number: u16) -> std::io::Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, number);
        let (_tcp, _udp) = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
        Ok(Port { number, _tcp, _udp })
    }

    fn free() -> Result<Self, Failure> {
        let tries = (0..200).map(|_| rand::random_range(FREE_PORTS));
        let mut ports = tries.filter_map(|number| Port::take(number).ok());
        ports.next().ok_or_else(|| Failure::usage("no free port on 127.0.0.1"))
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

/// All instances, ready to be started.
pub struct Plan {
    /// The cluster's directory.
    pub data_dir: PathBuf,
    /// In their order of start.
    pub instances: Vec<Instance>,
    data: DataDir,
    config: Option<PathBuf>,
    found_anew: Vec<Service>,
}

impl Plan {
    /// Decides the instances and takes the ports that are left to chance.
    pub fn make(args: &UpArgs, first: FirstPorts, mut data: DataDir) -> Result<Self, Failure> {
        let mut instances = Vec::new();
        for (service, port) in first.0 {
            let mut port = Some(port);
            for id in data.instances(service, wanted(args, service)) {
                let http = port.take().map_or_else(Port::free, Ok)?;
                let (cluster, data) = (Port::free()?, Port::free()?);
                instances.push(Instance { service, id, http, cluster, data });
            }
        }
        data.save()?;
        let (data_dir, config) = (data.dir.clone(), args.config.clone());
        let found_anew = args.found_anew.clone();
        Ok(Plan { data_dir, instances, data, config, found_anew })
    }

    /// The children, each with its command line; the ports are free from here on.
    pub fn into_children(self) -> Result<Vec<Child>, Failure> {
        let program = std::env::current_exe().map_err(Failure::run)?;
        let secret = self.data.secret_file()?;
        let seeds: Vec<String> = self.instances.iter().map(|i| i.cluster.address()).collect();
        let seeds = seeds.join(",");
        let wanted = Service::ALL.map(|service| {
            let count = self.instances.iter().filter(|i| i.service == service).count();
            format!("{}={count}", service.short())
        });
        let lock = std::sync::Arc::new(self.data.lock);
        let mut children = Vec::new();
        for instance in self.instances {
            let dir = node_dir(&self.data_dir, &instance.id);
            let mut args: Vec<std::ffi::OsString> = vec!["node".into(), "--follow-parent".into()];
            let mut add = |name: &str, value: std::ffi::OsString| args.extend([name.into(), value]);
            add("--service", instance.service.short().into());
            add("--instance", instance.id.clone().into());
            add("--data-dir", dir.clone().into());
            add("--http", instance.http.address().into());
            add("--cluster-listen", instance.cluster.address().into());
            add("--data-listen", instance.data.address().into());
            add("--bootstrap", seeds.clone().into());
            add("--wanted", wanted.join(",").into());
            add("--cluster-id", self.data.file.cluster_id.clone().into());
            add("--secret-file", secret.clone().into());
            for service in &self.found_anew {
                add("--found-anew", service.short().into());
            }
            if let Some(config) = &self.config {
                add("--config", config.clone().into());
            }
            let http_url = format!("http://{}", instance.http.address());
            children.push(Child::new(
                instance.service,
                instance.id,
                http_url,
                (program.clone(), args),
                dir,
                lock.clone(),
            ));
        }
        Ok(children)
    }
}

/// How many instances of a service are asked for.
fn wanted(args: &UpArgs, service: Service) -> usize {
    let asked = args.scale.iter().rev().find(|(s, _)| *s == service).map(|(_, n)| *n);
    asked.unwrap_or(if service == Service::Storage { 3 } else { 1 })
}

/// The fixed ports, those of the first instances, held.
pub struct FirstPorts(Vec<(Service, Port)>);

impl FirstPorts {
    /// Checks what is wanted and takes the ports; nothing on disk is touched.
    ///
    /// # Errors
    /// When a port is taken or such a cluster cannot be.
    pub fn take(args: &UpArgs) -> Result<Self, Failure> {
        for service in [Service::Metadata, Service::Storage] {
            if wanted(args, service) == 0 {
                return Err(Failure::usage(format!("--scale: a cluster needs {service}")));
            }
        }
        let services = Service::ALL.into_iter().filter(|s| wanted(args, *s) > 0);
        services.map(|s| Ok((s, first_port(args.ports, s)?))).collect::<Result<_, _>>().map(Self)
    }
}

fn first_port(base: u16, service: Service) -> Result<Port, Failure> {
    let number = base.checked_add(service.port_offset());
    let number = number.ok_or_else(|| Failure::usage(format!("--ports {base} is too high")))?;
    Port::take(number).map_err(|error| {
        Failure::usage(format!(
            "port {number} for {service} cannot be used ({error}): stop what listens there, or \
             choose others with --ports"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_names_a_service_and_a_count() {
        assert_eq!(parse_scale("storage=5"), Ok((Service::Storage, 5)));
        assert_eq!(parse_scale("queue-service=0"), Ok((Service::Queue, 0)));
        for text in ["storage", "storage=x", "storage=65", "store=1", "storage=-1"] {
            assert!(parse_scale(text).is_err(), "{text}");
        }
    }
}
