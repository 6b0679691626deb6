//! The catalog as what the replicated log feeds: images of it, and rest.
//!
//! Called by `replica::host`, one call at a time; an export runs beside it on a connection of its
//! own.
//!
//! 1. MACHINE-1: an image is one snapshot: the mark in it tells exactly what it holds.
//! 2. MACHINE-2: an image is taken in one transaction of the writing connection. Readers that are
//!    open keep their snapshot until its end, and then see the new state.

use std::fs::File;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};

use super::command::{Command, Outcome};
use super::query::{Query, QueryReply};
use super::reader::CatalogReader;
use super::schema;
use super::store::{Catalog, Fatal};
use crate::replica::{Digest, Digester, Export, Keyed, Machine};

/// After how many commands a checkpoint is made in a quiet moment.
const CHECKPOINT_COMMANDS: usize = 200;

impl Machine for Catalog {
    type Command = Command;
    type Outcome = Outcome;
    type Error = Fatal;

    fn applied(&self) -> u64 {
        self.applied_index()
    }

    fn mark(&self) -> Result<Vec<u8>, Fatal> {
        Catalog::mark(self)
    }

    fn apply(
        &mut self,
        first: u64,
        commands: &[Keyed<Command>],
        mark: &[u8],
    ) -> Result<Vec<Outcome>, Fatal> {
        self.apply_batch(first, commands, mark)
    }

    fn sync(&mut self) -> Result<(), Fatal> {
        Catalog::sync(self)
    }

    fn exporter(&self) -> Result<Export<Fatal>, Fatal> {
        let path = self.path.clone();
        Ok(Box::new(move |to: &Path| export(&path, to)))
    }

    fn import(&mut self, from: &Path) -> Result<(), Fatal> {
        self.take_image(from)
    }

    fn digester(&self) -> Result<Digester<Fatal>, Fatal> {
        let path = self.path.clone();
        Ok(Box::new(move || match CatalogReader::open(path)?.query(&Query::Digest)? {
            Ok(QueryReply::Digest { applied, digest }) => Ok(Digest { applied, md5: digest }),
            _ => Err(Fatal::Broken("the catalog has no digest")),
        }))
    }

    fn idle(&mut self) {
        if self.since_checkpoint() < CHECKPOINT_COMMANDS {
            return; // one after each commit would cost more than the commit
        }
        self.try_checkpoint();
    }
}

/// Writes an image of the catalog at `path`, and gives the mark in it. The write-ahead log cannot
/// begin anew meanwhile.
fn export(path: &Path, to: &Path) -> Result<Vec<u8>, Fatal> {
    let failed = |source| file_error(to, source);
    match std::fs::remove_file(to) {
        // left by an export that was cut off
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let name = to.to_str().ok_or_else(|| failed(std::io::ErrorKind::InvalidFilename.into()))?;
    let write = || -> Result<Vec<u8>, Fatal> {
        schema::open_reader(path)?.execute("VACUUM INTO ?1", [name])?;
        File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
        let image = schema::open_reader(to)?;
        Ok(image.query_row("SELECT mark FROM state", [], |r| r.get(0))?)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(to))) // where the disk is full, half of it
}

fn file_error(path: &Path, source: std::io::Error) -> Fatal {
    Fatal::File { path: path.to_owned(), source }
}

impl Catalog {
    /// MACHINE-2: through SQLite's online backup, from the file into the writing connection. What
    /// is no catalog of this format, or cut short, is refused before; an error on the way rolls
    /// back. That the bytes are those that were sent is checked where they are fetched.
    fn take_image(&mut self, from: &Path) -> Result<(), Fatal> {
        let image = schema::open_reader(from)?;
        let sql = "SELECT page_count*page_size FROM pragma_page_count, pragma_page_size, state";
        let bytes: i64 = image.query_row(sql, [], |r| r.get(0))?;
        let len = std::fs::metadata(from).map_err(|e| file_error(from, e))?.len();
        if bytes as u64 != len {
            return Err(file_error(from, std::io::ErrorKind::UnexpectedEof.into()));
        }
        match Backup::new(&image, &mut self.db)?.step(-1)? {
            StepResult::Done => {}
            // nobody else writes here, and the image is nobody else's
            _ => return Err(Fatal::Broken("somebody else writes to the catalog or the image")),
        }
        self.reload()?;
        self.sync()?;
        self.try_checkpoint(); // now rather than in the next commit: the log is as long as the image
        Ok(())
    }

    /// Makes a checkpoint; without one the log only grows.
    fn try_checkpoint(&mut self) {
        if let Err(error) = self.checkpoint() {
            tracing::warn!(%error, "checkpoint of the catalog failed");
        }
    }
}
