//! The whole configuration: one struct per room, composed. Flags win over the environment, and that over the file.

mod cameras;
mod reload;
mod wrong;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::pipeline::CameraConfig;
use crate::{detect, encode, peer, pipeline, server, telemetry};

pub use cameras::CameraFlag;
pub use reload::{Reloaded, Reloader};

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "sightline.toml";

/// Everything that can be set.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// HTTP.
    pub server: server::Config,
    /// Media.
    pub media: peer::Config,
    /// The detector.
    pub detect: detect::Config,
    /// The encoder.
    pub encode: encode::Config,
    /// Streams and sessions.
    pub pipeline: pipeline::Config,
    /// How streams are looked at.
    pub stream: pipeline::Rules,
    /// Logs.
    pub log: telemetry::Config,
    /// Cameras by name: the only part that is read again while the server runs.
    pub cameras: BTreeMap<String, CameraConfig>,
    /// Which of them the command line or the environment names.
    #[serde(skip)]
    pub camera_flags: BTreeSet<String>,
}

/// Where the command line and the environment say that things are.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Places {
    /// Configuration file [default: sightline.toml, if it is there].
    #[arg(long, env = "SIGHTLINE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// ONNX Runtime library [default: ORT_DYLIB_PATH, else .sightline/lib].
    #[arg(long, env = "SIGHTLINE_ONNXRUNTIME", value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// Folder of the models [default: .sightline/models].
    #[arg(long, env = "SIGHTLINE_MODELS_DIR", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
}

/// What the command line and the environment say about the detector.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DetectorOverrides {
    /// Where things are.
    #[command(flatten)]
    pub places: Places,
    /// Model: a name (`sightline models list`), the path of an .onnx file, or `motion` [default: face].
    #[arg(long, env = "SIGHTLINE_MODEL", value_name = "NAME|PATH")]
    pub model: Option<String>,
    /// Lowest score that is reported, 0 to 1 [default: the model's].
    #[arg(long, env = "SIGHTLINE_CONFIDENCE", value_name = "F")]
    pub confidence: Option<f32>,
    /// Of two boxes that overlap by more than this, the better is kept, 0 to 1 [default: the model's].
    #[arg(long, env = "SIGHTLINE_IOU", value_name = "F")]
    pub iou: Option<f32>,
}

/// Settings of the command line and the environment, over those of the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// The detector.
    #[command(flatten)]
    pub detector: DetectorOverrides,
    /// Address and port of HTTP [default: 127.0.0.1:8080].
    #[arg(long, env = "SIGHTLINE_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// What WHIP and WHEP clients must send as `Authorization: Bearer …` [default: nothing is asked for].
    #[arg(long, env = "SIGHTLINE_BEARER_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub bearer_token: Option<String>,
    /// UDP port of all media, 0 to let the system choose [default: 8189].
    #[arg(long, env = "SIGHTLINE_UDP_PORT", value_name = "N")]
    pub udp_port: Option<u16>,
    /// Camera (repeatable; in the variable with commas): rtsp://…, http://… (Motion JPEG), or file:PATH.
    #[arg(long = "camera", env = "SIGHTLINE_CAMERAS", value_name = "NAME=URL", hide_env_values = true)]
    pub cameras: Vec<CameraFlag>,
    /// Folder that cameras which are added at run time are kept in [default: none, they last until the end].
    #[arg(long, env = "SIGHTLINE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address at which a NAT in front forwards the UDP port (repeatable, or with commas).
    #[arg(long, env = "SIGHTLINE_PUBLIC_IP", value_name = "IP", value_delimiter = ',')]
    pub public_ip: Vec<IpAddr>,
    /// Form of the log [default: text].
    #[arg(long, env = "SIGHTLINE_LOG_FORMAT", value_name = "text|json")]
    pub log_format: Option<telemetry::Format>,
    /// Sessions at the same time; one more is refused [default: 16].
    #[arg(long, env = "SIGHTLINE_MAX_SESSIONS", value_name = "N")]
    pub max_sessions: Option<usize>,
}

impl Places {
    /// The configuration file that is read: the one that is named, else [`DEFAULT_FILE`] if it is there.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        let default = Path::new(DEFAULT_FILE);
        self.config.as_deref().or_else(|| default.is_file().then_some(default))
    }
}

impl From<DetectorOverrides> for Overrides {
    fn from(detector: DetectorOverrides) -> Self {
        Self { detector, ..Self::default() }
    }
}

impl From<Places> for Overrides {
    fn from(places: Places) -> Self {
        DetectorOverrides { places, ..DetectorOverrides::default() }.into()
    }
}

