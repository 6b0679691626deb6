//! The JSON API of the third-party service: objects of the sources, the sources themselves, the
//! cache.
//!
//! Translates requests into messages to the service's actor (on this node) and streams bodies from
//! the data plane. What is read here comes from outside; the buckets of the cluster are not asked.
//!
//! - `TPAPI-1` sources are read only: to store or delete objects there answers 501;
//! - `TPAPI-2` a source that is added or removed here is told to all live third-party instances;
//!   one that is away meanwhile does not learn of it (`instances` in the answer counts those that
//!   did);
//! - `TPAPI-3` an object that no source has is 404; one that could not be had because sources
//!   failed is 503.

mod model;
mod objects;
mod sources;

use axum::Router;
use http::StatusCode;

use super::error::ApiError;
use super::json::{Api, JsonEnv, Operation};
use crate::types::Service;
use model::{CacheState, Cached, DataSource, DataSources, Figures, Listing, Metadata, Saved};

/// The operations.
pub fn api(env: JsonEnv) -> Api {
    objects_api().merge(sources_api()).merge(cache_api()).with_state(env)
}

/// The whole API of the service; `common` are the operations that every service has.
pub fn router(env: JsonEnv, common: Api) -> Router {
    let gate = env.gate.clone();
    api(env).merge(common).finish(Service::ThirdParty, gate)
}

fn objects_api() -> Api<JsonEnv> {
    let missing = [StatusCode::NOT_FOUND];
    let fetch = Operation::get("/api/v1/objects/{bucket}/{*key}")
        .about("The bytes of an object, from the first source that has it")
        .object_path()
        .answer_raw(StatusCode::OK, "the bytes", "application/octet-stream", "hello")
        .fails(&missing);
    let head = Operation::head("/api/v1/objects/{bucket}/{*key}")
        .about("The headers of an object, from the first source that has it")
        .object_path()
        .empty(StatusCode::OK, "the headers")
        .fails(&missing);
    let metadata = Operation::get("/api/v1/metadata/{bucket}/{*key}")
        .about("What the first source that has it says of an object")
        .object_path()
        .answer::<Metadata>(StatusCode::OK, "its description", Metadata::example())
        .fails(&missing);
    let list = Operation::get("/api/v1/objects")
        .about("Keys of an S3 source")
        .query::<objects::ListParams>()
        .answer::<Listing>(StatusCode::OK, "a page", Listing::example())
        .fails(&missing);
    let offered = [StatusCode::NOT_IMPLEMENTED];
    let store = Operation::post("/api/v1/objects")
        .about("Not offered: sources are read only")
        .fails(&offered);
    let delete = Operation::delete("/api/v1/objects/{bucket}/{*key}")
        .about("Not offered: sources are read only")
        .object_path()
        .fails(&offered);
    let stats = Operation::get("/api/v1/stats")
        .about("Counts of this instance since its start")
        .answer::<Figures>(StatusCode::OK, "the counts", Figures::default());
    Api::default()
        .at(fetch, objects::fetch)
        .at(head, objects::head)
        .at(metadata, objects::metadata)
        .at(list, objects::list)
        .at(store, read_only)
        .at(delete, read_only)
        .at(stats, objects::stats)
}

fn sources_api() -> Api<JsonEnv> {
    let (missing, conflict) = (StatusCode::NOT_FOUND, StatusCode::CONFLICT);
    let named = |o: Operation| o.path_param("id", "the name of the source", "upstream");
    let list = Operation::get("/api/v1/datasources")
        .about("The sources, in the order in which they are asked")
        .answer::<DataSources>(StatusCode::OK, "all sources", DataSources::example());
    let add = Operation::post("/api/v1/datasources")
        .about("Adds a source, or replaces one that was added")
        .body::<model::SourceInput>()
        .answer::<Saved>(StatusCode::CREATED, "added", Saved::example())
        .fails(&[conflict, StatusCode::NOT_IMPLEMENTED]);
    let find = named(Operation::get("/api/v1/datasources/{id}"))
        .about("One source")
        .answer::<DataSource>(StatusCode::OK, "the source", DataSource::example())
        .fails(&[missing]);
    let replace = named(Operation::put("/api/v1/datasources/{id}"))
        .about("Replaces a source that was added; the name of the path wins")
        .body::<model::SourceInput>()
        .answer::<Saved>(StatusCode::OK, "replaced", Saved::example())
        .fails(&[missing, conflict, StatusCode::NOT_IMPLEMENTED]);
    let remove = named(Operation::delete("/api/v1/datasources/{id}"))
        .about("Forgets a source that was added")
        .empty(StatusCode::NO_CONTENT, "forgotten")
        .fails(&[missing, conflict]);
    Api::default()
        .at(list, sources::list)
        .at(add, sources::add)
        .at(find, sources::find)
        .at(replace, sources::replace)
        .at(remove, sources::remove)
}

fn cache_api() -> Api<JsonEnv> {
    let state = Operation::get("/api/v1/cache")
        .about("How the cache of this instance stands")
        .answer::<CacheState>(StatusCode::OK, "the cache", CacheState::example());
    let warm = Operation::post("/api/v1/cache")
        .about("Fetches an object, which the cache keeps if it is small (1 MiB)")
        .body::<model::CacheInput>()
        .answer::<Cached>(StatusCode::OK, "fetched", Cached::example())
        .fails(&[StatusCode::NOT_FOUND]);
    let evict = Operation::delete("/api/v1/cache/{bucket}/{*key}")
        .about("Throws an object out of the cache of this instance")
        .object_path()
        .empty(StatusCode::NO_CONTENT, "thrown out")
        .fails(&[StatusCode::NOT_FOUND]);
    Api::default().at(state, objects::cache).at(warm, objects::warm).at(evict, objects::evict)
}

/// TPAPI-1.
async fn read_only() -> ApiError {
    let why = "sources are only read: store and delete objects over the storage service or S3";
    ApiError::not_implemented("third-party objects cannot be changed", why)
}
