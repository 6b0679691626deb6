//! The search for one order of all operations that explains every answer: Wing and Gong (1993)
//! with the memory of Lowe (2017), over the state of one or more keys.
//!
//! Three shortcuts, each by an exchange argument, keep it from growing with what was never learned:
//!
//! - `LIN-1` *lazy unknowns*: an unknown write has no end, so in any order that explains the history
//!   it can be moved later, to directly before the first operation that its effect makes possible;
//!   if the next write of its key comes before any such operation, it can be left out. So unknown
//!   writes are never tried for their own sake, only where an operation needs one (`ways`);
//! - `LIN-2` *like for like*: unknown writes of one key with the same condition and effect differ
//!   only in when they were begun; the one begun first serves wherever another does. Values that
//!   no condition and no read names are one value (`NAMELESS`);
//! - `LIN-3` *reads at once*: an operation that changes nothing, and could come next, does.
//!
//! What is left to choose is the order of overlapping writes whose outcome is known.

use std::collections::{HashMap, HashSet};

use crate::history::{Act, Operation, Value, When};

/// Stands for all values that nothing names.
const NAMELESS: Value = Value::MAX;

/// What one key holds.
pub type Held = Option<Value>;

/// What an operation demands of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Need {
    Any,
    Is(Held),
    Not(Held),
}

impl Need {
    fn admits(self, held: Held) -> bool {
        match self {
            Need::Any => true,
            Need::Is(wanted) => held == wanted,
            Need::Not(unwanted) => held != unwanted,
        }
    }

    fn names(self) -> Option<Value> {
        match self {
            Need::Any => None,
            Need::Is(held) | Need::Not(held) => held,
        }
    }
}

/// An operation with a known outcome.
struct Known {
    begun: u64,
    ended: u64,
    needs: Vec<(usize, Need)>,
    sets: Option<(usize, Held)>,
}

/// Unknown writes that are alike (LIN-2).
struct Unknowns {
    key: usize,
    need: Need,
    to: Held,
    /// When they were begun, in order.
    begun: Vec<u64>,
}

/// A state of all keys, and how many of each kind of unknown writes it took to get there.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    held: Vec<Held>,
    used: Vec<u32>,
}

/// How a search ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// There is such an order.
    Found,
    /// There is none; what the keys may hold where the search got furthest.
    None(Vec<Vec<Held>>),
    /// It took more than the given number of steps.
    TooLong,
}

/// Whether there is an order of all operations on `keys` that respects time and every answer.
pub fn search(keys: &[String], history: &[Operation], steps: usize) -> End {
    Search::new(keys, history).run(steps)
}

struct Search {
    keys: usize,
    /// By the time at which they were begun.
    known: Vec<Known>,
    unknown: Vec<Unknowns>,
    taken: Vec<bool>,
    /// What was taken, in order.
    order: Vec<usize>,
    /// Everything before it is taken.
    low: usize,
    seen: HashSet<(usize, Vec<usize>, World)>,
    furthest: (usize, HashSet<Vec<Held>>),
}

/// A place in the search, with what is left to try there.
struct Place {
    taken: usize,
    choices: std::vec::IntoIter<(usize, World)>,
}

impl Search {
    fn new(keys: &[String], history: &[Operation]) -> Search {
        let index: HashMap<&str, usize> =
            keys.iter().enumerate().map(|(n, key)| (key.as_str(), n)).collect();
        let read = |o: &Operation| needs(&o.act, keys, &index);
        let named: HashSet<Value> =
            history.iter().flat_map(read).filter_map(|(_, need)| need.names()).collect();
        let name = |value: Value| Some(if named.contains(&value) { value } else { NAMELESS });
        let mut known = Vec::new();
        let mut unknown: HashMap<(usize, Need, Held), Vec<u64>> = HashMap::new();
        for operation in history {
            let sets = match &operation.act {
                Act::Put { key, value, refused: false, .. } => Some((index[&**key], name(*value))),
                Act::Delete { key } => Some((index[&**key], None)),
                _ => None,
            };
            let needs = read(operation);
            match (operation.ended, sets) {
                (Some(ended), _) => {
                    known.push(Known { begun: operation.begun, ended, needs, sets })
                }
                (None, Some((key, to))) => {
                    let need = needs.first().map_or(Need::Any, |(_, need)| *need);
                    unknown.entry((key, need, to)).or_default().push(operation.begun);
                }
                (None, None) => {} // HIST-2: says nothing
            }
        }
        known.sort_by_key(|o| o.begun);
        let alike = |((key, need, to), mut begun): (_, Vec<u64>)| {
            begun.sort_unstable();
            Unknowns { key, need, to, begun }
        };
        let mut unknown: Vec<Unknowns> = unknown.into_iter().map(alike).collect();
        unknown.sort_by_key(|u| u.begun[0]);
        Search {
            keys: keys.len(),
            taken: vec![false; known.len()],
            known,
            unknown,
            order: Vec::new(),
            low: 0,
            seen: HashSet::new(),
            furthest: (0, HashSet::new()),
        }
    }