/// What is wrong with the configuration: file, key and value.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file, puts flags and environment over it, and checks the whole.
    ///
    /// # Errors
    /// Names the file, the key and the value.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut config = match overrides.detector.places.file() {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        config.put(overrides).map_err(ConfigError)?;
        config.validate().map_err(ConfigError)?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&Self::text(path)?).map_err(|error| ConfigError(format!("{}: {error}", path.display())))
    }

    fn text(path: &Path) -> Result<String, ConfigError> {
        fs::read_to_string(path).map_err(|error| ConfigError(format!("{}: cannot be read: {error}", path.display())))
    }

    /// Reads the text of a configuration file, and checks it.
    ///
    /// # Errors
    /// Names the line or the key, and the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| wrong::describe(text, &error))?;
        config.validate()?;
        Ok(config)
    }

    fn put(&mut self, overrides: &Overrides) -> Result<(), String> {
        fn set<T: Clone>(target: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                target.clone_from(value);
            }
        }
        set(&mut self.server.listen, overrides.listen.as_ref());
        if let Some(token) = &overrides.bearer_token {
            self.server.bearer_token = Some(token.clone().into());
        }
        set(&mut self.media.udp_port, overrides.udp_port.as_ref());
        if !overrides.public_ip.is_empty() {
            self.media.public_ip.clone_from(&overrides.public_ip);
        }
        let DetectorOverrides { places, model, confidence, iou } = &overrides.detector;
        set(&mut self.detect.model, model.as_ref());
        self.detect.confidence = confidence.or(self.detect.confidence);
        self.detect.iou = iou.or(self.detect.iou);
        self.detect.onnxruntime = places.onnxruntime.clone().or_else(|| self.detect.onnxruntime.take());
        set(&mut self.detect.models_dir, places.models_dir.as_ref());
        set(&mut self.log.format, overrides.log_format.as_ref());
        set(&mut self.pipeline.max_sessions, overrides.max_sessions.as_ref());
        self.server.state_dir = overrides.state_dir.clone().or_else(|| self.server.state_dir.take());
        self.camera_flags = cameras::put(&mut self.cameras, &overrides.cameras)?.into_iter().collect();
        Ok(())
    }

    /// Checks every room's part.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn validate(&self) -> Result<(), String> {
        let part = |table: &str, result: Result<(), String>| result.map_err(|error| format!("[{table}] {error}"));
        part("server", self.server.validate())?;
        part("detect", self.detect.validate())?;
        part("encode", self.encode.validate())?;
        part("pipeline", self.pipeline.validate())?;
        part("stream", self.stream.validate())?;
        for (name, camera) in &self.cameras {
            let named = pipeline::check_name(name).map_err(|error| error.to_string());
            part(&format!("cameras.{}", pipeline::hide_secrets(name)), named.and_then(|()| camera.validate()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path) -> Places {
        Places { config: Some(path.to_owned()), ..Places::default() }
    }

    #[test]
    fn the_shipped_example_is_valid_and_shows_the_defaults() {
        let text = include_str!("../examples/sightline.toml");
        assert_eq!(Config::parse(text).unwrap(), Config::default());
        // With every commented-out key put in, it still parses: the names in the comments are right.
        let all: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.contains(" = ") || key.starts_with('[') => key,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n");
        let all = Config::parse(&all).unwrap();
        assert!(all.cameras.len() >= 2 && all.cameras.values().any(|camera| camera.detect_url.is_some()));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        fs::write(&path, "[detect]\nmodel = \"a\"\nconfidence = 0.3\n[media]\nudp_port = 1000\n").unwrap();
        let detector = DetectorOverrides { model: Some("b".to_owned()), places: at(&path), ..Default::default() };
        let overrides = Overrides { detector, udp_port: Some(0), ..Overrides::default() };
        let config = Config::load(&overrides).unwrap();
        assert_eq!((config.detect.model.as_str(), config.media.udp_port), ("b", 0));
        assert_eq!(config.detect.confidence, Some(0.3));
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        fs::write(&path, "[server]\nlisten_to = \"x\"\n").unwrap();
        let error = Config::load(&at(&path).into()).unwrap_err().to_string();
        assert!(error.contains("x.toml") && error.contains("listen_to"), "{error}");
        assert!(
            Config::load(&at(Path::new("/nowhere/y.toml")).into()).unwrap_err().to_string().contains("/nowhere/y.toml")
        );
        let wrong = DetectorOverrides { confidence: Some(7.0), ..Default::default() };
        assert!(Config::load(&wrong.into()).unwrap_err().to_string().contains("confidence = 7"));
    }
}
