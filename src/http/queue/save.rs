//! Save tasks: with their bytes done at once, without them left to a worker (QAPI-3).

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;

use super::QueueEnv;
use super::legacy::made;
use super::model::{NewSaveTask, SavedObject, TaskDone, split_object_key, task_id};
use crate::actors::queue_worker::command::Command;
use crate::actors::queue_worker::task::{Header, NewTask, TaskKind, TaskState};
use crate::http::error::ApiError;
use crate::http::json::object::{self, NewUpload, UPLOAD_LIMIT};
use crate::http::json::{ObjectPath, RequestScope, TRANSFER_LIMIT, head, input};
use crate::types::now_ms;

/// Keeps workers off a task that is done here, for the moment until it is marked so.
const OURS: Duration = Duration::from_secs(3600);

/// `POST /api/v1/save-tasks`.
pub async fn create(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    request: Request,
) -> Result<(StatusCode, Json<TaskDone>), ApiError> {
    let declared = input::content_length(request.headers());
    if declared.is_some_and(|len| len > UPLOAD_LIMIT) {
        return Err(ApiError::too_large(UPLOAD_LIMIT));
    }
    let _room = object::room(&env.json, declared).await?;
    let bytes = input::read(request.into_body(), declared, UPLOAD_LIMIT).await?;
    let mut new: NewSaveTask = input::parse(&bytes)?;
    drop(bytes);
    let path = split_object_key(&new.object_key)?;
    let id = task_id(&new.id, "save")?;
    let brought = new.object.data.take().filter(|data| {
        // Go writes an empty []byte as null or ""; with a size it means that there are no bytes
        !data.0.is_empty() || new.object.size == Some(0)
    });
    let task = NewTask::new(id.clone(), kind(&path, &new.object), now_ms());
    let Some(data) = brought else {
        let fresh = env.enqueue(scope, task).await?;
        return Ok((StatusCode::CREATED, Json(made(id, fresh))));
    };
    store(&env, scope, path, &new.object, data.0).await?;
    let later = now_ms() + OURS.as_millis() as u64;
    if env.enqueue(scope, NewTask { not_before_ms: later, ..task }).await? {
        let (state, now_ms) = (TaskState::Completed, now_ms());
        let done = Command::SetStatus { id: id.clone(), state, error: None, now_ms };
        env.apply(scope, done).await?;
    }
    let message = "object saved, task completed".to_owned();
    Ok((StatusCode::CREATED, Json(TaskDone { success: true, task_id: id, message })))
}

async fn store(
    env: &QueueEnv,
    scope: RequestScope,
    path: ObjectPath,
    object: &SavedObject,
    data: bytes::Bytes,
) -> Result<(), ApiError> {
    let headers = object.headers.clone().unwrap_or_default();
    let head = head::from_map(&headers, object.content_type.as_deref())?;
    let (body, expect) = object::body_of(data);
    let new = NewUpload { path, head, tags: Vec::new(), body, expect };
    object::store(&env.json, &scope.with(TRANSFER_LIMIT), new).await?;
    Ok(())
}

fn kind(path: &ObjectPath, object: &SavedObject) -> TaskKind {
    let header =
        |(name, value): (&String, &String)| Header { name: name.clone(), value: value.clone() };
    TaskKind::SaveObject {
        bucket: path.bucket.clone(),
        key: path.key.clone(),
        size: object.size.unwrap_or(0),
        content_type: object.content_type.clone().unwrap_or_default(),
        headers: object.headers.iter().flatten().map(header).collect(),
        data_id: None,
    }
}
