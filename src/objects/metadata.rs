//! Questions and commands to metadata, with the retries that they may have.
//!
//! Used by every flow. Each attempt goes to any live metadata actor; commands are idempotent
//! (COMMAND-2), so that one whose fate is unknown may be sent again.
//!
//! - `META-CALL-1` an answer or an error comes within `metadata_timeout`;
//! - `META-CALL-2` [`ApplyError::Unknown`] is said exactly where a command may have been applied
//!   and no answer came.

use std::time::Duration;

use crate::actors::metadata::command::{Applied, Command};
use crate::actors::metadata::model::Refused;
use crate::actors::metadata::query::{BucketInfo, Query, QueryReply};
use crate::actors::metadata::{Message, MetadataReply};
use crate::cluster::{CallError, Scope, To};

use super::Env;
use super::error::{FlowError, Unavailable};

/// How long is waited before the next attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a command was not applied, or is not known to be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Metadata refused: nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was not applied.
    #[error("metadata did not take the command: {0}")]
    NotDone(String),
    /// It may have been applied (META-CALL-2).
    #[error("metadata did not answer the command: {0}")]
    Unknown(String),
}

impl From<ApplyError> for FlowError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Refused(refused) => FlowError::Refused(refused),
            ApplyError::NotDone(why) => Unavailable::Call(why).into(),
            ApplyError::Unknown(_) => Unavailable::Unknown.into(),
        }
    }
}

/// Asks metadata.
///
/// # Errors
/// What metadata refused, or that it cannot be reached.
pub async fn read(env: &Env, scope: &Scope, query: Query) -> Result<QueryReply, FlowError> {
    let (reply, _) = call(env, scope, Message::Read(query)).await;
    match reply? {
        MetadataReply::Read(answer) => Ok(answer?),
        MetadataReply::Failed(why) => Err(Unavailable::Call(why).into()),
        _ => Err(unexpected("a question was answered as something else")),
    }
}

/// Changes metadata.
///
/// # Errors
/// See [`ApplyError`].
pub async fn apply(env: &Env, scope: &Scope, command: Command) -> Result<Applied, ApplyError> {
    let (reply, maybe_done) = call(env, scope, Message::Apply(command)).await;
    match reply {
        Ok(MetadataReply::Applied(outcome)) => Ok(outcome?),
        // "nothing was changed" speaks of this attempt; an earlier one may still have been applied
        Ok(MetadataReply::Failed(why)) if !maybe_done => Err(ApplyError::NotDone(why)),
        Ok(MetadataReply::Failed(why)) => Err(ApplyError::Unknown(why)),
        Ok(_) => Err(ApplyError::Unknown("a command was answered as something else".into())),
        Err(error) if maybe_done => Err(ApplyError::Unknown(error.to_string())),
        Err(error) => Err(ApplyError::NotDone(error.to_string())),
    }
}

/// The attempts of one message; the flag says that one of them may have been served unheard.
async fn call(
    env: &Env,
    scope: &Scope,
    message: Message,
) -> (Result<MetadataReply, CallError>, bool) {
    let scope = scope.within(env.settings.metadata_timeout);
    let mut maybe_done = false;
    loop {
        match env.cluster.call(&scope, To::Any, message.clone()).await {
            Ok(reply) => return (Ok(reply), maybe_done),
            Err(error) => {
                maybe_done |= error.outcome_unknown();
                if !worth_another(&error) || scope.remaining() <= PAUSE {
                    return (Err(error), maybe_done);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether another attempt may find what this one did not: a restarted actor, a reconnected peer.
fn worth_another(error: &CallError) -> bool {
    match error {
        CallError::NoMember(_) | CallError::Dropped => true,
        CallError::Overload
        | CallError::Deadline
        | CallError::TooLarge(_)
        | CallError::Refused(_) => false,
    }
}

/// A reply of the wrong kind: a mistake in the code, not of the client.
pub fn unexpected(what: &str) -> FlowError {
    FlowError::Internal(what.to_owned())
}

/// Refuses whoever does not own the bucket.
///
/// # Errors
/// `AccessDenied`.
pub fn check_owner(bucket: &BucketInfo, caller: &str) -> Result<(), FlowError> {
    if bucket.owner == caller { Ok(()) } else { Err(Refused::AccessDenied.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_time_heals_are_tried_again() {
        let again = [CallError::NoMember("metadata".into()), CallError::Dropped];
        let never = [CallError::Overload, CallError::Deadline, CallError::TooLarge(1)];
        assert!(again.iter().all(worth_another));
        assert!(!never.iter().any(worth_another));
    }
}
