//! CenterFace: faces as peaks of a heatmap (Xu et al. 2019, arXiv:1911.03599; Star-Clouds/CenterFace).
//!
//! Four maps at a quarter of the input's size: `heatmap[1]` (score), `scale[2]` (log height, log width, in cells),
//! `offset[2]` (y, x, in cells), `landmarks[10]` (five times y, x in units of the box from its upper left corner). Decoded as `centerface_ref.py` does: no peak search, suppression
//! chooses.

use super::{Candidate, Decode, Filter, Graph, Output, Parts, around, graph::fits, shapes, sides};
use crate::media::KeyPoint;

/// Input pixels per cell.
const STRIDE: usize = 4;

/// The channels of the four maps, in the graph's order.
const CHANNELS: [usize; 4] = [1, 2, 2, 10];

/// Whether the graph has the four maps.
pub fn check(graph: &Graph) -> Result<(), String> {
    let matches = graph.outputs.len() == CHANNELS.len()
        && graph.outputs.iter().zip(CHANNELS).all(|(port, channels)| {
            matches!(port.shape.as_slice(), &[batch, maps, _, _] if fits(batch, 1) && maps == Some(channels))
        });
    if matches {
        Ok(())
    } else {
        Err("CenterFace's outputs are expected: f32[1,1,h,w], [1,2,h,w], [1,2,h,w], [1,10,h,w], at a quarter of the \
             input's size"
            .into())
    }
}

#[derive(Debug)]
pub(super) struct Centerface;

impl Centerface {
    pub fn new(graph: &Graph) -> Result<Self, String> {
        check(graph).map(|()| Self)
    }
}

impl Decode for Centerface {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let (columns, rows) = (input.0 / STRIDE, input.1 / STRIDE);
        let map = |at: usize, channels: usize| {
            let output = outputs.get(at)?;
            (sides(output) == Some([1, channels, rows, columns])).then_some(output.data)
        };
        let area = rows * columns;
        let (Some(heat), Some(scale), Some(offset)) = (map(0, 1), map(1, 2), map(2, 2)) else {
            return Err(format!(
                "outputs of [1,1,{rows},{columns}], [1,2,{rows},{columns}] and [1,2,{rows},{columns}] are expected, there \
                 are {}",
                shapes(outputs)
            ));
        };
        let (log_heights, log_widths) = scale.split_at(area);
        let (offsets_y, offsets_x) = offset.split_at(area);
        let stride = STRIDE as f32;
        let cells = heat.iter().zip(log_heights.iter().zip(log_widths)).zip(offsets_y.iter().zip(offsets_x));
        for (cell, ((&score, (&log_h, &log_w)), (&dy, &dx))) in cells.enumerate() {
            if score >= filter.confidence {
                let (row, column) = (cell / columns, cell % columns);
                let (h, w) = (log_h.exp() * stride, log_w.exp() * stride);
                let (cy, cx) = ((row as f32 + dy + 0.5) * stride, (column as f32 + dx + 0.5) * stride);
                filter.push(out, around(cx, cy, w, h), score, 0, cell);
            }
        }
        Ok(())
    }

    fn parts(&self, outputs: &[Output<'_>], input: (usize, usize), candidate: &Candidate) -> Parts {
        let area = (input.0 / STRIDE) * (input.1 / STRIDE);
        let maps = outputs.get(3).filter(|output| output.data.len() == 10 * area).map(|output| output.data);
        let Some(maps) = maps.filter(|_| area > 0) else { return Parts::default() };
        let bbox = candidate.bbox;
        let (w, h) = (bbox.x2 - bbox.x1, bbox.y2 - bbox.y1);
        let mut numbers = maps.chunks_exact(area).map(|map| map.get(candidate.row).copied());
        let mut keypoints = Vec::with_capacity(5);
        while let (Some(Some(y)), Some(Some(x))) = (numbers.next(), numbers.next()) {
            keypoints.push(KeyPoint { x: bbox.x1 + x * w, y: bbox.y1 + y * h, confidence: None });
        }
        Parts { keypoints, ..Parts::default() }
    }
}
