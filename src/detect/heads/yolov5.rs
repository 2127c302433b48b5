//! YOLOv5 (ultralytics/yolov5, its own `export.py`) and YOLOv7 (Wang et al. 2022, arXiv:2207.02696), exported without NMS.
//!
//! One output `[1, anchors, 5 + classes]`: centre x, centre y, width, height in input pixels, objectness, the classes' scores.
//! A model for segmentation has the coefficients of its masks behind them, and prototypes as its second output.

use super::mask::{self, Prototypes};
use super::{Candidate, Decode, Filter, Graph, Output, Parts, around, best, graph::fits, shapes, sides};

#[derive(Debug)]
pub(super) struct Yolov5 {
    classes: usize,
    masks: Option<Prototypes>,
}

impl Yolov5 {
    pub fn new(graph: &Graph, classes: usize) -> Result<Self, String> {
        let masks = mask::find(graph);
        let columns = 5 + classes + masks.map_or(0, |masks| masks.channels);
        match graph.outputs.as_slice() {
            [port, rest @ ..]
                if rest.len() == usize::from(masks.is_some())
                    && matches!(port.shape.as_slice(), &[batch, _, found] if fits(batch, 1) && fits(found, columns)) =>
            {
                Ok(Self { classes, masks })
            }
            _ => Err(format!(
                "the output of YOLOv5 or YOLOv7 is expected: f32[1,anchors,{columns}] for {classes} classes, exported \
                 without NMS"
            )),
        }
    }

    fn columns(&self) -> usize {
        5 + self.classes + self.masks.map_or(0, |masks| masks.channels)
    }
}

impl Decode for Yolov5 {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        _input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let columns = self.columns();
        let output = outputs.first().filter(|output| matches!(sides(output), Some([1, _, found]) if found == columns));
        let Some(output) = output else {
            return Err(format!("an output of [1,anchors,{columns}] is expected, there are {}", shapes(outputs)));
        };
        for (row, line) in output.data.chunks_exact(columns).enumerate() {
            let &[x, y, w, h, objectness, ref rest @ ..] = line else { continue };
            // Class scores are at most 1, so that most lines end here.
            if objectness >= filter.confidence {
                let Some((class, score)) = rest.get(..self.classes).and_then(best) else { continue };
                filter.push(out, around(x, y, w, h), objectness * score, class, row);
            }
        }
        Ok(())
    }

    fn parts(&self, outputs: &[Output<'_>], input: (usize, usize), candidate: &Candidate) -> Parts {
        let line = outputs.first().and_then(|output| output.data.chunks_exact(self.columns()).nth(candidate.row));
        let coefficients = line.and_then(|line| line.get(5 + self.classes..));
        let (Some(masks), Some(coefficients)) = (self.masks, coefficients) else { return Parts::default() };
        Parts { outline: masks.outline(outputs, coefficients, &candidate.bbox, input), ..Parts::default() }
    }
}
