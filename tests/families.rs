//! Every model family end to end on small models that the test writes itself: through the real ONNX Runtime, from a file to
//! detections, with and without a manifest.

#[path = "support/onnx.rs"]
#[allow(dead_code)] // some models are other tests' matter
mod onnx;

use std::path::Path;

use onnx::{Kind, Port};
use sightline::detect::{Config, DetectError, Family, Model, Picture};
use sightline::media::{Detection, I420Frame};

/// A network of 64×64 pixels.
const SQUARE: [i64; 4] = [1, 3, 64, 64];

fn image(shape: &[i64]) -> Port {
    Port::new("images", Kind::F32, shape)
}

fn net() -> onnx::Model {
    onnx::Model::new(&[image(&SQUARE)])
}

fn f32(name: &str, shape: &[i64]) -> Port {
    Port::new(name, Kind::F32, shape)
}

/// A model and the folder of its file.
#[derive(Debug)]
struct Loaded {
    model: Model,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Loaded {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

/// Loads a model from its bytes, with a manifest if there is one.
fn load(bytes: &[u8], manifest: Option<&str>) -> Result<Loaded, DetectError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    std::fs::write(&path, bytes).unwrap();
    if let Some(text) = manifest {
        std::fs::write(folder.path().join("net.toml"), text).unwrap();
    }
    let model = Model::load(&Config { model: path.to_str().unwrap().into(), ..Config::default() })?;
    Ok(Loaded { model, _folder: folder })
}

/// What a model finds in a picture of 64×64 pixels, in one colour.
fn look(model: &Model, rgb: [u8; 3], confidence: f32) -> Vec<Detection> {
    let data = rgb.repeat(64 * 64);
    let mut settings = model.settings(&Config { max_detections: 1000, ..Config::default() });
    settings.confidence = confidence;
    let picture = Picture::Rgb { data: &data, width: 64, height: 64 };
    model.detector().unwrap().detect(picture, &settings).unwrap().items
}

/// A detection as `(class, score, box)`, for comparing.
type Plain = (u32, f32, [f32; 4]);

fn hold(net: &onnx::Model, family: Family, expected: &[Plain]) -> Vec<Detection> {
    let model = load(&net.bytes(), None).unwrap();
    assert_eq!(model.info().family, family);
    let found = look(&model, [0; 3], 0.3);
    same(&found, expected);
    found
}

fn same(found: &[Detection], expected: &[Plain]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (class, score, [x1, y1, x2, y2])) in found.iter().zip(expected) {
        let b = found.bbox;
        let near = [(b.x1, x1), (b.y1, y1), (b.x2, x2), (b.y2, y2)].iter().all(|(a, b)| (a - *b).abs() < 0.01);
        assert!(found.class_id == *class && (found.confidence - score).abs() < 1e-3 && near, "{found:#?}");
    }
}

/// `len` numbers, zero but for those given by their place.
fn sparse(len: usize, numbers: &[(usize, f32)]) -> Vec<f32> {
    let mut data = vec![0.0; len];
    numbers.iter().for_each(|&(at, number)| data[at] = number);
    data
}

/// `[1, lines, 84]` for an input of 64×64 in the Ultralytics layout with `extra` lines more: anchor 5 is a dog (class 16).
fn ultralytics(lines: usize, extra: &[(usize, f32)]) -> Vec<f32> {
    let column = |line: usize, value: f32| (line * 84 + 5, value);
    let mut numbers = vec![column(0, 32.0), column(1, 20.0), column(2, 16.0), column(3, 8.0), column(4 + 16, 0.9)];
    numbers.extend(extra.iter().map(|&(line, value)| column(line, value)));
    sparse(lines * 84, &numbers)
}

const DOG: Plain = (16, 0.9, [24.0, 16.0, 40.0, 24.0]);

