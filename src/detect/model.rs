//! A model as the rest of the house sees it: what it is, and a factory of detectors.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::{Config, DetectError, Detector, RemoteStatus, Settings};

/// Which decoding the raw outputs of a model need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// CenterFace (Xu et al. 2019, arXiv:1911.03599; Star-Clouds/CenterFace).
    Centerface,
    /// YOLOX (Ge et al. 2021, arXiv:2107.08430; Megvii-BaseDetection/YOLOX).
    Yolox,
    /// The detection layout of Ultralytics YOLOv8 and YOLO11, `[1, 4 + classes, anchors]`.
    Ultralytics,
    /// The built-in frame difference; no model file.
    Motion,
}

impl Family {
    /// Whether the first side of all outputs counts the pictures, so that those of a batch can be told apart.
    #[must_use]
    pub fn batch_first(self) -> bool {
        matches!(self, Self::Centerface | Self::Yolox | Self::Ultralytics)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Centerface => "centerface",
            Self::Yolox => "yolox",
            Self::Ultralytics => "ultralytics",
            Self::Motion => "motion",
        })
    }
}

/// The size of a model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InputSize {
    /// The same for every picture.
    Fixed {
        /// In pixels.
        width: usize,
        /// In pixels.
        height: usize,
    },
    /// The picture scaled until its longer side is `side`, then each side taken to the nearest multiple (half to even),
    /// at least one multiple.
    LongerSide {
        /// In pixels.
        side: usize,
        /// In pixels; the network's coarsest stride.
        multiple: usize,
    },
}

/// How a picture is brought to the input's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Each side on its own, whatever becomes of the aspect.
    Stretch,
    /// Aspect kept, sides rounded down, padding right and below (YOLOX).
    LetterboxTopLeft,
    /// Aspect kept, sides rounded, padding all around (Ultralytics).
    LetterboxCentre,
}

/// The order of the input's three channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// How a picture becomes a model's input tensor `[1, 3, height, width]`, f32.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The size in pixels.
    pub size: InputSize,
    /// How the picture is fitted into it.
    pub fit: Fit,
    /// The grey level of the padding.
    #[serde(default)]
    pub pad: u8,
    /// The order of the channels.
    pub colour: Colour,
    /// Subtracted from the 8-bit samples, by channel of the tensor.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Divides what is left, by channel of the tensor.
    #[serde(default = "ones")]
    pub std: [f32; 3],
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// What is known about a model.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// As it appears in messages and metrics.
    pub name: Arc<str>,
    /// The decoding of its outputs.
    pub family: Family,
    /// The names of its classes, by class id.
    pub labels: Arc<[Arc<str>]>,
    /// Its input; `None` for the motion detector.
    pub input: Option<InputSpec>,
    /// The lowest score that it reports unless told otherwise.
    pub confidence: f32,
    /// The IoU of its non-maximum suppression unless told otherwise.
    pub iou: f32,
    /// The licence of the weights, where a manifest says it (SPDX).
    pub licence: Option<String>,
    /// Where the file comes from, where a manifest says it.
    pub source: Option<String>,
    /// What the loader had to assume, for the log.
    pub assumed: Vec<String>,
}

type Factory = dyn Fn() -> Result<Box<dyn Detector>, DetectError> + Send + Sync;

/// Tells how the server is doing that runs a model.
type Remote = dyn Fn() -> RemoteStatus + Send + Sync;

/// A model that is known to work, and makes detectors: one for each thread, or one for each stream. Cheap to clone.
#[derive(Clone)]
pub struct Model {
    info: Arc<ModelInfo>,
    per_stream: bool,
    factory: Arc<Factory>,
    remote: Option<Arc<Remote>>,
    batch: usize,
}

impl Model {
    /// A model whose detectors `factory` makes: ours, or one's own. `per_stream`: a detector remembers earlier pictures, so
    /// that each stream needs its own.
    pub fn new(
        info: ModelInfo,
        per_stream: bool,
        factory: impl Fn() -> Result<Box<dyn Detector>, DetectError> + Send + Sync + 'static,
    ) -> Self {
        Self { info: Arc::new(info), per_stream, factory: Arc::new(factory), remote: None, batch: 1 }
    }

    /// The same, run by a server that is doing as `status` says.
    #[must_use]
    pub(super) fn with_remote(self, status: impl Fn() -> RemoteStatus + Send + Sync + 'static) -> Self {
        Self { remote: Some(Arc::new(status)), ..self }
    }

    /// The same, whose detectors look at up to so many pictures at once for less than one by one.
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch: batch.max(1), ..self }
    }

    /// The most pictures that a detector is given at once.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// How the server is doing that runs it, if one does.
    #[must_use]
    pub fn remote_status(&self) -> Option<RemoteStatus> {
        self.remote.as_ref().map(|status| status())
    }

    /// What is known about it.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    pub(super) fn info_shared(&self) -> Arc<ModelInfo> {
        Arc::clone(&self.info)
    }

    /// Whether a detector keeps the state of one stream, and must not be shared between streams.
    #[must_use]
    pub fn per_stream(&self) -> bool {
        self.per_stream
    }

    /// A new detector with buffers and, for ONNX models, a session of its own.
    ///
    /// # Errors
    /// [`DetectError::Unusable`] when the session cannot be made.
    pub fn detector(&self) -> Result<Box<dyn Detector>, DetectError> {
        (self.factory)()
    }

    /// The configuration's wishes, with the model's own thresholds where it has none.
    #[must_use]
    pub fn settings(&self, config: &Config) -> Settings {
        Settings {
            confidence: config.confidence.unwrap_or(self.info.confidence),
            iou: config.iou.unwrap_or(self.info.iou),
            classes: (!config.classes.is_empty()).then(|| config.classes.clone().into()),
            max_detections: config.max_detections,
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("info", &self.info).field("per_stream", &self.per_stream).finish_non_exhaustive()
    }
}
