//! A full disk, a failing disk, and the bound on disk use.

use std::io;

use super::*;

/// Refuses operations on demand.
#[derive(Default)]
struct Refuse {
    allocate: AtomicBool,
    sync: AtomicBool,
    read: AtomicBool,
    /// Reads of this byte of any file; 0 = of none.
    read_of: AtomicU64,
}

impl DiskHook for Refuse {
    fn on(&self, op: DiskOp<'_>) -> io::Result<()> {
        if let DiskOp::Read { pos, len } = op
            && (pos.max(1)..pos + len).contains(&self.read_of.load(Ordering::Relaxed))
        {
            return Err(io::ErrorKind::Other.into());
        }
        let (refuse, kind) = match op {
            DiskOp::Allocate { .. } => (&self.allocate, io::ErrorKind::StorageFull),
            DiskOp::Sync => (&self.sync, io::ErrorKind::Other),
            DiskOp::Read { .. } => (&self.read, io::ErrorKind::Other),
            _ => return Ok(()),
        };
        if refuse.load(Ordering::Relaxed) { Err(kind.into()) } else { Ok(()) }
    }
}

#[test]
fn over_the_quota_nothing_is_acknowledged_and_deletes_make_room_again() {
    let dir = TempDir::new().expect("a directory");
    let options = Options { quota_bytes: Some(1 << 20), ..quick() };
    let store = open(dir.path(), &options);
    let mut items = BTreeMap::new();
    let refused = (0..1000).find(|n| match store.put(id(*n), &bytes_of(*n, 20_000)) {
        Ok(_) => items.insert(id(*n), bytes_of(*n, 20_000)).is_some(),
        Err(Error::Full) => true,
        Err(error) => panic!("{error}"),
    });
    let refused = refused.expect("the quota ends it");
    assert!((40..53).contains(&refused), "{refused}");
    assert!(store.stats().disk_bytes <= 1 << 20);
    check_contents(&store, &items);
    assert!(matches!(store.check_room(20_000), Err(Error::Full)));
    let mut big = store.writer(id(5000)).expect("a writer");
    let failed = big.write(&bytes_of(1, 3 << 20)).is_err();
    assert!(failed && big.finish(None).is_err());

    let gone: Vec<DataId> = items.keys().copied().step_by(2).collect();
    assert_eq!(store.delete_all(&gone).expect("deletes work"), gone.len());
    gone.iter().for_each(|id| drop(items.remove(id)));
    compact(&store);
    for n in 2000..2010 {
        store.put(id(n), &bytes_of(n, 20_000)).expect("there is room again");
        items.insert(id(n), bytes_of(n, 20_000));
    }
    check_contents(&store, &items);
    drop(store);
    check_contents(&open(dir.path(), &options), &items);
}

#[test]
fn a_full_disk_refuses_new_data_only() {
    let dir = TempDir::new().expect("a directory");
    let hook = Arc::new(Refuse::default());
    let store = open(dir.path(), &Options { hook: Some(hook.clone()), ..small() });
    store.put(id(1), &bytes_of(1, 1000)).expect("it is stored");
    store.put(id(2), &bytes_of(2, 1000)).expect("it is stored");
    hook.allocate.store(true, Ordering::Relaxed);
    let refused = (10..100).find(|n| store.put(id(*n), &bytes_of(*n, 9000)).is_err());
    assert!(refused.is_some_and(|n| store.info(id(n)).is_none()));
    store.delete(id(1)).expect("deletes work");
    assert_eq!(read(&store, id(2)).expect("reads work"), bytes_of(2, 1000));
    hook.allocate.store(false, Ordering::Relaxed);
    compact(&store);
    store.put(id(200), &bytes_of(3, 100_000)).expect("there is room again");
    assert!(store.info(id(1)).is_none());
}

#[test]
fn a_failed_sync_stops_writes_and_loses_nothing_that_was_acknowledged() {
    let dir = TempDir::new().expect("a directory");
    let hook = Arc::new(Refuse::default());
    let store = open(dir.path(), &Options { hook: Some(hook.clone()), ..small() });
    store.put(id(1), b"abc").expect("it is stored");
    hook.sync.store(true, Ordering::Relaxed);
    assert!(matches!(store.put(id(2), b"def"), Err(Error::Fatal(_))));
    hook.sync.store(false, Ordering::Relaxed);
    assert!(matches!(store.put(id(3), b"ghi"), Err(Error::Fatal(_))));
    assert!(matches!(store.delete(id(1)), Err(Error::Fatal(_))));
    assert!(matches!(store.compact_step(1), Err(Error::Fatal(_))));
    assert!(store.info(id(2)).is_none() && store.stats().stopped);
    assert_eq!(read(&store, id(1)).expect("reads work"), b"abc");
    drop(store);
    let store = open(dir.path(), &small());
    assert_eq!(read(&store, id(1)).expect("it is read"), b"abc");
    store.put(id(3), b"ghi").expect("it is stored");
}

