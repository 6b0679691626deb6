//! The one error body of the JSON APIs.
//!
//! `{error, code, success: false, field, reason, example, request_id}`. 400 = not parseable, 422 =
//! parsed but invalid, 404 unknown, 409 conflict of state, 503 overload with `Retry-After`.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::cluster::{CallError, Nack};

/// An error answer of a JSON API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiError {
    /// What went wrong, in words.
    #[schema(value_type = String)]
    pub error: Box<str>, // errors travel in every `Result`: a word less is what clippy asks for
    /// The HTTP status.
    pub code: u16,
    /// Always false.
    pub success: bool,
    /// The field, parameter or header that is wrong, where one is.
    pub field: Option<String>,
    /// Why it is wrong.
    pub reason: Option<String>,
    /// What would be right.
    pub example: Option<String>,
    /// The id of the request, also in the logs.
    pub request_id: String,
}

impl ApiError {
    /// An error with this status and text.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        ApiError {
            error: error.into().into_boxed_str(),
            code: status.as_u16(),
            success: false,
            field: None,
            reason: None,
            example: None,
            request_id: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// 400: not parseable.
    pub fn malformed(field: &str, reason: impl Into<String>, example: &str) -> Self {
        Self::about(StatusCode::BAD_REQUEST, "request cannot be parsed", field, reason, example)
    }

    /// 422: parsed but invalid.
    pub fn invalid(field: &str, reason: impl Into<String>, example: &str) -> Self {
        Self::about(StatusCode::UNPROCESSABLE_ENTITY, "request is invalid", field, reason, example)
    }

    /// 404: unknown.
    pub fn unknown(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, what)
    }

    /// 409: at odds with the present state.
    pub fn conflict(what: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, what)
    }

    /// 501: not offered, and why.
    pub fn not_implemented(what: impl Into<String>, why: impl Into<String>) -> Self {
        let reason = Some(why.into());
        ApiError { reason, ..Self::new(StatusCode::NOT_IMPLEMENTED, what) }
    }

    /// 413: larger than the limit.
    pub fn too_large(limit_bytes: u64) -> Self {
        let reason = Some(format!("the limit is {limit_bytes} bytes"));
        let (status, field) = (StatusCode::PAYLOAD_TOO_LARGE, Some("body".into()));
        ApiError { reason, field, ..Self::new(status, "body is too large") }
    }

    /// 503: overload.
    pub fn overload(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    fn about(
        status: StatusCode,
        error: &str,
        field: &str,
        reason: impl Into<String>,
        example: &str,
    ) -> Self {
        ApiError {
            field: Some(field.into()),
            reason: Some(reason.into()),
            example: Some(example.into()),
            ..Self::new(status, error)
        }
    }

    /// The answer as HTTP.
    pub fn into_http(self) -> Response<Body> {
        self.into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        response.extensions_mut().insert(self); // the frame puts the id of the request into it
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::TooLarge(_) => {
                ApiError::invalid("body", error.to_string(), "a smaller request")
            }
            CallError::Refused(Nack::Decode | Nack::Version) => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            _ => ApiError::overload(error.to_string()),
        }
    }
}
