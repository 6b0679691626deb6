//! The storage nodes and the space that they take.

use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::model::{NodeView, NodesView};
use crate::actors::metadata::query::{Query, QueryReply};
use crate::actors::storage_node::message::{Message, NodeStats, Reply};
use crate::cluster::{CallError, Scope, To};
use crate::http::error::ApiError;
use crate::http::json::{CALL_LIMIT, JsonEnv, RequestScope};
use crate::objects::metadata::{read, unexpected};

/// How long one node may take to answer.
const NODE_LIMIT: Duration = Duration::from_millis(1500);

/// `GET /api/v1/stats`.
pub async fn stats(
    State(env): State<JsonEnv>,
    scope: RequestScope,
) -> Result<Json<NodesView>, ApiError> {
    let scope = scope.with(CALL_LIMIT);
    let QueryReply::Members { members } = read(&env.objects, &scope, Query::Members).await? else {
        return Err(unexpected("Members").into());
    };
    let asked = members.into_iter().map(|id| ask(&env, &scope, id));
    Ok(Json(NodesView::new(futures::future::join_all(asked).await)))
}

async fn ask(env: &JsonEnv, scope: &Scope, id: String) -> NodeView {
    let scope = scope.within(NODE_LIMIT);
    let answer = env.objects.cluster.call(&scope, To::Instance(&id), Message::Stats).await;
    let (status, stats, error) = match answer {
        Ok(Ok(Reply::Stats(stats))) => ("healthy", stats, None),
        Ok(Ok(_)) => ("error", NodeStats::default(), Some("unexpected answer".to_owned())),
        Ok(Err(error)) => ("error", NodeStats::default(), Some(error.to_string())),
        Err(error) => (unanswered(&error), NodeStats::default(), Some(error.to_string())),
    };
    NodeView {
        id,
        status: status.into(),
        used_space: stats.disk_bytes,
        free_space: stats.free_bytes,
        live_space: stats.live_bytes,
        items: stats.items,
        error,
    }
}

/// A node that is there and does not serve is in error; one that is not there is unreachable.
fn unanswered(error: &CallError) -> &'static str {
    match error {
        CallError::NoMember(_) | CallError::Deadline | CallError::Dropped => "unreachable",
        CallError::Overload | CallError::TooLarge(_) | CallError::Refused(_) => "error",
    }
}
