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
        let mut lines = Vec::new();
        for (url, page) in urls.iter().zip(pages) {
            match page {
                Some(page) => {
                    // the first look only finds out where the node's events stand
                    let known = self.seen.insert(url.clone(), page.next).is_some();
                    lines.extend(page.events.iter().filter(|_| known).filter_map(line));
                }
                None => {
                    self.seen.insert(url.clone(), 0); // it starts counting anew
                }
            }
        }
        lines
    }
}

async fn ask(client: &reqwest::Client, url: &str, after: Option<u64>) -> Option<Page> {
    let after = after.unwrap_or(0);
    let url = format!("{url}/api/v1/events?after={after}&limit=1000");
    client.get(url).timeout(ASK_LIMIT).send().await.ok()?.json().await.ok()
}

fn line(event: &Event) -> Option<String> {
    let what = match event.kind {
        EventKind::ActorStarted | EventKind::MemberJoined => return None, // told by what follows
        EventKind::ActorEnded => "actor ended",
        EventKind::Escalated => "supervisor gave up",
        EventKind::MemberLost => "lost",
        EventKind::MemberLeft => "left",
        EventKind::PeerSupervisorEnded => "supervisor of a peer ended",
    };
    let Event { at_ms, instance, subject, detail, .. } = event;
    Some(format!("{} {instance}: {what}: {subject} {detail}", rfc3339(*at_ms)))
}

/// A line with the time in front.
pub fn stamped(line: &str) -> String {
    format!("{} {line}", rfc3339(now_ms()))
}
