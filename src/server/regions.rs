//! `/api/v1/streams/{name}/regions`: the zones and lines of a stream, seen and set while it runs.
//!
//! A camera's belong to its configuration, where a change here is a change there. Those of any other stream last as long as it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::App;
use super::error::ApiError;
use super::{body, cameras};
use crate::pipeline::{PipelineError, Regions, Stream};

fn stream(app: &App, name: &str) -> Result<Arc<Stream>, ApiError> {
    app.pipeline.stream(name).ok_or_else(|| PipelineError::NoSuchStream(name.to_owned()).into())
}

pub(super) async fn show(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Regions>, ApiError> {
    Ok(Json(stream(&app, &name)?.regions()))
}

pub(super) async fn replace(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = body::json(request, "the regions").await?;
    let regions: Regions = serde_json::from_slice(&body).map_err(|error| bad(format!("the regions: {error}")))?;
    regions.validate().map_err(bad)?;
    if !app.pipeline.is_camera(&name) {
        let _edit = app.edits.lock().await;
        let stream = stream(&app, &name)?;
        stream.set_regions(regions);
        return Ok(Json(stream.regions()).into_response());
    }
    let mut changes = cameras::Fields::new();
    changes.insert("regions".to_owned(), value(&regions.regions)?);
    if let Some(draw) = regions.draw {
        changes.insert("draw_regions".to_owned(), draw.into());
    }
    cameras::alter(Arc::clone(&app), name.clone(), changes, None).await?;
    Ok(Json(stream(&app, &name)?.regions()).into_response())
}

fn value(regions: &impl serde::Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(regions).map_err(|error| ApiError::fault(format!("regions could not be written: {error}")))
}

fn bad(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_regions", message)
}
