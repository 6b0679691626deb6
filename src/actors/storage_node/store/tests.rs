//! Tests of the store on real files. This file: what all of them use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;

mod basics;
mod crash;
mod full;
mod model;
mod threads;

/// Small segments, so that a few items fill several.
fn small() -> Options {
    Options {
        segment_bytes: 256 << 10,
        preallocate_bytes: 64 << 10,
        reserve_bytes: 16 << 10,
        ..Options::default()
    }
}

/// The same without syncs, for tests that count on no crash.
fn quick() -> Options {
    Options { durability: Durability::Os, ..small() }
}

fn open(dir: &Path, options: &Options) -> SegmentStore {
    SegmentStore::open(dir, options.clone()).expect("the store opens")
}

/// `len` bytes that depend on `seed` at every place.
fn bytes_of(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

fn id(n: u64) -> DataId {
    DataId(u128::from(n) + 1)
}

/// Reads a whole item.
fn read(store: &SegmentStore, id: DataId) -> Result<Vec<u8>, Error> {
    store.read(id, 0, u64::MAX).map(|bytes| bytes.to_vec())
}

/// The segment files and their contents.
fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "dat"));
    paths.sort();
    paths
}

/// Compacts until there is nothing left to do.
fn compact(store: &SegmentStore) {
    for _ in 0..10_000 {
        if !store.compact_step(64 << 10).expect("compaction works").more {
            return;
        }
    }
    panic!("compaction does not come to an end: {:?}", store.stats());
}

/// What a segment store of `items` must answer.
fn check_contents(store: &SegmentStore, items: &BTreeMap<DataId, Vec<u8>>) {
    for (id, bytes) in items {
        let got = read(store, *id).unwrap_or_else(|e| panic!("{id}: {e}"));
        assert!(got == *bytes, "{id}: {} bytes differ", bytes.len());
        let info = store.info(*id).expect("it is there");
        assert_eq!((info.len, info.md5), (bytes.len() as u64, md5::compute(bytes).0));
        assert_eq!(info.crc64, record::crc64(bytes));
    }
    let rows = store.ids_page(None, usize::MAX);
    let ids: Vec<DataId> = rows.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, items.keys().copied().collect::<Vec<_>>());
    let stats = store.stats();
    let total: u64 = items.values().map(|b| b.len() as u64).sum();
    assert_eq!((stats.items, stats.live_bytes), (items.len() as u64, total));
}
