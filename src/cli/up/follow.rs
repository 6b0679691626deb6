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

/// Lines in the order of time; what several nodes saw of one member is one line.
fn told_once(news: &[Event]) -> Vec<String> {
    let mut rows: Vec<(&Event, usize)> = Vec::new();
    for event in news {
        let member = matches!(event.kind, EventKind::MemberLost | EventKind::MemberLeft);
        let same =
            |(e, _): &&mut (&Event, usize)| e.kind == event.kind && e.subject == event.subject;
        match rows.iter_mut().find(same).filter(|_| member) {
            Some((_, seen)) => *seen += 1,
            None => rows.push((event, 1)),
        }
    }
    rows.sort_by_key(|(event, _)| event.at_ms);
    rows.into_iter().filter_map(|(event, seen)| line(event, seen)).collect()
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
        EventKind::PeerSupervisorEnded => format!("{subject}: role supervisor ended: {detail}"),
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
    fn what_several_nodes_saw_of_a_member_is_one_line_and_other_events_are_not_joined() {
        let event = |kind, who: &str, subject: &str| Event::now(kind, who, subject, "why");
        let news = [
            event(EventKind::MemberLost, "a", "x"),
            event(EventKind::MemberLost, "b", "x"),
            event(EventKind::MemberLost, "a", "y"),
            event(EventKind::ActorEnded, "a", "metadata/relay"),
            event(EventKind::ActorEnded, "a", "metadata/relay"),
            event(EventKind::ActorStarted, "a", "metadata/relay"),
        ];
        let lines = told_once(&news);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].ends_with("x lost (why), seen by 2 nodes"), "{lines:?}");
        assert!(lines[1].ends_with("y lost (why), seen by a"), "{lines:?}");
    }
}
