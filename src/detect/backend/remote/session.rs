//! One thread's use of a model on a server.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::super::plug::Plug;
use super::values::{self, Values};
use super::wire::ModelInferRequest;
use super::{Remote, broken, said};
use crate::detect::heads::{Graph, Output};
use crate::detect::{DetectError, Layout, Stopper};

/// One caller of a [`Remote`], on one thread at a time.
pub struct RemoteSession {
    remote: Arc<Remote>,
    graph: Arc<Graph>,
    plug: Plug,
    stop: CancellationToken,
}

/// Why a request was of no use.
struct Failure {
    reason: String,
    /// The server is there, and answered: it did not like what it was asked.
    answered: bool,
}

impl Failure {
    fn unanswered(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), answered: false }
    }

    fn answered(reason: String) -> Self {
        Self { reason, answered: true }
    }
}

impl Remote {
    /// A session; `None` until the server was there once.
    #[must_use]
    pub fn session(self: &Arc<Self>) -> Option<RemoteSession> {
        let graph = self.graph()?;
        let (plug, stop) = (Plug::default(), CancellationToken::new());
        Some(RemoteSession { remote: Arc::clone(self), graph, plug, stop })
    }
}

impl RemoteSession {
    /// What ends a run. All runs that follow fail too.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        let stop = self.stop.clone();
        Arc::new(move || stop.cancel())
    }

    /// The outside of the network.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Says how the input's axes stand, where the graph leaves it open, and checks that nothing but what the wire carries is needed.
    ///
    /// # Errors
    /// The same.
    pub fn set_layout(&mut self, layout: Option<Layout>) -> Result<(), String> {
        self.plug.layout = layout;
        values::check(&self.graph, layout)
    }

    /// Runs the network on `tensor`, `[n, 3, height, width]`, and hands its outputs to `read`. Returns what `read` returns, and
    /// how long the run took with both ways.
    ///
    /// # Errors
    /// [`DetectError::Frame`] when no answer comes, or none that can be used. The server counts as away from then on, but for an
    /// answer to several pictures: their number may be the reason.
    pub fn run<T>(
        &mut self,
        tensor: &[f32],
        (width, height): (usize, usize),
        read: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<(T, Duration), DetectError> {
        let start = Instant::now();
        let several = tensor.len() > 3 * width * height;
        let answer = self.answer(tensor, (width, height));
        let inner = &self.remote.inner;
        match answer {
            Ok(values) => {
                inner.frames.fetch_add(1, Ordering::Relaxed);
                let took = start.elapsed();
                let outputs: Vec<_> =
                    values.iter().map(|Values { shape, data }| Output { shape, data: data.as_slice() }).collect();
                Ok((read(&outputs), took))
            }
            Err(Failure { reason, answered }) => {
                inner.failures.fetch_add(1, Ordering::Relaxed);
                if !(self.stop.is_cancelled() || several && answered) {
                    inner.away(&reason);
                }
                Err(DetectError::Frame(format!("the remote detector failed: {reason}")))
            }
        }
    }

    fn answer(&mut self, tensor: &[f32], size: (usize, usize)) -> Result<Vec<Values>, Failure> {
        let fed = self.plug.inputs(&self.graph, tensor, size).map_err(Failure::unanswered)?;
        let (inputs, raw_input_contents) = fed.iter().map(values::input).unzip();
        let model_name = self.remote.inner.options.model.clone();
        let request = ModelInferRequest { model_name, inputs, raw_input_contents };
        let (inner, stop) = (Arc::clone(&self.remote.inner), self.stop.clone());
        let (answer, answered) = mpsc::sync_channel(1);
        let closed = || Failure::unanswered("the pool is closed");
        let runtime = self.remote.runtime.as_ref().ok_or_else(closed)?;
        runtime.spawn(async move {
            // The time allowed is for all attempts, the wait for a place among them.
            let limit = inner.options.timeout;
            let result = tokio::select! {
                () = stop.cancelled() => Err(Failure::unanswered("it was ended")),
                result = timeout(limit, inner.infer(request)) => match result {
                    Ok(result) => result.map_err(|status| {
                        let silent = broken(&status) || matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
                        Failure { reason: said(&status), answered: !silent }
                    }),
                    Err(_) => Err(Failure::unanswered(format!("no answer within {} ms", limit.as_millis()))),
                },
            };
            let _ = answer.send(result);
        });
        let response = answered.recv().map_err(|_| closed())??;
        values::outputs(response, &self.graph).map_err(Failure::answered)
    }
}
