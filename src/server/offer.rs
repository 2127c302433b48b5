//! `POST /offer`: the convention of aiortc's examples.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;

use super::App;
use super::body;
use super::error::ApiError;
use crate::pipeline::Accepted;

/// What is read of the body; unknown fields are ignored, as examples in the wild send some.
#[derive(Debug, Deserialize)]
struct OfferBody {
    sdp: String,
    #[serde(rename = "type")]
    kind: String,
    stream: Option<String>,
}

pub(super) async fn offer(State(app): State<Arc<App>>, request: Request) -> Result<Json<Accepted>, ApiError> {
    let body = body::json(request, "the offer").await?;
    let OfferBody { sdp, kind, stream } = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not {{\"sdp\", \"type\"}}: {error}")))?;
    if kind != "offer" {
        return Err(ApiError::bad_request(format!("type is {kind:?}; \"offer\" is expected")));
    }
    Ok(Json(app.pipeline.offer(sdp, stream).await?))
}
