//! The end of data that no commit took: abort in metadata first, and only then clean up.
//!
//! Used by the write flows. [`Guard`] stands for data that may lie on storage nodes without a row;
//! dropping it, for whatever reason (error, client gone, actor killed), begins the abort.
//!
//! - `ABORT-1` every data id that was offered to a storage node is either committed or aborted,
//!   unless this process dies or metadata stays away for `abort_limit`: then the orphan check of
//!   the storage nodes finds it;
//! - `ABORT-2` an abort is sent again until metadata answers; its answer `Referenced` means that
//!   the commit did happen.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::actors::metadata::command::{AbortAnswer, Applied, Command};
use crate::actors::storage_node::message as storage;
use crate::cluster::{Scope, To};
use crate::points::{self, Mutant, Point};
use crate::types::{DataId, Service, now_ms};

use super::Env;
use super::metadata::{self, ApplyError};

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How long a client is kept waiting for the fate of its commit.
const PATIENCE: Duration = Duration::from_millis(150);

/// Aborts its data when dropped, unless they were committed.
pub struct Guard {
    env: Env,
    scope: Scope,
    data_id: DataId,
    armed: bool,
}

impl Guard {
    /// Stands guard over data that are about to be offered to storage nodes.
    pub fn new(env: &Env, scope: &Scope, data_id: DataId) -> Self {
        Guard { env: env.clone(), scope: *scope, data_id, armed: true }
    }

    /// The data have a row.
    pub fn committed(mut self) {
        self.armed = false;
    }

    /// Aborts now; `true` where it turns out, soon enough to tell, that the commit did happen.
    pub async fn did_commit(mut self) -> bool {
        self.armed = false;
        let answer = begin(&self.env, &self.scope, self.data_id);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        matches!(answer, Ok(Ok(Some(AbortAnswer::Referenced))))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed && tokio::runtime::Handle::try_current().is_ok() {
            drop(begin(&self.env, &self.scope, self.data_id)); // nobody waits for the answer
        }
    }
}

/// Aborts in the background, beyond the life of the request.
fn begin(env: &Env, scope: &Scope, data_id: DataId) -> oneshot::Receiver<Option<AbortAnswer>> {
    let (tx, rx) = oneshot::channel();
    let (env, scope) = (env.clone(), *scope);
    tokio::spawn(async move {
        let _ = tx.send(settle(&env, &scope, data_id).await); // the request may have been answered
    });
    rx
}

/// Sends the abort until metadata answers (ABORT-2); `None` = given up, left to the orphan check.
async fn settle(env: &Env, scope: &Scope, data_id: DataId) -> Option<AbortAnswer> {
    points::at(Point::Aborting);
    if points::breaks(Mutant::CleanupBeforeAbort) {
        clean_up(env, scope, data_id).await;
    }
    let give_up = Instant::now() + env.settings.abort_limit;
    let mut pause = Duration::from_millis(100);
    loop {
        let command = Command::Abort { data_ids: vec![data_id], now_ms: now_ms() };
        let scope = scope.detached(env.settings.metadata_timeout);
        match metadata::apply(env, &scope, command).await {
            Ok(Applied::AbortedData { answers }) => return answers.first().copied(),
            Ok(other) => {
                tracing::error!(?other, %data_id, "abort was answered with something else");
                return None;
            }
            Err(ApplyError::Refused(refused)) => {
                tracing::error!(%refused, %data_id, "abort was refused");
                return None;
            }
            Err(_) if Instant::now() + pause > give_up => {
                tracing::warn!(%data_id, "abort given up, left to the orphan check");
                return None;
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// What only the mutant does: deletes the data from every storage node, whatever became of the commit.
async fn clean_up(env: &Env, scope: &Scope, data_id: DataId) {
    let scope = scope.detached(env.settings.node_timeout);
    let nodes =
        env.cluster.members().into_iter().filter(|m| m.services.contains(&Service::Storage));
    for node in nodes {
        let request = storage::Message::Delete { data_ids: vec![data_id] };
        let _ = env.cluster.call(&scope, To::Instance(&node.instance), request).await;
    }
}
