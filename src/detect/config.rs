//! The `[detect]` table of the configuration.

use std::path::PathBuf;

use serde::Deserialize;

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
    /// An inference that takes longer is ended, in milliseconds.
    pub deadline_ms: u64,
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
            deadline_ms: 5000,
            models_dir: ".sightline/models".into(),
            onnxruntime: None,
        }
    }
}

/// The most objects that anybody may ask for.
const MAX_DETECTIONS: usize = 1000;

/// More threads than this is a slip of the finger.
const MAX_THREADS: usize = 256;

/// A busy machine lets a healthy inference wait for some tens of milliseconds.
const MIN_DEADLINE_MS: u64 = 100;

/// Nobody waits longer than ten minutes for a picture.
const MAX_DEADLINE_MS: u64 = 600_000;

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
        if !(MIN_DEADLINE_MS..=MAX_DEADLINE_MS).contains(&self.deadline_ms) {
            let range = format!("from {MIN_DEADLINE_MS} to {MAX_DEADLINE_MS} is possible");
            return Err(format!("deadline_ms = {}: {range}", self.deadline_ms));
        }
        Ok(())
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
            ("model = ''", "model = \"\""),
        ] {
            let error = toml::from_str::<Config>(text).unwrap().validate().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<Config>("modell = 'face'").unwrap_err().to_string().contains("modell"));
    }
}
