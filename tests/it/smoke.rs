//! A node in one process serves real HTTP; several nodes in one process make a cluster.

use std::time::{Duration, Instant};

use mocks3::actors::storage_node::message::{Message, Reply};
use mocks3::cluster::{Scope, To};
use mocks3::config::Config;
use mocks3::types::Service;

use crate::node::{Running, a_cluster, alone};

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// Puts, gets, lists and deletes objects below and above the inline limit.
async fn works(writer: &Running, reader: &Running, bucket: &str) {
    let (writer, reader) = (writer.s3(bucket), reader.s3(bucket));
    writer.create_soon().await;
    for len in [0, 1, 64 * 1024, 3 << 20] {
        let (key, bytes) = (format!("k/{len}"), body(len));
        assert_eq!(writer.put(&key, &bytes).await, 200, "{key}");
        assert!(reader.get(&key).await == (200, bytes), "{key}");
    }
    assert_eq!(reader.list().await, ["k/0", "k/1", "k/3145728", "k/65536"]);
    assert_eq!(reader.delete("k/1").await, 204);
    assert_eq!(writer.get("k/1").await.0, 404);
    assert_eq!(writer.list().await, ["k/0", "k/3145728", "k/65536"]);
}

#[test]
fn one_process_with_all_services_serves_s3_and_health_and_keeps_its_objects() {
    let name = "smoke::one_process_with_all_services_serves_s3_and_health_and_keeps_its_objects";
    alone(name, || async {
        let dir = tempfile::tempdir().unwrap();
        let start = || Running::start(dir.path(), &Service::ALL, Vec::new(), Config::default());
        let node = start().await;
        works(&node, &node, "smoke").await;
        for (service, address) in &node.http {
            for path in ["health", "metrics", "openapi.json"] {
                let answer = reqwest::get(format!("http://{address}/{path}")).await.unwrap();
                assert_eq!(answer.status(), 200, "{service}: {path}");
            }
        }
        node.stop().await;
        let node = start().await;
        assert_eq!(node.s3("smoke").list().await, ["k/0", "k/3145728", "k/65536"]);
        let begun = Instant::now();
        while node.s3("smoke").get("k/3145728").await.0 == 503 {
            assert!(begun.elapsed() < Duration::from_secs(5), "the storage node does not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(node.s3("smoke").get("k/3145728").await == (200, body(3 << 20)));
        node.stop().await;
    });
}

#[test]
fn several_nodes_in_one_process_make_a_cluster_with_three_copies() {
    let name = "smoke::several_nodes_in_one_process_make_a_cluster_with_three_copies";
    alone(name, || async {
        let dir = tempfile::tempdir().unwrap();
        let first = [Service::Metadata, Service::Queue, Service::Storage];
        let config = Config::default;
        let a = Running::start(&dir.path().join("a"), &first, Vec::new(), config()).await;
        let seeds = vec![a.info.cluster_address.clone()];
        let storage = [Service::Storage];
        let b = Running::start(&dir.path().join("b"), &storage, seeds.clone(), config()).await;
        let c = Running::start(&dir.path().join("c"), &storage, seeds, config()).await;
        let begun = Instant::now();
        while let Some(missing) = missing(&[&a, &b, &c]).await {
            assert!(begun.elapsed() < Duration::from_secs(10), "{missing}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        works(&b, &c, "several").await;
        for node in [&a, &b, &c] {
            let begun = Instant::now();
            while items(node).await < 2 {
                assert!(begun.elapsed() < Duration::from_secs(10), "a copy is missing");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        for node in [c, b, a] {
            node.stop().await;
        }
    });
}

/// How many items the storage actor of a node holds.
async fn items(node: &Running) -> u64 {
    let scope = Scope::new(Duration::from_secs(5));
    let (cluster, to) = (a_cluster(), To::Instance(&node.info.instance));
    match cluster.call(&scope, to, Message::Stats).await.unwrap() {
        Ok(Reply::Stats(stats)) => stats.items,
        other => panic!("{other:?}"),
    }
}

/// Whom one of the nodes does not see yet.
async fn missing(nodes: &[&Running]) -> Option<String> {
    for node in nodes {
        let url = format!("{}/api/v1/cluster", node.info.http_url);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        for other in nodes {
            if !text.contains(&other.info.instance) {
                return Some(format!(
                    "{} does not see {}",
                    node.info.instance, other.info.instance
                ));
            }
        }
    }
    None
}
