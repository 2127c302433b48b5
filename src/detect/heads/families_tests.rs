//! Every family on garbage, and the recognition of graphs of the families with several outputs.

use proptest::prelude::*;

use super::*;
use crate::detect::model::{Background, BoxForm, Colour, Fit, Interpolation, Scores, Unit};
use crate::detect::nms::NmsMode;

fn port(name: &str, kind: &str, shape: &[i64]) -> Port {
    let shape = shape.iter().map(|&side| usize::try_from(side).ok()).collect();
    Port { name: name.into(), kind: kind.into(), shape }
}

fn graph(input: &[i64], outputs: &[(&str, &[i64])]) -> Graph {
    Graph {
        inputs: vec![port("images", "f32", input)],
        outputs: outputs.iter().map(|(name, shape)| port(name, "f32", shape)).collect(),
        metadata: [].into(),
    }
}

fn with_size(mut graph: Graph) -> Graph {
    graph.inputs.push(port("orig_target_sizes", "i64", &[-1, 2]));
    graph
}

fn input((width, height): (usize, usize)) -> InputSpec {
    InputSpec {
        size: InputSize::Fixed { width, height },
        fit: Fit::Stretch,
        pad: 0,
        interpolation: Interpolation::Linear,
        colour: Colour::Rgb,
        layout: None,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// One graph of each kind that a head decodes, for 64×64 pixels and two classes, with everything open that may be.
fn every_head() -> Vec<(Family, Graph, OutputSpec)> {
    let none = OutputSpec::default();
    let pose = OutputSpec { keypoints: Some([2, 3]), ..none };
    let softmax = OutputSpec { scores: Some(Scores::Softmax), ..none };
    let square = [1, 3, 64, 64];
    let open: &[i64] = &[1, -1, -1];
    let three: [&[i64]; 6] = [&[1, 64, 2], &[1, 16, 2], &[1, 4, 2], &[1, 64, 32], &[1, 16, 32], &[1, 4, 32]];
    let split = graph(&square, &three.map(|shape| ("x", shape)));
    let mut yunet = graph(&square, &[]);
    for columns in [1, 1, 4, 10] {
        yunet.outputs.extend((0..3).map(|_| port("x", "f32", &[1, -1, columns])));
    }
    vec![
        (
            Family::Centerface,
            graph(
                &square,
                &[("h", &[1, 1, -1, -1]), ("s", &[1, 2, -1, -1]), ("o", &[1, 2, -1, -1]), ("l", &[1, 10, -1, -1])],
            ),
            none,
        ),
        (Family::Yolox, graph(&square, &[("o", open)]), none),
        (Family::Ultralytics, graph(&square, &[("o", open)]), none),
        (Family::Ultralytics, graph(&square, &[("o", open)]), pose),
        (Family::Ultralytics, graph(&square, &[("o", open), ("p", &[1, 3, -1, -1])]), none),
        (Family::Yolov5, graph(&square, &[("o", open)]), none),
        (Family::Yolov5, graph(&square, &[("o", open), ("p", &[1, 3, -1, -1])]), none),
        (Family::EndToEnd, graph(&square, &[("o", open)]), none),
        (Family::EndToEnd, graph(&square, &[("o", open)]), pose),
        (Family::EndToEnd, graph(&square, &[("o", open), ("p", &[1, 3, -1, -1])]), none),
        (Family::Nanodet, split.clone(), none),
        (Family::Picodet, split, none),
        (Family::Nanodet, graph(&square, &[("o", &[1, 85, 34])]), none),
        (
            Family::Detr,
            with_size(graph(&square, &[("labels", &[-1, -1]), ("boxes", &[-1, -1, 4]), ("scores", &[-1, -1])])),
            none,
        ),
        (Family::Detr, graph(&square, &[("logits", open), ("pred_boxes", &[1, -1, 4])]), none),
        (Family::Detr, graph(&square, &[("logits", open), ("pred_boxes", &[1, -1, 4])]), softmax),
        (Family::Yunet, yunet, none),
        (Family::Ssd, graph(&square, &[("scores", open), ("boxes", &[1, -1, 4])]), none),
        (Family::NmsInside, graph(&square, &[("boxes", &[-1, 4]), ("labels", &[-1]), ("scores", &[-1])]), none),
        (
            Family::NmsInside,
            graph(
                &square,
                &[("num_dets", &[1, 1]), ("det_boxes", &[1, -1, 4]), ("det_scores", open), ("det_classes", open)],
            ),
            none,
        ),
        (Family::NmsInside, graph(&square, &[("o", &[-1, 7])]), none),
    ]
}

#[test]
fn every_family_is_in_the_list() {
    for family in [
        Family::Centerface,
        Family::Yolox,
        Family::Ultralytics,
        Family::Yolov5,
        Family::EndToEnd,
        Family::Nanodet,
        Family::Picodet,
        Family::Detr,
        Family::Yunet,
        Family::Ssd,
        Family::NmsInside,
    ] {
        assert!(every_head().iter().any(|(other, ..)| *other == family), "{family}");
    }
    for (family, graph, output) in every_head() {
        let result = Head::new(family, &graph, &input((64, 64)), &output, 2);
        assert!(
            result.is_ok() || graph.outputs[0].shape == [Some(1), Some(85), Some(34)],
            "{family} {graph}: {result:?}"
        );
    }
}

/// The shape that a family really gives, for its declared one: what is open becomes `count`, or what `columns` says.
fn filled(port: &Port, count: usize) -> (Vec<i64>, usize) {
    let sides: Vec<usize> = port.shape.iter().map(|side| side.unwrap_or(count)).collect();
    (sides.iter().map(|&side| i64::try_from(side).unwrap()).collect(), sides.iter().product())
}

fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -1f32..2.0, 1 => 0f32..64.0, 1 => any::<f32>(), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_numbers_make_any_head_panic_or_answer_with_garbage(
        numbers in prop::collection::vec(any_number(), 97), count in 0usize..70, confidence in 0f32..1.0,
    ) {
        for (family, graph, output) in every_head() {
            let Ok(mut head) = Head::new(family, &graph, &input((64, 64)), &output, 2) else { continue };
            let tensors: Vec<_> = graph.outputs.iter().map(|port| {
                let (shape, len) = filled(port, count);
                (shape, numbers.iter().copied().cycle().take(len).collect::<Vec<f32>>())
            }).collect();
            let outputs: Vec<_> = tensors.iter().map(|(shape, data)| Output { shape, data }).collect();
            let mut found = Vec::new();
            let _ = head.decode(&outputs, (64, 64), &Filter { confidence, classes: None }, &mut found);
            for one in &found {
                prop_assert!(one.bbox.is_finite() && (confidence..=1.0).contains(&one.score) && one.class_id < 2, "{family}: {one:?}");
            }
            for one in found.iter().take(20) {
                let parts = head.parts(&outputs, (64, 64), one);
                prop_assert!(parts.keypoints.iter().all(|point| point.x.is_finite() && point.y.is_finite()));
                prop_assert!(parts.outline.iter().flatten().all(|at| (0.0..=64.0).contains(at)), "{family}: {:?}", parts.outline);
            }
        }
    }

    #[test]
    fn no_shape_makes_any_head_panic(
        shapes in prop::collection::vec(prop::collection::vec(-2i64..12, 0..5), 0..13), short in any::<bool>(),
    ) {
        for (family, graph, output) in every_head() {
            let Ok(mut head) = Head::new(family, &graph, &input((64, 64)), &output, 2) else { continue };
            let tensors: Vec<_> = shapes.iter().map(|shape| {
                let len: i64 = shape.iter().product();
                (shape, vec![0.7; usize::try_from(len.max(0)).unwrap().saturating_sub(usize::from(short))])
            }).collect();
            let outputs: Vec<_> = tensors.iter().map(|(shape, data)| Output { shape, data }).collect();
            let mut found = Vec::new();
            let _ = head.decode(&outputs, (64, 64), &Filter { confidence: 0.1, classes: None }, &mut found);
            let wild = Candidate { row: 1_000_000, ..Candidate::default() };
            for one in found.iter().take(5).chain([&wild]) {
                let _ = head.parts(&outputs, (64, 64), one);
            }
        }
    }
}

#[test]
fn outputs_that_are_not_the_familys_are_an_error_that_says_what_came() {
    for (family, graph, output) in every_head() {
        let Ok(mut head) = Head::new(family, &graph, &input((64, 64)), &output, 2) else { continue };
        let shape = [1i64, 3, 3, 3];
        let outputs = vec![Output { shape: &shape, data: &[0.0; 27] }; graph.outputs.len()];
        let filter = Filter { confidence: 0.5, classes: None };
        let error = head.decode(&outputs, (64, 64), &filter, &mut Vec::new()).unwrap_err();
        assert!(error.contains("expected") && error.contains("[1, 3, 3, 3]"), "{family}: {error}");
        assert!(head.decode(&[], (64, 64), &filter, &mut Vec::new()).is_err(), "{family}");
    }
}

#[test]
fn the_families_with_several_outputs_are_told_apart() {
    let three: [&[i64]; 6] =
        [&[1, 1600, 80], &[1, 400, 80], &[1, 100, 80], &[1, 1600, 32], &[1, 400, 32], &[1, 100, 32]];
    let nanodet = graph(&[1, 3, 320, 320], &three.map(|shape| ("x", shape)));
    let plus = graph(&[1, 3, 320, 320], &[("output", &[1, 2125, 112])]);
    let decoded: [(&str, &[i64]); 3] = [("labels", &[-1, -1]), ("boxes", &[-1, -1, 4]), ("scores", &[-1, -1])];
    let deim = with_size(graph(&[-1, 3, 320, 320], &decoded));
    let torchvision = graph(&[1, 3, 320, 320], &decoded);
    let rtdetr = graph(&[-1, 3, -1, -1], &[("logits", &[-1, 300, 80]), ("pred_boxes", &[-1, 300, 4])]);
    let rfdetr = graph(&[1, 3, 384, 384], &[("dets", &[1, 300, 4]), ("labels", &[1, 300, 91])]);
    let detr = graph(&[1, 3, 800, 800], &[("logits", &[1, 100, 92]), ("pred_boxes", &[1, 100, 4])]);
    let ultraface = graph(&[1, 3, 240, 320], &[("scores", &[1, 4420, 2]), ("boxes", &[1, 4420, 4])]);
    let ssd = graph(&[1, 3, 300, 300], &[("scores", &[1, 3000, 21]), ("boxes", &[1, 3000, 4])]);
    let mut tensorflow = graph(
        &[],
        &[
            ("detection_boxes", &[1, 100, 4]),
            ("detection_classes", &[1, 100]),
            ("detection_scores", &[1, 100]),
            ("num_detections", &[1]),
        ],
    );
    tensorflow.inputs = vec![port("image_tensor", "u8", &[1, -1, -1, 3])];
    let efficient = graph(
        &[1, 3, 640, 640],
        &[("num_dets", &[1, 1]), ("det_boxes", &[1, 100, 4]), ("det_scores", &[1, 100]), ("det_classes", &[1, 100])],
    );
    let yolov7 = graph(&[1, 3, 640, 640], &[("output", &[-1, 7])]);
    let yolov5 = graph(&[1, 3, 640, 640], &[("output", &[1, 25200, 85])]);
    let yolov10 = graph(&[1, 3, 640, 640], &[("output0", &[1, 300, 6])]);
    let segment = graph(&[1, 3, 640, 640], &[("output0", &[1, 116, 8400]), ("output1", &[1, 32, 160, 160])]);
    for (graph, family, classes, nms) in [
        (&nanodet, Family::Nanodet, 80, NmsMode::PerClass),
        (&plus, Family::Nanodet, 80, NmsMode::PerClass),
        (&deim, Family::Detr, 80, NmsMode::None),
        (&torchvision, Family::NmsInside, 91, NmsMode::None),
        (&rtdetr, Family::Detr, 80, NmsMode::None),
        (&rfdetr, Family::Detr, 91, NmsMode::None),
        (&detr, Family::Detr, 91, NmsMode::None),
        (&ultraface, Family::Ultraface, 1, NmsMode::Agnostic),
        (&ssd, Family::Ssd, 20, NmsMode::PerClass),
        (&tensorflow, Family::NmsInside, 91, NmsMode::None),
        (&efficient, Family::NmsInside, 80, NmsMode::None),
        (&yolov7, Family::NmsInside, 80, NmsMode::None),
        (&yolov5, Family::Yolov5, 80, NmsMode::PerClass),
        (&yolov10, Family::EndToEnd, 80, NmsMode::None),
        (&segment, Family::Ultralytics, 80, NmsMode::PerClass),
    ] {
        let found = identify(graph).unwrap_or_else(|error| panic!("{graph}: {error}"));
        assert_eq!((found.family, found.labels.len(), found.nms), (family, classes, nms), "{graph}");
        assert!(!found.assumed.is_empty(), "{graph}: what was assumed is said");
        let head = Head::new(found.family, graph, &found.input, &found.output, found.labels.len());
        assert!(head.is_ok(), "{graph}: {head:?}");
    }
    let softmax = identify(&detr).unwrap().output;
    assert_eq!((softmax.scores, softmax.background), (Some(Scores::Softmax), Some(Background::Last)));
    let bytes = identify(&tensorflow).unwrap();
    assert_eq!((bytes.input.std, &*bytes.labels[18]), ([1.0; 3], "dog"));
}

#[test]
fn exports_of_every_task_say_what_they_are() {
    let noted = |outputs: &[(&str, &[i64])], notes: &[(&str, &str)]| {
        let mut graph = graph(&[1, 3, 640, 640], outputs);
        for (key, value) in [("names", "{0: 'person'}"), ("stride", "32")].iter().chain(notes) {
            graph.metadata.insert((*key).into(), (*value).into());
        }
        identify(&graph).unwrap_or_else(|error| panic!("{graph}: {error}"))
    };
    let pose = [("task", "pose"), ("kpt_shape", "[17, 3]")];
    for (found, family, keypoints) in [
        (noted(&[("o", &[1, 56, 8400])], &pose), Family::Ultralytics, Some([17, 3])),
        (noted(&[("o", &[1, 300, 57])], &pose), Family::EndToEnd, Some([17, 3])),
        (noted(&[("o", &[1, 37, 8400]), ("p", &[1, 32, 160, 160])], &[("task", "segment")]), Family::Ultralytics, None),
        (noted(&[("o", &[1, 300, 38]), ("p", &[1, 32, 160, 160])], &[("task", "segment")]), Family::EndToEnd, None),
        (noted(&[("o", &[1, -1, -1])], &[("end2end", "True")]), Family::EndToEnd, None),
        (noted(&[("o", &[1, 25200, 6])], &[("task", "detect")]), Family::Yolov5, None),
        (noted(&[("o", &[1, 5, 8400])], &[]), Family::Ultralytics, None),
    ] {
        assert_eq!((found.family, found.output.keypoints), (family, keypoints));
        assert!(found.assumed.is_empty(), "{:?}", found.assumed);
    }
}

#[test]
fn what_cannot_be_known_is_asked_for() {
    let pose = graph(&[1, 3, 640, 640], &[("output0", &[1, 56, 8400])]);
    let text = identify(&pose).unwrap_err();
    assert!(text.contains("52 classes") && text.contains("keypoints = [17, 3]"), "{text}");
    let unnamed = graph(&[1, 3, 300, 300], &[("x_box", &[1, 100, 4]), ("x_score", &[1, 100]), ("x_class", &[1, 100])]);
    assert!(identify(&unnamed).unwrap_err().contains("manifest"));
    let new = |output| Head::new(Family::NmsInside, &unnamed, &input((300, 300)), &output, 2);
    let text = new(OutputSpec::default()).unwrap_err();
    assert!(text.contains("boxes = \"xyxy\"") && text.contains("unit"), "{text}");
    assert!(new(OutputSpec { boxes: Some(BoxForm::Yxyx), unit: Some(Unit::Shares), ..OutputSpec::default() }).is_ok());
}
