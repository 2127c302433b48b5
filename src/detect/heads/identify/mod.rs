//! Which family a model without a manifest belongs to, by the outside of its graph.

mod ultralytics;

use super::graph::{Graph, ImageInput, fits};
use super::roles::{last_side, port};
use super::{cells, centerface, detr, nanodet, nms_inside, ssd, yunet};
use crate::detect::Layout;
use crate::detect::labels::{COCO80, coco91};
use crate::detect::model::{Background, Colour, Family, Fit, InputSize, InputSpec, Interpolation, OutputSpec, Scores};
use crate::detect::nms::NmsMode;

/// What was read from a graph, and what had to be assumed.
#[derive(Clone, Debug, PartialEq)]
pub struct Identified {
    /// The decoding.
    pub family: Family,
    /// The input.
    pub input: InputSpec,
    /// How the outputs are to be read.
    pub output: OutputSpec,
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
const KNOWN: &str = "recognised without a manifest are: Ultralytics YOLOv5u to YOLO12 and YOLOv10/26, YOLOv5, YOLOv7, YOLOX, \
    NanoDet, PicoDet, DEIM, D-FINE, RT-DETR, RF-DETR, DETR, YuNet, UltraFace, CenterFace, SSD (outputs `scores` and `boxes`), and \
    models that suppress inside (boxes, scores, classes); for another a manifest NAME.toml beside NAME.onnx names the `family`, \
    the `labels`, the `[input]` (size, fit, colour, mean, std) and, where the family leaves a choice, the `[output]` (boxes, unit, \
    scores, background, keypoints)";

/// Means and deviations of ImageNet, red first, as most training code has them.
const IMAGENET: ([f32; 3], [f32; 3]) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);

/// The size that is assumed for a graph whose sides are open and that is at home at it.
const USUAL: usize = 640;

