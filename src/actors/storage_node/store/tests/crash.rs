//! Damage to the files: cut anywhere, bits flipped, pages lost since the last sync.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A closed store with some history, and what it holds.
struct History {
    dir: TempDir,
    items: BTreeMap<DataId, Vec<u8>>,
    /// Where the records of each item are: file number, first byte, end.
    places: BTreeMap<DataId, Vec<(u32, u64, u64)>>,
}

fn history(sealed: bool) -> History {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &quick());
    let mut items = BTreeMap::new();
    for n in 0..60u64 {
        let len = [0, 40, 5000, 90_000, 1_060_000][if n % 20 == 0 { 4 } else { n as usize % 4 }];
        store.put(id(n), &bytes_of(n, len)).expect("it is stored");
        items.insert(id(n), bytes_of(n, len));
        if n % 5 == 4 {
            store.delete(id(n - 2)).expect("it is deleted");
            items.remove(&id(n - 2));
        }
        if n == 30 && sealed {
            compact(&store);
        }
    }
    let state = store.shared.state();
    let mut places = BTreeMap::new();
    for (id, entry) in state.index.from(DataId(0)) {
        let extents = entry.extents.as_slice().iter();
        let place = |e: &index::Extent| {
            let pos = u64::from(e.pos);
            (e.segment, pos, pos + record::HEADER as u64 + u64::from(e.len))
        };
        places.insert(id, extents.map(place).collect());
    }
    drop(state);
    History { dir, items, places }
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().expect("a directory");
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    copy
}

/// Opens a damaged copy: items that were not touched must be whole, others whole, absent or
/// refused; then the store must be usable, and a second opening must tell the same.
fn check_damaged(history: &History, copy: &Path, touched: impl Fn(u32, u64, u64) -> bool) {
    let mut after = Vec::new();
    for _ in 0..2 {
        let store = open(copy, &quick());
        let mut outcome = Vec::new();
        for (id, bytes) in &history.items {
            let hit = history.places[id].iter().any(|(file, from, to)| touched(*file, *from, *to));
            match read(&store, *id) {
                Ok(got) => assert!(got == *bytes, "{id}: wrong bytes"),
                Err(Error::NotFound(_) | Error::Corrupt { .. }) if hit => outcome.push(*id),
                Err(error) => panic!("{id} was not touched: {error}"),
            }
        }
        for (id, ..) in store.ids_page(None, usize::MAX) {
            // A damaged tombstone may let a deleted item come back, but never with wrong bytes.
            match read(&store, id) {
                Ok(got) => assert_eq!(got.len() as u64, store.info(id).expect("it is there").len),
                Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
            }
        }
        after.push(outcome);
    }
    assert_eq!(after[0], after[1]);
    let store = open(copy, &quick());
    store.put(id(500), b"new").expect("it is stored");
    compact(&store);
    assert_eq!(read(&store, id(500)).expect("it is read"), b"new");
}

