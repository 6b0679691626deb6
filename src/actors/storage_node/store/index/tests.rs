//! The rules for tombstones (INDEX-2) and live bytes (INDEX-3), without a disk.

use super::*;
use crate::types::DataId;

const ID: DataId = DataId(7);

fn extent(segment: u32, pos: u32) -> Extent {
    Extent { segment, pos, len: 100 }
}

fn entry(seq: u64, extents: Vec<Extent>) -> Entry {
    let stored = Stored { len: 100, md5: [0; 16], crc64: 0, stored_at_ms: 1 };
    Entry { attempt: 1, seq, stored, extents: Extents::new(extents), corrupt: false }
}

fn last(seq: u64) -> Header {
    Header { kind: Kind::Last, attempt: 1, ..Header::tombstone(ID, seq, 0) }
}

#[test]
fn a_tombstone_is_needed_until_the_segment_of_the_record_it_kills_is_gone() {
    let mut index = Index::default();
    index.insert(ID, entry(2, vec![extent(1, 0)]));
    assert_eq!(index.tally(1), Tally { live: extent(1, 0).span(), graves: 0 });
    index.bury(ID, 3, (2, 64)).expect("it was there");
    assert_eq!(index.tally(1).live, 0);
    assert_eq!(index.graves_in(2), vec![(ID, 3)]);
    index.move_grave(ID, 3, (4, 0));
    index.forget(2);
    assert_eq!((index.graves_in(4), index.tally(4).graves), (vec![(ID, 3)], HEADER as u64));
    index.forget(1);
    assert_eq!((index.graves(), index.tally(4).graves), (0, 0));
}

#[test]
fn a_tombstone_outlives_copies_that_compaction_left_behind() {
    // The original of a moved record is still on disk when the item is deleted.
    let mut index = Index::default();
    index.insert(ID, entry(2, vec![extent(1, 0)]));
    index.relocate(&last(2), 1, 0, extent(5, 32));
    index.bury(ID, 3, (9, 0)).expect("it was there");
    index.forget(5);
    assert_eq!(index.graves_in(9), vec![(ID, 3)]);
    index.forget(1);
    assert_eq!(index.graves(), 0);

    // The item is deleted between the copying and the relocation.
    index.insert(ID, entry(2, vec![extent(1, 0)]));
    index.bury(ID, 3, (9, 0)).expect("it was there");
    index.relocate(&last(2), 1, 0, extent(5, 32));
    index.forget(1);
    assert_eq!(index.graves_in(9), vec![(ID, 3)]);
    index.forget(5);
    assert_eq!(index.graves(), 0);
}

#[test]
fn a_second_delete_takes_over_what_the_first_one_killed() {
    let mut index = Index::default();
    index.insert(ID, entry(2, vec![extent(1, 0)]));
    index.bury(ID, 3, (2, 0)).expect("it was there");
    index.insert(ID, entry(4, vec![extent(3, 0)]));
    index.bury(ID, 5, (3, 256)).expect("it was there");
    assert_eq!((index.tally(2).graves, index.graves_in(3)), (0, vec![(ID, 5)]));
    index.forget(1);
    // What is left to kill lies in the tombstone's own segment: both go together.
    assert_eq!(index.graves_in(3), vec![]);
    index.forget(3);
    assert_eq!(index.graves(), 0);
}

#[test]
fn an_item_that_lost_a_record_is_corrupt_once() {
    let mut index = Index::default();
    index.insert(ID, entry(2, vec![extent(1, 0), extent(2, 0), extent(1, 224)]));
    assert_eq!(index.lose(1), vec![ID]);
    assert_eq!((index.corrupt(), index.tally(1).live), (1, 0));
    assert_eq!(index.lose(2), vec![ID]);
    assert_eq!(index.corrupt(), 1);
    index.bury(ID, 3, (4, 0)).expect("it was there");
    assert_eq!((index.corrupt(), index.payload(), index.graves()), (0, 0, 0));
}

impl Index {
    /// That recovery finds the same items, and needs no tombstone that is not known to be needed.
    pub fn covers(&self, recovered: &Index) {
        assert_eq!(self.items, recovered.items);
        for (id, grave) in &recovered.graves {
            let known =
                self.graves.get(id).unwrap_or_else(|| panic!("tombstone of {id} forgotten"));
            assert_eq!((known.seq, known.at), (grave.seq, grave.at), "{id}");
            let missing: Vec<_> = grave.holds.iter().filter(|s| !known.holds.contains(s)).collect();
            assert!(missing.is_empty(), "{id} also lies in {missing:?}");
        }
        for (segment, tally) in &recovered.tallies {
            assert_eq!(self.tally(*segment).live, tally.live, "live bytes of {segment}");
        }
    }
}
