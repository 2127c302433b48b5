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

use super::plug::Plug;
use super::provider::Provider;
use super::shared::{self, Names};
use super::tensor;
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

/// A network in a session, for one thread at a time; others may have the same ([`Session::share`]).
pub struct Session {
    loaded: Arc<Loaded>,
    options: Arc<RunOptions>,
    stopper: Stopper,
    plug: Plug,
    /// The outputs whose numbers are not f32, by output.
    converted: Vec<Vec<f32>>,
}

/// What all who share a session have in common.
struct Loaded {
    session: ort::session::Session,
    names: Names,
    graph: Graph,
    name: String,
}

/// How a session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads of its own, which sleep between two runs.
    pub threads: usize,
    /// On what.
    pub provider: Provider,
}

/// Where a model's bytes are.
#[derive(Clone, Copy)]
enum Place<'a> {
    File(&'a Path),
    /// With the folder of the weights that they keep in other files, if any.
    Memory(&'a [u8], Option<&'a Path>),
}

impl Session {
    /// Loads the model at `path` into a session on the CPU of `threads` threads of its own, which sleep between two runs.
    ///
    /// # Errors
    /// See [`Session::open_with`].
    pub fn open(library: &Path, path: &Path, threads: usize) -> Result<Self, DetectError> {
        Self::open_with(library, path, &SessionOptions { threads, provider: Provider::Cpu })
    }

    /// Loads the model at `path`.
    ///
    /// # Errors
    /// [`DetectError::Runtime`] without a library; [`DetectError::Provider`] when the provider cannot be had;
    /// [`DetectError::Unusable`] when the file is no model that the runtime takes.
    pub fn open_with(library: &Path, path: &Path, options: &SessionOptions) -> Result<Self, DetectError> {
        Self::new(library, Place::File(path), &path.display().to_string(), options)
    }

