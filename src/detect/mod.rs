//! Pictures to detections.
//!
//! ```text
//! Picture ─► preprocess ─► backend (session run) ─► heads ─► nms ─► Found ─► tracker ─► (later pictures) ─► follow
//! ```
//!
//! Belongs here: how a model is named, found, checked and loaded; the arithmetic from planes to the model's input and
//! from its raw outputs to boxes in source pixels; the pool of threads that does it beside the video. Does not belong
//! here: decoding, drawing, and who watches the result. The ONNX Runtime is named in `backend` alone.

pub mod backend;
mod cadence;
pub mod cascade;
mod config;
mod digest;
mod error;
pub mod eval;
pub mod follow;
pub mod heads;
mod labels;
mod lane;
mod load;
mod loaded;
mod locate;
pub mod manifest;
mod model;
mod motion;
mod network;
pub mod nms;
mod patience;
mod pool;
mod pools;
pub mod preprocess;
pub mod pull;
pub mod regions;
mod remote;
pub mod rewrite;
pub mod sampling;
mod tracker;
mod turns;
mod watch;
mod zone;

use std::sync::Arc;
use std::time::Duration;

use crate::media::{Detection, I420Frame};

pub use cascade::{Cascade, CascadeStage};
pub use config::Config;
pub use digest::has_digest;
pub use error::DetectError;
pub use lane::{Lane, LaneCounters, LaneModel, LaneOptions};
pub use locate::{Located, known_models, locate};
pub use manifest::Manifest;
pub use model::{
    Background, BoxForm, Colour, Family, Fit, InputSize, InputSpec, Interpolation, Layout, Model, ModelInfo,
    OutputSpec, Scores, Unit,
};
pub use motion::MotionDetector;
pub use pools::{Change, InputStatus, ModelState, ModelStatus, PoolInfo, PoolStats, Pools, ReplaceError, Upload};
pub use regions::{RegionConfig, RegionCount, RegionKind, RegionSet};
pub use remote::RemoteStatus;
pub use sampling::{Hint, Sampling, SamplingCounts};
pub use tracker::Tracker;
pub use turns::Priority;
pub use zone::Zone;

/// What a stream wants of its detections. May change between two frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The lowest score that is reported, 0 to 1.
    pub confidence: f32,
    /// Of two boxes that overlap by more than this IoU, non-maximum suppression keeps the better; 0 to 1.
    pub iou: f32,
    /// Names of the classes that are reported; `None` for all.
    pub classes: Option<Arc<[String]>>,
    /// The most objects reported for one picture: the best by score.
    pub max_detections: usize,
}

impl Settings {
    /// Whether an object of this class and score is reported.
    #[must_use]
    pub fn admits(&self, item: &Detection) -> bool {
        let wanted = |classes: &Arc<[String]>| classes.iter().any(|class| **class == *item.class_name);
        item.confidence >= self.confidence && self.classes.as_ref().is_none_or(wanted)
    }
}

/// A picture to look at.
#[derive(Clone, Copy, Debug)]
pub enum Picture<'a> {
    /// A decoded video frame, BT.601 limited range.
    I420(&'a I420Frame),
    /// Interleaved 8-bit RGB rows without padding: `width * height * 3` bytes.
    Rgb {
        /// The samples.
        data: &'a [u8],
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
}

impl Picture<'_> {
    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::I420(frame) => (frame.width(), frame.height()),
            Self::Rgb { width, height, .. } => (*width, *height),
        }
    }
}

/// What a detector found in one picture, and what that cost.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The objects, best score first, boxes in source pixels and inside the picture.
    pub items: Vec<Detection>,
    /// Picture to input tensor.
    pub preprocess: Duration,
    /// The model itself.
    pub infer: Duration,
    /// Raw outputs to objects.
    pub postprocess: Duration,
    /// How many pictures the times before the last were spent on together; 0 and 1 are one.
    pub shared_by: usize,
    /// Of a cascade: what each of its models looked at.
    pub passes: Vec<Pass>,
}

/// What a stage of a cascade looked at, and what went on from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Pictures: frames for the first model, crops for the second.
    pub looked: u32,
    /// Those in which it found something.
    pub passed: u32,
}

/// Ends, from another thread, what a [`Detector`] is doing.
pub type Stopper = Arc<dyn Fn() + Send + Sync>;

/// Something that finds objects in pictures. Owns its buffers, and belongs to one thread at a time.
pub trait Detector: Send {
    /// Looks at `picture` and blocks until it is done.
    ///
    /// # Errors
    /// [`DetectError::Frame`]: this picture is lost, the next may be fine.
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError>;

    /// Looks at several pictures, each with what is wanted of it, and gives a result for each in their order. Whatever is wrong
    /// with one of them costs that one.
    fn detect_batch(&mut self, pictures: &[(Picture<'_>, &Settings)]) -> Vec<Result<Found, DetectError>> {
        pictures.iter().map(|(picture, settings)| self.detect(*picture, settings)).collect()
    }

    /// A way to make a [`detect`](Self::detect) that takes too long fail soon; whoever used it throws the detector away.
    /// `None`: it cannot be ended, and a thread that hangs in it is left to itself.
    fn stopper(&self) -> Option<Stopper> {
        None
    }
}