#[test]
fn an_ultralytics_layout_without_metadata_has_cocos_names() {
    let net = net().constant(f32("output0", &[1, 84, 84]), &[1, 84, 84], &ultralytics(84, &[]));
    let found = hold(&net, Family::Ultralytics, &[DOG]);
    assert_eq!(&*found[0].class_name, "dog");
    assert!(found[0].keypoints.is_none() && found[0].mask.is_none());
}

#[test]
fn a_segmentation_model_gives_outlines_inside_the_boxes() {
    // The mask: the first prototype is positive in the left half, the second everywhere.
    let proto: Vec<f32> = (0..2 * 256).map(|at| if at < 256 && at % 16 >= 8 { -1.0 } else { 1.0 }).collect();
    let data = ultralytics(86, &[(84, 1.0), (85, 0.1)]);
    let net = net().constant(f32("output0", &[1, 86, 84]), &[1, 86, 84], &data).constant(
        f32("output1", &[1, 2, 16, 16]),
        &[1, 2, 16, 16],
        &proto,
    );
    let found = hold(&net, Family::Ultralytics, &[DOG]);
    let mask = found[0].mask.as_deref().unwrap();
    let (left, right) = mask.iter().fold((f32::MAX, 0f32), |(low, high), [x, _]| (low.min(*x), high.max(*x)));
    // The field is 1.1 left of the middle and −0.9 right of it, four pixels on: zero lies 2.2 pixels behind the last centre.
    assert!((left - 24.0).abs() < 0.01 && (right - 32.2).abs() < 0.1, "{mask:?}");
    assert!(mask.iter().all(|[_, y]| (16.0..=24.0).contains(y)) && (4..=64).contains(&mask.len()), "{mask:?}");
}

#[test]
fn a_mask_without_anything_in_the_box_is_none() {
    let data = ultralytics(85, &[(84, -1.0)]);
    let net = net().constant(f32("output0", &[1, 85, 84]), &[1, 85, 84], &data).constant(
        f32("output1", &[1, 1, 16, 16]),
        &[1, 1, 16, 16],
        &[1.0; 256],
    );
    assert!(hold(&net, Family::Ultralytics, &[DOG])[0].mask.is_none());
}

#[test]
fn a_pose_model_gives_its_points_with_their_confidence() {
    let mut data = sparse(11 * 84, &[]);
    for (line, value) in [32.0, 20.0, 16.0, 8.0, 0.8, 30.0, 18.0, 0.75, 70.0, 22.0, 0.25].into_iter().enumerate() {
        data[line * 84 + 3] = value;
    }
    let net = net()
        .constant(f32("output0", &[1, 11, 84]), &[1, 11, 84], &data)
        .note("names", "{0: 'person'}")
        .note("stride", "32")
        .note("task", "pose")
        .note("kpt_shape", "[2, 3]");
    let found = hold(&net, Family::Ultralytics, &[(0, 0.8, [24.0, 16.0, 40.0, 24.0])]);
    let points: Vec<_> = found[0].keypoints.as_deref().unwrap().iter().map(|p| (p.x, p.y, p.confidence)).collect();
    assert_eq!(points, [(30.0, 18.0, Some(0.75)), (70.0, 22.0, Some(0.25))], "outside the picture is possible");
}

#[test]
fn yolov5_multiplies_by_objectness() {
    let line = |at: usize, column: usize, value: f32| (at * 85 + column, value);
    let data = sparse(
        252 * 85,
        &[
            line(9, 0, 32.0),
            line(9, 1, 20.0),
            line(9, 2, 16.0),
            line(9, 3, 8.0),
            line(9, 4, 0.5),
            line(9, 5 + 16, 0.8),
            line(10, 4, 0.9),
            line(10, 5, 0.1),
        ],
    );
    let net = net().constant(f32("output", &[1, 252, 85]), &[1, 252, 85], &data);
    hold(&net, Family::Yolov5, &[(16, 0.4, [24.0, 16.0, 40.0, 24.0])]);
}

