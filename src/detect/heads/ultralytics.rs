//! The layout of Ultralytics YOLOv5u, YOLOv8, YOLO11 and YOLO12 (docs.ultralytics.com/modes/export), exported without NMS.
//!
//! One output `[1, 4 + classes, anchors]`: centre x, centre y, width, height in input pixels, then one line of scores
//! for each class, already through the sigmoid. Behind them a pose model has x, y and perhaps visibility of each point, and a
//! segmentation model the coefficients of its masks, with prototypes as the second output. Class names, size, stride and the
//! shape of the points stand in the file's metadata.

use super::mask::{self, Prototypes};
use super::{Candidate, Decode, Filter, Graph, Output, Parts, around, cells, graph::fits, shapes, sides};
use crate::detect::model::{InputSize, InputSpec, OutputSpec};
use crate::media::KeyPoint;

#[derive(Debug)]
pub(super) struct Ultralytics {
    classes: usize,
    keypoints: Option<[usize; 2]>,
    masks: Option<Prototypes>,
    /// The best score of every anchor.
    best: Vec<f32>,
}

impl Ultralytics {
    /// The head, if the graph's first output has a line for every class and a column for every anchor.
    pub fn new(graph: &Graph, input: &InputSpec, output: &OutputSpec, classes: usize) -> Result<Self, String> {
        let InputSize::Fixed { width, height } = input.size else {
            return Err("the Ultralytics layout has an input of fixed size".into());
        };
        let anchors = cells(width, height);
        let head = Self { classes, keypoints: output.keypoints, masks: mask::find(graph), best: Vec::new() };
        let lines = head.lines();
        match graph.outputs.as_slice() {
            [port, rest @ ..]
                if rest.len() == usize::from(head.masks.is_some())
                    && matches!(port.shape.as_slice(), &[batch, found, columns]
                        if fits(batch, 1) && fits(found, lines) && fits(columns, anchors)) =>
            {
                Ok(head)
            }
            _ => Err(format!(
                "the output of Ultralytics YOLOv5u to YOLO12 is expected: f32[1,{lines},{anchors}] for {width}×{height} \
                 pixels and {classes} classes, exported with `nms=False`"
            )),
        }
    }

    fn lines(&self) -> usize {
        let points = self.keypoints.map_or(0, |[count, values]| count * values);
        4 + self.classes + points + self.masks.map_or(0, |masks| masks.channels)
    }

    /// The output and its number of anchors.
    fn first<'a>(&self, outputs: &[Output<'a>]) -> Option<(&'a [f32], usize)> {
        let output = outputs.first()?;
        match sides::<3>(output)? {
            [1, found, anchors] if found == self.lines() => Some((output.data, anchors)),
            _ => None,
        }
    }
}

/// The points of a shape (how many, values of each) whose values `number` gives by their place.
pub(super) fn points([count, values]: [usize; 2], number: impl Fn(usize) -> Option<f32>) -> Vec<KeyPoint> {
    let point = |at: usize| {
        let at = at * values;
        let confidence = if values > 2 { Some(number(at + 2)?.clamp(0.0, 1.0)) } else { None };
        Some(KeyPoint { x: number(at)?, y: number(at + 1)?, confidence: confidence.filter(|value| value.is_finite()) })
    };
    (0..count).map_while(point).collect()
}

impl Decode for Ultralytics {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        _input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let Some((data, anchors)) = self.first(outputs) else {
            return Err(format!(
                "an output of [1,{},anchors] is expected, there are {}",
                self.lines(),
                shapes(outputs)
            ));
        };
        if anchors == 0 {
            return Ok(());
        }
        let (boxes, rest) = data.split_at(4 * anchors);
        let scores = rest.get(..self.classes * anchors).unwrap_or_default();
        let best = &mut self.best;
        best.clear();
        best.resize(anchors, f32::NEG_INFINITY);
        // Class by class along the rows, not anchor by anchor down the columns: memory in order, and lanes full. Which class
        // it was is looked up for the few that pass.
        for row in scores.chunks_exact(anchors) {
            for (best, &next) in best.iter_mut().zip(row) {
                *best = if next > *best { next } else { *best };
            }
        }
        let mut rows = boxes.chunks_exact(anchors);
        let (Some(x), Some(y), Some(w), Some(h)) = (rows.next(), rows.next(), rows.next(), rows.next()) else {
            return Ok(());
        };
        let places = x.iter().zip(y).zip(w.iter().zip(h));
        for (anchor, (&score, ((&x, &y), (&w, &h)))) in best.iter().zip(places).enumerate() {
            if score >= filter.confidence {
                let is_best = |row: &[f32]| row.get(anchor).is_some_and(|&other| other >= score);
                let Some(class) = scores.chunks_exact(anchors).position(is_best) else { continue };
                filter.push(out, around(x, y, w, h), score, class, anchor);
            }
        }
        Ok(())
    }

    fn parts(&self, outputs: &[Output<'_>], input: (usize, usize), candidate: &Candidate) -> Parts {
        let Some((data, anchors)) = self.first(outputs) else { return Parts::default() };
        let number = |at: usize| data.get((4 + self.classes + at) * anchors + candidate.row).copied();
        let keypoints = self.keypoints.map(|shape| points(shape, number)).unwrap_or_default();
        let outline = self.masks.map(|masks| {
            let coefficients: Vec<f32> = (0..masks.channels).map_while(number).collect();
            masks.outline(outputs, &coefficients, &candidate.bbox, input)
        });
        Parts { keypoints, outline: outline.unwrap_or_default() }
    }
}
