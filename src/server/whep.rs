//! `/whep/{stream}`: watching by WHEP (draft-ietf-wish-whep).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::error::ApiError;
use super::{App, resource};
use crate::pipeline::{PipelineError, Role, VideoChoice};

/// The words behind the `?`; others are ignored.
#[derive(Debug, Default, Deserialize)]
struct Wishes {
    /// What to see; without it, what the stream's mode says.
    video: Option<VideoChoice>,
}

pub(super) fn routes() -> Router<Arc<App>> {
    let endpoint = get(discover).post(view).options(endpoint_options);
    let session = get(get_session).patch(patch).delete(delete).options(|| async { resource::session_options() });
    Router::new().route("/whep/{stream}", endpoint).route("/whep/{stream}/{session}", session)
}

/// `GET` and `HEAD`: nothing to read, but of the type that a player looks for (WHEP §4.3).
async fn discover(State(app): State<Arc<App>>, Path(stream): Path<String>) -> Result<Response, ApiError> {
    if app.pipeline.stream(&stream).is_none() {
        return Err(PipelineError::NoSuchStream(stream).into());
    }
    Ok([(header::CONTENT_TYPE, resource::SDP)].into_response())
}

async fn view(
    State(app): State<Arc<App>>,
    Path(stream): Path<String>,
    wishes: Result<Query<Wishes>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Query(wishes) = wishes.map_err(|_| ApiError::bad_request("video is annotated or original"))?;
    let offer = resource::offer(request).await?;
    let accepted = app.pipeline.view(&stream, offer, wishes.video).await.map_err(resource::refused)?;
    Ok(resource::created(&app, "whep", &accepted))
}

async fn patch(
    State(app): State<Arc<App>>,
    Path(place): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    resource::patch(&app, &place, Role::View, request).await
}

async fn delete(State(app): State<Arc<App>>, Path(place): Path<(String, String)>) -> Result<Response, ApiError> {
    resource::delete(&app, &place, Role::View)
}

async fn get_session(State(app): State<Arc<App>>, Path(place): Path<(String, String)>) -> Result<Response, ApiError> {
    resource::get_session(&app, &place, Role::View)
}

async fn endpoint_options(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    resource::endpoint_options(&app, &headers)
}
