//! The frame around every JSON request: access, request id, the one error body, the v1 envelope.
//!
//! Put around an API by [`super::Api::finish`].
//!
//! - `FRAME-1` every answer carries `x-request-id`, and an error body names the same id;
//! - `FRAME-2` the envelope `{success, data, error, message, request_id, timestamp}` is put around
//!   JSON only; raw object bytes and `/openapi.json` stay as they are.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::access::{Decision, Gate, Peer};
use crate::cluster::Scope;
use crate::http::admin::rfc3339;
use crate::http::error::ApiError;
use crate::types::now_ms;

/// The media type by which a client asks for the envelope of the first generation.
pub const V1_MEDIA_TYPE: &str = "application/vnd.mocks3.v1+json";
/// The header that carries the id of the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest JSON answer, in bytes: a full list with everything at its limit.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Identity and budget of the request, for the calls that it makes.
#[derive(Clone, Copy, Debug)]
pub struct RequestScope(Scope);

impl RequestScope {
    /// The scope with this much time from now.
    pub fn with(&self, limit: Duration) -> Scope {
        self.0.detached(limit)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestScope {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, ApiError> {
        let fresh = || RequestScope(Scope::new(super::CALL_LIMIT));
        Ok(parts.extensions.get::<RequestScope>().copied().unwrap_or_else(fresh))
    }
}

/// Serves one request within the frame.
pub async fn around(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let scope = Scope::new(super::CALL_LIMIT);
    let id = uuid::Uuid::from_u128(scope.request_id).to_string();
    let peer = request.extensions().get::<Peer>().map(|p| p.0.ip());
    let v1 = wants_v1(request.headers()) && request.uri().path() != "/openapi.json";
    let decision = gate.decide(peer, request.uri().path(), request.headers());
    request.extensions_mut().insert(RequestScope(scope));
    let response = match decision {
        Decision::Pass => next.run(request).await,
        Decision::NoToken => unauthorized("a client outside of the trusted networks needs a token"),
        Decision::WrongToken => unauthorized("the token is not the one of http.token"),
    };
    let mut response = dress(response, &id, v1).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value); // FRAME-1
    }
    response
}

/// What an unknown path is answered.
pub async fn no_such_path(request: Request) -> ApiError {
    ApiError::unknown(format!("no such path: {}", request.uri().path()))
}

/// What a wrong method is answered.
pub async fn no_such_method(request: Request) -> ApiError {
    let text = format!("{} is not offered on {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

fn unauthorized(reason: &str) -> Response {
    let error = ApiError {
        field: Some("Authorization".into()),
        reason: Some(reason.into()),
        example: Some("Authorization: Bearer <http.token>".into()),
        ..ApiError::new(StatusCode::UNAUTHORIZED, "not authorized")
    };
    let mut response = error.into_response();
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

fn wants_v1(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).into_iter();
    accepts.filter_map(|v| v.to_str().ok()).any(|v| v.contains(V1_MEDIA_TYPE))
}

/// Gives errors the id of the request, and everything the envelope where it is wanted.
async fn dress(mut response: Response, id: &str, v1: bool) -> Response {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let error = ApiError { request_id: id.to_owned(), ..error };
        let body = if v1 { envelope_of_error(&error) } else { json!(error) };
        return replace(response, &body, v1);
    }
    if !v1 || !response.status().is_success() {
        return response;
    }
    if response.status() == StatusCode::NO_CONTENT {
        *response.status_mut() = StatusCode::OK;
        return replace(response, &envelope(Value::Null, id), v1);
    }
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind != Some(b"application/json") {
        return response; // FRAME-2
    }
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await.unwrap_or_default();
    let data: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    replace(Response::from_parts(parts, Body::empty()), &envelope(data, id), v1)
}

/// Puts another JSON body into an answer; its status and other headers stay.
fn replace(response: Response, body: &Value, v1: bool) -> Response {
    let (mut parts, _) = response.into_parts();
    let kind = if v1 { V1_MEDIA_TYPE } else { "application/json" };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body.to_string()))
}

fn envelope(data: Value, id: &str) -> Value {
    let message = data.get("message").cloned().unwrap_or_else(|| json!("ok"));
    json!({ "success": true, "data": data, "error": null, "message": message,
            "request_id": id, "timestamp": rfc3339(now_ms()) })
}

fn envelope_of_error(error: &ApiError) -> Value {
    let details = json!({ "field": error.field, "reason": error.reason,
                          "example": error.example });
    json!({ "success": false, "data": null,
            "error": { "code": error.code, "message": error.error, "details": details },
            "message": error.error, "request_id": error.request_id,
            "timestamp": rfc3339(now_ms()) })
}
