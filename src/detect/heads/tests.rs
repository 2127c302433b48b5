//! Heads on hand-made outputs, on garbage, and the recognition of graphs.

use proptest::prelude::*;

use super::*;
use crate::detect::model::{Colour, Fit, Interpolation};

const ALL: Filter<'_> = Filter { confidence: 0.5, classes: None };

fn port(kind: &str, shape: &[i64]) -> Port {
    let shape = shape.iter().map(|&side| usize::try_from(side).ok()).collect();
    Port { name: "x".into(), kind: kind.into(), shape }
}

fn graph(input: &[i64], outputs: &[&[i64]]) -> Graph {
    Graph {
        inputs: vec![port("f32", input)],
        outputs: outputs.iter().map(|shape| port("f32", shape)).collect(),
        metadata: [].into(),
    }
}

fn decoded(
    family: Family,
    classes: usize,
    size: (usize, usize),
    outputs: &[(&[i64], &[f32])],
    filter: &Filter<'_>,
) -> Result<Vec<Candidate>, String> {
    // What the graph declares is what the family has; what it then gives may be anything.
    let declared: Vec<&[i64]> = match family {
        Family::Centerface => vec![&[1, 1, -1, -1], &[1, 2, -1, -1], &[1, 2, -1, -1], &[1, 10, -1, -1]],
        _ => vec![&[1, -1, -1]],
    };
    let graph = graph(&[1, 3, -1, -1], &declared);
    let mut head = Head::new(family, &graph, &input(size), &OutputSpec::default(), classes).unwrap();
    let outputs: Vec<_> = outputs.iter().map(|&(shape, data)| Output { shape, data }).collect();
    let mut out = Vec::new();
    head.decode(&outputs, size, filter, &mut out)?;
    Ok(out)
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

/// A 32×32 input has 16 + 4 + 1 cells; the one of stride 16 at (1, 0) is filled.
fn yolox_line(line: &[f32; 7]) -> Vec<f32> {
    let mut data = vec![0.0; 21 * 7];
    data[17 * 7..18 * 7].copy_from_slice(line);
    data
}

#[test]
fn a_yolox_line_is_cells_logarithms_and_scores() {
    let data = yolox_line(&[0.5, 0.25, 2f32.ln(), 0.0, 0.9, 0.1, 0.8]);
    let found = decoded(Family::Yolox, 2, (32, 32), &[(&[1, 21, 7], &data)], &ALL).unwrap();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(one.class_id, 1);
    assert!((one.score - 0.72).abs() < 1e-6);
    for (found, expected) in [(one.bbox.x1, 8.0), (one.bbox.y1, -4.0), (one.bbox.x2, 40.0), (one.bbox.y2, 12.0)] {
        assert!((found - expected).abs() < 1e-4, "{:?}", one.bbox);
    }
}

#[test]
fn an_unwanted_class_is_left_out() {
    let data = yolox_line(&[0.0, 0.0, 0.0, 0.0, 0.9, 0.1, 0.8]);
    for (wanted, count) in [([true, false], 0), ([false, true], 1)] {
        let filter = Filter { confidence: 0.5, classes: Some(&wanted) };
        let found = decoded(Family::Yolox, 2, (32, 32), &[(&[1, 21, 7], &data)], &filter).unwrap();
        assert_eq!(found.len(), count);
    }
}

#[test]
fn an_ultralytics_column_is_centre_size_and_scores() {
    // Three anchors of two classes; the second is sure of class 1.
    #[rustfmt::skip]
    let data = [
        1.0, 10.0, 0.0,
        1.0, 20.0, 0.0,
        2.0, 8.0, 0.0,
        2.0, 4.0, 0.0,
        0.1, 0.2, 0.4,
        0.3, 0.7, 0.4,
    ];
    let found = decoded(Family::Ultralytics, 2, (32, 32), &[(&[1, 6, 3], &data)], &ALL).unwrap();
    assert_eq!(found, [Candidate { bbox: BBox::new(6.0, 18.0, 14.0, 22.0), score: 0.7, class_id: 1, row: 1 }]);
}

#[test]
fn of_equal_scores_the_first_class_wins() {
    let data = [1.0, 1.0, 2.0, 2.0, 0.8, 0.8];
    let found = decoded(Family::Ultralytics, 2, (32, 32), &[(&[1, 6, 1], &data)], &ALL).unwrap();
    assert_eq!(found[0].class_id, 0);
}

#[test]
fn a_centerface_peak_is_a_face() {
    let (mut heat, mut scale, mut offset) = (vec![0.0; 64], vec![0.0; 128], vec![0.0; 128]);
    let cell = 3 * 8 + 2;
    heat[cell] = 0.9;
    (scale[cell], scale[64 + cell]) = (3f32.ln(), 2f32.ln());
    (offset[cell], offset[64 + cell]) = (0.5, 0.25);
    let landmarks = vec![0.0; 640];
    let outputs: [(&[i64], &[f32]); 4] =
        [(&[1, 1, 8, 8], &heat), (&[1, 2, 8, 8], &scale), (&[1, 2, 8, 8], &offset), (&[1, 10, 8, 8], &landmarks)];
    let found = decoded(Family::Centerface, 1, (32, 32), &outputs, &ALL).unwrap();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    // Height 12 and width 8 around row 3 + 0.5 + 0.5, column 2 + 0.25 + 0.5, times 4.
    for (found, expected) in [(one.bbox.x1, 7.0), (one.bbox.y1, 10.0), (one.bbox.x2, 15.0), (one.bbox.y2, 22.0)] {
        assert!((found - expected).abs() < 1e-4, "{:?}", one.bbox);
    }
}

#[test]
fn numbers_that_are_none_are_no_objects() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        for at in [0, 1, 2, 3] {
            let mut line = [0.0, 0.0, 0.0, 0.0, 0.9, 0.1, 0.8];
            line[at] = bad;
            let data = yolox_line(&line);
            for one in decoded(Family::Yolox, 2, (32, 32), &[(&[1, 21, 7], &data)], &ALL).unwrap() {
                assert!(one.bbox.is_finite(), "{bad} at {at}");
            }
        }
    }
    let data = yolox_line(&[0.0, 0.0, 0.0, 0.0, f32::INFINITY, 0.1, 0.8]);
    assert_eq!(decoded(Family::Yolox, 2, (32, 32), &[(&[1, 21, 7], &data)], &ALL).unwrap(), []);
}

