//! Finished lines: YOLOv10 (Wang et al. 2024, arXiv:2405.14458), YOLO26, and Ultralytics exports with `nms=True`.
//!
//! One output `[1, count, 6]`: left, top, right, bottom in input pixels, score, class. Behind them a pose model has its key
//! points, and a segmentation model the coefficients of its masks, with prototypes as the second output.

use super::mask::{self, Prototypes};
use super::tensor::{class, lines};
use super::ultralytics::points;
use super::{Candidate, Decode, Filter, Graph, Output, Parts, graph::fits, shapes};
use crate::detect::model::OutputSpec;
use crate::media::BBox;

#[derive(Debug)]
pub(super) struct EndToEnd {
    classes: usize,
    masks: Option<Prototypes>,
    keypoints: Option<[usize; 2]>,
}

/// The numbers of a line that every object has.
const COMMON: usize = 6;

impl EndToEnd {
    pub fn new(graph: &Graph, output: &OutputSpec, classes: usize) -> Result<Self, String> {
        let masks = mask::find(graph);
        let head = Self { classes, masks, keypoints: output.keypoints };
        let columns = head.columns();
        match graph.outputs.as_slice() {
            [port, rest @ ..]
                if rest.len() == usize::from(masks.is_some())
                    && matches!(port.shape.as_slice(), &[batch, _, found] if fits(batch, 1) && fits(found, columns)) =>
            {
                Ok(head)
            }
            _ => Err(format!("finished lines f32[1,count,{columns}] are expected")),
        }
    }

    fn columns(&self) -> usize {
        let points = self.keypoints.map_or(0, |[count, values]| count * values);
        COMMON + points + self.masks.map_or(0, |masks| masks.channels)
    }
}

impl Decode for EndToEnd {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        _input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let columns = self.columns();
        let Some(all) = outputs.first().and_then(|output| lines(output, columns)) else {
            return Err(format!("an output of [1,count,{columns}] is expected, there are {}", shapes(outputs)));
        };
        for (row, line) in all.enumerate() {
            let &[x1, y1, x2, y2, score, label, ..] = line else { continue };
            if score >= filter.confidence
                && let Some(class) = class(label).filter(|&class| class < self.classes)
            {
                filter.push(out, BBox::new(x1, y1, x2, y2), score, class, row);
            }
        }
        Ok(())
    }

    fn parts(&self, outputs: &[Output<'_>], input: (usize, usize), candidate: &Candidate) -> Parts {
        let line = outputs.first().and_then(|output| output.data.chunks_exact(self.columns()).nth(candidate.row));
        let Some(extra) = line.and_then(|line| line.get(COMMON..)) else { return Parts::default() };
        let number = |at: usize| extra.get(at).copied();
        let keypoints = self.keypoints.map(|shape| points(shape, number)).unwrap_or_default();
        let outline = self.masks.map(|masks| masks.outline(outputs, extra, &candidate.bbox, input)).unwrap_or_default();
        Parts { keypoints, outline }
    }
}
