//! Images of backups on the disks of nodes that do not run: checked, and put in the place of the
//! state that is there.
//!
//! - `RESTORE-1` a node is locked from before it is looked at until all is done;
//! - `RESTORE-2` an image is taken and read as a whole, in a folder of its own, before anything that
//!   is there is touched; what was there is moved aside, not deleted;
//! - `RESTORE-3` every node is told of the new group before the first old replica goes: after a
//!   crash in the middle none of them founds an empty group.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{DiskError, Identity, NodeDisk, read_json};
use crate::actors::fault_injector::{self, machine::RecordMachine};
use crate::actors::metadata::{self, store::Catalog};
use crate::actors::queue_worker::{self, machine::QueueMachine};
use crate::replica::actor::LOG_FILE;
use crate::replica::{Digest, Machine, backup};
use crate::types::{Service, now_ms};

/// The only replica of a new group.
pub struct Founder<'a> {
    /// The group.
    pub group: u128,
    /// Its instance.
    pub instance: &'a str,
}

/// Has a new machine in this folder take an image, and reads all of it; with a founder, the folder
/// becomes that of its replica.
///
/// # Errors
/// The text says what is wrong with the image, the service or the disk.
pub fn take(
    service: Service,
    image: &Path,
    dir: &Path,
    founder: Option<Founder<'_>>,
) -> Result<Digest, String> {
    std::fs::create_dir(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let copy = dir.join("image");
    let copied = std::fs::copy(image, &copy); // redb may write to what it reads
    copied.map_err(|e| format!("cannot copy {}: {e}", image.display()))?;
    let digest = take_copy(service, &copy, dir, founder)?;
    std::fs::remove_file(copy).map_err(|e| e.to_string())?;
    Ok(digest)
}

fn take_copy(
    service: Service,
    image: &Path,
    dir: &Path,
    founder: Option<Founder<'_>>,
) -> Result<Digest, String> {
    match service {
        Service::Metadata => {
            let machine = Catalog::open(dir.join(metadata::FILE));
            take_with(machine.map_err(|e| full_text(&e))?, image, dir, founder)
        }
        Service::Queue => {
            let machine = QueueMachine::open(&dir.join(queue_worker::FILE));
            take_with(machine.map_err(|e| full_text(&e))?, image, dir, founder)
        }
        Service::MockError => {
            let machine = RecordMachine::open(&dir.join(fault_injector::FILE));
            take_with(machine.map_err(|e| full_text(&e))?, image, dir, founder)
        }
        Service::Storage | Service::ThirdParty => Err(format!("{service} has no replicated state")),
    }
}

fn take_with<M: Machine<Error: std::error::Error>>(
    mut machine: M,
    image: &Path,
    dir: &Path,
    founder: Option<Founder<'_>>,
) -> Result<Digest, String> {
    let digest = backup::import(&mut machine, image).map_err(|e| full_text(&e))?;
    if let Some(Founder { group, instance }) = founder {
        backup::seed(&mut machine, &dir.join(LOG_FILE), group, instance)?;
    }
    Ok(digest)
}

/// An error with its causes.
pub fn full_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A node that does not run, and will not while this lives (RESTORE-1).
pub struct Stopped {
    disk: NodeDisk,
    dir: PathBuf,
}

impl Stopped {
    /// Locks the node in this folder; where there is none yet, makes that of `new`.
    ///
    /// # Errors
    /// When it runs, or there is no such node.
    pub fn open(dir: &Path, new: Option<(Service, &str)>) -> Result<Stopped, DiskError> {
        let file = dir.join("node.json");
        let found = read_json::<Identity>(&file)?;
        let (services, instance) = match (&found, new) {
            (Some(own), _) => (own.services.clone(), None),
            (None, Some((service, instance))) => (vec![service], Some(instance)),
            (None, None) => {
                let source = io::ErrorKind::NotFound.into();
                return Err(DiskError::Io { path: file, source });
            }
        };
        let disk = NodeDisk::open(dir, &services, instance)?;
        Ok(Stopped { disk, dir: dir.to_owned() })
    }

    /// What it runs.
    pub fn services(&self) -> &[Service] {
        &self.disk.identity().services
    }

    /// Its instance.
    pub fn instance(&self) -> &str {
        &self.disk.identity().instance
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cluster that it belongs to; 0: it does not know.
    pub fn cluster_id(&self) -> u128 {
        self.disk.cluster_id()
    }

    fn place(&self, service: Service) -> PathBuf {
        self.dir.join(service.short())
    }

    /// Whether there is a state of this service.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn has_state(&self, service: Service) -> io::Result<bool> {
        match std::fs::read_dir(self.place(service)) {
            Ok(mut files) => Ok(files.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Prepares the state of an image as that of a new group, beside what is there.
    ///
    /// # Errors
    /// As [`take`].
    pub fn prepare(&self, service: Service, image: &Path, group: u128) -> Result<Digest, String> {
        let dir = self.prepared(service);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
            _ => {} // left by a restore that was cut off
        }
        let founder = Founder { group, instance: self.instance() };
        let digest = take(service, image, &dir, Some(founder))?;
        let kept = File::open(&dir).and_then(|dir| dir.sync_all());
        kept.map_err(|e| e.to_string()).map(|()| digest)
    }

    fn prepared(&self, service: Service) -> PathBuf {
        self.dir.join(format!("{}.restoring", service.short()))
    }

    /// Tells the node of the group that there will be (RESTORE-3).
    ///
    /// # Errors
    /// When the disk will not.
    pub fn tell(&mut self, service: Service, group: u128) -> Result<(), DiskError> {
        self.disk.set_group(service, group)
    }

    /// Moves the state that is there aside; says where to.
    ///
    /// # Errors
    /// When the disk will not.
    pub fn move_aside(&self, service: Service) -> io::Result<Option<PathBuf>> {
        if !self.has_state(service)? {
            return Ok(None);
        }
        let to = self.dir.join(format!("{}.replaced-{}", service.short(), now_ms()));
        std::fs::rename(self.place(service), &to)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(Some(to))
    }

    /// Puts what was prepared in its place, which must be free.
    ///
    /// # Errors
    /// When the disk will not.
    pub fn put(&self, service: Service) -> io::Result<()> {
        std::fs::rename(self.prepared(service), self.place(service))?;
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests;
