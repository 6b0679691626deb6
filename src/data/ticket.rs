//! Tickets: who may move which bytes, once. Pure: ids and times come in as values.
//!
//! Owned by `desk::Transfers`, which gives ids and times.
//!
//! - `TICKET-1` a ticket is taken at most once, also when it was presented for something else;
//! - `TICKET-2` tickets not yet taken plus transfers that run never exceed the limit.

use std::collections::HashMap;

use crate::types::{DataId, UnixMillis};

/// What a ticket allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Stream an item in.
    Write {
        /// Its id.
        data_id: DataId,
        /// Its exact length, where it was declared.
        len: Option<u64>,
    },
    /// Stream a range out.
    Read {
        /// The item.
        data_id: DataId,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
}

/// The direction of a transfer, from the node's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `PUT`.
    In,
    /// `GET`.
    Out,
}

impl Grant {
    fn fits(&self, wanted: DataId, direction: Direction) -> bool {
        match (self, direction) {
            (Grant::Write { data_id, .. }, Direction::In)
            | (Grant::Read { data_id, .. }, Direction::Out) => *data_id == wanted,
            _ => false,
        }
    }
}

/// The book of tickets of one storage node.
#[derive(Debug)]
pub struct Tickets {
    limit: usize,
    life_ms: u64,
    issued: HashMap<u128, (Grant, UnixMillis)>,
    running: usize,
}

impl Tickets {
    /// An empty book for `limit` transfers at once, with tickets that live `life_ms`.
    pub fn new(limit: usize, life_ms: u64) -> Self {
        Tickets { limit, life_ms, issued: HashMap::new(), running: 0 }
    }

    /// Enters a ticket under a fresh unguessable `id`; says until when it is good, or `None` when
    /// there are too many transfers (TICKET-2).
    pub fn issue(&mut self, id: u128, grant: Grant, now: UnixMillis) -> Option<UnixMillis> {
        if self.issued.len() + self.running >= self.limit {
            self.issued.retain(|_, (_, expires)| *expires > now);
        }
        if self.issued.len() + self.running >= self.limit {
            return None;
        }
        let expires = now + self.life_ms;
        self.issued.insert(id, (grant, expires));
        Some(expires)
    }

    /// Takes a ticket and counts its transfer as running until [`Tickets::done`]; `None` where it
    /// is unknown, used, expired or for something else (TICKET-1).
    pub fn take(
        &mut self,
        id: u128,
        data_id: DataId,
        direction: Direction,
        now: UnixMillis,
    ) -> Option<Grant> {
        let (grant, expires) = self.issued.remove(&id)?;
        if expires <= now || !grant.fits(data_id, direction) {
            return None;
        }
        self.running += 1;
        Some(grant)
    }

    /// A running transfer ended.
    pub fn done(&mut self) {
        assert!(self.running > 0, "a transfer ended twice");
        self.running -= 1;
    }

    /// How many tickets wait to be presented (expired ones included) and how many transfers run.
    pub fn counts(&self) -> (usize, usize) {
        (self.issued.len(), self.running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: DataId = DataId(7);
    const WRITE: Grant = Grant::Write { data_id: ID, len: None };
    const READ: Grant = Grant::Read { data_id: ID, offset: 1, len: 2 };

    #[test]
    fn a_ticket_is_good_once_for_one_item_one_direction_and_a_while() {
        let rows = [
            (WRITE, ID, Direction::In, 99, true),
            (READ, ID, Direction::Out, 99, true),
            (WRITE, ID, Direction::In, 100, false),
            (WRITE, ID, Direction::Out, 0, false),
            (READ, ID, Direction::In, 0, false),
            (READ, DataId(8), Direction::Out, 0, false),
        ];
        for (grant, data_id, direction, now, good) in rows {
            let mut tickets = Tickets::new(4, 100);
            assert_eq!(tickets.issue(1, grant, 0), Some(100));
            let taken = tickets.take(1, data_id, direction, now);
            assert_eq!(taken, good.then_some(grant), "{grant:?} {data_id} {direction:?} {now}");
            assert_eq!(tickets.take(1, ID, Direction::In, 0), None);
            assert_eq!(tickets.take(1, ID, Direction::Out, 0), None);
        }
    }

    #[test]
    fn expired_tickets_make_room_and_running_transfers_do_not() {
        let mut tickets = Tickets::new(2, 100);
        assert!(tickets.issue(1, WRITE, 0).is_some());
        assert!(tickets.take(1, ID, Direction::In, 1).is_some());
        assert!(tickets.issue(2, WRITE, 1).is_some());
        assert_eq!(tickets.issue(3, WRITE, 50), None);
        assert!(tickets.issue(3, WRITE, 101).is_some(), "ticket 2 has expired");
        assert_eq!(tickets.issue(4, WRITE, 101), None);
        tickets.done();
        assert!(tickets.issue(4, WRITE, 101).is_some());
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_nothing_is_taken_twice(
            limit in 1usize..5, steps: Vec<(u8, u8, bool, u8)>,
        ) {
            let mut tickets = Tickets::new(limit, 20);
            let (mut now, mut taken) = (0, std::collections::HashSet::new());
            for (number, (what, pick, out, pause)) in steps.into_iter().enumerate() {
                now += u64::from(pause % 8);
                match what % 3 {
                    0 => { tickets.issue(number as u128, if out { READ } else { WRITE }, now); }
                    1 => {
                        let id = u128::from(pick) % (number as u128 + 1);
                        let direction = if out { Direction::Out } else { Direction::In };
                        if tickets.take(id, ID, direction, now).is_some() {
                            prop_assert!(taken.insert(id), "ticket {} was taken twice", id);
                        }
                    }
                    _ => if tickets.counts().1 > 0 { tickets.done() },
                }
                let (issued, running) = tickets.counts();
                prop_assert!(issued + running <= limit);
            }
        }
    }
}
