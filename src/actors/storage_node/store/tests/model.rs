//! Random sequences of everything, against a map.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put { slot: u64, len: usize },
    Abandon { slot: u64, len: usize },
    Delete { slots: Vec<u64> },
    Compact { bytes: u64 },
    Reopen,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0usize..200,
        6 => 200usize..20_000,
        4 => 60_000usize..140_000,
        1 => (1usize << 20) - 2..(1 << 20) + 40_000,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0u64..16;
    prop_oneof![
        10 => (slot.clone(), len()).prop_map(|(slot, len)| Step::Put { slot, len }),
        1 => (slot.clone(), len()).prop_map(|(slot, len)| Step::Abandon { slot, len }),
        6 => prop::collection::vec(slot, 1..4).prop_map(|slots| Step::Delete { slots }),
        5 => (1u64..300_000).prop_map(|bytes| Step::Compact { bytes }),
        2 => Just(Step::Reopen),
    ]
}

/// The same id always comes with the same bytes, as with real uploads; their length is part of it.
fn take(
    store: &mut Option<SegmentStore>,
    items: &mut BTreeMap<DataId, Vec<u8>>,
    dir: &Path,
    n: u64,
    step: &Step,
) {
    let open_store = store.as_ref().expect("it is open");
    match step {
        Step::Put { slot, len } => {
            let bytes = bytes_of(n, *len);
            let answer = open_store.put(id(*slot), &bytes);
            match items.get(&id(*slot)) {
                Some(there) if *there != bytes => {
                    assert!(matches!(answer, Err(Error::Conflict(_))));
                }
                _ => {
                    answer.expect("it is stored");
                    items.insert(id(*slot), bytes);
                }
            }
        }
        Step::Abandon { slot, len } => {
            let mut writer = open_store.writer(id(*slot)).expect("a writer");
            writer.write(&bytes_of(n, *len)).expect("it is taken");
        }
        Step::Delete { slots } => {
            let ids: Vec<DataId> = slots.iter().map(|slot| id(*slot)).collect();
            open_store.delete_all(&ids).expect("they are deleted");
            ids.iter().for_each(|id| drop(items.remove(id)));
        }
        Step::Compact { bytes } => drop(open_store.compact_step(*bytes).expect("it works")),
        Step::Reopen => {
            let before = store.take().expect("it is open");
            let known = before.shared.state().index.clone();
            drop(before);
            let after = open(dir, &quick());
            known.covers(&after.shared.state().index);
            assert!(after.recovery().corrupt.is_empty());
            *store = Some(after);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn whatever_is_done_the_store_holds_what_the_map_holds(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let dir = TempDir::new().expect("a directory");
        let mut store = Some(open(dir.path(), &quick()));
        let mut items = BTreeMap::new();
        for (n, step) in steps.iter().enumerate() {
            take(&mut store, &mut items, dir.path(), n as u64, step);
            if matches!(step, Step::Reopen | Step::Compact { .. }) {
                check_contents(store.as_ref().expect("it is open"), &items);
            }
        }
        take(&mut store, &mut items, dir.path(), 0, &Step::Reopen);
        let store = store.expect("it is open");
        check_contents(&store, &items);
        compact(&store);
        check_contents(&store, &items);
        let stats = store.stats();
        // Blocks of 4 KiB per segment cannot be had back, and very small items have large headers.
        let slack = stats.segments * 4096 + stats.items * 256 + (stats.live_bytes >> 6);
        let bound = stats.live_bytes * 11 / 10 + (1 << 20) + 4096 + slack;
        prop_assert!(stats.disk_bytes <= bound, "{:?}", stats);
    }
}
