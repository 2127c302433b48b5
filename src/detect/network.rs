//! The detector of all models with a file: preprocess, session, head, suppression.

use std::sync::Arc;
use std::time::Instant;

use super::backend::Session;
use super::heads::{Filter, Graph, Head};
use super::model::ModelInfo;
use super::nms::{Candidate, NmsMode, suppress};
use super::preprocess::Preprocessor;
use super::{DetectError, Detector, Found, InputSpec, Picture, Settings, Stopper};
use crate::media::Detection;

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
    pub fn new(info: Arc<ModelInfo>, input: InputSpec, nms: NmsMode, session: Session) -> Result<Self, DetectError> {
        let head = Head::new(info.family, session.graph(), &input, info.labels.len())
            .map_err(|expected| unusable(&info.name, session.graph(), &expected))?;
        Ok(Self {
            info,
            nms,
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
        let (decoded, infer) =
            session.run(input.tensor, size, |outputs| head.decode(outputs, size, &filter, candidates))?;
        decoded.map_err(DetectError::Frame)?;

        suppress(candidates, *nms, settings.iou, settings.max_detections);
        let items = candidates.iter().filter_map(|candidate| {
            let bbox = input.mapping.to_source(&candidate.bbox);
            let class = usize::try_from(candidate.class_id).ok()?;
            // What lies in the padding is cut away to nothing.
            (bbox.width() > 0.0 && bbox.height() > 0.0).then_some(Detection {
                bbox,
                confidence: candidate.score,
                class_id: candidate.class_id,
                class_name: info.labels.get(class)?.clone(),
                ..Detection::default()
            })
        });
        let items = items.collect();
        Ok(Found { items, preprocess, infer, postprocess: begun.elapsed().saturating_sub(infer), passes: Vec::new() })
    }

    fn stopper(&self) -> Option<Stopper> {
        Some(self.session.stopper())
    }
}
