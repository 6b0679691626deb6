//! `mocks3 restore`: puts a backup in the place of the state of a cluster that is stopped.
//!
//! One instance of each service gets the state, as the only replica of a new group. All others are
//! emptied: they join that group when they start, and take the state from it.

use std::path::{Path, PathBuf};

use super::Failure;
use super::backup::manifest::{Manifest, Row};
use super::up::plan::DataDir;
use crate::node::restore::Stopped;
use crate::types::Service;

/// Arguments of `mocks3 restore`.
#[derive(clap::Args)]
#[command(
    group(clap::ArgGroup::new("where").required(true).args(["data_dir", "node_dir"])),
    after_help = "Examples:
  mocks3 restore ./backups/monday --data-dir ./data --replace && mocks3 up
  mocks3 restore ./backups/monday --data-dir ./elsewhere        a new cluster with that state
  mocks3 restore /mnt/b1 --node-dir /var/lib/m1 --node-dir /var/lib/q1 --replace
  mocks3 restore /mnt/b1 --node-dir /var/lib/m2 --replace --join    on the other machines

All instances of the restored services must be stopped. After it, start the cluster as usual, at any
scale. With --node-dir: exactly one node of each service is restored without --join, in all of the
cluster; every other node of that service that has a disk is given with --join, or starts anew.

A backup holds no bytes of objects: they are where the storage nodes have them. So:
  - Objects that were written after the backup are not known any more, and the storage nodes drop
    their bytes as orphans, storage.orphan_grace (10 min) after they were written: soon after the
    start. To be able to turn back, start with a longer one first:
    MOCKS3_STORAGE__ORPHAN_GRACE=7d mocks3 up
  - Objects that were deleted after the backup (or while it ran) are listed again, but their bytes may
    be gone: reading them fails, and the queue tries in vain to copy them, until they are deleted or
    written again.
  - Tasks of the queue ask metadata before they delete anything: those that no longer fit do nothing.
What was there before is kept beside it, as SERVICE.replaced-TIME in the folder of each node.")]
pub struct RestoreArgs {
    /// The folder of the backup.
    dir: PathBuf,
    /// The data directory of a cluster that `up` started; made if it is not there.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The data directory of a node that was started by hand; may be given several times.
    #[arg(long)]
    node_dir: Vec<PathBuf>,
    /// Replace the state that is there.
    #[arg(long)]
    replace: bool,
    /// Only empty the nodes: they take the state from one that is restored elsewhere.
    #[arg(long, requires = "node_dir")]
    join: bool,
}

/// Runs the command.
pub fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let manifest = Manifest::read_and_check(&args.dir)?;
    let (nodes, data) = match &args.data_dir {
        Some(dir) => {
            let (nodes, data) = nodes_of(dir, &manifest)?;
            (nodes, Some(data)) // locked until the end
        }
        None => (given(&args.node_dir, &manifest)?, None),
    };
    let plan = Plan::make(nodes, &manifest, args)?;
    plan.carry_out(&args.dir)?;
    match data {
        Some(data) => data.save()?,
        None if args.join => println!("emptied: start the nodes when the restored one runs"),
        None => println!("restored: start this node first, and others of its services with --join"),
    }
    Ok(())
}

/// The nodes of a cluster of `up` that run a service of the backup.
fn nodes_of(dir: &Path, manifest: &Manifest) -> Result<(Vec<Stopped>, DataDir), Failure> {
    let id = u128::from_str_radix(&manifest.cluster_id, 16).map_err(Failure::usage)?;
    let mut data = DataDir::open_of(dir, || id)?;
    same_cluster(data.cluster_id(), manifest, dir)?;
    let mut nodes = Vec::new();
    for row in &manifest.services {
        for instance in data.known(row.service) {
            let dir = data.node_dir(&instance);
            let node = Stopped::open(&dir, Some((row.service, &instance)));
            nodes.push(node.map_err(Failure::usage)?);
        }
    }
    data.save()?;
    Ok((nodes, data))
}

