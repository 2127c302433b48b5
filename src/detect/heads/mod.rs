//! Raw outputs of a network to candidates in input pixels: one file per model family.
//!
//! Belongs here: what the numbers of a family's outputs mean, and how to recognise a family by the outside of its
//! graph. Does not belong here: thresholds' defaults (manifest), suppression (`nms`), and any runtime's types.
//!
//! Outputs are outside data: whatever a network answers (NaN, infinity, other shapes) costs at most that picture.

mod centerface;
mod graph;
mod identify;
mod metadata;
mod ultralytics;
mod yolox;

use super::model::{Family, InputSize, InputSpec};
use super::nms::Candidate;
use crate::media::BBox;

pub use graph::{Graph, Port};
pub use identify::{Identified, identify};

/// One output tensor, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Its sides.
    pub shape: &'a [i64],
    /// Its values.
    pub data: &'a [f32],
}

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

    /// Takes a candidate if it is wanted and its numbers are numbers.
    fn push(&self, out: &mut Vec<Candidate>, bbox: BBox, score: f32, class_id: usize) {
        if score >= self.confidence && score.is_finite() && bbox.is_finite() && self.wants(class_id) {
            let class_id = u32::try_from(class_id).unwrap_or(u32::MAX);
            out.push(Candidate { bbox, score: score.min(1.0), class_id });
        }
    }
}

/// The decoding of one model's outputs. Keeps its buffers.
#[derive(Debug)]
pub struct Head {
    kind: Kind,
    classes: usize,
}

#[derive(Debug)]
enum Kind {
    Centerface,
    Yolox,
    Ultralytics(ultralytics::Buffers),
}

impl Head {
    /// The head for `family`, once the graph is seen to have the outputs that it decodes.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn new(family: Family, graph: &Graph, input: &InputSpec, classes: usize) -> Result<Self, String> {
        let (width, height) = graph.image_input()?;
        match input.size {
            InputSize::Fixed { width: w, height: h } if !graph::fits(width, w) || !graph::fits(height, h) => {
                return Err(format!("an input of {w}×{h} pixels is expected"));
            }
            InputSize::LongerSide { side, .. } if width.is_some() || height.is_some() => {
                return Err(format!("an input of free width and height is expected, for {side} on the longer side"));
            }
            _ => {}
        }
        let kind = match family {
            Family::Centerface => {
                centerface::check(graph)?;
                Kind::Centerface
            }
            Family::Yolox => {
                yolox::check(graph, input, classes)?;
                Kind::Yolox
            }
            Family::Ultralytics => {
                ultralytics::check(graph, input, classes)?;
                Kind::Ultralytics(ultralytics::Buffers::default())
            }
            Family::Motion => return Err("the motion detector has no network".into()),
        };
        Ok(Self { kind, classes })
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
        match &mut self.kind {
            Kind::Centerface => centerface::decode(outputs, input, filter, out),
            Kind::Yolox => yolox::decode(outputs, input, self.classes, filter, out),
            Kind::Ultralytics(buffers) => ultralytics::decode(outputs, self.classes, buffers, filter, out),
        }
    }
}

/// The sides of an output as unsigned numbers, if its data has that many values.
fn sides<const N: usize>(output: &Output<'_>) -> Option<[usize; N]> {
    let mut sides = [0; N];
    if output.shape.len() != N {
        return None;
    }
    for (side, &given) in sides.iter_mut().zip(output.shape) {
        *side = usize::try_from(given).ok()?;
    }
    let len = sides.iter().try_fold(1usize, |len, &side| len.checked_mul(side))?;
    (len == output.data.len()).then_some(sides)
}

/// How many cells the grids of strides 8, 16 and 32 have together, for sides that are multiples of 32.
fn cells(width: usize, height: usize) -> usize {
    [8, 16, 32].iter().map(|stride| (width / stride) * (height / stride)).sum()
}

/// The shapes that came, for an error.
fn shapes(outputs: &[Output<'_>]) -> String {
    outputs.iter().map(|output| format!("{:?}", output.shape)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