#[test]
fn finished_lines_are_not_suppressed_again() {
    #[rustfmt::skip]
    let lines = [
        10.0, 10.0, 30.0, 30.0, 0.9, 0.0,
        11.0, 10.0, 30.0, 30.0, 0.8, 0.0,
        10.0, 10.0, 30.0, 30.0, 0.1, 2.0,
        10.0, 10.0, 30.0, 30.0, 0.7, 99.0,
    ];
    let net = net().constant(f32("output0", &[1, 4, 6]), &[1, 4, 6], &lines);
    hold(&net, Family::EndToEnd, &[(0, 0.9, [10.0, 10.0, 30.0, 30.0]), (0, 0.8, [11.0, 10.0, 30.0, 30.0])]);
}

#[test]
fn yolo26_says_that_it_is_end_to_end() {
    let net = net()
        .constant(f32("output0", &[1, -1, -1]), &[1, 1, 6], &[10.0, 10.0, 30.0, 30.0, 0.9, 1.0])
        .note("names", "{0: 'cat', 1: 'dog'}")
        .note("stride", "32")
        .note("task", "detect")
        .note("end2end", "True");
    assert_eq!(&*hold(&net, Family::EndToEnd, &[(1, 0.9, [10.0, 10.0, 30.0, 30.0])])[0].class_name, "dog");
}

#[test]
fn nanodet_plus_has_all_in_one_output() {
    // Strides 8, 16, 32, 64: 64 + 16 + 4 + 1 cells; 3 classes and 4 × 8 bins. The cell of stride 16 at (1, 2).
    let (cell, columns) = (64 + 2 * 4 + 1, 3 + 32);
    let mut numbers = vec![(cell * columns + 2, 0.6)];
    for (edge, bin) in [1, 2, 1, 0].into_iter().enumerate() {
        numbers.push((cell * columns + 3 + edge * 8 + bin, 100.0));
    }
    let data = sparse(85 * columns, &numbers);
    let net = net().constant(f32("output", &[1, 85, 35]), &[1, 85, 35], &data);
    // Around (24, 40): 16 left, 32 up, 16 right, nothing down.
    hold(&net, Family::Nanodet, &[(2, 0.6, [8.0, 8.0, 40.0, 40.0])]);
}

#[test]
fn a_detr_that_takes_a_size_is_asked_in_pixels_of_its_input() {
    let net = onnx::Model::new(&[image(&[-1, 3, 64, 64]), Port::new("orig_target_sizes", Kind::I64, &[-1, 2])])
        .constant(Port::new("labels", Kind::I64, &[-1, -1]), &[1, 2], &[16.0, 3.0])
        .constant(f32("boxes", &[-1, -1, 4]), &[1, 2, 4], &[8.0, 8.0, 40.0, 24.0, 0.0, 0.0, 9.0, 9.0])
        .constant(f32("scores", &[-1, -1]), &[1, 2], &[0.8, 0.2]);
    let model = load(&net.bytes(), None).unwrap();
    assert_eq!(model.info().family, Family::Detr);
    let data = vec![0; 128 * 32 * 3];
    let settings = model.settings(&Config::default());
    let picture = Picture::Rgb { data: &data, width: 128, height: 32 };
    let found = model.detector().unwrap().detect(picture, &settings).unwrap().items;
    same(&found, &[(16, 0.8, [16.0, 4.0, 80.0, 12.0])]);
}

#[test]
fn rf_detr_and_rt_detr_go_through_the_sigmoid() {
    let logits = sparse(2 * 91, &[(18, 2.0), (91 + 1, -3.0)])
        .iter()
        .map(|v| if *v == 0.0 { -9.0 } else { *v })
        .collect::<Vec<_>>();
    let boxes = [0.5, 0.25, 0.5, 0.25, 0.1, 0.1, 0.1, 0.1];
    let expected = [(18, 0.8808, [16.0, 8.0, 48.0, 24.0])];
    let rf = net().constant(f32("dets", &[1, 2, 4]), &[1, 2, 4], &boxes).constant(
        f32("labels", &[1, 2, 91]),
        &[1, 2, 91],
        &logits,
    );
    assert_eq!(&*hold(&rf, Family::Detr, &expected)[0].class_name, "dog");
    let rt = net().constant(f32("logits", &[1, 2, 91]), &[1, 2, 91], &logits).constant(
        f32("pred_boxes", &[1, 2, 4]),
        &[1, 2, 4],
        &boxes,
    );
    hold(&rt, Family::Detr, &expected);
}

