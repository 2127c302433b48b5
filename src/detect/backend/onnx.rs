//! The ONNX Runtime (onnxruntime.ai) through the `ort` crate, its library loaded at run time.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::RunOptions;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, ValueType};

use super::tensor::{self, Plug};
use crate::detect::heads::{Graph, Output, Port};
use crate::detect::{DetectError, Layout, Stopper};

/// The exporter's notes that heads read.
const METADATA_KEYS: [&str; 6] = ["names", "imgsz", "stride", "task", "kpt_shape", "end2end"];

/// No family has more outputs than this.
const MAX_OUTPUTS: usize = 16;

/// Where a graph from memory finds the weights that it keeps in other files (`onnxruntime_session_options_config_keys.h`).
const EXTERNAL_FOLDER: &str = "session.model_external_initializers_file_folder_path";

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
pub struct Session {
    inner: ort::session::Session,
    options: Arc<RunOptions>,
    stopper: Stopper,
    graph: Graph,
    plug: Plug,
    /// The outputs whose numbers are not f32, by output.
    converted: Vec<Vec<f32>>,
}

impl Session {
    /// Loads the model at `path` into a session of `threads` threads of its own, which sleep between two runs.
    ///
    /// # Errors
    /// [`DetectError::Runtime`] without a library; [`DetectError::Unusable`] when the file is no model that the runtime
    /// takes.
    pub fn open(library: &Path, path: &Path, threads: usize) -> Result<Self, DetectError> {
        Self::commit(library, path, threads, |mut builder| builder.commit_from_file(path).map_err(text))
    }

    /// The same of bytes that were read before, from `path`: beside it lie the weights that the file keeps elsewhere, if any.
    ///
    /// # Errors
    /// The same.
    pub fn open_bytes(library: &Path, path: &Path, bytes: &[u8], threads: usize) -> Result<Self, DetectError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::commit(library, path, threads, |builder| {
            let mut builder = builder.with_config_entry(EXTERNAL_FOLDER, folder.to_string_lossy()).map_err(text)?;
            builder.commit_from_memory(bytes).map_err(text)
        })
    }

    fn commit(
        library: &Path,
        path: &Path,
        threads: usize,
        commit: impl FnOnce(SessionBuilder) -> Result<ort::session::Session, String>,
    ) -> Result<Self, DetectError> {
        let (environment, _) = environment(library)?;
        let session = build(&environment, threads, commit).map_err(|reason| DetectError::Unusable {
            model: path.display().to_string(),
            reason: format!("the ONNX Runtime refused the file: {reason}"),
        })?;
        let graph = describe(&session);
        let options = Arc::new(RunOptions::new().map_err(|error| DetectError::Unusable {
            model: path.display().to_string(),
            reason: format!("the ONNX Runtime gives no options for its runs: {error}"),
        })?);
        let ended = Arc::clone(&options);
        let stopper = Arc::new(move || {
            if let Err(error) = ended.terminate() {
                tracing::error!(%error, "a run cannot be ended");
            }
        });
        Ok(Self { inner: session, options, stopper, graph, plug: Plug::default(), converted: Vec::new() })
    }

    /// What ends a run, between two nodes of the graph. All runs that follow fail too.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Arc::clone(&self.stopper)
    }

    /// The outside of the network.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs the network on one picture's `tensor`, `[1, 3, height, width]`, and hands its outputs to `read`: whatever number
    /// type the graph takes and gives, both are f32 here. Returns what `read` returns, and how long the run took without it.
    ///
    /// # Errors
    /// [`DetectError::Frame`] when the run fails or an output holds no numbers.
    pub fn run<T>(
        &mut self,
        tensor: &[f32],
        (width, height): (usize, usize),
        read: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<(T, Duration), DetectError> {
        let start = Instant::now();
        let Self { inner, options, graph, plug, converted, .. } = self;
        let inputs = plug.inputs(graph, tensor, (width, height)).map_err(failed)?;
        let values = inner.run_with_options(inputs, &**options).map_err(failed)?;
        let took = start.elapsed();
        converted.resize_with(graph.outputs.len(), Vec::new);
        for (port, buffer) in graph.outputs.iter().zip(converted.iter_mut()) {
            let value = values.get(&port.name).ok_or_else(|| failed(format!("no output {port}")))?;
            tensor::convert(value, buffer).map_err(|reason| failed(format!("output {port}: {reason}")))?;
        }
        let mut outputs = [Output { shape: &[], data: &[] }; MAX_OUTPUTS];
        let mut count = 0;
        for (place, (port, buffer)) in outputs.iter_mut().zip(graph.outputs.iter().zip(converted.iter())) {
            let value = values.get(&port.name).ok_or_else(|| failed(format!("no output {port}")))?;
            *place = match value.try_extract_tensor::<f32>() {
                Ok((shape, data)) => Output { shape, data },
                Err(_) => Output { shape: value.shape(), data: buffer },
            };
            count += 1;
        }
        Ok((read(outputs.get(..count).unwrap_or_default()), took))
    }

    /// Says how the input's axes stand, where the graph leaves it open.
    pub fn set_layout(&mut self, layout: Option<Layout>) {
        self.plug.layout = layout;
    }
}

