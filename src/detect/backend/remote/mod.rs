//! A network on another machine, by the Open Inference Protocol over gRPC: Triton, KServe, OpenVINO Model Server, mlserver.
//!
//! One [`Remote`] is one model of one server, shared by all its sessions. A thread of its own speaks to the network, and looks
//! by itself whether the server is there: while it is away no request is tried, so that nobody waits for it.

mod connect;
mod session;
mod values;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use prost::Message;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{RemoteCounts, RemoteOptions};
use crate::detect::DetectError;
use crate::detect::heads::Graph;
use crate::detect::lane::lock;
use wire::{
    ModelInferRequest, ModelInferResponse, ModelMetadataResponse, ModelName, ModelReadyResponse, ProstCodec, SERVICE,
};

pub use session::RemoteSession;

/// How long a question about the model's state may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// How often a server that is away is looked for.
const AWAY_INTERVAL: Duration = Duration::from_millis(500);

/// One that fell this soon after it rose is left alone for twice as long each time, up to [`LONGEST_AWAY`].
const SOON: Duration = Duration::from_secs(10);

/// The longest that a server is left alone.
const LONGEST_AWAY: Duration = Duration::from_secs(30);

/// How often one that is there and has nothing to do is asked whether it still is.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// The largest answer: the raw outputs of a batch of the largest detectors are some ten megabytes.
const MAX_ANSWER: usize = 128 * 1024 * 1024;

/// Attempts at one picture.
const ATTEMPTS: usize = 2;

/// One model of one server.
pub struct Remote {
    inner: Arc<Inner>,
    runtime: Option<Runtime>,
}

struct Inner {
    options: RemoteOptions,
    endpoint: Endpoint,
    permits: Semaphore,
    up: AtomicBool,
    state: Mutex<State>,
    /// The server was found to be away.
    fell: Notify,
    frames: AtomicU64,
    retries: AtomicU64,
    failures: AtomicU64,
}

struct State {
    channel: Channel,
    /// The outside of the model, from the first time that the server was there.
    graph: Option<Arc<Graph>>,
    /// Why it is not used.
    reason: Option<String>,
    /// It is of no use, and is not looked for any more.
    condemned: bool,
}

impl Remote {
    /// Begins to look for the server, and waits for the first answer or failure. A server that is away is no error.
    ///
    /// # Errors
    /// [`DetectError::Remote`] for an address or an authority that is none, or a system that gives no thread.
    pub fn connect(options: RemoteOptions) -> Result<Self, DetectError> {
        let refuse = |reason: String| DetectError::Remote { address: options.address.clone(), reason };
        let endpoint = connect::endpoint(&options, PROBE_LIMIT).map_err(refuse)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("detect-remote")
            .enable_all()
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        let state = State { channel, graph: None, reason: None, condemned: false };
        let inner = Arc::new(Inner {
            permits: Semaphore::new(options.concurrency),
            options,
            endpoint,
            up: AtomicBool::new(false),
            state: Mutex::new(state),
            fell: Notify::new(),
            frames: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let (looked, first) = mpsc::sync_channel(1);
        runtime.spawn(Arc::clone(&inner).watch(looked));
        // The watcher's own limits end this.
        let _ = first.recv();
        Ok(Self { inner, runtime: Some(runtime) })
    }

    /// The outside of the model; `None` until the server was there once.
    #[must_use]
    pub fn graph(&self) -> Option<Arc<Graph>> {
        lock(&self.inner.state).graph.clone()
    }

    /// Whether requests are worth a try.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.up.load(Ordering::Acquire)
    }

    /// Says that the server does not do what it should: it is left alone until it was seen again.
    pub fn away(&self, reason: &str) {
        self.inner.away(reason);
    }

    /// Says that the model is of no use: it is left alone for good.
    pub fn condemn(&self, reason: &str) {
        lock(&self.inner.state).condemned = true;
        self.inner.away(reason);
    }

    /// Why the model is not used.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        lock(&self.inner.state).reason.clone()
    }

