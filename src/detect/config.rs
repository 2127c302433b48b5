//! The `[detect]` table of the configuration.

use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::backend::Provider;

/// Which model looks at the pictures, and how sure it has to be.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A model's name (`sightline models list`), the path of an `.onnx` file, or `motion` for the built-in detector.
    pub model: String,
    /// The lowest score that is reported, 0 to 1; unset: the model's own.
    pub confidence: Option<f32>,
    /// The IoU above which the weaker of two boxes is suppressed, 0 to 1; unset: the model's own.
    pub iou: Option<f32>,
    /// Names of the classes that are reported; empty: all.
    pub classes: Vec<String>,
    /// The most objects reported for one picture.
    pub max_detections: usize,
    /// Detector threads, shared by all streams and all models; unset: half of the cores.
    pub workers: Option<usize>,
    /// Threads inside one session; unset: 1.
    pub threads: Option<usize>,
    /// The most pictures of several streams that a model with an open batch axis looks at together; unset: 1.
    pub batch: Option<usize>,
    /// On what the models run: `cpu`, `cuda`, `tensorrt` or `openvino`; all but the first are cargo features.
    pub provider: Provider,
    /// A server that runs the configured model in place of this machine, by the Open Inference Protocol:
    /// `grpc://host:port`, or `grpcs://host:port` with TLS. The model here looks while that one is away.
    pub remote: Option<String>,
    /// The certificate of the authority that the server's is by, a PEM file; unset: those that the system trusts.
    pub remote_ca: Option<PathBuf>,
    /// The model's name on the server; unset: its name here.
    pub remote_model: Option<String>,
    /// The longest that one request may take on the server, in milliseconds, both ways included.
    pub remote_timeout_ms: u64,
    /// The most requests to the server at the same time.
    pub remote_concurrency: usize,
    /// An inference that takes longer is ended, in milliseconds.
    pub deadline_ms: u64,
    /// A model that is not loaded by then is given up, in milliseconds.
    pub load_deadline_ms: u64,
    /// The folder that models are pulled into and looked up in.
    pub models_dir: PathBuf,
    /// The ONNX Runtime's library; unset: `ORT_DYLIB_PATH`, else the newest `.sightline/lib/libonnxruntime.so*`, else
    /// what the system's loader finds.
    pub onnxruntime: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: "face".into(),
            confidence: None,
            iou: None,
            classes: Vec::new(),
            max_detections: 100,
            workers: None,
            threads: None,
            batch: None,
            provider: Provider::Cpu,
            remote: None,
            remote_ca: None,
            remote_model: None,
            remote_timeout_ms: 1000,
            remote_concurrency: 4,
            deadline_ms: 5000,
            load_deadline_ms: 120_000,
            models_dir: ".sightline/models".into(),
            onnxruntime: None,
        }
    }
}

/// The most objects that anybody may ask for.
const MAX_DETECTIONS: usize = 1000;

/// More threads than this is a slip of the finger.
const MAX_THREADS: usize = 256;

/// The memory for a batch grows with it: more is a slip of the finger.
const MAX_BATCH: usize = 64;

/// More requests at a time than this is one, too.
const MAX_REQUESTS: usize = 64;

/// A busy machine lets a healthy inference wait for some tens of milliseconds.
const MIN_DEADLINE_MS: u64 = 100;

/// Nobody waits longer than ten minutes for a picture.
const MAX_DEADLINE_MS: u64 = 600_000;

/// A small model on a busy machine takes some hundreds of milliseconds.
const MIN_LOAD_DEADLINE_MS: u64 = 1000;

