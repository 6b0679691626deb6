//! That a cut is one: the nodes themselves notice it, and its end.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::cluster::{Cluster, Scale, until};

/// Members are given up after 1.5 s of silence; the rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(10);

/// Whether one node has the other in session.
async fn sees(cluster: &Cluster, one: usize, other: usize) -> anyhow::Result<bool> {
    let url = format!("{}/api/v1/cluster", cluster.nodes[one].url());
    let seen: Value = cluster.http.get(url).send().await?.json().await?;
    let is_other = |m: &&Value| m["instance"] == cluster.nodes[other].instance;
    let member = seen["members"].as_array().and_then(|all| all.iter().find(is_other));
    Ok(member.is_some_and(|m| m["state"] == "live"))
}

/// Waits until both see each other, or neither does.
async fn until_both(cluster: &Cluster, (a, b): (usize, usize), see: bool) {
    let ask = async || {
        let seen = [sees(cluster, a, b).await?, sees(cluster, b, a).await?];
        ensure!(seen == [see, see], "they see each other: {seen:?}, wanted {see}");
        Ok(())
    };
    until("both know it", NOTICED, ask).await;
}

#[test]
fn a_cut_link_parts_two_nodes_and_no_others_and_heals() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let scale = Scale::parse("metadata=1,storage=2");
        let cluster = Cluster::start(dir.path(), scale).await;
        let pairs = [(0, 1), (1, 2), (0, 2)];
        for pair in pairs {
            until_both(&cluster, pair, true).await;
        }
        // one way, the other way, both ways
        for cut in [vec![(1, 2)], vec![(2, 1)], vec![(1, 2), (2, 1)]] {
            cut.iter().for_each(|(from, to)| cluster.links.cut(*from, *to));
            until_both(&cluster, (1, 2), false).await;
            for pair in [(0, 1), (0, 2)] {
                until_both(&cluster, pair, true).await;
            }
            cut.iter().for_each(|(from, to)| cluster.links.heal(*from, *to));
            until_both(&cluster, (1, 2), true).await;
        }
    });
}
