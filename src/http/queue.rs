//! The JSON API of the queue service: delete and save tasks of the second generation of the original,
//! tasks and workers of the first.
//!
//! Sends commands and questions to the queue actor; the switches of the workers are those of this
//! node. A task made here is one that names an object; tasks of the cluster itself (data to remove,
//! copies to make) are shown, but neither made nor given out.
//!
//! - `QAPI-1` the same id posted twice is one task: 201 both times, 409 if it asks for something else;
//! - `QAPI-2` `dequeue` leases: a task that nobody finishes within [`legacy::LEASE`] comes back;
//! - `QAPI-3` a save task that brings its bytes is done before it is answered: the object is stored,
//!   and the task stands there as completed. Without bytes, a worker gets the object from third
//!   parties.

mod legacy;
mod model;
mod save;
mod tasks;
mod view;
mod workers;

use std::sync::Arc;

use axum::Router;
use http::StatusCode;

use super::error::ApiError;
use super::json::{Api, CALL_LIMIT, Done, JsonEnv, Operation, RequestScope};
use crate::actors::queue_worker::command::{Command, Enqueued, Outcome};
use crate::actors::queue_worker::task::NewTask;
use crate::actors::queue_worker::{Message, QueueReply, TASK_LIMIT};
use crate::cluster::Scope;
use crate::types::Service;
use model::{NewDeleteTask, NewSaveTask, NewTaskRequest, StatusDone, StatusRequest, TaskDone};
use view::{DeleteTask, Figures, SaveTask, TaskList, TaskView};
use workers::{WorkerList, WorkerView};

pub use workers::WorkerHandle;

/// What the queue's API works with.
#[derive(Clone)]
pub struct QueueEnv {
    /// What all JSON APIs work with.
    pub json: JsonEnv,
    /// The workers of this node.
    pub workers: Arc<[WorkerHandle]>,
}

/// The operations.
pub fn api(env: QueueEnv) -> Api {
    deletes_api().merge(saves_api()).merge(tasks_api()).merge(workers_api()).with_state(env)
}

/// The whole API of the service; `common` are the operations that every service has.
pub fn router(env: QueueEnv, common: Api) -> Router {
    let gate = env.json.gate.clone();
    api(env).merge(common).finish(Service::Queue, gate)
}

const CONFLICTS: [StatusCode; 2] = [StatusCode::NOT_FOUND, StatusCode::CONFLICT];

fn deletes_api() -> Api<QueueEnv> {
    let create = Operation::post("/api/v1/delete-tasks")
        .about("Has an object deleted")
        .body::<NewDeleteTask>()
        .answer::<TaskDone>(StatusCode::CREATED, "queued", TaskDone::example("del"))
        .fails(&[StatusCode::CONFLICT]);
    let dequeue = Operation::get("/api/v1/delete-tasks/dequeue")
        .about("Leases the next delete task to a worker outside; waits for one")
        .query::<legacy::DequeueParams>()
        .answer::<DeleteTask>(StatusCode::OK, "a task", DeleteTask::example())
        .empty(StatusCode::NO_CONTENT, "none in time");
    let status = Operation::put("/api/v1/delete-tasks/{id}/status")
        .about("Says what came of a delete task")
        .path_param("id", "the task", "del_example")
        .body::<StatusRequest>()
        .answer::<StatusDone>(StatusCode::OK, "noted", StatusDone::example("del"))
        .fails(&CONFLICTS);
    Api::default()
        .at(create, legacy::create_delete)
        .at(dequeue, legacy::dequeue_delete)
        .at(status, legacy::status_delete)
}

fn saves_api() -> Api<QueueEnv> {
    let create = Operation::post("/api/v1/save-tasks")
        .about("Has an object saved: with its bytes at once, without them from third parties")
        .body::<NewSaveTask>()
        .answer::<TaskDone>(StatusCode::CREATED, "queued or done", TaskDone::example("save"))
        .fails(&[StatusCode::FORBIDDEN, StatusCode::CONFLICT, StatusCode::PAYLOAD_TOO_LARGE]);
    let dequeue = Operation::get("/api/v1/save-tasks/dequeue")
        .about("Leases the next save task to a worker outside; waits for one")
        .query::<legacy::DequeueParams>()
        .answer::<SaveTask>(StatusCode::OK, "a task", SaveTask::example())
        .empty(StatusCode::NO_CONTENT, "none in time");
    let status = Operation::put("/api/v1/save-tasks/{id}/status")
        .about("Says what came of a save task")
        .path_param("id", "the task", "save_example")
        .body::<StatusRequest>()
        .answer::<StatusDone>(StatusCode::OK, "noted", StatusDone::example("save"))
        .fails(&CONFLICTS);
    Api::default()
        .at(create, save::create)
        .at(dequeue, legacy::dequeue_save)
        .at(status, legacy::status_save)
}

