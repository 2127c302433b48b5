//! The sole mapping from what went wrong to an HTTP status.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::peer::PeerError;
use crate::pipeline::{PipelineError, ReplaceError};

/// An answer that says what to change: `{"error":{"code","message"}}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_s: Option<u16>,
    /// What else the client is told.
    header: Option<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_s: None, header: None }
    }

    pub(super) fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address takes another method")
    }

    /// Come back in a moment.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
        Self { retry_after_s: Some(1), ..error }
    }

    /// A fault of ours, which is logged.
    pub(super) fn fault(message: impl Into<String>) -> Self {
        let message = message.into();
        tracing::error!("{message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": { "code": self.code, "message": self.message } }));
        let mut response = (self.status, body).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<PipelineError> for ApiError {
    fn from(error: PipelineError) -> Self {
        let message = error.to_string();
        let (status, code) = match &error {
            PipelineError::Peer(peer) => match peer {
                PeerError::BadDescription(_) | PeerError::Stack(_) => (StatusCode::BAD_REQUEST, "bad_sdp"),
                PeerError::NoVideo(_) => (StatusCode::UNPROCESSABLE_ENTITY, "no_video"),
                PeerError::NoCommonCodec(_) => (StatusCode::NOT_ACCEPTABLE, "no_common_codec"),
                PeerError::BadFragment(_) => (StatusCode::BAD_REQUEST, "bad_fragment"),
                PeerError::OtherGeneration => (StatusCode::PRECONDITION_FAILED, "other_generation"),
                PeerError::Bind { .. } | PeerError::NoAddress | PeerError::Closed => {
                    (StatusCode::INTERNAL_SERVER_ERROR, "internal")
                }
            },
            PipelineError::Full => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            PipelineError::TooManySessions(_) => (StatusCode::SERVICE_UNAVAILABLE, "too_many_sessions"),
            PipelineError::TooManyViewers(_) => (StatusCode::SERVICE_UNAVAILABLE, "too_many_viewers"),
            PipelineError::TooManyCameras(_) => (StatusCode::UNPROCESSABLE_ENTITY, "too_many_cameras"),
            PipelineError::NoSuchStream(_) => (StatusCode::NOT_FOUND, "no_such_stream"),
            PipelineError::NoSuchCamera(_) => (StatusCode::NOT_FOUND, "no_such_camera"),
            PipelineError::BadCamera { .. } => (StatusCode::BAD_REQUEST, "bad_camera"),
            PipelineError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            PipelineError::BadName { .. } => (StatusCode::BAD_REQUEST, "bad_name"),
            PipelineError::NameTaken(_) => (StatusCode::CONFLICT, "name_taken"),
            PipelineError::Model(error) => match error {
                ReplaceError::Name(_) => (StatusCode::BAD_REQUEST, "bad_name"),
                ReplaceError::Checksum { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_checksum"),
                ReplaceError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unusable_model"),
                ReplaceError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
                _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            },
            PipelineError::Decode(_)
            | PipelineError::Encode(_)
            | PipelineError::Detect(_)
            | PipelineError::Thread(_)
            | PipelineError::Fault(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        if status.is_server_error() && code == "internal" {
            tracing::error!(%error, "a request failed by a fault of ours");
        }
        let retry_after_s = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(5);
        Self { status, code, message, retry_after_s, header: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_server_says_when_to_come_back() {
        let response = ApiError::from(PipelineError::TooManySessions(16)).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn refusals_have_the_status_that_fits() {
        let status = |error: PeerError| ApiError::from(PipelineError::from(error)).status;
        assert_eq!(status(PeerError::NoVideo(String::new())), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(status(PeerError::NoCommonCodec(String::new())), StatusCode::NOT_ACCEPTABLE);
        assert_eq!(status(PeerError::BadDescription(String::new())), StatusCode::BAD_REQUEST);
        assert_eq!(ApiError::from(PipelineError::NameTaken("x".into())).status, StatusCode::CONFLICT);
        let full = ApiError::from(PipelineError::TooManyCameras(64));
        assert_eq!((full.status, full.code), (StatusCode::UNPROCESSABLE_ENTITY, "too_many_cameras"));
        assert!(full.message.contains("64") && full.message.contains("max_cameras"), "{}", full.message);
    }
}
