//! NanoDet, NanoDet-Plus (RangiLyu/nanodet) and PicoDet (Yu et al. 2021, arXiv:2111.00902): distances to the four edges as
//! distributions (Li et al. 2020, "Generalized Focal Loss", arXiv:2006.04388).
//!
//! For each stride (8, 16, 32 and perhaps 64) the classes' scores `[1, cells, classes]`, already through the sigmoid; then
//! for each stride the distances `[1, cells, 4 * bins]`, logits over 0, 1, … `bins − 1` strides. NanoDet-Plus gives both
//! side by side and the strides one after another, `[1, cells, classes + 4 * bins]`. A side that is no multiple of a stride
//! has one cell more.

use super::{Candidate, Decode, Filter, Graph, Output, best, graph::Port, graph::fits, shapes, sides};
use crate::detect::model::{InputSize, InputSpec};
use crate::media::BBox;

/// The strides that are known, by their number.
const STRIDES: [usize; 4] = [8, 16, 32, 64];

/// The bins of a NanoDet-Plus, where nothing else tells them from the classes.
const JOINED_BINS: usize = 8;

/// More bins than any published model has.
const MAX_BINS: usize = 64;

#[derive(Debug)]
pub(super) struct Nanodet {
    strides: &'static [usize],
    classes: usize,
    bins: usize,
    joined: bool,
    weights: Vec<f32>,
}

fn grid(stride: usize, (width, height): (usize, usize)) -> (usize, usize) {
    (width.div_ceil(stride), height.div_ceil(stride))
}

/// How many cells all strides have together.
fn all_cells(strides: &[usize], size: (usize, usize)) -> usize {
    strides.iter().map(|&stride| grid(stride, size)).map(|(columns, rows)| columns * rows).sum()
}

/// The strides, the classes and the bins of a graph with one pair of outputs for each stride.
fn split(graph: &Graph, size: (usize, usize)) -> Option<(&'static [usize], usize, usize)> {
    let count = graph.outputs.len() / 2;
    let strides = STRIDES.get(..count).filter(|_| count >= 3 && graph.outputs.len() == 2 * count)?;
    let (scores, distances) = graph.outputs.split_at(count);
    let columns = |port: &Port, stride: usize| match port.shape.as_slice() {
        &[batch, cells, columns] if fits(batch, 1) => {
            let (wide, high) = grid(stride, size);
            columns.filter(|_| fits(cells, wide * high))
        }
        _ => None,
    };
    let same = |ports: &[Port]| {
        let mut all = ports.iter().zip(strides).map(|(port, &stride)| columns(port, stride));
        let first = all.next()??;
        all.all(|next| next == Some(first)).then_some(first)
    };
    let (classes, sides) = (same(scores)?, same(distances)?);
    (sides.is_multiple_of(4) && (2..=MAX_BINS).contains(&(sides / 4))).then_some((strides, classes, sides / 4))
}

/// The classes of a graph with all in one output, or `None` for another graph.
fn joined(graph: &Graph, size: (usize, usize)) -> Option<usize> {
    let [port] = graph.outputs.as_slice() else { return None };
    match port.shape.as_slice() {
        &[batch, Some(cells), Some(columns)] if fits(batch, 1) && cells == all_cells(&STRIDES, size) => {
            columns.checked_sub(4 * JOINED_BINS).filter(|&classes| classes > 0)
        }
        _ => None,
    }
}

/// How many strides and classes a graph of the family has, for an input of `size`.
pub(super) fn recognise(graph: &Graph, size: (usize, usize)) -> Option<(usize, usize)> {
    let apart = split(graph, size).map(|(strides, classes, _)| (strides.len(), classes));
    apart.or_else(|| joined(graph, size).map(|classes| (STRIDES.len(), classes)))
}