#[test]
fn other_shapes_than_expected_are_an_error_that_names_both() {
    for family in [Family::Yolox, Family::Ultralytics, Family::Centerface] {
        for (shape, len) in [(&[1i64, 21, 8][..], 168), (&[1, 21, 7], 3), (&[7], 7), (&[1, -21, 7], 0), (&[], 1)] {
            let error = decoded(family, 2, (32, 32), &[(shape, &vec![0.0; len])], &ALL).unwrap_err();
            assert!(error.contains("expected") && error.contains(&format!("{shape:?}")), "{error}");
        }
        assert!(decoded(family, 2, (32, 32), &[], &ALL).is_err());
    }
}

#[test]
fn families_are_recognised_by_their_outputs() {
    let yolox = identify(&graph(&[1, 3, 416, 416], &[&[1, 3549, 85]])).unwrap();
    assert_eq!((yolox.family, yolox.labels.len(), yolox.labels[0].as_str()), (Family::Yolox, 80, "person"));
    assert!(yolox.assumed.iter().any(|line| line.contains("COCO")));
    let person = identify(&graph(&[1, 3, 192, 192], &[&[1, 756, 6]])).unwrap();
    assert_eq!((person.family, person.labels), (Family::Yolox, vec!["class 0".to_string()]));
    let eight = identify(&graph(&[-1, 3, 640, 640], &[&[-1, 84, 8400]])).unwrap();
    assert_eq!((eight.family, eight.nms), (Family::Ultralytics, super::super::nms::NmsMode::PerClass));
    let maps: [&[i64]; 4] = [&[1, 1, -1, -1], &[1, 2, -1, -1], &[1, 2, -1, -1], &[1, 10, -1, -1]];
    assert_eq!(identify(&graph(&[1, 3, -1, -1], &maps)).unwrap().family, Family::Centerface);
}

