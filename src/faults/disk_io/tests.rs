//! That operations are done at the rate, by the threads said, on the disk, and that all ends;
//! judged by what the kernel counts for the threads.

use std::fs;
use std::path::Path;
use std::thread;

use nix::libc;
use tempfile::TempDir;

use super::*;
use crate::faults::disk_full::outside::{
    MIB, alone, dial, eventually, gone, nameless, term, threads,
};
use crate::faults::term::End;

const NAME: &str = "fault-io-";

/// A folder on the disk that the tests themselves are on.
fn folder() -> TempDir {
    let tests = std::env::current_exe().unwrap();
    tempfile::tempdir_in(tests.parent().unwrap()).unwrap()
}

fn on(folder: &TempDir, operation: Operation) -> Settings {
    Settings::new(folder.path().to_owned(), operation)
}

/// What the kernel counted for all of our threads together.
fn counted(name: &str) -> f64 {
    let one = |task: &Path| {
        let text = fs::read_to_string(task.join("io")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
        line.parse::<f64>().ok()
    };
    threads(NAME).iter().filter_map(|task| one(task)).sum()
}

/// How many a second the kernel counts, for so long.
fn rate(name: &str, time: Duration) -> f64 {
    let (begun, before) = (Instant::now(), counted(name));
    thread::sleep(time);
    (counted(name) - before) / begun.elapsed().as_secs_f64()
}

fn adds_up(progress: &Progress) {
    let sum = progress.effective_total + progress.shortfall_total;
    let off = progress.requested_total - sum;
    assert!((0.0..1.0).contains(&off), "{off} of {progress:?}");
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn threads_share_a_rate_and_follow_it() {
    let (_alone, folder) = (alone(), folder());
    let (curve, turn) = dial(300.0);
    let settings = Settings { threads: 3, block_bytes: 16 << 10, ..on(&folder, Operation::Write) };
    let begun = Instant::now();
    let effect = start(&settings, curve, term()).unwrap();
    eventually("three threads", || threads(NAME).len() == 3);
    let found = rate("syscw", Duration::from_millis(1500));
    assert!((250.0..330.0).contains(&found), "{found} writes/s for 300");
    let seen = effect.progress();
    assert!((seen.effective - found).abs() < 30.0, "{found} for {seen:?}");
    assert!(begun <= seen.onset.unwrap() && seen.onset < seen.settled, "{seen:?}");
    turn(40.0);
    thread::sleep(Duration::from_millis(150)); // What was due before is done or given up
    let found = rate("syscw", Duration::from_millis(1000));
    assert!((25.0..55.0).contains(&found), "{found} writes/s for 40");
    let asked = Instant::now();
    let released = effect.release();
    gone(NAME);
    assert_eq!(nameless(folder.path()), (0, 0));
    assert!(released.released - asked < Duration::from_millis(500));
    assert_eq!((released.end, released.progress.requested), (End::Deleted, 40.0));
    adds_up(&released.progress);
    let bytes = released.progress.aside.iter().find(|(name, _)| *name == "bytes").unwrap().1;
    assert_eq!(bytes, released.progress.effective_total * 16384.0);
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn an_fsync_waits_for_the_disk() {
    let (_alone, folder) = (alone(), folder());
    let effect = start(&on(&folder, Operation::Fsync), Arc::new(|_| 60.0), term()).unwrap();
    eventually("a thread", || threads(NAME).len() == 1);
    let thread = threads(NAME).remove(0);
    let inside = format!("{} ", libc::SYS_fdatasync);
    let waits =
        || fs::read_to_string(thread.join("syscall")).is_ok_and(|now| now.starts_with(&inside));
    let (begun, mut seen) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(1) {
        seen += u32::from(waits());
        thread::sleep(Duration::from_micros(500));
    }
    let writes = counted("syscw");
    let last = effect.release().progress;
    assert!((writes - last.effective_total).abs() <= 5.0, "{writes} writes for {last:?}");
    assert!((10.0..=62.0).contains(&writes), "{writes} in a second, for 60");
    // A disk takes 100 us at the least; where there is none below (a tmpfs) it takes no time.
    println!("seen in fdatasync {seen} times");
    let memory = is_memory(folder.path());
    assert!(seen > 3 || memory, "never seen in fdatasync");
    adds_up(&last);
}

fn is_memory(folder: &Path) -> bool {
    let kind = nix::sys::statfs::statfs(folder).unwrap().filesystem_type();
    println!("on a file system of type {kind:?}");
    kind == nix::sys::statfs::TMPFS_MAGIC
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn a_read_comes_from_the_disk_and_not_from_memory() {
    let (_alone, folder) = (alone(), folder());
    let settings = Settings { threads: 2, ..on(&folder, Operation::Read) };
    let effect = start(&settings, Arc::new(|_| 80.0), term()).unwrap();
    eventually("it reads", || effect.progress().onset.is_some());
    let (files, bytes) = nameless(folder.path());
    assert!(files == 2 && (12 * MIB..=64 * MIB).contains(&bytes), "{files} files, {bytes} bytes");
    let (from_disk, read, begun) = (counted("read_bytes"), counted("rchar"), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let (from_disk, read) = (counted("read_bytes") - from_disk, counted("rchar") - read);
    let blocks = 80.0 * begun.elapsed().as_secs_f64();
    let asked = blocks * 65536.0;
    assert!((0.3..1.2).contains(&(read / asked)), "read {read} of {asked}");
    if is_memory(folder.path()) {
        assert_eq!(from_disk, 0.0);
    } else {
        assert!(from_disk > 0.8 * read, "{from_disk} of {read} from the disk");
    }
    adds_up(&effect.release().progress);
    assert_eq!(nameless(folder.path()), (0, 0));
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn more_than_the_disk_can_do_is_shortfall_and_the_files_stay_small() {
    let (_alone, folder) = (alone(), folder());
    let (block_bytes, threads) = (4 << 20, 16);
    let settings = Settings { block_bytes, threads, ..on(&folder, Operation::Write) };
    let effect = start(&settings, Arc::new(|_| 35.0), term()).unwrap();
    let begun = Instant::now();
    let mut most = (0, 0);
    while begun.elapsed() < Duration::from_secs(1) {
        most = most.max(nameless(folder.path()));
        thread::sleep(Duration::from_millis(10));
    }
    drop(effect);
    assert!(most.0 == 16 && (MIB..=64 * MIB).contains(&most.1), "{most:?}");
    let settings = Settings { block_bytes: 4096, ..on(&folder, Operation::Fsync) };
    let effect = start(&settings, Arc::new(|_| 1e6), term()).unwrap();
    thread::sleep(Duration::from_millis(400));
    let released = effect.release();
    let last = released.progress;
    assert!(last.shortfall_total > 100_000.0 && last.effective_total >= 1.0, "{last:?}");
    assert!(last.settled.is_none() && last.limited_by.as_ref().unwrap().contains("slower"));
    adds_up(&last);
    gone(NAME);
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn it_ends_by_itself_by_its_deadline_its_lease_a_drop_and_a_panic() {
    let (_alone, folder) = (alone(), folder());
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(600));
    let cases = [
        (short, long, Some(End::Expired)),
        (long, short, Some(End::LeaseLost)),
        (long, long, None),
    ];
    let settings = Settings { threads: 2, ..on(&folder, Operation::Write) };
    for (duration, lease, end) in cases {
        let term = Term::new(duration, lease);
        let effect = start(&settings, Arc::new(|_| 100.0), term.clone()).unwrap();
        eventually("it writes", || nameless(folder.path()).1 > 0);
        if let Some(end) = end {
            gone(NAME); // Nobody called
            let late = term.elapsed().saturating_sub(short);
            assert!(late < Duration::from_secs(1), "{late:?} late");
            let after = effect.progress();
            assert_eq!((after.requested, after.effective), (0.0, 0.0));
            let asked = Instant::now();
            let released = effect.release();
            assert!(released.end == end && released.released < asked, "{released:?}");
            adds_up(&released.progress);
        } else {
            drop(effect);
            assert_eq!(term.over(), Some(End::Deleted));
            gone(NAME);
        }
        assert_eq!(nameless(folder.path()), (0, 0));
    }
    let fails = move |t: Duration| if t < short { 50.0 } else { panic!("as the test wants it") };
    let effect = start(&settings, Arc::new(fails), term()).unwrap();
    gone(NAME);
    assert_eq!((effect.release().end, nameless(folder.path())), (End::Failed, (0, 0)));
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn it_stops_at_once_at_any_rate() {
    let (_alone, folder) = (alone(), folder());
    for rate in [0.0, 1e-9, 0.5, 1e12, f64::MAX, f64::INFINITY, f64::NAN] {
        let settings = Settings { block_bytes: 4096, threads: 4, ..on(&folder, Operation::Read) };
        let effect = start(&settings, Arc::new(move |_| rate), term()).unwrap();
        thread::sleep(Duration::from_millis(30));
        let asked = Instant::now();
        let released = effect.release();
        let took = asked.elapsed();
        assert!(took < Duration::from_millis(1000), "{took:?} at a rate of {rate}");
        let most = if rate < 1.0 || rate.is_nan() { 0.0 } else { f64::MAX };
        assert!(released.progress.effective_total <= most, "{released:?}");
    }
    gone(NAME);
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn refusals_say_what_is_wrong_and_what_would_be_right() {
    let folder = folder();
    let good = on(&folder, Operation::Fsync);
    let refused =
        |settings: Settings| start(&settings, Arc::new(|_| 0.0), term()).err().unwrap().to_string();
    let threads = |threads| refused(Settings { threads, ..good.clone() });
    assert_eq!(threads(0), "threads: expected 1 to 16, got 0");
    assert_eq!(threads(17), "threads: expected 1 to 16, got 17");
    let blocks = |block_bytes| refused(Settings { block_bytes, ..good.clone() });
    assert_eq!(blocks(1024), "block_bytes: expected 4096 to 4194304, got 1024");
    assert_eq!(blocks(4097), "block_bytes: expected whole KiB, got 4097");
    let nowhere = refused(Settings { folder: folder.path().join("nowhere"), ..good.clone() });
    assert!(nowhere.contains("nowhere: No such file"), "{nowhere}");
    let no_room = refused(Settings { folder: "/proc".into(), ..good });
    assert!(no_room.contains("0 bytes are available, expected 134217728"), "{no_room}");
}
