//! Whether what clients saw could have happened one operation after another, each at some point
//! between its call and its answer: linearizability (Herlihy, Wing 1990) of S3's keys.
//!
//! A history is linearizable where it is for each key alone ([`check`]); a list is then a read of
//! each key in its range. That all its reads are of *one* moment is a stronger claim, which only all
//! keys together can show ([`check_together`]); it is meant for small histories.
//!
//! - `CHECK-1` a fault comes with the shortest beginning of the history that cannot be explained:
//!   a beginning of a linearizable history is linearizable, so that it is found by halving.

use std::fmt;

use crate::history::{Operation, Value, keys, of_key};
use crate::search::{End, search};

/// After how many steps the search of one key is given up. Far more than histories need of which
/// fewer than ten known writes of a key overlap.
const STEPS: usize = 1_000_000;
/// How many operations before the one that cannot be explained are shown.
const SHOWN: usize = 12;

/// Why a history was not accepted.
#[derive(Debug)]
pub enum Fault {
    /// No order explains it.
    Broken(Box<Broken>),
    /// The search of these keys took too long to tell: neither right nor wrong.
    Undecided { keys: Vec<String>, steps: usize },
}

/// The shortest beginning that cannot be explained.
#[derive(Debug)]
pub struct Broken {
    /// The key, or all keys of a list that is not of one moment.
    pub keys: Vec<String>,
    /// The operations of these keys up to and with the answer that broke it, as known by then.
    pub prefix: Vec<Operation>,
    /// The operation with that answer.
    pub culprit: Operation,
    /// What the keys could have held where the search got furthest.
    pub held: Vec<Vec<Option<Value>>>,
}

/// Checks each key alone.
///
/// # Errors
/// The first key that cannot be explained.
pub fn check(history: &[Operation]) -> Result<(), Fault> {
    keys(history).into_iter().try_for_each(|key| {
        let of_key = of_key(history, &key);
        check_keys(vec![key], &of_key, STEPS)
    })
}

/// Checks all keys at once, in so many steps: each list is of one moment, too. `history` has
/// linearizable keys, or is small.
///
/// # Errors
/// What cannot be explained, or takes too long.
pub fn check_together(history: &[Operation], steps: usize) -> Result<(), Fault> {
    check_keys(keys(history), history, steps)
}

fn check_keys(keys: Vec<String>, history: &[Operation], steps: usize) -> Result<(), Fault> {
    match search(&keys, history, steps) {
        End::Found => Ok(()),
        End::None(_) => Err(Fault::Broken(Box::new(shortest(keys, history, steps)))),
        End::TooLong => Err(Fault::Undecided { keys, steps }),
    }
}

/// CHECK-1. `history` is not linearizable.
fn shortest(keys: Vec<String>, history: &[Operation], steps: usize) -> Broken {
    let as_of = |end: u64| history.iter().filter_map(|o| o.as_of(end)).collect::<Vec<_>>();
    let mut ends: Vec<u64> = history.iter().filter_map(|o| o.ended).collect();
    ends.sort_unstable();
    ends.dedup();
    let fine = |end: &u64| !matches!(search(&keys, &as_of(*end), steps), End::None(_));
    let at = ends.partition_point(fine).min(ends.len().saturating_sub(1));
    let prefix = as_of(ends[at]);
    let held = match search(&keys, &prefix, steps) {
        End::None(held) => held,
        End::Found | End::TooLong => Vec::new(),
    };
    let last = |o: &&Operation| o.ended == Some(ends[at]);
    let culprit = prefix.iter().rfind(last).expect("an operation ended there").clone();
    Broken { keys, prefix, culprit, held }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::Broken(broken) => broken.fmt(f),
            Fault::Undecided { keys, steps } => {
                write!(f, "undecided after {steps} steps: {}", keys.join(" "))
            }
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "not linearizable: {}", self.keys.join(" "))?;
        writeln!(f, "  no order explains  {}", self.culprit)?;
        for held in &self.held {
            let told = |value: &Option<Value>| match value {
                None => "nothing".to_owned(),
                Some(Value::MAX) => "a value that no answer names".to_owned(),
                Some(value) => format!("#{value}"),
            };
            let held: Vec<String> = held.iter().map(told).collect();
            writeln!(f, "  where it could hold  {}", held.join(", "))?;
        }
        let mut before: Vec<&Operation> = self.prefix.iter().collect();
        before.sort_by_key(|o| (o.ended.unwrap_or(u64::MAX), o.begun));
        let answered = before.iter().filter(|o| o.ended.is_some()).count();
        let (left_out, unknown) = (answered.saturating_sub(SHOWN), before.len() - answered);
        writeln!(f, "  {left_out} operations before, the last {}:", answered - left_out)?;
        for operation in &before[left_out..answered] {
            writeln!(f, "    {operation}")?;
        }
        writeln!(f, "  {unknown} writes without an answer by then:")?;
        before[answered..].iter().try_for_each(|operation| writeln!(f, "    {operation}"))
    }
}