    /// The same of bytes that were read before, from `path`: beside it lie the weights that the file keeps elsewhere, if any.
    ///
    /// # Errors
    /// The same.
    pub fn open_bytes(
        library: &Path,
        path: &Path,
        bytes: &[u8],
        options: &SessionOptions,
    ) -> Result<Self, DetectError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::new(library, Place::Memory(bytes, Some(folder)), &path.display().to_string(), options)
    }

    /// Loads a model from memory.
    pub(super) fn from_bytes(library: &Path, model: &[u8], options: &SessionOptions) -> Result<Self, DetectError> {
        Self::new(library, Place::Memory(model, None), "(in memory)", options)
    }

    fn new(library: &Path, place: Place<'_>, name: &str, options: &SessionOptions) -> Result<Self, DetectError> {
        let unusable = |reason: String| DetectError::Unusable { model: name.to_owned(), reason };
        let (environment, _) = environment(library)?;
        let builder = prepare(&environment, options.threads)
            .map_err(|reason| unusable(format!("the ONNX Runtime makes no session: {reason}")))?;
        let session = on(builder, options)?;
        let session = commit(session, place)
            .map_err(|reason| unusable(format!("the ONNX Runtime refused the file: {reason}")))?;
        let (graph, names) = (describe(&session), Names::of(&session).map_err(unusable)?);
        Self::of(Arc::new(Loaded { session, names, graph, name: name.to_owned() }))
    }

    fn of(loaded: Arc<Loaded>) -> Result<Self, DetectError> {
        let options = Arc::new(RunOptions::new().map_err(|error| DetectError::Unusable {
            model: loaded.name.clone(),
            reason: format!("the ONNX Runtime gives no options for its runs: {error}"),
        })?);
        let ended = Arc::clone(&options);
        let stopper = Arc::new(move || {
            if let Err(error) = ended.terminate() {
                tracing::error!(%error, "a run cannot be ended");
            }
        });
        Ok(Self { loaded, options, stopper, plug: Plug::default(), converted: Vec::new() })
    }

    /// The same network for another thread, with the same weights in memory. Runs of both may go on at the same time, and each
    /// is ended by its own stopper.
    ///
    /// # Errors
    /// [`DetectError::Unusable`] when the runtime gives no options for its runs.
    pub fn share(&self) -> Result<Self, DetectError> {
        let mut other = Self::of(Arc::clone(&self.loaded))?;
        other.set_layout(self.plug.layout);
        Ok(other)
    }

    /// What ends a run, between two nodes of the graph. All runs that follow fail too.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Arc::clone(&self.stopper)
    }

    /// The outside of the network.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.loaded.graph
    }

    /// Runs the network on `tensor`, the `[n, 3, height, width]` of *n* pictures, and hands its outputs to `read`: whatever
    /// number type the graph takes and gives, both are f32 here. Returns what `read` returns, and how long the run took without
    /// it.
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
        let Self { loaded, options, plug, converted, .. } = self;
        let Loaded { session, names, graph, .. } = &**loaded;
        let fed = plug.inputs(graph, tensor, (width, height)).map_err(failed)?;
        let inputs = fed.iter().map(tensor::value).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let values = shared::run(session, names, &inputs, options).map_err(failed)?;
        let took = start.elapsed();
        converted.resize_with(graph.outputs.len(), Vec::new);
        for ((port, value), buffer) in graph.outputs.iter().zip(&values).zip(converted.iter_mut()) {
            tensor::convert(value, buffer).map_err(|reason| failed(format!("output {port}: {reason}")))?;
        }
        let mut outputs = [Output { shape: &[], data: &[] }; MAX_OUTPUTS];
        let mut count = 0;
        for (place, (value, buffer)) in outputs.iter_mut().zip(values.iter().zip(converted.iter())) {
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
        f.debug_struct("Session").field("graph", self.graph()).finish_non_exhaustive()
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn prepare(environment: &Environment, threads: usize) -> Result<SessionBuilder, String> {
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
        .map_err(text)
}

/// Puts a session on its provider, or fails.
fn on(builder: SessionBuilder, options: &SessionOptions) -> Result<SessionBuilder, DetectError> {
    let provider = options.provider;
    let dispatch = provider.dispatch(options.threads)?;
    if dispatch.is_empty() {
        return Ok(builder);
    }
    builder.with_execution_providers(dispatch).map_err(|error| provider.refused(text(error)))
}

fn commit(mut builder: SessionBuilder, place: Place<'_>) -> Result<ort::session::Session, String> {
    match place {
        Place::File(path) => builder.commit_from_file(path),
        Place::Memory(bytes, None) => builder.commit_from_memory(bytes),
        Place::Memory(bytes, Some(folder)) => {
            let folder = folder.to_string_lossy();
            builder.with_config_entry(EXTERNAL_FOLDER, folder).map_err(text)?.commit_from_memory(bytes)
        }
    }
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

    fn open(folder: &Path, times: i64) -> Session {
        let path = folder.join(format!("loop-{times}.onnx"));
        std::fs::write(&path, crate::detect::backend::made::doubled(times)).unwrap();
        Session::open(&crate::detect::backend::find_library(None), &path, 1).unwrap()
    }

    /// The memory that the process holds, in bytes.
    #[cfg(target_os = "linux")]
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_shares_a_session_shares_its_weights() {
        const WEIGHTS: usize = 16 * 1024 * 1024;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heavy.onnx");
        std::fs::write(&path, crate::detect::backend::made::heavy(WEIGHTS)).unwrap();
        let open = || Session::open(&crate::detect::backend::find_library(None), &path, 1).unwrap();
        let mut first = open();
        let run = |session: &mut Session| session.run(&[1.0; 48], (4, 4), |outputs| outputs[0].data[0]).unwrap().0;
        let expected = run(&mut first);
        let before = resident();
        let mut sharing: Vec<_> = (0..4).map(|_| first.share().unwrap()).collect();
        assert!(sharing.iter_mut().all(|session| run(session) == expected));
        let four_shared = resident().saturating_sub(before);
        let mut another = open();
        assert_eq!(run(&mut another), expected);
        let one_more = resident().saturating_sub(before + four_shared);
        println!("four that share: {four_shared} bytes more; one session more: {one_more}");
        assert!(four_shared < WEIGHTS / 4, "{four_shared} bytes for four that share");
        assert!(one_more > WEIGHTS / 2, "{one_more} bytes: this model would show nothing");
    }

    #[test]
    fn threads_that_share_a_session_run_at_the_same_time_and_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 5);
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let mut session = first.share().unwrap();
                scope.spawn(move || {
                    for n in 0..200u8 {
                        let value = f32::from(thread) * 1000.0 + f32::from(n);
                        let (doubled, _) =
                            session.run(&[value; 48], (4, 4), |outputs| outputs[0].data.to_vec()).unwrap();
                        assert!(doubled.iter().all(|doubled| (doubled - value * 32.0).abs() < 1e-3), "{value}");
                    }
                });
            }
        });
    }

    #[test]
    fn a_run_without_end_is_ended_by_its_stopper_and_not_who_shares_its_session() {
        let folder = tempfile::tempdir().unwrap();
        let mut endless = open(folder.path(), i64::MAX);
        let mut other = endless.share().unwrap();
        let (stop, stop_other) = (endless.stopper(), other.stopper());
        let running = std::thread::spawn(move || endless.run(&[1.0; 48], (4, 4), |_| ()).map(drop));
        let other_running = std::thread::spawn(move || other.run(&[1.0; 48], (4, 4), |_| ()).map(drop));
        stop();
        assert!(running.join().unwrap().is_err());
        assert!(!other_running.is_finished());
        stop_other();
        assert!(other_running.join().unwrap().is_err());
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
