//! `GET /api/v1/replica/image`: the whole replicated state of a service as one file, for
//! `mocks3 backup`. Only nodes with a replica offer it.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{HeaderName, StatusCode, header};
use serde::Deserialize;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use super::admin::Admin;
use super::error::ApiError;
use super::json::{Operation, Params, ParamsInput};
use crate::replica::backup::{TakeError, Taken};
use crate::types::Service;

/// The CRC-64/NVME of the image, 16 hex digits.
pub const CRC: HeaderName = HeaderName::from_static("x-mocks3-crc64nvme");
/// The id of the cluster, 32 hex digits.
pub const CLUSTER: HeaderName = HeaderName::from_static("x-mocks3-cluster-id");
/// The pieces in which the file is read, in bytes.
const PIECE: usize = 256 * 1024;

/// How the operation is described.
pub fn operation() -> Operation {
    Operation::get("/api/v1/replica/image")
        .about("The replicated state of the service as one file, with all that was acknowledged")
        .query::<ImageQuery>()
        .answer_raw(StatusCode::OK, "the file", "application/octet-stream", "raw bytes")
        .fails(&[StatusCode::INTERNAL_SERVER_ERROR, StatusCode::NOT_FOUND])
}

/// Which state.
#[derive(Deserialize, IntoParams)]
pub struct ImageQuery {
    /// The service, where the node runs several; else that of the port.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "")]
    service: Option<Service>,
}

impl ParamsInput for ImageQuery {
    const EXAMPLE: &'static str = "?service=metadata";

    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

/// The operation.
pub async fn handle(
    State(admin): State<Admin>,
    Params(query): Params<ImageQuery>,
) -> Result<Response, ApiError> {
    let service = query.service.unwrap_or(admin.service);
    let Some(take) = admin.images.take.get(&service) else {
        return Err(ApiError::unknown(format!("this node has no replica of {service}")));
    };
    let Taken { file, len, crc64, turn } = take().await?;
    let file = tokio::fs::File::from_std(file);
    let bytes = ReaderStream::with_capacity(file, PIECE).map(move |piece| {
        let _ = &turn; // let go with the last byte
        piece
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, len.to_string()),
        (CRC, format!("{crc64:016x}")),
        (CLUSTER, (admin.images.cluster_id)()),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

impl From<TakeError> for ApiError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Busy | TakeError::NotRunning | TakeError::Barrier(_) => {
                ApiError::overload(error.to_string())
            }
            TakeError::Disk(_) => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}
