//! Cameras that were added at run time and are to stay: one file in the state directory, which nobody but the server's user
//! may read, and which is replaced as a whole. The configuration file is never written.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use serde::Deserialize;
use toml::{Table, Value};

use super::error::ApiError;
use crate::pipeline::{CameraConfig, Pipeline, PipelineError, hide_secrets};

const FILE: &str = "cameras.toml";
const HEAD: &str =
    "# Cameras that were added at run time, with their passwords. Sightline writes this file anew at every change.\n\n";

type Cameras = BTreeMap<String, CameraConfig>;

/// The cameras that are kept, as the file has them.
#[derive(Debug)]
pub(super) struct Kept {
    path: Option<PathBuf>,
    cameras: Mutex<Cameras>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    cameras: Cameras,
}

impl Kept {
    /// What is in the folder, which is made when it is not there. Without a folder nothing can be kept.
    pub(super) fn open(folder: Option<&Path>) -> io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self { path: None, cameras: Mutex::default() }) };
        let told =
            |error: &io::Error, path: &Path| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if !folder.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| told(&error, folder))?;
        }
        let path = folder.join(FILE);
        let cameras = match fs::read_to_string(&path) {
            Ok(text) => read(&text).map_err(|error| {
                let message = format!("{}: {error}; mend the file, or move it away", path.display());
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Cameras::new(),
            Err(error) => return Err(told(&error, &path)),
        };
        Ok(Self { path: Some(path), cameras: Mutex::new(cameras) })
    }

    /// Runs the cameras that are kept; what cannot be run is said, and stays in the file.
    pub(super) fn restore(&self, pipeline: &Arc<Pipeline>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, config) in self.cameras().clone() {
            match pipeline.add_camera(&name, config) {
                Ok(()) => {}
                Err(PipelineError::NameTaken(_)) => warnings.push(format!(
                    "the camera {name:?} that was kept does not run: the configuration has another one of this name"
                )),
                Err(error) => warnings.push(format!("the camera {name:?} that was kept does not run: {error}")),
            }
        }
        warnings
    }

    /// Whether there is a folder.
    pub(super) fn possible(&self) -> bool {
        self.path.is_some()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.cameras().contains_key(name)
    }

    /// Keeps a camera as it is now.
    pub(super) async fn put(&self, name: &str, config: CameraConfig) -> Result<(), ApiError> {
        let mut cameras = self.cameras().clone();
        cameras.insert(name.to_owned(), config);
        self.store(cameras).await
    }

    /// Keeps a camera no longer, if it was kept.
    pub(super) async fn remove(&self, name: &str) -> Result<(), ApiError> {
        let mut cameras = self.cameras().clone();
        match cameras.remove(name) {
            Some(_) => self.store(cameras).await,
            None => Ok(()),
        }
    }

    async fn store(&self, cameras: Cameras) -> Result<(), ApiError> {
        let path = self.path.clone().ok_or_else(Self::impossible)?;
        let shown = path.display().to_string();
        let content = cameras.clone();
        let written = tokio::task::spawn_blocking(move || replace(&path, &text(&content)?)).await;
        match written.map_err(io::Error::other).and_then(|written| written) {
            Ok(()) => {
                *self.cameras() = cameras;
                Ok(())
            }
            Err(error) => Err(ApiError::fault(format!("{shown} cannot be written: {error}"))),
        }
    }

    /// Nothing can be kept here.
    pub(super) fn impossible() -> ApiError {
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "no_state_dir",
            "this server has no folder to keep cameras in: start it with --state-dir DIR (state_dir in [server]), or leave \
             `persist` out and the camera lasts until the server ends",
        )
    }

    fn cameras(&self) -> MutexGuard<'_, Cameras> {
        self.cameras.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(text: &str) -> Result<Cameras, String> {
    let content: Content = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        format!("line {line}: {}", hide_secrets(error.message()))
    })?;
    for (name, camera) in &content.cameras {
        camera.validate().map_err(|error| format!("[cameras.{name}] {error}"))?;
    }
    Ok(content.cameras)
}

