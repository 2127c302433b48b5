//! The API beside the signalling: who is there, how they are doing, health and metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;
use crate::pipeline::{LatencyReport, PipelineError, ServerInfo, StreamReport, SyncReport};

pub(super) async fn sessions(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "sessions": app.pipeline.sessions() }))
}

pub(super) async fn end_session(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    if app.pipeline.end_session(&id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found("there is no session of this id; GET /api/v1/sessions lists them"))
    }
}

pub(super) async fn streams(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "streams": app.pipeline.streams() }))
}

pub(super) async fn stream(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<StreamReport>, ApiError> {
    Ok(Json(app.pipeline.stream_report(&name).ok_or(PipelineError::NoSuchStream(name))?))
}

pub(super) async fn latency(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<LatencyReport>, ApiError> {
    Ok(Json(app.pipeline.latency(&name).ok_or(PipelineError::NoSuchStream(name))?))
}

pub(super) async fn sync(State(app): State<Arc<App>>) -> Json<SyncReport> {
    Json(app.pipeline.sync())
}

pub(super) async fn info(State(app): State<Arc<App>>) -> Json<ServerInfo> {
    Json(app.pipeline.info())
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(app): State<Arc<App>>) -> impl IntoResponse {
    if app.stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    app.pipeline.publish_metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (app.metrics)())
}
