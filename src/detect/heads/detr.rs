//! The DETR family: a fixed number of queries, each an object or none, without suppression.
//!
//! - Decoded in the graph, which takes the size that boxes are wanted in as its second input `orig_target_sizes` (DEIM, Huang
//!   et al. 2024, arXiv:2412.04234; D-FINE, Peng et al. 2024, arXiv:2410.13842; RT-DETR, Zhao et al. 2023, arXiv:2304.08069):
//!   labels `[1, queries]`, boxes `[1, queries, 4]` (left, top, right, bottom), scores `[1, queries]`.
//! - Raw (RT-DETR and D-FINE as Hugging Face exports them; RF-DETR, roboflow/rf-detr; DETR, Carion et al. 2020,
//!   arXiv:2005.12872): logits `[1, queries, classes]` and boxes `[1, queries, 4]` (centre and size in shares of the input).
//!   Each class through the sigmoid, and a query may give several objects, as the originals' `topk` has it; or all through the
//!   softmax with "no object" as the last class, and a query gives one.

use super::roles::{self, last_side};
use super::tensor::{class, lines, list, sigmoid};
use super::{Candidate, Decode, Filter, Graph, Output, around, shapes};
use crate::detect::model::{Background, BoxForm, OutputSpec, Scores, Unit};
use crate::media::BBox;

#[derive(Debug)]
pub(super) struct Detr {
    kind: Kind,
    boxes: usize,
    scores: usize,
    classes: usize,
    form: BoxForm,
    unit: Unit,
    probabilities: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Decoded { labels: usize },
    Raw { scores: Scores, background: Background },
}

const EXPECTED: &str = "the outputs of a DETR are expected: with a second input `orig_target_sizes` labels [1,queries], boxes \
    [1,queries,4] and scores [1,queries]; without it logits [1,queries,classes] and boxes [1,queries,4]";

/// Which of a graph's outputs are which.
pub(super) enum Roles {
    Decoded { labels: usize, boxes: usize, scores: usize },
    Raw { logits: usize, boxes: usize },
}

/// The roles of the outputs, for a graph of the family.
pub(super) fn roles(graph: &Graph) -> Option<Roles> {
    let boxes = roles::boxes(graph)?;
    let mut others = (0..graph.outputs.len()).filter(|&at| at != boxes);
    let (first, second) = (others.next()?, others.next());
    if others.next().is_some() {
        return None;
    }
    let rank = |at: usize| roles::port(graph, at).map(|port| port.shape.len());
    match second {
        None => (rank(first) == Some(3) && rank(boxes) == Some(3)).then_some(Roles::Raw { logits: first, boxes }),
        Some(second) => {
            let whole =
                |at: usize| roles::port(graph, at).is_some_and(|port| matches!(port.kind.as_str(), "i64" | "i32"));
            let (labels, scores) = match roles::named(graph, &["labels"], &["label", "class"]) {
                Some(at) if at == first => (first, second),
                Some(at) if at == second => (second, first),
                _ if whole(first) => (first, second),
                _ if whole(second) => (second, first),
                _ => return None,
            };
            graph.size_input()?;
            Some(Roles::Decoded { labels, boxes, scores })
        }
    }
}

impl Detr {
    pub fn new(graph: &Graph, output: &OutputSpec, classes: usize) -> Result<Self, String> {
        let (kind, boxes, scores) = match roles(graph).ok_or(EXPECTED)? {
            Roles::Decoded { labels, boxes, scores } => (Kind::Decoded { labels }, boxes, scores),
            Roles::Raw { logits, boxes } => {
                let columns = roles::port(graph, logits).and_then(last_side);
                let scores = output.scores.unwrap_or(Scores::Sigmoid);
                let background = output.background.unwrap_or(match scores {
                    Scores::Softmax => Background::Last,
                    _ => Background::None,
                });
                let expected = classes + usize::from(background != Background::None);
                if columns.is_some_and(|columns| columns != expected) {
                    return Err(format!("{EXPECTED}; for {classes} classes [1,queries,{expected}]"));
                }
                (Kind::Raw { scores, background }, boxes, logits)
            }
        };
        let raw = matches!(kind, Kind::Raw { .. });
        let form = output.boxes.unwrap_or(if raw { BoxForm::Cxcywh } else { BoxForm::Xyxy });
        let unit = output.unit.unwrap_or(if raw { Unit::Shares } else { Unit::Pixels });
        Ok(Self { kind, boxes, scores, classes, form, unit, probabilities: Vec::new() })
    }
}

