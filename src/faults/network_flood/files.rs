//! How many connections the limit of open files leaves room for (FLOOD-5).

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};

use super::super::effect::Refusal;

/// How many files are kept free for the process itself.
pub(super) const KEPT_FREE: u64 = 256;
/// After how long, and after how many connections, to look again: well within what is kept free,
/// even if each connection takes two because the target is this process.
const AGAIN: (Duration, usize) = (Duration::from_millis(50), 64);

/// What there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// The soft limit of open files.
    pub(super) limit: u64,
    /// For how many connections of the flood, those that it has included.
    pub(super) left: usize,
}

impl Room {
    /// Of a process that has `open` files, `ours` of which are connections of the flood.
    fn of(limit: u64, open: u64, ours: u64) -> Room {
        let taken = open.saturating_sub(ours).saturating_add(KEPT_FREE);
        let left = usize::try_from(limit.saturating_sub(taken)).unwrap_or(usize::MAX);
        Room { limit, left }
    }

    /// How many to have next, from `ours`: half of the way. If the target is this process, each
    /// connection takes a second file, so that with the whole way it would swing between all and
    /// none.
    fn next(self, ours: usize) -> usize {
        match self.left.checked_sub(ours) {
            Some(more) => ours + more.div_ceil(2),
            None => self.left.midpoint(ours),
        }
    }
}

/// Looks what there is room for, if `ours` of the open files are connections of the flood.
///
/// # Errors
/// [`Refusal::System`] if the system does not tell.
pub(super) fn look(ours: usize) -> Result<Room, Refusal> {
    let failed = |what, why: String| Refusal::System { what, why };
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|e| failed("read the limit of open files", e.to_string()))?;
    let open = open_files().map_err(|e| failed("count the open files", e.to_string()))?;
    Ok(Room::of(soft, open, ours as u64))
}

fn open_files() -> std::io::Result<u64> {
    // Since Linux 6.2 the size of the folder is their number; before, it is 0.
    match std::fs::metadata("/proc/self/fd")?.len() {
        0 => Ok(std::fs::read_dir("/proc/self/fd")?.count() as u64),
        open => Ok(open),
    }
}

/// Looks now and then.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Option<(Room, usize, Instant)>,
    opened: usize,
}

impl Watch {
    /// So many connections were opened.
    pub(super) fn opened(&mut self, n: usize) {
        self.opened += n;
    }

    /// What there was room for a moment ago, and how many to have for now; if the system does not
    /// tell, no more than there are.
    pub(super) fn room(&mut self, ours: usize) -> (Room, usize) {
        if let Some((room, next, at)) = self.last
            && at.elapsed() < AGAIN.0
            && self.opened < AGAIN.1
        {
            return (room, next);
        }
        let room = look(ours).unwrap_or(Room { limit: 0, left: ours });
        self.opened = 0;
        self.last = Some((room, room.next(ours), Instant::now()));
        (room, room.next(ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_others_and_the_reserve_leave() {
        assert_eq!(Room::of(1024, 100, 0).left, 668);
        assert_eq!(Room::of(1024, 400, 300).left, 668, "what is ours is no loss");
        assert_eq!(Room::of(300, 100, 0).left, 0);
        assert_eq!(Room::of(300, 0, 100).left, 44);
        assert_eq!(Room::of(u64::MAX, 1, 0).limit, u64::MAX);
    }

    #[test]
    fn it_comes_to_rest_whether_the_target_takes_files_of_this_process_or_not() {
        for (each, rest) in [(1, 744), (2, 372)] {
            for start in [0, 300, 1000] {
                let mut ours = start;
                for _ in 0..20 {
                    let open = 24 + each * ours as u64;
                    ours = Room::of(1024, open, ours as u64).next(ours);
                }
                assert!(ours.abs_diff(rest) <= 1, "{ours} from {start}, {each} each");
            }
        }
    }

    #[test]
    fn open_files_are_counted_as_they_are_listed() {
        let before = open_files().unwrap();
        let more: Vec<_> = (0..200).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let after = open_files().unwrap();
        drop(more);
        // Other tests open and close files meanwhile.
        assert!((before + 100..before + 300).contains(&after), "{before} then {after}");
    }
}
