//! What a backup consists of, as its `backup.json` says: one image a service.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use crate::node::disk::{read_json, write_json};
use crate::types::Service;

/// The format of backups that this program writes and reads.
const FORMAT: u32 = 1;
const FILE: &str = "backup.json";
/// How much is read at a time, in bytes.
const PIECE: usize = 1 << 20;

/// `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the backup.
    pub format: u32,
    /// The version of the program that made it.
    pub version: String,
    /// The cluster, 32 hex digits.
    pub cluster_id: String,
    /// When the first image was asked for, RFC 3339.
    pub taken_at: String,
    /// In the order in which they were taken.
    pub services: Vec<Row>,
}

/// The image of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `metadata-service`.
    pub service: Service,
    /// The group of replicas that it was taken of, 32 hex digits.
    pub group: String,
    /// The index of the last command that it holds.
    pub applied: u64,
    /// Its length.
    pub bytes: u64,
    /// Its CRC-64/NVME, 16 hex digits.
    pub crc64nvme: String,
    /// MD5 over the state in it, as `GET /api/v1/groups?digest=true` tells it of a replica.
    pub digest: String,
}

impl Row {
    /// Where the image is.
    pub fn image(&self, dir: &Path) -> PathBuf {
        image(dir, self.service)
    }

    /// Checks that the image is the one that was taken.
    fn check(&self, dir: &Path) -> Result<(), String> {
        let path = self.image(dir);
        let (len, crc64) = measure(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        match (len, format!("{crc64:016x}")) == (self.bytes, self.crc64nvme.clone()) {
            true => Ok(()),
            false => Err(format!("{} is damaged: its bytes are not those taken", path.display())),
        }
    }
}

/// Where the image of a service is in a backup.
pub fn image(dir: &Path, service: Service) -> PathBuf {
    dir.join(format!("{}.image", service.short()))
}

/// A checksum to be fed with an image.
pub fn checksum() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme)
}

fn measure(path: &Path) -> std::io::Result<(u64, u64)> {
    let (mut file, mut crc, mut piece) = (File::open(path)?, checksum(), vec![0; PIECE]);
    let mut len = 0;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((len, crc.finalize())),
            n => {
                crc.update(&piece[..n]);
                len += n as u64;
            }
        }
    }
}

impl Manifest {
    /// One without images so far.
    pub fn new(taken_at: String) -> Self {
        Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            cluster_id: String::new(),
            taken_at,
            services: Vec::new(),
        }
    }

    /// Writes it beside the images.
    pub fn write(&self, dir: &Path) -> Result<(), Failure> {
        write_json(&dir.join(FILE), self).map_err(Failure::run)
    }

    /// Reads it, and all images, to see that they are those that were taken.
    pub fn read_and_check(dir: &Path) -> Result<Self, Failure> {
        let found = read_json::<Manifest>(&dir.join(FILE)).map_err(Failure::usage)?;
        let manifest = found
            .ok_or_else(|| Failure::usage(format!("{} has no {FILE}: no backup", dir.display())))?;
        if manifest.format != FORMAT {
            let found = manifest.format;
            let text = format!("the backup has format {found}, this program reads {FORMAT}");
            return Err(Failure::usage(text));
        }
        manifest.services.iter().try_for_each(|row| row.check(dir)).map_err(Failure::usage)?;
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_read_as_it_was_written_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |what: &str| {
            let failure = Manifest::read_and_check(dir.path()).unwrap_err();
            assert!(failure.text.contains(what), "{}", failure.text);
        };
        refused("no backup");
        let path = image(dir.path(), Service::Queue);
        std::fs::write(&path, b"123456789").unwrap();
        let mut manifest = Manifest::new("2026-01-31T12:00:00Z".into());
        manifest.services.push(Row {
            service: Service::Queue,
            group: format!("{:032x}", 7),
            applied: 3,
            bytes: 9,
            crc64nvme: "ae8b14860a799888".into(), // the check value of CRC-64/NVME
            digest: "3-0".into(),
        });
        manifest.write(dir.path()).unwrap();
        let read = Manifest::read_and_check(dir.path()).map_err(|f| f.text);
        assert_eq!(read.unwrap(), manifest);
        std::fs::write(&path, b"123456780").unwrap();
        refused("queue.image is damaged");
        std::fs::remove_file(&path).unwrap();
        refused("queue.image");
        let other = Manifest { format: 2, ..manifest };
        other.write(dir.path()).unwrap();
        refused("format 2");
    }
}
