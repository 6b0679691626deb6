//! The JSON API of the storage service: objects by base64 and by raw bytes, listings, nodes.
//!
//! On the port of the S3 edge, which hands unsigned requests to `/api/v1/**`, `/health`, `/metrics`
//! and `/openapi.json` over to it. Uses the flows of `objects`; every request acts as
//! `http.json_owner`, so that objects in other users' buckets are 403.
//!
//! - `STAPI-1` work on objects runs in a per-request actor, as that of the S3 edge;
//! - `STAPI-2` a PUT with `Content-Type: application/json` is an upload request with base64 data,
//!   unless `?raw=true`; any other body is taken as the object's bytes, streamed;
//! - `STAPI-3` the routes by which the original's nodes exchanged objects answer 501: here they do so
//!   over the data plane, by ticket.

mod lists;
mod model;
mod nodes;
mod objects;

use axum::Router;
use http::StatusCode;

use super::error::ApiError;
use super::json::{Api, JsonEnv, Operation};
use crate::types::Service;
use model::{Listing, NodesView, UploadRequest, UploadResponse};

/// The operations.
pub fn api(env: JsonEnv) -> Api {
    objects_api().merge(other_api()).with_state(env)
}

/// The whole API of the service; `common` are the operations that every service has.
pub fn router(env: JsonEnv, common: Api) -> Router {
    let gate = env.gate.clone();
    api(env).merge(common).finish(Service::Storage, gate)
}

const TOO_LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;

fn objects_api() -> Api<JsonEnv> {
    let create = Operation::post("/api/v1/objects")
        .about("Stores an object that comes as base64")
        .body::<UploadRequest>()
        .answer::<UploadResponse>(StatusCode::CREATED, "stored", UploadResponse::example())
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, TOO_LARGE]);
    let replace = Operation::put("/api/v1/objects/{bucket}/{*key}")
        .about("Stores an object: from JSON (200), or from raw bytes of any other type (201)")
        .object_path()
        .query::<objects::PutParams>()
        .body::<UploadRequest>()
        .raw_body()
        .answer::<UploadResponse>(StatusCode::OK, "stored", UploadResponse::example())
        .answer::<UploadResponse>(StatusCode::CREATED, "stored", UploadResponse::example())
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, TOO_LARGE]);
    let bytes = "application/octet-stream";
    let fetch = Operation::get("/api/v1/objects/{bucket}/{*key}")
        .about("The bytes of an object, with its headers; Content-MD5 is in hex")
        .object_path()
        .answer_raw(StatusCode::OK, "the bytes", bytes, "hello")
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND]);
    let head = Operation::head("/api/v1/objects/{bucket}/{*key}")
        .about("The headers of an object")
        .object_path()
        .empty(StatusCode::OK, "the headers")
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND]);
    let delete = Operation::delete("/api/v1/objects/{bucket}/{*key}")
        .about("Deletes an object")
        .object_path()
        .empty(StatusCode::NO_CONTENT, "deleted")
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND]);
    Api::default()
        .at(create, objects::create)
        .at(replace, objects::replace)
        .at(fetch, objects::fetch)
        .at(head, objects::head)
        .at(delete, objects::delete)
}

fn other_api() -> Api<JsonEnv> {
    let list = Operation::get("/api/v1/objects")
        .about("Objects and common prefixes of a bucket in order")
        .query::<lists::ListParams>()
        .answer::<Listing>(StatusCode::OK, "a page", Listing::example())
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND]);
    let stats = Operation::get("/api/v1/stats").about("The storage nodes").answer::<NodesView>(
        StatusCode::OK,
        "the nodes",
        NodesView::example(),
    );
    let missing = [StatusCode::NOT_IMPLEMENTED];
    let take = Operation::post("/api/v1/internal/objects")
        .about("Not offered: nodes exchange data over the data plane")
        .fails(&missing);
    let drop = Operation::delete("/api/v1/internal/objects/{bucket}/{*key}")
        .about("Not offered: nodes exchange data over the data plane")
        .object_path()
        .fails(&missing);
    Api::default()
        .at(list, lists::list)
        .at(stats, nodes::stats)
        .at(take, internal)
        .at(drop, internal)
}

/// STAPI-3.
async fn internal() -> ApiError {
    let why = "nodes exchange data over the data plane, with a ticket for each transfer; \
               clients use /api/v1/objects";
    ApiError::not_implemented("internal object routes are not offered", why)
}
