//! Many threads at once: group commit, and reads, deletes and compaction in between.

use std::io;
use std::thread;
use std::time::Duration;

use super::*;

/// A disk that keeps what survives a power loss: for each segment what it held when its last
/// completed sync began.
#[derive(Default)]
struct Survives {
    dir: PathBuf,
    durable: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
    syncs: AtomicU64,
}

impl DiskHook for Survives {
    fn on(&self, op: DiskOp<'_>) -> io::Result<()> {
        if matches!(op, DiskOp::Sync) {
            // One sync at a time is all that the group does, so the files may be read here.
            let files = segment_files(&self.dir);
            let image = files.into_iter().filter_map(|p| Some((p.clone(), fs::read(p).ok()?)));
            let image: BTreeMap<PathBuf, Vec<u8>> = image.collect();
            self.syncs.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(2));
            locked(&self.durable).extend(image);
        }
        Ok(())
    }
}

#[test]
fn handles_uploads_and_readers_may_go_to_other_threads() {
    fn may_go<T: Send>() {}
    fn may_be_shared<T: Sync>() {}
    may_go::<SegmentStore>();
    may_go::<Writer>();
    may_go::<Reader>();
    may_be_shared::<SegmentStore>();
}

#[test]
fn writers_share_syncs_and_each_acknowledged_item_survives_a_power_loss() {
    let dir = TempDir::new().expect("a directory");
    let hook = Arc::new(Survives { dir: dir.path().to_owned(), ..Survives::default() });
    let store = open(dir.path(), &Options { hook: Some(hook.clone()), ..small() });
    let acknowledged = Mutex::new(Vec::new());
    let images = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..16u64 {
            let (store, acknowledged, images, hook) = (&store, &acknowledged, &images, &hook);
            scope.spawn(move || {
                for n in 0..12 {
                    let n = thread * 100 + n;
                    store.put(id(n), &bytes_of(n, 3000)).expect("it is stored");
                    locked(acknowledged).push(n);
                    if n % 25 == 3 {
                        // The list first: what is on it must be in any later image of the disk.
                        let list = locked(acknowledged).clone();
                        locked(images).push((list, locked(&hook.durable).clone()));
                    }
                }
            });
        }
    });
    let syncs = hook.syncs.load(Ordering::Relaxed);
    assert!((12..150).contains(&syncs), "192 durable puts took {syncs} syncs");
    let format = fs::read(dir.path().join("FORMAT")).expect("a format file");
    for (list, files) in images.into_inner().expect("no panic") {
        let crashed = TempDir::new().expect("a directory");
        fs::write(crashed.path().join("FORMAT"), &format).expect("it is written");
        for (path, bytes) in files {
            let name = path.file_name().expect("a name");
            fs::write(crashed.path().join(name), bytes).expect("it is written");
        }
        let store = open(crashed.path(), &small());
        for n in list {
            let got = read(&store, id(n)).unwrap_or_else(|e| panic!("acknowledged, but {e}"));
            assert_eq!(got, bytes_of(n, 3000));
        }
    }
}

#[test]
fn compaction_leaves_the_chunks_of_uploads_under_way_alone() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &quick());
    let bytes = bytes_of(1, 4 << 20);
    let mut writer = store.writer(id(1)).expect("a writer");
    writer.write(&bytes[..3 << 20]).expect("it is taken");
    store.put(id(2), &bytes_of(2, 300_000)).expect("it is stored");
    store.delete(id(2)).expect("it is deleted");
    compact(&store);
    writer.write(&bytes[3 << 20..]).expect("it is taken");
    writer.finish(None).expect("it is stored");
    compact(&store);
    check_contents(&store, &BTreeMap::from([(id(1), bytes)]));
}

/// Deletes item 1 as soon as somebody reads, and may write it again.
#[derive(Default)]
struct DeleteOnRead {
    store: Mutex<Option<SegmentStore>>,
    again: AtomicBool,
}

