//! What every node answers on each of its HTTP ports: health, metrics, the cluster and its actors.
//!
//! `GET /health`, `GET /metrics`, `GET /api/v1/cluster`, `GET /api/v1/actors`, `GET /api/v1/events`.
//! They are the common part of every service's JSON API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::backup;
use super::error::ApiError;
use super::groups::{self, GroupView};
use super::json::input::check_range;
use super::json::{Api, Gate, Operation, Params, ParamsInput};
use super::rebalance::Rebalance;
use crate::actors::census::{self, Wanted};
use crate::actors::member::{self, Root};
use crate::actors::supervisor::ActorNode;
use crate::cluster::{Cluster, MemberInfo, MemberState};
use crate::events::{Event, EventLog};
use crate::metrics;
use crate::objects::rebalance;
use crate::replica::backup::Take;
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
    /// How many instances of each service there should be.
    pub wanted: Arc<Wanted>,
    /// Where images of the node's replicas come from.
    pub images: ImagesFrom,
}

/// Where images for backups come from.
#[derive(Clone)]
pub struct ImagesFrom {
    /// What takes one, for each service that has a replica here.
    pub take: BTreeMap<Service, Take>,
    /// The id of the cluster, in hex; empty while it is not known.
    pub cluster_id: Arc<dyn Fn() -> String + Send + Sync>,
}

/// One member in `GET /api/v1/cluster` and `mocks3 status --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// `storage-service`.
    #[schema(value_type = String)]
    pub service: Service,
    /// `storage-service-{uuid}`.
    pub instance: String,
    /// Node name with incarnation, `{instance}#{incarnation}`.
    pub node: String,
    /// Process id on its machine.
    pub pid: u32,
    /// `live`: in session; `lost`: the session ended without a word.
    #[schema(value_type = String)]
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
    #[schema(value_type = Vec<Object>)]
    pub actors: Vec<ActorNode>,
    /// Why it was lost, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_cause: Option<String>,
    /// Entries of the log that its replica is behind, where it has one.
    pub lag: u64,
}

/// `GET /api/v1/cluster`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// The members, ordered by service and instance.
    pub members: Vec<MemberView>,
    /// How many instances of each service run, and how many should, where that was said.
    #[serde(default)]
    pub roles: Vec<RoleView>,
    /// How the replicas of each group stand, as in `GET /api/v1/groups`.
    #[serde(default)]
    pub groups: Vec<GroupView>,
    /// How far the rebalancing of storage nodes is, where metadata says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
}

/// One service in `GET /api/v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// `storage-service`.
    #[schema(value_type = String)]
    pub service: Service,
    /// How many should run.
    pub wanted: usize,
    /// How many run, as the answering node sees it.
    pub live: usize,
}

/// The operations.
pub fn api(admin: Admin) -> Api {
    let health = Operation::get("/health")
        .about("Whether all actors of the node run")
        .answer::<Health>(StatusCode::OK, "they do", Health::example())
        .answer::<Health>(StatusCode::SERVICE_UNAVAILABLE, "they do not", Health::example());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let metrics = Operation::get("/metrics").about("Metrics of the process").answer_raw(
        StatusCode::OK,
        "the text format of Prometheus",
        kind,
        "system_cpu_usage_percent 1.5",
    );
    let members = Operation::get("/api/v1/cluster")
        .about("The members of the cluster with their actors")
        .answer::<ClusterView>(
            StatusCode::OK,
            "the members",
            ClusterView { members: vec![], roles: vec![], groups: vec![], rebalance: None },
        );
    let tree = Operation::get("/api/v1/actors")
        .about("The actor tree of every node")
        .answer::<Trees>(StatusCode::OK, "the trees", json!({ "nodes": [] }));
    let log = Operation::get("/api/v1/events")
        .about("What happened on this node, oldest first")
        .query::<EventsQuery>()
        .answer::<EventsPage>(StatusCode::OK, "a page", json!({ "events": [], "next": 0 }));
    let api = Api::default()
        .at(health, self::health)
        .at(metrics, prometheus)
        .at(members, cluster)
        .at(tree, actors)
        .at(log, events)
        .at(groups::operation(), groups::handle);
    let api = match admin.images.take.is_empty() {
        false => api.at(backup::operation(), backup::handle),
        true => api,
    };
    api.with_state(admin)
}

/// The whole API of a service that has no other operations, and of any node before it has them.
pub fn router(admin: Admin, gate: Gate) -> axum::Router {
    let service = admin.service;
    api(admin).finish(service, gate)
}

/// `GET /health`.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Health {
    /// `healthy` or `unhealthy`.
    status: String,
    /// `storage-service`.
    service: String,
    /// `storage-service-{uuid}`.
    instance: String,
    /// Time of the answer, RFC 3339.
    timestamp: String,
    /// Why it is not healthy.
    error: Option<String>,
}