/// TensorRT takes minutes to compile a large model.
const MAX_LOAD_DEADLINE_MS: u64 = 3_600_000;

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if self.model.is_empty() {
            return Err("model = \"\": a model's name, the path of an .onnx file, or \"motion\" is needed".into());
        }
        for (key, value) in [("confidence", self.confidence), ("iou", self.iou)] {
            if let Some(value) = value
                && !(0.0..=1.0).contains(&value)
            {
                return Err(format!("{key} = {value}: from 0 to 1 is possible"));
            }
        }
        if !(1..=MAX_DETECTIONS).contains(&self.max_detections) {
            return Err(format!("max_detections = {}: from 1 to {MAX_DETECTIONS} is possible", self.max_detections));
        }
        for (key, value) in [("workers", self.workers), ("threads", self.threads)] {
            if let Some(value) = value
                && !(1..=MAX_THREADS).contains(&value)
            {
                return Err(format!("{key} = {value}: from 1 to {MAX_THREADS} is possible"));
            }
        }
        if let Some(batch) = self.batch.filter(|batch| !(1..=MAX_BATCH).contains(batch)) {
            return Err(format!("batch = {batch}: from 1 to {MAX_BATCH} is possible"));
        }
        if !(MIN_DEADLINE_MS..=MAX_DEADLINE_MS).contains(&self.deadline_ms) {
            let range = format!("from {MIN_DEADLINE_MS} to {MAX_DEADLINE_MS} is possible");
            return Err(format!("deadline_ms = {}: {range}", self.deadline_ms));
        }
        if !(MIN_LOAD_DEADLINE_MS..=MAX_LOAD_DEADLINE_MS).contains(&self.load_deadline_ms) {
            let range = format!("from {MIN_LOAD_DEADLINE_MS} to {MAX_LOAD_DEADLINE_MS} is possible");
            return Err(format!("load_deadline_ms = {}: {range}", self.load_deadline_ms));
        }
        self.validate_remote()
    }

    fn validate_remote(&self) -> Result<(), String> {
        let Some(address) = &self.remote else {
            let ca = self.remote_ca.as_ref().map(|ca| ("remote_ca", ca.display().to_string()));
            return match self.remote_model.clone().map(|model| ("remote_model", model)).or(ca) {
                Some((key, value)) => {
                    Err(format!("{key} = \"{value}\": nothing without `remote`, the server's address"))
                }
                None => Ok(()),
            };
        };
        let secure = address.strip_prefix("grpcs://");
        let place = secure.or_else(|| address.strip_prefix("grpc://")).and_then(|place| place.rsplit_once(':'));
        let right = place.is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains(['/', '@', '?', '#'])
                && !host.contains(char::is_whitespace)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !right {
            // It may hold a password, by mistake.
            return Err(
                "remote: grpc://host:port, or grpcs://host:port with TLS, is expected, without user or path".into()
            );
        }
        if let (Some(ca), None) = (&self.remote_ca, secure) {
            return Err(format!("remote_ca = \"{}\": nothing without TLS, grpcs://", ca.display()));
        }
        if self.model == super::motion::NAME {
            return Err("remote: model = \"motion\" is the built-in detector, which no server has; name a model".into());
        }
        if self.remote_model.as_ref().is_some_and(String::is_empty) {
            return Err("remote_model = \"\": the model's name on the server is needed".into());
        }
        // Otherwise the deadline would end what the timeout is for.
        if !(1..self.deadline_ms).contains(&self.remote_timeout_ms) {
            let range = format!("from 1 to less than deadline_ms, {}, is possible", self.deadline_ms);
            return Err(format!("remote_timeout_ms = {}: {range}", self.remote_timeout_ms));
        }
        if !(1..=MAX_REQUESTS).contains(&self.remote_concurrency) {
            let given = self.remote_concurrency;
            return Err(format!("remote_concurrency = {given}: from 1 to {MAX_REQUESTS} is possible"));
        }
        Ok(())
    }

    /// How long a model's loading is waited for.
    pub(super) fn load_limit(&self) -> Duration {
        Duration::from_millis(self.load_deadline_ms)
    }

    /// How many detectors work at the same time on this machine: those that are configured, or one for every two cores, so
    /// that the other half is the video's.
    pub(super) fn local_workers(&self) -> usize {
        let half = || thread::available_parallelism().map_or(1, NonZero::get) / 2;
        self.workers.unwrap_or_else(half).max(1)
    }

    /// The most pictures that go into one run of a model whose batch axis is open. One, unless configured: on a CPU several take as
    /// long as one by one or longer, and on a GPU it is the model that decides (docs/performance.md).
    pub(super) fn most_together(&self) -> usize {
        self.batch.unwrap_or(1)
    }

    /// How many threads take turns. One that waits for a server costs nothing: unless they are configured, there are as many
    /// as requests.
    pub(super) fn all_workers(&self) -> usize {
        match (self.workers, &self.remote) {
            (None, Some(_)) => self.local_workers().max(self.remote_concurrency),
            _ => self.local_workers(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_key() {
        for (text, expected) in [
            ("confidence = 1.5", "confidence = 1.5"),
            ("iou = -0.1", "iou = -0.1"),
            ("confidence = nan", "confidence = NaN"),
            ("max_detections = 0", "max_detections = 0"),
            ("workers = 0", "workers = 0"),
            ("threads = 1000", "threads = 1000"),
            ("deadline_ms = 99", "deadline_ms = 99"),
            ("deadline_ms = 600001", "deadline_ms = 600001"),
            ("load_deadline_ms = 999", "load_deadline_ms = 999"),
            ("load_deadline_ms = 3600001", "load_deadline_ms = 3600001"),
            ("batch = 0", "batch = 0"),
            ("batch = 65", "batch = 65"),
            ("model = ''", "model = \"\""),
        ] {
            let error = toml::from_str::<Config>(text).unwrap().validate().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_server_that_cannot_be_one_is_refused() {
        let with = |remote: &str, rest: &str| {
            let text = format!("model = 'yolox-nano'\nremote = '{remote}'\n{rest}");
            toml::from_str::<Config>(&text).unwrap().validate()
        };
        for remote in ["grpcs://a:1", "grpc://10.0.0.7:8001", "grpc://triton.local:8001", "grpc://[::1]:8001"] {
            assert_eq!(with(remote, ""), Ok(()), "{remote}");
        }
        for remote in
            ["", "http://a:1", "grpcs://a", "grpc://a", "grpc://:1", "grpc://a:0", "grpc://a:b", "grpc://u:p@a:1"]
        {
            let error = with(remote, "").unwrap_err();
            assert!(error.starts_with("remote: grpc://host:port") && !error.contains("u:p"), "{error}");
        }
        for (rest, expected) in [
            ("remote_timeout_ms = 0", "remote_timeout_ms = 0"),
            ("remote_timeout_ms = 5000", "remote_timeout_ms = 5000"),
            ("remote_concurrency = 0", "remote_concurrency = 0"),
            ("remote_model = ''", "remote_model = \"\""),
        ] {
            let error = with("grpc://a:1", rest).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let with_ca = |remote: &str| with(remote, "remote_ca = 'ca.pem'");
        assert_eq!(with_ca("grpcs://a:1"), Ok(()));
        assert!(with_ca("grpc://a:1").unwrap_err().contains("without TLS"));
        let ca = toml::from_str::<Config>("remote_ca = 'ca.pem'").unwrap().validate().unwrap_err();
        assert!(ca.starts_with("remote_ca = \"ca.pem\""), "{ca}");
        let alone = toml::from_str::<Config>("remote_model = 'x'").unwrap().validate().unwrap_err();
        assert!(alone.contains("remote_model"), "{alone}");
        let motion =
            toml::from_str::<Config>("model = 'motion'\nremote = 'grpc://a:1'").unwrap().validate().unwrap_err();
        assert!(motion.contains("motion"), "{motion}");
        assert!(toml::from_str::<Config>("provider = 'tpu'").unwrap_err().to_string().contains("openvino"));
    }

    #[test]
    fn there_are_as_many_threads_as_requests_and_no_more_detectors_here_than_cores_allow() {
        let local = Config::default();
        let remote = Config { remote: Some("grpc://a:1".into()), remote_concurrency: 50, ..Config::default() };
        assert_eq!((local.all_workers(), remote.all_workers()), (local.local_workers(), 50));
        assert_eq!(remote.local_workers(), local.local_workers());
        let set = Config { workers: Some(3), ..remote };
        assert_eq!((set.all_workers(), set.local_workers()), (3, 3));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<Config>("modell = 'face'").unwrap_err().to_string().contains("modell"));
    }
}
