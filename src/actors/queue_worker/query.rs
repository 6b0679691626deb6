//! What can be asked of the queue without changing it.
//!
//! Wire types of the queue actor's reads and of the JSON API's task list.
//!
//! - `QUERY-1` a page is at most [`PAGE_BYTES`](super::command::PAGE_BYTES) and one task long and
//!   looks at no more than [`SCAN_LIMIT`] tasks; `next` says where to go on.
//! - `QUERY-2` pages are cut from a moving list: a task that changes its state between two pages
//!   can be seen twice or not at all; one that does not change is seen once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::task::{KindName, Task, TaskState};

/// The most tasks that one page looks at.
pub const SCAN_LIMIT: usize = 5_000;

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFilter {
    /// Only in this state (dead letters: `Failed`).
    pub state: Option<TaskState>,
    /// Only of this kind.
    pub kind: Option<KindName>,
}

/// A place in the list of tasks, after which a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    pub(super) state: TaskState,
    pub(super) at: u64,
    pub(super) seq: u64,
}

/// Part of a list of tasks: by state, then waiting ones by arrival, running ones by the end of
/// their lease, finished ones by the time they ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPage {
    /// The tasks; may be fewer than asked for, even none, though `next` is set.
    pub tasks: Vec<Task>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.state, self.at, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = String;

    /// Reads what `Display` wrote.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.splitn(3, '-');
            let state = parts.next()?.parse().ok()?;
            let at = parts.next()?.parse().ok()?;
            let seq = parts.next()?.parse().ok()?;
            Some(Cursor { state, at, seq })
        };
        parse().ok_or_else(|| format!("malformed cursor {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nonsense_is_refused() {
        let cursor = Cursor { state: TaskState::Retrying, at: u64::MAX, seq: 7 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "pending", "pending-1", "pending-1-x", "done-1-2", "pending-1-2-3"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