#[test]
fn a_read_error_is_no_verdict_on_the_data() {
    let dir = TempDir::new().expect("a directory");
    let hook = Arc::new(Refuse::default());
    let options = Options { hook: Some(hook.clone()), ..small() };
    let mut store = open(dir.path(), &options);
    store.put(id(1), b"abc").expect("it is stored");
    hook.read.store(true, Ordering::Relaxed);
    assert!(matches!(read(&store, id(1)), Err(Error::Io { .. })));
    drop(store);
    // Opened while nothing can be read: nothing may be cut away.
    store = open(dir.path(), &options);
    assert!(store.info(id(1)).is_none());
    hook.read.store(false, Ordering::Relaxed);
    store.put(id(2), b"def").expect("it is stored");
    drop(store);
    store = open(dir.path(), &options);
    assert_eq!(read(&store, id(1)).expect("it is read"), b"abc");
    assert_eq!(read(&store, id(2)).expect("it is read"), b"def");
}

#[test]
fn disk_use_comes_down_to_the_bound_after_deletes() {
    // Of 4 KiB items, every 2nd, 3rd and 10th stays: rewriting. Of 100 KiB items: mostly punching.
    for (len, count, keep) in
        [(4096, 1000, 2), (4096, 1000, 3), (4096, 1000, 10), (100_000, 60, 3), (20_000, 200, 1000)]
    {
        let dir = TempDir::new().expect("a directory");
        let store = open(dir.path(), &quick());
        let mut items = BTreeMap::new();
        for n in 0..count {
            store.put(id(n), &bytes_of(n, len)).expect("it is stored");
            items.insert(id(n), bytes_of(n, len));
        }
        compact(&store);
        let gone: Vec<DataId> = (0..count).filter(|n| n % keep != 0).map(id).collect();
        store.delete_all(&gone).expect("they are deleted");
        gone.iter().for_each(|id| drop(items.remove(id)));
        compact(&store);
        let stats = store.stats();
        let on_disk: u64 = segment_files(dir.path())
            .iter()
            .flat_map(|p| [p.clone(), p.with_extension("hint")])
            .filter_map(|p| fs::metadata(p).ok())
            .map(|m| std::os::unix::fs::MetadataExt::blocks(&m) * 512)
            .sum();
        let bound = stats.live_bytes * 11 / 10 + (256 << 10);
        assert!(on_disk <= bound, "{len} {keep}: {on_disk} > {bound} {stats:?}");
        assert!(stats.disk_bytes.abs_diff(on_disk) <= 64 << 10, "{stats:?} {on_disk}");
        check_contents(&store, &items);
        drop(store);
        check_contents(&open(dir.path(), &quick()), &items);
    }
}

/// Full segments with waste, of which `fail` makes something unreadable while they are rewritten.
fn upkeep_with_read_errors(fail: impl Fn(&Refuse)) {
    let dir = TempDir::new().expect("a directory");
    let hook = Arc::new(Refuse::default());
    let options = Options { hook: Some(hook.clone()), ..quick() };
    let store = open(dir.path(), &options);
    let mut items = BTreeMap::new();
    for n in 0..200 {
        store.put(id(n), &bytes_of(n, 20_000)).expect("it is stored");
        items.insert(id(n), bytes_of(n, 20_000));
    }
    assert!(store.stats().segments > 3, "{:?}", store.stats());
    let gone: Vec<DataId> = items.keys().copied().filter(|id| id.0 % 3 > 0).collect();
    store.delete_all(&gone).expect("deletes work");
    gone.iter().for_each(|id| drop(items.remove(id)));
    fail(&hook);
    compact(&store);
    assert_eq!(store.stats().corrupt, 0, "it was given up too soon");
    hook.read.store(false, Ordering::Relaxed);
    hook.read_of.store(0, Ordering::Relaxed);
    check_contents(&store, &items);
    drop(store);
    let store = open(dir.path(), &options);
    check_contents(&store, &items);
    compact(&store);
    check_contents(&store, &items);
}

#[test]
fn a_read_error_during_upkeep_costs_no_data() {
    upkeep_with_read_errors(|hook| hook.read.store(true, Ordering::Relaxed));
}

#[test]
fn a_block_that_cannot_be_read_during_upkeep_is_not_taken_for_zeros() {
    // in the middle of the first item of each segment
    upkeep_with_read_errors(|hook| hook.read_of.store(10_000, Ordering::Relaxed));
}
