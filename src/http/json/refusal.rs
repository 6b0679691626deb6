//! The only place where errors of flows and of the queue become answers of the JSON APIs.
//!
//! - `REFUSAL-1` what may succeed later is 503 with `Retry-After`;
//! - `REFUSAL-2` a client's own mistake is never a 5xx.

use http::StatusCode;

use crate::actors::metadata::model::Refused;
use crate::actors::queue_worker::command::Refused as QueueRefused;
use crate::http::error::ApiError;
use crate::objects::error::{BodyError, FlowError};

impl From<FlowError> for ApiError {
    fn from(error: FlowError) -> Self {
        let text = error.to_string();
        match error {
            FlowError::Refused(refused) => refused.into(),
            FlowError::Unavailable(_) => ApiError::overload(text), // REFUSAL-1
            FlowError::Body(error) => of_body(&error),
            FlowError::DeleteMarker { .. } => ApiError::unknown("no such key"),
            FlowError::NotModified { .. } => ApiError::new(StatusCode::NOT_MODIFIED, text),
            FlowError::InvalidRange { .. } | FlowError::InvalidPartNumber => {
                ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, text)
            }
            FlowError::Invalid(why) => ApiError::invalid("body", why, "see /openapi.json"),
            FlowError::Internal(_) => {
                tracing::error!(error = text, "internal error");
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            }
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        match refused {
            Refused::NoSuchBucket
            | Refused::NoSuchKey
            | Refused::NoSuchVersion
            | Refused::NoSuchUpload
            | Refused::NoSuchTagSet
            | Refused::NoSuchCors
            | Refused::NoSuchNode
            | Refused::MethodNotAllowed { .. } => ApiError::unknown(text),
            Refused::BucketAlreadyExists { .. }
            | Refused::BucketAlreadyOwnedByYou
            | Refused::BucketNotEmpty
            | Refused::PreconditionFailed
            | Refused::SourceChanged
            | Refused::Aborted => ApiError::conflict(text),
            Refused::AccessDenied => ApiError {
                reason: Some("the bucket belongs to another user than http.json_owner".into()),
                ..ApiError::new(StatusCode::FORBIDDEN, text)
            },
            Refused::NotEnoughLocations { .. } => ApiError::overload(text),
            Refused::InvalidPart { .. }
            | Refused::InvalidPartOrder
            | Refused::EntityTooSmall { .. }
            | Refused::InvalidArgument { .. } => ApiError::invalid("body", text, "openapi.json"),
            Refused::KeyTooLong => ApiError::invalid("key", text, "2026/a.jpg"),
        }
    }
}

impl From<QueueRefused> for ApiError {
    fn from(refused: QueueRefused) -> Self {
        let text = refused.to_string();
        match refused {
            QueueRefused::NoSuchTask => ApiError::unknown(text),
            QueueRefused::Full { .. } => ApiError::overload(text),
            QueueRefused::IdTaken | QueueRefused::StaleToken | QueueRefused::WrongState { .. } => {
                ApiError::conflict(text)
            }
            QueueRefused::Invalid { field } => ApiError::invalid(&field, text, "see /openapi.json"),
        }
    }
}

fn of_body(error: &BodyError) -> ApiError {
    let text = error.to_string();
    match error {
        BodyError::TooLarge { limit } => ApiError::too_large(*limit),
        BodyError::Source(_) => ApiError::overload(text),
        BodyError::Md5 => ApiError::invalid("Content-MD5", text, "the MD5 of the body"),
        BodyError::Checksum(_) | BodyError::Sha256 | BodyError::Signature => {
            ApiError::invalid("body", text, "a checksum of this body")
        }
        BodyError::Broken(_)
        | BodyError::Length { .. }
        | BodyError::Timeout
        | BodyError::Malformed(_) => {
            ApiError::malformed("body", text, "a body of the declared length")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::error::Unavailable;

    #[test]
    fn refusals_get_the_status_that_says_what_the_client_can_do() {
        let busy = FlowError::Unavailable(Unavailable::Unknown);
        let rows: [(ApiError, u16); 9] = [
            (Refused::NoSuchKey.into(), 404),
            (Refused::NoSuchBucket.into(), 404),
            (Refused::BucketNotEmpty.into(), 409),
            (Refused::AccessDenied.into(), 403),
            (Refused::KeyTooLong.into(), 422),
            (busy.into(), 503),
            (FlowError::Body(BodyError::Md5).into(), 422),
            (FlowError::Body(BodyError::TooLarge { limit: 1 }).into(), 413),
            (QueueRefused::IdTaken.into(), 409),
        ];
        for (error, code) in rows {
            assert_eq!(error.code, code, "{}", error.error);
        }
    }
}
