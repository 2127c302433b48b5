use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::matching::iou;
use super::*;

/// A case of `tests/data/eval/reference.py`.
#[derive(Deserialize)]
struct Case {
    classes: usize,
    images: usize,
    labels: Vec<CaseLabel>,
    guesses: Vec<CaseGuess>,
    expected: Expected,
}

#[derive(Deserialize)]
struct CaseLabel {
    image: usize,
    class: usize,
    #[serde(rename = "box")]
    bbox: [f64; 4],
    crowd: bool,
}

#[derive(Deserialize)]
struct CaseGuess {
    image: usize,
    class: usize,
    #[serde(rename = "box")]
    bbox: [f64; 4],
    score: f64,
}

#[derive(Deserialize)]
struct Expected {
    all: ExpectedScore,
    classes: Vec<ExpectedScore>,
}

#[derive(Deserialize)]
struct ExpectedScore {
    ap: Option<f64>,
    ap50: Option<f64>,
}

fn rect([x, y, w, h]: [f64; 4]) -> Rect {
    Rect { x, y, w, h }
}

fn assert_near(ours: &ClassScore, theirs: &ExpectedScore, place: &str) {
    for (ours, theirs) in [(ours.ap, theirs.ap), (ours.ap50, theirs.ap50)] {
        let near = match (ours, theirs) {
            (Some(ours), Some(theirs)) => (ours - theirs).abs() < 1e-12,
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        assert!(near, "{place}: {ours:?} instead of {theirs:?}");
    }
}

#[test]
fn the_numbers_are_those_of_pycocotools() {
    let text = include_str!("../../../tests/data/eval/cases.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    assert!(cases.len() > 15);
    for (number, case) in cases.iter().enumerate() {
        let mut evaluation = Evaluation::new(case.classes);
        for image in 0..case.images {
            let labels: Vec<Label> = case
                .labels
                .iter()
                .filter(|label| label.image == image)
                .map(|label| Label { class: label.class, rect: rect(label.bbox), crowd: label.crowd })
                .collect();
            let guesses: Vec<Guess> = case
                .guesses
                .iter()
                .filter(|guess| guess.image == image)
                .map(|guess| Guess { class: guess.class, rect: rect(guess.bbox), score: guess.score })
                .collect();
            evaluation.add(&labels, &guesses);
        }
        let score = evaluation.score();
        assert_eq!(score.images, case.images);
        assert_near(&score.all, &case.expected.all, &format!("case {number}"));
        for (class, (ours, theirs)) in score.classes.iter().zip(&case.expected.classes).enumerate() {
            assert_near(ours, theirs, &format!("case {number}, class {class}"));
        }
    }
}

fn label(class: usize, x: f64) -> Label {
    Label { class, rect: rect([x, 0.0, 10.0, 10.0]), crowd: false }
}

fn guess(class: usize, x: f64, score: f64) -> Guess {
    Guess { class, rect: rect([x, 0.0, 10.0, 10.0]), score }
}

fn scored(labels: &[Label], found: &[Guess]) -> ClassScore {
    let mut evaluation = Evaluation::new(2);
    evaluation.add(labels, found);
    evaluation.score().classes[0]
}

#[test]
fn by_hand_half_of_the_objects_found_at_once_is_a_little_more_than_half() {
    // One of two found, and nothing wrong: recall 0.5 at precision 1, that is 51 of the 101 points.
    let half = scored(&[label(0, 0.0), label(0, 100.0)], &[guess(0, 0.0, 0.9)]);
    assert!((half.ap.unwrap() - 51.0 / 101.0).abs() < 1e-12, "{half:?}");
    // A wrong one before the right one: precision 1/2 all along.
    let late = scored(&[label(0, 0.0)], &[guess(0, 50.0, 0.9), guess(0, 0.0, 0.8)]);
    assert!((late.ap50.unwrap() - 0.5).abs() < 1e-12, "{late:?}");
    // 10 by 10 pixels, moved by 2: IoU 80/120 is enough for 0.50, 0.55, 0.60 and 0.65.
    let moved = scored(&[label(0, 0.0)], &[guess(0, 2.0, 0.9)]);
    assert!((moved.ap.unwrap() - 0.4).abs() < 1e-12 && (moved.ap50.unwrap() - 1.0).abs() < 1e-12, "{moved:?}");
}

#[test]
fn what_is_not_labelled_has_no_precision_and_what_is_not_found_has_none_of_it() {
    assert_eq!(scored(&[], &[guess(0, 0.0, 0.9)]), ClassScore::default());
    assert_eq!(scored(&[label(0, 0.0)], &[]), ClassScore { objects: 1, ap: Some(0.0), ap50: Some(0.0) });
    let strange = [guess(7, 0.0, 0.9), guess(0, f64::NAN, 0.9), guess(0, 0.0, f64::NAN)];
    assert_eq!(scored(&[label(0, 0.0)], &strange).ap, Some(0.0));
    assert_eq!(Evaluation::new(0).score(), Score::default());
}

#[test]
fn labels_of_coco_are_found_by_their_file_and_folder() {
    let text = r#"{"images":[{"id":7,"file_name":"a/x.jpg"},{"id":3,"file_name":"b/x.jpg"},{"id":9,"file_name":"y.jpg"}],
        "categories":[{"id":18,"name":"dog"},{"id":1,"name":"person"}],
        "annotations":[{"image_id":7,"category_id":18,"bbox":[1,2,3,4],"iscrowd":1,"area":12,"id":5},
                       {"image_id":9,"category_id":1,"bbox":[5,6,7.5,8]}]}"#;
    let labels = CocoLabels::parse(text).unwrap();
    assert_eq!(labels.classes, ["person", "dog"]);
    let dog = Label { class: 1, rect: rect([1.0, 2.0, 3.0, 4.0]), crowd: true };
    assert_eq!(labels.of(Path::new("/data/a/x.jpg")).unwrap(), [dog]);
    assert_eq!(labels.of(Path::new("../b/x.jpg")).unwrap(), []);
    assert_eq!(labels.of(Path::new("x.jpg")), None, "which of the two?");
    assert_eq!(labels.of(Path::new("elsewhere/y.jpg")).unwrap().len(), 1);
    assert_eq!(labels.of(Path::new("z.jpg")), None);
    for (from, to, hint) in [
        ("\"category_id\":18", "\"category_id\":5", "annotations[0]: category_id 5"),
        ("\"image_id\":9", "\"image_id\":1", "annotations[1]: image_id 1"),
        ("[5,6,7.5,8]", "[5,6,-7.5,8]", "annotations[1]: bbox"),
        ("[5,6,7.5,8]", "[5,6]", "no labels of COCO"),
    ] {
        let error = CocoLabels::parse(&text.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn labels_of_yolo_are_shares_of_the_picture() {
    let labels = yolo_labels("0 0.5 0.5 0.2 0.4\n\n2 0.1 0.1 0.3 0.1 0.3 0.5\n", 100.0, 50.0).unwrap();
    let near = |rect: Rect, expected: [f64; 4]| {
        let found = [rect.x, rect.y, rect.w, rect.h];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{rect:?}");
    };
    assert_eq!((labels.len(), labels[0].class, labels[1].class), (2, 0, 2));
    near(labels[0].rect, [40.0, 15.0, 20.0, 20.0]);
    near(labels[1].rect, [10.0, 5.0, 20.0, 20.0]);
    assert_eq!(yolo_labels("", 1.0, 1.0), Ok(Vec::new()));
    for (text, hint) in [
        ("0 0.5 0.5 0.2 0.4\nx 1 2 3 4", "line 2"),
        ("0 0.5 0.5 0.2", "class cx cy w h"),
        ("0 a b c d", "numbers"),
        ("0 0.5 0.5 -0.2 0.4", "no box"),
        ("0 0.5 0.5 nan 0.4", "no box"),
    ] {
        let error = yolo_labels(text, 10.0, 10.0).unwrap_err();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn names_of_classes_are_read_in_every_way_of_writing_them() {
    assert_eq!(class_names("person\n dog \n\n"), ["person", "dog"]);
    for text in [
        "path: x\nnames: [person, 'dog']\nnc: 2",
        "names: [\n  person,\n  \"dog\",\n]\n",
        "names:\n  - person\n  - dog\ntrain: images",
        "names:\n- person # a human\n- dog\n",
        "# a comment\nnames:\n  0: person\n  1: dog\n\nval: x",
        "names: {0: person, 1: dog}",
    ] {
        assert_eq!(yaml_names(text).unwrap(), ["person", "dog"], "{text}");
    }
    for text in
        ["", "nc: 2", "names: person", "names:\n  1: person\n  0: dog", "names: []", "names:\nnc: 3", "names: [a"]
    {
        assert_eq!(yaml_names(text), None, "{text}");
    }
}

/// Sides are nothing or a hundredth of a pixel and more: of a side much smaller than its place, what doubles keep is not enough
/// for the eleven digits that are asked for below.
fn a_rect() -> impl Strategy<Value = Rect> {
    let side = || prop_oneof![1 => Just(0.0f64), 9 => 0.01..40.0f64];
    (0.0..90.0f64, 0.0..90.0f64, side(), side()).prop_map(|(x, y, w, h)| Rect { x, y, w, h })
}

proptest! {
    #[test]
    fn overlaps_are_shares_and_the_same_either_way(a in a_rect(), b in a_rect()) {
        let both = iou(&a, &b, false);
        prop_assert!((0.0..=1.0 + 1e-11).contains(&both));
        prop_assert!((both - iou(&b, &a, false)).abs() < 1e-11);
        prop_assert!(iou(&a, &b, true) + 1e-11 >= both, "in a crowd it is never less");
        prop_assert!(a.w * a.h == 0.0 || (iou(&a, &a, false) - 1.0).abs() < 1e-11);
    }

    #[test]
    fn precision_is_a_share_the_truth_itself_is_perfect_and_order_does_not_matter(
        rects in prop::collection::vec((0usize..3, a_rect(), any::<bool>()), 0..8),
        found in prop::collection::vec((0usize..3, a_rect()), 0..12),
        turn in 0usize..12,
    ) {
        let labels: Vec<Label> =
            rects.iter().map(|&(class, rect, crowd)| Label { class, rect, crowd }).collect();
        // No two scores are equal.
        let mut guesses: Vec<Guess> = found
            .iter()
            .enumerate()
            .map(|(n, &(class, rect))| Guess { class, rect, score: 1.0 / (n as f64 + 1.0) })
            .collect();
        let judge = |guesses: &[Guess]| {
            let mut evaluation = Evaluation::new(3);
            evaluation.add(&labels, guesses);
            evaluation.score()
        };
        let score = judge(&guesses);
        for class in score.classes.iter().chain([&score.all]) {
            let (Some(ap), Some(ap50)) = (class.ap, class.ap50) else { continue };
            prop_assert!((0.0..=1.0).contains(&ap) && (0.0..=1.0).contains(&ap50) && ap <= ap50 + 1e-12);
        }
        prop_assert_eq!(score.all.objects, labels.iter().filter(|label| !label.crowd).count());
        if !guesses.is_empty() {
            let by = turn % guesses.len();
            guesses.rotate_left(by);
        }
        prop_assert_eq!(&judge(&guesses), &score);
        let truth: Vec<Guess> = labels
            .iter()
            .filter(|label| label.rect.w > 0.5 && label.rect.h > 0.5)
            .map(|label| Guess { class: label.class, rect: label.rect, score: 0.5 })
            .collect();
        // What is in a crowd may be taken for an object beside it.
        if truth.len() == labels.len() && !labels.is_empty() && labels.iter().all(|label| !label.crowd) {
            prop_assert!((judge(&truth).all.ap50.unwrap() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,120}", lines in prop::collection::vec("[0-9a-z .:{}\\[\\],#'-]{0,30}", 0..8)) {
        let many = lines.join("\n");
        for text in [&text, &many] {
            let _ = yolo_labels(text, 10.0, 10.0);
            let _ = yaml_names(text);
            let _ = yaml_names(&format!("names:{text}"));
            let _ = CocoLabels::parse(text);
            let _ = class_names(text);
        }
    }
}
