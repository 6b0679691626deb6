//! Storage nodes over JSON: who counts in N, and taking one out for good.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::metadata::command::Command;
use crate::actors::metadata::query::{Query, QueryReply};
use crate::http::error::ApiError;
use crate::http::json::{CALL_LIMIT, JsonEnv, RequestScope, Segment};
use crate::http::rebalance::Rebalance;
use crate::objects::error::{FlowError, Unavailable};
use crate::objects::metadata::{apply, read, unexpected};
use crate::objects::rebalance;

/// One storage node.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Node {
    /// `storage-service-{uuid}`.
    instance: String,
    /// Whether it is in session.
    live: bool,
}

/// All storage nodes that count in N.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NodeList {
    /// In order of joining.
    nodes: Vec<Node>,
    /// How many.
    count: usize,
}

impl NodeList {
    /// An example.
    pub fn example() -> Self {
        let instance = "storage-service-6f0c6f0c-6f0c-4f0c-8f0c-6f0c6f0c6f0c".into();
        NodeList { nodes: vec![Node { instance, live: true }], count: 1 }
    }
}

/// `GET /api/v1/nodes`.
pub async fn list(
    State(env): State<JsonEnv>,
    scope: RequestScope,
) -> Result<Json<NodeList>, ApiError> {
    match read(&env.objects, &scope.with(CALL_LIMIT), Query::Members).await? {
        QueryReply::Members { members } => {
            let live = |instance: &str| is_live(&env, instance);
            let node = |instance: String| Node { live: live(&instance), instance };
            let nodes: Vec<Node> = members.into_iter().map(node).collect();
            Ok(Json(NodeList { count: nodes.len(), nodes }))
        }
        _ => Err(unexpected("Members").into()),
    }
}

/// `DELETE /api/v1/nodes/{instance}`.
pub async fn remove(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Segment(instance): Segment,
) -> Result<StatusCode, ApiError> {
    if is_live(&env, &instance) {
        let text = format!("{instance} is running: it would join again; stop it first");
        return Err(ApiError::conflict(text));
    }
    let command = Command::RemoveStorageNode { instance };
    apply(&env.objects, &scope.with(CALL_LIMIT), command).await.map_err(FlowError::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/rebalance`.
pub async fn rebalance(State(env): State<JsonEnv>) -> Result<Json<Rebalance>, ApiError> {
    let progress = rebalance::progress(&env.objects.cluster).await;
    let progress = progress
        .ok_or_else(|| FlowError::from(Unavailable::Call("no metadata node answers".into())))?;
    Ok(Json(progress.into()))
}

fn is_live(env: &JsonEnv, instance: &str) -> bool {
    env.objects.cluster.members().iter().any(|member| member.instance == instance)
}
