//! The book of sources: those of the configuration and those added over HTTP, with the breaker and
//! the counts of each.
//!
//! Owned by the actor's state behind a lock; changed by its handler, read and marked by its
//! fetches.
//!
//! - `SOURCES-1` sources are asked by priority (lowest number first), then by name;
//! - `SOURCES-2` one that stands in the configuration is changed there only;
//! - `SOURCES-3` a secret key is never shown.

use reqwest::Client;

use super::breaker::Breaker;
use super::message::{Refusal, SourceCounts, SourceView};
use super::request;
use crate::config::{MAX_SOURCES, Source};
use crate::types::UnixMillis;

/// What stands for a secret in answers.
const HIDDEN: &str = "********";

/// When breakers trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// After so many failures in a row.
    pub failures: u32,
    /// For how long the first time.
    pub pause_ms: u64,
}

/// One source, with what is known of it.
struct Entry {
    source: Source,
    client: Client,
    added: bool,
    changed_ms: UnixMillis,
    breaker: Breaker,
    counts: SourceCounts,
}

/// A source that is to be asked.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its description.
    pub source: Source,
    /// Its connections.
    pub client: Client,
}

/// What a request to a source came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It had the object.
    Found,
    /// It did not.
    Absent,
    /// It failed.
    Failed,
    /// It works, but would not or could not give this one.
    Refused,
}

/// A source that was added over HTTP, as its file keeps it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Added {
    /// Its description.
    pub source: Source,
    /// When it was added or last replaced.
    pub changed_ms: UnixMillis,
}

/// All sources.
pub struct Sources {
    entries: Vec<Entry>,
    settings: BreakerSettings,
}

