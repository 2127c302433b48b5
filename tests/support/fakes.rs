//! Detectors of the tests' own: exact ones, slow ones, and such as never finish.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use sightline::detect::{DetectError, Detector, Family, Found, Model, ModelInfo, Picture, Settings};
use sightline::media::{BBox, Detection, I420Frame, Plane};

type Look = dyn Fn(&I420Frame) -> Vec<Detection> + Send + Sync;

/// A detector made of a closure; keeps to the thresholds and classes that it is given.
struct Fake(Arc<Look>);

impl Detector for Fake {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        let Picture::I420(frame) = picture else { return Err(DetectError::Frame("not planes".to_owned())) };
        let mut items = (self.0)(frame);
        items.retain(|item| {
            item.confidence >= settings.confidence
                && settings
                    .classes
                    .as_ref()
                    .is_none_or(|classes| classes.iter().any(|class| **class == *item.class_name))
        });
        items.truncate(settings.max_detections);
        Ok(Found { items, ..Found::default() })
    }
}

/// The labels of every fake.
pub const LABELS: [&str; 2] = ["square", "other"];

/// A model whose detectors look by `look`.
pub fn model(look: impl Fn(&I420Frame) -> Vec<Detection> + Send + Sync + 'static) -> Model {
    let info = ModelInfo {
        name: "fake".into(),
        family: Family::Motion,
        labels: LABELS.map(Arc::from).into(),
        input: None,
        confidence: 0.5,
        iou: 0.5,
        licence: None,
        source: None,
        assumed: Vec::new(),
    };
    let look: Arc<Look> = Arc::new(look);
    Model::new(info, false, move || Ok(Box::new(Fake(Arc::clone(&look)))))
}

/// An object of class 0 with this score.
pub fn object(bbox: BBox, confidence: f32) -> Detection {
    Detection { bbox, confidence, class_id: 0, class_name: LABELS[0].into(), ..Detection::default() }
}

/// Finds the first square of the scene, by its luma, to the pixel; its score is 0.8.
pub fn find_square(frame: &I420Frame) -> Vec<Detection> {
    let (width, _) = frame.plane_size(Plane::Y);
    let mut bounds: Option<(usize, usize, usize, usize)> = None;
    for (y, row) in frame.plane(Plane::Y).chunks_exact(width).enumerate() {
        for (x, _) in row.iter().enumerate().take(width * 3 / 4).filter(|(_, sample)| **sample > 185) {
            let (x1, y1, x2, y2) = bounds.unwrap_or((x, y, x, y));
            bounds = Some((x1.min(x), y1.min(y), x2.max(x), y2.max(y)));
        }
    }
    let Some((x1, y1, x2, y2)) = bounds else { return Vec::new() };
    #[allow(clippy::cast_precision_loss)]
    let [x1, y1, x2, y2] = [x1, y1, x2 + 1, y2 + 1].map(|edge| edge as f32);
    vec![object(BBox::new(x1, y1, x2, y2), 0.8)]
}

/// A door that a detector waits at.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    /// How many came to the door.
    pub arrived: AtomicU64,
}

impl Gate {
    pub fn pass(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.changed.wait(open).unwrap();
        }
    }

    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}
