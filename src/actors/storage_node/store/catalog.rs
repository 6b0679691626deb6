//! Which catalog of metadata the items belong to, kept in a small file beside the segments.

use std::fs::{self, File};
use std::io::{self, Write};

use super::error::Error;
use super::segment::sync_dir;
use super::{SegmentStore, Shared};

/// The name of the file: the id in 32 hex digits.
const CATALOG: &str = "CATALOG";

impl SegmentStore {
    /// Whether the items belong to this catalog; a store that belongs to none yet does from now on.
    ///
    /// # Errors
    /// `Io`.
    pub fn belongs_to(&self, catalog: u128) -> Result<bool, Error> {
        self.shared.belongs_to(catalog)
    }
}

impl Shared {
    fn belongs_to(&self, catalog: u128) -> Result<bool, Error> {
        let path = self.dir.join(CATALOG);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(u128::from_str_radix(text.trim(), 16) == Ok(catalog)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.keep(catalog).map_err(Error::io("cannot write", &path))?;
                Ok(true)
            }
            Err(error) => Err(Error::io("cannot read", &path)(error)),
        }
    }

    fn keep(&self, catalog: u128) -> io::Result<()> {
        let draft = self.dir.join("CATALOG.tmp");
        let mut file = File::create(&draft)?;
        writeln!(file, "{catalog:032x}")?;
        file.sync_all()?;
        fs::rename(&draft, self.dir.join(CATALOG))?;
        sync_dir(&self.dir)
    }
}
