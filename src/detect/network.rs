//! The detector of all models with a file: preprocess, session, head, suppression.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend::Network;
use super::heads::{Filter, Graph, Head, Output, Parts};
use super::model::ModelInfo;
use super::nms::{Candidate, NmsMode, suppress};
use super::preprocess::{Input, Mapping, Preprocessor};
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
    input: InputSpec,
    preprocessor: Preprocessor,
    network: Network,
    head: Head,
    candidates: Vec<Candidate>,
    /// For several pictures at once: one that prepares each, and what goes into the network.
    others: Vec<Preprocessor>,
    together: Vec<f32>,
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
        network: impl Into<Network>,
    ) -> Result<Self, DetectError> {
        let mut network = network.into();
        let head = Head::new(info.family, network.graph(), &input, &reading.output, info.labels.len())
            .map_err(|expected| unusable(&info.name, network.graph(), &expected))?;
        network.set_layout(input.layout).map_err(|expected| unusable(&info.name, network.graph(), &expected))?;
        Ok(Self {
            info,
            nms: reading.nms,
            input,
            preprocessor: Preprocessor::new(input),
            network,
            head,
            candidates: Vec::new(),
            others: Vec::new(),
            together: Vec::new(),
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
                self.wanted.extend(wanted(&self.info, names));
            }
            self.classes = classes.cloned();
        }
    }
}

