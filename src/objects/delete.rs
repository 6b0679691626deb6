//! DELETE: metadata at once; the data's removal is an outbox row of the same commit.
//!
//! Called by the S3 edge, the JSON API and queue tasks.
//!
//! - `DELETE-1` a delete whose answer was lost may be sent again by the client; here it is sent
//!   again under the same request number, which metadata applies once;
//! - `DELETE-2` a task that is executed again deletes nothing that was written after its first
//!   execution: its request number belongs to the task.

use crate::actors::metadata::command::{Applied, Command, DeleteItem, DeletedItem, MAX_ITEMS};
use crate::actors::metadata::model::Refused;
use crate::cluster::Scope;
use crate::types::now_ms;

use super::error::FlowError;
use super::metadata::{apply, unexpected};
use super::{Env, bucket, new_request, new_version_id};

/// Where a command is cut, in bytes of keys.
const COMMAND_BYTES: usize = 96 * 1024;

/// One thing to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Key.
    pub key: String,
    /// Version to remove for good.
    pub version_id: Option<String>,
    /// ETag without quotes, or `*`.
    pub if_match: Option<String>,
}

/// Deletes keys or versions of the caller's bucket: one result each, in order.
///
/// # Errors
/// The bucket does not exist or is not the caller's, or metadata cannot be reached.
pub async fn delete(
    env: &Env,
    scope: &Scope,
    bucket: &str,
    caller: &str,
    targets: Vec<Target>,
) -> Result<Vec<Result<DeletedItem, Refused>>, FlowError> {
    bucket::get(env, scope, bucket, caller).await?;
    let mut results = Vec::with_capacity(targets.len());
    for targets in batches(targets) {
        results.extend(commit(env, scope, bucket, targets, new_request()).await?);
    }
    Ok(results)
}

/// Deletes one key under a request number of the caller's: once, however often it is called
/// (DELETE-2).
///
/// # Errors
/// As [`delete`]; refused as for one of its targets.
pub async fn delete_once(
    env: &Env,
    scope: &Scope,
    bucket: &str,
    target: Target,
    request: u128,
) -> Result<(), FlowError> {
    let results = commit(env, scope, bucket, vec![target], request).await?;
    results.into_iter().try_for_each(|result| result.map(drop)).map_err(FlowError::from)
}

async fn commit(
    env: &Env,
    scope: &Scope,
    bucket: &str,
    targets: Vec<Target>,
    request: u128,
) -> Result<Vec<Result<DeletedItem, Refused>>, FlowError> {
    let command = Command::Delete {
        bucket: bucket.to_owned(),
        items: targets.into_iter().map(item).collect(),
        request,
        now_ms: now_ms(),
        grace_ms: env.settings.grace_ms(),
    };
    match apply(env, scope, command).await? {
        Applied::Deleted { items } => Ok(items),
        _ => Err(unexpected("Delete")),
    }
}

fn item(target: Target) -> DeleteItem {
    let Target { key, version_id, if_match } = target;
    DeleteItem { key, version_id, marker_id: new_version_id(), if_match }
}

/// Cuts a list so that each command stays under the message limit.
fn batches(targets: Vec<Target>) -> Vec<Vec<Target>> {
    let mut all: Vec<Vec<Target>> = Vec::new();
    let mut room = 0;
    for target in targets {
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        let bytes = target.key.len() + text(&target.version_id) + text(&target.if_match) + 96;
        match all.last_mut() {
            Some(batch) if bytes <= room && batch.len() < MAX_ITEMS => {
                room -= bytes;
                batch.push(target);
            }
            _ => {
                room = COMMAND_BYTES.saturating_sub(bytes);
                all.push(vec![target]);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::codec::{MESSAGE_LIMIT, encoded_size};

    #[test]
    fn batches_keep_the_order_and_stay_under_the_message_limit() {
        let target = |key: String| Target { key, version_id: None, if_match: None };
        for len in [1, 20, 1024] {
            let targets: Vec<_> = (0..1000).map(|i| target(format!("{i:0>len$}"))).collect();
            let batches = batches(targets.clone());
            assert_eq!(batches.concat(), targets);
            for batch in batches {
                let items: Vec<_> = batch.into_iter().map(item).collect();
                assert!(items.len() <= MAX_ITEMS);
                assert!(encoded_size(&items) < MESSAGE_LIMIT - 1024);
            }
        }
        assert!(batches(Vec::new()).is_empty());
    }
}
