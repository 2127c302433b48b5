//! CenterFace: faces as peaks of a heatmap (Xu et al. 2019, arXiv:1911.03599; Star-Clouds/CenterFace).
//!
//! Four maps at a quarter of the input's size: `heatmap[1]` (score), `scale[2]` (log height, log width, in cells),
//! `offset[2]` (y, x, in cells), `landmarks[10]`. Decoded as `centerface_ref.py` does: no peak search, suppression
//! chooses.

use super::{Filter, Graph, Output, graph::fits, shapes, sides};
use crate::detect::nms::Candidate;
use crate::media::BBox;

/// Input pixels per cell.
const STRIDE: usize = 4;

/// The channels of the four maps, in the graph's order.
const CHANNELS: [usize; 4] = [1, 2, 2, 10];

/// Whether the graph has the four maps.
pub fn check(graph: &Graph) -> Result<(), String> {
    let matches = graph.outputs.len() == CHANNELS.len()
        && graph.outputs.iter().zip(CHANNELS).all(|(port, channels)| {
            port.kind == "f32"
                && matches!(port.shape.as_slice(), &[batch, maps, _, _] if fits(batch, 1) && maps == Some(channels))
        });
    if matches {
        Ok(())
    } else {
        Err("CenterFace's outputs are expected: f32[1,1,h,w], [1,2,h,w], [1,2,h,w], [1,10,h,w], at a quarter of the \
             input's size"
            .into())
    }
}

/// Decodes the four maps of an input of `(width, height)`.
pub fn decode(
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
            filter.push(out, BBox::new(cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0), score, 0);
        }
    }
    Ok(())
}
