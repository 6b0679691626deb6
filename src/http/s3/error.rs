//! The only place where errors become S3 error codes and HTTP statuses.
//!
//! Used by all of the S3 edge. Source: the S3 API page "Error responses".
//!
//! - `S3ERR-1` whatever may succeed later is 503 `SlowDown` with `Retry-After: 1`;
//! - `S3ERR-2` a client's own mistake is never a 5xx.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use s3s::{S3Error, S3ErrorCode};

use crate::actors::metadata::model::Refused;
use crate::objects::error::{BodyError, FlowError, Unavailable};

use super::convert::http_date;

/// The S3 form of a flow's error.
pub fn of(error: FlowError) -> S3Error {
    match error {
        FlowError::Refused(refused) => of_refused(refused),
        FlowError::Unavailable(why) => of_unavailable(&why),
        FlowError::Body(error) => of_body(&error),
        FlowError::NotModified { etag, last_modified_ms } => with_headers(
            S3ErrorCode::NotModified.into(),
            [
                (header::ETAG, format!("\"{etag}\"")),
                (header::LAST_MODIFIED, http_date(last_modified_ms)),
            ],
        ),
        FlowError::InvalidRange { size } => with_headers(
            S3ErrorCode::InvalidRange.into(),
            [(header::CONTENT_RANGE, format!("bytes */{size}"))],
        ),
        FlowError::InvalidPartNumber => custom(
            "InvalidPartNumber",
            StatusCode::RANGE_NOT_SATISFIABLE,
            "The requested partnumber is not satisfiable",
        ),
        FlowError::DeleteMarker { version_id, last_modified_ms } => {
            delete_marker(S3ErrorCode::NoSuchKey.into(), version_id, last_modified_ms)
        }
        FlowError::Invalid(why) => S3Error::with_message(S3ErrorCode::InvalidRequest, why),
        FlowError::Internal(why) => {
            tracing::error!(why, "internal error");
            S3ErrorCode::InternalError.into()
        }
    }
}

/// The S3 form of what metadata refused.
pub fn of_refused(refused: Refused) -> S3Error {
    let text = refused.to_string();
    let code = match refused {
        Refused::NoSuchBucket => S3ErrorCode::NoSuchBucket,
        Refused::BucketAlreadyExists { .. } => S3ErrorCode::BucketAlreadyExists,
        Refused::BucketAlreadyOwnedByYou => S3ErrorCode::BucketAlreadyOwnedByYou,
        Refused::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
        Refused::NoSuchKey => S3ErrorCode::NoSuchKey,
        Refused::NoSuchVersion => S3ErrorCode::NoSuchVersion,
        Refused::PreconditionFailed => S3ErrorCode::PreconditionFailed,
        Refused::SourceChanged => S3ErrorCode::OperationAborted,
        Refused::NoSuchUpload => S3ErrorCode::NoSuchUpload,
        Refused::InvalidPart { .. } => S3ErrorCode::InvalidPart,
        Refused::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
        Refused::EntityTooSmall { .. } => S3ErrorCode::EntityTooSmall,
        Refused::NotEnoughLocations { .. } | Refused::Aborted => return slow_down(text),
        Refused::NoSuchTagSet => S3ErrorCode::NoSuchTagSet,
        Refused::NoSuchCors => S3ErrorCode::NoSuchCORSConfiguration,
        Refused::MethodNotAllowed { version_id, last_modified_ms } => {
            let error = S3Error::with_message(S3ErrorCode::MethodNotAllowed, text);
            return delete_marker(error, version_id, last_modified_ms);
        }
        Refused::AccessDenied => S3ErrorCode::AccessDenied,
        Refused::KeyTooLong => S3ErrorCode::KeyTooLongError,
        Refused::InvalidArgument { .. } => S3ErrorCode::InvalidArgument,
        Refused::NoSuchNode => S3ErrorCode::InternalError,
    };
    S3Error::with_message(code, text)
}

fn of_unavailable(why: &Unavailable) -> S3Error {
    match why {
        Unavailable::Full => {
            custom("StorageFull", StatusCode::INSUFFICIENT_STORAGE, &why.to_string())
        }
        Unavailable::Quorum(_)
        | Unavailable::Forming { .. }
        | Unavailable::Call(_)
        | Unavailable::Unreadable
        | Unavailable::Unknown
        | Unavailable::Gone => slow_down(why.to_string()),
    }
}

fn of_body(error: &BodyError) -> S3Error {
    let code = match error {
        BodyError::Broken(_) | BodyError::Length { .. } => S3ErrorCode::IncompleteBody,
        BodyError::Timeout => S3ErrorCode::RequestTimeout,
        BodyError::TooLarge { .. } => S3ErrorCode::EntityTooLarge,
        BodyError::Md5 | BodyError::Checksum(_) => S3ErrorCode::BadDigest,
        BodyError::Sha256 => {
            let text = error.to_string();
            return custom("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST, &text);
        }
        BodyError::Signature => S3ErrorCode::SignatureDoesNotMatch,
        BodyError::Source(_) => return slow_down(error.to_string()),
        BodyError::Malformed(_) => S3ErrorCode::InvalidRequest,
    };
    S3Error::with_message(code, error.to_string())
}

/// 503, try again (S3ERR-1).
pub fn slow_down(text: impl Into<String>) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::SlowDown, text.into());
    error.set_status_code(StatusCode::SERVICE_UNAVAILABLE);
    with_headers(error, [(header::RETRY_AFTER, "1".to_owned())])
}

