//! Tasks and figures of the queue as its API shows them, with the names of both generations.
//!
//! Plain values; made by the other files of this folder.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{EXAMPLE_OBJECT, EXAMPLE_TIME};
use crate::actors::queue_worker::Stats;
use crate::actors::queue_worker::task::{DEFAULT_PRIORITY, KindName, Task, TaskKind, TaskState};
use crate::http::admin::rfc3339;
use crate::http::json::head::TextMap;
use crate::types::{Service, now_ms};

/// A delete task as the second generation sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeleteTask {
    /// Its id.
    pub id: String,
    /// `bucket/key`.
    pub object_key: String,
    /// `pending`, `completed` or `failed`: the states that generation knows.
    pub status: String,
    /// Why its last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Until when it is leased, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leased_until: Option<String>,
}

impl DeleteTask {
    /// The task in that form.
    pub fn new(task: &Task) -> Self {
        DeleteTask {
            id: task.id.clone(),
            object_key: object_key(task),
            status: legacy_state(task.state).into(),
            error: task.last_error.clone(),
            created_at: rfc3339(task.created_ms),
            leased_until: task.lease.as_ref().map(|l| rfc3339(l.until_ms)),
        }
    }

    /// A task for the description.
    pub fn example() -> Self {
        DeleteTask {
            id: "del_example".into(),
            object_key: EXAMPLE_OBJECT.into(),
            status: "pending".into(),
            error: None,
            created_at: EXAMPLE_TIME.into(),
            leased_until: None,
        }
    }
}

/// A save task as the second generation sees it; `data` is not kept with tasks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SaveTask {
    /// The members that a delete task has, too.
    #[serde(flatten)]
    pub task: DeleteTask,
    /// The object.
    pub object: SavedObjectView,
}

/// The object of a save task.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct SavedObjectView {
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Bytes, 0 where not known.
    pub size: u64,
    /// Content type, empty where not known.
    pub content_type: String,
    /// Headers.
    pub headers: TextMap,
}

impl SaveTask {
    /// The task in that form.
    pub fn new(task: &Task) -> Self {
        let object = match &task.kind {
            TaskKind::SaveObject { bucket, key, size, content_type, headers, .. } => {
                SavedObjectView {
                    bucket: bucket.clone(),
                    key: key.clone(),
                    size: *size,
                    content_type: content_type.clone(),
                    headers: headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect(),
                }
            }
            _ => SavedObjectView::default(),
        };
        SaveTask { task: DeleteTask::new(task), object }
    }

    /// A task for the description.
    pub fn example() -> Self {
        let object = SavedObjectView {
            bucket: "photos".into(),
            key: "2026/a.jpg".into(),
            ..SavedObjectView::default()
        };
        SaveTask { task: DeleteTask { id: "save_example".into(), ..DeleteTask::example() }, object }
    }
}

fn legacy_state(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending | TaskState::Running | TaskState::Retrying => "pending",
        TaskState::Completed => "completed",
        TaskState::Failed | TaskState::Cancelled => "failed",
    }
}

/// `bucket/key` of a task, empty where it names no object.
pub fn object_key(task: &Task) -> String {
    task.object_ref().map(|o| format!("{}/{}", o.bucket, o.key)).unwrap_or_default()
}

/// A task.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TaskView {
    /// Its id.
    pub id: String,
    /// The first generation's name of its kind.
    #[serde(rename = "type")]
    pub task_type: String,
    /// `delete`, `cleanup`, `replicate`, `save`, `delete_object` or `save_object`.
    pub kind: String,
    /// `delete`, `save` or `replicate`.
    pub queue: String,
    /// `bucket/key`, empty where it names no object.
    pub object_key: String,
    /// The data item that it is about, where it names one.
    pub data_id: Option<String>,
    /// `pending`, `running`, `completed`, `failed`, `retrying` or `cancelled`.
    pub status: String,
    /// Higher goes first.
    pub priority: u8,
    /// Attempts after the first that it may have.
    pub max_retries: u32,
    /// Attempts after the first that it had.
    pub retry_count: u32,
    /// Not before this time, RFC 3339.
    pub scheduled_at: String,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When its last attempt began.
    pub started_at: Option<String>,
    /// When it was completed.
    pub completed_at: Option<String>,
    /// When it failed for good.
    pub failed_at: Option<String>,
    /// Why its last attempt failed.
    pub error: Option<String>,
    /// Who works on it.
    pub worker_id: Option<String>,
}

impl TaskView {
    /// The task in that form.
    pub fn new(task: &Task) -> Self {
        let finished = |state| task.finished_ms.filter(|_| task.state == state).map(rfc3339);
        let kind = task.kind.name();
        TaskView {
            id: task.id.clone(),
            task_type: legacy_name(kind).into(),
            kind: kind.as_str().into(),
            queue: kind.queue().into(),
            object_key: object_key(task),
            data_id: data_id(&task.kind),
            status: task.state.as_str().into(),
            priority: task.priority,
            max_retries: task.max_attempts.saturating_sub(1),
            retry_count: task.attempts.saturating_sub(1),
            scheduled_at: rfc3339(task.not_before_ms),
            created_at: rfc3339(task.created_ms),
            updated_at: rfc3339(task.updated_ms),
            started_at: task.started_ms.map(rfc3339),
            completed_at: finished(TaskState::Completed),
            failed_at: finished(TaskState::Failed),
            error: task.last_error.clone(),
            worker_id: task.lease.as_ref().map(|l| l.worker.clone()),
        }
    }