    /// What was asked of it.
    #[must_use]
    pub fn counts(&self) -> RemoteCounts {
        RemoteCounts {
            frames: self.inner.frames.load(Ordering::Relaxed),
            retries: self.inner.retries.load(Ordering::Relaxed),
            failures: self.inner.failures.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Whoever drops it last may be a task of another runtime, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    fn away(&self, reason: &str) {
        lock(&self.state).reason = Some(reason.to_owned());
        if self.up.swap(false, Ordering::AcqRel) {
            let RemoteOptions { address, model, .. } = &self.options;
            tracing::warn!(%address, %model, reason, "the remote detector is away");
            self.fell.notify_one();
        }
    }

    /// Looks whether the server is there, for as long as the runtime lives.
    async fn watch(self: Arc<Self>, looked: mpsc::SyncSender<()>) {
        let mut looked = Some(looked);
        let (mut interval, mut rose) = (AWAY_INTERVAL, None::<Instant>);
        loop {
            let mut before = self.frames.load(Ordering::Relaxed);
            match self.probe().await {
                Ok(()) => rose = rose.or_else(|| Some(Instant::now())),
                Err(reason) => self.away(&reason),
            }
            if let Some(looked) = looked.take() {
                let _ = looked.send(());
            }
            loop {
                if lock(&self.state).condemned {
                    return;
                }
                if !self.up.load(Ordering::Acquire) {
                    // A server that says it is ready, and fails at every picture, must not be believed twice a second.
                    if let Some(rose) = rose.take() {
                        interval = if rose.elapsed() < SOON { (interval * 2).min(LONGEST_AWAY) } else { AWAY_INTERVAL };
                    }
                    sleep(interval).await;
                    break;
                }
                // One that does its work need not be asked.
                let idle = timeout(IDLE_INTERVAL, self.fell.notified()).await.is_err();
                let now = self.frames.load(Ordering::Relaxed);
                if idle && std::mem::replace(&mut before, now) == now {
                    break;
                }
            }
        }
    }

    async fn probe(&self) -> Result<(), String> {
        let up = self.up.load(Ordering::Acquire);
        // A connection that was lost may only be found out after minutes: who was away is called on a new one.
        let channel = if up { lock(&self.state).channel.clone() } else { self.endpoint.connect_lazy() };
        let request = || ModelName { name: self.options.model.clone() };
        let ready: ModelReadyResponse =
            ask(&channel, "ModelReady", request(), PROBE_LIMIT).await.map_err(|status| said(&status))?;
        if !ready.ready {
            return Err(format!("the server says that the model `{}` is not ready", self.options.model));
        }
        if up {
            return Ok(());
        }
        let metadata: ModelMetadataResponse =
            ask(&channel, "ModelMetadata", request(), PROBE_LIMIT).await.map_err(|status| said(&status))?;
        let graph = values::graph(&metadata);
        let mut state = lock(&self.state);
        match &state.graph {
            Some(known) if **known != graph => {
                return Err(format!("the server now has another model: {graph}; restart to use it"));
            }
            Some(_) => {}
            None => state.graph = Some(Arc::new(graph)),
        }
        state.channel = channel;
        if !state.condemned {
            state.reason = None;
            self.up.store(true, Ordering::Release);
            drop(state);
            let RemoteOptions { address, model, .. } = &self.options;
            tracing::info!(%address, %model, "the remote detector is there");
        }
        Ok(())
    }

    /// One request's way there and back, with a second attempt where the server was not to be had.
    async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let closed = |_| Status::cancelled("the pool is closed");
        let _permit = self.permits.acquire().await.map_err(closed)?;
        let mut last = Status::unavailable("not tried");
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.retries.fetch_add(1, Ordering::Relaxed);
            }
            let channel = lock(&self.state).channel.clone();
            // The bytes of the picture are shared, not copied.
            match ask(&channel, "ModelInfer", request.clone(), self.options.timeout).await {
                Err(status) if broken(&status) => last = status,
                result => return result,
            }
        }
        Err(last)
    }
}

/// Whether the connection was at fault, and not the request.
fn broken(status: &Status) -> bool {
    // A connection that breaks while the answer is awaited is `Unknown` or `Internal`, with the transport's error as its source.
    status.code() == Code::Unavailable
        || (matches!(status.code(), Code::Unknown | Code::Internal) && std::error::Error::source(status).is_some())
}

fn said(status: &Status) -> String {
    let mut text = match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{message} ({:?})", status.code()),
    };
    // gRPC's own words for a refused connection are two: "transport error".
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn ask<Q, A>(channel: &Channel, method: &str, question: Q, limit: Duration) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let path =
        PathAndQuery::try_from(format!("{SERVICE}{method}")).map_err(|error| Status::internal(error.to_string()))?;
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
    let answered = async {
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let mut request = Request::new(question);
        request.set_timeout(limit);
        client.unary(request, path, ProstCodec::default()).await.map(tonic::Response::into_inner)
    };
    match timeout(limit, answered).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} ms", limit.as_millis()))),
    }
}
