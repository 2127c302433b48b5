//! A model as the rest of the house sees it: what it is, and a factory of detectors.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    /// The layout of Ultralytics YOLOv5u to YOLO12, `[1, 4 + classes, anchors]`: boxes, with key points or with masks.
    Ultralytics,
    /// YOLOv5 (ultralytics/yolov5) and YOLOv7 (Wang et al. 2022, arXiv:2207.02696) with objectness, `[1, anchors, 5 +
    /// classes]` in pixels.
    Yolov5,
    /// YOLOv10 (Wang et al. 2024, arXiv:2405.14458), YOLO26, and Ultralytics exports with `nms=True`: finished lines
    /// `[1, count, 6]`, with key points or masks.
    EndToEnd,
    /// NanoDet and NanoDet-Plus (RangiLyu/nanodet): distances as distributions.
    Nanodet,
    /// PicoDet (Yu et al. 2021, arXiv:2111.00902; PaddleDetection): the same outputs as NanoDet.
    Picodet,
    /// DEIM, D-FINE, RT-DETR, RF-DETR, DETR: a fixed number of queries, decoded in the graph or not.
    Detr,
    /// YuNet (Wu et al. 2023; ShiqiYu/libfacedetection.train): faces with five landmarks.
    Yunet,
    /// UltraFace (Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB): an SSD with one class.
    Ultraface,
    /// SSD (Liu et al. 2016, arXiv:1512.02325; qfgaohao/pytorch-ssd): decoded boxes and a score for each class.
    Ssd,
    /// Suppressed in the graph: boxes, scores, classes and their number, as `TensorFlow`, `EfficientNMS_TRT`, torchvision
    /// and YOLOv7 give them.
    NmsInside,
    /// The built-in frame difference; no model file.
    Motion,
}

impl Family {
    /// Whether the first side of all outputs counts the pictures, so that those of a batch can be told apart.
    #[must_use]
    pub fn batch_first(self) -> bool {
        // What was suppressed in the graph is counted by objects, whatever the picture.
        !matches!(self, Self::NmsInside | Self::Motion)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Centerface => "centerface",
            Self::Yolox => "yolox",
            Self::Ultralytics => "ultralytics",
            Self::Yolov5 => "yolov5",
            Self::EndToEnd => "end-to-end",
            Self::Nanodet => "nanodet",
            Self::Picodet => "picodet",
            Self::Detr => "detr",
            Self::Yunet => "yunet",
            Self::Ultraface => "ultraface",
            Self::Ssd => "ssd",
            Self::NmsInside => "nms-inside",
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
    /// The picture's own size, padded right and below to a multiple; one whose longer side is above `at_most` is scaled
    /// down to that first.
    Source {
        /// In pixels; the network's coarsest stride.
        multiple: usize,
        /// In pixels: bounds what a picture can cost.
        at_most: usize,
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

/// How a picture's samples become those of the input's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Bilinear, as `cv2.INTER_LINEAR`.
    #[default]
    Linear,
    /// Bicubic with a = −0.75, as `cv2.INTER_CUBIC`.
    Cubic,
}

/// The order of the input tensor's axes, for a graph whose sides do not tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[batch, channels, height, width]`.
    Nchw,
    /// `[batch, height, width, channels]`.
    Nhwc,
}

/// How a picture becomes a model's input tensor, `[1, 3, height, width]` or `[1, height, width, 3]`, f32, f16 or u8.
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
    /// How it is resized.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// The order of the channels.
    pub colour: Colour,
    /// The order of the axes; `None`: as the graph says.
    #[serde(default)]
    pub layout: Option<Layout>,
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

/// The four numbers of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxForm {
    /// Left, top, right, bottom.
    Xyxy,
    /// Top, left, bottom, right, as TensorFlow has it.
    Yxyx,
    /// Centre, width, height.
    Cxcywh,
}

/// What a box's numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Pixels of the input.
    Pixels,
    /// Shares of the input's sides, 0 to 1.
    Shares,
}

/// What a class's number is before it is a score from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    /// It is one already.
    Probabilities,
    /// Each class on its own goes through the sigmoid.
    Sigmoid,
    /// All classes together go through the softmax.
    Softmax,
}

/// Where among the classes of the outputs "nothing" stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// Nowhere: class 0 is the first label.
    None,
    /// First: class 1 is the first label.
    First,
    /// Last.
    Last,
}

/// How outputs are to be read where a family leaves a choice. `None`: as the family, or the outputs' names, say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSpec {
    /// The numbers of a box.
    pub boxes: Option<BoxForm>,
    /// What they count.
    pub unit: Option<Unit>,
    /// What the classes' numbers are.
    pub scores: Option<Scores>,
    /// Where "nothing" stands among the classes.
    pub background: Option<Background>,
    /// Key points of an object and values of each (2: x, y; 3: x, y, confidence), for a layout that has them.
    pub keypoints: Option<[usize; 2]>,
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
    /// May be found out only once its server is there.
    batch: Arc<AtomicUsize>,
    slow_starts: bool,
}

impl Model {
    /// A model whose detectors `factory` makes: ours, or one's own. `per_stream`: a detector remembers earlier pictures, so
    /// that each stream needs its own.
    pub fn new(
        info: ModelInfo,
        per_stream: bool,
        factory: impl Fn() -> Result<Box<dyn Detector>, DetectError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            info: Arc::new(info),
            per_stream,
            factory: Arc::new(factory),
            remote: None,
            batch: Arc::new(AtomicUsize::new(1)),
            slow_starts: false,
        }
    }

    /// The same, run by a server that is doing as `status` says.
    #[must_use]
    pub(super) fn with_remote(self, status: impl Fn() -> RemoteStatus + Send + Sync + 'static) -> Self {
        Self { remote: Some(Arc::new(status)), ..self }
    }

    /// The same, whose detectors look at up to so many pictures at once for less than one by one.
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch: Arc::new(AtomicUsize::new(batch)), ..self }
    }

    /// The same, up to as many as `batch` holds at the time.
    #[must_use]
    pub(super) fn with_batch_of(self, batch: Arc<AtomicUsize>) -> Self {
        Self { batch, ..self }
    }

    /// The same, each detector of which takes for its first look much longer than for later ones.
    #[must_use]
    pub(super) fn with_slow_starts(self, slow_starts: bool) -> Self {
        Self { slow_starts, ..self }
    }

    /// Whether a new detector should look at something before a stream waits for it.
    pub(super) fn slow_starts(&self) -> bool {
        self.slow_starts
    }

    /// The most pictures that a detector is given at once.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch.load(Ordering::Relaxed).max(1)
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
