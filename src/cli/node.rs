//! `mocks3 node`: runs one node.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::up::plan::parse_scale;
use super::{Failure, load_config};
use crate::cluster::handshake::Secret;
use crate::node::{Addresses, Ended, Node, NodeOptions};
use crate::types::Service;

/// The exit code of a node whose root supervisor gave up.
pub const ESCALATED: u8 = 70;

/// Arguments of `mocks3 node`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  MOCKS3_SECRET=s3cret mocks3 node --service metadata --data-dir /var/lib/m1 --cluster-listen 127.0.0.1:18081
  MOCKS3_SECRET=s3cret mocks3 node --service storage,queue --data-dir /var/lib/m2 --bootstrap 127.0.0.1:18081
  MOCKS3_SECRET=s3cret mocks3 node --service storage --data-dir /data --http 0.0.0.0:8082 \\
      --cluster-listen 0.0.0.0:7082 --advertise 10.0.0.7 --bootstrap 10.0.0.2:7081 --config own-users.toml")]
pub struct NodeArgs {
    /// What it runs, one or several of metadata, storage, queue, third-party, mock-error.
    #[arg(long, required = true, value_delimiter = ',')]
    service: Vec<Service>,
    /// Its place on disk; made if it is not there.
    #[arg(long)]
    data_dir: PathBuf,
    /// Its instance id, {service}-{uuid}; made up and kept on disk if not given.
    #[arg(long)]
    instance: Option<String>,
    /// Where each service listens for HTTP, in the order of --service [default: 127.0.0.1 and the
    /// service's port 8081-8085].
    #[arg(long, value_delimiter = ',')]
    http: Vec<SocketAddr>,
    /// Where it listens for other members (TCP and UDP).
    #[arg(long, default_value = "127.0.0.1:0")]
    cluster_listen: SocketAddr,
    /// Where it listens for object data from other members [default: a free port of the address of
    /// --cluster-listen].
    #[arg(long)]
    data_listen: Option<SocketAddr>,
    /// The IP address under which others reach this node, told to them instead of a wildcard such
    /// as 0.0.0.0; needed with one.
    #[arg(long, env = "MOCKS3_ADVERTISE")]
    advertise: Option<IpAddr>,
    /// Members to call first: host:port of their cluster listener, or consul://host:port.
    #[arg(long, value_delimiter = ',')]
    bootstrap: Vec<String>,
    /// The cluster's id (32 hex digits), where it is known.
    #[arg(long)]
    cluster_id: Option<String>,
    /// File with the secret that all members share; else the variable MOCKS3_SECRET.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, env = "MOCKS3_CONFIG")]
    config: Option<PathBuf>,
    /// How many instances of each service the cluster should have, as in metadata=1,storage=3; a
    /// service below its count is told in the events and by `status`.
    #[arg(long, value_delimiter = ',', value_parser = parse_scale)]
    wanted: Vec<(Service, usize)>,
    /// Found a new group of these services although there was one: after a loss of all its replicas.
    #[arg(long, value_delimiter = ',')]
    found_anew: Vec<Service>,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    follow_parent: bool,
}

/// Runs the node until it is asked to stop.
pub fn run(args: NodeArgs) -> Result<(), Failure> {
    super::logging();
    if args.follow_parent {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).map_err(Failure::run)?;
    }
    let options = options(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.map_err(Failure::run)?.block_on(async {
        let stop = super::stop_signal(); // a member that still starts is to say goodbye, too
        let node = Node::start(options).await.map_err(|e| Failure::usage(format!("{e:#}")))?;
        let info = node.info();
        tracing::info!(instance = info.instance, http = info.http_url, "node started");
        Ok(node.run(stop).await)
    })?;
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Escalated => {
            Err(Failure { code: ESCALATED, text: "the root supervisor gave up".into() })
        }
    }
}

fn options(args: NodeArgs) -> Result<NodeOptions, Failure> {
    let config = load_config(args.config.as_ref())?;
    let http = match args.http.len() {
        0 => args
            .service
            .iter()
            .map(|s| SocketAddr::from(([127, 0, 0, 1], 8081 + s.port_offset())))
            .collect(),
        n if n == args.service.len() => args.http,
        n => {
            let wanted = args.service.len();
            return Err(Failure::usage(format!("--http has {n} addresses for {wanted} services")));
        }
    };
    let mut services = args.service.clone();
    services.sort();
    services.dedup();
    if services.len() != args.service.len() {
        return Err(Failure::usage("--service names a service twice"));
    }
    let parse = |text: &String| u128::from_str_radix(text, 16).ok().filter(|id| *id != 0);
    let cluster_id = match &args.cluster_id {
        Some(text) => Some(parse(text).ok_or_else(|| {
            Failure::usage(format!("--cluster-id {text:?}: expected 32 hex digits"))
        })?),
        None => None,
    };
    Ok(NodeOptions {
        services: args.service,
        instance: args.instance,
        data_dir: args.data_dir,
        addresses: Addresses {
            http,
            cluster: args.cluster_listen,
            data: args.data_listen.unwrap_or_else(|| (args.cluster_listen.ip(), 0).into()),
            advertise: args.advertise,
        },
        bootstrap: args.bootstrap,
        cluster_id,
        secret: secret(args.secret_file.as_ref())?,
        wanted: args.wanted.into_iter().collect(),
        found_anew: args.found_anew,
        config,
    })
}

fn secret(file: Option<&PathBuf>) -> Result<Secret, Failure> {
    let text = match (file, std::env::var("MOCKS3_SECRET")) {
        (Some(path), _) => std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read secret file {}: {error}", path.display()))
        })?,
        (None, Ok(text)) => text,
        (None, Err(_)) => {
            let text = "a node needs the cluster secret: --secret-file FILE or MOCKS3_SECRET";
            return Err(Failure::usage(text));
        }
    };
    match text.trim().len() {
        0..8 => Err(Failure::usage("the cluster secret must have at least 8 characters")),
        _ => Ok(Secret::new(&text)),
    }
}
