//! Who may talk to the server: a foreign web page, or one that rebinds its name to our address, must not drive a server
//! on localhost.
//!
//! The Host must be an IP address, `localhost`, or a name that was allowed: a rebinding page comes with its own name. The
//! Origin, where a browser sends one, must be the page that this server serves, or one that was allowed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Config;
use super::error::ApiError;

/// What a page of another origin may read of an answer, beside what every page may (Fetch §3.2.5): all that WHIP and WHEP
/// say in headers.
const EXPOSED: &str = "accept-patch, accept-post, allow, etag, link, location, retry-after, www-authenticate";

/// The checks, as configured.
#[derive(Debug)]
pub(super) struct Guard {
    origins: Vec<String>,
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(config: &Config) -> Self {
        let lower = |list: &[String]| list.iter().map(|entry| entry.trim_end_matches('/').to_lowercase()).collect();
        Self { origins: lower(&config.allowed_origins), hosts: lower(&config.allowed_hosts) }
    }

    pub(super) async fn check(self: Arc<Self>, request: Request, next: Next) -> Response {
        // HTTP/2 has the host in the URI.
        let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str));
        let Some(host) = host.map(str::to_lowercase) else {
            return ApiError::bad_request("the request has no Host header").into_response();
        };
        if !self.host_allowed(&host) {
            return ApiError::forbidden(
                "host_not_allowed",
                format!("this server does not answer to {host:?}; add the name to allowed_hosts"),
            )
            .into_response();
        }
        let allowed = match origin(request.headers()) {
            None => None,
            Some(origin) if origin_host(&origin) == Some(&host) => None,
            Some(origin) if self.origin_allowed(&origin) => HeaderValue::from_str(&origin).ok(),
            Some(origin) => {
                return ApiError::forbidden(
                    "origin_not_allowed",
                    format!("pages of {origin:?} may not use this server; add it to allowed_origins"),
                )
                .into_response();
            }
        };
        let Some(allowed) = allowed else { return next.run(request).await };
        let preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        // WHIP and WHEP say more in answer to OPTIONS, to a preflight too (RFC 9725 §4.2).
        let says_more = ["/whip/", "/whep/"].iter().any(|root| request.uri().path().starts_with(root));
        let mut response =
            if preflight && !says_more { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        if preflight {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE"),
            );
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("content-type, authorization, if-match"),
            );
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        response
    }

    fn host_allowed(&self, host: &str) -> bool {
        let name = without_port(host).trim_end_matches('.');
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        address
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|allowed| allowed == "*" || allowed == name)
    }

    fn origin_allowed(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed == origin)
    }
}

fn origin(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::ORIGIN)?;
    // What is not text is nobody's origin, and so not allowed.
    Some(value.to_str().unwrap_or("?").to_lowercase())
}

/// `host[:port]` of an origin; `None` for `null` and what is no origin.
pub(super) fn origin_host(origin: &str) -> Option<&str> {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).filter(|host| !host.is_empty())
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // In an IPv6 address the last colon stands before the bracket.
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guard(origins: &[&str], hosts: &[&str]) -> Guard {
        let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect();
        Guard::new(&Config { allowed_origins: owned(origins), allowed_hosts: owned(hosts), ..Config::default() })
    }

    #[test]
    fn a_rebinding_name_is_refused_and_addresses_are_not() {
        let guard = guard(&[], &["sight.example"]);
        for good in [
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "192.168.1.5",
            "app.localhost",
            "sight.example:80",
        ] {
            assert!(guard.host_allowed(good), "{good}");
        }
        for bad in ["evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.example", "", "sight.example.evil"] {
            assert!(!guard.host_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn only_listed_origins_are_foreign_friends() {
        let guard = guard(&["https://app.example/"], &[]);
        assert!(guard.origin_allowed("https://app.example"));
        for bad in ["http://app.example", "https://app.example:444", "null"] {
            assert!(!guard.origin_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_compared_with_its_port() {
        assert_eq!(origin_host("http://localhost:8080"), Some("localhost:8080"));
        assert_eq!(origin_host("null"), None);
        assert_eq!(origin_host("file://"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_hosts_never_panic(host in "\\PC{0,40}") {
            let _ = guard(&[], &[]).host_allowed(&host);
        }
    }
}
