//! `/whip/{stream}`: publishing by WHIP (RFC 9725).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::error::ApiError;
use super::{App, resource};
use crate::pipeline::{PipelineError, Role};

/// The words behind the `?`; others are ignored.
#[derive(Debug, Default, Deserialize)]
struct Wishes {
    /// The publisher that is there goes.
    #[serde(default)]
    takeover: bool,
}

pub(super) fn routes() -> Router<Arc<App>> {
    let endpoint = get(|| async { StatusCode::NO_CONTENT }).post(publish).options(endpoint_options);
    let session = get(get_session).patch(patch).delete(delete).options(|| async { resource::session_options() });
    Router::new().route("/whip/{stream}", endpoint).route("/whip/{stream}/{session}", session)
}

async fn publish(
    State(app): State<Arc<App>>,
    Path(stream): Path<String>,
    wishes: Result<Query<Wishes>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Query(wishes) = wishes.map_err(|_| ApiError::bad_request("takeover is true or false"))?;
    let offer = resource::offer(request).await?;
    match app.pipeline.publish(&stream, offer, wishes.takeover).await {
        Ok(accepted) => Ok(resource::created(&app, "whip", &accepted)),
        Err(PipelineError::NameTaken(name)) => Err(ApiError::new(
            StatusCode::CONFLICT,
            "name_taken",
            format!(
                "stream {name:?} is there already; choose another name, or displace its WHIP publisher by ?takeover=true"
            ),
        )),
        Err(error) => Err(resource::refused(error)),
    }
}

async fn patch(
    State(app): State<Arc<App>>,
    Path(place): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    resource::patch(&app, &place, Role::Publish, request).await
}

async fn delete(State(app): State<Arc<App>>, Path(place): Path<(String, String)>) -> Result<Response, ApiError> {
    resource::delete(&app, &place, Role::Publish)
}

async fn get_session(State(app): State<Arc<App>>, Path(place): Path<(String, String)>) -> Result<Response, ApiError> {
    resource::get_session(&app, &place, Role::Publish)
}

async fn endpoint_options(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    resource::endpoint_options(&app, &headers)
}
