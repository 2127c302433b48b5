//! `/api/v1/models`: which models there are, and how each is doing; another file for one while the server runs.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::App;
use super::error::ApiError;
use crate::pipeline::{ModelState, ModelStatus, ModelUpload, PipelineError};

/// How long a sender may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// As much is read of a body that is refused, and for as long.
const DISCARDED: usize = 16 << 20;
const DISCARDING: Duration = Duration::from_secs(2);

/// What is gathered before it is written.
const PIECE: usize = 1 << 20;

/// The header that may announce the SHA-256, as the query's `sha256` may.
const CHECKSUM: &str = "x-checksum-sha256";

#[derive(Deserialize)]
pub(super) struct Announced {
    sha256: Option<String>,
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let models = models(&app).await?;
    Ok(Json(json!({ "models": models })).into_response())
}

pub(super) async fn show(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(model(&app, &name).await?).into_response())
}

pub(super) async fn replace(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(announced): Query<Announced>,
    request: Request,
) -> Result<Response, ApiError> {
    let sum = announced_sum(announced, request.headers())?;
    let limit = app.max_model;
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit) {
        discard(request.into_body()).await;
        return Err(too_large(limit));
    }
    // Each may fill the disk by as much as one may have.
    let _place =
        app.uploads.try_acquire().map_err(|_| ApiError::busy("other models are just being sent: try again"))?;
    let there = |model: &ModelStatus| !matches!(model.state, ModelState::Absent | ModelState::Failed);
    let new = !models(&app).await?.iter().any(|model| goes_by(model, &name) && there(model));
    let upload = {
        let (app, name) = (Arc::clone(&app), name.clone());
        blocking(move || app.pipeline.upload_model(&name)).await?
    };
    let upload = receive(upload, request.into_body(), limit).await?;
    // What has come whole is done to its end, also when the client hangs up now.
    let done = tokio::spawn(blocking(move || upload.finish(sum.as_deref())));
    done.await.unwrap_or_else(|error| Err(ApiError::fault(format!("the model could not be replaced: {error}"))))?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(model(&app, &name).await?)).into_response())
}

/// Takes in what a client is sending already, within bounds: one that finds the connection closed while it sends reports a broken
/// pipe, and not the answer.
async fn discard(body: Body) {
    let mut pieces = pin!(body.into_data_stream());
    let mut left = DISCARDED;
    let reading = async {
        while let Some(Ok(piece)) = pieces.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(DISCARDING, reading).await;
}

/// The body into the file, within the bounds of size and patience.
async fn receive(mut upload: ModelUpload, body: Body, limit: u64) -> Result<ModelUpload, ApiError> {
    let mut pieces = pin!(body.into_data_stream());
    let (mut gathered, mut total) = (Vec::new(), 0u64);
    loop {
        let piece = timeout(SILENCE, pieces.next()).await.map_err(|_| {
            ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "nothing came for half a minute; nothing was replaced",
            )
        })?;
        let last = piece.is_none();
        if let Some(piece) = piece {
            let piece = piece.map_err(|error| ApiError::bad_request(format!("the body broke off: {error}")))?;
            total = total.saturating_add(piece.len() as u64);
            if total > limit {
                return Err(too_large(limit));
            }
            gathered.extend_from_slice(&piece);
        }
        if gathered.len() >= PIECE || last {
            let bytes = std::mem::take(&mut gathered);
            upload = blocking(move || {
                upload.write(&bytes)?;
                Ok(upload)
            })
            .await?;
        }
        if last {
            return match total {
                0 => Err(ApiError::bad_request("the body is empty: send the ONNX file itself")),
                _ => Ok(upload),
            };
        }
    }
}

fn announced_sum(announced: Announced, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let header = headers.get(CHECKSUM).map(|value| value.to_str().unwrap_or("?").trim().to_owned());
    let sum = announced.sha256.or(header);
    match &sum {
        Some(sum) if sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Err(ApiError::bad_request("sha256: 64 hexadecimal digits are expected"))
        }
        _ => Ok(sum),
    }
}

async fn models(app: &Arc<App>) -> Result<Vec<ModelStatus>, ApiError> {
    let app = Arc::clone(app);
    blocking(move || Ok(app.pipeline.models())).await
}

fn goes_by(model: &ModelStatus, name: &str) -> bool {
    model.name == name || model.asked_for == name
}

async fn model(app: &Arc<App>, name: &str) -> Result<ModelStatus, ApiError> {
    let known = models(app).await?.into_iter().find(|model| goes_by(model, name));
    known.ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "no_such_model",
            format!("there is no model {name:?}; GET /api/v1/models lists those that there are"),
        )
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PipelineError> + Send + 'static,
) -> Result<T, ApiError> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(error) => Err(ApiError::fault(format!("the work on a model failed: {error}"))),
    }
}

fn too_large(limit: u64) -> ApiError {
    let message = match limit {
        0 => "this server takes no models (max_model_mb = 0 in [server])".to_owned(),
        _ => format!("the file is larger than {} MB; max_model_mb in [server] sets that", limit / 1_000_000),
    };
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}
