//! Follows the events of all nodes and tells them as lines.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::events::{Event, EventKind};
use crate::http::admin::rfc3339;
use crate::types::now_ms;

const INTERVAL: Duration = Duration::from_secs(1);
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// What was seen of each node.
#[derive(Default)]
pub struct Follower {
    seen: HashMap<String, u64>,
    last: Option<Instant>,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Event>,
    next: u64,
}

impl Follower {
    /// New events of all nodes, as lines; asks at most once a second.
    pub async fn look(&mut self, client: &reqwest::Client, urls: &[String]) -> Vec<String> {
        if self.last.is_some_and(|at| at.elapsed() < INTERVAL) {
            return Vec::new();
        }
        self.last = Some(Instant::now());
        let asked = urls.iter().map(|url| ask(client, url, self.seen.get(url).copied()));
        let pages = futures::future::join_all(asked).await;
        let mut news: Vec<Event> = Vec::new();
        for (url, page) in urls.iter().zip(pages) {
            match page {
                Some(page) => {
                    // the first look only finds out where the node's events stand
                    let known = self.seen.insert(url.clone(), page.next).is_some();
                    news.extend(page.events.into_iter().filter(|_| known));
                }
                None => {
                    self.seen.insert(url.clone(), 0); // it starts counting anew
                }
            }
        }
        told_once(&news)
    }
}

/// Whether nodes tell this of others, and not of themselves.
fn is_seen(kind: EventKind) -> bool {
    match kind {
        EventKind::MemberLost
        | EventKind::MemberLeft
        | EventKind::PeerSupervisorEnded
        | EventKind::RoleBelow
        | EventKind::RoleWhole => true,
        EventKind::MemberJoined
        | EventKind::ActorStarted
        | EventKind::ActorEnded
        | EventKind::Escalated
        | EventKind::LeaderElected
        | EventKind::VotersChanged
        | EventKind::ReplicaAdded
        | EventKind::ReplicaRemoved => false,
    }
}

/// Lines in the order of time; what several nodes saw of another is one line.
fn told_once(news: &[Event]) -> Vec<String> {
    let mut rows: Vec<(&Event, Vec<&str>)> = Vec::new();
    for event in news {
        let also = |(first, by): &&mut (&Event, Vec<&str>)| {
            let same = first.kind == event.kind && first.subject == event.subject;
            same && is_seen(event.kind) && !by.contains(&event.instance.as_str())
        };
        match rows.iter_mut().find(also) {
            Some((_, by)) => by.push(&event.instance),
            None => rows.push((event, vec![&event.instance])),
        }
    }
    rows.sort_by_key(|(event, _)| event.at_ms);
    rows.into_iter().filter_map(|(event, by)| line(event, by.len())).collect()
}

async fn ask(client: &reqwest::Client, url: &str, after: Option<u64>) -> Option<Page> {
    let after = after.unwrap_or(0);
    let url = format!("{url}/api/v1/events?after={after}&limit=1000");
    client.get(url).timeout(ASK_LIMIT).send().await.ok()?.json().await.ok()
}

fn line(event: &Event, seen: usize) -> Option<String> {
    let Event { at_ms, instance, subject, detail, .. } = event;
    let by = if seen > 1 { format!("{seen} nodes") } else { instance.clone() };
    let what = match event.kind {
        EventKind::ActorStarted | EventKind::MemberJoined => return None, // told by what follows
        EventKind::ActorEnded => format!("{instance}: actor {subject} ended: {detail}"),
        EventKind::Escalated => format!("{instance}: supervisor of {subject} gave up: {detail}"),
        EventKind::MemberLost => format!("{subject} lost ({detail}), seen by {by}"),
        EventKind::MemberLeft => format!("{subject} left, seen by {by}"),
        EventKind::RoleBelow => format!("{subject}: {detail}, seen by {by}"),
        EventKind::RoleWhole => format!("{subject}: {detail} again, seen by {by}"),
        EventKind::LeaderElected => format!("{subject} leads {detail}"),
        EventKind::VotersChanged => format!("{subject}: voters now {detail}"),
        EventKind::ReplicaAdded => format!("{subject} replicates {detail}"),
        EventKind::ReplicaRemoved => format!("{subject} replicates no longer: {detail}"),
        EventKind::PeerSupervisorEnded => {
            format!("{subject}: role supervisor ended: {detail}, seen by {by}")
        }
    };
    Some(format!("{} {what}", rfc3339(*at_ms)))
}

/// A line with the time in front.
pub fn stamped(line: &str) -> String {
    format!("{} {line}", rfc3339(now_ms()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_nodes_saw_of_another_is_one_line_and_other_events_are_not_joined() {
        let event = |kind, who: &str, subject: &str| Event::now(kind, who, subject, "why");
        let news = [
            event(EventKind::MemberLost, "a", "x"),
            event(EventKind::MemberLost, "b", "x"),
            event(EventKind::MemberLost, "a", "y"),
            event(EventKind::ActorEnded, "a", "metadata/relay"),
            event(EventKind::ActorEnded, "a", "metadata/relay"),
            event(EventKind::ActorStarted, "a", "metadata/relay"),
            event(EventKind::PeerSupervisorEnded, "a", "queue@x"),
            event(EventKind::PeerSupervisorEnded, "b", "queue@x"),
            event(EventKind::PeerSupervisorEnded, "a", "queue@x"), // and once more
        ];
        let lines = told_once(&news);
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(lines[4].ends_with("queue@x: role supervisor ended: why, seen by 2 nodes"));
        assert!(lines[5].ends_with("queue@x: role supervisor ended: why, seen by a"));
        assert!(lines[0].ends_with("x lost (why), seen by 2 nodes"), "{lines:?}");
        assert!(lines[1].ends_with("y lost (why), seen by a"), "{lines:?}");
    }
}