#[test]
fn an_ultralytics_export_says_itself_what_it_is() {
    let mut graph = graph(&[1, 3, -1, -1], &[&[1, -1, -1]]);
    let mut note = |key: &str, value: &str| drop(graph.metadata.insert(key.into(), value.into()));
    note("names", "{0: 'cat', 1: 'dog'}");
    note("stride", "32");
    note("imgsz", "[256, 320]");
    note("task", "detect");
    let found = identify(&graph).unwrap();
    assert_eq!(found.labels, ["cat", "dog"]);
    assert_eq!(found.input.size, InputSize::Fixed { width: 320, height: 256 });
    for (key, value, expected) in [
        ("task", "classify", "`classify`"),
        ("task", "pose", "`kpt_shape`"),
        ("names", "{}", "names"),
        ("stride", "64", "64"),
        ("imgsz", "[250, 320]", "320×250"),
    ] {
        let mut bad = graph.clone();
        bad.metadata.insert(key.into(), value.into());
        let error = identify(&bad).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_no_head_decodes_is_refused() {
    for graph in [
        graph(&[1, 3, 320, 320], &[&[1, 300, 5]]),
        graph(&[1, 3, 240, 320], &[&[1, 4420, 2], &[1, 4420, 4]]),
        graph(&[1, 3, -1, -1], &[&[1, -1, 85]]),
        graph(&[2, 3, 416, 416], &[&[1, 3549, 85]]),
        graph(&[1, 416, 416, 4], &[&[1, 3549, 85]]),
        graph(&[1, 3, 416, 416], &[]),
        Graph::default(),
    ] {
        let error = identify(&graph).unwrap_err();
        assert!(error.contains("expected") || error.contains("recognised"), "{error}");
    }
}

#[test]
fn a_head_refuses_a_graph_that_does_not_fit_its_manifest() {
    let head =
        |family, graph: &Graph, classes| Head::new(family, graph, &input((416, 416)), &OutputSpec::default(), classes);
    let refused = |family, graph: &Graph, classes| head(family, graph, classes).unwrap_err();
    let good = graph(&[1, 3, 416, 416], &[&[1, 3549, 85]]);
    assert!(head(Family::Yolox, &good, 80).is_ok());
    assert!(refused(Family::Yolox, &good, 79).contains("[1,3549,84]"));
    assert!(refused(Family::Ultralytics, &good, 80).contains("[1,84,3549]"));
    assert!(refused(Family::Centerface, &good, 1).contains("CenterFace"));
    let small = graph(&[1, 3, 320, 320], &[&[1, 2100, 85]]);
    assert!(refused(Family::Yolox, &small, 80).contains("416×416"));
    let with_input = |kind: &str, shape: &[i64]| Graph { inputs: vec![port(kind, shape)], ..good.clone() };
    assert!(head(Family::Yolox, &with_input("f16", &[1, 3, 416, 416]), 80).is_ok());
    assert!(head(Family::Yolox, &with_input("u8", &[1, 416, 416, 3]), 80).is_ok());
    assert!(refused(Family::Yolox, &with_input("i64", &[1, 3, 416, 416]), 80).contains("i64"));
    assert!(refused(Family::Yolox, &with_input("f32", &[2, 3, 416, 416]), 80).contains("expected"));
    let scaled = InputSpec { std: [255.0; 3], ..input((416, 416)) };
    let bytes = with_input("u8", &[1, 416, 416, 3]);
    assert!(Head::new(Family::Yolox, &bytes, &scaled, &OutputSpec::default(), 80).unwrap_err().contains("u8"));
}

fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), 0f32..1.0, Just(0.0), Just(f32::NAN), Just(f32::INFINITY)]
}

proptest! {
    #[test]
    fn no_output_makes_a_head_panic_or_answer_with_garbage(
        data in prop::collection::vec(any_number(), 0..200),
        shape in prop::collection::vec(-2i64..30, 0..5),
        confidence in 0f32..1.0,
        family in prop::sample::select(vec![Family::Yolox, Family::Ultralytics, Family::Centerface]),
    ) {
        let filter = Filter { confidence, classes: None };
        let _ = decoded(family, 2, (32, 32), &[(shape.as_slice(), data.as_slice()); 4], &filter);
        let anchors = i64::try_from(data.len() / 6).unwrap();
        let whole = &data[..data.len() / 6 * 6];
        for one in decoded(Family::Ultralytics, 2, (32, 32), &[(&[1, 6, anchors], whole)], &filter).unwrap() {
            prop_assert!(one.bbox.is_finite() && (confidence..=1.0).contains(&one.score));
        }
    }

    #[test]
    fn a_full_yolox_output_gives_finite_candidates(data in prop::collection::vec(any_number(), 21 * 7)) {
        let filter = Filter { confidence: 0.0, classes: None };
        for one in decoded(Family::Yolox, 2, (32, 32), &[(&[1, 21, 7], &data)], &filter).unwrap() {
            prop_assert!(one.bbox.is_finite() && (0.0..=1.0).contains(&one.score));
        }
    }
}
