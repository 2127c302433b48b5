//! SSD (Liu et al. 2016, arXiv:1512.02325) as qfgaohao/pytorch-ssd exports it, and UltraFace, which descends from that.
//!
//! Boxes `[1, anchors, 4]`, decoded (left, top, right, bottom in shares of the input, unless a manifest says otherwise), and
//! scores `[1, anchors, 1 + classes]` through the softmax, the background first.

use super::detr::{pixels, without_background};
use super::roles::{self, last_side};
use super::tensor::{lines, sigmoid};
use super::{Candidate, Decode, Filter, Graph, Output, best, shapes};
use crate::detect::model::{Background, BoxForm, OutputSpec, Scores, Unit};

#[derive(Debug)]
pub(super) struct Ssd {
    boxes: usize,
    scores: usize,
    columns: usize,
    form: BoxForm,
    unit: Unit,
    how: Scores,
    background: Background,
}

/// The places of boxes and scores, for a graph with one output of each.
pub(super) fn roles(graph: &Graph) -> Option<(usize, usize)> {
    let boxes = roles::boxes(graph)?;
    let scores = match graph.outputs.len() {
        2 => 1 - boxes,
        _ => return None,
    };
    let three = |at: usize| roles::port(graph, at).is_some_and(|port| port.shape.len() == 3);
    (three(boxes) && three(scores)).then_some((boxes, scores))
}

impl Ssd {
    pub fn new(graph: &Graph, output: &OutputSpec, classes: usize) -> Result<Self, String> {
        let background = output.background.unwrap_or(Background::First);
        let columns = classes + usize::from(background != Background::None);
        let expected =
            format!("SSD's outputs are expected: boxes f32[1,anchors,4] and scores f32[1,anchors,{columns}]");
        let (boxes, scores) = roles(graph).ok_or_else(|| expected.clone())?;
        if roles::port(graph, scores).and_then(last_side).is_some_and(|found| found != columns) {
            return Err(expected);
        }
        let how = output.scores.unwrap_or(Scores::Probabilities);
        if how == Scores::Softmax {
            return Err(
                "an SSD with its softmax inside is expected: output.scores = \"probabilities\" or \"sigmoid\"".into()
            );
        }
        Ok(Self {
            boxes,
            scores,
            columns,
            form: output.boxes.unwrap_or(BoxForm::Xyxy),
            unit: output.unit.unwrap_or(Unit::Shares),
            how,
            background,
        })
    }
}

impl Decode for Ssd {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let boxes = outputs.get(self.boxes).and_then(|output| lines(output, 4));
        let scores = outputs.get(self.scores).and_then(|output| lines(output, self.columns));
        let (Some(boxes), Some(scores)) = (boxes, scores) else {
            let columns = self.columns;
            return Err(format!(
                "boxes of [1,anchors,4] and scores of [1,anchors,{columns}] are expected, there are {}",
                shapes(outputs)
            ));
        };
        for (row, (line, numbers)) in boxes.zip(scores).enumerate() {
            let Some((class, number)) = best(without_background(numbers, self.background)) else { continue };
            let score = if self.how == Scores::Sigmoid { sigmoid(number) } else { number };
            if score >= filter.confidence
                && let Some(bbox) = pixels(line, self.form, self.unit, input)
            {
                filter.push(out, bbox, score, class, row);
            }
        }
        Ok(())
    }
}
