//! `mocks3 status`: the live cluster as a table or as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use super::Failure;
use crate::actors::supervisor::ActorNode;
use crate::cluster::MemberState;
use crate::http::admin::{ClusterView, MemberView, all_running};
use crate::http::groups::GroupView;
use crate::http::rebalance::Rebalance;

/// How wide the bar of the rebalancing is.
const BAR: u64 = 30;
/// A lag up to this is the normal one of a busy group.
const LAG_SHOWN: u64 = 100;

/// Arguments of `mocks3 status`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mocks3 status
  mocks3 status --watch
  mocks3 status --url http://127.0.0.1:8083 --json | jq '.members[] | {service, pid}'

JSON: {\"members\": [{service, instance, node, pid, state (live|lost), http_url, s3_url, data_address,
  cluster_address, actors: [{name, state, restarts, last_end?, summary?, children?}], lost_cause?,
  lag}], \"roles\": [{service, wanted, live}], \"groups\": [{service, group, leader, term, voters,
  learners, replicas: [{instance, id, applied, lag}], warning?}], \"rebalance\"?: {state
  (off|resting|counting|moving), nodes, copies, to_move, to_move_bytes, moved, moved_bytes,
  under_way, released, postponed, rate, since}}")]
pub struct StatusArgs {
    /// A node's HTTP address [default: the first of 127.0.0.1:8081-8085 that answers].
    #[arg(long, env = "MOCKS3_URL")]
    url: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Show every actor, how often it was restarted and why it ended the last time.
    #[arg(long, conflicts_with = "json")]
    actors: bool,
    /// Show it again every second until interrupted.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// Runs the command.
pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::run)?.block_on(async {
        let client = client()?;
        loop {
            let view = fetch(&client, args.url.as_deref()).await?;
            if args.json {
                let text = serde_json::to_string_pretty(&view).map_err(Failure::run)?;
                println!("{text}");
                return Ok(());
            }
            let clear = if args.watch { "\x1b[2J\x1b[H" } else { "" };
            let below = if args.actors { tree(&view) } else { String::new() };
            print!("{clear}{}{below}", table(&view));
            if !args.watch {
                return Ok(());
            }
            tokio::select! {
                () = super::stop_signal() => return Ok(()),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    })
}

/// An HTTP client for our own nodes.
pub fn client() -> Result<reqwest::Client, Failure> {
    let builder = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(1));
    builder.timeout(Duration::from_secs(5)).build().map_err(Failure::run)
}

/// The view of the node at this address, or of the first at the usual ones that answers.
pub async fn fetch(client: &reqwest::Client, url: Option<&str>) -> Result<ClusterView, Failure> {
    let urls = match url {
        Some(url) => vec![url.trim_end_matches('/').to_owned()],
        None => (8081..=8085).map(|port| format!("http://127.0.0.1:{port}")).collect(),
    };
    let mut last = String::new();
    for url in &urls {
        match fetch_one(client, url).await {
            Ok(view) => return Ok(view),
            Err(error) => last = format!("{url}: {error}"),
        }
    }
    let hint = "no node answers; is the cluster up, or does --url need another address?";
    Err(Failure::run(format!("{hint} ({last})")))
}

/// One node's view of the cluster.
pub async fn fetch_one(client: &reqwest::Client, url: &str) -> Result<ClusterView, reqwest::Error> {
    let answer = client.get(format!("{url}/api/v1/cluster")).send().await?;
    answer.error_for_status()?.json().await
}

/// The view as text.
fn table(view: &ClusterView) -> String {
    let mut text = String::new();
    let width = view.members.iter().map(|m| m.instance.len()).max().unwrap_or(8);
    let _ = writeln!(
        text,
        "{:<20} {:<width$} {:>7}  {:<9} {:<24} ACTORS",
        "SERVICE", "INSTANCE", "PID", "STATE", "HTTP"
    );
    for member in &view.members {
        let _ = writeln!(
            text,
            "{:<20} {:<width$} {:>7}  {:<9} {:<24} {}",
            member.service.name(),
            member.instance,
            member.pid,
            state(member),
            member.http_url,
            member.lost_cause.clone().unwrap_or_else(|| actors(&member.actors))
        );
    }
    for group in &view.groups {
        let _ = writeln!(text, "{}", group_line(group));
    }
    for role in view.roles.iter().filter(|role| role.live < role.wanted) {
        let _ = writeln!(text, "{}: only {} of {} run", role.service, role.live, role.wanted);
    }
    text += &view.rebalance.as_ref().map(rebalance).unwrap_or_default();
    text
}

/// A group in a line, with what an operator should know below it.
fn group_line(group: &GroupView) -> String {
    let leader = group.leader.as_deref().unwrap_or("nobody");
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut text = format!(
        "{:<20} led by {leader}, term {}, {}, {}",
        format!("{} group", group.service.short()),
        group.term,
        count(group.voters.len(), "voter"),
        count(group.learners.len(), "learner"),
    );
    for replica in group.replicas.iter().filter(|r| r.lag > LAG_SHOWN) {
        let _ = write!(text, ", {} is {} entries behind", replica.instance, replica.lag);
    }
    if let Some(warning) = &group.warning {
        let _ = write!(text, "\nwarning: {warning}");
    }
    text
}

