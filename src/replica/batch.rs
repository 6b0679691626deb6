//! Which commands share an entry of the log: those that wait, up to a number and a size.

use super::types::Item;

/// An entry holds at most so many commands,
pub const COMMANDS: usize = 512;
/// and so many bytes of them.
pub const BYTES: usize = 128 * 1024;
/// What a command takes in an entry besides its body.
const FRAME: usize = 24;

/// An entry being filled.
pub struct Batch<W> {
    items: Vec<Item>,
    waiters: Vec<W>,
    bytes: usize,
}

impl<W> Default for Batch<W> {
    fn default() -> Self {
        Batch { items: Vec::new(), waiters: Vec::new(), bytes: 0 }
    }
}

impl<W> Batch<W> {
    /// Whether a command can be in any entry.
    pub fn fits_alone(item: &Item) -> bool {
        item.body.len() + FRAME <= BYTES
    }

    /// Takes a command, or gives it back when the entry is full.
    pub fn push(&mut self, item: Item, waiter: W) -> Result<(), (Item, W)> {
        let bytes = self.bytes + item.body.len() + FRAME;
        if self.items.len() >= COMMANDS || (bytes > BYTES && !self.items.is_empty()) {
            return Err((item, waiter));
        }
        self.bytes = bytes;
        self.items.push(item);
        self.waiters.push(waiter);
        Ok(())
    }

    /// The commands, and who waits for each.
    pub fn into_parts(self) -> (Vec<Item>, Vec<W>) {
        (self.items, self.waiters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(len: usize) -> Item {
        Item { key: len as u128, body: vec![0; len].into() }
    }

    proptest! {
        /// Nothing is lost or reordered, and no entry exceeds its limits unless one command alone
        /// does.
        #[test]
        fn entries_hold_all_commands_in_order(lens in proptest::collection::vec(0usize..60_000, 0..700)) {
            let mut entries: Vec<Batch<usize>> = vec![Batch::default()];
            for (n, len) in lens.iter().enumerate() {
                if let Err((again, waiter)) = entries.last_mut().unwrap().push(item(*len), n) {
                    entries.push(Batch::default());
                    prop_assert!(entries.last_mut().unwrap().push(again, waiter).is_ok());
                }
            }
            let mut all = Vec::new();
            for entry in entries {
                let (items, waiters) = entry.into_parts();
                let bytes: usize = items.iter().map(|i| i.body.len() + FRAME).sum();
                prop_assert!(items.len() <= COMMANDS && bytes <= BYTES);
                all.extend(items.iter().map(|i| i.body.len()).zip(waiters));
            }
            let expected: Vec<_> = lens.into_iter().enumerate().map(|(n, len)| (len, n)).collect();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn an_entry_ends_at_its_limits() {
        let mut batch = Batch::default();
        for n in 0..COMMANDS {
            assert!(batch.push(item(1), n).is_ok());
        }
        assert!(batch.push(item(1), 0).is_err());
        assert!(Batch::<()>::fits_alone(&item(BYTES - FRAME)));
        assert!(!Batch::<()>::fits_alone(&item(BYTES - FRAME + 1)));
    }
}
