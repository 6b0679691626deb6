//! Delete and save tasks in the form of the second generation: made, given out, finished.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::model::{NewDeleteTask, StatusDone, StatusRequest, TaskDone, split_object_key, task_id};
use super::view::{DeleteTask, SaveTask};
use super::{QueueEnv, unexpected};
use crate::actors::queue_worker::command::{Command, Outcome, Refused};
use crate::actors::queue_worker::task::{KindName, NewTask, Task, TaskKind};
use crate::actors::queue_worker::{Message, QueueReply};
use crate::http::error::ApiError;
use crate::http::json::input::check_range;
use crate::http::json::{Body, Params, ParamsInput, RequestScope, Segment};
use crate::types::now_ms;

/// How long a task belongs to whoever dequeued it (QAPI-2).
pub const LEASE: Duration = Duration::from_secs(300);
/// How often the queue is looked at while a `dequeue` waits.
const LOOK: Duration = Duration::from_millis(250);

/// `POST /api/v1/delete-tasks`.
pub async fn create_delete(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Body(new): Body<NewDeleteTask>,
) -> Result<(StatusCode, Json<TaskDone>), ApiError> {
    let path = split_object_key(&new.object_key)?;
    let id = task_id(&new.id, "del")?;
    let kind = TaskKind::DeleteObject { bucket: path.bucket, key: path.key };
    let fresh = env.enqueue(scope, NewTask::new(id.clone(), kind, now_ms())).await?;
    Ok((StatusCode::CREATED, Json(made(id, fresh))))
}

/// The answer to a task that was handed in.
pub fn made(task_id: String, fresh: bool) -> TaskDone {
    let message = if fresh { "task queued" } else { "task was there already" };
    TaskDone { success: true, task_id, message: message.into() }
}

/// Parameters of a dequeue.
#[derive(Debug, Deserialize, IntoParams)]
pub struct DequeueParams {
    /// Waits so many seconds for a task, 0 to 20.
    #[serde(default = "five")]
    #[param(example = 0)]
    wait: u32,
    /// The name of the worker, for the record.
    #[serde(default)]
    #[param(example = "outside-1")]
    worker: String,
}

fn five() -> u32 {
    5
}

impl ParamsInput for DequeueParams {
    const EXAMPLE: &'static str = "?wait=5&worker=outside-1";

    fn check(&self) -> Result<(), ApiError> {
        if self.worker.len() > 100 {
            return Err(ApiError::invalid("worker", "it has at most 100 bytes", Self::EXAMPLE));
        }
        check_range("wait", self.wait, 0, 20)
    }
}

/// `GET /api/v1/delete-tasks/dequeue`.
pub async fn dequeue_delete(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Params(params): Params<DequeueParams>,
) -> Result<Response, ApiError> {
    let task = dequeue(&env, scope, params, KindName::DeleteObject).await?;
    Ok(task.map_or(nothing(), |task| Json(DeleteTask::new(&task)).into_response()))
}

/// `GET /api/v1/save-tasks/dequeue`.
pub async fn dequeue_save(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Params(params): Params<DequeueParams>,
) -> Result<Response, ApiError> {
    let task = dequeue(&env, scope, params, KindName::SaveObject).await?;
    Ok(task.map_or(nothing(), |task| Json(SaveTask::new(&task)).into_response()))
}

fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Leases the next task of a kind (QAPI-2), waiting for one.
async fn dequeue(
    env: &QueueEnv,
    scope: RequestScope,
    params: DequeueParams,
    kind: KindName,
) -> Result<Option<Task>, ApiError> {
    let until = Instant::now() + Duration::from_secs(params.wait.into());
    let worker = match params.worker.as_str() {
        "" => "http".to_owned(),
        name => format!("http/{name}"),
    };
    loop {
        let command = Command::Lease {
            worker: worker.clone(),
            max: 1,
            lease_ms: LEASE.as_millis() as u64,
            now_ms: now_ms(),
            kinds: vec![kind],
        };
        let Outcome::Leased { mut tasks, .. } = env.apply(scope, command).await? else {
            return Err(unexpected());
        };
        let task = tasks.pop();
        if task.is_some() || Instant::now() + LOOK > until {
            return Ok(task);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `PUT /api/v1/delete-tasks/{id}/status`.
pub async fn status_delete(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Segment(id): Segment,
    Body(request): Body<StatusRequest>,
) -> Result<Json<StatusDone>, ApiError> {
    set_status(&env, scope, id, request, KindName::DeleteObject).await
}

/// `PUT /api/v1/save-tasks/{id}/status`.
pub async fn status_save(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Segment(id): Segment,
    Body(request): Body<StatusRequest>,
) -> Result<Json<StatusDone>, ApiError> {
    set_status(&env, scope, id, request, KindName::SaveObject).await
}

/// Saying again what a task is already is no conflict: the answer may have been lost.
async fn set_status(
    env: &QueueEnv,
    scope: RequestScope,
    id: String,
    request: StatusRequest,
    kind: KindName,
) -> Result<Json<StatusDone>, ApiError> {
    let state = request.state()?;
    let QueueReply::Task(found) = env.ask(scope, Message::Get { id: id.clone() }).await? else {
        return Err(unexpected());
    };
    let there = found.filter(|task| task.kind.name() == kind);
    let task = there.ok_or(Refused::NoSuchTask)?;
    if task.state != state {
        let (error, now_ms) = (request.error, now_ms());
        let command = Command::SetStatus { id: id.clone(), state, error, now_ms };
        env.apply(scope, command).await?;
    }
    let (status, message) = (state.as_str().to_owned(), "status noted".to_owned());
    Ok(Json(StatusDone { success: true, task_id: id, status, message }))
}
