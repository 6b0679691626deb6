//! Data that nobody deletes.

use std::time::Duration;

use mocks3::points::Mutant;

use super::{LOAD, ONE, load, start};
use crate::checks;
use crate::clients::Client;
use crate::run::just_referenced;

/// How long after the last delete its data may lie around: the grace, and the way of the task.
const GONE: Duration = Duration::from_secs(20);

/// Whether only what is referenced is on the nodes, as soon as all tasks are done.
async fn is_clean(mutant: Option<Mutant>) -> bool {
    let (_dir, cluster) = start(ONE, mutant).await;
    let load = load(&cluster, Client::run);
    tokio::time::sleep(LOAD).await;
    load.end().await;
    let clean = async {
        checks::no_open_task(&cluster).await;
        while let Err(why) = just_referenced(&cluster).await {
            eprintln!("left over: {why:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(GONE, clean).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_without_an_outbox_row_are_found_by_what_is_left_over() {
    assert!(is_clean(None).await, "data are left over although no promise is broken");
    assert!(!is_clean(Some(Mutant::DeleteWithoutOutbox)).await, "not found");
}
