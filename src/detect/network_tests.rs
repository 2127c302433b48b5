//! Several pictures in one run of a real session, on a graph whose answers are known.

use proptest::prelude::*;

use super::*;
use crate::detect::backend::made::{BOX, brightness};
use crate::detect::{Config, Model};
use crate::media::I420Frame;

/// The model of [`brightness`] with that first side, and `batch` allowed.
fn model(side: i64, batch: usize) -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bright.onnx"), brightness(side)).unwrap();
    let config =
        Config { model: "bright".into(), models_dir: folder.path().into(), batch: Some(batch), ..Config::default() };
    let model = Model::load(&config).unwrap();
    (folder, model)
}

fn grey(luma: u8) -> I420Frame {
    let mut frame = I420Frame::black(64, 64);
    frame.planes_mut().0.fill(luma);
    frame
}

fn settings(confidence: f32) -> Settings {
    Settings { confidence, iou: 0.5, classes: None, max_detections: 10 }
}

#[test]
fn only_a_graph_with_an_open_batch_axis_gets_batches() {
    assert_eq!(model(-1, 4).1.batch(), 4);
    assert_eq!(model(-1, 1).1.batch(), 1);
    assert_eq!(model(1, 4).1.batch(), 1);
}

#[test]
fn each_picture_of_a_batch_gets_what_it_gets_alone() {
    let (_folder, model) = model(-1, 4);
    let mut detector = model.detector().unwrap();
    let (pictures, wish) = ([40, 120, 200].map(grey), settings(0.05));
    let batch = pictures.each_ref().map(|picture| (Picture::I420(picture), &wish));
    let together = detector.detect_batch(&batch);
    assert_eq!(together.len(), 3);
    let mut scores = Vec::new();
    for (together, (picture, wish)) in together.into_iter().zip(batch) {
        let (together, alone) = (together.unwrap(), detector.detect(picture, wish).unwrap());
        assert_eq!((together.shared_by, alone.shared_by), (3, 1));
        assert_eq!(together.items, alone.items);
        let [x1, y1, x2, y2] = BOX;
        let found = together.items[0].bbox;
        assert!([found.x1 - x1, found.y1 - y1, found.x2 - x2, found.y2 - y2].iter().all(|off| off.abs() < 1e-3));
        scores.push(together.items[0].confidence);
    }
    assert!(scores.is_sorted() && scores[2] - scores[0] > 0.5, "each its own: {scores:?}");
}

#[test]
fn each_picture_of_a_batch_is_judged_by_its_own_wishes() {
    let (_folder, model) = model(-1, 4);
    let mut detector = model.detector().unwrap();
    let picture = grey(120);
    let unknown = Settings { classes: Some(["no such class".to_owned()].into()), ..settings(0.05) };
    let wishes = [settings(0.05), settings(0.9), unknown, settings(0.05)];
    let batch: Vec<_> = wishes.iter().map(|wish| (Picture::I420(&picture), wish)).collect();
    let counts: Vec<_> = detector.detect_batch(&batch).into_iter().map(|found| found.unwrap().items.len()).collect();
    assert_eq!(counts, [1, 0, 0, 1]);
}

#[test]
fn a_bad_picture_costs_itself_and_not_the_batch() {
    let (_folder, model) = model(-1, 4);
    let mut detector = model.detector().unwrap();
    let (picture, wish) = (grey(120), settings(0.05));
    let bad = Picture::Rgb { data: &[1, 2, 3], width: 64, height: 64 };
    let good = Picture::I420(&picture);
    let found = detector.detect_batch(&[(good, &wish), (bad, &wish), (good, &wish)]);
    assert_eq!(found[0].as_ref().unwrap().shared_by, 2);
    assert!(found[1].is_err());
    assert_eq!(found[2].as_ref().unwrap().items.len(), 1);
}

#[test]
fn a_batch_that_the_graph_refuses_is_looked_at_one_by_one() {
    // A graph of one picture at a time, whatever the pool believes.
    let (_folder, model) = model(1, 4);
    let mut detector = model.detector().unwrap();
    let (pictures, wish) = ([40, 200].map(grey), settings(0.05));
    let batch = pictures.each_ref().map(|picture| (Picture::I420(picture), &wish));
    for found in detector.detect_batch(&batch) {
        let found = found.unwrap();
        assert_eq!((found.items.len(), found.shared_by), (1, 1));
    }
    assert!(detector.detect_batch(&[]).is_empty());
}

proptest! {
    #[test]
    fn the_parts_of_a_batch_are_its_pictures(count in 1usize..6, len in 1usize..9) {
        let data: Vec<f32> = (0u16..).map(f32::from).take(count * len).collect();
        let sides = [count, len].map(|side| i64::try_from(side).unwrap());
        let whole = [Output { shape: &sides, data: &data }];
        let shapes = [vec![1, sides[1]]];
        let mut joined = Vec::new();
        for at in 0..count {
            let parts = part(&whole, &shapes, (at, count)).unwrap();
            prop_assert_eq!(parts[0].shape, &[1, sides[1]]);
            joined.extend_from_slice(parts[0].data);
        }
        prop_assert_eq!(&joined, &data);
        prop_assert!(part(&whole, &shapes, (0, count + 1)).is_err(), "the first side does not count so many");
    }
}
