//! Masks of the Ultralytics segmentation models (after YOLACT, Bolya et al. 2019, arXiv:1904.02689): an object's mask is a sum of
//! prototypes `[1, channels, height, width]`, the second output, weighted by the object's coefficients, cut to its box.

use super::outline::{Field, trace};
use super::{Graph, Output, graph::fits, roles, sides};
use crate::media::BBox;

/// More prototypes than any published model has.
const MAX_CHANNELS: usize = 256;

/// The finest grid that is summed up: every object costs channels × cells of its box.
const MAX_SIDE: usize = 512;

/// The prototypes of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prototypes {
    /// How many.
    pub channels: usize,
}

/// The prototypes, if the second of two outputs is such.
pub(super) fn find(graph: &Graph) -> Option<Prototypes> {
    let port = roles::port(graph, 1).filter(|_| graph.outputs.len() == 2)?;
    match port.shape.as_slice() {
        &[batch, Some(channels), _, _] if fits(batch, 1) && (1..=MAX_CHANNELS).contains(&channels) => {
            Some(Prototypes { channels })
        }
        _ => None,
    }
}

impl Prototypes {
    /// The outline of the mask in `bbox`, in input pixels; empty where there is none.
    pub fn outline(
        self,
        outputs: &[Output<'_>],
        coefficients: &[f32],
        bbox: &BBox,
        (width, height): (usize, usize),
    ) -> Vec<[f32; 2]> {
        let Some((output, [1, channels, rows, columns])) =
            outputs.get(1).and_then(|output| Some((output, sides::<4>(output)?)))
        else {
            return Vec::new();
        };
        let usable = channels == self.channels && coefficients.len() == channels;
        if !usable || rows.max(columns) > MAX_SIDE || rows * columns == 0 {
            return Vec::new();
        }
        let scale = (width as f32 / columns as f32, height as f32 / rows as f32);
        let bbox = bbox.clipped(width as f32, height as f32);
        // A network may give its corners the wrong way round.
        if bbox.x1 >= bbox.x2 || bbox.y1 >= bbox.y2 {
            return Vec::new();
        }
        let (x, y) =
            (span(bbox.x1 / scale.0, bbox.x2 / scale.0, columns), span(bbox.y1 / scale.1, bbox.y2 / scale.1, rows));
        let (wide, high) = (x.1 - x.0, y.1 - y.0);
        let mut values = vec![0.0; wide * high];
        for (plane, &weight) in output.data.chunks_exact(rows * columns).zip(coefficients) {
            let lines = plane.chunks_exact(columns).skip(y.0);
            for (sums, line) in values.chunks_exact_mut(wide.max(1)).zip(lines) {
                for (sum, &value) in sums.iter_mut().zip(line.get(x.0..x.1).unwrap_or_default()) {
                    *sum += weight * value;
                }
            }
        }
        let corners = trace(&Field { values: &values, width: wide });
        let back = |[px, py]: [f32; 2]| {
            [
                ((px + x.0 as f32) * scale.0).clamp(bbox.x1, bbox.x2),
                ((py + y.0 as f32) * scale.1).clamp(bbox.y1, bbox.y2),
            ]
        };
        corners.into_iter().map(back).collect()
    }
}

/// The cells from `low` to `high` that lie in `0..side`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, and makes NaN 0
fn span(low: f32, high: f32, side: usize) -> (usize, usize) {
    let low = (low.floor() as usize).min(side);
    (low, (high.ceil() as usize).clamp(low, side))
}
