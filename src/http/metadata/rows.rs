//! One row.

use axum::Json;
use axum::extract::State;

use super::model::Row;
use crate::actors::metadata::model::Refused;
use crate::actors::metadata::query::PartRow;
use crate::http::error::ApiError;
use crate::http::json::object::lookup;
use crate::http::json::{CALL_LIMIT, JsonEnv, ObjectPath, RequestScope};
use crate::objects::error::FlowError;

/// `GET /api/v1/metadata/{bucket}/{key}`.
pub async fn find(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
) -> Result<Json<Row>, ApiError> {
    let scope = scope.with(CALL_LIMIT);
    let (_, found) = lookup(&env, &scope, &path.bucket, &path.key).await?;
    let (info, parts) = found.ok_or(FlowError::Refused(Refused::NoSuchKey))?;
    Ok(Json(Row::new(&path.bucket, &path.key, &info, nodes(&parts))))
}

/// Where the first part lies.
pub fn nodes(parts: &[PartRow]) -> Vec<String> {
    parts.first().map(|p| p.locations.clone()).unwrap_or_default()
}
