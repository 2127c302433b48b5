//! The detector of all models with a file: preprocess, session, head, suppression.

use std::sync::Arc;
use std::time::Instant;

use super::backend::Session;
use super::heads::{Filter, Graph, Head, Parts};
use super::model::ModelInfo;
use super::nms::{Candidate, NmsMode, suppress};
use super::preprocess::{Mapping, Preprocessor};
use super::{DetectError, Detector, Found, InputSpec, OutputSpec, Picture, Settings, Stopper};
use crate::media::{Detection, KeyPoint};

/// How a model's outputs are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Which boxes suppress each other.
    pub nms: NmsMode,
    /// What the family leaves open.
    pub output: OutputSpec,
}

/// One network with its buffers.
#[derive(Debug)]
pub struct NetworkDetector {
    info: Arc<ModelInfo>,
    nms: NmsMode,
    preprocessor: Preprocessor,
    session: Session,
    head: Head,
    candidates: Vec<Candidate>,
    /// The classes that `wanted` was made for.
    classes: Option<Arc<[String]>>,
    wanted: Vec<bool>,
}

impl NetworkDetector {
    /// Joins the parts.
    ///
    /// # Errors
    /// [`DetectError::Unusable`] when the graph is not what the family's head decodes: says what was found and what is
    /// expected.
    pub fn new(
        info: Arc<ModelInfo>,
        input: InputSpec,
        reading: Reading,
        mut session: Session,
    ) -> Result<Self, DetectError> {
        let head = Head::new(info.family, session.graph(), &input, &reading.output, info.labels.len())
            .map_err(|expected| unusable(&info.name, session.graph(), &expected))?;
        session.set_layout(input.layout);
        Ok(Self {
            info,
            nms: reading.nms,
            preprocessor: Preprocessor::new(input),
            session,
            head,
            candidates: Vec::new(),
            classes: None,
            wanted: Vec::new(),
        })
    }

    fn choose_classes(&mut self, classes: Option<&Arc<[String]>>) {
        let same = match (&self.classes, classes) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
            (old, new) => old.is_none() && new.is_none(),
        };
        if !same {
            self.wanted.clear();
            if let Some(names) = classes {
                self.wanted.extend(self.info.labels.iter().map(|label| names.iter().any(|name| **name == **label)));
            }
            self.classes = classes.cloned();
        }
    }
}

/// An object in source pixels; `None` where nothing of it lies in the picture, or its class has no name.
fn finish(candidate: &Candidate, parts: &Parts, mapping: &Mapping, info: &ModelInfo) -> Option<Detection> {
    let bbox = mapping.to_source(&candidate.bbox);
    let class = usize::try_from(candidate.class_id).ok()?;
    // What lies in the padding is cut away to nothing.
    if !(bbox.width() > 0.0 && bbox.height() > 0.0) {
        return None;
    }
    let point = |point: &KeyPoint| {
        let [x, y] = mapping.point([point.x, point.y]);
        KeyPoint { x, y, ..*point }
    };
    let corner = |&corner: &[f32; 2]| mapping.point_inside(corner);
    Some(Detection {
        bbox,
        confidence: candidate.score,
        class_id: candidate.class_id,
        class_name: info.labels.get(class)?.clone(),
        keypoints: (!parts.keypoints.is_empty()).then(|| parts.keypoints.iter().map(point).collect()),
        mask: (!parts.outline.is_empty()).then(|| parts.outline.iter().map(corner).collect()),
        ..Detection::default()
    })
}

/// A refusal that names what was found and what was expected.
pub fn unusable(model: &str, graph: &Graph, expected: &str) -> DetectError {
    DetectError::Unusable { model: model.to_owned(), reason: format!("found {graph}; {expected}") }
}

impl Detector for NetworkDetector {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        self.choose_classes(settings.classes.as_ref());
        let Self { info, nms, preprocessor, session, head, candidates, classes, wanted } = self;
        let start = Instant::now();
        let input = preprocessor.run(picture)?;
        let preprocess = start.elapsed();

        let size = (input.width, input.height);
        let filter = Filter { confidence: settings.confidence, classes: classes.as_ref().map(|_| wanted.as_slice()) };
        candidates.clear();
        let begun = Instant::now();
        let mapping = input.mapping;
        let (items, infer) = session.run(input.tensor, size, |outputs| {
            head.decode(outputs, size, &filter, candidates)?;
            suppress(candidates, *nms, settings.iou, settings.max_detections);
            let found = candidates.iter().filter_map(|candidate| {
                let parts = head.parts(outputs, size, candidate);
                finish(candidate, &parts, &mapping, info)
            });
            Ok(found.collect())
        })?;
        let items = items.map_err(DetectError::Frame)?;
        Ok(Found { items, preprocess, infer, postprocess: begun.elapsed().saturating_sub(infer), passes: Vec::new() })
    }

    fn stopper(&self) -> Option<Stopper> {
        Some(self.session.stopper())
    }
}
