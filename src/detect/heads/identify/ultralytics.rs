//! What Ultralytics exports say of themselves, and their layouts without that.

use super::{Identified, assumed_labels, own_size, plain};
use crate::detect::heads::graph::{Graph, ImageInput, fits};
use crate::detect::heads::{cells, mask, metadata};
use crate::detect::labels::COCO80;
use crate::detect::model::{Colour, Family, Fit, InputSize, InputSpec, OutputSpec};
use crate::detect::nms::NmsMode;

/// The points and values of the pose models that Ultralytics trained on COCO.
const COCO_POSE: [usize; 2] = [17, 3];

/// Finished lines are few; the anchors of any input are more.
const MOST_LINES: usize = 1000;

/// An export with metadata says itself what it is.
pub(super) fn identify(graph: &Graph, image: &ImageInput<'_>) -> Result<Identified, String> {
    let entry = |key: &str| graph.metadata.get(key).map(String::as_str);
    let task = entry("task").unwrap_or("detect");
    if !["detect", "segment", "pose"].contains(&task) {
        return Err(format!("an Ultralytics model for the task `{task}`; `detect`, `segment` or `pose` is expected"));
    }
    let Some(labels) = entry("names").and_then(metadata::names) else {
        return Err("the metadata's `names` is not a list of class names".into());
    };
    let keypoints = match (task, entry("kpt_shape")) {
        ("pose", Some(text)) => {
            let why = || format!("the metadata's `kpt_shape` is {text}; [points, 2 or 3] is expected");
            Some(metadata::keypoint_shape(text).ok_or_else(why)?)
        }
        ("pose", None) => return Err("a pose model without `kpt_shape` in its metadata".into()),
        _ => None,
    };
    let mut assumed = Vec::new();
    let size = match (image.width, image.height, entry("imgsz").and_then(metadata::image_size)) {
        (Some(width), Some(height), _) => (width, height),
        (_, _, Some(size)) => size,
        _ => {
            assumed.push("640×640 pixels: neither the input nor the metadata's `imgsz` says it".into());
            (640, 640)
        }
    };
    let stride = entry("stride").and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(32);
    if stride != 32 {
        return Err(format!("the metadata's `stride` is {stride}; 32 (with grids of 8, 16 and 32) is expected"));
    }
    if size.0 % stride != 0 || size.1 % stride != 0 {
        return Err(format!(
            "an input of {}×{} pixels; multiples of the stride, {stride}, are expected",
            size.0, size.1
        ));
    }
    let extra =
        keypoints.map_or(0, |[count, values]| count * values) + mask::find(graph).map_or(0, |masks| masks.channels);
    let says = entry("end2end").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let family = match graph.outputs.first().map(|port| port.shape.as_slice()) {
        Some(&[_, Some(lines), Some(columns)]) if lines <= MOST_LINES && columns == 6 + extra => Family::EndToEnd,
        _ if says => Family::EndToEnd,
        Some(&[_, Some(anchors), Some(columns)])
            if columns == 5 + labels.len() + extra && 3 * cells(size.0, size.1) == anchors =>
        {
            Family::Yolov5
        }
        _ => Family::Ultralytics,
    };
    let size = InputSize::Fixed { width: size.0, height: size.1 };
    Ok(layout(family, size, OutputSpec { keypoints, ..OutputSpec::default() }, labels, assumed))
}

fn layout(
    family: Family,
    size: InputSize,
    output: OutputSpec,
    labels: Vec<String>,
    assumed: Vec<String>,
) -> Identified {
    Identified {
        family,
        input: InputSpec { std: [255.0; 3], ..plain(size, Fit::LetterboxCentre, 114, Colour::Rgb) },
        output,
        labels,
        confidence: 0.25,
        iou: 0.45,
        nms: if family == Family::EndToEnd { NmsMode::None } else { NmsMode::PerClass },
        assumed,
    }
}

/// The sides of the first output of a graph with as many others as its masks need, and its anchors, where all are known.
fn sides(graph: &Graph, image: &ImageInput<'_>) -> Option<(usize, usize, usize, usize)> {
    let masks = mask::find(graph);
    let port = graph.outputs.first().filter(|_| graph.outputs.len() == 1 + usize::from(masks.is_some()))?;
    let &[batch, Some(first), Some(second)] = port.shape.as_slice() else { return None };
    let (width, height) = (image.width?, image.height?);
    let whole = fits(batch, 1) && width % 32 == 0 && height % 32 == 0 && cells(width, height) > 0;
    whole.then_some((first, second, cells(width, height), masks.map_or(0, |masks| masks.channels)))
}

/// What cannot be known: 56 lines are a pose model of 17 points, or 52 classes.
pub(super) fn ambiguous(graph: &Graph, image: &ImageInput<'_>) -> Option<String> {
    let (first, second, anchors, _) = sides(graph, image)?;
    let [count, values] = COCO_POSE;
    let pose = first == 5 + count * values && second == anchors;
    pose.then(|| {
        format!(
            "an output of {first} lines without metadata is a pose model of {count} key points or a detector of {} classes: a \
             manifest is expected with family = \"ultralytics\", labels and, for a pose model, `[output]` with keypoints = \
             [{count}, {values}]",
            first - 4
        )
    })
}

/// The same layouts, by their shapes alone.
pub(super) fn by_shape(graph: &Graph, image: &ImageInput<'_>) -> Option<Identified> {
    let (first, second, anchors, channels) = sides(graph, image)?;
    let size = own_size(image)?;
    let found = |family, classes: Option<usize>, what: &str| {
        let classes = classes.filter(|&classes| classes > 0)?;
        let (labels, names) = assumed_labels(classes);
        let why = format!("{what} by its output's shape; RGB from 0 to 1, letterboxed");
        Some(layout(family, size, OutputSpec::default(), labels, vec![why, names]))
    };
    if second == anchors {
        return found(Family::Ultralytics, first.checked_sub(4 + channels), "the Ultralytics layout");
    }
    if first == 3 * anchors {
        return found(Family::Yolov5, second.checked_sub(5 + channels), "YOLOv5 or YOLOv7");
    }
    if second == 6 + channels && first != anchors && first <= MOST_LINES {
        let why = "finished lines (YOLOv10, YOLO26) by the output's shape; RGB from 0 to 1, letterboxed";
        let names = "the class names of COCO, as the file has none";
        let labels = COCO80.map(String::from).to_vec();
        let assumed = vec![why.to_owned(), names.to_owned()];
        return Some(layout(Family::EndToEnd, size, OutputSpec::default(), labels, assumed));
    }
    None
}
