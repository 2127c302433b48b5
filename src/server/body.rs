//! The body of a request, within bounds.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use tokio::time::timeout;

use super::error::ApiError;

/// The largest body that is read. A browser's offer has some 6 KiB.
const MAX_BYTES: usize = 256 << 10;

/// How long the body may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The bytes of a body that says it is JSON, or says nothing. `what` names it in the refusal.
pub(super) async fn json(request: Request, what: &str) -> Result<Bytes, ApiError> {
    let json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| kind.to_str().is_ok_and(|kind| kind.to_lowercase().starts_with("application/json")));
    if !json {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            format!("send {what} as JSON, with Content-Type: application/json"),
        ));
    }
    read(request).await
}

/// The bytes of a body, whatever it is.
pub(super) async fn read(request: Request) -> Result<Bytes, ApiError> {
    let body = timeout(LIMIT, to_bytes(request.into_body(), MAX_BYTES)).await.map_err(|_| {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come within ten seconds")
    })?;
    body.map_err(|_| {
        let message = format!("the body is larger than {} KiB", MAX_BYTES >> 10);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    })
}
