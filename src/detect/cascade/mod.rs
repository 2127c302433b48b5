//! Two models in a row: the second looks only at what the first found.
//!
//! A cascade is a [`Model`] like any other, made of two: its detectors, its deadline and its turn are those of one model, and
//! what it finds is one list, the first stage's objects and then the second's. An object of the second stage has the one in
//! whose crop it was found as its `parent`.

mod config;
mod crop;

use std::sync::Arc;

pub use config::{Cascade, CascadeStage};

use self::crop::Crop;
use super::model::{Model, ModelInfo};
use super::{DetectError, Detector, Found, Pass, Picture, Settings, Stopper};
use crate::media::{Detection, FramePool};

/// The most crops of one picture: the best objects of the first stage.
const MOST_CROPS: usize = 16;

impl Model {
    /// Two models in a row, or one with a filter of classes where `second` is none.
    ///
    /// # Errors
    /// [`DetectError::Unusable`] for a class that the first does not have, and for a second that has to see whole pictures.
    pub fn cascade(first: Self, classes: &[String], second: Option<Self>) -> Result<Self, DetectError> {
        let unusable = |reason: String| DetectError::Unusable { model: first.info().name.to_string(), reason };
        let labels = &first.info().labels;
        if let Some(unknown) = classes.iter().find(|class| !labels.iter().any(|label| **label == ***class)) {
            let known: Vec<&str> = labels.iter().take(100).map(|label| &**label).collect();
            return Err(unusable(format!("{unknown:?} is none of its classes: {}", known.join(", "))));
        }
        if let Some(second) = second.as_ref().filter(|second| second.per_stream()) {
            let name = &second.info().name;
            return Err(unusable(format!("{name} follows whole pictures, and cannot look at crops after it")));
        }
        let info = info(first.info(), second.as_ref().map(Self::info));
        let per_stream = first.per_stream();
        let classes: Arc<[String]> = classes.into();
        let offset = u32::try_from(labels.len()).unwrap_or(u32::MAX);
        let floors = (first.info().confidence, second.as_ref().map_or(0.0, |second| second.info().confidence));
        Ok(Self::new(info, per_stream, move || {
            Ok(Box::new(CascadeDetector {
                first: first.detector()?,
                second: second.as_ref().map(Self::detector).transpose()?,
                classes: (!classes.is_empty()).then(|| Arc::clone(&classes)),
                floors,
                offset,
                pool: FramePool::new(),
            }))
        }))
    }
}

/// What is known of the two together: the second's classes come after the first's.
fn info(first: &ModelInfo, second: Option<&ModelInfo>) -> ModelInfo {
    let Some(second) = second else { return first.clone() };
    ModelInfo {
        name: format!("{}+{}", first.name, second.name).into(),
        labels: first.labels.iter().chain(second.labels.iter()).cloned().collect(),
        // Each stage keeps to its own besides.
        confidence: first.confidence.min(second.confidence),
        assumed: first.assumed.iter().chain(&second.assumed).cloned().collect(),
        ..first.clone()
    }
}

struct CascadeDetector {
    first: Box<dyn Detector>,
    second: Option<Box<dyn Detector>>,
    /// What the first stage passes on; `None` for all.
    classes: Option<Arc<[String]>>,
    /// The models' own thresholds, below which a stage does not go.
    floors: (f32, f32),
    /// The first of the second stage's class ids.
    offset: u32,
    pool: FramePool,
}

impl Detector for CascadeDetector {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        let of_first = Settings {
            confidence: settings.confidence.max(self.floors.0),
            classes: self.classes.clone(),
            ..settings.clone()
        };
        let mut found = self.first.detect(picture, &of_first)?;
        found.passes = vec![Pass { looked: 1, passed: u32::from(!found.items.is_empty()) }];
        let mut inner = Vec::new();
        if let Some(second) = &mut self.second {
            let of_second = Settings { confidence: settings.confidence.max(self.floors.1), ..settings.clone() };
            let mut pass = Pass::default();
            for (index, item) in found.items.iter().enumerate().take(MOST_CROPS) {
                let Some(crop) = Crop::of(picture, &item.bbox, &self.pool)? else { continue };
                let of_crop = second.detect(crop.picture(), &of_second)?;
                pass.looked += 1;
                pass.passed += u32::from(!of_crop.items.is_empty());
                found.preprocess += of_crop.preprocess;
                found.infer += of_crop.infer;
                found.postprocess += of_crop.postprocess;
                inner.extend(of_crop.items.into_iter().map(|item| crop.put_back(item, self.offset, index)));
            }
            found.passes.push(pass);
        }
        merge(&mut found.items, inner, settings);
        Ok(found)
    }

    fn stopper(&self) -> Option<Stopper> {
        let stoppers: Vec<Stopper> =
            [Some(&self.first), self.second.as_ref()].into_iter().flatten().filter_map(|one| one.stopper()).collect();
        // Whichever is at work is ended; one that cannot be is left to its thread.
        (!stoppers.is_empty()).then(|| -> Stopper { Arc::new(move || stoppers.iter().for_each(|stop| stop())) })
    }
}

/// Puts the second stage's objects behind the first's. What two crops show is one object; a parent that is not asked for is
/// left out, and its children stay.
fn merge(items: &mut Vec<Detection>, mut inner: Vec<Detection>, settings: &Settings) {
    inner.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut kept: Vec<Detection> = Vec::new();
    for item in inner {
        let twice = |known: &Detection| {
            known.class_id == item.class_id && known.parent != item.parent && known.bbox.iou(&item.bbox) > settings.iou
        };
        if kept.len() < settings.max_detections && !kept.iter().any(twice) {
            kept.push(item);
        }
    }
    let wanted = |item: &Detection| {
        settings.classes.as_ref().is_none_or(|classes| classes.iter().any(|class| **class == *item.class_name))
    };
    // The new place of each parent.
    let mut next = 0..;
    let places: Vec<Option<u64>> = items.iter().map(|item| wanted(item).then(|| next.next()).flatten()).collect();
    for item in &mut kept {
        item.parent = item.parent.and_then(|at| *places.get(usize::try_from(at).ok()?)?);
    }
    items.retain(wanted);
    items.append(&mut kept);
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
