//! From a model's name to a model that is known to work.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::backend::{Provider, Session, SessionOptions, find_library};
use super::heads::{Graph, identify};
use super::locate::{Located, by_digest, find};
use super::manifest::{Manifest, Source};
use super::model::{Model, ModelInfo};
use super::network::{NetworkDetector, Reading, unusable};
use super::patience::{ended_after, within};
use super::{Config, DetectError, Detector, InputSpec, Picture, Settings, digest, motion, remote};
use crate::media::I420Frame;

/// Protobuf's own limit for one message, and so for a model's file.
pub(super) const MAX_MODEL_BYTES: u64 = i32::MAX as u64;

impl Model {
    /// Finds the configured model, loads it, and lets it look at one grey picture.
    ///
    /// `config.model` is the name of a manifest (in the models folder, or one that comes with the program), the name of
    /// an `.onnx` file in the models folder, a path, or `motion`. Without a manifest the family is read from the graph.
    ///
    /// # Errors
    /// [`DetectError::Missing`] when the file is not there; [`DetectError::Runtime`] without the ONNX Runtime;
    /// [`DetectError::Overdue`] when it takes longer than `config.load_deadline_ms`; [`DetectError::Unusable`] for everything else
    /// that is wrong with it.
    pub fn load(config: &Config) -> Result<Self, DetectError> {
        let own = config.clone();
        within(config.load_limit(), &config.model, move || Self::load_unwatched(&own))
    }

    /// The same, by whoever holds the deadline.
    pub(super) fn load_unwatched(config: &Config) -> Result<Self, DetectError> {
        if config.remote.is_some() { remote::load(config) } else { Self::load_here(config) }
    }

    /// The same, whether or not a server has it.
    pub(super) fn load_here(config: &Config) -> Result<Self, DetectError> {
        if config.model == motion::NAME {
            return Ok(Self::motion());
        }
        let Located { path, manifest, .. } = find(config)?;
        Self::load_file(config, &path, &path, manifest)
    }

    /// The same of the file `from`, which is to be at `path`; where a server has the model, this one stands in for it.
    pub(super) fn load_in_place(
        config: &Config,
        from: &Path,
        path: &Path,
        manifest: Option<Manifest>,
    ) -> Result<Self, DetectError> {
        let model = Self::load_file(config, from, path, manifest);
        if config.remote.is_some() { remote::load_before(config, model) } else { model }
    }

    /// The same of the file `from`, which is to be at `path`, with the manifest of the name that it has there.
    ///
    /// The file is read once: its detectors are made of those bytes, whatever becomes of the file while they are in use.
    pub(super) fn load_file(
        config: &Config,
        from: &Path,
        path: &Path,
        manifest: Option<Manifest>,
    ) -> Result<Self, DetectError> {
        let bytes = read(from).map_err(|error| DetectError::Unusable {
            model: config.model.clone(),
            reason: format!("{}: {error}", from.display()),
        })?;
        let known = if manifest.is_none() { by_digest(&digest::of(&bytes), &config.models_dir) } else { None };
        let noted = known
            .as_ref()
            .map(|known| format!("the manifest of `{}`, as the file has the SHA-256 that it pins", known.name));
        let library = find_library(config.onnxruntime.as_deref());
        let options = SessionOptions { threads: config.threads.unwrap_or(1), provider: config.provider };
        let session = Session::open_bytes(&library, path, &bytes, &options)?;
        let (mut info, input, reading) = describe(&config.model, path, manifest.or(known), session.graph())?;
        info.assumed.extend(noted);
        let info = Arc::new(info);
        let several = session.graph().takes_batches() && info.family.batch_first();
        // One that brings no threads of its own runs on any number of them at once, on the CPU.
        let source = if options.threads == 1 && options.provider == Provider::Cpu {
            Sessions::Shared(session.share()?)
        } else {
            Sessions::Own(bytes)
        };
        let mut first = NetworkDetector::new(Arc::clone(&info), input, reading, session)?;
        rehearse(&mut first, &info, config.load_limit())?;
        let most = if several { config.most_together() } else { 1 };
        let batch = if most > 1 && rehearse_together(&mut first) { most } else { 1 };

        // The session that proved the model serves the first who asks.
        let first = Mutex::new(Some(first));
        let cold = matches!(source, Sessions::Own(_));
        let (maker, path) = (Arc::clone(&info), path.to_owned());
        Ok(Self::new((*info).clone(), false, move || {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let detector = if let Some(detector) = ready {
                detector
            } else {
                let session = match &source {
                    Sessions::Shared(session) => session.share()?,
                    Sessions::Own(bytes) => Session::open_bytes(&library, &path, bytes, &options)?,
                };
                NetworkDetector::new(Arc::clone(&maker), input, reading, session)?
            };
            Ok(Box::new(detector) as Box<dyn Detector>)
        })
        .with_batch(batch)
        .with_slow_starts(cold))
    }
}

