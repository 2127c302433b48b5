//! HTTP in front: signalling, the API, the page, health and metrics.
//!
//! Belongs here: routes, the checks of Origin and Host, and the one mapping from errors to statuses. Does not belong here:
//! what a session does, and anything that takes longer than an answer.

mod api;
mod bearer;
mod body;
mod cameras;
mod error;
mod guard;
mod ice;
mod kept;
mod models;
mod offer;
mod page;
mod regions;
mod resource;
mod snapshot;
mod whep;
mod whip;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::routing::{delete, get, post};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use bearer::Secret;
pub use ice::IceServer;

use crate::pipeline::Pipeline;
use bearer::Bearer;
use error::ApiError;

/// Where HTTP is served, and to whom.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address and port of HTTP.
    pub listen: SocketAddr,
    /// Web pages of other origins that may use the server, as `https://example.com`; `*` for any.
    pub allowed_origins: Vec<String>,
    /// Names that the server may be called by, beside `localhost` and IP addresses; `*` for any.
    pub allowed_hosts: Vec<String>,
    /// The folder that cameras are kept in which are added at run time and are to stay; `None`: they last until the end.
    pub state_dir: Option<PathBuf>,
    /// What WHIP and WHEP clients must send as `Authorization: Bearer …`; nothing is asked for where it is not set.
    pub bearer_token: Option<Secret>,
    /// The largest file of a model that is taken by `PUT /api/v1/models/NAME`, in megabytes; 0: none is.
    pub max_model_mb: u32,
    /// STUN and TURN servers that WHIP and WHEP clients are told to use.
    pub ice_servers: Vec<IceServer>,
}

/// What an ONNX file has at most, being one message of protobuf.
const MAX_MODEL_MB: u32 = 2147;

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            state_dir: None,
            bearer_token: None,
            max_model_mb: 512,
            ice_servers: Vec::new(),
        }
    }
}

impl Config {
    /// Checks the lists.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn validate(&self) -> Result<(), String> {
        for origin in &self.allowed_origins {
            let well_formed = origin == "*" || guard::origin_host(origin).is_some_and(|host| !host.contains('/'));
            if !well_formed {
                return Err(format!("allowed_origins = {origin:?}: write it as https://host[:port], or \"*\""));
            }
        }
        for host in &self.allowed_hosts {
            if host.is_empty() || host.contains(['/', ':']) {
                return Err(format!("allowed_hosts = {host:?}: write the name alone, without scheme or port"));
            }
        }
        if self.max_model_mb > MAX_MODEL_MB {
            return Err(format!("max_model_mb = {}: from 0 to {MAX_MODEL_MB} is possible", self.max_model_mb));
        }
        let token = self.bearer_token.as_ref().map(Secret::reveal);
        if token.is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err("bearer_token is a word of printable ASCII without spaces".to_owned());
        }
        self.ice_servers.iter().try_for_each(IceServer::validate)
    }
}

/// What the handlers share.
struct App {
    pipeline: Arc<Pipeline>,
    bearer: Bearer,
    /// The `Link` headers of the STUN and TURN servers.
    ice_links: Vec<HeaderValue>,
    /// The text of `/metrics`.
    metrics: Box<dyn Fn() -> String + Send + Sync>,
    stop: CancellationToken,
    snapshots: snapshot::Snapshots,
    /// The largest model that is taken, in bytes.
    max_model: u64,
    /// Places for models that are being sent.
    uploads: tokio::sync::Semaphore,
    /// Cameras that outlast a restart.
    kept: kept::Kept,
    /// Held while a camera, or a stream's regions, are changed here: what runs and what is kept change together.
    edits: tokio::sync::Mutex<()>,
}

/// How many models may be sent at the same time.
const MAX_UPLOADS: usize = 2;

/// How long requests in flight may take when the server goes.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);

/// Serves until `stop` is cancelled, then ends the sessions. Takes at most about two seconds to end.
///
/// # Errors
/// When the listener fails, or the state directory cannot be used.
pub async fn run(
    listener: TcpListener,
    config: Config,
    pipeline: Arc<Pipeline>,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let kept = kept::Kept::open(config.state_dir.as_deref())?;
    let warnings = kept.restore(&pipeline);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    pipeline.set_warnings("state", warnings);
    let app = Arc::new(App {
        pipeline: Arc::clone(&pipeline),
        bearer: Bearer::new(config.bearer_token.as_ref()),
        ice_links: ice::links(&config.ice_servers),
        metrics: Box::new(metrics),
        stop: stop.clone(),
        snapshots: snapshot::Snapshots::default(),
        max_model: u64::from(config.max_model_mb) * 1_000_000,
        uploads: tokio::sync::Semaphore::new(MAX_UPLOADS),
        kept,
        edits: tokio::sync::Mutex::default(),
    });
    let serve = axum::serve(listener, router(app, &config)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let result = tokio::select! {
        result = serve.into_future() => result,
        // Connections that are kept alive would keep the server alive.
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN_LIMIT).await } => Ok(()),
    };
    pipeline.shutdown().await;
    result
}

fn router(app: Arc<App>, config: &Config) -> Router {
    let guard = Arc::new(guard::Guard::new(config));
    let bearer = app.bearer.clone();
    let signalling =
        whip::routes().merge(whep::routes()).method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
    let signalling = signalling.layer(middleware::from_fn(move |request, next| bearer.clone().check(request, next)));
    Router::new()
        .route("/offer", post(offer::offer))
        .route("/api/v1/sessions", get(api::sessions))
        .route("/api/v1/sessions/{id}", delete(api::end_session))
        .route("/api/v1/streams", get(api::streams))
        .route("/api/v1/streams/{name}", get(api::stream))
        .route("/api/v1/streams/{name}/latency", get(api::latency))
        .route("/api/v1/streams/{name}/regions", get(regions::show).put(regions::replace))
        .route("/api/v1/streams/{name}/snapshot.jpg", get(snapshot::show))
        .route("/api/v1/sync", get(api::sync))
        .route("/api/v1/cameras", get(cameras::list).post(cameras::add))
        .route("/api/v1/cameras/{name}", get(cameras::show).patch(cameras::change).delete(cameras::remove))
        .route("/api/v1/models", get(models::list))
        .route("/api/v1/models/{name}", get(models::show).put(models::replace))
        .route("/api/v1/info", get(api::info))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/metrics", get(api::metrics))
        .merge(page::routes())
        .merge(signalling)
        .fallback(|| async { ApiError::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .with_state(app)
        .layer(middleware::from_fn(move |request, next| {
            let guard = Arc::clone(&guard);
            async move { guard.check(request, next).await }
        }))
        .layer(middleware::map_response(|mut response: axum::response::Response| async {
            let headers = response.headers_mut();
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            response
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_local() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        assert!(config.listen.ip().is_loopback());
    }

    #[test]
    fn a_malformed_list_entry_is_named() {
        let config = Config { allowed_origins: vec!["example.com".to_owned()], ..Config::default() };
        assert!(config.validate().unwrap_err().contains("example.com"));
        let config = Config { max_model_mb: 2148, ..Config::default() };
        assert!(config.validate().unwrap_err().contains("max_model_mb = 2148"));
        let config = Config { allowed_hosts: vec!["http://x".to_owned()], ..Config::default() };
        assert!(config.validate().unwrap_err().contains("http://x"));
    }
}