#[test]
fn the_first_detr_goes_through_the_softmax_and_has_no_object_last() {
    let mut logits = vec![0.0; 2 * 92];
    logits[18] = 8.0;
    logits[92 + 91] = 9.0;
    let net = net().constant(f32("logits", &[1, 2, 92]), &[1, 2, 92], &logits).constant(
        f32("pred_boxes", &[1, 2, 4]),
        &[1, 2, 4],
        &[0.5, 0.25, 0.5, 0.25, 0.5, 0.5, 0.5, 0.5],
    );
    let e = 8f32.exp();
    hold(&net, Family::Detr, &[(18, e / (e + 91.0), [16.0, 8.0, 48.0, 24.0])]);
}

#[test]
fn an_ssd_has_the_background_first_and_is_suppressed() {
    let scores = [0.1, 0.2, 0.7, 0.3, 0.1, 0.6, 0.9, 0.05, 0.05];
    let boxes = [0.25, 0.25, 0.5, 0.5, 0.25, 0.25, 0.5, 0.51, 0.0, 0.0, 1.0, 1.0];
    let net = net().constant(f32("scores", &[1, 3, 3]), &[1, 3, 3], &scores).constant(
        f32("boxes", &[1, 3, 4]),
        &[1, 3, 4],
        &boxes,
    );
    hold(&net, Family::Ssd, &[(1, 0.7, [16.0, 16.0, 32.0, 32.0])]);
}

#[test]
fn a_tensorflow_detector_takes_bytes_in_rows_of_pixels_and_gives_boxes_top_first() {
    let net = onnx::Model::new(&[Port::new("image_tensor", Kind::U8, &[1, 64, 64, 3])])
        .constant(
            f32("detection_boxes", &[1, 3, 4]),
            &[1, 3, 4],
            &[0.0, 0.25, 0.5, 0.75, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0],
        )
        .constant(f32("detection_classes", &[1, 3]), &[1, 3], &[18.0, 1.0, 1.0])
        .constant(f32("detection_scores", &[1, 3]), &[1, 3], &[0.9, 0.1, 0.8])
        .constant(f32("num_detections", &[1]), &[1], &[2.0]);
    let found = hold(&net, Family::NmsInside, &[(18, 0.9, [16.0, 0.0, 48.0, 32.0])]);
    assert_eq!(&*found[0].class_name, "dog");
}

#[test]
fn efficient_nms_gives_whole_numbers() {
    let net = net()
        .constant(Port::new("num_dets", Kind::I32, &[1, 1]), &[1, 1], &[1.0])
        .constant(f32("det_boxes", &[1, 2, 4]), &[1, 2, 4], &[1.0, 2.0, 30.0, 40.0, 0.0, 0.0, 64.0, 64.0])
        .constant(f32("det_scores", &[1, 2]), &[1, 2], &[0.9, 0.8])
        .constant(Port::new("det_classes", Kind::I32, &[1, 2]), &[1, 2], &[16.0, 3.0]);
    hold(&net, Family::NmsInside, &[(16, 0.9, [1.0, 2.0, 30.0, 40.0])]);
}

#[test]
fn lines_of_seven_may_be_none() {
    let some = net().constant(f32("output", &[-1, 7]), &[1, 7], &[0.0, 1.0, 2.0, 30.0, 40.0, 16.0, 0.9]);
    hold(&some, Family::NmsInside, &[(16, 0.9, [1.0, 2.0, 30.0, 40.0])]);
    hold(&net().constant(f32("output", &[-1, 7]), &[0, 7], &[]), Family::NmsInside, &[]);
}

