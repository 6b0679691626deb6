//! What the queue's API takes, with the names of both generations.
//!
//! Plain values; used by the other files of this folder.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::actors::queue_worker::task::{ID_LIMIT_BYTES, TaskState};
use crate::http::error::ApiError;
use crate::http::json::head::TextMap;
use crate::http::json::object::{Base64, UPLOAD_LIMIT};
use crate::http::json::{Input, ObjectPath, bucket, input};

/// The time in all examples.
pub const EXAMPLE_TIME: &str = "2026-01-31T12:00:00Z";
/// The object in all examples.
pub const EXAMPLE_OBJECT: &str = "photos/2026/a.jpg";

/// Splits `bucket/key`.
///
/// # Errors
/// One of them is missing or impossible.
pub fn split_object_key(text: &str) -> Result<ObjectPath, ApiError> {
    let wrong = |reason: &str| ApiError::invalid("object_key", reason, EXAMPLE_OBJECT);
    let (bucket, key) =
        text.split_once('/').ok_or_else(|| wrong("expected bucket/key, there is no slash"))?;
    let within = |e: ApiError| wrong(&e.reason.unwrap_or_else(|| e.error.into()));
    bucket::check_name("object_key", bucket).map_err(within)?;
    input::check_key("object_key", key).map_err(within)?;
    Ok(ObjectPath { bucket: bucket.to_owned(), key: key.to_owned() })
}

/// The id of a new task: the given one, or a fresh one.
///
/// # Errors
/// The given one is too long or holds odd characters.
pub fn task_id(given: &Option<String>, prefix: &str) -> Result<String, ApiError> {
    let Some(id) = given.as_deref().filter(|id| !id.is_empty()) else {
        return Ok(format!("{prefix}_{}", uuid::Uuid::new_v4()));
    };
    if id.len() <= ID_LIMIT_BYTES && id.bytes().all(|c| c.is_ascii_graphic() && c != b'/') {
        return Ok(id.to_owned());
    }
    let reason = format!("an id has at most {ID_LIMIT_BYTES} visible characters, none of them '/'");
    Err(ApiError::invalid("id", reason, "del_example"))
}

fn check_pending(status: &Option<String>) -> Result<(), ApiError> {
    match status.as_deref() {
        None | Some("" | "pending") => Ok(()),
        Some(other) => {
            let reason = format!("a new task is pending, not {other:?}");
            Err(ApiError::invalid("status", reason, "pending"))
        }
    }
}

/// A delete task to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct NewDeleteTask {
    /// `bucket/key`.
    pub object_key: String,
    /// The id; a fresh one where none is given.
    pub id: Option<String>,
    /// `pending`, or nothing.
    pub status: Option<String>,
}

impl Input for NewDeleteTask {
    fn example() -> Value {
        json!({ "object_key": EXAMPLE_OBJECT, "id": "del_example" })
    }

    fn check(&self) -> Result<(), ApiError> {
        check_pending(&self.status)?;
        split_object_key(&self.object_key).map(drop)
    }
}

/// The object of a save task.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SavedObject {
    /// Bucket; must agree with `object_key`.
    #[serde(default)]
    pub bucket: String,
    /// Key; must agree with `object_key`.
    #[serde(default)]
    pub key: String,
    /// Bytes; must agree with `data` where that is given.
    pub size: Option<u64>,
    /// Content type.
    pub content_type: Option<String>,
    /// The bytes, as base64; without them the object is fetched from third parties.
    pub data: Option<Base64>,
    /// Headers and user metadata.
    pub headers: Option<TextMap>,
}

/// A save task to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct NewSaveTask {
    /// `bucket/key`.
    pub object_key: String,
    /// The object.
    #[serde(default)]
    pub object: SavedObject,
    /// The id; a fresh one where none is given.
    pub id: Option<String>,
    /// `pending`, or nothing.
    pub status: Option<String>,
}

impl Input for NewSaveTask {
    const LIMIT: u64 = UPLOAD_LIMIT;

    fn example() -> Value {
        json!({ "object_key": EXAMPLE_OBJECT, "id": "save_example",
                "object": { "bucket": "photos", "key": "2026/a.jpg", "size": 5,
                            "content_type": "text/plain", "data": "aGVsbG8=" } })
    }

