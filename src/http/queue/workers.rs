//! The workers of this node: shown, started, stopped.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::QueueEnv;
use crate::actors::queue_worker::worker::WorkerCell;
use crate::http::error::ApiError;
use crate::http::json::Segment;

/// One worker of this node.
#[derive(Clone)]
pub struct WorkerHandle {
    /// Its name in leases: `{instance}/{n}`.
    pub name: String,
    /// Its switch and counters.
    pub cell: Arc<WorkerCell>,
}

impl WorkerHandle {
    /// Its id in the API: the `n`-th is `worker-{n}`.
    fn id(&self) -> String {
        let n = self.name.rsplit('/').next().unwrap_or_default();
        format!("worker-{n}")
    }

    /// Whether a path means this worker: by id, number or full name.
    fn is(&self, asked: &str) -> bool {
        asked == self.name || self.id().strip_prefix("worker-") == Some(asked) || asked == self.id()
    }

    fn view(&self) -> WorkerView {
        let status = self.cell.status();
        WorkerView {
            id: self.id(),
            name: self.name.clone(),
            status: status.state.into(),
            completed: status.completed,
            failed: status.failed,
        }
    }
}

/// A worker.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkerView {
    /// Its id on this node.
    pub id: String,
    /// Its name in leases.
    pub name: String,
    /// `idle`, `running` or `stopped`.
    pub status: String,
    /// Tasks completed since the process started.
    pub completed: u64,
    /// Attempts failed since the process started.
    pub failed: u64,
}

impl WorkerView {
    /// A worker for the description.
    pub fn example() -> Self {
        WorkerView {
            id: "worker-1".into(),
            name: "queue-service-6f0c6f0c-6f0c-4f0c-8f0c-6f0c6f0c6f0c/1".into(),
            status: "idle".into(),
            completed: 0,
            failed: 0,
        }
    }
}

/// The workers of this node.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkerList {
    /// The workers.
    pub workers: Vec<WorkerView>,
    /// How many they are.
    pub count: usize,
}

impl WorkerList {
    /// A list for the description.
    pub fn example() -> Self {
        WorkerList { workers: vec![WorkerView::example()], count: 1 }
    }
}

/// `GET /api/v1/workers`.
pub async fn list(State(env): State<QueueEnv>) -> Json<WorkerList> {
    let workers: Vec<WorkerView> = env.workers.iter().map(WorkerHandle::view).collect();
    Json(WorkerList { count: workers.len(), workers })
}

/// `POST /api/v1/workers/{id}/start`.
pub async fn start(
    State(env): State<QueueEnv>,
    Segment(id): Segment,
) -> Result<Json<WorkerView>, ApiError> {
    switch(&env.workers, &id, false).map(Json)
}

/// `POST /api/v1/workers/{id}/stop`.
pub async fn stop(
    State(env): State<QueueEnv>,
    Segment(id): Segment,
) -> Result<Json<WorkerView>, ApiError> {
    switch(&env.workers, &id, true).map(Json)
}

fn switch(workers: &[WorkerHandle], id: &str, stopped: bool) -> Result<WorkerView, ApiError> {
    let Some(worker) = workers.iter().find(|w| w.is(id)) else {
        let known: Vec<String> = workers.iter().map(WorkerHandle::id).collect();
        let reason = format!("the workers of this node are {}", known.join(", "));
        return Err(ApiError {
            field: Some("id".into()),
            reason: Some(reason),
            example: known.into_iter().next(),
            ..ApiError::unknown("no such worker")
        });
    };
    worker.cell.set_stopped(stopped);
    Ok(worker.view())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_switched_by_id_by_number_and_by_name() {
        let name = |n: u32| format!("queue-service-x/{n}");
        let workers: Vec<_> =
            (1..=12).map(|n| WorkerHandle { name: name(n), cell: Arc::default() }).collect();
        for id in ["worker-1", "1", "queue-service-x/1"] {
            assert_eq!(switch(&workers, id, true).unwrap().status, "stopped");
            assert_eq!(switch(&workers, id, false).unwrap().status, "idle");
        }
        assert_eq!(switch(&workers, "worker-12", true).unwrap().id, "worker-12");
        assert_eq!(workers[0].cell.status().state, "idle", "only the one that was named");
        for id in ["worker-13", "", "worker", "x/1"] {
            assert_eq!(switch(&workers, id, true).unwrap_err().code, 404, "{id}");
        }
    }
}
