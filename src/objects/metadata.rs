//! Questions and commands to metadata.
//!
//! Used by every flow. Who is asked, and how often, is `cluster/ask.rs`'s.
//!
//! - `META-CALL-1` an answer or an error comes within `metadata_timeout`;
//! - `META-CALL-2` [`ApplyError::Unknown`] is said exactly where a command may have been applied
//!   and no answer came.

use crate::actors::metadata::command::{Applied, Command};
use crate::actors::metadata::model::Refused;
use crate::actors::metadata::query::{BucketInfo, Query, QueryReply};
use crate::actors::metadata::{Message, MetadataReply};
use crate::cluster::Scope;
use crate::points::{self, Point};

use super::Env;
use super::error::{FlowError, Unavailable};

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
    let scope = scope.within(env.settings.metadata_timeout);
    match env.cluster.question(&scope, Message::Read(query)).await? {
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
    let scope = scope.within(env.settings.metadata_timeout);
    let told = env.cluster.command(&scope, Message::Apply(command)).await;
    points::at(Point::EdgeAnswers);
    match told {
        Ok(MetadataReply::Applied(outcome)) => Ok(outcome?),
        Ok(MetadataReply::Failed(why)) => Err(ApplyError::NotDone(why)),
        Ok(_) => Err(ApplyError::Unknown("a command was answered as something else".into())),
        Err(error) if error.outcome_unknown() => Err(ApplyError::Unknown(error.to_string())),
        Err(error) => Err(ApplyError::NotDone(error.to_string())),
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