impl DiskHook for DeleteOnRead {
    fn on(&self, op: DiskOp<'_>) -> io::Result<()> {
        if matches!(op, DiskOp::Read { .. })
            && let Some(store) = locked(&self.store).take()
        {
            store.delete(id(1)).expect("it is deleted");
            if self.again.load(Ordering::Relaxed) {
                store.put(id(1), &bytes_of(1, 200_000)).expect("it is stored");
            }
        }
        Ok(())
    }
}

#[test]
fn an_item_deleted_or_replaced_while_it_is_read_is_not_called_corrupt() {
    let dir = TempDir::new().expect("a directory");
    let hook = Arc::new(DeleteOnRead::default());
    let store = open(dir.path(), &Options { hook: Some(hook.clone()), ..quick() });
    store.put(id(1), &bytes_of(1, 200_000)).expect("it is stored");
    *locked(&hook.store) = Some(store.clone());
    hook.again.store(true, Ordering::Relaxed);
    assert_eq!(read(&store, id(1)).expect("it is read"), bytes_of(1, 200_000));
    hook.again.store(false, Ordering::Relaxed);
    *locked(&hook.store) = Some(store.clone());
    assert!(matches!(read(&store, id(1)), Err(Error::NotFound(_))));
    assert_eq!(store.stats().corrupt, 0);
}

#[test]
fn writers_deleters_readers_and_compaction_do_not_disturb_one_another() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &quick());
    let len = |n: u64| [10, 5000, 70_000, 1_100_000][(n % 4) as usize];
    let running = AtomicU64::new(6);
    thread::scope(|scope| {
        for thread in 0..6u64 {
            let (store, running) = (&store, &running);
            scope.spawn(move || {
                for n in (0..60).map(|n| thread * 1000 + n) {
                    store.put(id(n), &bytes_of(n, len(n))).expect("it is stored");
                    let back = thread * 1000 + (n * 7) % (n - thread * 1000 + 1);
                    match read(store, id(back)) {
                        Ok(got) => assert!(got == bytes_of(back, len(back)), "{back}"),
                        Err(Error::NotFound(_)) => assert!(back % 3 != 0, "{back} is lost"),
                        Err(error) => panic!("{back}: {error}"),
                    }
                    if n % 3 != 0 {
                        store.delete(id(n)).expect("it is deleted");
                    }
                }
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        // A reader of everything beside them: it must never see a damaged item.
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) > 0 {
                let step = store.scrub_step(ScrubCursor::default(), u64::MAX);
                assert!(step.corrupt.is_empty(), "{:?}", step.corrupt);
            }
        });
        while running.load(Ordering::Relaxed) > 0 {
            store.compact_step(200_000).expect("compaction works");
        }
    });
    let kept = (0..6).flat_map(|t| (0..60).map(move |n| t * 1000 + n)).filter(|n| n % 3 == 0);
    let items: BTreeMap<DataId, Vec<u8>> = kept.map(|n| (id(n), bytes_of(n, len(n)))).collect();
    check_contents(&store, &items);
    compact(&store);
    check_contents(&store, &items);
    let known = store.shared.state().index.clone();
    drop(store);
    let store = open(dir.path(), &quick());
    check_contents(&store, &items);
    known.covers(&store.shared.state().index);
}

#[test]
fn several_uploads_of_one_id_at_once_end_with_one_item() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &small());
    thread::scope(|scope| {
        for thread in 0..8u64 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..10 {
                    match thread % 4 {
                        0 => store.delete(id(1)).expect("it is deleted"),
                        _ => drop(store.put(id(1), b"the same bytes").expect("it is stored")),
                    }
                }
            });
        }
    });
    store.put(id(1), b"the same bytes").expect("it is stored");
    let items = BTreeMap::from([(id(1), b"the same bytes".to_vec())]);
    check_contents(&store, &items);
    drop(store);
    check_contents(&open(dir.path(), &small()), &items);
}