    /// A task for the description.
    pub fn example() -> Self {
        TaskView {
            id: "task_example".into(),
            task_type: "delete_file".into(),
            kind: "delete_object".into(),
            queue: "delete".into(),
            object_key: EXAMPLE_OBJECT.into(),
            data_id: None,
            status: "pending".into(),
            priority: DEFAULT_PRIORITY,
            max_retries: 3,
            retry_count: 0,
            scheduled_at: EXAMPLE_TIME.into(),
            created_at: EXAMPLE_TIME.into(),
            updated_at: EXAMPLE_TIME.into(),
            started_at: None,
            completed_at: None,
            failed_at: None,
            error: None,
            worker_id: None,
        }
    }
}

fn data_id(kind: &TaskKind) -> Option<String> {
    match kind {
        TaskKind::Delete { data_id, .. }
        | TaskKind::Cleanup { data_id, .. }
        | TaskKind::Discard { data_id, .. }
        | TaskKind::Replicate { data_id, .. } => Some(data_id.to_string()),
        TaskKind::SaveObject { data_id, .. } => data_id.map(|d| d.to_string()),
        TaskKind::Save { .. } | TaskKind::DeleteObject { .. } => None,
    }
}

/// The first generation's name of a kind.
fn legacy_name(kind: KindName) -> &'static str {
    match kind {
        KindName::Delete | KindName::DeleteObject => "delete_file",
        KindName::Cleanup => "cleanup_temp",
        KindName::Replicate => "replicate_file",
        KindName::Save | KindName::SaveObject => "save_file",
    }
}

/// A page of tasks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TaskList {
    /// The tasks; may be none though `next` is set.
    pub tasks: Vec<TaskView>,
    /// How many they are.
    pub count: usize,
    /// `after` of the next page, where more follows.
    pub next: Option<String>,
}

impl TaskList {
    /// A page for the description.
    pub fn example() -> Self {
        TaskList { tasks: vec![TaskView::example()], count: 1, next: None }
    }
}

/// The figures of the queue.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Figures {
    /// `queue-service`.
    pub service: String,
    /// Unfinished tasks that remove data or objects.
    pub delete_queue_length: u64,
    /// Unfinished tasks that save objects.
    pub save_queue_length: u64,
    /// Unfinished tasks that make copies.
    pub replicate_queue_length: u64,
    /// All unfinished tasks.
    pub total_queue_length: u64,
    /// Tasks completed since the queue was made.
    pub processed_tasks: u64,
    /// Times that a task became a dead letter.
    pub failed_tasks: u64,
    /// Workers of this node.
    pub worker_count: usize,
    /// Tasks in each state, finished ones as long as they are kept.
    pub states: BTreeMap<String, u64>,
    /// Seconds since the task that waits longest was made.
    pub oldest_waiting_seconds: Option<f64>,
    /// Time of the answer, RFC 3339.
    pub timestamp: String,
    /// The same.
    pub last_updated: String,
}

impl Figures {
    /// The figures in that form.
    pub fn new(stats: &Stats, worker_count: usize) -> Self {
        let (now, counts) = (now_ms(), &stats.counts);
        let length = |queue: &str| {
            let kinds = KindName::ALL.into_iter().filter(|k| k.queue() == queue);
            kinds.map(|kind| counts.unfinished_of(kind)).sum()
        };
        let states = TaskState::ALL.into_iter();
        let age = |made: u64| now.saturating_sub(made) as f64 / 1000.0;
        Figures {
            service: Service::Queue.name().into(),
            delete_queue_length: length("delete"),
            save_queue_length: length("save"),
            replicate_queue_length: length("replicate"),
            total_queue_length: counts.unfinished(),
            processed_tasks: stats.totals.completed,
            failed_tasks: stats.totals.dead_letters,
            worker_count,
            states: states.map(|s| (s.as_str().to_owned(), counts.in_state(s))).collect(),
            oldest_waiting_seconds: stats.oldest_waiting_ms.map(age),
            timestamp: rfc3339(now),
            last_updated: rfc3339(now),
        }
    }

    /// Figures for the description.
    pub fn example() -> Self {
        Figures {
            service: Service::Queue.name().into(),
            worker_count: 4,
            timestamp: EXAMPLE_TIME.into(),
            last_updated: EXAMPLE_TIME.into(),
            ..Figures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_generation_sees_its_own_three_states() {
        let seen: Vec<_> = TaskState::ALL.into_iter().map(legacy_state).collect();
        assert_eq!(seen, ["pending", "pending", "pending", "completed", "failed", "failed"]);
    }
}
