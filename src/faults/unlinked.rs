//! A file without a name: nobody else can open it, and its bytes are gone as soon as it is closed,
//! be it by `kill -9`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

/// A new one on the volume of the folder, to be read and written.
///
/// # Errors
/// No folder, or none that we may write to.
pub(in crate::faults) fn open(folder: &Path) -> io::Result<File> {
    let flags = libc::O_TMPFILE | libc::O_EXCL; // Excl: it can never be given a name either
    let opened = readable().custom_flags(flags).open(folder);
    match opened.as_ref().err().and_then(io::Error::raw_os_error) {
        // A file system that has no such files.
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL) => named_for_a_moment(folder),
        _ => opened,
    }
}

fn readable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// A kill between the two calls leaves a name, but no bytes.
fn named_for_a_moment(folder: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".fault-{}-{number}", std::process::id()));
    let file = readable().create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    #[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
    fn it_holds_bytes_and_has_no_name_either_way() {
        let folder = tempfile::tempdir().unwrap();
        for file in [open(folder.path()).unwrap(), named_for_a_moment(folder.path()).unwrap()] {
            file.write_all_at(b"bytes", 3).unwrap();
            let mut read = [0; 5];
            file.read_exact_at(&mut read, 3).unwrap();
            assert_eq!(&read, b"bytes");
            let found = file.metadata().unwrap();
            assert_eq!((found.nlink(), found.mode() & 0o777), (0, 0o600));
            assert_eq!(found.dev(), fs::metadata(folder.path()).unwrap().dev());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        assert!(open(&folder.path().join("nowhere")).is_err());
    }
}
