//! What happened on this node that an operator wants to see: actors and members coming and going.
//!
//! A bounded ring, numbered, so that a reader can ask for what came since its last look.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::types::{UnixMillis, now_ms};

/// How many events are kept.
const KEEP: usize = 4096;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An actor came up.
    ActorStarted,
    /// An actor ended; the detail is its cause.
    ActorEnded,
    /// A supervisor gave up.
    Escalated,
    /// A member came into session.
    MemberJoined,
    /// A member was lost.
    MemberLost,
    /// A member said goodbye.
    MemberLeft,
    /// A role supervisor of a peer ended.
    PeerSupervisorEnded,
    /// Fewer instances of a service run than are wanted.
    RoleBelow,
    /// All that are wanted run again.
    RoleWhole,
    /// A replica leads its group from now on; the detail is group and term.
    LeaderElected,
    /// The voters of a group are others from now on; the detail names them.
    VotersChanged,
    /// A replica was taken into its group.
    ReplicaAdded,
    /// A replica was taken out of its group.
    ReplicaRemoved,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number on this node, from 1.
    pub number: u64,
    /// When.
    pub at_ms: UnixMillis,
    /// What kind.
    pub kind: EventKind,
    /// The instance that saw it.
    pub instance: String,
    /// Whom it happened to.
    pub subject: String,
    /// Why or how, in words.
    pub detail: String,
}

impl Event {
    /// An event of this moment; the log gives it its number.
    pub fn now(kind: EventKind, instance: &str, subject: &str, detail: &str) -> Self {
        let (instance, subject, detail) = (instance.into(), subject.into(), detail.into());
        Event { number: 0, at_ms: now_ms(), kind, instance, subject, detail }
    }
}

/// The ring of events.
#[derive(Default)]
pub struct EventLog {
    ring: Mutex<(u64, VecDeque<Event>)>,
}

impl EventLog {
    /// Adds an event and logs it.
    pub fn record(&self, mut event: Event) {
        tracing::info!(kind = ?event.kind, subject = event.subject, detail = event.detail, "event");
        let mut ring = self.ring.lock().expect("no panic while the ring is held");
        ring.0 += 1;
        event.number = ring.0;
        if ring.1.len() == KEEP {
            ring.1.pop_front();
        }
        ring.1.push_back(event);
    }

    /// Up to `limit` events with a number above `after`, oldest first.
    pub fn since(&self, after: u64, limit: usize) -> Vec<Event> {
        let ring = self.ring.lock().expect("no panic while the ring is held");
        ring.1.iter().filter(|e| e.number > after).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_what_came_since_its_last_look_and_the_ring_is_bounded() {
        let log = EventLog::default();
        for i in 0..KEEP + 10 {
            log.record(Event::now(EventKind::ActorEnded, "i", &i.to_string(), ""));
        }
        let all = log.since(0, usize::MAX);
        assert_eq!((all.len(), all[0].number), (KEEP, 11));
        let last = log.since(KEEP as u64 + 9, 10);
        assert_eq!(last.iter().map(|e| e.subject.as_str()).collect::<Vec<_>>(), ["4105"]);
    }
}
