//! Which instances of a service a fault hits.
//!
//! - `CHOICE-1` the same candidates and seed give the same instances, in any order of candidates;
//! - `CHOICE-2` only candidates are chosen, none twice, and at least one: nobody to hit is an error;
//! - `CHOICE-3` with the same seed a larger share contains a smaller one: a blast radius that grows
//!   does not move.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::shape::hash_of;

/// Which of the instances that match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Instances {
    /// One, by the seed.
    #[default]
    One,
    /// All.
    All,
    /// So many, by the seed; all where there are fewer.
    Count(u32),
    /// So many percent, rounded up, by the seed.
    Percent(u32),
    /// As many as may fail while a majority is left; at least one.
    Minority,
    /// The fewest that are a majority.
    Majority,
    /// Whoever leads the group of the service.
    Leader,
    /// The one with this id.
    Id(String),
    /// Those with this label.
    Label {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// What would be right, for errors.
pub const EXPECTED: &str = "expected one, any, all, a count (\"2\"), a percentage (\"50%\"), minority, \
     majority, leader, an instance id, or a label (\"zone=a\")";

impl FromStr for Instances {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || Err(format!("{EXPECTED}, got {text:?}"));
        Ok(match text {
            "one" | "any" => Instances::One,
            "all" | "*" => Instances::All,
            "minority" => Instances::Minority,
            "majority" => Instances::Majority,
            "leader" => Instances::Leader,
            _ if text.ends_with('%') => match text[..text.len() - 1].parse() {
                Ok(percent @ 1..=100) => Instances::Percent(percent),
                _ => return wrong(),
            },
            _ if text.starts_with(|c: char| c.is_ascii_digit()) => match text.parse() {
                Ok(count @ 1..) => Instances::Count(count),
                _ => return wrong(),
            },
            _ => match text.split_once('=') {
                Some(("", _) | (_, "")) => return wrong(),
                Some((name, value)) => {
                    Instances::Label { name: name.to_owned(), value: value.to_owned() }
                }
                None if text.starts_with(char::is_alphabetic) && text.contains('-') => {
                    Instances::Id(text.to_owned())
                }
                None => return wrong(),
            },
        })
    }
}

impl fmt::Display for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instances::One => f.write_str("one"),
            Instances::All => f.write_str("all"),
            Instances::Count(count) => write!(f, "{count}"),
            Instances::Percent(percent) => write!(f, "{percent}%"),
            Instances::Minority => f.write_str("minority"),
            Instances::Majority => f.write_str("majority"),
            Instances::Leader => f.write_str("leader"),
            Instances::Id(id) => f.write_str(id),
            Instances::Label { name, value } => write!(f, "{name}={value}"),
        }
    }
}

impl From<Instances> for String {
    fn from(instances: Instances) -> String {
        instances.to_string()
    }
}

impl TryFrom<String> for Instances {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// An instance that could be hit: alive, and of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id, `{service}-{uuid}`.
    pub id: String,
    /// Whether it leads its group; of a service without replicas nobody does.
    pub leads: bool,
    /// Its labels.
    pub labels: Vec<(String, String)>,
}

