//! Raw outputs of a network to candidates in input pixels: one file per model family.
//!
//! Belongs here: what the numbers of a family's outputs mean, and how to recognise a family by the outside of its
//! graph. Does not belong here: thresholds' defaults (manifest), suppression (`nms`), and any runtime's types.
//!
//! Outputs are outside data: whatever a network answers (NaN, infinity, other shapes) costs at most that picture.

mod centerface;
mod detr;
mod end_to_end;
mod graph;
mod identify;
mod mask;
mod metadata;
mod nanodet;
mod nms_inside;
mod outline;
mod roles;
mod ssd;
mod tensor;
mod ultralytics;
mod yolov5;
mod yolox;
mod yunet;

use std::fmt;

use super::model::{Family, InputSize, InputSpec, OutputSpec};
use super::nms::Candidate;
use crate::media::{BBox, KeyPoint};

pub use graph::{Graph, ImageInput, Port};
pub use identify::{Identified, identify};
pub use outline::MAX_CORNERS;
pub use tensor::Output;

use tensor::{shapes, sides};

/// Which candidates are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// The lowest score, 0 to 1.
    pub confidence: f32,
    /// By class id; `None` for all.
    pub classes: Option<&'a [bool]>,
}

impl Filter<'_> {
    fn wants(&self, class_id: usize) -> bool {
        self.classes.is_none_or(|wanted| wanted.get(class_id).copied().unwrap_or(false))
    }

    /// Takes a candidate if it is wanted and its numbers are numbers. `row`: see [`Candidate::row`].
    fn push(&self, out: &mut Vec<Candidate>, bbox: BBox, score: f32, class_id: usize, row: usize) {
        if score >= self.confidence && score.is_finite() && bbox.is_finite() && self.wants(class_id) {
            let class_id = u32::try_from(class_id).unwrap_or(u32::MAX);
            out.push(Candidate { bbox, score: score.min(1.0), class_id, row });
        }
    }
}

/// What an object has beside its box, in input pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// Its points, in the model's order; empty for a model without.
    pub keypoints: Vec<KeyPoint>,
    /// Its outline, a closed polygon of at most [`MAX_CORNERS`] corners; empty for a model without, or when nothing of
    /// the mask lies in the box.
    pub outline: Vec<[f32; 2]>,
}

/// The decoding of one family.
trait Decode: fmt::Debug + Send {
    /// Appends what the outputs of one picture propose, in pixels of its input of `(width, height)`.
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String>;

    /// What `candidate`, which [`decode`](Self::decode) made of the same outputs, has beside its box.
    fn parts(&self, _outputs: &[Output<'_>], _input: (usize, usize), _candidate: &Candidate) -> Parts {
        Parts::default()
    }
}

/// The decoding of one model's outputs. Keeps its buffers.
#[derive(Debug)]
pub struct Head {
    decoder: Box<dyn Decode>,
}

impl Head {
    /// The head for `family`, once the graph is seen to have the outputs that it decodes.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn new(
        family: Family,
        graph: &Graph,
        input: &InputSpec,
        output: &OutputSpec,
        classes: usize,
    ) -> Result<Self, String> {
        let image = graph.image_input(input.layout)?;
        match input.size {
            InputSize::Fixed { width, height }
                if !graph::fits(image.width, width) || !graph::fits(image.height, height) =>
            {
                return Err(format!("an input of {width}×{height} pixels is expected"));
            }
            InputSize::LongerSide { side: longer, .. } | InputSize::Source { at_most: longer, .. }
                if image.width.is_some() || image.height.is_some() =>
            {
                return Err(format!("an input of free width and height is expected, for {longer} on the longer side"));
            }
            _ => {}
        }
        let shifted =
            input.mean.iter().any(|mean| mean.abs() > 0.0) || input.std.iter().any(|std| (std - 1.0).abs() > 0.0);
        if image.port.kind == "u8" && shifted {
            return Err("an input of u8 takes samples as they are: no `mean` and a `std` of 1 are expected".into());
        }
        Ok(Self { decoder: decoder(family, graph, input, output, classes)? })
    }

    /// Appends to `out` what the outputs of one picture propose, in pixels of its input of `(width, height)`.
    ///
    /// # Errors
    /// When the outputs do not have the family's shapes: says what they are and what is expected.
    pub fn decode(
        &mut self,
        outputs: &[Output<'_>],
        input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        self.decoder.decode(outputs, input, filter, out)
    }

    /// The key points and the outline of `candidate`, which [`decode`](Self::decode) made of the same outputs; empty for a
    /// family without.
    #[must_use]
    pub fn parts(&self, outputs: &[Output<'_>], input: (usize, usize), candidate: &Candidate) -> Parts {
        let mut parts = self.decoder.parts(outputs, input, candidate);
        if !parts.keypoints.iter().all(|point| point.x.is_finite() && point.y.is_finite()) {
            parts.keypoints.clear();
        }
        parts
    }
}

fn decoder(
    family: Family,
    graph: &Graph,
    input: &InputSpec,
    output: &OutputSpec,
    classes: usize,
) -> Result<Box<dyn Decode>, String> {
    Ok(match family {
        Family::Centerface => Box::new(centerface::Centerface::new(graph)?),
        Family::Yolox => Box::new(yolox::Yolox::new(graph, input, classes)?),
        Family::Ultralytics => Box::new(ultralytics::Ultralytics::new(graph, input, output, classes)?),
        Family::Yolov5 => Box::new(yolov5::Yolov5::new(graph, classes)?),
        Family::EndToEnd => Box::new(end_to_end::EndToEnd::new(graph, output, classes)?),
        Family::Nanodet | Family::Picodet => Box::new(nanodet::Nanodet::new(graph, input, classes)?),
        Family::Detr => Box::new(detr::Detr::new(graph, output, classes)?),
        Family::Yunet => Box::new(yunet::Yunet::new(graph, input)?),
        Family::Ultraface | Family::Ssd => Box::new(ssd::Ssd::new(graph, output, classes)?),
        Family::NmsInside => Box::new(nms_inside::NmsInside::new(graph, output, classes)?),
        Family::Motion => return Err("the motion detector has no network".into()),
    })
}

/// How many cells the grids of strides 8, 16 and 32 have together, for sides that are multiples of 32.
fn cells(width: usize, height: usize) -> usize {
    [8, 16, 32].iter().map(|stride| (width / stride) * (height / stride)).sum()
}

/// The first of the highest scores.
fn best(scores: &[f32]) -> Option<(usize, f32)> {
    scores.iter().copied().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// A box around its centre.
fn around(cx: f32, cy: f32, w: f32, h: f32) -> BBox {
    BBox::new(cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0)
}

#[cfg(test)]
mod families_tests;
#[cfg(test)]
mod stage_tests;
#[cfg(test)]
mod tests;
