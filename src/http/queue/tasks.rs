//! Tasks in the form of the first generation, and the figures.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::model::{NewTaskRequest, split_object_key, task_id};
use super::view::{Figures, TaskList, TaskView};
use super::{QueueEnv, unexpected};
use crate::actors::queue_worker::command::{Command, Refused};
use crate::actors::queue_worker::query::{Cursor, TaskFilter};
use crate::actors::queue_worker::task::{
    DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY, KindName, NewTask, Task, TaskKind, TaskState,
};
use crate::actors::queue_worker::{Message, QueueReply, TASK_LIMIT};
use crate::http::error::ApiError;
use crate::http::json::input::check_range;
use crate::http::json::{Body, Done, MAX_LIST, Params, ParamsInput, RequestScope, Segment};
use crate::types::now_ms;

/// What the first generation knew and nothing here does.
const UNKNOWN_WORK: [&str; 6] = [
    "replicate_file",
    "cleanup_temp",
    "generate_thumbnail",
    "backup_metadata",
    "sync_metadata",
    "health_check",
];

/// Parameters of a list of tasks.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ListParams {
    /// Only in this state; dead letters are `failed`.
    #[param(example = "pending")]
    status: Option<String>,
    /// Only of this kind: `delete`, `cleanup`, `replicate`, `save`, `delete_object`, `save_object`.
    #[param(example = "delete_object")]
    kind: Option<String>,
    /// At most so many, 1 to 1000.
    #[serde(default = "hundred")]
    #[param(example = 100)]
    limit: u32,
    /// `next` of the page before.
    #[param(example = "pending-0-0")]
    after: Option<String>,
}

fn hundred() -> u32 {
    100
}

impl ListParams {
    fn filter(&self) -> Result<TaskFilter, ApiError> {
        let state = read::<TaskState>("status", &self.status, "status=pending")?;
        let kind = read::<KindName>("kind", &self.kind, "kind=delete_object")?;
        Ok(TaskFilter { state, kind })
    }

    fn after(&self) -> Result<Option<Cursor>, ApiError> {
        read("after", &self.after, "after=pending-0-0")
    }
}

/// A parameter that one of our own types reads.
fn read<T: std::str::FromStr<Err = String>>(
    field: &str,
    text: &Option<String>,
    example: &str,
) -> Result<Option<T>, ApiError> {
    let given = text.as_deref().filter(|t| !t.is_empty());
    let parsed = given.map(str::parse).transpose();
    parsed.map_err(|reason| ApiError::invalid(field, reason, example))
}

impl ParamsInput for ListParams {
    const EXAMPLE: &'static str = "?status=failed&limit=100";

    fn check(&self) -> Result<(), ApiError> {
        check_range("limit", self.limit, 1, MAX_LIST)?;
        self.filter()?;
        self.after().map(drop)
    }
}

/// `GET /api/v1/tasks`.
pub async fn list(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Params(params): Params<ListParams>,
) -> Result<Json<TaskList>, ApiError> {
    let (filter, mut after) = (params.filter()?, params.after()?);
    let mut tasks: Vec<TaskView> = Vec::new();
    loop {
        let limit = params.limit - tasks.len() as u32;
        let list = Message::List { filter: filter.clone(), after, limit };
        let QueueReply::Page(page) = env.ask(scope, list).await? else {
            return Err(unexpected());
        };
        let empty = page.tasks.is_empty();
        // one that went on to another state meanwhile comes again there: the later view counts
        tasks.retain(|seen| page.tasks.iter().all(|task| task.id != seen.id));
        tasks.extend(page.tasks.iter().map(TaskView::new));
        after = page.next;
        // an empty page with a cursor is a long scan without a hit: the client decides to go on
        if after.is_none() || empty || tasks.len() as u32 >= params.limit {
            let next = after.map(|cursor| cursor.to_string());
            return Ok(Json(TaskList { count: tasks.len(), tasks, next }));
        }
    }
}

/// `POST /api/v1/tasks`.
pub async fn create(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Body(new): Body<NewTaskRequest>,
) -> Result<(StatusCode, Json<TaskView>), ApiError> {
    let id = task_id(&new.id, "task")?;
    let now = now_ms();
    let task = NewTask {
        priority: new.priority.unwrap_or(DEFAULT_PRIORITY),
        max_attempts: new.max_retries.map_or(DEFAULT_MAX_ATTEMPTS, |n| n + 1),
        not_before_ms: new.not_before_ms()?.unwrap_or(now).max(now),
        ..NewTask::new(id.clone(), kind(&new)?, now)
    };
    env.enqueue(scope, task).await?;
    Ok((StatusCode::CREATED, Json(get(&env, scope, id).await?)))
}