fn tasks_api() -> Api<QueueEnv> {
    let task = |o: Operation| o.path_param("id", "the task", "del_example");
    let list = Operation::get("/api/v1/tasks")
        .about("Tasks by state and age")
        .query::<tasks::ListParams>()
        .answer::<TaskList>(StatusCode::OK, "a page", TaskList::example());
    let create = Operation::post("/api/v1/tasks")
        .about("Makes a task of the first generation: delete_file or save_file")
        .body::<NewTaskRequest>()
        .answer::<TaskView>(StatusCode::CREATED, "queued", TaskView::example())
        .fails(&[StatusCode::CONFLICT, StatusCode::NOT_IMPLEMENTED]);
    let find = task(Operation::get("/api/v1/tasks/{id}"))
        .about("One task")
        .answer::<TaskView>(StatusCode::OK, "the task", TaskView::example())
        .fails(&[StatusCode::NOT_FOUND]);
    let retry = task(Operation::post("/api/v1/tasks/{id}/retry"))
        .about("Starts a failed or cancelled task anew")
        .answer::<Done>(StatusCode::OK, "queued", Done::new("task is pending"))
        .fails(&CONFLICTS);
    let cancel = task(Operation::post("/api/v1/tasks/{id}/cancel"))
        .about("Calls off a task that waits")
        .answer::<Done>(StatusCode::OK, "called off", Done::new("task is cancelled"))
        .fails(&CONFLICTS);
    let stats = Operation::get("/api/v1/stats").about("Lengths and counts").answer::<Figures>(
        StatusCode::OK,
        "the figures",
        Figures::example(),
    );
    Api::default()
        .at(list, tasks::list)
        .at(create, tasks::create)
        .at(find, tasks::find)
        .at(retry, tasks::retry)
        .at(cancel, tasks::cancel)
        .at(stats, tasks::stats)
}

fn workers_api() -> Api<QueueEnv> {
    let worker = |o: Operation| o.path_param("id", "the worker", "worker-1");
    let list = Operation::get("/api/v1/workers")
        .about("The workers of this node")
        .answer::<WorkerList>(StatusCode::OK, "the workers", WorkerList::example());
    let start = worker(Operation::post("/api/v1/workers/{id}/start"))
        .about("Lets a worker take tasks")
        .answer::<WorkerView>(StatusCode::OK, "started", WorkerView::example())
        .fails(&[StatusCode::NOT_FOUND]);
    let stop = worker(Operation::post("/api/v1/workers/{id}/stop"))
        .about("Keeps a worker from taking tasks; the one in work is finished")
        .answer::<WorkerView>(StatusCode::OK, "stopped", WorkerView::example())
        .fails(&[StatusCode::NOT_FOUND]);
    Api::default().at(list, workers::list).at(start, workers::start).at(stop, workers::stop)
}

impl QueueEnv {
    /// Asks the queue.
    async fn ask(&self, scope: RequestScope, message: Message) -> Result<QueueReply, ApiError> {
        match self.json.objects.cluster.question(&self.limit(scope), message).await? {
            QueueReply::Failed(why) => Err(ApiError::overload(why)),
            reply => Ok(reply),
        }
    }

    async fn apply(&self, scope: RequestScope, command: Command) -> Result<Outcome, ApiError> {
        let (scope, command) = (self.limit(scope), Message::Apply(command));
        match self.json.objects.cluster.command(&scope, command).await? {
            QueueReply::Applied(Outcome::Refused(refused)) => Err(refused.into()),
            QueueReply::Applied(outcome) => Ok(outcome),
            _ => Err(unexpected()),
        }
    }

    fn limit(&self, scope: RequestScope) -> Scope {
        scope.with(CALL_LIMIT).within(self.json.objects.settings.metadata_timeout)
    }

    /// Hands a task in; false where it was known (QAPI-1).
    async fn enqueue(&self, scope: RequestScope, task: NewTask) -> Result<bool, ApiError> {
        let command = Command::Enqueue { tasks: vec![task], limit: TASK_LIMIT };
        match self.apply(scope, command).await? {
            Outcome::Enqueued { results } => match results.into_iter().next() {
                Some(Enqueued::New) => Ok(true),
                Some(Enqueued::Known) => Ok(false),
                Some(Enqueued::Refused(refused)) => Err(refused.into()),
                None => Err(unexpected()),
            },
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> ApiError {
    tracing::error!("the queue answered with something else");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}