impl Health {
    fn example() -> Self {
        Health {
            status: "healthy".into(),
            service: "storage-service".into(),
            instance: "storage-service-6f0c6f0c-6f0c-4f0c-8f0c-6f0c6f0c6f0c".into(),
            timestamp: "2026-01-31T12:00:00Z".into(),
            error: None,
        }
    }
}

/// `GET /api/v1/actors`.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Trees {
    /// One entry a service and instance.
    #[schema(value_type = Vec<Object>)]
    nodes: Vec<serde_json::Value>,
}

/// Whether all actors of the node run, and none says of itself that it is not ready.
pub fn all_running(tree: &[ActorNode]) -> bool {
    let ready = |a: &ActorNode| a.summary.get("ready") != Some(&serde_json::Value::Bool(false));
    !tree.is_empty() && tree.iter().all(|a| a.state == "running" && ready(a) && below_running(a))
}

fn below_running(node: &ActorNode) -> bool {
    node.children.is_empty() || all_running(&node.children)
}

async fn health(State(admin): State<Admin>) -> Response {
    let healthy = all_running(&member::tree(&admin.root).await);
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Health {
        status: if healthy { "healthy" } else { "unhealthy" }.into(),
        service: admin.service.name().into(),
        instance: admin.cluster.instance().into(),
        timestamp: rfc3339(now_ms()),
        error: (!healthy).then(|| "not all actors of this node are running".into()),
    };
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
    let lost = lost.filter(|m| m.state == MemberState::Lost);
    let lost = lost.map(|m| (m.info, MemberState::Lost, m.lost_cause));
    let live = admin.cluster.members().into_iter().map(|m| (m, MemberState::Live, None));
    let views = live.chain(lost).map(|(info, state, lost_cause)| {
        let (admin, own) = (&admin, &own);
        async move {
            let actors = match state {
                MemberState::Live if info.instance == *own => member::tree(&admin.root).await,
                MemberState::Live => {
                    member::tree_of(&admin.cluster, &info.instance).await.unwrap_or_default()
                }
                MemberState::Lost => Vec::new(),
            };
            view(info, (state, lost_cause), actors)
        }
    });
    let (nested, groups, progress) = tokio::join!(
        futures::future::join_all(views),
        groups::groups(&admin.cluster, false),
        rebalance::progress(&admin.cluster),
    );
    let mut members: Vec<MemberView> = nested.into_iter().flatten().collect();
    for group in &groups {
        for replica in &group.replicas {
            let of =
                |m: &&mut MemberView| m.service == group.service && m.instance == replica.instance;
            members.iter_mut().filter(of).for_each(|m| m.lag = replica.lag);
        }
    }
    members.sort_by(|a, b| (a.service, &a.instance).cmp(&(b.service, &b.instance)));
    let role = |(service, wanted): (&Service, &usize)| RoleView {
        service: *service,
        wanted: *wanted,
        live: census::live(&admin.cluster, *service),
    };
    let roles = admin.wanted.iter().map(role).collect();
    Json(ClusterView { members, roles, groups, rebalance: progress.map(Rebalance::from) })
}

/// One row per service of the node.
fn view(
    info: MemberInfo,
    (state, lost_cause): (MemberState, Option<String>),
    actors: Vec<ActorNode>,
) -> Vec<MemberView> {
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
        lost_cause: lost_cause.clone(),
        lag: 0,
    };
    info.services.iter().map(row).collect()
}

/// `GET /api/v1/actors`: the tree of every live node.
async fn actors(State(admin): State<Admin>) -> Json<Trees> {
    let Json(view) = cluster(State(admin)).await;
    let nodes: Vec<serde_json::Value> = view
        .members
        .into_iter()
        .map(|m| {
            json!({ "service": m.service, "instance": m.instance, "state": m.state,
                    "actors": m.actors })
        })
        .collect();
    Json(Trees { nodes })
}

#[derive(Deserialize, IntoParams)]
struct EventsQuery {
    /// Only events with a higher number.
    #[serde(default)]
    #[param(example = 0)]
    after: u64,
    /// At most so many, 1 to 1000.
    #[serde(default = "default_limit")]
    #[param(example = 100)]
    limit: u32,
}

fn default_limit() -> u32 {
    100
}

impl ParamsInput for EventsQuery {
    const EXAMPLE: &'static str = "?after=0&limit=100";

    fn check(&self) -> Result<(), ApiError> {
        check_range("limit", self.limit, 1, 1000)
    }
}

#[derive(Serialize, ToSchema)]
struct EventsPage {
    /// The events.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Event>,
    /// `after` of the next page.
    next: u64,
}

/// `GET /api/v1/events?after&limit`: what happened on this node, oldest first.
async fn events(
    State(admin): State<Admin>,
    Params(query): Params<EventsQuery>,
) -> Json<EventsPage> {
    let events = admin.events.since(query.after, query.limit as usize);
    let next = events.last().map_or(query.after, |e| e.number);
    Json(EventsPage { events, next })
}
