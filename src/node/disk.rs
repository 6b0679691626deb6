//! A node's place on disk: who it is, which format it has, and the lock that keeps it alone there.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::types::{InstanceId, Service, new_instance_id};

/// The format of data directories that this program reads and writes.
pub const FORMAT: u32 = 1;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Another process works in it.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// It was written by another version.
    #[error(
        "{path} has data format {found}, this program has {FORMAT}: use the version that wrote it, or another --data-dir"
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Its description is no such thing.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It belongs to somebody else.
    #[error("{path} belongs to {found}, not to {wanted}")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        found: String,
        /// Who asked.
        wanted: String,
    },
}

/// Who a node is, as `node.json` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The data format.
    pub format: u32,
    /// The instance id.
    pub instance: InstanceId,
    /// What it runs.
    pub services: Vec<Service>,
    /// The cluster that it belongs to, in hex; empty while it does not know.
    pub cluster_id: String,
    /// The groups of replicas that it has heard of, in hex.
    #[serde(default)]
    pub groups: BTreeMap<Service, String>,
}

/// A node's directory, locked for this process.
pub struct NodeDisk {
    dir: PathBuf,
    identity: Identity,
    _lock: Flock<File>,
}

impl NodeDisk {
    /// Opens or makes a node's directory.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub fn open(
        dir: &Path,
        services: &[Service],
        instance: Option<&str>,
    ) -> Result<Self, DiskError> {
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let lock = lock(&dir.join("lock"))?;
        let file = dir.join("node.json");
        let identity = match read_json::<Identity>(&file)? {
            Some(identity) => check(dir, identity, services, instance)?,
            None => {
                let first = services.first().copied().unwrap_or(Service::Storage);
                let instance = instance.map_or_else(|| new_instance_id(first), ToOwned::to_owned);
                let services = services.to_vec();
                Identity {
                    format: FORMAT,
                    instance,
                    services,
                    cluster_id: String::new(),
                    groups: BTreeMap::new(),
                }
            }
        };
        let disk = NodeDisk { dir: dir.to_owned(), identity, _lock: lock };
        disk.save()?;
        Ok(disk)
    }

    /// Who the node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The cluster id; 0 = not known yet.
    pub fn cluster_id(&self) -> u128 {
        u128::from_str_radix(&self.identity.cluster_id, 16).unwrap_or(0)
    }

    /// Keeps the cluster id.
    ///
    /// # Errors
    /// When the disk holds another one, or cannot be written.
    pub fn set_cluster_id(&mut self, id: u128) -> Result<(), DiskError> {
        let known = self.cluster_id();
        if known != 0 && known != id {
            return Err(DiskError::Foreign {
                path: self.dir.clone(),
                found: format!("cluster {known:032x}"),
                wanted: format!("cluster {id:032x}"),
            });
        }
        self.identity.cluster_id = format!("{id:032x}");
        self.save()
    }

    /// The groups of replicas that the node has heard of.
    pub fn groups(&self) -> BTreeMap<Service, u128> {
        let id = |text: &String| u128::from_str_radix(text, 16).ok();
        let rows = self.identity.groups.iter();
        rows.filter_map(|(service, text)| Some((*service, id(text)?))).collect()
    }

    /// Keeps the group of a service.
    ///
    /// # Errors
    /// When the disk will not.
    pub fn set_group(&mut self, service: Service, id: u128) -> Result<(), DiskError> {
        self.identity.groups.insert(service, format!("{id:032x}"));
        self.save()
    }

    /// A directory below, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn subdir(&self, name: &str) -> Result<PathBuf, DiskError> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).map_err(io(&dir))?;
        Ok(dir)
    }

    fn save(&self) -> Result<(), DiskError> {
        write_json(&self.dir.join("node.json"), &self.identity)
    }
}

fn check(
    dir: &Path,
    identity: Identity,
    services: &[Service],
    instance: Option<&str>,
) -> Result<Identity, DiskError> {
    if identity.format != FORMAT {
        return Err(DiskError::Format { path: dir.to_owned(), found: identity.format });
    }
    let foreign =
        |found: String, wanted: String| DiskError::Foreign { path: dir.to_owned(), found, wanted };
    if let Some(wanted) = instance.filter(|i| *i != identity.instance) {
        return Err(foreign(identity.instance, wanted.to_owned()));
    }
    if identity.services != services {
        let names = |list: &[Service]| list.iter().map(|s| s.short()).collect::<Vec<_>>().join(",");
        return Err(foreign(names(&identity.services), names(services)));
    }
    Ok(identity)
}

/// Locks a file for this process (flock); the lock ends with the value or the process.
///
/// # Errors
/// [`DiskError::Locked`] when another process holds it.
pub fn lock(path: &Path) -> Result<Flock<File>, DiskError> {
    let options = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = options.map_err(io(path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => {
            DiskError::Locked(path.parent().unwrap_or(path).to_owned())
        }
        other => DiskError::Io { path: path.to_owned(), source: other.into() },
    })
}

/// Reads a JSON file; `None` when there is none.
///
/// # Errors
/// When it cannot be read or is no such JSON.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, DiskError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path)(error)),
    };
    let damaged =
        |e: serde_json::Error| DiskError::Damaged { path: path.to_owned(), reason: e.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Writes a JSON file so that a crash leaves the old or the new one.
///
/// # Errors
/// When the disk will not.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), DiskError> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| io(path)(e.into()))?;
    write_whole(path, &text, 0o644)
}

/// Writes a file so that a crash, of the machine too, leaves the old or the new one.
///
/// # Errors
/// When the disk will not.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
    let write = || -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let temp = path.with_extension("tmp");
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(mode).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(io(path))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> DiskError + use<> {
    let path = path.to_owned();
    move |source| DiskError::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_finds_itself_again_on_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = NodeDisk::open(dir.path(), &[Service::Queue], None).unwrap();
        let first = disk.identity().instance.clone();
        disk.set_cluster_id(7).unwrap();
        drop(disk);
        let disk = NodeDisk::open(dir.path(), &[Service::Queue], Some(&first)).unwrap();
        assert_eq!((disk.identity().instance.as_str(), disk.cluster_id()), (first.as_str(), 7));
    }

    #[test]
    fn a_disk_that_is_not_ours_is_refused_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let open = |s: &[Service], i: Option<&str>| NodeDisk::open(dir.path(), s, i).map(|_| ());
        let disk = NodeDisk::open(dir.path(), &[Service::Queue], None).unwrap();
        assert!(matches!(open(&[Service::Queue], None), Err(DiskError::Locked(_))));
        drop(disk);
        let error = open(&[Service::Storage], None).unwrap_err().to_string();
        assert!(error.ends_with("belongs to queue, not to storage"), "{error}");
        assert!(matches!(open(&[Service::Queue], Some("x")), Err(DiskError::Foreign { .. })));
        let mut disk = NodeDisk::open(dir.path(), &[Service::Queue], None).unwrap();
        disk.set_cluster_id(7).unwrap();
        assert!(matches!(disk.set_cluster_id(8), Err(DiskError::Foreign { .. })));
        drop(disk);
        let file = dir.path().join("node.json");
        let other =
            std::fs::read_to_string(&file).unwrap().replace("\"format\": 1", "\"format\": 9");
        std::fs::write(&file, other).unwrap();
        assert!(matches!(open(&[Service::Queue], None), Err(DiskError::Format { found: 9, .. })));
        std::fs::write(&file, "{").unwrap();
        assert!(matches!(open(&[Service::Queue], None), Err(DiskError::Damaged { .. })));
    }
}
