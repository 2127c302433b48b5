//! The ONNX Runtime (onnxruntime.ai) through the `ort` crate, its library loaded at run time.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use crate::detect::DetectError;
use crate::detect::heads::{Graph, Output, Port};

/// The exporter's notes that heads read.
const METADATA_KEYS: [&str; 5] = ["names", "imgsz", "stride", "task", "end2end"];

/// No family has more outputs than this.
const MAX_OUTPUTS: usize = 16;

/// The runtime that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// The library's path.
    pub path: PathBuf,
    /// What the library says of its build.
    pub build: String,
}

/// One environment per process is allowed, and it must outlive every session: once made, it stays.
static ENVIRONMENT: Mutex<Option<(Environment, RuntimeInfo)>> = Mutex::new(None);

fn environment(path: &Path) -> Result<(Environment, RuntimeInfo), DetectError> {
    let mut held = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(held) = held.as_ref() {
        return Ok(held.clone());
    }
    let refuse = |reason: String| DetectError::Runtime { path: path.to_path_buf(), reason };
    if path.is_absolute() && !path.exists() {
        return Err(refuse("there is no such file".into()));
    }
    let builder = ort::init_from(path).map_err(|error| {
        refuse(match error {
            // The loader's own words stand one level deeper.
            ort::LoadDynamicError::Dlopen { error, .. } => {
                std::error::Error::source(&error).map_or_else(|| format!("{error:?}"), ToString::to_string)
            }
            ort::LoadDynamicError::MissingApi { .. } => "it is not an ONNX Runtime (no `OrtGetApiBase`)".into(),
            ort::LoadDynamicError::BadVersion { version_str, .. } => {
                format!("its version {version_str} is too old, 1.{} or newer is needed", ort::MINOR_VERSION)
            }
            other => other.to_string(),
        })
    })?;
    let environment =
        builder.with_name("sightline").with_telemetry(false).build().map_err(|error| refuse(error.to_string()))?;
    let info = RuntimeInfo { path: path.to_path_buf(), build: ort::info().to_owned() };
    Ok(held.insert((environment, info)).clone())
}

/// Loads the library at `path` unless one is loaded already, and says which one is in use.
///
/// # Errors
/// [`DetectError::Runtime`] with the path, the reason and the fix.
pub fn runtime(path: &Path) -> Result<RuntimeInfo, DetectError> {
    environment(path).map(|(_, info)| info)
}

/// One network in one session, for one thread at a time.
#[derive(Debug)]
pub struct Session {
    session: ort::session::Session,
    graph: Graph,
}

impl Session {
    /// Loads the model at `path` into a session of `threads` threads of its own, which sleep between two runs.
    ///
    /// # Errors
    /// [`DetectError::Runtime`] without a library; [`DetectError::Unusable`] when the file is no model that the runtime
    /// takes.
    pub fn open(library: &Path, path: &Path, threads: usize) -> Result<Self, DetectError> {
        let (environment, _) = environment(library)?;
        let session = build(&environment, path, threads).map_err(|reason| DetectError::Unusable {
            model: path.display().to_string(),
            reason: format!("the ONNX Runtime refused the file: {reason}"),
        })?;
        let graph = describe(&session);
        Ok(Self { session, graph })
    }

    /// The outside of the network.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs the network on one picture's `tensor`, `[1, 3, height, width]`, and hands its outputs to `read`. Returns what
    /// `read` returns, and how long the run took without it.
    ///
    /// # Errors
    /// [`DetectError::Frame`] when the run fails or an output is not f32.
    pub fn run<T>(
        &mut self,
        tensor: &[f32],
        (width, height): (usize, usize),
        read: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<(T, Duration), DetectError> {
        fn failed(error: impl Display) -> DetectError {
            DetectError::Frame(format!("inference failed: {error}"))
        }
        let start = Instant::now();
        let input = TensorRef::from_array_view(([1, 3, height, width], tensor)).map_err(failed)?;
        let values = self.session.run(ort::inputs![input]).map_err(failed)?;
        let took = start.elapsed();
        let mut outputs = [Output { shape: &[], data: &[] }; MAX_OUTPUTS];
        let mut count = 0;
        for (place, port) in outputs.iter_mut().zip(&self.graph.outputs) {
            let value = values.get(&port.name).ok_or_else(|| failed(format!("no output {port}")))?;
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(failed)?;
            *place = Output { shape, data };
            count += 1;
        }
        Ok((read(outputs.get(..count).unwrap_or_default()), took))
    }
}

fn build(environment: &Environment, path: &Path, threads: usize) -> Result<ort::session::Session, String> {
    fn text(error: impl Display) -> String {
        error.to_string()
    }
    ort::session::Session::builder(environment)
        .map_err(text)?
        // Some models print hundreds of warnings about their own graph.
        .with_log_level(LogLevel::Error)
        .map_err(text)?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(text)?
        .with_intra_threads(threads)
        .map_err(text)?
        // Spinning burns the cores that decode and encode.
        .with_intra_op_spinning(false)
        .map_err(text)?
        .with_inter_threads(1)
        .map_err(text)?
        .commit_from_file(path)
        .map_err(text)
}

fn describe(session: &ort::session::Session) -> Graph {
    let metadata = session.metadata().ok();
    let note = |key: &&str| Some(((*key).to_owned(), metadata.as_ref()?.custom(key)?));
    Graph {
        inputs: session.inputs().iter().map(port).collect(),
        outputs: session.outputs().iter().map(port).collect(),
        metadata: METADATA_KEYS.iter().filter_map(note).collect(),
    }
}

fn port(outlet: &Outlet) -> Port {
    let name = outlet.name().to_owned();
    match outlet.dtype() {
        &ValueType::Tensor { ty, ref shape, .. } => Port {
            name,
            kind: if ty == TensorElementType::Float32 { "f32".into() } else { ty.to_string() },
            shape: shape.iter().map(|&side| usize::try_from(side).ok()).collect(),
        },
        other => Port { name, kind: other.to_string(), shape: Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_an_error_with_path_and_fix() {
        let error = runtime(Path::new("/nonexistent/libonnxruntime.so")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/libonnxruntime.so") && error.contains("make setup"), "{error}");
    }

    #[test]
    fn a_library_that_is_none_is_an_error_in_the_loaders_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, "no library ".repeat(100)).unwrap();
        let error = runtime(&path).unwrap_err().to_string();
        assert!(error.contains("invalid ELF header") || error.contains("not a mach-o"), "{error}");
    }
}
