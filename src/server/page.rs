//! The page, embedded in the binary.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::App;

/// Only what this server serves, and nothing inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; \
     media-src 'self' blob:; style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; \
     form-action 'none'";

/// Address and content.
type File = (&'static str, &'static str);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$((concat!("/", $path), include_str!(concat!("../../web/", $path)))),*]
    };
}

const FILES: &[File] = files![
    "style.css",
    "streams.css",
    "latency.css",
    "favicon.svg",
    "js/api.js",
    "js/boxes.js",
    "js/camera.js",
    "js/charts.js",
    "js/clock.js",
    "js/controls.js",
    "js/dialogs.js",
    "js/encoded-worker.js",
    "js/join.js",
    "js/latency-page.js",
    "js/latency.js",
    "js/ledger.js",
    "js/link.js",
    "js/loopback.js",
    "js/main.js",
    "js/measure.js",
    "js/panels.js",
    "js/pattern.js",
    "js/problems.js",
    "js/regions-panel.js",
    "js/regions.js",
    "js/result.js",
    "js/session.js",
    "js/shape.js",
    "js/sources.js",
    "js/stage.js",
    "js/stages.js",
    "js/states.js",
    "js/stats.js",
    "js/theme.js",
    "js/thumbs.js",
    "js/viewing.js",
    "js/views.js",
    "js/wall.js",
    "js/watch.js",
    "js/waterfall.js",
    "js/whep.js",
    "js/zone.js",
];

const INDEX: &str = include_str!("../../web/index.html");
const LATENCY: &str = include_str!("../../web/latency.html");

pub(super) fn routes() -> Router<Arc<App>> {
    let mut router = Router::new()
        .route("/", get(|| async { page("/index.html", INDEX) }))
        .route("/latency", get(|| async { page("/latency.html", LATENCY) }));
    for &(path, content) in FILES {
        router = router.route(path, get(move || async move { page(path, content) }));
    }
    router
}

fn page(path: &str, content: &'static str) -> Response {
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let web = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let mut missing = Vec::new();
        for folder in ["", "js"] {
            for entry in std::fs::read_dir(web.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let wanted = path.extension().is_some_and(|kind| kind == "js" || kind == "css" || kind == "svg");
                let address = format!("/{}", path.strip_prefix(&web).unwrap().display());
                if wanted && !FILES.iter().any(|(known, _)| *known == address) {
                    missing.push(address);
                }
            }
        }
        assert!(missing.is_empty(), "not served: {missing:?}");
    }
}