/// A box in pixels of the input of `(width, height)`, from its four numbers.
pub(super) fn pixels(line: &[f32], form: BoxForm, unit: Unit, (width, height): (usize, usize)) -> Option<BBox> {
    let &[a, b, c, d] = line else { return None };
    let (w, h) = match unit {
        Unit::Pixels => (1.0, 1.0),
        Unit::Shares => (width as f32, height as f32),
    };
    Some(match form {
        BoxForm::Xyxy => BBox::new(a * w, b * h, c * w, d * h),
        BoxForm::Yxyx => BBox::new(b * w, a * h, d * w, c * h),
        BoxForm::Cxcywh => around(a * w, b * h, c * w, d * h),
    })
}

/// `numbers` through the softmax, in place.
fn softmax(numbers: &mut [f32]) {
    let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    numbers.iter_mut().for_each(|number| *number = (*number - most).exp());
    let sum: f32 = numbers.iter().sum();
    numbers.iter_mut().for_each(|number| *number /= sum);
}

/// The numbers of a line that stand for classes.
pub(super) fn without_background(line: &[f32], background: Background) -> &[f32] {
    match background {
        Background::None => line,
        Background::First => line.get(1..).unwrap_or_default(),
        Background::Last => line.get(..line.len().saturating_sub(1)).unwrap_or_default(),
    }
}

impl Decode for Detr {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let Self { kind, boxes, scores, classes, form, unit, probabilities } = self;
        let expected = || format!("{EXPECTED}; there are {}", shapes(outputs));
        let places = outputs.get(*boxes).and_then(|output| lines(output, 4)).ok_or_else(expected)?;
        match *kind {
            Kind::Decoded { labels } => {
                let numbers = |at: usize| outputs.get(at).and_then(list).filter(|list| list.len() == places.len());
                let (labels, scores) = numbers(labels).zip(numbers(*scores)).ok_or_else(expected)?;
                for (row, (line, (&label, &score))) in places.zip(labels.iter().zip(scores)).enumerate() {
                    if score >= filter.confidence
                        && let Some(class) = class(label).filter(|class| class < classes)
                        && let Some(bbox) = pixels(line, *form, *unit, input)
                    {
                        filter.push(out, bbox, score, class, row);
                    }
                }
            }
            Kind::Raw { scores: how, background } => {
                let columns = *classes + usize::from(background != Background::None);
                let logits = outputs.get(*scores).and_then(|output| lines(output, columns)).ok_or_else(expected)?;
                if logits.len() != places.len() {
                    return Err(expected());
                }
                // Nearly all numbers are far below the threshold: that is seen without the sigmoid, but for a hair's breadth.
                let least = match how {
                    Scores::Sigmoid => (filter.confidence / (1.0 - filter.confidence)).ln() - 0.001,
                    _ => filter.confidence,
                };
                for (row, (line, numbers)) in places.zip(logits).enumerate() {
                    let Some(bbox) = pixels(line, *form, *unit, input) else { continue };
                    if how == Scores::Softmax {
                        probabilities.clear();
                        probabilities.extend_from_slice(numbers);
                        softmax(probabilities);
                        if let Some((class, score)) = super::best(without_background(probabilities, background)) {
                            filter.push(out, bbox, score, class, row);
                        }
                        continue;
                    }
                    for (class, &number) in without_background(numbers, background).iter().enumerate() {
                        if number >= least {
                            let score = if how == Scores::Sigmoid { sigmoid(number) } else { number };
                            filter.push(out, bbox, score, class, row);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