    fn check(&self) -> Result<(), ApiError> {
        check_pending(&self.status)?;
        let path = split_object_key(&self.object_key)?;
        let object = &self.object;
        let odd = |given: &str, is: &str| !given.is_empty() && given != is;
        for (field, odd, is) in [
            ("object.bucket", odd(&object.bucket, &path.bucket), &path.bucket),
            ("object.key", odd(&object.key, &path.key), &path.key),
        ] {
            if odd {
                return Err(ApiError::invalid(field, "it disagrees with object_key", is));
            }
        }
        let len = object.data.as_ref().map(|data| data.0.len() as u64);
        match (object.size, len) {
            (Some(size), Some(len)) if size != len && len > 0 => {
                let reason = format!("data has {len} bytes, not {size}");
                Err(ApiError::invalid("object.size", reason, &len.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// The answer to a task that was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TaskDone {
    /// Always true.
    pub success: bool,
    /// Its id.
    pub task_id: String,
    /// What was done.
    pub message: String,
}

impl TaskDone {
    /// An answer for the description.
    pub fn example(prefix: &str) -> Self {
        let task_id = format!("{prefix}_example");
        TaskDone { success: true, task_id, message: "task queued".into() }
    }
}

/// What came of a task.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct StatusRequest {
    /// `pending`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Why, where it failed.
    pub error: Option<String>,
}

impl Input for StatusRequest {
    fn example() -> Value {
        json!({ "status": "completed" })
    }

    fn check(&self) -> Result<(), ApiError> {
        self.state().map(drop)
    }
}

impl StatusRequest {
    /// The state that is asked for.
    ///
    /// # Errors
    /// It is none that can be set.
    pub fn state(&self) -> Result<TaskState, ApiError> {
        match self.status.parse() {
            Ok(TaskState::Running | TaskState::Retrying) | Err(_) => {
                let reason = format!(
                    "{:?} cannot be set: expected pending, completed, failed or cancelled",
                    self.status
                );
                Err(ApiError::invalid("status", reason, "completed"))
            }
            Ok(state) => Ok(state),
        }
    }
}

/// The answer to a status.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StatusDone {
    /// Always true.
    pub success: bool,
    /// The task.
    pub task_id: String,
    /// Its state now.
    pub status: String,
    /// What was done.
    pub message: String,
}

impl StatusDone {
    /// An answer for the description.
    pub fn example(prefix: &str) -> Self {
        StatusDone {
            success: true,
            task_id: format!("{prefix}_example"),
            status: "completed".into(),
            message: "status noted".into(),
        }
    }
}

/// A task of the first generation to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct NewTaskRequest {
    /// The id; a fresh one where none is given.
    pub id: Option<String>,
    /// `delete_file` or `save_file`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `bucket/key`.
    pub object_key: String,
    /// 0 to 255, higher goes first; 100 where none is given.
    pub priority: Option<u8>,
    /// Attempts after the first, 0 to 1000; 9 where none are given.
    pub max_retries: Option<u32>,
    /// Not before this time, RFC 3339.
    pub scheduled_at: Option<String>,
}

impl Input for NewTaskRequest {
    fn example() -> Value {
        json!({ "id": "task_example", "type": "delete_file", "object_key": EXAMPLE_OBJECT,
                "priority": 100, "max_retries": 3 })
    }

    fn check(&self) -> Result<(), ApiError> {
        input::check_range("max_retries", self.max_retries.unwrap_or(0), 0, 1000)?;
        self.not_before_ms()?;
        split_object_key(&self.object_key).map(drop)
    }
}

impl NewTaskRequest {
    /// The time that `scheduled_at` names.
    ///
    /// # Errors
    /// It is no time.
    pub fn not_before_ms(&self) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.scheduled_at.as_deref().filter(|t| !t.is_empty()) else {
            return Ok(None);
        };
        let rfc3339 = &time::format_description::well_known::Rfc3339;
        match time::OffsetDateTime::parse(text, rfc3339) {
            Ok(time) => Ok(Some(time.unix_timestamp().max(0) as u64 * 1000)),
            Err(e) => Err(ApiError::invalid("scheduled_at", e.to_string(), EXAMPLE_TIME)),
        }
    }
}

#[cfg(test)]
mod tests;
