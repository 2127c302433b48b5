//! A model in use, with its detectors on a shelf for whichever thread needs one.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::lane::lock;
use super::load::first_look;
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
            let mut detector = self.model.detector()?;
            if self.model.slow_starts() {
                // By seconds on a GPU: not on a stream's time. One that takes a lost one's place has its first look with a frame,
                // under that frame's deadline.
                first_look(&mut *detector, &self.model.info().name)?;
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::detect::{Found, ModelInfo, Picture, Settings};

    /// One of whose making and looking is counted, and that may fail.
    struct Counted(Arc<AtomicU64>, bool);

    impl Detector for Counted {
        fn detect(&mut self, _: Picture<'_>, _: &Settings) -> Result<Found, DetectError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if self.1 { Err(DetectError::Frame("no memory".into())) } else { Ok(Found::default()) }
        }
    }

    fn loaded(slow_starts: bool, fails: bool) -> (Loaded, Arc<AtomicU64>) {
        let looks = Arc::new(AtomicU64::new(0));
        let (info, counter) = (ModelInfo::clone(Model::motion().info()), Arc::clone(&looks));
        let model = Model::new(info, false, move || Ok(Box::new(Counted(Arc::clone(&counter), fails))));
        (Loaded::new(model.with_slow_starts(slow_starts)), looks)
    }

    #[test]
    fn a_detector_with_a_slow_start_has_it_before_it_is_needed() {
        for (slow_starts, expected) in [(true, 3), (false, 0)] {
            let (loaded, looks) = loaded(slow_starts, false);
            loaded.stock(3).unwrap();
            assert_eq!((loaded.detectors(), looks.load(Ordering::Relaxed)), (3, expected));
            // The one that comes in a lost one's place is under its frame's deadline.
            (0..4).for_each(|_| drop(loaded.take().unwrap()));
            assert_eq!(looks.load(Ordering::Relaxed), expected);
        }
    }

    #[test]
    fn one_that_fails_at_its_start_is_refused() {
        let (loaded, _) = loaded(true, true);
        let refused = loaded.stock(2).unwrap_err().to_string();
        assert!(refused.contains("no memory"), "{refused}");
        assert_eq!(loaded.detectors(), 0);
    }
}
