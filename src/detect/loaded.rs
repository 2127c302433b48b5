//! A model in use, with its detectors on a shelf for whichever thread needs one.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::lane::lock;
use super::{DetectError, Detector, Model};
use crate::media::DetectionTimes;

/// A model in use, and its detectors: as many as streams use it at most, and as threads.
pub(super) struct Loaded {
    pub model: Model,
    shelf: Mutex<Shelf>,
    pub frames: AtomicU64,
    pub failed: AtomicU64,
    /// Frames looked at together with others.
    pub batched: AtomicU64,
    pub overdue: AtomicU64,
    pub last: Mutex<Option<DetectionTimes>>,
}

#[derive(Default)]
struct Shelf {
    idle: Vec<Box<dyn Detector>>,
    /// With those that a thread holds.
    made: usize,
}

impl Loaded {
    pub(super) fn new(model: Model) -> Self {
        Self {
            model,
            shelf: Mutex::default(),
            frames: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            batched: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// How many detectors there are; those of single streams are not counted.
    pub(super) fn detectors(&self) -> usize {
        lock(&self.shelf).made
    }

    /// Makes detectors until there are so many.
    pub(super) fn stock(&self, count: usize) -> Result<(), DetectError> {
        // The state of one stream is made by that stream's first frame.
        while !self.model.per_stream() && self.detectors() < count {
            let detector = self.model.detector()?;
            let mut shelf = lock(&self.shelf);
            shelf.made += 1;
            shelf.idle.push(detector);
        }
        Ok(())
    }

    /// Takes a detector out, which is made anew if one was lost.
    pub(super) fn take(&self) -> Result<Box<dyn Detector>, DetectError> {
        if let Some(detector) = lock(&self.shelf).idle.pop() {
            return Ok(detector);
        }
        let detector = self.model.detector()?;
        lock(&self.shelf).made += 1;
        Ok(detector)
    }

    pub(super) fn put_back(&self, detector: Box<dyn Detector>) {
        lock(&self.shelf).idle.push(detector);
    }

    /// One that was taken does not come back.
    pub(super) fn lost(&self) {
        let mut shelf = lock(&self.shelf);
        shelf.made = shelf.made.saturating_sub(1);
    }
}
