//! The JSON API of the metadata service: rows, listings, search, figures, buckets.
//!
//! Asks the catalog and uses the flows. Reads are the operator's view of all buckets; writes act as
//! `http.json_owner`. Names and shapes are those of both generations of the original.
//!
//! - `MDAPI-1` a row with bytes is made by an upload, never here: what is posted for an object that
//!   exists changes its content type, headers and tags, and must agree with its size and MD5; for one
//!   that does not, it makes an empty object, or, in a bucket with fallback, a row whose bytes a third
//!   party has (`size` and `md5_hash` given); anything else is 422;
//! - `MDAPI-2` DELETE of an object that is not there is 404 and changes nothing.

mod buckets;
mod lists;
mod model;
mod nodes;
mod rows;
mod write;

use axum::Router;
use http::StatusCode;

use super::json::{Api, Done, JsonEnv, Operation};
use super::rebalance::Rebalance;
use crate::types::Service;
use model::{Bucket, BucketList, Count, Figures, Found, Listing, Row, RowInput};

/// The operations.
pub fn api(env: JsonEnv) -> Api {
    rows_api().merge(lists_api()).merge(buckets_api()).merge(nodes_api()).with_state(env)
}

/// The whole API of the service; `common` are the operations that every service has.
pub fn router(env: JsonEnv, common: Api) -> Router {
    let gate = env.gate.clone();
    api(env).merge(common).finish(Service::Metadata, gate)
}

fn rows_api() -> Api<JsonEnv> {
    let create = Operation::post("/api/v1/metadata")
        .about("Changes what can be changed of an object's metadata; makes rows without bytes")
        .body::<RowInput>()
        .answer::<Done>(StatusCode::CREATED, "done", Done::new("metadata saved"))
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::CONFLICT]);
    let update = Operation::put("/api/v1/metadata/{bucket}/{*key}")
        .about("The same; bucket and key of the path win over those of the body")
        .object_path()
        .body::<RowInput>()
        .answer::<Done>(StatusCode::OK, "done", Done::new("metadata saved"))
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::CONFLICT]);
    let find = Operation::get("/api/v1/metadata/{bucket}/{*key}")
        .about("The metadata of one object")
        .object_path()
        .answer::<Row>(StatusCode::OK, "the row", Row::example())
        .fails(&[StatusCode::NOT_FOUND]);
    let delete = Operation::delete("/api/v1/metadata/{bucket}/{*key}")
        .about("Deletes the object")
        .object_path()
        .empty(StatusCode::NO_CONTENT, "deleted")
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND]);
    Api::default()
        .at(create, write::create)
        .at(update, write::update)
        .at(find, rows::find)
        .at(delete, write::delete)
}

fn lists_api() -> Api<JsonEnv> {
    let list = Operation::get("/api/v1/metadata")
        .about("Objects of a bucket in order of keys")
        .query::<lists::ListParams>()
        .answer::<Listing>(StatusCode::OK, "a page", Listing::example())
        .fails(&[StatusCode::NOT_FOUND]);
    let search = Operation::get("/api/v1/metadata/search")
        .about("Objects whose key, tags or user metadata hold all words")
        .query::<lists::SearchParams>()
        .answer::<Found>(StatusCode::OK, "a page", Found::example())
        .fails(&[StatusCode::NOT_FOUND]);
    let count = Operation::get("/api/v1/metadata/count")
        .about("How many objects of a bucket have keys that begin so")
        .query::<lists::CountParams>()
        .answer::<Count>(StatusCode::OK, "the number", Count::example())
        .fails(&[StatusCode::NOT_FOUND]);
    let stats = Operation::get("/api/v1/stats")
        .about("Totals and distributions")
        .answer::<Figures>(StatusCode::OK, "the figures", Figures::example());
    Api::default()
        .at(list, lists::list)
        .at(search, lists::search)
        .at(count, lists::count)
        .at(stats, lists::stats)
}

fn buckets_api() -> Api<JsonEnv> {
    let name = |o: Operation| o.path_param("bucket", "the bucket", "photos");
    let list = Operation::get("/api/v1/buckets")
        .about("Buckets by name")
        .query::<buckets::BucketsParams>()
        .answer::<BucketList>(StatusCode::OK, "a page", BucketList::example());
    let create = Operation::post("/api/v1/buckets")
        .about("Makes a bucket of http.json_owner")
        .body::<buckets::NewBucket>()
        .answer::<Done>(StatusCode::CREATED, "made", Done::new("bucket created"))
        .fails(&[StatusCode::CONFLICT]);
    let find = name(Operation::get("/api/v1/buckets/{bucket}"))
        .about("One bucket")
        .answer::<Bucket>(StatusCode::OK, "the bucket", Bucket::example())
        .fails(&[StatusCode::NOT_FOUND]);
    let fallback = name(Operation::put("/api/v1/buckets/{bucket}/fallback"))
        .about("Whether keys that are not here are asked for from third parties")
        .body::<buckets::Switch>()
        .answer::<Done>(StatusCode::OK, "switched", Done::new("fallback is on"))
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND]);
    let delete = name(Operation::delete("/api/v1/buckets/{bucket}"))
        .about("Removes an empty bucket")
        .empty(StatusCode::NO_CONTENT, "removed")
        .fails(&[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::CONFLICT]);
    Api::default()
        .at(list, buckets::list)
        .at(create, buckets::create)
        .at(find, buckets::find)
        .at(fallback, buckets::fallback)
        .at(delete, buckets::delete)
}

fn nodes_api() -> Api<JsonEnv> {
    let list = Operation::get("/api/v1/nodes")
        .about("The storage nodes that count in N, running or not")
        .answer::<nodes::NodeList>(StatusCode::OK, "the nodes", nodes::NodeList::example());
    let example = "storage-service-6f0c6f0c-6f0c-4f0c-8f0c-6f0c6f0c6f0c";
    let remove = Operation::delete("/api/v1/nodes/{instance}")
        .about("Takes a storage node that does not run out for good: it no longer counts in N")
        .path_param("instance", "its instance id", example)
        .empty(StatusCode::NO_CONTENT, "removed")
        .fails(&[StatusCode::NOT_FOUND, StatusCode::CONFLICT]);
    let rebalance = Operation::get("/api/v1/rebalance")
        .about("How far objects are on their way to the storage nodes that are to have them")
        .answer::<Rebalance>(StatusCode::OK, "how far", Rebalance::example());
    Api::default().at(list, nodes::list).at(remove, nodes::remove).at(rebalance, nodes::rebalance)
}