/// How far objects are on their way to other storage nodes: a line while there is something to say.
fn rebalance(view: &Rebalance) -> String {
    let left = match view.postponed {
        0 => String::new(),
        n => format!(", {n} postponed"),
    };
    match view.state.as_str() {
        "moving" => {
            let (moved, all) = (view.moved.min(view.to_move), view.to_move.max(1));
            let full = (moved * BAR / all) as usize;
            let (done, open) = ("#".repeat(full), ".".repeat(BAR as usize - full));
            format!(
                "rebalancing [{done}{open}] {:>3} %  {moved} of {} copies, {} of {}, {}/s, \
                 {} under way, {} let go{left}\n",
                moved * 100 / all,
                view.to_move,
                size(view.moved_bytes),
                size(view.to_move_bytes),
                size(view.rate),
                view.under_way,
                view.released,
            )
        }
        "counting" => "rebalancing: counting what there is to move\n".into(),
        "resting" if view.moved + view.released + view.postponed > 0 => {
            format!("rebalanced: {} copies made, {} let go{left}\n", view.moved, view.released)
        }
        _ => String::new(),
    }
}

/// Bytes for the eye.
fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The actors of all members, a line each.
fn tree(view: &ClusterView) -> String {
    let mut text = String::new();
    for member in &view.members {
        let _ = writeln!(text, "\n{} ({})", member.instance, state(member));
        branches(&member.actors, 1, &mut text);
    }
    text
}

fn branches(nodes: &[ActorNode], depth: usize, text: &mut String) {
    for node in nodes {
        let indent = "  ".repeat(depth);
        let _ = write!(text, "{indent}{:<16} {}", node.name, node.state);
        if let Some(end) = &node.last_end {
            let _ = write!(text, ", restarted {} times, ended last: {end}", node.restarts);
        }
        text.push('\n');
        branches(&node.children, depth + 1, text);
    }
}

fn state(member: &MemberView) -> &'static str {
    match member.state {
        MemberState::Lost => "lost",
        MemberState::Live if member.actors.is_empty() => "silent",
        MemberState::Live if all_running(&member.actors) => "healthy",
        MemberState::Live => "degraded",
    }
}

/// Leaves that run, of all leaves, and those that do not.
fn actors(tree: &[ActorNode]) -> String {
    let mut leaves = Vec::new();
    collect("", tree, &mut leaves);
    let running = leaves.iter().filter(|(_, state)| state == "running").count();
    let mut text = format!("{running}/{} running", leaves.len());
    for (name, state) in leaves.iter().filter(|(_, state)| state != "running") {
        let _ = write!(text, ", {name} {state}");
    }
    text
}

fn collect(path: &str, tree: &[ActorNode], leaves: &mut Vec<(String, String)>) {
    for node in tree {
        let path = format!("{path}{}", node.name);
        if node.children.is_empty() {
            leaves.push((path, node.state.clone()));
        } else {
            collect(&format!("{path}/"), &node.children, leaves);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_does_not_run() {
        let node = |name: &str, state: &str, children: Vec<ActorNode>| ActorNode {
            name: name.into(),
            state: state.into(),
            children,
            ..ActorNode::default()
        };
        let below = vec![node("a", "running", vec![]), node("b", "waiting", vec![])];
        let tree = vec![node("metadata", "running", below), node("member", "running", vec![])];
        assert_eq!(actors(&tree), "2/3 running, metadata/b waiting");
        assert!(!all_running(&tree));
    }

    #[test]
    fn a_rebalancing_is_shown_with_a_bar_while_it_runs_and_with_its_result_after_it() {
        let view = |state: &str, moved| Rebalance {
            state: state.into(),
            to_move: 40,
            moved,
            to_move_bytes: 40 << 20,
            moved_bytes: moved << 20,
            rate: 1 << 20,
            under_way: 2,
            ..Rebalance::default()
        };
        let line = rebalance(&view("moving", 10));
        let bar = format!("[{}{}]  25 %", "#".repeat(7), ".".repeat(23));
        assert!(line.contains(&bar), "{line}");
        for part in ["10 of 40 copies", "10.0 MiB of 40.0 MiB", "1.0 MiB/s", "2 under way"] {
            assert!(line.contains(part), "{line} does not say {part}");
        }
        assert!(rebalance(&view("moving", 41)).contains("] 100 %"), "more came than were counted");
        assert!(rebalance(&view("moving", 0)).contains(&format!("[{}]", ".".repeat(30))));
        assert_eq!(rebalance(&view("resting", 0)), "");
        let postponed = Rebalance { postponed: 3, ..view("resting", 40) };
        assert_eq!(rebalance(&postponed), "rebalanced: 40 copies made, 0 let go, 3 postponed\n");
    }
}