/// Where the sessions of further detectors come from.
enum Sessions {
    /// All are this one.
    Shared(Session),
    /// Each is made of the file's bytes.
    Own(Vec<u8>),
}

/// A model's bytes, within protobuf's limit of one message.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > MAX_MODEL_BYTES {
        return Err(io::Error::other(format!("it has {length} bytes; a model has at most {MAX_MODEL_BYTES}")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(MAX_MODEL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Looks at one grey picture: a graph with open sides shows only now what it gives, and the first run is slow.
/// A graph without end is ended by the deadline for loading.
pub(super) fn rehearse(detector: &mut NetworkDetector, info: &ModelInfo, limit: Duration) -> Result<(), DetectError> {
    let (found, late) = match detector.stopper() {
        Some(stopper) => ended_after(limit, stopper, || first_look(detector, &info.name)),
        None => (first_look(detector, &info.name), false),
    };
    if late {
        return Err(DetectError::Overdue { model: info.name.to_string(), limit });
    }
    found
}

/// Lets a detector of the model of that name look at one grey picture.
pub(super) fn first_look(detector: &mut dyn Detector, model: &str) -> Result<(), DetectError> {
    let settings = Settings { confidence: 1.0, iou: 1.0, classes: None, max_detections: 1 };
    match detector.detect(Picture::I420(&I420Frame::black(640, 480)), &settings) {
        Err(DetectError::Frame(reason)) => Err(DetectError::Unusable {
            model: model.to_owned(),
            reason: format!("it fails on a picture of 640×480 pixels: {reason}"),
        }),
        result => result.map(drop),
    }
}

/// Whether the network really takes two pictures at once: some graphs leave the side open, and have a 1 inside.
pub(super) fn rehearse_together(detector: &mut NetworkDetector) -> bool {
    let settings = Settings { confidence: 1.0, iou: 1.0, classes: None, max_detections: 1 };
    let frame = I420Frame::black(640, 480);
    let found = detector.detect_batch(&[(Picture::I420(&frame), &settings); 2]);
    found.iter().flatten().all(|found| found.shared_by == 2) && found.iter().all(Result::is_ok)
}

/// What is known about the model of that name: by its manifest, else by its graph.
pub(super) fn describe(
    model: &str,
    path: &Path,
    manifest: Option<Manifest>,
    graph: &Graph,
) -> Result<(ModelInfo, InputSpec, Reading), DetectError> {
    if let Some(manifest) = manifest {
        let labels = manifest.labels();
        let info = ModelInfo {
            name: manifest.name.into(),
            family: manifest.family,
            labels,
            input: Some(manifest.input),
            confidence: manifest.confidence,
            iou: manifest.iou,
            licence: manifest.licence,
            source: manifest.source.as_ref().map(Source::describe),
            assumed: Vec::new(),
        };
        let reading = Reading { nms: manifest.nms, output: manifest.output };
        return Ok((info, manifest.input, reading));
    }
    let found = identify(graph).map_err(|expected| unusable(model, graph, &expected))?;
    found.input.validate().map_err(|expected| unusable(model, graph, &expected))?;
    let info = ModelInfo {
        name: path.file_stem().map_or_else(|| model.to_owned(), |stem| stem.to_string_lossy().into_owned()).into(),
        family: found.family,
        labels: found.labels.iter().map(|label| Arc::from(label.as_str())).collect(),
        input: Some(found.input),
        confidence: found.confidence,
        iou: found.iou,
        licence: None,
        source: None,
        assumed: found.assumed,
    };
    Ok((info, found.input, Reading { nms: found.nms, output: found.output }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(model: &str, models_dir: &Path) -> Config {
        Config { model: model.into(), models_dir: models_dir.into(), ..Config::default() }
    }

    #[test]
    fn a_known_model_without_its_file_says_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = Model::load(&config("face", folder.path())).unwrap_err();
        assert!(matches!(error, DetectError::Missing { .. }));
        let text = error.to_string();
        assert!(text.contains("sightline models pull face") && text.contains("face.onnx"), "{text}");
        let text = Model::load(&config("yolox-nano", folder.path())).unwrap_err().to_string();
        assert!(text.contains("github.com") && text.contains("yolox_nano_416.onnx"), "{text}");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        let error = Model::load(&config("fase", folder.path())).unwrap_err();
        assert!(matches!(error, DetectError::Unusable { .. }));
        assert!(error.to_string().contains("face, yolox-nano"), "{error}");
    }

    #[test]
    fn a_path_that_leads_nowhere_is_missing() {
        let error = Model::load(&config("./nowhere.onnx", Path::new("/nonexistent"))).unwrap_err();
        assert!(matches!(error, DetectError::Missing { .. }), "{error}");
    }
}
