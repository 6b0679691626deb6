//! The description that the operations give of themselves.

use axum::body::{Body, to_bytes};
use http::Request;
use serde::Deserialize;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::http::json::frame::{REQUEST_ID, V1_MEDIA_TYPE};
use crate::http::json::{self, Peer};

#[derive(Deserialize, Serialize, ToSchema)]
struct Thing {
    name: String,
    inner: Inner,
}

#[derive(Deserialize, Serialize, ToSchema)]
struct Inner {
    size: u64,
}

impl Input for Thing {
    fn example() -> Value {
        json!({ "name": "a", "inner": { "size": 1 } })
    }
}

fn router() -> Router {
    let make = Operation::post("/api/v1/things")
        .about("Makes a thing")
        .body::<Thing>()
        .answer::<Thing>(StatusCode::CREATED, "it", Thing::example());
    let made = |json::Body(thing): json::Body<Thing>| async { (StatusCode::CREATED, Json(thing)) };
    let drop = Operation::delete("/api/v1/things/{bucket}/{*key}")
        .about("Drops a thing")
        .object_path()
        .empty(StatusCode::NO_CONTENT, "gone");
    let dropped = |_: json::ObjectPath| async { StatusCode::NO_CONTENT };
    Api::default().at(make, made).at(drop, dropped).finish(Service::Metadata, Gate::default())
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

async fn ask(method: &str, path: &str, accept: &str, peer: &str, body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("accept", accept);
    if let Ok(peer) = peer.parse() {
        request = request.extension(Peer(peer));
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

const HOME: &str = "127.0.0.1:5000";

#[tokio::test]
async fn every_error_has_the_one_body_and_the_id_of_its_request() {
    let rows = [
        ("GET", "/api/v1/nothing", HOME, "", 404),
        ("DELETE", "/api/v1/things/abc/%FF", HOME, "", 400),
        ("PATCH", "/api/v1/things", HOME, "", 405),
        ("POST", "/api/v1/things", HOME, "{", 400),
        ("POST", "/api/v1/things", HOME, r#"{"name":"a","inner":{}}"#, 422),
        ("GET", "/openapi.json", "10.0.0.1:5000", "", 401),
        ("GET", "/openapi.json", "", "", 401),
    ];
    for (method, path, peer, body, status) in rows {
        let answer = ask(method, path, "*/*", peer, body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let error: ApiError = serde_json::from_value(answer.body).unwrap();
        assert!(!error.success && error.code == status && !error.error.is_empty());
        assert_eq!(answer.headers[REQUEST_ID], error.request_id.as_str(), "FRAME-1");
    }
}

#[tokio::test]
async fn the_first_generation_gets_its_envelope_around_answers_and_errors() {
    let body = Thing::example().to_string();
    let made = ask("POST", "/api/v1/things", V1_MEDIA_TYPE, HOME, &body).await;
    assert_eq!((made.status, &made.body["success"]), (201, &json!(true)));
    assert_eq!(made.body["data"], Thing::example());
    let gone = ask("DELETE", "/api/v1/things/abc/k", V1_MEDIA_TYPE, HOME, "").await;
    assert_eq!((gone.status, &gone.body["data"]), (200, &Value::Null));
    let bad = ask("POST", "/api/v1/things", V1_MEDIA_TYPE, HOME, "{}").await;
    assert_eq!((bad.status, &bad.body["success"]), (422, &json!(false)));
    assert_eq!(bad.body["error"]["code"], 422);
    assert_eq!(bad.body["error"]["details"]["field"], "name");
    for answer in [made, gone, bad] {
        let members: Vec<_> = answer.body.as_object().unwrap().keys().cloned().collect();
        let all = ["data", "error", "message", "request_id", "success", "timestamp"];
        assert_eq!(members, all);
        assert_eq!(answer.headers["content-type"], V1_MEDIA_TYPE);
    }
    let plain = ask("DELETE", "/api/v1/things/abc/k", "application/json", HOME, "").await;
    assert_eq!((plain.status, plain.body), (204, Value::Null));
}

#[tokio::test]
async fn the_document_describes_every_route_with_schemas_that_resolve() {
    let document = ask("GET", "/openapi.json", V1_MEDIA_TYPE, HOME, "").await.body;
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(paths, ["/api/v1/things", "/api/v1/things/{bucket}/{key}", "/openapi.json"]);
    assert!(document["components"]["schemas"]["Inner"]["properties"]["size"].is_object());
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}
