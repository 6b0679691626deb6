//! For tests of the effects on disks: what is seen from outside of them, and a volume to do it on.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Target;
use super::volume::{Floor, Usage};
use crate::faults::effect::Curve;
use crate::faults::term::Term;
use crate::faults::unlinked;

pub(in crate::faults) const MIB: u64 = 1 << 20;
/// The size of a volume of our own.
const SIZE: u64 = 64 * MIB;
/// How much of somebody else's we may take.
const GROWTH: u64 = 20 * MIB;

/// One test at a time: threads are found by their names.
pub(in crate::faults) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Long enough for any test, and short enough that none stays.
pub(in crate::faults) fn term() -> Term {
    Term::new(Duration::from_secs(60), Duration::from_secs(60))
}

/// A level that can be turned while it is followed.
pub(in crate::faults) fn dial(level: f64) -> (Curve, impl Fn(f64)) {
    let bits = Arc::new(AtomicU64::new(level.to_bits()));
    let read = bits.clone();
    let curve = Arc::new(move |_| f64::from_bits(read.load(Ordering::Relaxed)));
    (curve, move |level: f64| bits.store(level.to_bits(), Ordering::Relaxed))
}

/// Waits until it is so.
pub(in crate::faults) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(5), "not within 5 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The folders in /proc of our threads whose name begins so.
pub(in crate::faults) fn threads(name: &str) -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let named = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name))
    };
    tasks.filter(named).collect()
}

/// Waits until no such thread is left. The kernel shows them for a moment after they were joined.
pub(in crate::faults) fn gone(name: &str) {
    eventually("the threads are gone", || threads(name).is_empty());
}

/// How many files without a name we have open below a folder, and their bytes on the disk.
pub(in crate::faults) fn nameless(folder: &Path) -> (usize, u64) {
    use std::os::unix::fs::MetadataExt;
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten().map(|fd| fd.path());
    let ours = descriptors.filter(|fd| {
        fs::read_link(fd)
            .is_ok_and(|to| to.starts_with(folder) && to.to_string_lossy().ends_with("(deleted)"))
    });
    let bytes = ours.filter_map(|fd| fs::metadata(fd).ok()).map(|found| found.blocks() * 512);
    bytes.fold((0, 0), |(files, sum), bytes| (files + 1, sum + bytes))
}

/// A volume to fill: one of 64 MiB of our own, or 20 MiB of one that others use too.
pub(in crate::faults) struct Ground {
    pub(in crate::faults) folder: PathBuf,
    pub(in crate::faults) own: bool,
    /// Used at first.
    low: u64,
    /// How much of it we play with.
    span: u64,
    /// What others may do meanwhile, in bytes.
    slack: u64,
}

impl Ground {
    pub(in crate::faults) fn usage(&self) -> Usage {
        Usage::of(&self.folder).unwrap()
    }

    /// So that such a part of what we play with is full, in percent of the volume.
    pub(in crate::faults) fn percent(&self, part: f64) -> f64 {
        let usage = self.usage();
        self.bytes(part) / (usage.used() + usage.available) as f64 * 100.0
    }

    fn bytes(&self, part: f64) -> f64 {
        self.low as f64 + part * self.span as f64
    }

    /// How far it is from that, as a part of what we play with.
    pub(in crate::faults) fn off(&self, part: f64) -> f64 {
        (self.usage().used() as f64 - self.bytes(part)) / self.span as f64
    }

    /// What is noise, as a part of what we play with.
    pub(in crate::faults) fn noise(&self) -> f64 {
        self.slack as f64 / self.span as f64
    }

    /// Waits until such a part is full.
    pub(in crate::faults) fn fills(&self, part: f64) {
        eventually("filled as asked", || self.off(part).abs() <= self.noise());
    }

    /// To be filled, with so many bytes left of what we play with.
    pub(in crate::faults) fn target(&self, left: u64) -> Target {
        let usage = self.usage();
        let after = self.low + self.span;
        let bytes = (usage.used() + usage.available).saturating_sub(after) + left;
        Target::RealVolume { folder: self.folder.clone(), floor: Floor { bytes, part: 0.0 } }
    }

    /// Somebody else's bytes, until dropped.
    pub(in crate::faults) fn write(&self, bytes: u64) -> std::io::Result<File> {
        let file = unlinked::open(&self.folder)?;
        file.write_all_at(&vec![1; bytes as usize], 0)?;
        Ok(file)
    }
}

/// Runs a test on such a volume, and says which.
pub(in crate::faults) fn on_ground(test: impl FnOnce(&Ground) + Send) {
    let _alone = alone();
    let mounted = tempfile::tempdir().unwrap();
    let shared = tempfile::tempdir_in("/dev/shm").unwrap();
    let ground = || match mount_here(mounted.path()) {
        Ok(()) => {
            println!("on a tmpfs of 64 MiB of its own");
            ground(mounted.path(), true, SIZE, 8192)
        }
        Err(e) => {
            println!("no volume of its own ({e}): 20 MiB of /dev/shm");
            ground(shared.path(), false, GROWTH, 2 * MIB)
        }
    };
    // The mounts of a thread of its own: with its last thread and child they are gone.
    let run = || test(&ground());
    if let Err(panic) = thread::scope(|scope| scope.spawn(run).join()) {
        std::panic::resume_unwind(panic);
    }
}

fn ground(folder: &Path, own: bool, span: u64, slack: u64) -> Ground {
    let low = Usage::of(folder).unwrap().used();
    Ground { folder: folder.to_owned(), own, low, span: span - low * u64::from(own), slack }
}

fn mount_here(folder: &Path) -> nix::Result<()> {
    if std::env::var_os("TEST_WITHOUT_MOUNT").is_some() {
        return Err(nix::Error::EPERM);
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("size=64m"))
}