    fn run(mut self, steps: usize) -> End {
        let start = World { held: vec![None; self.keys], used: vec![0; self.unknown.len()] };
        let mut places: Vec<Place> = Vec::new();
        let mut next = Some(start);
        while next.is_some() || !places.is_empty() {
            if let Some(world) = next.take() {
                self.absorb(&world);
                if self.order.len() == self.known.len() {
                    return End::Found;
                }
                self.remember_furthest(&world);
                if self.seen.len() >= steps {
                    return End::TooLong;
                }
                let choices = match self.seen.insert(self.signature(&world)) {
                    true => self.choices(&world),
                    false => Vec::new(),
                };
                let taken = self.order.len();
                places.push(Place { taken, choices: choices.into_iter() });
            }
            let Some(place) = places.last_mut() else { break };
            let (taken, choice) = (place.taken, place.choices.next());
            self.go_back(taken);
            match choice {
                Some((n, world)) => {
                    self.take(n);
                    next = Some(world);
                }
                None => drop(places.pop()),
            }
        }
        End::None(self.furthest.1.into_iter().collect())
    }

    fn take(&mut self, n: usize) {
        self.taken[n] = true;
        self.order.push(n);
        while self.taken.get(self.low) == Some(&true) {
            self.low += 1;
        }
    }

    fn go_back(&mut self, taken: usize) {
        for n in self.order.drain(taken..) {
            self.taken[n] = false;
            self.low = self.low.min(n);
        }
    }

    /// What may come next in time, and the end that comes first among all that is left: no end lies
    /// before the begin of an operation found before it, since they are in order of begin.
    fn candidates(&self) -> (Vec<usize>, u64) {
        let (mut first_end, mut found) = (u64::MAX, Vec::new());
        for n in self.low..self.known.len() {
            let operation = &self.known[n];
            if operation.begun > first_end {
                break;
            }
            if !self.taken[n] {
                first_end = first_end.min(operation.ended);
                found.push(n);
            }
        }
        (found, first_end)
    }

    /// LIN-3.
    fn absorb(&mut self, world: &World) {
        loop {
            let (found, _) = self.candidates();
            let quiet = |n: &usize| {
                let operation = &self.known[*n];
                let admitted = |(key, need): &(usize, Need)| need.admits(world.held[*key]);
                operation.sets.is_none() && operation.needs.iter().all(admitted)
            };
            let quiet: Vec<usize> = found.into_iter().filter(quiet).collect();
            if quiet.is_empty() {
                return;
            }
            quiet.into_iter().for_each(|n| self.take(n));
        }
    }

    /// Every known operation that may come next, and the worlds after it.
    fn choices(&self, world: &World) -> Vec<(usize, World)> {
        let (mut found, first_end) = self.candidates();
        found.sort_by_key(|n| self.known[*n].ended);
        let mut choices = Vec::new();
        for n in found {
            let operation = &self.known[n];
            for mut after in self.ways(world, &operation.needs, first_end) {
                if let Some((key, to)) = operation.sets {
                    after.held[key] = to;
                }
                choices.push((n, after));
            }
        }
        choices
    }

    /// The worlds that meet the needs, by as few unknown writes as possible (LIN-1): each is one that
    /// was begun by `now`, and may itself need another.
    fn ways(&self, world: &World, needs: &[(usize, Need)], now: u64) -> Vec<World> {
        let mut ways = vec![world.clone()];
        for (key, need) in needs {
            let each = ways.into_iter().flat_map(|way| self.ways_of(way, *key, *need, now));
            ways = each.collect();
        }
        ways
    }

    fn ways_of(&self, world: World, key: usize, need: Need, now: u64) -> Vec<World> {
        if need.admits(world.held[key]) {
            return vec![world];
        }
        let mut ways = Vec::new();
        for (n, unknown) in self.unknown.iter().enumerate() {
            let unused = unknown.begun.get(world.used[n] as usize);
            let there = unused.is_some_and(|begun| *begun <= now);
            if unknown.key != key || !need.admits(unknown.to) || !there {
                continue;
            }
            let mut world = world.clone();
            world.used[n] += 1;
            for mut way in self.ways_of(world, key, unknown.need, now) {
                way.held[key] = unknown.to;
                ways.push(way);
            }
        }
        ways
    }

    /// What the future depends on.
    fn signature(&self, world: &World) -> (usize, Vec<usize>, World) {
        let count = self.order.len() - self.low;
        let beyond = (self.low..self.known.len()).filter(|n| self.taken[*n]).take(count);
        (self.low, beyond.collect(), world.clone())
    }

    fn remember_furthest(&mut self, world: &World) {
        let taken = self.order.len();
        if taken > self.furthest.0 {
            self.furthest = (taken, HashSet::new());
        }
        if taken == self.furthest.0 {
            self.furthest.1.insert(world.held.clone());
        }
    }
}

/// What an operation demands of the keys.
fn needs(act: &Act, keys: &[String], index: &HashMap<&str, usize>) -> Vec<(usize, Need)> {
    match act {
        Act::Put { key, when, refused, .. } => {
            let need = match (when, refused) {
                (When::Always, _) => Need::Any,
                (When::Absent, false) => Need::Is(None),
                (When::Absent, true) => Need::Not(None),
                (When::Holds(value), false) => Need::Is(Some(*value)),
                (When::Holds(value), true) => Need::Not(Some(*value)),
            };
            vec![(index[&**key], need)]
        }
        Act::Delete { .. } => Vec::new(),
        Act::Read { key, saw } => vec![(index[&**key], Need::Is(*saw))],
        Act::List { from, to, saw } => {
            let inside = |key: &&String| (from..to).contains(key);
            let need = |key: &String| (index[&**key], Need::Is(saw.get(key).copied()));
            keys.iter().filter(inside).map(need).collect()
        }
    }
}
