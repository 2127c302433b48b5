//! YuNet (Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector"; ShiqiYu/libfacedetection.train, OpenCV's
//! `FaceDetectorYN`): faces with five landmarks.
//!
//! Twelve outputs: for the strides 8, 16 and 32 the class's score `[1, cells, 1]`, then objectness `[1, cells, 1]`, boxes
//! `[1, cells, 4]` (offset of the centre and logarithm of the size, in cells) and landmarks `[1, cells, 10]` (offsets in
//! cells). The score is the geometric mean of the first two.

use super::{Candidate, Decode, Filter, Graph, Output, Parts, around, graph::fits, shapes, sides};
use crate::detect::model::{InputSize, InputSpec};
use crate::media::KeyPoint;

const STRIDES: [usize; 3] = [8, 16, 32];

/// The last sides of the four groups of outputs: score, objectness, box, landmarks.
const COLUMNS: [usize; 4] = [1, 1, 4, 10];

#[derive(Debug)]
pub(super) struct Yunet;

/// Whether a graph has YuNet's outputs.
pub(super) fn check(graph: &Graph) -> Result<(), String> {
    let columns = COLUMNS.iter().flat_map(|&columns| [columns; STRIDES.len()]);
    let matches = graph.outputs.len() == COLUMNS.len() * STRIDES.len()
        && graph.outputs.iter().zip(columns).all(|(port, columns)| {
            matches!(port.shape.as_slice(), &[batch, _, last] if fits(batch, 1) && last == Some(columns))
        });
    if matches {
        return Ok(());
    }
    Err("YuNet's twelve outputs are expected: for strides 8, 16 and 32 scores f32[1,cells,1], objectness f32[1,cells,1], \
         boxes f32[1,cells,4] and landmarks f32[1,cells,10]"
        .into())
}

impl Yunet {
    pub fn new(graph: &Graph, input: &InputSpec) -> Result<Self, String> {
        check(graph)?;
        let multiple = match input.size {
            InputSize::Fixed { width, height } => width % 32 == 0 && height % 32 == 0,
            InputSize::LongerSide { multiple, .. } | InputSize::Source { multiple, .. } => multiple % 32 == 0,
        };
        if multiple { Ok(Self) } else { Err("YuNet has sides that are multiples of 32".into()) }
    }
}

/// The values of output `group` at `level`, cell by cell.
fn values<'a>(outputs: &[Output<'a>], group: usize, level: usize, cells: usize) -> Option<&'a [f32]> {
    let output = outputs.get(group * STRIDES.len() + level)?;
    (sides(output) == Some([1, cells, *COLUMNS.get(group)?])).then_some(output.data)
}

impl Decode for Yunet {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        (width, height): (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let mut first = 0;
        for (level, stride) in STRIDES.into_iter().enumerate() {
            let (columns, rows) = (width / stride, height / stride);
            let cells = columns * rows;
            let group = |group| values(outputs, group, level, cells);
            let (Some(scores), Some(objectness), Some(boxes), Some(_)) = (group(0), group(1), group(2), group(3))
            else {
                return Err(format!(
                    "outputs of [1,{cells},1], [1,{cells},1], [1,{cells},4] and [1,{cells},10] are expected for stride \
                     {stride}, there are {}",
                    shapes(outputs)
                ));
            };
            let stride = stride as f32;
            let lines = scores.iter().zip(objectness).zip(boxes.as_chunks::<4>().0);
            for (cell, ((&score, &objectness), &[x, y, log_w, log_h])) in lines.enumerate() {
                let score = (score.clamp(0.0, 1.0) * objectness.clamp(0.0, 1.0)).sqrt();
                if score >= filter.confidence {
                    let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
                    let (cx, cy) = ((column + x) * stride, (row + y) * stride);
                    let bbox = around(cx, cy, log_w.exp() * stride, log_h.exp() * stride);
                    filter.push(out, bbox, score, 0, first + cell);
                }
            }
            first += cells;
        }
        Ok(())
    }

    fn parts(&self, outputs: &[Output<'_>], (width, height): (usize, usize), candidate: &Candidate) -> Parts {
        let mut cell = candidate.row;
        for (level, stride) in STRIDES.into_iter().enumerate() {
            let (columns, rows) = (width / stride, height / stride);
            let cells = columns * rows;
            if cell >= cells {
                cell -= cells;
                continue;
            }
            let landmarks = values(outputs, 3, level, cells).and_then(|data| data.as_chunks::<10>().0.get(cell));
            let (column, row, stride) = ((cell % columns) as f32, (cell / columns) as f32, stride as f32);
            let point = |pair: &[f32; 2]| KeyPoint {
                x: (pair[0] + column) * stride,
                y: (pair[1] + row) * stride,
                confidence: None,
            };
            let keypoints = landmarks.map(|ten| ten.as_chunks::<2>().0.iter().map(point).collect());
            return Parts { keypoints: keypoints.unwrap_or_default(), ..Parts::default() };
        }
        Parts::default()
    }
}
