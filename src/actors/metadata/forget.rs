//! Forgets what ended long ago: aborted and freed data ids, finished uploads, request ids.
//!
//! Runs as a supervised task beside the metadata actor. They are kept for [`KEEP`], longer than any
//! upload attempt or retry can take: until then a late commit of an aborted id is refused, and a
//! repeated request gets its first answer.

use std::time::Duration;

use super::Message;
use super::command::Command;
use crate::actors::replicated::{Leads, until_leading};
use crate::cluster::{Cluster, Scope};
use crate::types::now_ms;

/// How long what ended is remembered.
pub const KEEP: Duration = Duration::from_secs(24 * 3600);
/// How often one page of it is forgotten.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long one page may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Forgets for ever, while the own replica leads.
pub async fn run(cluster: Cluster, leads: Leads) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        until_leading(&leads).await;
        let before_ms = now_ms().saturating_sub(KEEP.as_millis() as u64);
        let purge = Message::Apply(Command::PurgeAborted { before_ms });
        if let Err(error) = cluster.command(&Scope::new(LIMIT), purge).await {
            tracing::debug!(%error, "nothing was forgotten this time");
        }
    }
}
