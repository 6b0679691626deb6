//! Sources over JSON: shown, added, replaced, removed.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;

use super::model::{DataSource, DataSources, Saved, SourceInput, shown_field};
use super::objects::ask;
use crate::actors::third_party::message::{Message, Refusal, Reply};
use crate::cluster::{CallError, Scope, To};
use crate::config::Source;
use crate::http::error::ApiError;
use crate::http::json::{Body, CALL_LIMIT, JsonEnv, RequestScope};
use crate::types::Service;

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Failed(_) | Refusal::Busy => ApiError::overload(text),
            Refusal::NoSuchSource => ApiError::unknown(text),
            Refusal::Configured => ApiError::conflict(text),
            Refusal::Invalid { field, reason } => {
                ApiError::invalid(&shown_field(&field), reason, "see /openapi.json")
            }
            Refusal::Disk(_) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text),
        }
    }
}

async fn all(env: &JsonEnv, scope: &Scope) -> Result<Vec<DataSource>, ApiError> {
    match ask(env, scope, Message::Sources).await? {
        Reply::Sources(views) => Ok(views.into_iter().map(DataSource::from).collect()),
        _ => Err(unexpected()),
    }
}

/// An answer of another kind: a mistake in the code.
pub fn unexpected() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}

/// `GET /api/v1/datasources`.
pub async fn list(
    State(env): State<JsonEnv>,
    scope: RequestScope,
) -> Result<Json<DataSources>, ApiError> {
    let datasources = all(&env, &scope.with(CALL_LIMIT)).await?;
    Ok(Json(DataSources { count: datasources.len(), datasources }))
}

/// `GET /api/v1/datasources/{id}`.
pub async fn find(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Path(id): Path<String>,
) -> Result<Json<DataSource>, ApiError> {
    let found = all(&env, &scope.with(CALL_LIMIT)).await?.into_iter().find(|s| s.name == id);
    found.map(Json).ok_or_else(|| Refusal::NoSuchSource.into())
}

/// `POST /api/v1/datasources`.
pub async fn add(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Body(input): Body<SourceInput>,
) -> Result<(StatusCode, Json<Saved>), ApiError> {
    let saved = save(&env, &scope.with(CALL_LIMIT), input.into_source()?).await?;
    Ok((StatusCode::CREATED, Json(saved)))
}

/// `PUT /api/v1/datasources/{id}`.
pub async fn replace(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Path(id): Path<String>,
    Body(input): Body<SourceInput>,
) -> Result<Json<Saved>, ApiError> {
    let source = SourceInput { name: id.clone(), ..input }.into_source()?;
    let scope = scope.with(CALL_LIMIT);
    if !all(&env, &scope).await?.iter().any(|s| s.name == id) {
        return Err(Refusal::NoSuchSource.into());
    }
    Ok(Json(save(&env, &scope, source).await?))
}

async fn save(env: &JsonEnv, scope: &Scope, source: Source) -> Result<Saved, ApiError> {
    let id = source.name.clone();
    let instances = tell_all(env, scope, Message::PutSource { source }).await?;
    Ok(Saved { success: true, id, instances, message: "datasource saved".into() })
}

/// `DELETE /api/v1/datasources/{id}`.
pub async fn remove(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    tell_all(&env, &scope.with(CALL_LIMIT), Message::RemoveSource { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells the own instance, whose refusal counts, and then the others (TPAPI-2); says how many did
/// it.
async fn tell_all(env: &JsonEnv, scope: &Scope, message: Message) -> Result<usize, ApiError> {
    let cluster = &env.objects.cluster;
    let mut done = 0;
    // The own node comes first in the table of members.
    for member in cluster.members() {
        if !member.services.contains(&Service::ThirdParty) {
            continue;
        }
        let call = cluster.call(scope, To::Instance(&member.instance), message.clone());
        match call.await {
            Ok(Ok(_)) => done += 1,
            Ok(Err(refusal)) if done == 0 => return Err(refusal.into()),
            Err(error) if done == 0 => return Err(error.into()),
            Ok(Err(refusal)) => {
                tracing::warn!(member.instance, %refusal, "source not changed there")
            }
            Err(error) => tracing::warn!(member.instance, %error, "source not changed there"),
        }
    }
    if done > 0 { Ok(done) } else { Err(CallError::NoMember("third_party".into()).into()) }
}