impl Sources {
    /// The sources of the configuration, and the added ones; of two of one name, the former.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        configured: &[Source],
        added: Vec<Added>,
        settings: BreakerSettings,
    ) -> reqwest::Result<Self> {
        let mut sources = Sources { entries: Vec::new(), settings };
        for source in configured {
            sources.insert(source.clone(), None)?;
        }
        for Added { source, changed_ms } in added {
            if sources.find(&source.name).is_none() {
                sources.insert(source, Some(changed_ms))?;
            }
        }
        Ok(sources)
    }

    fn insert(&mut self, source: Source, changed_ms: Option<UnixMillis>) -> reqwest::Result<()> {
        let client = request::client(&source)?;
        let name = source.name.clone();
        let entry = Entry {
            source,
            client,
            added: changed_ms.is_some(),
            changed_ms: changed_ms.unwrap_or(0),
            breaker: Breaker::new(self.settings.failures, self.settings.pause_ms),
            counts: SourceCounts::default(),
        };
        self.entries.retain(|e| e.source.name != name);
        self.entries.push(entry);
        self.entries.sort_by(|a, b| {
            (a.source.priority, &a.source.name).cmp(&(b.source.priority, &b.source.name))
        });
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.source.name == name)
    }

    fn find_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|e| e.source.name == name)
    }

    /// The sources to ask, in order (SOURCES-1); with `pinned` that one alone.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSource`] where the pinned one is not there or not enabled.
    pub fn candidates(&self, pinned: Option<&str>) -> Result<Vec<Candidate>, Refusal> {
        let wanted = |e: &&Entry| pinned.is_none_or(|p| p == e.source.name) && e.source.enabled;
        let give = |e: &Entry| Candidate { source: e.source.clone(), client: e.client.clone() };
        let found: Vec<Candidate> = self.entries.iter().filter(wanted).map(give).collect();
        if pinned.is_some() && found.is_empty() {
            return Err(Refusal::NoSuchSource);
        }
        Ok(found)
    }

    /// Whether a source may be asked now; a `true` must be followed by [`Sources::record`].
    pub fn allow(&mut self, name: &str, now: UnixMillis) -> bool {
        let Some(entry) = self.find_mut(name) else { return false };
        let allowed = entry.breaker.allow(now);
        if allowed {
            entry.counts.requests += 1;
        } else {
            entry.counts.skipped += 1;
        }
        allowed
    }

    /// What became of a request.
    pub fn record(&mut self, name: &str, came: Came, now: UnixMillis) {
        let Some(entry) = self.find_mut(name) else { return };
        match came {
            Came::Found => entry.counts.found += 1,
            Came::Absent => entry.counts.absent += 1,
            Came::Failed | Came::Refused => entry.counts.failed += 1,
        }
        entry.breaker.record(now, came != Came::Failed);
    }

    /// Whether a source may be added or replaced under this description.
    ///
    /// # Errors
    /// Why not.
    pub fn check_put(&self, source: &Source) -> Result<(), Refusal> {
        source
            .check()
            .map_err(|(field, reason)| Refusal::Invalid { field: field.into(), reason })?;
        match self.find(&source.name) {
            Some(entry) if !entry.added => Err(Refusal::Configured), // SOURCES-2
            None if self.entries.len() >= MAX_SOURCES => Err(Refusal::Invalid {
                field: "name".into(),
                reason: format!("there are {MAX_SOURCES} sources already"),
            }),
            _ => Ok(()),
        }
    }

    /// Whether a source may be removed.
    ///
    /// # Errors
    /// Why not.
    pub fn check_remove(&self, name: &str) -> Result<(), Refusal> {
        match self.find(name) {
            None => Err(Refusal::NoSuchSource),
            Some(entry) if !entry.added => Err(Refusal::Configured), // SOURCES-2
            Some(_) => Ok(()),
        }
    }

    /// Adds or replaces a source that passed [`Sources::check_put`]. A secret that reads as hidden
    /// stays as it was.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn put(&mut self, source: Source, now: UnixMillis) -> reqwest::Result<()> {
        self.insert(source, Some(now))
    }

    /// The description with the secret that its hidden form stands for.
    pub fn reveal(&self, mut source: Source) -> Source {
        if source.secret_key == HIDDEN
            && let Some(entry) = self.find(&source.name)
        {
            source.secret_key.clone_from(&entry.source.secret_key);
        }
        source
    }

    /// Forgets a source that passed [`Sources::check_remove`].
    pub fn remove(&mut self, name: &str) {
        self.entries.retain(|e| e.source.name != name);
    }

    /// Those that were added, for their file.
    pub fn added(&self) -> Vec<Added> {
        let added = self.entries.iter().filter(|e| e.added);
        added.map(|e| Added { source: e.source.clone(), changed_ms: e.changed_ms }).collect()
    }

    /// All, as they may be shown (SOURCES-3).
    pub fn views(&self, now: UnixMillis) -> Vec<SourceView> {
        self.entries
            .iter()
            .map(|e| {
                let mut source = e.source.clone();
                if !source.secret_key.is_empty() {
                    source.secret_key = HIDDEN.into();
                }
                SourceView {
                    source,
                    added: e.added,
                    changed_ms: e.changed_ms,
                    breaker: e.breaker.name(now).into(),
                    counts: e.counts,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, priority: u32, enabled: bool) -> Source {
        let text = format!(
            "name = \"{name}\"\ntype = \"s3\"\nendpoint = \"http://h\"\naccess_key = \"ak\"\n\
             secret_key = \"secret-{name}\"\npriority = {priority}\nenabled = {enabled}"
        );
        toml::from_str(&text).unwrap()
    }

    fn book(configured: &[Source]) -> Sources {
        let settings = BreakerSettings { failures: 2, pause_ms: 100 };
        Sources::new(configured, Vec::new(), settings).unwrap()
    }

    fn names(sources: &Sources, pinned: Option<&str>) -> Vec<String> {
        let found = sources.candidates(pinned).unwrap();
        found.into_iter().map(|c| c.source.name).collect()
    }

    #[test]
    fn enabled_sources_are_asked_by_priority_and_name() {
        let mut sources = book(&[
            source("c", 1, true),
            source("b", 2, true),
            source("a", 2, true),
            source("off", 0, false),
        ]);
        assert_eq!(names(&sources, None), ["c", "a", "b"]); // SOURCES-1
        assert_eq!(names(&sources, Some("b")), ["b"]);
        for pinned in ["off", "nobody"] {
            assert_eq!(sources.candidates(Some(pinned)).err(), Some(Refusal::NoSuchSource));
        }
        sources.put(source("z", 0, true), 1).unwrap();
        assert_eq!(names(&sources, None), ["z", "c", "a", "b"]);
        sources.remove("z");
        assert_eq!(names(&sources, None), ["c", "a", "b"]);
    }

    #[test]
    fn configured_sources_stay_as_they_are_and_secrets_are_not_shown() {
        let mut sources = book(&[source("fixed", 1, true)]);
        let refused = sources.check_put(&source("fixed", 9, true));
        assert_eq!(refused, Err(Refusal::Configured)); // SOURCES-2
        assert_eq!(sources.check_remove("fixed"), Err(Refusal::Configured));
        assert_eq!(sources.check_remove("x"), Err(Refusal::NoSuchSource));
        assert_eq!(sources.check_put(&source("x", 9, true)), Ok(()));
        sources.put(source("x", 9, true), 5).unwrap();
        assert!(!format!("{:?}", sources.views(0)).contains("secret-")); // SOURCES-3
        let edited = Source { priority: 3, ..sources.views(0)[1].source.clone() };
        let revealed = sources.reveal(edited);
        assert_eq!((&*revealed.secret_key, revealed.priority), ("secret-x", 3));
        assert_eq!(sources.added().len(), 1);
        let again = Sources::new(&[source("x", 1, true)], sources.added(), sources.settings);
        assert_eq!(again.unwrap().added().len(), 0, "the configuration wins");
    }

    #[test]
    fn a_failing_source_is_skipped_until_its_probe() {
        let mut sources = book(&[source("a", 1, true)]);
        for _ in 0..2 {
            assert!(sources.allow("a", 0));
            sources.record("a", Came::Failed, 0);
        }
        assert!(!sources.allow("a", 99));
        assert!(sources.allow("a", 100));
        sources.record("a", Came::Absent, 100);
        assert!(sources.allow("a", 100), "an honest 404 is a working source");
        let view = sources.views(100).remove(0);
        assert_eq!((view.counts.requests, view.counts.skipped, view.counts.failed), (4, 1, 2));
    }
}