fn given(dirs: &[PathBuf], manifest: &Manifest) -> Result<Vec<Stopped>, Failure> {
    let mut nodes = Vec::new();
    for dir in dirs {
        let node = Stopped::open(dir, None).map_err(Failure::usage)?;
        if node.cluster_id() != 0 {
            same_cluster(&format!("{:032x}", node.cluster_id()), manifest, dir)?;
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// Data of one cluster under the catalog of another would be lost to both.
fn same_cluster(id: &str, manifest: &Manifest, dir: &Path) -> Result<(), Failure> {
    match id == manifest.cluster_id {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "{} belongs to cluster {id}, the backup to {}: restore it where it was taken, or to a \
             new --data-dir",
            dir.display(),
            manifest.cluster_id
        ))),
    }
}

/// What is to be done, after all that can be refused was.
struct Plan<'a> {
    nodes: Vec<Stopped>,
    services: Vec<Restored<'a>>,
}

/// One service of the backup.
struct Restored<'a> {
    row: &'a Row,
    /// The new group.
    group: u128,
    /// Which nodes run it.
    on: Vec<usize>,
    /// The one that gets the state.
    founder: Option<usize>,
}

impl<'a> Plan<'a> {
    fn make(
        nodes: Vec<Stopped>,
        manifest: &'a Manifest,
        args: &RestoreArgs,
    ) -> Result<Self, Failure> {
        let runs = |n: &usize, service| nodes[*n].services().contains(&service);
        let restored = |row: &'a Row| {
            let on: Vec<usize> = (0..nodes.len()).filter(|n| runs(n, row.service)).collect();
            let founder = on.first().copied().filter(|_| !args.join);
            Restored { row, group: rand::random(), on, founder }
        };
        let services: Vec<_> = manifest.services.iter().map(restored).collect();
        if services.iter().all(|s| s.on.is_empty()) {
            return Err(Failure::usage("none of these nodes runs a service of the backup"));
        }
        for (service, on) in services.iter().map(|s| (s.row.service, &s.on)) {
            for node in on.iter().map(|n| &nodes[*n]) {
                if node.has_state(service).map_err(Failure::usage)? && !args.replace {
                    let (at, name) = (node.dir().display(), service.short());
                    let text = format!("{at} has a state of {name}: --replace puts it aside");
                    return Err(Failure::usage(text));
                }
            }
        }
        Ok(Plan { nodes, services })
    }

    fn carry_out(mut self, backup: &Path) -> Result<(), Failure> {
        for Restored { row, group, founder, .. } in &self.services {
            if let Some(founder) = founder {
                self.prepare(row, *group, *founder, backup)?;
            }
        }
        for Restored { row, group, on, founder } in &self.services {
            for n in on.iter().filter(|_| founder.is_some()) {
                self.nodes[*n].tell(row.service, *group).map_err(Failure::run)?;
            }
        }
        for Restored { row, on, .. } in &self.services {
            on.iter().try_for_each(|n| aside(&self.nodes[*n], row.service))?;
        }
        for Restored { row, founder, .. } in &self.services {
            if let Some(founder) = founder {
                let node = &self.nodes[*founder];
                node.put(row.service).map_err(Failure::run)?;
                println!("{:<10} restored on {}", row.service.short(), node.instance());
            }
        }
        Ok(())
    }

    fn prepare(&self, row: &Row, group: u128, on: usize, backup: &Path) -> Result<(), Failure> {
        let digest = self.nodes[on].prepare(row.service, &row.image(backup), group);
        let digest = digest.map_err(|e| Failure::run(format!("{}: {e}", row.service)))?;
        match digest.to_string() == row.digest {
            true => Ok(()),
            false => Err(Failure::run(format!(
                "the image of {} gives the state {digest}, not {}: nothing was changed",
                row.service, row.digest
            ))),
        }
    }
}

fn aside(node: &Stopped, service: Service) -> Result<(), Failure> {
    if let Some(to) = node.move_aside(service).map_err(Failure::run)? {
        println!("{:<10} what was there is in {}", service.short(), to.display());
    }
    Ok(())
}
