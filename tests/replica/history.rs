//! Whether what clients saw of one register could have happened one operation after another:
//! linearizability (Herlihy, Wing 1990), decided by the search of Wing and Gong (1993) with the
//! memory of Lowe (2017).
//!
//! An operation whose outcome the client never learned may have happened at any time after it was
//! begun, or never.

use std::collections::HashSet;

/// What was done to the register, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Put(u64),
    Delete,
    Get {
        saw: Option<u64>,
    },
    /// Put where it held `expected`; whether it did, if that was learned.
    Swap {
        expected: Option<u64>,
        value: u64,
        done: Option<bool>,
    },
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub begun: u64,
    /// None: the outcome was never learned.
    pub ended: Option<u64>,
    pub act: Act,
}

type State = Option<u64>;

impl Operation {
    /// The state after it, if it may happen in this state.
    fn step(&self, state: State) -> Option<State> {
        match &self.act {
            Act::Put(value) => Some(Some(*value)),
            Act::Delete => Some(None),
            Act::Get { saw } => (*saw == state || self.ended.is_none()).then_some(state),
            Act::Swap { expected, value, done } => {
                let holds = *expected == state;
                let as_learned = done.is_none_or(|done| done == holds);
                as_learned.then_some(if holds { Some(*value) } else { state })
            }
        }
    }
}

/// Whether there is an order of all operations that respects real time and the register.
pub fn linearizable(history: &[Operation]) -> bool {
    let mut operations = history.to_vec();
    operations.sort_by_key(|o| o.begun);
    let mut seen = HashSet::new();
    search(&operations, &mut vec![false; operations.len()], None, &mut seen)
}

fn search(
    all: &[Operation],
    done: &mut Vec<bool>,
    state: State,
    seen: &mut HashSet<(Vec<bool>, State)>,
) -> bool {
    let left = || all.iter().enumerate().filter(|(n, _)| !done[*n]);
    if left().all(|(_, o)| o.ended.is_none()) {
        return true; // the rest need not have happened
    }
    if !seen.insert((done.clone(), state)) {
        return false;
    }
    let first_end = left().filter_map(|(_, o)| o.ended).min().unwrap_or(u64::MAX);
    let next: Vec<usize> = left().filter(|(_, o)| o.begun < first_end).map(|(n, _)| n).collect();
    next.into_iter().any(|n| {
        let Some(after) = all[n].step(state) else { return false };
        done[n] = true;
        let found = search(all, done, after, seen);
        done[n] = false;
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(begun: u64, ended: impl Into<Option<u64>>, act: Act) -> Operation {
        Operation { begun, ended: ended.into(), act }
    }

    #[test]
    fn a_read_of_an_overwritten_value_is_found_out() {
        let history =
            [op(0, 1, Act::Put(1)), op(2, 3, Act::Put(2)), op(4, 5, Act::Get { saw: Some(1) })];
        assert!(!linearizable(&history));
        let history = [
            op(0, 1, Act::Put(1)),
            op(2, 6, Act::Put(2)), // still going on
            op(4, 5, Act::Get { saw: Some(1) }),
        ];
        assert!(linearizable(&history));
    }

    #[test]
    fn an_operation_of_unknown_outcome_may_happen_late_or_never_but_only_once() {
        let unknown = op(0, None, Act::Put(7));
        let seen = |begun, saw| op(begun, begun + 1, Act::Get { saw });
        assert!(linearizable(&[unknown.clone(), seen(1, None)]));
        assert!(linearizable(&[unknown.clone(), seen(1, None), seen(3, Some(7))]));
        assert!(!linearizable(&[unknown, seen(1, None), seen(3, Some(7)), seen(5, None)]));
    }

    #[test]
    fn two_swaps_of_the_same_value_cannot_both_succeed() {
        let swap = |begun, value| {
            op(begun, begun + 10, Act::Swap { expected: None, value, done: Some(true) })
        };
        assert!(!linearizable(&[swap(0, 1), swap(1, 2)]));
    }
}
