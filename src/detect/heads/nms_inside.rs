//! Models that suppress inside their graph.
//!
//! - Boxes `[1, count, 4]`, scores `[1, count]`, classes `[1, count]`, and perhaps how many of them are valid: TensorFlow's
//!   object detection (`detection_boxes` as top, left, bottom, right in shares), `EfficientNMS_TRT` (`num_dets`, `det_boxes`,
//!   … in pixels), torchvision (`boxes`, `labels`, `scores`, `[count, …]` in pixels).
//! - One output `[count, 7]`: picture, left, top, right, bottom in pixels, class, score (YOLOv7's `--end2end` for ONNX Runtime).

use super::detr::pixels;
use super::roles::{self, named};
use super::tensor::{class, lines, list};
use super::{Candidate, Decode, Filter, Graph, Output, graph::fits, shapes};
use crate::detect::model::{Background, BoxForm, OutputSpec, Unit};
use crate::media::BBox;

#[derive(Debug)]
pub(super) struct NmsInside {
    kind: Kind,
    classes: usize,
    /// What the class's number of the first label is.
    first: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Lines,
    Apart { roles: Roles, form: BoxForm, unit: Unit },
}

/// Which of a graph's outputs are which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roles {
    boxes: usize,
    scores: usize,
    classes: usize,
    count: Option<usize>,
    /// How the boxes are given, where their name tells it.
    pub form: Option<(BoxForm, Unit)>,
    /// Whether the names are `TensorFlow`'s or torchvision's, which number classes as COCO does.
    pub category_ids: bool,
}

/// The roles of the outputs, for a graph of the family.
pub(super) fn roles(graph: &Graph) -> Option<Roles> {
    let boxes = named(graph, &["detection_boxes", "det_boxes", "boxes"], &["box"])?;
    let scores = named(graph, &["detection_scores", "det_scores", "scores"], &["score"])?;
    let classes = named(graph, &["detection_classes", "det_classes", "labels"], &["class", "label"])?;
    let count = named(graph, &["num_detections", "num_dets"], &["num"]);
    let name = roles::port(graph, boxes)?.name.as_str();
    let form = match name {
        _ if name.starts_with("detection_boxes") => Some((BoxForm::Yxyx, Unit::Shares)),
        "det_boxes" | "boxes" => Some((BoxForm::Xyxy, Unit::Pixels)),
        _ => None,
    };
    let category_ids = name != "det_boxes";
    Some(Roles { boxes, scores, classes, count, form, category_ids })
}

/// Whether a graph has the one output `[count, 7]`.
pub(super) fn has_lines(graph: &Graph) -> bool {
    matches!(graph.outputs.as_slice(), [port] if matches!(port.shape.as_slice(), &[_, Some(7)]))
}

impl NmsInside {
    pub fn new(graph: &Graph, output: &OutputSpec, classes: usize) -> Result<Self, String> {
        let first = match output.background {
            Some(Background::First) => 1,
            _ => 0,
        };
        if has_lines(graph) {
            return Ok(Self { kind: Kind::Lines, classes, first });
        }
        let roles = roles(graph).ok_or(
            "outputs of a model that suppresses inside are expected: boxes [1,count,4], scores [1,count], classes \
             [1,count], perhaps their number; or one [count,7]",
        )?;
        let four = roles::port(graph, roles.boxes)
            .is_some_and(|port| fits(port.shape.last().copied().flatten(), 4) && (2..=3).contains(&port.shape.len()));
        let form = output.boxes.or(roles.form.map(|(form, _)| form));
        let unit = output.unit.or(roles.form.map(|(_, unit)| unit));
        match form.zip(unit) {
            Some((form, unit)) if four => Ok(Self { kind: Kind::Apart { roles, form, unit }, classes, first }),
            Some(_) => Err("boxes [1,count,4] are expected".into()),
            None => {
                Err("the names of the outputs do not tell how boxes are given: `[output]` with boxes = \"xyxy\" (or \
                         \"yxyx\", \"cxcywh\") and unit = \"pixels\" (or \"shares\") is expected in the manifest"
                    .into())
            }
        }
    }

    fn label(&self, number: f32) -> Option<usize> {
        class(number)?.checked_sub(self.first).filter(|&class| class < self.classes)
    }
}

impl Decode for NmsInside {
    fn decode(
        &mut self,
        outputs: &[Output<'_>],
        input: (usize, usize),
        filter: &Filter<'_>,
        out: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        let Kind::Apart { roles, form, unit } = self.kind else {
            let Some(all) = outputs.first().and_then(|output| lines(output, 7)) else {
                return Err(format!("an output of [count,7] is expected, there are {}", shapes(outputs)));
            };
            for (row, line) in all.enumerate() {
                if let &[_, x1, y1, x2, y2, label, score] = line
                    && let Some(class) = self.label(label)
                {
                    filter.push(out, BBox::new(x1, y1, x2, y2), score, class, row);
                }
            }
            return Ok(());
        };
        let boxes = outputs.get(roles.boxes).and_then(|output| lines(output, 4));
        let numbers = |at: usize| outputs.get(at).and_then(list);
        let (Some(boxes), Some(scores), Some(labels)) = (boxes, numbers(roles.scores), numbers(roles.classes)) else {
            return Err(format!(
                "boxes [1,count,4], scores [1,count] and classes [1,count] are expected, there are {}",
                shapes(outputs)
            ));
        };
        let valid = match roles.count {
            // What is no number is none at all.
            Some(at) => numbers(at).and_then(|list| class(*list.first()?)).unwrap_or(0),
            None => usize::MAX,
        };
        for (row, (line, (&score, &label))) in boxes.zip(scores.iter().zip(labels)).take(valid).enumerate() {
            if let Some(class) = self.label(label)
                && let Some(bbox) = pixels(line, form, unit, input)
            {
                filter.push(out, bbox, score, class, row);
            }
        }
        Ok(())
    }
}