const UNNAMED: &str = r#"
family = "nms-inside"
file = "net.onnx"
labels = ["cat", "dog"]
confidence = 0.3
iou = 0.5
nms = "none"
[input]
size = { fixed = { width = 64, height = 64 } }
fit = "stretch"
colour = "rgb"
"#;

#[test]
fn what_the_names_do_not_tell_the_manifest_does() {
    let net = net()
        .constant(f32("a_boxes", &[1, 1, 4]), &[1, 1, 4], &[0.5, 0.25, 0.5, 0.25])
        .constant(f32("a_scores", &[1, 1]), &[1, 1], &[0.9])
        .constant(f32("a_classes", &[1, 1]), &[1, 1], &[2.0]);
    let text = load(&net.bytes(), Some(UNNAMED)).unwrap_err().to_string();
    assert!(text.contains("`a_boxes` f32[1,1,4]") && text.contains("unit = \"pixels\""), "{text}");
    let output = "[output]\nboxes = \"cxcywh\"\nunit = \"shares\"\nbackground = \"first\"\n";
    let model = load(&net.bytes(), Some(&format!("{UNNAMED}{output}"))).unwrap();
    let found = look(&model, [0; 3], 0.3);
    same(&found, &[(1, 0.9, [16.0, 8.0, 48.0, 24.0])]);
    assert_eq!(&*found[0].class_name, "dog");
}

/// An SSD whose three boxes are as sure as the picture is red, green and blue.
fn colours(kind: Kind, shape: &[i64], axes: [u64; 2], scale: f32) -> onnx::Model {
    let boxes = [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 1.0, 1.0];
    onnx::Model::new(&[Port::new("images", kind, shape)]).channel_means("images", axes, scale, "scores").constant(
        f32("boxes", &[1, 3, 4]),
        &[1, 3, 4],
        &boxes,
    )
}

#[test]
fn every_layout_and_number_type_of_the_input_gets_the_same_picture() {
    let manifest = |colour: &str, divisor: &str, more: &str| {
        UNNAMED.replace("nms-inside", "ssd").replace("[\"cat\", \"dog\"]", "[\"thing\"]").replace(
            "colour = \"rgb\"",
            &format!("colour = \"{colour}\"\nstd = [{divisor}, {divisor}, {divisor}]\n{more}"),
        )
    };
    let boxes = [[0.0, 0.0, 16.0, 16.0], [32.0, 32.0, 48.0, 48.0], [48.0, 48.0, 64.0, 64.0]];
    let (nchw, nhwc) = ([1, 3, 64, 64], [1, 64, 64, 3]);
    let open = [-1, -1, -1, -1];
    for (kind, shape, axes, scale, divisor, more) in [
        (Kind::F32, nchw, [2, 3], 1.0, "255", ""),
        (Kind::F32, nhwc, [1, 2], 1.0, "255", ""),
        (Kind::F16, nchw, [2, 3], 1.0, "255", ""),
        (Kind::F16, nhwc, [1, 2], 1.0, "255", ""),
        (Kind::U8, nchw, [2, 3], 1.0 / 255.0, "1", ""),
        (Kind::U8, nhwc, [1, 2], 1.0 / 255.0, "1", ""),
        (Kind::U8, open, [1, 2], 1.0 / 255.0, "1", "layout = \"nhwc\""),
        (Kind::F32, open, [2, 3], 1.0, "255", "layout = \"nchw\""),
        (Kind::F32, [-1, -1, 64, 64], [2, 3], 1.0, "255", ""),
    ] {
        let net = colours(kind, &shape, axes, scale);
        let model = load(&net.bytes(), Some(&manifest("rgb", divisor, more)))
            .unwrap_or_else(|error| panic!("{kind:?} {shape:?}: {error}"));
        let found = look(&model, [255, 102, 204], 0.3);
        same(&found, &[(0, 1.0, boxes[0]), (0, 0.8, boxes[2]), (0, 0.4, boxes[1])]);
    }
    let bgr = load(&colours(Kind::F32, &nchw, [2, 3], 1.0).bytes(), Some(&manifest("bgr", "255", ""))).unwrap();
    same(&look(&bgr, [255, 102, 204], 0.5), &[(0, 1.0, boxes[2]), (0, 0.8, boxes[0])]);
}

