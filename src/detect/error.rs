//! What can go wrong, split by consequence.

use std::path::PathBuf;
use std::time::Duration;

use super::backend::Provider;

/// Errors of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectError {
    /// The ONNX Runtime's library cannot be used: no model can run until the set-up is mended.
    #[error(
        "the ONNX Runtime library `{path}` cannot be used: {reason}; run `make setup`, or name a libonnxruntime 1.24 or \
         newer with `--onnxruntime PATH` or `ORT_DYLIB_PATH`"
    )]
    Runtime {
        /// The path that was tried.
        path: PathBuf,
        /// What the loader or the library said.
        reason: String,
    },
    /// There is no such model: a server goes on with the built-in motion detector.
    #[error("model `{model}` is not there (looked for {looked}); {fix}")]
    Missing {
        /// The name or path asked for.
        model: String,
        /// The paths that were looked at.
        looked: String,
        /// What to do about it.
        fix: String,
    },
    /// The model is there and cannot be used: refused at start.
    #[error("model `{model}` cannot be used: {reason}")]
    Unusable {
        /// The name or path asked for.
        model: String,
        /// What was found, and what was expected.
        reason: String,
    },
    /// Its loading does not end: refused, and the thread that loads it is left to itself.
    #[error(
        "model `{model}` was not loaded within {} s; [detect] load_deadline_ms sets that", .limit.as_secs_f64()
    )]
    Overdue {
        /// The name or path asked for.
        model: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// What the model is to run on is not there: refused at start, never replaced by something slower.
    #[error("the execution provider `{provider}` cannot be used: {reason}; it needs {}", .provider.needs())]
    Provider {
        /// What was asked for.
        provider: Provider,
        /// What was found out.
        reason: String,
    },
    /// The detector on another machine cannot be used, and there is none here: refused at start.
    #[error("the remote detector at {address} cannot be used: {reason}")]
    Remote {
        /// Where it should be.
        address: String,
        /// What was found out.
        reason: String,
    },
    /// The system gives no thread: refused at start.
    #[error("the system does not give {workers} threads to the detector: {reason}; lower `workers` in [detect]")]
    Thread {
        /// How many are needed.
        workers: usize,
        /// What the system said.
        reason: String,
    },
    /// This one picture failed: it is skipped and counted.
    #[error("the picture could not be examined: {0}")]
    Frame(String),
}
