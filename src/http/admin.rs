//! What every node answers on each of its HTTP ports: health, metrics, the cluster and its actors.
//!
//! `GET /health`, `GET /metrics`, `GET /api/v1/cluster`, `GET /api/v1/actors`, `GET /api/v1/events`.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use crate::actors::member::{self, Root};
use crate::actors::supervisor::ActorNode;
use crate::cluster::{Cluster, MemberInfo, MemberState};
use crate::events::{Event, EventLog};
use crate::metrics;
use crate::types::{Service, UnixMillis, now_ms};

/// What these routes need of the node.
#[derive(Clone)]
pub struct Admin {
    /// The service whose port this is.
    pub service: Service,
    /// The way to the peers.
    pub cluster: Cluster,
    /// The own tree.
    pub root: Root,
    /// The own events.
    pub events: Arc<EventLog>,
}

/// One member in `GET /api/v1/cluster` and `mocks3 status --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// `storage-service`.
    pub service: Service,
    /// `storage-service-{uuid}`.
    pub instance: String,
    /// Node name with incarnation, `{instance}#{incarnation}`.
    pub node: String,
    /// Process id on its machine.
    pub pid: u32,
    /// `live`: in session; `lost`: the session ended without a word.
    pub state: MemberState,
    /// Its JSON API.
    pub http_url: String,
    /// Its S3 endpoint, where it has one.
    pub s3_url: Option<String>,
    /// `host:port` of its data plane, where it has one.
    pub data_address: Option<String>,
    /// `host:port` of its cluster listener.
    pub cluster_address: String,
    /// Its actor tree; empty where it does not answer.
    pub actors: Vec<ActorNode>,
    /// Entries that its replica is behind; 0 while every group has one member.
    pub lag: u64,
}

/// `GET /api/v1/cluster`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The members, ordered by service and instance.
    pub members: Vec<MemberView>,
}

/// The routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(prometheus))
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/actors", get(actors))
        .route("/api/v1/events", get(events))
        .with_state(admin)
}

/// Whether all actors of the node run.
pub fn all_running(tree: &[ActorNode]) -> bool {
    !tree.is_empty() && tree.iter().all(|a| a.state == "running" && below_running(a))
}

fn below_running(node: &ActorNode) -> bool {
    node.children.is_empty() || all_running(&node.children)
}

async fn health(State(admin): State<Admin>) -> Response {
    let healthy = all_running(&member::tree(&admin.root).await);
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "status": if healthy { "healthy" } else { "unhealthy" },
        "service": admin.service.name(),
        "instance": admin.cluster.instance(),
        "timestamp": rfc3339(now_ms()),
        "error": (!healthy).then_some("not all actors of this node are running"),
    });
    (status, Json(body)).into_response()
}

/// A time in RFC 3339, UTC, with milliseconds.
pub fn rfc3339(at: UnixMillis) -> String {
    let nanos = i128::from(at) * 1_000_000;
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    let text = time.and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_default()
}

async fn prometheus() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, metrics::get().text()).into_response()
}

async fn cluster(State(admin): State<Admin>) -> Json<ClusterView> {
    let own = admin.cluster.instance().to_owned();
    let lost = admin.cluster.table().others().into_iter();
    let lost = lost.filter(|m| m.state == MemberState::Lost).map(|m| (m.info, MemberState::Lost));
    let live = admin.cluster.members().into_iter().map(|m| (m, MemberState::Live));
    let views = live.chain(lost).map(|(info, state)| {
        let (admin, own) = (&admin, &own);
        async move {
            let actors = match state {
                MemberState::Live if info.instance == *own => member::tree(&admin.root).await,
                MemberState::Live => {
                    member::tree_of(&admin.cluster, &info.instance).await.unwrap_or_default()
                }
                MemberState::Lost => Vec::new(),
            };
            view(info, state, actors)
        }
    });
    let nested = futures::future::join_all(views).await;
    let mut members: Vec<MemberView> = nested.into_iter().flatten().collect();
    members.sort_by(|a, b| (a.service, &a.instance).cmp(&(b.service, &b.instance)));
    Json(ClusterView { members })
}

/// One row per service of the node.
fn view(info: MemberInfo, state: MemberState, actors: Vec<ActorNode>) -> Vec<MemberView> {
    let node = info.node_name();
    let row = |service: &Service| MemberView {
        service: *service,
        instance: info.instance.clone(),
        node: node.clone(),
        pid: info.pid,
        state,
        http_url: info.http_url.clone(),
        s3_url: info.s3_url.clone(),
        data_address: info.data_address.clone(),
        cluster_address: info.cluster_address.clone(),
        actors: actors.clone(),
        lag: 0,
    };
    info.services.iter().map(row).collect()
}

/// `GET /api/v1/actors`: the tree of every live node.
async fn actors(State(admin): State<Admin>) -> Json<serde_json::Value> {
    let Json(view) = cluster(State(admin)).await;
    let nodes: Vec<serde_json::Value> = view
        .members
        .into_iter()
        .map(|m| {
            serde_json::json!({ "service": m.service, "instance": m.instance, "state": m.state,
                                "actors": m.actors })
        })
        .collect();
    Json(serde_json::json!({ "nodes": nodes }))
}

#[derive(Deserialize)]
struct EventsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default = "default_limit")]
    limit: usize,
}

fn default_limit() -> usize {
    100
}

#[derive(Serialize)]
struct EventsPage {
    events: Vec<Event>,
    next: u64,
}

/// `GET /api/v1/events?after&limit`: what happened on this node, oldest first.
async fn events(
    State(admin): State<Admin>,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<EventsPage>, ApiError> {
    let Query(query) =
        query.map_err(|e| ApiError::malformed("query", e.body_text(), "?after=0&limit=100"))?;
    if !(1..=1000).contains(&query.limit) {
        let reason = format!("{} is not between 1 and 1000", query.limit);
        return Err(ApiError::invalid("limit", reason, "limit=100"));
    }
    let events = admin.events.since(query.after, query.limit);
    let next = events.last().map_or(query.after, |e| e.number);
    Ok(Json(EventsPage { events, next }))
}