fn failed(error: impl Display) -> DetectError {
    DetectError::Frame(format!("inference failed: {error}"))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("graph", &self.graph).finish_non_exhaustive()
    }
}

fn build(
    environment: &Environment,
    threads: usize,
    commit: impl FnOnce(SessionBuilder) -> Result<ort::session::Session, String>,
) -> Result<ort::session::Session, String> {
    let builder = ort::session::Session::builder(environment)
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
        .map_err(text)?;
    commit(builder)
}

fn text(error: impl Display) -> String {
    error.to_string()
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
        &ValueType::Tensor { ty, ref shape, .. } => {
            Port { name, kind: ty.to_string(), shape: shape.iter().map(|&side| usize::try_from(side).ok()).collect() }
        }
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

    /// The bytes of a protobuf field that holds bytes (wire type 2).
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length > 0x7f {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend_from_slice(bytes);
        out
    }

    /// The same of a small number (wire type 0).
    fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }

    /// A tensor's name, type and shape (`ValueInfoProto`).
    fn tensor(name: &str, kind: u8, sides: &[u8]) -> Vec<u8> {
        let sides: Vec<u8> = sides.iter().flat_map(|&side| field(1, &number(1, side))).collect();
        let kind = field(1, &[number(1, kind), field(2, &sides)].concat());
        [field(1, name.as_bytes()), field(2, &kind)].concat()
    }

    fn node(kind: &str, inputs: &[&str], outputs: &[&str], attributes: &[u8]) -> Vec<u8> {
        let inputs = inputs.iter().flat_map(|name| field(1, name.as_bytes()));
        let outputs = outputs.iter().flat_map(|name| field(2, name.as_bytes()));
        inputs.chain(outputs).chain(field(4, kind.as_bytes())).chain(attributes.to_vec()).collect()
    }

    /// An ONNX model that doubles its input, `f32[1,3,4,4]`, so many times.
    fn looping(times: i64) -> Vec<u8> {
        const FLOAT: u8 = 1;
        const INT64: u8 = 7;
        const BOOL: u8 = 9;
        let shape = [1, 3, 4, 4];
        let body = [
            field(1, &node("Identity", &["again"], &["go_on"], &[])),
            field(1, &node("Add", &["v", "v"], &["twice"], &[])),
            field(2, b"body"),
            field(11, &tensor("n", INT64, &[])),
            field(11, &tensor("again", BOOL, &[])),
            field(11, &tensor("v", FLOAT, &shape)),
            field(12, &tensor("go_on", BOOL, &[])),
            field(12, &tensor("twice", FLOAT, &shape)),
        ];
        // AttributeProto: the name, the graph, the type GRAPH.
        let body = [field(1, b"body"), field(6, &body.concat()), vec![0xa0, 1, 5]].concat();
        let count = [number(2, INT64), field(8, b"times"), field(9, &times.to_le_bytes())].concat();
        let graph = [
            field(1, &node("Loop", &["times", "", "x"], &["y"], &field(5, &body))),
            field(2, b"loop"),
            field(5, &count),
            field(11, &tensor("x", FLOAT, &shape)),
            field(12, &tensor("y", FLOAT, &shape)),
        ];
        [number(1, 8), field(7, &graph.concat()), field(8, &number(2, 13))].concat()
    }

    fn open(folder: &Path, times: i64) -> Session {
        let path = folder.join(format!("loop-{times}.onnx"));
        std::fs::write(&path, looping(times)).unwrap();
        Session::open(&crate::detect::backend::find_library(None), &path, 1).unwrap()
    }

    #[test]
    fn a_run_without_end_is_ended_by_its_stopper_and_by_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (mut short, mut endless) = (open(folder.path(), 3), open(folder.path(), i64::MAX));
        let stop = endless.stopper();
        let running = std::thread::spawn(move || endless.run(&[1.0; 48], (4, 4), |_| ()).map(drop));
        let (doubled, _) = short.run(&[1.0; 48], (4, 4), |outputs| outputs[0].data[0]).unwrap();
        assert!((doubled - 8.0).abs() < 1e-6, "the graph works: {doubled}");
        assert!(!running.is_finished());
        stop();
        let error = running.join().unwrap().unwrap_err();
        assert!(matches!(&error, DetectError::Frame(reason) if reason.contains("terminate")), "{error}");
        short.run(&[1.0; 48], (4, 4), |_| ()).unwrap();
    }
}
