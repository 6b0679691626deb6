//! Single-threaded use without mishaps, and what is refused.

use super::*;

#[test]
fn items_of_all_sizes_read_back_whole_and_in_ranges_also_after_a_restart() {
    let dir = TempDir::new().expect("a directory");
    let mib = 1 << 20;
    let mut items = BTreeMap::new();
    let mut store = open(dir.path(), &small());
    for (n, len) in [0, 1, 4096, mib - 1, mib, mib + 1, 3 * mib, 3 * mib + 5].iter().enumerate() {
        let bytes = bytes_of(n as u64, *len);
        let mut writer = store.writer(id(n as u64)).expect("a writer");
        bytes.chunks(100_000).for_each(|piece| writer.write(piece).expect("it is taken"));
        writer.finish(Some(md5::compute(&bytes).0)).expect("it is stored");
        items.insert(id(n as u64), bytes);
    }
    for _ in 0..2 {
        check_contents(&store, &items);
        let (item, bytes) = items.last_key_value().expect("there are items");
        for (offset, len) in [(0, 1), (5, 0), (mib - 3, 6), (mib + 7, 2 * mib), (3 * mib, 99)] {
            let end = (offset + len).min(bytes.len());
            let got = store.read(*item, offset as u64, len as u64).expect("it is read");
            assert!(got == bytes[offset..end], "{offset} {len}");
        }
        assert!(store.read(*item, u64::MAX, 5).expect("nothing is read").is_empty());
        assert_eq!(store.reader(*item, 9, u64::MAX).expect("a reader").count(), 4);
        drop(store);
        store = open(dir.path(), &small());
    }
}

#[test]
fn what_is_read_without_waiting_is_what_is_read_otherwise() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &quick());
    let bytes = bytes_of(1, 40_000);
    store.put(id(1), &bytes).expect("it is stored");
    let near = store.read_cached(id(1), 100, 30_000).expect("it was written just now");
    assert!(near == bytes[100..30_100]);
    assert_eq!(store.read_cached(id(1), 39_999, 2), None, "beyond the end");
    assert_eq!(store.read_cached(id(1), u64::MAX, 2), None);
    assert_eq!(store.read_cached(id(2), 0, 1), None);
    store.put(id(3), &bytes_of(3, 100_000)).expect("it is stored");
    assert_eq!(store.read_cached(id(3), 0, 10), None, "too much to be verified on the way");
    let path = segment_files(dir.path()).pop().expect("a segment");
    let mut disk = fs::read(&path).expect("it is read");
    let at = disk.windows(64).position(|w| w == &bytes[..64]).expect("the bytes are there");
    disk[at + 500] ^= 1;
    fs::write(&path, disk).expect("it is written");
    assert_eq!(store.read_cached(id(1), 0, 10), None, "rot is not given out");
}

#[test]
fn unfinished_and_refused_uploads_leave_nothing_behind() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &small());
    let big = bytes_of(1, 3 << 20);
    let mut dropped = store.writer(id(1)).expect("a writer");
    dropped.write(&big).expect("it is taken");
    assert!(store.info(id(1)).is_none());
    drop(dropped);
    let mut wrong = store.writer(id(2)).expect("a writer");
    wrong.write(b"abc").expect("it is taken");
    assert!(matches!(wrong.finish(Some([0; 16])), Err(Error::Mismatch(_))));
    let mut hashed = store.writer(id(3)).expect("a writer").without_md5();
    hashed.write(b"abc").expect("it is taken");
    assert!(matches!(hashed.finish_hashed([1; 16], 5), Err(Error::Mismatch(_))));
    check_contents(&store, &BTreeMap::new());
    drop(store);
    let store = open(dir.path(), &small());
    check_contents(&store, &BTreeMap::new());
    compact(&store);
    let disk = store.stats().disk_bytes;
    assert!(disk <= 256 << 10, "{disk} bytes are still on disk");
}

#[test]
fn the_same_bytes_again_are_fine_and_other_bytes_are_a_conflict() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &small());
    let first = store.put(id(1), b"abc").expect("it is stored");
    assert_eq!(store.put(id(1), b"abc").expect("it is there"), first);
    assert!(matches!(store.put(id(1), b"abd"), Err(Error::Conflict(_))));
    let mut hashed = store.writer(id(2)).expect("a writer").without_md5();
    hashed.write(b"abc").expect("it is taken");
    let second = hashed.finish_hashed(first.md5, first.crc64).expect("it is stored");
    assert_eq!((second.md5, second.len), (first.md5, 3));
    assert_eq!(read(&store, id(1)).expect("it is read"), b"abc");
}

#[test]
fn a_deleted_item_stays_away_and_its_id_can_be_written_again() {
    let dir = TempDir::new().expect("a directory");
    let mut store = open(dir.path(), &small());
    for round in 0..3u64 {
        let bytes = bytes_of(round, 200_000);
        store.put(id(1), &bytes).expect("it is stored");
        store.put(id(2), b"stays").expect("it is stored");
        assert_eq!(read(&store, id(1)).expect("it is read"), bytes);
        assert_eq!(store.delete_all(&[id(1), id(1), id(9)]).expect("it is deleted"), 1);
        store.delete(id(1)).expect("again is fine");
        drop(store);
        store = open(dir.path(), &small());
        assert!(matches!(read(&store, id(1)), Err(Error::NotFound(_))));
        assert_eq!(read(&store, id(2)).expect("it is read"), b"stays");
    }
}

#[test]
fn ids_come_in_pages_in_order() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &quick());
    for n in [5, 1, 3, 2, 4] {
        store.put(id(n), &bytes_of(n, n as usize)).expect("it is stored");
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.ids_page(after, 2);
        let Some((last, ..)) = page.last() else { break };
        after = Some(*last);
        seen.extend(page.iter().map(|(id, _, len)| (*id, *len)));
    }
    assert_eq!(seen, (1..=5).map(|n| (id(n), n)).collect::<Vec<_>>());
    assert!(store.ids_page(Some(DataId(u128::MAX)), 2).is_empty());
}

