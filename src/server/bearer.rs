//! Bearer tokens (RFC 6750) in front of WHIP and WHEP (RFC 9725 §4.7.1), and text that is never shown.

use std::fmt;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::error::ApiError;

/// A text that is neither logged nor shown.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for whoever must have it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

/// What a request must bring. Of the token, only its hash is compared: that takes as long for a wrong one as for the right
/// one, whatever they have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Bearer(Option<[u8; 32]>);

impl Bearer {
    pub(super) fn new(token: Option<&Secret>) -> Self {
        Self(token.map(|token| hash(token.reveal())))
    }

    /// Whether a request with these headers may pass.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(wanted) = &self.0 else { return true };
        let Some(given) = token(headers) else { return false };
        wanted.iter().zip(hash(given)).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    pub(super) async fn check(self, request: Request, next: Next) -> Response {
        // A preflight carries no credentials (Fetch §3.2.2), and OPTIONS does nothing.
        if request.method() == Method::OPTIONS || self.admits(request.headers()) {
            return next.run(request).await;
        }
        let (code, challenge) = if token(request.headers()).is_some() {
            ("invalid_token", "Bearer realm=\"sightline\", error=\"invalid_token\"")
        } else {
            ("unauthorized", "Bearer realm=\"sightline\"")
        };
        let error = ApiError::new(
            StatusCode::UNAUTHORIZED,
            code,
            "send the server's token: Authorization: Bearer … ([server] bearer_token)",
        );
        let mut response = error.into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}

/// The token of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110 §11.1).
fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Some(Secret::from("hunter2".to_owned()))), "Some(\"***\")");
    }

    #[test]
    fn only_the_right_token_passes() {
        let bearer = Bearer::new(Some(&Secret::from("abc.def".to_owned())));
        for (given, passes) in [
            (Some("Bearer abc.def"), true),
            (Some("bearer abc.def"), true),
            (Some("Bearer abc.de"), false),
            (Some("Bearer abc.defg"), false),
            (Some("Bearer "), false),
            (Some("Bearer"), false),
            (Some("Basic abc.def"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_static(given));
            }
            assert_eq!(bearer.admits(&headers), passes, "{given:?}");
        }
        assert!(Bearer::new(None).admits(&HeaderMap::new()), "no token is asked for where none is set");
    }
}