impl Instances {
    /// Chooses among the candidates, in the order of their ids.
    ///
    /// # Errors
    /// Why nobody is hit.
    pub fn choose(&self, candidates: &[Candidate], seed: u64) -> Result<Vec<String>, String> {
        let n = candidates.len();
        let by_seed = |count: usize| {
            let mut ids: Vec<&Candidate> = candidates.iter().collect();
            ids.sort_by_key(|c| (hash_of(seed, c.id.as_bytes()), &c.id)); // CHOICE-3
            ids.truncate(count.max(1));
            ids
        };
        let chosen = match self {
            Instances::One => by_seed(1),
            Instances::All => by_seed(n),
            Instances::Count(count) => by_seed(*count as usize),
            Instances::Percent(percent) => by_seed((n * *percent as usize).div_ceil(100)),
            Instances::Minority => by_seed(n.saturating_sub(1) / 2),
            Instances::Majority => by_seed(n / 2 + 1),
            Instances::Leader => candidates.iter().filter(|c| c.leads).collect(),
            Instances::Id(id) => candidates.iter().filter(|c| c.id == *id).collect(),
            Instances::Label { name, value } => {
                let has = |c: &&Candidate| c.labels.iter().any(|(n, v)| n == name && v == value);
                candidates.iter().filter(has).collect()
            }
        };
        let mut ids: Vec<String> = chosen.into_iter().map(|c| c.id.clone()).collect();
        ids.sort();
        ids.dedup();
        match ids.is_empty() {
            false => Ok(ids),
            true if n == 0 => Err("no instance of this service is there".into()),
            true => Err(format!("{self} matches none of the {n} instances that are there")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(n: usize) -> Vec<Candidate> {
        let zone = |n: usize| vec![("zone".to_owned(), ["a", "b"][n % 2].to_owned())];
        let one = |n| Candidate { id: format!("storage-{n:02}"), leads: n == 1, labels: zone(n) };
        (0..n).map(one).collect()
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("one".into()),
            Just("all".into()),
            Just("minority".into()),
            Just("majority".into()),
            (1_u32..20).prop_map(|n| n.to_string()),
            (1_u32..=100).prop_map(|n| format!("{n}%")),
        ]
    }

    #[test]
    fn as_many_are_chosen_as_was_said() {
        let rows = [
            ("one", 3, 1),
            ("any", 3, 1),
            ("all", 3, 3),
            ("2", 3, 2),
            ("9", 3, 3),
            ("50%", 3, 2),
            ("1%", 3, 1),
            ("100%", 3, 3),
            ("minority", 5, 2),
            ("minority", 4, 1),
            ("minority", 1, 1),
            ("majority", 5, 3),
            ("majority", 4, 3),
            ("majority", 1, 1),
            ("leader", 3, 1),
            ("storage-02", 3, 1),
            ("zone=a", 5, 3),
        ];
        for (text, n, count) in rows {
            let instances: Instances = text.parse().unwrap();
            let chosen = instances.choose(&candidates(n), 7).unwrap();
            assert_eq!(chosen.len(), count, "{text} of {n}: {chosen:?}");
        }
        let leader: Instances = "leader".parse().unwrap();
        assert_eq!(leader.choose(&candidates(3), 0).unwrap(), ["storage-01"]);
    }

    #[test]
    fn nobody_to_hit_is_an_error_that_says_why() {
        for (text, n) in [("all", 0), ("leader", 1), ("storage-77", 3), ("zone=c", 3)] {
            let instances: Instances = text.parse().unwrap();
            instances.choose(&candidates(n), 0).unwrap_err();
        }
    }

    #[test]
    fn what_names_no_instances_is_refused() {
        for bad in ["", "some", "0", "0%", "101%", "-1", "1.5", "=a", "zone=", "%", "x%"] {
            assert!(bad.parse::<Instances>().is_err(), "{bad}");
        }
        assert!("some".parse::<Instances>().unwrap_err().contains("minority"));
    }

    proptest! {
        #[test]
        fn the_choice_is_of_candidates_and_does_not_depend_on_their_order(
            text in text(), n in 1_usize..30, seed: u64,
        ) {
            let instances: Instances = text.parse().unwrap();
            prop_assert_eq!(instances.to_string().parse(), Ok(instances.clone()));
            let mut all = candidates(n);
            let chosen = instances.choose(&all, seed).unwrap();
            prop_assert!(chosen.iter().all(|id| all.iter().any(|c| c.id == *id)));
            all.reverse();
            prop_assert_eq!(chosen, instances.choose(&all, seed).unwrap()); // CHOICE-1
        }

        #[test]
        fn a_larger_share_contains_a_smaller_one(n in 1_usize..30, a in 1_u32..30, seed: u64) {
            let all = candidates(n);
            let few = Instances::Count(a).choose(&all, seed).unwrap();
            let more = Instances::Count(a + 1).choose(&all, seed).unwrap();
            prop_assert!(few.iter().all(|id| more.contains(id)));
        }
    }
}