/// 501.
pub fn not_implemented(what: &str) -> S3Error {
    let text = format!("{what} is not implemented");
    S3Error::with_message(S3ErrorCode::NotImplemented, text)
}

/// The document that tells a client to sign again for our region; `s3s` cannot name one.
pub fn wrong_region(ours: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error>\
         <Code>AuthorizationHeaderMalformed</Code>\
         <Message>The authorization header is malformed; the region is wrong; expecting '{ours}'\
         </Message><Region>{ours}</Region></Error>"
    )
}

/// 400 `InvalidArgument`.
pub fn invalid_argument(text: impl Into<String>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, text.into())
}

/// 400 `AuthorizationQueryParametersError`: a presigned URL that says something impossible.
pub fn bad_query(text: &str) -> S3Error {
    custom("AuthorizationQueryParametersError", StatusCode::BAD_REQUEST, text)
}

/// 400 `InvalidRedirectLocation`.
pub fn invalid_redirect() -> S3Error {
    let text =
        "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
    custom("InvalidRedirectLocation", StatusCode::BAD_REQUEST, text)
}

/// A code that `s3s` has no name for.
fn custom(code: &'static str, status: StatusCode, text: &str) -> S3Error {
    let mut error =
        S3Error::with_message(S3ErrorCode::Custom(code.to_owned().into()), text.to_owned());
    error.set_status_code(status);
    error
}

fn delete_marker(error: S3Error, version_id: String, last_modified_ms: u64) -> S3Error {
    let allow = (error.code() == &S3ErrorCode::MethodNotAllowed)
        .then(|| (header::ALLOW, "DELETE".to_owned()));
    let fixed = [
        (HeaderName::from_static("x-amz-delete-marker"), "true".to_owned()),
        (HeaderName::from_static("x-amz-version-id"), version_id),
        (header::LAST_MODIFIED, http_date(last_modified_ms)),
    ];
    with_headers(error, fixed.into_iter().chain(allow))
}

fn with_headers(
    mut error: S3Error,
    headers: impl IntoIterator<Item = (HeaderName, String)>,
) -> S3Error {
    let mut map = HeaderMap::new();
    // given headers replace those that s3s sets by itself
    map.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            map.insert(name, value);
        }
    }
    error.set_headers(map);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::placement::NoQuorum;

    #[test]
    fn errors_have_the_codes_and_statuses_of_s3() {
        let refused = |r: Refused| FlowError::Refused(r);
        let rows = [
            (refused(Refused::NoSuchBucket), "NoSuchBucket", 404),
            (refused(Refused::BucketAlreadyOwnedByYou), "BucketAlreadyOwnedByYou", 409),
            (refused(Refused::BucketNotEmpty), "BucketNotEmpty", 409),
            (refused(Refused::NoSuchKey), "NoSuchKey", 404),
            (refused(Refused::NoSuchVersion), "NoSuchVersion", 404),
            (refused(Refused::PreconditionFailed), "PreconditionFailed", 412),
            (refused(Refused::NoSuchUpload), "NoSuchUpload", 404),
            (refused(Refused::InvalidPart { no: None }), "InvalidPart", 400),
            (refused(Refused::NoSuchTagSet), "NoSuchTagSet", 404),
            (refused(Refused::NoSuchCors), "NoSuchCORSConfiguration", 404),
            (refused(Refused::AccessDenied), "AccessDenied", 403),
            (refused(Refused::Aborted), "SlowDown", 503),
            (NoQuorum { have: 1, need: 2 }.into(), "SlowDown", 503),
            (Unavailable::Gone.into(), "SlowDown", 503),
            (Unavailable::Full.into(), "StorageFull", 507),
            (BodyError::Md5.into(), "BadDigest", 400),
            (BodyError::Checksum("CRC32").into(), "BadDigest", 400),
            (BodyError::Sha256.into(), "XAmzContentSHA256Mismatch", 400),
            (BodyError::Length { got: 1, declared: 2 }.into(), "IncompleteBody", 400),
            (FlowError::InvalidRange { size: 1 }, "InvalidRange", 416),
            (FlowError::InvalidPartNumber, "InvalidPartNumber", 416),
            (FlowError::NotModified { etag: "e".into(), last_modified_ms: 0 }, "NotModified", 304),
        ];
        for (error, code, status) in rows {
            let text = format!("{error:?}");
            let error = of(error);
            let got = (error.code().as_str(), error.status_code().map(|s| s.as_u16()));
            assert_eq!(got, (code, Some(status)), "{text}");
        }
    }

    #[test]
    fn what_may_succeed_later_says_when_to_come_back() {
        let error = of(Unavailable::Unknown.into());
        assert_eq!(error.headers().unwrap()["retry-after"], "1");
        let error = of(FlowError::InvalidRange { size: 7 });
        assert_eq!(error.headers().unwrap()["content-range"], "bytes */7");
    }

    #[test]
    fn a_delete_marker_is_told_in_headers() {
        let marker = (String::from("v1"), 0);
        let get = of(FlowError::DeleteMarker { version_id: marker.0.clone(), last_modified_ms: 0 });
        assert_eq!(get.code().as_str(), "NoSuchKey");
        assert_eq!(get.headers().unwrap()["x-amz-delete-marker"], "true");
        let refused =
            Refused::MethodNotAllowed { version_id: marker.0, last_modified_ms: marker.1 };
        let by_version = of_refused(refused);
        assert_eq!(by_version.status_code(), Some(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(by_version.headers().unwrap()["allow"], "DELETE");
        assert_eq!(by_version.headers().unwrap()["x-amz-version-id"], "v1");
    }
}
