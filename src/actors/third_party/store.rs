//! The file of the sources that were added over HTTP: JSON, replaced as a whole.
//!
//! - `STORE-1` after a crash at any point the file is the old or the new one;
//! - `STORE-2` it holds secrets: only its owner may read it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sources::Added;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Contents {
    format: u32,
    sources: Vec<Added>,
}

/// Reads the sources; none where there is no file yet. Blocks.
///
/// # Errors
/// When the file cannot be read, or was written by another version.
pub fn read(file: &Path) -> io::Result<Vec<Added>> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let bad = |why: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", file.display()))
    };
    let contents: Contents = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    if contents.format != FORMAT {
        return Err(bad(format!("format {}, expected {FORMAT}", contents.format)));
    }
    Ok(contents.sources)
}

/// Replaces the file. Blocks.
///
/// # Errors
/// Those of the disk; then the old file stands.
pub fn write(file: &Path, sources: &[Added]) -> io::Result<()> {
    let contents = Contents { format: FORMAT, sources: sources.to_vec() };
    let text = serde_json::to_vec_pretty(&contents).map_err(io::Error::other)?;
    let new = file.with_extension("new");
    let mut options = OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(&text)?;
    out.sync_all()?;
    std::fs::rename(&new, file)?; // STORE-1
    file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn sources_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sources.json");
        assert_eq!(read(&file).unwrap(), []);
        let text = "name = \"a\"\ntype = \"http\"\nendpoint = \"http://h\"\ntimeout = \"250ms\"";
        let added = [Added { source: toml::from_str(text).unwrap(), changed_ms: 7 }];
        for _ in 0..2 {
            write(&file, &added).unwrap();
            assert_eq!(read(&file).unwrap(), added);
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600); // STORE-2
        std::fs::write(&file, "{\"format\": 9, \"sources\": []}").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("format 9"));
    }
}
