//! What WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) have in common: an endpoint that takes an offer and gives a session,
//! and the session, which takes ICE by PATCH and ends by DELETE.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::body;
use super::error::ApiError;
use crate::peer::{Patched, PeerError};
use crate::pipeline::{Accepted, PipelineError, Role};

pub(super) const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Reads the offer of a POST.
pub(super) async fn offer(request: Request) -> Result<String, ApiError> {
    expect(request.headers(), SDP, &ACCEPT_POST)?;
    if !accepts_sdp(request.headers()) {
        return Err(ApiError::new(
            StatusCode::NOT_ACCEPTABLE,
            "not_acceptable",
            "the answer is application/sdp, which the Accept header does not allow",
        ));
    }
    text(request).await
}

/// 415 where the body is of another type, with the type that is taken (RFC 9110 §15.5.16, RFC 5789 §2.2).
fn expect(headers: &HeaderMap, wanted: &'static str, told_by: &HeaderName) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // Parameters do not change what it is (RFC 9110 §8.3.1).
    if kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("send it with Content-Type: {wanted}"),
    )
    .with_header(told_by.clone(), HeaderValue::from_static(wanted)))
}

fn accepts_sdp(headers: &HeaderMap) -> bool {
    let mut ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    ranges.peek().is_none()
        || ranges.flat_map(|list| list.split(',')).any(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            ["*/*", "application/*", SDP].contains(&kind.as_str())
        })
}

async fn text(request: Request) -> Result<String, ApiError> {
    String::from_utf8(body::read(request).await?.into()).map_err(|_| ApiError::bad_request("the body is not text"))
}

/// The 201 of an offer that was accepted (RFC 9725 §4.2).
pub(super) fn created(app: &App, root: &str, accepted: &Accepted) -> Response {
    let mut response = (StatusCode::CREATED, accepted.sdp.clone()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    // Names of streams, ids and fragments are made of letters that a header takes.
    let location = format!("/{root}/{}/{}", accepted.stream, accepted.session);
    for (name, value) in [(header::LOCATION, location), (header::ETAG, format!("\"{}\"", accepted.etag))] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    for link in &app.ice_links {
        headers.append(header::LINK, link.clone());
    }
    response
}

/// What is refused, as these documents have it: 406 is the answer with a counter-offer (WHEP §4.4.2), so an offer without a
/// codec of ours gets 422 (RFC 9725 §4.4.3).
pub(super) fn refused(error: PipelineError) -> ApiError {
    let codec = matches!(&error, PipelineError::Peer(PeerError::NoCommonCodec(_)));
    let error = ApiError::from(error);
    if codec { error.with_status(StatusCode::UNPROCESSABLE_ENTITY) } else { error }
}

/// `PATCH` of a session: candidates that come after the offer, or an ICE restart (RFC 9725 §4.3).
pub(super) async fn patch(
    app: &Arc<App>,
    (stream, session): &(String, String),
    role: Role,
    request: Request,
) -> Result<Response, ApiError> {
    known(app, stream, session, role)?;
    let connection = app.pipeline.connection(session).ok_or_else(gone)?;
    expect(request.headers(), FRAGMENT, &ACCEPT_PATCH)?;
    let if_match = request.headers().get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok());
    let if_match: Vec<String> = if_match.map(str::to_owned).collect();
    if if_match.is_empty() {
        return Err(ApiError::new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition_required",
            "name the ICE session: If-Match with the ETag of the 201, or * to restart ICE",
        ));
    }
    let fragment = text(request).await?;
    // On a task of its own: a client that hangs up does not leave ICE half restarted, and a fault costs this request.
    let patched = tokio::spawn(async move { connection.patch(&fragment, |etag| matches(&if_match, etag)).await });
    let patched = patched.await.map_err(|error| PipelineError::Fault(error.to_string()))?;
    match patched {
        Ok(Patched::Added) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Patched::Restarted { fragment, etag }) => {
            let mut response = fragment.into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
            if let Ok(etag) = HeaderValue::from_str(&format!("\"{etag}\"")) {
                response.headers_mut().insert(header::ETAG, etag);
            }
            Ok(response)
        }
        Err(PeerError::Closed) => Err(gone()),
        Err(error) => Err(PipelineError::from(error).into()),
    }
}

/// Whether `If-Match` names this entity tag, by strong comparison (RFC 9110 §13.1.1).
fn matches(if_match: &[String], etag: &str) -> bool {
    let mut tags = if_match.iter().flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(etag))
}

/// `DELETE` of a session (RFC 9725 §4.2). An entity tag is not looked at (§4.3.1).
pub(super) fn delete(app: &App, (stream, session): &(String, String), role: Role) -> Result<Response, ApiError> {
    known(app, stream, session, role)?;
    if app.pipeline.end_session(session) { Ok(StatusCode::OK.into_response()) } else { Err(gone()) }
}

/// `GET` of a session: it has no representation (RFC 9725 §4.1).
pub(super) fn get_session(app: &App, (stream, session): &(String, String), role: Role) -> Result<Response, ApiError> {
    known(app, stream, session, role)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn known(app: &App, stream: &str, session: &str, role: Role) -> Result<(), ApiError> {
    let found = app.pipeline.session(session);
    if found.is_some_and(|(of, as_what)| of == stream && as_what == role) { Ok(()) } else { Err(gone()) }
}

fn gone() -> ApiError {
    ApiError::not_found("there is no such session; it may have ended")
}

/// `OPTIONS` of an endpoint (RFC 9725 §4.2). The servers are told to whoever may connect, and not to a preflight (§4.6).
pub(super) fn endpoint_options(app: &App, headers: &HeaderMap) -> Response {
    let mut response = StatusCode::OK.into_response();
    let out = response.headers_mut();
    out.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS, POST"));
    out.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
    if !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) && app.bearer.admits(headers) {
        for link in &app.ice_links {
            out.append(header::LINK, link.clone());
        }
    }
    response
}

/// `OPTIONS` of a session.
pub(super) fn session_options() -> Response {
    let mut response = StatusCode::OK.into_response();
    let out = response.headers_mut();
    out.insert(header::ALLOW, HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH"));
    out.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
    out.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entity_tags_are_compared_strongly() {
        let of = |text: &str| [text.to_owned()];
        assert!(matches(&of("*"), "abc") && matches(&of("\"abc\""), "abc") && matches(&of("\"x\", \"abc\""), "abc"));
        for other in ["W/\"abc\"", "abc", "\"abd\"", "", "\""] {
            assert!(!matches(&of(other), "abc"), "{other}");
        }
    }

    #[test]
    fn an_answer_goes_to_whoever_takes_it() {
        let accepts = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            accepts_sdp(&headers)
        };
        assert!(accepts(&[]) && accepts(&["*/*"]) && accepts(&["text/html, application/SDP;q=0.5"]));
        assert!(accepts(&["text/html", "application/*"]));
        assert!(!accepts(&["text/html"]) && !accepts(&["application/json, text/*"]));
    }

    proptest! {
        #[test]
        fn arbitrary_entity_tags_never_panic(lists in prop::collection::vec("[ -~]{0,30}", 0..5), etag in "[a-zA-Z]{1,8}") {
            let _ = matches(&lists, &etag);
        }
    }
}
