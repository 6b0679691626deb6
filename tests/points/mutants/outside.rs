//! An object from a third party that is saved although it was deleted meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mocks3::points::Mutant;
use mocks3::types::Service;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::start;
use crate::checker::check;
use crate::clients::PROBES;
use crate::cluster::{Cluster, until};
use crate::history::{Act, Operation, Value, When};
use crate::s3::{Answer, S3};

const KEY: &str = "outside";
/// What the third party has under that key.
const VALUE: Value = 1;
/// How long it takes over each answer but the first.
const SLOW: Duration = Duration::from_secs(1);
/// How soon a task is executed that waits for nothing.
const SAVED: Duration = Duration::from_secs(10);

/// A third party that has everything; `http://address`. It counts how often it was asked.
async fn third_party(asked: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, asked.clone()));
        }
    });
    format!("http://{address}")
}

async fn answer(mut stream: TcpStream, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            n => request.extend(&piece[..n]),
        }
    }
    let body = VALUE.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}", body.len());
    if !request.starts_with(b"HEAD") {
        if asked.fetch_add(1, Ordering::Relaxed) > 0 {
            tokio::time::sleep(SLOW).await;
        }
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await
    } else {
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await
    }
}

/// Has the cluster ask it for what is not there; gives how often it does.
async fn ask_outside(cluster: &Cluster) -> Arc<AtomicUsize> {
    let asked = Arc::<AtomicUsize>::default();
    let node = |service| cluster.nodes[cluster.of(service)[0]].url();
    let config = json!({ "endpoint": third_party(asked.clone()).await, "timeout": "5s" });
    let source = json!({ "name": "outside", "type": "http", "config": config });
    let sources = format!("{}/api/v1/datasources", node(Service::ThirdParty));
    let switch = format!("{}/api/v1/buckets/{PROBES}/fallback", node(Service::Metadata));
    let add = cluster.http.post(sources).json(&source);
    let on = cluster.http.put(switch).json(&json!({ "enabled": true }));
    for request in [add, on] {
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }
    asked
}

/// Reads an object from outside, deletes it while it is being saved, and reads it again.
async fn read_and_delete(mutant: Option<Mutant>) -> Vec<Operation> {
    let (_dir, cluster) = start("metadata=1,storage=3,queue=1,third-party=1", mutant).await;
    let asked = ask_outside(&cluster).await;
    let s3 = S3::new(&cluster.edges()[0]);
    let (begun, key) = (Instant::now(), || KEY.to_owned());
    let now = || begun.elapsed().as_nanos() as u64;
    let mut history = Vec::new();
    let mut note = |from, act| {
        history.push(Operation { client: 0, begun: from, ended: Some(now()), act });
    };
    note(0, Act::Put { key: key(), value: VALUE, when: When::Always, refused: false });
    let from = now();
    note(from, Act::Read { key: key(), saw: read(&s3).await });
    let saving = async || {
        anyhow::ensure!(asked.load(Ordering::Relaxed) > 1, "not yet");
        Ok(())
    };
    until("it is being saved", SAVED, saving).await;
    let from = now();
    let deleted = s3.delete(PROBES, KEY).await;
    assert!(matches!(deleted, Answer::Told { status, .. } if status == 204), "{deleted:?}");
    note(from, Act::Delete { key: key() });
    tokio::time::sleep(2 * SLOW).await;
    let from = now();
    note(from, Act::Read { key: key(), saw: read(&s3).await });
    history
}

async fn read(s3: &S3) -> Option<Value> {
    match s3.read(reqwest::Method::GET, PROBES, KEY).await {
        Answer::Told { status, body, .. } if status == 200 => {
            Some(String::from_utf8_lossy(&body).parse().unwrap())
        }
        Answer::Told { status, .. } if status == 404 => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_object_that_a_save_brings_back_is_found_by_the_checker() {
    let found = check(&read_and_delete(None).await);
    assert!(found.is_ok(), "although no promise is broken: {found:?}");
    let found = check(&read_and_delete(Some(Mutant::SaveOverAnything)).await);
    eprintln!("found: {}", found.unwrap_err());
}
