//! YOLOX (Ge et al. 2021, arXiv:2107.08430; Megvii-BaseDetection/YOLOX), exported without its decoding.
//!
//! One output `[1, anchors, 5 + classes]`, the grids of strides 8, 16 and 32 one after another, row by row. A line is
//! `x, y` (cells from the cell's corner), `log w, log h` (cells), objectness, and the classes' scores, the scores
//! already through the sigmoid.

use super::{Candidate, Decode, Filter, Graph, Output, around, best, cells, graph::fits, shapes, sides};
use crate::detect::model::{InputSize, InputSpec};

const STRIDES: [usize; 3] = [8, 16, 32];

#[derive(Debug)]
pub(super) struct Yolox {
    classes: usize,
}

impl Yolox {
    /// The head, if the graph's one output has a line for every cell and a column for every class.
    pub fn new(graph: &Graph, input: &InputSpec, classes: usize) -> Result<Self, String> {
        let InputSize::Fixed { width, height } = input.size else {
            return Err("YOLOX has an input of fixed size".into());
        };
        if width % 32 != 0 || height % 32 != 0 {
            return Err(format!("YOLOX has sides that are multiples of 32, not {width}×{height}"));
        }
        let anchors = cells(width, height);
        match graph.outputs.as_slice() {
            [port]
                if matches!(port.shape.as_slice(), &[batch, lines, columns]
                    if fits(batch, 1) && fits(lines, anchors) && fits(columns, 5 + classes)) =>
            {
                Ok(Self { classes })
            }
            _ => Err(format!(
                "YOLOX's output is expected: f32[1,{anchors},{}] for {width}×{height} pixels and {classes} classes",
                5 + classes
            )),
        }
    }
}

impl Decode for Yolox {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        (width, height): (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let (anchors, columns) = (cells(width, height), 5 + self.classes);
        let output = outputs.first().filter(|output| sides(output) == Some([1, anchors, columns]));
        let Some(output) = output else {
            return Err(format!("an output of [1,{anchors},{columns}] is expected, there are {}", shapes(outputs)));
        };
        let mut lines = output.data.chunks_exact(columns).enumerate();
        for stride in STRIDES {
            let (rows, columns) = (height / stride, width / stride);
            for row in 0..rows {
                // In this order, or the end of each row would take a line.
                for (column, (at, line)) in (0..columns).zip(&mut lines) {
                    let &[x, y, log_w, log_h, objectness, ref scores @ ..] = line else { continue };
                    // Class scores are at most 1, so that most lines end here.
                    if objectness >= filter.confidence {
                        let Some((class, best)) = best(scores) else { continue };
                        let side = stride as f32;
                        let (cx, cy) = ((x + column as f32) * side, (y + row as f32) * side);
                        let bbox = around(cx, cy, log_w.exp() * side, log_h.exp() * side);
                        filter.push(out, bbox, objectness * best, class, at);
                    }
                }
            }
        }
        Ok(())
    }
}
