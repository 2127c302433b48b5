//! The whole server in this process: HTTP and media on loopback, on ports that the system chooses.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sightline::detect::{self, Model, Pools};
use sightline::peer::{self, Engine};
use sightline::pipeline::{self, Pipeline, SessionStatus, StreamStatus};
use sightline::{encode, server, telemetry};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing that is waited for takes this long, on whatever machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What is not the default.
pub struct Options {
    pub model: Model,
    pub detect: detect::Config,
    pub pipeline: pipeline::Config,
    pub http: server::Config,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: Model::motion(),
            detect: detect::Config { workers: Some(1), ..detect::Config::default() },
            pipeline: pipeline::Config::default(),
            http: server::Config::default(),
        }
    }
}

impl Options {
    pub fn with_model(model: Model) -> Self {
        Self { model, ..Self::default() }
    }
}

/// A running server; ends with the test.
pub struct Server {
    pub base: String,
    pub pipeline: Arc<Pipeline>,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

/// One recorder serves the process, whichever of its tests comes first.
fn metrics() -> impl Fn() -> String {
    static RECORDER: OnceLock<Box<dyn Fn() -> String + Send + Sync>> = OnceLock::new();
    let render = RECORDER.get_or_init(|| {
        let handle = telemetry::init_metrics().expect("nobody else collects metrics");
        Box::new(move || handle.render())
    });
    || render()
}

impl Server {
    pub async fn start(options: Options) -> Self {
        let Options { model, detect, pipeline, http } = options;
        let engine = Engine::bind_loopback(&peer::Config { udp_port: 0, public_ip: Vec::new() }).unwrap();
        let pool = Pools::start(model, &detect).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let render = metrics();
        let pipeline = Pipeline::new(engine, pool, pipeline, encode::Config::default(), Vec::new());
        let stop = CancellationToken::new();
        let task = tokio::spawn(server::run(listener, http, Arc::clone(&pipeline), render, stop.clone()));
        Self { base, pipeline, stop, task }
    }

    /// The one session that there should be.
    pub fn session(&self) -> SessionStatus {
        self.pipeline.sessions().into_iter().next().expect("a session")
    }

    /// The one stream that there should be.
    pub fn stream(&self) -> StreamStatus {
        self.pipeline.streams().into_iter().next().expect("a stream").status
    }

    /// Ends it as a signal does, and waits until it is over.
    pub async fn shutdown(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.task).await.expect("the server did not end").unwrap().unwrap();
    }
}

/// Waits until a state that nobody announces has come about.
pub async fn until(what: &str, state: impl FnMut() -> bool) {
    within(LIMIT, what, state).await;
}

/// The same with a limit that is part of what is tested.
pub async fn within(limit: Duration, what: &str, mut state: impl FnMut() -> bool) {
    let started = Instant::now();
    while !state() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
