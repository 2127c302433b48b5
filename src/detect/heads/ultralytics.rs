//! The detection layout of Ultralytics YOLOv8 and YOLO11 (docs.ultralytics.com/modes/export), exported without NMS.
//!
//! One output `[1, 4 + classes, anchors]`: centre x, centre y, width, height in input pixels, then one line of scores
//! for each class, already through the sigmoid. Class names, size and stride stand in the file's metadata.

use super::{Filter, Graph, Output, cells, graph::fits, shapes, sides};
use crate::detect::model::{InputSize, InputSpec};
use crate::detect::nms::Candidate;
use crate::media::BBox;

/// The best score of every anchor.
#[derive(Debug, Default)]
pub struct Buffers {
    best: Vec<f32>,
}

/// Whether the graph's one output has a line for every class and a column for every anchor.
pub fn check(graph: &Graph, input: &InputSpec, classes: usize) -> Result<(), String> {
    let InputSize::Fixed { width, height } = input.size else {
        return Err("the Ultralytics layout has an input of fixed size".into());
    };
    let anchors = cells(width, height);
    match graph.outputs.as_slice() {
        [port]
            if port.kind == "f32"
                && matches!(port.shape.as_slice(), &[batch, lines, columns]
                    if fits(batch, 1) && fits(lines, 4 + classes) && fits(columns, anchors)) =>
        {
            Ok(())
        }
        _ => Err(format!(
            "the output of Ultralytics YOLOv8 or YOLO11 is expected: f32[1,{},{anchors}] for {width}×{height} pixels \
             and {classes} classes, exported with `nms=False`",
            4 + classes
        )),
    }
}

/// Decodes the output.
pub fn decode(
    outputs: &[Output<'_>],
    classes: usize,
    buffers: &mut Buffers,
    filter: &Filter<'_>,
    out: &mut Vec<Candidate>,
) -> Result<(), String> {
    let lines = 4 + classes;
    let output = outputs.first().and_then(|output| Some((output, sides::<3>(output)?)));
    let (output, anchors) = match output {
        Some((output, [1, found, anchors])) if found == lines => (output, anchors),
        _ => return Err(format!("an output of [1,{lines},anchors] is expected, there are {}", shapes(outputs))),
    };
    if anchors == 0 {
        return Ok(());
    }
    let (boxes, scores) = output.data.split_at(4 * anchors);
    let Buffers { best } = buffers;
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
            let bbox = BBox::new(x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0);
            filter.push(out, bbox, score, class);
        }
    }
    Ok(())
}
