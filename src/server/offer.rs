//! `POST /offer`: the convention of aiortc's examples.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use serde::Deserialize;
use tokio::time::timeout;

use super::App;
use super::error::ApiError;
use crate::pipeline::Accepted;

/// The largest body that is read. A browser's offer has some 6 KiB.
const MAX_BODY_BYTES: usize = 256 << 10;

/// How long the body may take.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// What is read of the body; unknown fields are ignored, as examples in the wild send some.
#[derive(Debug, Deserialize)]
struct OfferBody {
    sdp: String,
    #[serde(rename = "type")]
    kind: String,
    stream: Option<String>,
}

pub(super) async fn offer(State(app): State<Arc<App>>, request: Request) -> Result<Json<Accepted>, ApiError> {
    let json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| kind.to_str().is_ok_and(|kind| kind.to_lowercase().starts_with("application/json")));
    if !json {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send the offer as JSON, with Content-Type: application/json",
        ));
    }
    let body = timeout(BODY_LIMIT, to_bytes(request.into_body(), MAX_BODY_BYTES)).await.map_err(|_| {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come within ten seconds")
    })?;
    let body = body.map_err(|_| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is larger than {} KiB", MAX_BODY_BYTES >> 10),
        )
    })?;
    let OfferBody { sdp, kind, stream } = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not {{\"sdp\", \"type\"}}: {error}")))?;
    if kind != "offer" {
        return Err(ApiError::bad_request(format!("type is {kind:?}; \"offer\" is expected")));
    }
    Ok(Json(app.pipeline.offer(sdp, stream).await?))
}