#[test]
fn outputs_of_half_floats_are_read() {
    let data = ultralytics(84, &[]);
    let net = net().constant(Port::new("output0", Kind::F16, &[1, 84, 84]), &[1, 84, 84], &data);
    hold(&net, Family::Ultralytics, &[DOG]);
}

#[test]
fn an_unknown_graph_is_refused_with_what_was_seen_and_what_to_write() {
    let net = net().constant(f32("mystery", &[1, 9, 9]), &[1, 9, 9], &[0.0; 81]);
    let text = load(&net.bytes(), None).unwrap_err().to_string();
    for word in ["`images` f32[1,3,64,64]", "`mystery` f32[1,9,9]", "manifest", "`family`", "`[output]`"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let wrong = UNNAMED.replace("nms-inside", "detr");
    let text = load(&net.bytes(), Some(&wrong)).unwrap_err().to_string();
    assert!(text.contains("DETR") && text.contains("expected"), "{text}");
}

/// So many numbers.
type Fill<'a> = &'a dyn Fn(usize) -> Vec<f32>;

/// Small models of every family whose first output holds what the test puts there.
fn every_family(fill: Fill<'_>) -> Vec<(&'static str, onnx::Model)> {
    let constant = |net: onnx::Model, name: &str, shape: &[i64]| {
        let len = shape.iter().product::<i64>();
        net.constant(f32(name, shape), shape, &fill(usize::try_from(len).unwrap()))
    };
    let many = |outputs: &[(&str, &[i64])]| outputs.iter().fold(net(), |net, (name, shape)| constant(net, name, shape));
    let yunet: Vec<(String, Vec<i64>)> = [("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)]
        .iter()
        .flat_map(|(name, columns)| {
            [(8, 64), (16, 16), (32, 4)].map(|(s, cells)| (format!("{name}_{s}"), vec![1, cells, *columns]))
        })
        .collect();
    let yunet: Vec<(&str, &[i64])> = yunet.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let decoded = ["labels", "scores"]
        .iter()
        .fold(onnx::Model::new(&[image(&SQUARE), Port::new("orig_target_sizes", Kind::I64, &[1, 2])]), |net, name| {
            constant(net, name, &[1, 10_000])
        });
    vec![
        ("yolox", many(&[("output", &[1, 84, 85])])),
        ("ultralytics", many(&[("output0", &[1, 84, 84])])),
        ("segmentation", many(&[("output0", &[1, 116, 84]), ("output1", &[1, 32, 16, 16])])),
        ("yolov5", many(&[("output", &[1, 252, 85])])),
        ("end to end", many(&[("output0", &[1, 1000, 6])])),
        ("nanodet plus", many(&[("output", &[1, 85, 35])])),
        (
            "nanodet",
            many(&[
                ("a", &[1, 64, 80]),
                ("b", &[1, 16, 80]),
                ("c", &[1, 4, 80]),
                ("d", &[1, 64, 32]),
                ("e", &[1, 16, 32]),
                ("f", &[1, 4, 32]),
            ]),
        ),
        ("detr", constant(decoded, "boxes", &[1, 10_000, 4])),
        ("rt-detr", many(&[("logits", &[1, 300, 80]), ("pred_boxes", &[1, 300, 4])])),
        ("ssd", many(&[("scores", &[1, 10_000, 3]), ("boxes", &[1, 10_000, 4])])),
        ("nms inside", many(&[("boxes", &[10_000, 4]), ("labels", &[10_000]), ("scores", &[10_000])])),
        ("lines", many(&[("output", &[10_000, 7])])),
        ("yunet", many(&yunet)),
    ]
}

#[test]
fn every_family_survives_numbers_that_are_none_nothing_and_too_much() {
    let mixed = |len: usize| {
        (0..len)
            .map(|at| [f32::NAN, f32::INFINITY, 0.9, f32::NEG_INFINITY, 1e38, -0.5, 1.0][at % 7])
            .collect::<Vec<f32>>()
    };
    let fills: [(&str, Fill<'_>); 6] = [
        ("NaN", &|len| vec![f32::NAN; len]),
        ("infinity", &|len| vec![f32::INFINITY; len]),
        ("nothing", &|len| vec![0.0; len]),
        // Every line is a candidate.
        ("everything", &|len| vec![1.0; len]),
        ("all different", &|len| (0..len).map(|at| (at % 977) as f32 / 976.0).collect()),
        ("a mixture", &mixed),
    ];
    for (what, fill) in fills {
        for (family, net) in every_family(fill) {
            let model = load(&net.bytes(), None).unwrap_or_else(|error| panic!("{family}, {what}: {error}"));
            for confidence in [0.0, 0.3] {
                for found in look(&model, [9; 3], confidence) {
                    let b = found.bbox;
                    let inside = [b.x1, b.y1, b.x2, b.y2].iter().all(|edge| (0.0..=64.0).contains(edge));
                    assert!(inside && (0.0..=1.0).contains(&found.confidence), "{family}, {what}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn every_family_takes_the_smallest_and_the_largest_picture() {
    let huge = I420Frame::black(7680, 4320);
    for (family, net) in every_family(&|len| vec![0.5; len]) {
        let model = load(&net.bytes(), None).unwrap();
        let settings = model.settings(&Config::default());
        let mut detector = model.detector().unwrap();
        for picture in [Picture::Rgb { data: &[1, 2, 3], width: 1, height: 1 }, Picture::I420(&huge)] {
            let (width, height) = picture.size();
            let found = detector.detect(picture, &settings).unwrap_or_else(|error| panic!("{family}: {error}")).items;
            let inside = |found: &Detection| found.bbox.x2 <= width as f32 && found.bbox.y2 <= height as f32;
            assert!(found.iter().all(inside), "{family}");
        }
    }
}

#[test]
fn every_family_cut_short_is_refused() {
    for (family, net) in every_family(&|len| vec![0.0; len]) {
        let bytes = net.bytes();
        for len in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let result = load(&bytes[..len], None);
            assert!(matches!(result, Err(DetectError::Unusable { .. })), "{family} cut to {len}: {result:?}");
        }
    }
}

#[test]
fn a_manifest_of_another_family_is_refused_by_every_graph() {
    let families = [
        "yolox",
        "ultralytics",
        "yolov5",
        "end-to-end",
        "nanodet",
        "detr",
        "yunet",
        "ultraface",
        "nms-inside",
        "centerface",
    ];
    for (name, net) in every_family(&|len| vec![0.0; len]) {
        let bytes = net.bytes();
        let right = load(&bytes, None).unwrap().info().family.to_string();
        for family in families.iter().filter(|family| **family != right) {
            // 7 classes: no graph here has so many.
            let labels: Vec<_> = (0..7).map(|id| format!("\"{id}\"")).collect();
            let text = UNNAMED.replace("nms-inside", family).replace("\"cat\", \"dog\"", &labels.join(", "));
            match load(&bytes, Some(&text)) {
                Err(DetectError::Unusable { reason, .. }) => {
                    assert!(reason.contains("expected"), "{name} as {family}: {reason}")
                }
                // Boxes, scores and classes can be read as either of these.
                Ok(model) => {
                    assert!(matches!(*family, "nms-inside" | "detr" | "end-to-end"), "{name}: {:?}", model.info())
                }
                Err(other) => panic!("{name} as {family}: {other}"),
            }
        }
    }
}

#[test]
fn a_path_without_a_file_is_missing() {
    let result = Model::load(&Config { model: "./no/such.onnx".into(), ..Config::default() });
    assert!(matches!(result, Err(DetectError::Missing { .. })) && !Path::new("./no").exists());
}
