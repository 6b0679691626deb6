//! Which segment to compact next. Pure arithmetic over what each segment holds.
//!
//! SPACE-1: while the sealed segments occupy more than 1.1 times the bytes of all items, and any
//! of them has something to give, there is a choice; so repeated steps reach the bound
//! `disk <= 1.1 * live + one active segment` (headers and padding of very small items apart).

/// What one segment holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The segment.
    pub segment: u32,
    /// What it occupies on disk.
    pub disk: u64,
    /// What of it is needed: live records, tombstones.
    pub needed: u64,
}

impl Usage {
    fn waste(&self) -> u64 {
        self.disk.saturating_sub(self.needed)
    }
}

/// Segments whose waste is a smaller part than this are not worth a rewrite.
const LEAST_WASTE: u64 = 32;

/// Picks the sealed segment to rewrite, the most wasteful first, or none where the bound holds and
/// every segment is at least half full. `payload` is the number of bytes of all items.
pub fn pick(sealed: &[Usage], payload: u64) -> Option<u32> {
    let disk: u64 = sealed.iter().map(|u| u.disk).sum();
    let over = disk > payload + payload / 10;
    sealed
        .iter()
        .filter(|u| u.needed == 0 || u.waste() > u.disk / 2 || over && worth(u))
        .max_by_key(|u| (u.waste() as u128 * 1_000_000) / u128::from(u.disk.max(1)))
        .map(|u| u.segment)
}

fn worth(usage: &Usage) -> bool {
    usage.waste() > usage.disk / LEAST_WASTE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usages(list: &[(u64, u64)]) -> Vec<Usage> {
        let usage = |(i, (disk, needed)): (usize, &(u64, u64))| Usage {
            segment: i as u32 + 1,
            disk: *disk,
            needed: *needed,
        };
        list.iter().enumerate().map(usage).collect()
    }

    #[test]
    fn the_most_wasteful_segment_goes_first_and_a_full_store_is_left_alone() {
        type Row<'a> = (&'a [(u64, u64)], u64, Option<u32>);
        let rows: &[Row<'_>] = &[
            (&[], 0, None),
            (&[(1000, 1000), (1000, 990)], 1990, None),
            // Empty segments go whatever the total.
            (&[(1000, 1000), (0, 0)], 100_000, Some(2)),
            // Less than half full goes whatever the total.
            (&[(1000, 1000), (1000, 499)], 100_000, Some(2)),
            (&[(1000, 1000), (1000, 500)], 100_000, None),
            // Over the bound the threshold falls.
            (&[(1000, 900), (1000, 800)], 1700, Some(2)),
            (&[(1000, 950), (1000, 900)], 1850, None),
            // Nothing worth moving: stop.
            (&[(1000, 980), (1000, 975)], 100, None),
        ];
        for (list, payload, want) in rows {
            assert_eq!(pick(&usages(list), *payload), *want, "{list:?} {payload}");
        }
    }

    #[test]
    fn rewriting_what_is_picked_reaches_the_bound() {
        let mut list = usages(&[(1000, 970), (1000, 880), (1000, 640), (1000, 0), (1000, 910)]);
        let payload: u64 = list.iter().map(|u| u.needed).sum();
        for _ in 0..10 {
            let Some(segment) = pick(&list, payload) else { break };
            list.retain(|u| u.segment != segment);
        }
        let disk: u64 = list.iter().map(|u| u.disk).sum();
        assert!(disk <= payload + payload / 10);
        assert_eq!(pick(&list, payload), None);
    }
}