/// Which of the model's classes are among `names`, by class id.
fn wanted(info: &ModelInfo, names: &[String]) -> Vec<bool> {
    info.labels.iter().map(|label| names.iter().any(|name| **name == **label)).collect()
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

/// What is common to the objects of one picture: its size in the network, and the way back to its own pixels.
#[derive(Clone, Copy)]
struct Seen {
    size: (usize, usize),
    mapping: Mapping,
}

impl NetworkDetector {
    /// Brings all pictures that can be into `together`. One result for each.
    fn prepare(&mut self, pictures: &[(Picture<'_>, &Settings)]) -> Vec<Result<Seen, DetectError>> {
        let (input, together) = (self.input, &mut self.together);
        self.others.resize_with(pictures.len().max(self.others.len()), || Preprocessor::new(input));
        together.clear();
        let prepared = pictures.iter().zip(&mut self.others).map(|((picture, _), preprocessor)| {
            let Input { tensor, width, height, mapping } = preprocessor.run(*picture)?;
            together.extend_from_slice(tensor);
            Ok(Seen { size: (width, height), mapping })
        });
        prepared.collect()
    }
}

/// What the outputs of one picture become objects by.
struct Reader<'a> {
    info: &'a ModelInfo,
    nms: NmsMode,
    head: &'a mut Head,
    candidates: &'a mut Vec<Candidate>,
    classes: Option<&'a [bool]>,
}

impl Reader<'_> {
    fn read(&mut self, outputs: &[Output<'_>], seen: Seen, settings: &Settings) -> Result<Vec<Detection>, DetectError> {
        let Self { info, nms, head, candidates, classes } = self;
        let filter = Filter { confidence: settings.confidence, classes: *classes };
        candidates.clear();
        head.decode(outputs, seen.size, &filter, candidates).map_err(DetectError::Frame)?;
        suppress(candidates, *nms, settings.iou, settings.max_detections);
        let items = candidates.iter().filter_map(|candidate| {
            let parts = head.parts(outputs, seen.size, candidate);
            finish(candidate, &parts, &seen.mapping, info)
        });
        Ok(items.collect())
    }
}

/// The part of a batch's outputs that is picture number `at` of `count`.
///
/// # Errors
/// When the first side of an output does not count the pictures.
fn part<'a>(
    outputs: &[Output<'a>],
    shapes: &'a [Vec<i64>],
    (at, count): (usize, usize),
) -> Result<Vec<Output<'a>>, DetectError> {
    let one = |(output, shape): (&Output<'a>, &'a Vec<i64>)| {
        let pictures = output.shape.first().and_then(|&side| usize::try_from(side).ok());
        let len = output.data.len() / count.max(1);
        let data = output.data.get(at * len..(at + 1) * len)?;
        (pictures == Some(count) && len * count == output.data.len()).then_some(Output { shape, data })
    };
    let parts: Option<Vec<_>> = outputs.iter().zip(shapes).map(one).collect();
    parts.ok_or_else(|| DetectError::Frame(format!("the outputs of {count} pictures cannot be told apart")))
}

impl Detector for NetworkDetector {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        self.choose_classes(settings.classes.as_ref());
        let Self { info, nms, preprocessor, network, head, candidates, classes, wanted, .. } = self;
        let classes = classes.as_ref().map(|_| wanted.as_slice());
        let start = Instant::now();
        let input = preprocessor.run(picture)?;
        let preprocess = start.elapsed();

        let seen = Seen { size: (input.width, input.height), mapping: input.mapping };
        let mut reader = Reader { info, nms: *nms, head, candidates, classes };
        let begun = Instant::now();
        let (items, infer) = network.run(input.tensor, seen.size, |outputs| reader.read(outputs, seen, settings))?;
        let postprocess = begun.elapsed().saturating_sub(infer);
        Ok(Found { items: items?, preprocess, infer, postprocess, shared_by: 1, passes: Vec::new() })
    }

    fn detect_batch(&mut self, pictures: &[(Picture<'_>, &Settings)]) -> Vec<Result<Found, DetectError>> {
        let start = Instant::now();
        let prepared = self.prepare(pictures);
        let preprocess = start.elapsed();
        let mut good = prepared.iter().flatten();
        let size = good.next().map(|seen| seen.size);
        // A network of open width and height is given pictures of one size at a time.
        let together = good.clone().count() + 1;
        let ran = match size {
            Some(size) if together > 1 && good.all(|seen| seen.size == size) => {
                self.run_together(pictures, &prepared, size, preprocess)
            }
            _ => Err(DetectError::Frame("there is no batch".into())),
        };
        let mut ran = match ran {
            Ok(found) => found.into_iter().map(Some).collect(),
            Err(error) => {
                tracing::debug!(%error, pictures = pictures.len(), "not looked at together");
                Vec::new()
            }
        };
        ran.resize_with(together, || None);
        let mut ran = ran.into_iter();
        let each = prepared.into_iter().zip(pictures).map(|(prepared, (picture, settings))| {
            prepared?;
            match ran.next().flatten() {
                Some(found) => found,
                None => self.detect(*picture, settings),
            }
        });
        each.collect()
    }

    fn stopper(&self) -> Option<Stopper> {
        Some(self.network.stopper())
    }
}

impl NetworkDetector {
    /// One run for all pictures that could be prepared. A result for each of those.
    ///
    /// # Errors
    /// [`DetectError::Frame`] when the run fails, or its outputs cannot be told apart.
    fn run_together(
        &mut self,
        pictures: &[(Picture<'_>, &Settings)],
        prepared: &[Result<Seen, DetectError>],
        size: (usize, usize),
        preprocess: Duration,
    ) -> Result<Vec<Result<Found, DetectError>>, DetectError> {
        let good: Vec<_> =
            prepared.iter().zip(pictures).filter_map(|(seen, (_, wish))| Some((*seen.as_ref().ok()?, *wish))).collect();
        let count = good.len();
        let Self { info, nms, network, head, candidates, together, .. } = self;
        let (found, infer) = network.run(together, size, |outputs| {
            let alone = |output: &Output<'_>| {
                let mut shape = output.shape.to_vec();
                shape.iter_mut().take(1).for_each(|side| *side = 1);
                shape
            };
            let shapes: Vec<_> = outputs.iter().map(alone).collect();
            let mut found = Vec::with_capacity(count);
            for (at, (seen, settings)) in good.iter().enumerate() {
                let begun = Instant::now();
                let parts = part(outputs, &shapes, (at, count))?;
                let wanted = settings.classes.as_ref().map(|names| wanted(info, names));
                let mut reader = Reader { info, nms: *nms, head, candidates, classes: wanted.as_deref() };
                let items = reader.read(&parts, *seen, settings);
                found.push(items.map(|items| (items, begun.elapsed())));
            }
            Ok::<_, DetectError>(found)
        })?;
        let one = |found: Result<(Vec<Detection>, Duration), DetectError>| {
            let (items, postprocess) = found?;
            Ok(Found { items, preprocess, infer, postprocess, shared_by: count, passes: Vec::new() })
        };
        Ok(found?.into_iter().map(one).collect())
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