impl Nanodet {
    pub fn new(graph: &Graph, input: &InputSpec, classes: usize) -> Result<Self, String> {
        let InputSize::Fixed { width, height } = input.size else {
            return Err("NanoDet and PicoDet have an input of fixed size".into());
        };
        let size = (width, height);
        if let Some((strides, found, bins)) = split(graph, size)
            && found == classes
        {
            return Ok(Self { strides, classes, bins, joined: false, weights: Vec::new() });
        }
        if joined(graph, size) == Some(classes) {
            return Ok(Self { strides: &STRIDES, classes, bins: JOINED_BINS, joined: true, weights: Vec::new() });
        }
        Err(format!(
            "the outputs of NanoDet or PicoDet are expected for {width}×{height} pixels and {classes} classes: f32[1,\
             cells,{classes}] for strides 8, 16, 32 (and 64), then f32[1,cells,4·bins] for the same; or one f32[1,{},{}]",
            all_cells(&STRIDES, size),
            classes + 4 * JOINED_BINS
        ))
    }

    /// The cell at `(column, row)` of a level, if its best class is good enough.
    fn cell(
        &mut self,
        (scores, distances): (&[f32], &[f32]),
        place: (usize, usize, usize),
        (width, height): (f32, f32),
        filter: &Filter<'_>,
        row: usize,
        out: &mut Vec<Candidate>,
    ) {
        let Some((class, score)) = best(scores).filter(|(_, score)| *score >= filter.confidence) else { return };
        let (column, line, stride) = (place.0 as f32, place.1 as f32, place.2 as f32);
        let (x, y) = ((column + 0.5) * stride, (line + 0.5) * stride);
        let mut edges = [0.0; 4];
        for (edge, logits) in edges.iter_mut().zip(distances.chunks_exact(self.bins)) {
            *edge = expectation(logits, &mut self.weights) * stride;
        }
        let [left, top, right, bottom] = edges;
        let bbox = BBox::new(x - left, y - top, x + right, y + bottom);
        if bbox.is_finite() {
            filter.push(out, bbox.clipped(width, height), score, class, row);
        }
    }
}

/// The mean of 0, 1, … under the softmax of `logits`.
fn expectation(logits: &[f32], weights: &mut Vec<f32>) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    weights.clear();
    weights.extend(logits.iter().map(|logit| (logit - most).exp()));
    let sum: f32 = weights.iter().sum();
    weights.iter().enumerate().map(|(bin, weight)| bin as f32 * (weight / sum)).sum()
}

impl Decode for Nanodet {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let (classes, edges) = (self.classes, 4 * self.bins);
        let expected = || {
            format!("outputs of [1,cells,{classes}] and [1,cells,{edges}] are expected, there are {}", shapes(outputs))
        };
        let bounds = (input.0 as f32, input.1 as f32);
        let levels = self.strides.len();
        let mut first = 0;
        for (level, &stride) in self.strides.iter().enumerate() {
            let (columns, rows) = grid(stride, input);
            let cells = columns * rows;
            let place = |cell: usize| (cell % columns.max(1), cell / columns.max(1), stride);
            if self.joined {
                let wide = classes + edges;
                let output =
                    outputs.first().filter(|output| sides(output) == Some([1, all_cells(self.strides, input), wide]));
                let data = output.and_then(|output| output.data.get(first * wide..(first + cells) * wide));
                for (cell, line) in data.ok_or_else(expected)?.chunks_exact(wide).enumerate() {
                    self.cell(line.split_at(classes), place(cell), bounds, filter, first + cell, out);
                }
            } else {
                let data = |at: usize, wide: usize| {
                    let output = outputs.get(at)?;
                    (sides(output) == Some([1, cells, wide])).then(|| output.data.chunks_exact(wide))
                };
                let (Some(scores), Some(distances)) = (data(level, classes), data(levels + level, edges)) else {
                    return Err(expected());
                };
                for (cell, pair) in scores.zip(distances).enumerate() {
                    self.cell(pair, place(cell), bounds, filter, first + cell, out);
                }
            }
            first += cells;
        }
        Ok(())
    }
}
