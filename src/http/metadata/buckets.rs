//! Buckets over JSON: made, shown, switched, removed.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::model::{Bucket, BucketLine, BucketList};
use crate::actors::metadata::command::BucketChange;
use crate::actors::metadata::model::Versioning;
use crate::actors::metadata::query::{Query, QueryReply};
use crate::http::admin::rfc3339;
use crate::http::error::ApiError;
use crate::http::json::input::check_range;
use crate::http::json::{
    self, Body, CALL_LIMIT, Done, Input, JsonEnv, MAX_LIST, Params, ParamsInput, RequestScope,
    Segment,
};
use crate::objects::bucket;
use crate::objects::metadata::{read, unexpected};

/// Parameters of the list of buckets.
#[derive(Debug, Deserialize, IntoParams)]
pub struct BucketsParams {
    /// Only names that begin so.
    #[serde(default)]
    #[param(example = "ph")]
    prefix: String,
    /// `next` of the page before.
    #[param(example = "a")]
    after: Option<String>,
    /// At most so many, 1 to 1000.
    #[serde(default = "most")]
    #[param(example = 100)]
    limit: u32,
}

fn most() -> u32 {
    MAX_LIST
}

impl ParamsInput for BucketsParams {
    const EXAMPLE: &'static str = "?prefix=ph&limit=100";

    fn check(&self) -> Result<(), ApiError> {
        check_range("limit", self.limit, 1, MAX_LIST)
    }
}

/// `GET /api/v1/buckets`.
pub async fn list(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Params(params): Params<BucketsParams>,
) -> Result<Json<BucketList>, ApiError> {
    let BucketsParams { prefix, after, limit } = params;
    let query = Query::ListBuckets { owner: None, prefix, after, max: limit };
    match read(&env.objects, &scope.with(CALL_LIMIT), query).await? {
        QueryReply::Buckets { buckets, next } => {
            let line = |b: crate::actors::metadata::query::BucketUsage| BucketLine {
                name: b.bucket.name,
                owner: b.bucket.owner,
                created_at: rfc3339(b.bucket.created_ms),
                objects: b.objects,
                size: b.bytes,
            };
            let buckets: Vec<_> = buckets.into_iter().map(line).collect();
            Ok(Json(BucketList { count: buckets.len(), buckets, next }))
        }
        _ => Err(unexpected("ListBuckets").into()),
    }
}

/// A bucket to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewBucket {
    /// Its name.
    name: String,
}

impl Input for NewBucket {
    fn example() -> Value {
        json!({ "name": "photos" })
    }

    fn check(&self) -> Result<(), ApiError> {
        json::bucket::check_name("name", &self.name)
    }
}

/// `POST /api/v1/buckets`.
pub async fn create(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Body(new): Body<NewBucket>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    bucket::create(&env.objects, &scope.with(CALL_LIMIT), &new.name, &env.owner).await?;
    Ok((StatusCode::CREATED, Json(Done::new("bucket created"))))
}

/// `GET /api/v1/buckets/{bucket}`.
pub async fn find(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Segment(name): Segment,
) -> Result<Json<Bucket>, ApiError> {
    let info = bucket::find(&env.objects, &scope.with(CALL_LIMIT), &name).await?.info;
    let versioning = match info.versioning {
        Versioning::Off => "off",
        Versioning::Enabled => "enabled",
        Versioning::Suspended => "suspended",
    };
    Ok(Json(Bucket {
        name: info.name,
        owner: info.owner,
        created_at: rfc3339(info.created_ms),
        versioning: versioning.into(),
        fallback: info.fallback,
    }))
}

/// A switch.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Switch {
    /// On or off.
    enabled: bool,
}

impl Input for Switch {
    fn example() -> Value {
        json!({ "enabled": true })
    }
}

/// `PUT /api/v1/buckets/{bucket}/fallback`.
pub async fn fallback(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Segment(name): Segment,
    Body(switch): Body<Switch>,
) -> Result<Json<Done>, ApiError> {
    let (scope, change) = (scope.with(CALL_LIMIT), BucketChange::Fallback { on: switch.enabled });
    bucket::configure(&env.objects, &scope, &name, &env.owner, change).await?;
    let state = if switch.enabled { "on" } else { "off" };
    Ok(Json(Done::new(format!("fallback is {state}"))))
}

/// `DELETE /api/v1/buckets/{bucket}`.
pub async fn delete(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Segment(name): Segment,
) -> Result<StatusCode, ApiError> {
    bucket::delete(&env.objects, &scope.with(CALL_LIMIT), &name, &env.owner).await?;
    Ok(StatusCode::NO_CONTENT)
}