fn kind(new: &NewTaskRequest) -> Result<TaskKind, ApiError> {
    let path = split_object_key(&new.object_key)?;
    let (bucket, key) = (path.bucket, path.key);
    match new.kind.as_str() {
        "delete_file" | "delete_object" => Ok(TaskKind::DeleteObject { bucket, key }),
        "save_file" | "save_object" => Ok(TaskKind::SaveObject {
            bucket,
            key,
            size: 0,
            content_type: String::new(),
            headers: Vec::new(),
            data_id: None,
        }),
        other if UNKNOWN_WORK.contains(&other) => {
            let why = "copies and clean-up are the cluster's own work, and the rest of the \
                       original's types have no worker here";
            Err(ApiError::not_implemented(format!("tasks of type {other} are not offered"), why))
        }
        other => {
            let reason = format!("{other:?} is no type: expected delete_file or save_file");
            Err(ApiError::invalid("type", reason, "delete_file"))
        }
    }
}

/// `GET /api/v1/tasks/{id}`.
pub async fn find(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Segment(id): Segment,
) -> Result<Json<TaskView>, ApiError> {
    get(&env, scope, id).await.map(Json)
}

async fn get(env: &QueueEnv, scope: RequestScope, id: String) -> Result<TaskView, ApiError> {
    task(env, scope, id).await.map(|task| TaskView::new(&task))
}

async fn task(env: &QueueEnv, scope: RequestScope, id: String) -> Result<Task, ApiError> {
    match env.ask(scope, Message::Get { id }).await? {
        QueueReply::Task(Some(task)) => Ok(task),
        QueueReply::Task(None) => Err(Refused::NoSuchTask.into()),
        _ => Err(unexpected()),
    }
}

/// `POST /api/v1/tasks/{id}/retry`.
pub async fn retry(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Segment(id): Segment,
) -> Result<Json<Done>, ApiError> {
    env.apply(scope, Command::Retry { id, now_ms: now_ms(), limit: TASK_LIMIT }).await?;
    Ok(Json(Done::new("task is pending")))
}

/// `POST /api/v1/tasks/{id}/cancel`. What metadata left to be done is not to be called off: nobody
/// would ask for it again, and a copy would be missing, or data left lying, for ever.
pub async fn cancel(
    State(env): State<QueueEnv>,
    scope: RequestScope,
    Segment(id): Segment,
) -> Result<Json<Done>, ApiError> {
    let kind = task(&env, scope, id.clone()).await?.kind.name();
    if matches!(kind, KindName::Delete | KindName::Cleanup | KindName::Replicate) {
        let text = format!("a task of kind {} is the cluster's own work", kind.as_str());
        return Err(ApiError::conflict(text));
    }
    env.apply(scope, Command::Cancel { id, now_ms: now_ms() }).await?;
    Ok(Json(Done::new("task is cancelled")))
}

/// `GET /api/v1/stats`.
pub async fn stats(
    State(env): State<QueueEnv>,
    scope: RequestScope,
) -> Result<Json<Figures>, ApiError> {
    match env.ask(scope, Message::Stats).await? {
        QueueReply::Stats(stats) => Ok(Json(Figures::new(&stats, env.workers.len()))),
        _ => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json::input::parse;
    use serde_json::json;

    #[test]
    fn types_of_the_first_generation_are_done_or_honestly_refused() {
        let made = |kind: &str| {
            let body = json!({ "type": kind, "object_key": "photos/a" });
            let new: NewTaskRequest = parse(body.to_string().as_bytes()).unwrap();
            super::kind(&new).map(|k| k.name()).map_err(|e| e.code)
        };
        assert_eq!(made("delete_file"), Ok(KindName::DeleteObject));
        assert_eq!(made("save_file"), Ok(KindName::SaveObject));
        for kind in UNKNOWN_WORK {
            assert_eq!(made(kind), Err(501), "{kind}");
        }
        assert_eq!(made("odd"), Err(422));
    }
}