fn file_number(path: &Path) -> u32 {
    let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
    segment::id_of(name).expect("a segment")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_segment_cut_at_any_byte_costs_only_what_was_behind_the_cut(
        sealed: bool, which: Index, at: Index,
    ) {
        let history = history(sealed);
        let copy = copy_of(history.dir.path());
        let files = segment_files(copy.path());
        let path = which.get(&files);
        let len = fs::metadata(path).expect("it is there").len();
        let cut = at.index(len as usize + 1) as u64;
        let file = fs::OpenOptions::new().write(true).open(path).expect("it opens");
        file.set_len(cut).expect("it is cut");
        let number = file_number(path);
        check_damaged(&history, copy.path(), |file, _, to| file == number && to > cut);
    }

    #[test]
    fn flipped_bits_cost_only_the_items_they_hit(
        sealed: bool,
        flips in prop::collection::vec((any::<Index>(), any::<Index>(), 0u32..8), 1..6),
    ) {
        let history = history(sealed);
        let copy = copy_of(history.dir.path());
        let files = segment_files(copy.path());
        let mut hits = Vec::new();
        for (which, at, bit) in flips {
            let path = which.get(&files);
            let mut bytes = fs::read(path).expect("it is read");
            if bytes.is_empty() { continue }
            // Half of the flips go to a header, which random positions would seldom hit.
            let at = match history.places.values().flatten().nth(at.index(400)) {
                Some((file, from, _)) if *file == file_number(path) => {
                    *from as usize + at.index(record::HEADER)
                }
                _ => at.index(bytes.len()),
            };
            bytes[at] ^= 1 << bit;
            fs::write(path, bytes).expect("it is written");
            hits.push((file_number(path), at as u64));
        }
        let touched = |file, from, to| {
            hits.iter().any(|(hit, at)| *hit == file && (from..to).contains(at))
        };
        check_damaged(&history, copy.path(), touched);
    }

    #[test]
    fn a_damaged_hint_is_not_believed(at: Index, bit in 0u32..8) {
        let history = history(true);
        let copy = copy_of(history.dir.path());
        let mut hinted = 0;
        for path in segment_files(copy.path()) {
            let Ok(mut bytes) = fs::read(path.with_extension("hint")) else { continue };
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            fs::write(path.with_extension("hint"), bytes).expect("it is written");
            hinted += 1;
        }
        prop_assert!(hinted > 0);
        let store = open(copy.path(), &quick());
        prop_assert_eq!(store.recovery().from_hints, 0);
        check_contents(&store, &history.items);
    }

    #[test]
    fn after_a_power_loss_everything_acknowledged_is_there_whatever_pages_got_out(
        steps in prop::collection::vec((0u64..12, 0u8..8, 0usize..60_000), 1..40), seed: u64,
    ) {
        let dir = TempDir::new().expect("a directory");
        let disk = Arc::new(Shadow::default());
        let store = open(dir.path(), &Options { hook: Some(disk.clone()), ..small() });
        let mut items = BTreeMap::new();
        for (n, (slot, kind, len)) in steps.iter().enumerate() {
            let bytes = bytes_of(n as u64, *len);
            match kind {
                0..4 if !items.contains_key(&id(*slot)) => {
                    store.put(id(*slot), &bytes).expect("it is stored");
                    items.insert(id(*slot), bytes);
                }
                4 | 5 => {
                    store.delete(id(*slot)).expect("it is deleted");
                    items.remove(&id(*slot));
                }
                6 => drop(store.compact_step(100_000).expect("it works")),
                _ => store.writer(id(*slot)).expect("a writer").write(&bytes).expect("taken"),
            }
        }
        // An upload under way at that moment.
        let mut open_writer = store.writer(id(100)).expect("a writer");
        open_writer.write(&bytes_of(seed, 2_300_000)).expect("it is taken");
        let copy = copy_of(dir.path());
        disk.lose_pages(copy.path(), seed);
        let store = open(copy.path(), &small());
        prop_assert_eq!(store.recovery().corrupt.len(), 0);
        check_contents(&store, &items);
    }
}

/// Remembers each segment as it was at its last sync.
#[derive(Default)]
struct Shadow {
    synced: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
}

impl DiskHook for Shadow {
    fn on(&self, op: DiskOp<'_>) -> std::io::Result<()> {
        if let DiskOp::Synced { path } = op {
            let name = PathBuf::from(path.file_name().expect("a name"));
            locked(&self.synced).insert(name, fs::read(path)?);
        }
        Ok(())
    }
}

impl Shadow {
    /// Puts back a random part of the pages that changed since the last sync.
    fn lose_pages(&self, dir: &Path, seed: u64) {
        let synced = locked(&self.synced);
        for (n, path) in segment_files(dir).iter().enumerate() {
            let mut now = fs::read(path).expect("it is read");
            let name = PathBuf::from(path.file_name().expect("a name"));
            let before = synced.get(&name).cloned().unwrap_or_default();
            let mut dice = bytes_of(seed ^ n as u64, now.len() / 4096 + 1).into_iter();
            for (page, bytes) in now.chunks_mut(4096).enumerate() {
                if dice.next().is_some_and(|roll| roll % 2 == 0) {
                    let old = before.get(page * 4096..).unwrap_or_default();
                    let known = old.len().min(bytes.len());
                    bytes[..known].copy_from_slice(&old[..known]);
                    bytes[known..].fill(0);
                }
            }
            fs::write(path, now).expect("it is written");
        }
    }
}