#[test]
fn a_directory_in_use_or_of_another_format_is_refused_untouched() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &small());
    store.put(id(1), b"abc").expect("it is stored");
    assert!(matches!(SegmentStore::open(dir.path(), small()), Err(Error::Locked(_))));
    drop(store);
    let format = dir.path().join("FORMAT");
    let good = fs::read_to_string(&format).expect("a format file");
    for bad in ["", "mocks3 segment store 2\nsalt 1\nsalt 1\n", "mocks3 segment store 1\nsalt x\n"]
    {
        fs::write(&format, bad).expect("it is written");
        let error = SegmentStore::open(dir.path(), small()).err().expect("it is refused");
        assert!(matches!(error, Error::Format { .. }), "{bad:?}: {error}");
    }
    fs::remove_file(&format).expect("it is removed");
    assert!(matches!(SegmentStore::open(dir.path(), small()), Err(Error::Format { .. })));
    // One damaged salt of three does no harm.
    let salt = good.lines().nth(1).expect("a salt");
    fs::write(&format, good.replacen(salt, "salt 77", 1)).expect("it is written");
    assert_eq!(read(&open(dir.path(), &small()), id(1)).expect("it is read"), b"abc");
}

#[test]
fn sealed_segments_are_opened_from_their_hints() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &quick());
    let items: BTreeMap<DataId, Vec<u8>> = (0..40).map(|n| (id(n), bytes_of(n, 30_000))).collect();
    for (id, bytes) in &items {
        store.put(*id, bytes).expect("it is stored");
    }
    compact(&store);
    drop(store);
    let store = open(dir.path(), &quick());
    let recovery = store.recovery().clone();
    assert!(recovery.segments > 3 && recovery.from_hints == recovery.segments - 1, "{recovery:?}");
    check_contents(&store, &items);
}

#[test]
fn a_stored_copy_of_a_segment_is_never_taken_for_records() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &quick());
    store.put(id(1), &bytes_of(1, 5000)).expect("it is stored");
    store.delete(id(1)).expect("it is deleted");
    let copy = fs::read(&segment_files(dir.path())[0]).expect("it is read");
    store.put(id(2), &copy).expect("it is stored");
    store.put(id(3), b"behind").expect("it is stored");
    let extent = store.shared.state().index.get(id(2)).expect("it is there").extents.as_slice()[0];
    drop(store);
    // With its header damaged, the scan goes through the payload in search of the next record.
    let path = &segment_files(dir.path())[extent.segment as usize - 1];
    let mut file = fs::read(path).expect("it is read");
    file[extent.pos as usize] ^= 1;
    fs::write(path, file).expect("it is written");
    let store = open(dir.path(), &quick());
    check_contents(&store, &BTreeMap::from([(id(3), b"behind".to_vec())]));
    assert!(store.recovery().skipped_bytes > copy.len() as u64);
}

#[test]
fn a_damaged_item_is_reported_and_another_copy_takes_its_place_for_good() {
    let dir = TempDir::new().expect("a directory");
    let mut store = open(dir.path(), &small());
    let bytes = bytes_of(1, 100_000);
    store.put(id(1), &bytes).expect("it is stored");
    store.put(id(2), b"fine").expect("it is stored");
    damage(&store, id(1));
    let step = store.scrub_step(ScrubCursor::default(), u64::MAX);
    assert_eq!((step.cursor, step.corrupt), (None, vec![id(1)]));
    assert!(matches!(read(&store, id(1)), Err(Error::Corrupt { offset: 0, .. })));
    assert_eq!(store.stats().corrupt, 1);
    drop(store);
    store = open(dir.path(), &small());
    assert_eq!(store.recovery().corrupt, vec![id(1)]);
    store.put(id(1), &bytes).expect("it is stored");
    assert_eq!((read(&store, id(1)).expect("it is read"), store.stats().corrupt), (bytes, 0));
    store.delete(id(1)).expect("it is deleted");
    for _ in 0..3 {
        compact(&store);
        drop(store);
        store = open(dir.path(), &small());
        check_contents(&store, &BTreeMap::from([(id(2), b"fine".to_vec())]));
    }
}

#[test]
fn the_scrubber_covers_everything_in_steps() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path(), &quick());
    for n in 0..20 {
        store.put(id(n), &bytes_of(n, n as usize * 3000)).expect("it is stored");
    }
    store.put(id(20), &bytes_of(20, 3 << 20)).expect("it is stored");
    damage(&store, id(7));
    damage(&store, id(20));
    let (mut cursor, mut corrupt, mut steps) = (Some(ScrubCursor::default()), Vec::new(), 0);
    while let Some(from) = cursor {
        let step = store.scrub_step(from, 20_000);
        corrupt.extend(step.corrupt);
        cursor = step.cursor;
        steps += 1;
    }
    assert_eq!(corrupt, vec![id(7), id(20)]);
    assert!(steps > 10, "{steps}");
}

/// Flips a bit in the payload of the last chunk of an item.
fn damage(store: &SegmentStore, id: DataId) {
    let state = store.shared.state();
    let entry = state.index.get(id).expect("it is there");
    let extent = *entry.extents.as_slice().last().expect("an extent");
    let path = state.segments[&extent.segment].path().to_owned();
    drop(state);
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("it opens");
    let at = u64::from(extent.pos) + record::HEADER as u64 + u64::from(extent.len) / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is read");
    file.write_all_at(&[byte[0] ^ 16], at).expect("it is written");
}