/// Names the family of a graph.
///
/// # Errors
/// Says what is expected.
pub fn identify(graph: &Graph) -> Result<Identified, String> {
    let image = graph.image_input(None)?;
    let mut found = if graph.metadata.contains_key("names") && graph.metadata.contains_key("stride") {
        ultralytics::identify(graph, &image)?
    } else {
        let apart: [fn(&Graph, &ImageInput<'_>) -> Option<Identified>; 7] =
            [faces, distances, queries, suppressed, anchors_apart, ultralytics::by_shape, grids];
        match ultralytics::ambiguous(graph, &image) {
            Some(question) => return Err(question),
            None => apart.iter().find_map(|look| look(graph, &image)).ok_or(KNOWN)?,
        }
    };
    if image.layout.is_none() {
        found.assumed.push("channels before rows, as the sides of the input do not tell".into());
        found.input.layout = Some(Layout::Nchw);
    }
    if image.port.kind == "u8" {
        // Such a graph does its own arithmetic.
        (found.input.mean, found.input.std) = ([0.0; 3], [1.0; 3]);
    }
    Ok(found)
}

/// An input of samples as they are.
fn plain(size: InputSize, fit: Fit, pad: u8, colour: Colour) -> InputSpec {
    InputSpec {
        size,
        fit,
        pad,
        interpolation: Interpolation::Linear,
        colour,
        layout: None,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// The input's own sides.
fn own_size(image: &ImageInput<'_>) -> Option<InputSize> {
    Some(InputSize::Fixed { width: image.width?, height: image.height? })
}

/// The input's own sides, or the usual ones, with what to say about it.
fn usual_size(image: &ImageInput<'_>, assumed: &mut Vec<String>) -> InputSize {
    own_size(image).unwrap_or_else(|| {
        assumed.push(format!("{USUAL}×{USUAL} pixels, as the sides of the input are open"));
        InputSize::Fixed { width: image.width.unwrap_or(USUAL), height: image.height.unwrap_or(USUAL) }
    })
}

/// CenterFace and YuNet.
fn faces(graph: &Graph, image: &ImageInput<'_>) -> Option<Identified> {
    let open = (image.width, image.height) == (None, None);
    let face = |family, input, confidence, assumed: &str| Identified {
        family,
        input,
        output: OutputSpec::default(),
        labels: vec!["face".into()],
        confidence,
        iou: 0.3,
        nms: NmsMode::Agnostic,
        assumed: vec![assumed.into()],
    };
    if centerface::check(graph).is_ok() && open {
        let size = InputSize::LongerSide { side: 320, multiple: 32 };
        let input = plain(size, Fit::Stretch, 0, Colour::Rgb);
        let why = "CenterFace by its four outputs; RGB from 0 to 255, 320 pixels on the longer side";
        return Some(face(Family::Centerface, input, 0.5, why));
    }
    if yunet::check(graph).is_ok() {
        let size = if open { InputSize::Source { multiple: 32, at_most: 1280 } } else { own_size(image)? };
        let input = plain(size, Fit::LetterboxTopLeft, 0, Colour::Bgr);
        let why = if open {
            "YuNet by its twelve outputs; BGR from 0 to 255, pictures at their own size up to 1280 on the longer side"
        } else {
            "YuNet by its twelve outputs; BGR from 0 to 255"
        };
        return Some(face(Family::Yunet, input, 0.6, why));
    }
    None
}

/// NanoDet and PicoDet.
fn distances(graph: &Graph, image: &ImageInput<'_>) -> Option<Identified> {
    let size = own_size(image)?;
    let (strides, classes) = nanodet::recognise(graph, (image.width?, image.height?))?;
    let named = |word: &str| graph.outputs.iter().any(|port| port.name.contains(word));
    let pico =
        if named("save_infer_model") || graph.outputs.len() == 1 { graph.outputs.len() > 1 } else { strides > 3 };
    let (mean, std) = IMAGENET;
    let (labels, names) = assumed_labels(classes);
    let (family, input, why) = if pico {
        let input =
            InputSpec { interpolation: Interpolation::Cubic, mean, std, ..plain(size, Fit::Stretch, 0, Colour::Rgb) };
        (Family::Picodet, input, "PicoDet by its outputs; RGB normalised as for ImageNet, stretched, bicubic")
    } else {
        let backwards = |[a, b, c]: [f32; 3]| [c, b, a];
        let input = InputSpec {
            mean: backwards(mean),
            std: backwards(std),
            ..plain(size, Fit::LetterboxCentre, 0, Colour::Bgr)
        };
        (Family::Nanodet, input, "NanoDet by its outputs; BGR normalised as for ImageNet, letterboxed")
    };
    Some(Identified {
        family,
        input,
        output: OutputSpec::default(),
        labels,
        confidence: if pico { 0.4 } else { 0.35 },
        iou: 0.6,
        nms: NmsMode::PerClass,
        assumed: vec![why.into(), names],
    })
}

/// The DETR family.
fn queries(graph: &Graph, image: &ImageInput<'_>) -> Option<Identified> {
    let mut assumed = Vec::new();
    let mut detr = |input: InputSpec, output, (labels, names): (Vec<String>, String), why: &str| {
        assumed.extend([why.to_owned(), names]);
        Identified {
            family: Family::Detr,
            input,
            output,
            labels,
            confidence: 0.4,
            iou: 0.5,
            nms: NmsMode::None,
            assumed: std::mem::take(&mut assumed),
        }
    };
    let mut sized = Vec::new();
    let size = usual_size(image, &mut sized);
    let share = InputSpec { std: [255.0; 3], ..plain(size, Fit::Stretch, 0, Colour::Rgb) };
    let (mean, std) = IMAGENET;
    let mut found = match detr::roles(graph)? {
        detr::Roles::Decoded { .. } => {
            let names = (COCO80.map(String::from).to_vec(), "the class names of COCO, as the file has none".into());
            detr(
                share,
                OutputSpec::default(),
                names,
                "a DETR by its outputs and its second input; RGB from 0 to 1, stretched",
            )
        }
        detr::Roles::Raw { logits, boxes } => {
            let columns = last_side(port(graph, logits)?)?;
            let name = port(graph, boxes)?.name.as_str();
            match name {
                "dets" => {
                    let input = InputSpec { mean, std, ..share };
                    let why = "RF-DETR by its outputs `dets` and `labels`; sigmoid, RGB normalised as for ImageNet, stretched";
                    detr(input, OutputSpec::default(), assumed_labels(columns), why)
                }
                "pred_boxes" if columns == coco91().len() + 1 => {
                    let output = OutputSpec {
                        scores: Some(Scores::Softmax),
                        background: Some(Background::Last),
                        ..OutputSpec::default()
                    };
                    let why = "DETR by its outputs `logits` and `pred_boxes` and its 92 classes; softmax, RGB normalised as for \
                        ImageNet, stretched";
                    detr(InputSpec { mean, std, ..share }, output, assumed_labels(columns - 1), why)
                }
                "pred_boxes" => {
                    let why = "RT-DETR or D-FINE by the outputs `logits` and `pred_boxes`; sigmoid, RGB from 0 to 1, stretched";
                    detr(share, OutputSpec::default(), assumed_labels(columns), why)
                }
                _ => return None,
            }
        }
    };
    found.assumed.append(&mut sized);
    Some(found)
}

/// Models that suppress inside.
fn suppressed(graph: &Graph, image: &ImageInput<'_>) -> Option<Identified> {
    let mut assumed = Vec::new();
    let size = usual_size(image, &mut assumed);
    let letterbox = InputSpec { std: [255.0; 3], ..plain(size, Fit::LetterboxCentre, 114, Colour::Rgb) };
    let coco80 = || COCO80.map(String::from).to_vec();
    let (input, labels, why) = if nms_inside::has_lines(graph) {
        let why = "a YOLO that suppresses inside by its output [count,7]; RGB from 0 to 1, letterboxed; the class names of COCO";
        (letterbox, coco80(), why)
    } else {
        let roles = nms_inside::roles(graph)?;
        roles.form?;
        if roles.category_ids {
            let why = "a detector that suppresses inside by its outputs' names; RGB, stretched; COCO's category ids";
            // TensorFlow's take bytes and do their own arithmetic; torchvision's take shares.
            let input = InputSpec { std: [255.0; 3], ..plain(size, Fit::Stretch, 0, Colour::Rgb) };
            (input, coco91(), why)
        } else {
            let why = "a YOLO that suppresses inside by its outputs' names; RGB from 0 to 1, letterboxed; the class names of COCO";
            (letterbox, coco80(), why)
        }
    };
    assumed.insert(0, why.into());
    Some(Identified {
        family: Family::NmsInside,
        input,
        output: OutputSpec::default(),
        labels,
        confidence: 0.4,
        iou: 0.5,
        nms: NmsMode::None,
        assumed,
    })
}

/// UltraFace and SSD.
fn anchors_apart(graph: &Graph, image: &ImageInput<'_>) -> Option<Identified> {
    let (boxes, scores) = ssd::roles(graph)?;
    if port(graph, boxes)?.name != "boxes" || port(graph, scores)?.name != "scores" {
        return None;
    }
    let classes = last_side(port(graph, scores)?)?.checked_sub(1).filter(|&classes| classes > 0)?;
    let input =
        InputSpec { mean: [127.0; 3], std: [128.0; 3], ..plain(own_size(image)?, Fit::Stretch, 0, Colour::Rgb) };
    let (family, labels, why) = if classes == 1 {
        let why = "UltraFace by its outputs; RGB as (sample − 127) / 128, stretched".to_owned();
        (Family::Ultraface, vec!["face".into()], vec![why])
    } else {
        let (labels, names) = assumed_labels(classes);
        let why =
            "an SSD by its outputs; boxes in shares, the background first, RGB as (sample − 127) / 128, stretched";
        (Family::Ssd, labels, vec![why.to_owned(), names])
    };
    Some(Identified {
        family,
        input,
        output: OutputSpec::default(),
        labels,
        confidence: if classes == 1 { 0.7 } else { 0.4 },
        iou: if classes == 1 { 0.3 } else { 0.45 },
        nms: if classes == 1 { NmsMode::Agnostic } else { NmsMode::PerClass },
        assumed: why,
    })
}

/// YOLOX.
fn grids(graph: &Graph, image: &ImageInput<'_>) -> Option<Identified> {
    let [output] = graph.outputs.as_slice() else { return None };
    let &[batch, first, Some(columns)] = output.shape.as_slice() else { return None };
    let (width, height) = (image.width?, image.height?);
    let anchors = cells(width, height);
    let whole = anchors > 0 && width % 32 == 0 && height % 32 == 0;
    if !whole || !fits(batch, 1) || first != Some(anchors) || columns <= 5 {
        return None;
    }
    let (labels, names) = assumed_labels(columns - 5);
    Some(Identified {
        family: Family::Yolox,
        input: plain(own_size(image)?, Fit::LetterboxTopLeft, 114, Colour::Bgr),
        output: OutputSpec::default(),
        labels,
        confidence: 0.3,
        iou: 0.45,
        nms: NmsMode::Agnostic,
        assumed: vec!["YOLOX by its output's shape; BGR from 0 to 255".into(), names],
    })
}

/// Names for classes that the file does not name.
fn assumed_labels(classes: usize) -> (Vec<String>, String) {
    if classes == COCO80.len() {
        return (COCO80.map(String::from).to_vec(), "the class names of COCO, as there are 80".into());
    }
    let ids = coco91();
    if classes == ids.len() {
        return (ids, "the class names of COCO by its category ids, as there are 91".into());
    }
    ((0..classes).map(|id| format!("class {id}")).collect(), format!("numbers for the names of {classes} classes"))
}
