//! Which family a model without a manifest belongs to, by the outside of its graph.

use super::{Graph, cells, centerface, metadata};
use crate::detect::labels::COCO80;
use crate::detect::model::{Colour, Family, Fit, InputSize, InputSpec};
use crate::detect::nms::NmsMode;

/// What was read from a graph, and what had to be assumed.
#[derive(Clone, Debug, PartialEq)]
pub struct Identified {
    /// The decoding.
    pub family: Family,
    /// The input.
    pub input: InputSpec,
    /// Class names by id.
    pub labels: Vec<String>,
    /// The default score threshold.
    pub confidence: f32,
    /// The default suppression threshold.
    pub iou: f32,
    /// Which boxes suppress each other.
    pub nms: NmsMode,
    /// What the file does not say, for the log.
    pub assumed: Vec<String>,
}

/// What can be recognised, for the error.
const KNOWN: &str = "recognised without a manifest are: Ultralytics YOLOv8 and YOLO11 (one output \
    f32[1,4+classes,anchors]), YOLOX (one output f32[1,anchors,5+classes]), both with strides 8, 16 and 32, and \
    CenterFace (four outputs with 1, 2, 2 and 10 channels); a manifest NAME.toml beside NAME.onnx names the family";

/// Names the family of a graph.
///
/// # Errors
/// Says what is expected.
pub fn identify(graph: &Graph) -> Result<Identified, String> {
    let (width, height) = graph.image_input()?;
    if graph.metadata.contains_key("names") && graph.metadata.contains_key("stride") {
        return ultralytics(graph, width, height);
    }
    if centerface::check(graph).is_ok() && (width, height) == (None, None) {
        return Ok(Identified {
            family: Family::Centerface,
            input: InputSpec {
                size: InputSize::LongerSide { side: 320, multiple: 32 },
                fit: Fit::Stretch,
                pad: 0,
                colour: Colour::Rgb,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            labels: vec!["face".into()],
            confidence: 0.5,
            iou: 0.3,
            nms: NmsMode::Agnostic,
            assumed: vec!["CenterFace by its four outputs; 320 pixels on the longer side".into()],
        });
    }
    let (Some(width), Some(height)) = (width, height) else { return Err(KNOWN.into()) };
    let anchors = cells(width, height);
    let [output] = graph.outputs.as_slice() else { return Err(KNOWN.into()) };
    let &[_, Some(first), Some(second)] = output.shape.as_slice() else { return Err(KNOWN.into()) };
    if anchors == 0 || width % 32 != 0 || height % 32 != 0 {
        return Err(KNOWN.into());
    }
    if first == anchors && second > 5 {
        let (labels, assumed) = assumed_labels(second - 5);
        return Ok(Identified {
            family: Family::Yolox,
            input: InputSpec {
                size: InputSize::Fixed { width, height },
                fit: Fit::LetterboxTopLeft,
                pad: 114,
                colour: Colour::Bgr,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            labels,
            confidence: 0.3,
            iou: 0.45,
            nms: NmsMode::Agnostic,
            assumed: vec!["YOLOX by its output's shape; BGR from 0 to 255".into(), assumed],
        });
    }
    if second == anchors && first > 4 {
        let (labels, assumed) = assumed_labels(first - 4);
        let why = "the Ultralytics layout by its output's shape; RGB from 0 to 1".into();
        return Ok(ultralytics_layout(width, height, labels, vec![why, assumed]));
    }
    Err(KNOWN.into())
}

/// An Ultralytics export says itself what it is.
fn ultralytics(graph: &Graph, width: Option<usize>, height: Option<usize>) -> Result<Identified, String> {
    let entry = |key: &str| graph.metadata.get(key).map(String::as_str);
    if let Some(task) = entry("task")
        && task != "detect"
    {
        return Err(format!("an Ultralytics model for the task `{task}`; `detect` is expected"));
    }
    if entry("end2end").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err("an Ultralytics model with suppression inside; an export with `nms=False` is expected".into());
    }
    let Some(labels) = entry("names").and_then(metadata::names) else {
        return Err("the metadata's `names` is not a list of class names".into());
    };
    let mut assumed = Vec::new();
    let size = match (width, height, entry("imgsz").and_then(metadata::image_size)) {
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
    Ok(ultralytics_layout(size.0, size.1, labels, assumed))
}

fn ultralytics_layout(width: usize, height: usize, labels: Vec<String>, assumed: Vec<String>) -> Identified {
    Identified {
        family: Family::Ultralytics,
        input: InputSpec {
            size: InputSize::Fixed { width, height },
            fit: Fit::LetterboxCentre,
            pad: 114,
            colour: Colour::Rgb,
            mean: [0.0; 3],
            std: [255.0; 3],
        },
        labels,
        confidence: 0.25,
        iou: 0.45,
        nms: NmsMode::PerClass,
        assumed,
    }
}

/// Names for classes that the file does not name.
fn assumed_labels(classes: usize) -> (Vec<String>, String) {
    if classes == COCO80.len() {
        let names = COCO80.iter().map(ToString::to_string).collect();
        return (names, "the class names of COCO, as there are 80".into());
    }
    ((0..classes).map(|id| format!("class {id}")).collect(), format!("numbers for the names of {classes} classes"))
}