/// The file's text, in which the addresses are whole.
fn text(cameras: &Cameras) -> io::Result<String> {
    let mut tables = Table::new();
    for (name, camera) in cameras {
        let mut table = Table::try_from(camera).map_err(io::Error::other)?;
        table.insert("url".to_owned(), Value::from(camera.url.reveal()));
        if let Some(address) = &camera.detect_url {
            table.insert("detect_url".to_owned(), Value::from(address.reveal()));
        }
        tables.insert(name.clone(), table.into());
    }
    let root = Table::from_iter([("cameras".to_owned(), Value::from(tables))]);
    toml::to_string(&root).map(|text| format!("{HEAD}{text}")).map_err(io::Error::other)
}

/// Writes beside, then renames: a power cut leaves the old file or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("toml.new");
    // One that was left by a crash may be readable by others.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn camera(text: &str) -> CameraConfig {
        toml::from_str(text).unwrap()
    }

    fn full() -> CameraConfig {
        camera(
            "url = \"rtsp://u:s3cret@cam/1?a=\\\"b\\\"\"\ntransport = \"udp\"\ndetect_url = \"rtsp://u:s3cret@cam/2\"\n\
             enabled = false\non_demand = true\nmode = \"detect_only\"\nmodel = \"yolox-nano\"\npriority = 3\n\
             zone = [[0.1, 0], [1, 0.3], [1, 1]]\nsampling = { mode = \"motion\", threshold = 0.02 }\ndraw_regions = true\n\
             blur = [\"face\"]\nprivacy = \"pixelate\"\nprivacy_before_first = \"show\"\nmask_style = \"blur\"\n\
             masks = [[[0.1, 0], [1, 0.3], [1, 1]]]\n\
             [regions.\"the door\"]\nline = [[0.4, 0.9], [0.4, 0.1]]\n\
             [regions.yard]\npolygon = [[0.1, 0], [1, 0.3], [1, 1]]\nkind = \"zone\"\ndwell_s = 2.5\nclasses = [\"car\"]",
        )
    }

    #[tokio::test]
    async fn what_is_kept_is_there_again_and_nobody_else_may_read_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("new/state");
        let kept = Kept::open(Some(&folder)).unwrap();
        kept.put("front", full()).await.unwrap();
        let stages = "[{ sampling = \"motion\" }, { model = \"a\", classes = [\"x\"] }, { model = \"b\" }]";
        let two = camera(&format!("url = \"file:/srv/a clip.mp4\"\ncascade = {stages}"));
        kept.put("a.b-c", two.clone()).await.unwrap();
        kept.put("gone", camera("url = \"rtsp://cam/\"")).await.unwrap();
        kept.remove("gone").await.unwrap();
        let file = folder.join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let again = Kept::open(Some(&folder)).unwrap();
        let cameras = again.cameras().clone();
        assert_eq!(cameras.keys().collect::<Vec<_>>(), ["a.b-c", "front"]);
        assert_eq!((&cameras["front"], &cameras["a.b-c"]), (&full(), &two));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn without_a_folder_nothing_is_kept() {
        let kept = Kept::open(None).unwrap();
        assert!(!kept.possible() && !kept.has("x"));
        assert_eq!(kept.put("x", full()).await, Err(Kept::impossible()));
        assert_eq!(kept.remove("x").await, Ok(()));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let kept = Kept::open(Some(root.path())).unwrap();
        // A folder in the place of the file cannot be replaced by one.
        fs::create_dir_all(root.path().join(FILE).join("x")).unwrap();
        let error = format!("{:?}", kept.put("x", full()).await.unwrap_err());
        assert!(error.contains(FILE) && !error.contains("s3cret"), "{error}");
        assert!(!kept.has("x"));
    }

    #[test]
    fn a_broken_file_is_named_without_its_secrets() {
        let root = tempfile::tempdir().unwrap();
        for text in [
            "[cameras.a]\nurl = \"https://u:s3cret@cam/\"",
            "[cameras.a]\nurl = \"rtsp://u:s3cret@cam/\"\nfps = 3",
            "[cameras.a]\nurl = \"rtsp://u:s3cret@cam/\"\npriority = 0",
            "[cameras.a]\nurl = \"rtsp://u:s3cret@cam/",
        ] {
            fs::write(root.path().join(FILE), text).unwrap();
            let error = Kept::open(Some(root.path())).unwrap_err().to_string();
            assert!(error.contains(FILE) && !error.contains("s3cret"), "{error}");
        }
        let file = root.path().join(FILE);
        assert!(Kept::open(Some(&file)).unwrap_err().to_string().contains(FILE), "a file is no folder");
    }
}
