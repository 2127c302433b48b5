use proptest::prelude::*;

use super::*;
use crate::media::{DetectionTimes, RtpTimestamp};

const FRAME: Duration = Duration::from_millis(33);

fn faces() -> Privacy {
    Privacy { classes: vec!["face".to_owned()], ..Privacy::default() }
}

fn face(track_id: u64, x: f32, y: f32, velocity: Option<[f32; 2]>) -> Detection {
    Detection {
        bbox: BBox::new(x, y, x + 60.0, y + 80.0),
        confidence: 0.9,
        class_name: "face".into(),
        track_id: Some(track_id),
        velocity,
        ..Detection::default()
    }
}

fn result(arrived: Instant, veiled: Vec<Detection>) -> Detections {
    Detections {
        frame_id: 0,
        rtp_timestamp: RtpTimestamp::default(),
        captured: None,
        arrived,
        width: 1000,
        height: 500,
        model: "fake".into(),
        items: Vec::new(),
        events: Vec::new(),
        veiled,
        times: DetectionTimes::default(),
    }
}

fn boxes(cover: Cover) -> Vec<BBox> {
    match cover {
        Cover::Boxes(boxes) => boxes,
        Cover::All(why) => panic!("all is hidden: {why}"),
    }
}

fn is_all(cover: &Cover) -> bool {
    matches!(cover, Cover::All(_))
}

/// Whether a box in pixels of 1000×500 is covered, up to rounding.
fn covers(boxes: &[BBox], truth: &BBox) -> bool {
    let truth = shares(truth, 1000.0, 500.0);
    boxes.iter().any(|b| {
        b.x1 <= truth.x1 + 1e-4 && b.y1 <= truth.y1 + 1e-4 && b.x2 >= truth.x2 - 1e-4 && b.y2 >= truth.y2 - 1e-4
    })
}

#[test]
fn before_the_first_result_the_whole_picture_is_hidden_unless_it_is_asked_otherwise() {
    let (watch, now) = (Watch::new(), Instant::now());
    assert!(is_all(&watch.cover(&faces(), Fit::Able, now, &[])));
    let shown = Privacy { before_first: BeforeFirst::Show, ..faces() };
    assert_eq!(watch.cover(&shown, Fit::Able, now, &[]), Cover::Boxes(Vec::new()));
    assert!(is_all(&watch.cover(&shown, Fit::Unable, now, &[])), "a model that cannot find faces is no answer");
    watch.take(&result(now, Vec::new()));
    assert_eq!(watch.cover(&faces(), Fit::Able, now, &[]), Cover::Boxes(Vec::new()));
}

#[test]
fn without_results_the_last_regions_grow_and_then_all_is_hidden() {
    let (watch, start) = (Watch::new(), Instant::now());
    let item = face(1, 400.0, 200.0, None);
    watch.take(&result(start, vec![item.clone()]));
    let mut before = boxes(watch.cover(&faces(), Fit::Able, start, &[]));
    assert!(covers(&before, &item.bbox));
    for step in 1..=60 {
        let cover = watch.cover(&faces(), Fit::Able, start + FRAME * step, &[]);
        if is_all(&cover) {
            break;
        }
        let now = boxes(cover);
        assert!(now[0].width() > before[0].width() && now[0].height() > before[0].height(), "step {step}");
        before = now;
    }
    assert!(is_all(&watch.cover(&faces(), Fit::Able, start + STALE + FRAME, &[])));
    watch.take(&result(start + STALE + 2 * FRAME, vec![item]));
    boxes(watch.cover(&faces(), Fit::Able, start + STALE + 2 * FRAME, &[]));
}

#[test]
fn a_face_that_is_missed_once_stays_hidden() {
    let (watch, start) = (Watch::new(), Instant::now());
    let item = face(1, 400.0, 200.0, Some([0.0, 0.0]));
    watch.take(&result(start, vec![item.clone()]));
    watch.take(&result(start + FRAME, Vec::new()));
    assert!(covers(&boxes(watch.cover(&faces(), Fit::Able, start + FRAME, &[])), &item.bbox));
    watch.take(&result(start + HELD + FRAME, Vec::new()));
    assert_eq!(boxes(watch.cover(&faces(), Fit::Able, start + HELD + FRAME, &[])), [], "it has gone");
}

#[test]
fn another_source_begins_hidden_and_late_results_of_the_one_before_do_not_count() {
    let (watch, start) = (Watch::new(), Instant::now());
    watch.take(&result(start + FRAME, Vec::new()));
    watch.begin(start + 3 * FRAME);
    watch.take(&result(start + 2 * FRAME, Vec::new()));
    assert!(is_all(&watch.cover(&faces(), Fit::Able, start + 3 * FRAME, &[])));
}

#[test]
fn boxes_as_they_are_drawn_are_hidden_too() {
    let (watch, now) = (Watch::new(), Instant::now());
    watch.take(&result(now, Vec::new()));
    let drawn = face(1, 700.0, 100.0, None);
    let picture = I420Frame::black(1000, 500);
    let others = [drawn.clone(), Detection { class_name: "dog".into(), ..face(2, 0.0, 0.0, None) }];
    let hidden = hidden_of(&faces(), &others, &picture);
    assert_eq!(hidden.len(), 1);
    assert!(covers(&boxes(watch.cover(&faces(), Fit::Able, now, &hidden)), &drawn.bbox));
}

#[test]
fn a_crowd_hides_all() {
    let (watch, now) = (Watch::new(), Instant::now());
    let many = (0..300u16).map(|n| face(n.into(), f32::from(n) * 61.0, 0.0, None)).collect();
    watch.take(&result(now, many));
    assert!(is_all(&watch.cover(&faces(), Fit::Able, now, &[])));
}

#[test]
fn what_cannot_be_a_mask_is_refused() {
    for (masks, hint) in [
        (vec![vec![[0.0, 0.0], [1.0, 1.0]]], "number 1"),
        (vec![vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], vec![]], "number 2 has no corners"),
        (vec![vec![[0.0, 0.0], [1.5, 0.0], [1.0, 1.0]]], "1.5"),
    ] {
        let error = Privacy { masks, ..Privacy::default() }.validate().unwrap_err();
        assert!(error.contains(hint), "{error}");
    }
    assert!(!Privacy::default().is_on() && faces().is_on());
}

#[test]
fn what_is_covered_cannot_be_seen_in_the_picture() {
    let mut picture = I420Frame::black(1000, 500);
    for (n, sample) in picture.planes_mut().0.iter_mut().enumerate() {
        *sample = if (n % 1000 + n / 1000) % 2 == 0 { 200 } else { 50 };
    }
    let privacy = Privacy { masks: vec![vec![[0.8, 0.8], [1.0, 0.8], [1.0, 1.0], [0.8, 1.0]]], ..faces() };
    let (watch, now) = (Watch::new(), Instant::now());
    watch.take(&result(now, vec![face(1, 400.0, 200.0, None)]));
    let cover = watch.cover(&privacy, Fit::Able, now, &[]);
    hide(&mut Hider::new(), &mut picture, &privacy, &cover);
    let luma = |x: usize, y: usize| picture.plane(crate::media::Plane::Y)[y * 1000 + x];
    for y in 200..280 {
        for x in 400..459 {
            assert!(luma(x, y).abs_diff(luma(x + 1, y)) < 5, "{x}, {y}");
        }
    }
    assert_eq!(luma(900, 450), 16);
    assert!([50, 200].contains(&luma(100, 100)));
}

proptest! {
    /// A tracked face that goes its way is covered at every delay up to the limit.
    #[test]
    fn what_moves_as_it_did_is_covered(vx in -600f32..600.0, vy in -300f32..300.0, late in 0u64..450, x in 300f32..600.0, y in 150f32..300.0) {
        let (watch, start) = (Watch::new(), Instant::now());
        watch.take(&result(start, vec![face(1, x, y, Some([vx, vy]))]));
        let seconds = Duration::from_millis(late).as_secs_f32();
        let (nx, ny) = (x + vx * seconds, y + vy * seconds);
        let covered = boxes(watch.cover(&faces(), Fit::Able, start + Duration::from_millis(late), &[]));
        prop_assert!(covers(&covered, &BBox::new(nx, ny, nx + 60.0, ny + 80.0)));
        // And one that stopped dead.
        prop_assert!(covers(&covered, &BBox::new(x, y, x + 60.0, y + 80.0)));
    }

    /// Whatever results come or do not come: what is covered never shrinks between two of them.
    #[test]
    fn between_two_results_nothing_is_uncovered(
        steps in prop::collection::vec((0u64..400, prop::option::of(prop::collection::vec((0u64..4, 0f32..900.0, 0f32..400.0), 0..4))), 1..30),
    ) {
        let (watch, mut now) = (Watch::new(), Instant::now());
        let mut before: Option<Vec<BBox>> = None;
        for (gap, found) in steps {
            now += Duration::from_millis(gap);
            if let Some(found) = found {
                let items = found.into_iter().map(|(id, x, y)| face(id, x, y, None)).collect::<Vec<_>>();
                watch.take(&result(now, items.clone()));
                if let Cover::Boxes(covered) = watch.cover(&faces(), Fit::Able, now, &[]) {
                    for item in items {
                        prop_assert!(covers(&covered, &item.bbox));
                    }
                }
                before = None;
            }
            match watch.cover(&faces(), Fit::Able, now, &[]) {
                Cover::All(_) => before = None,
                Cover::Boxes(covered) => {
                    for (old, new) in before.iter().flatten().zip(&covered) {
                        prop_assert!(new.x1 <= old.x1 && new.y1 <= old.y1 && new.x2 >= old.x2 && new.y2 >= old.y2);
                    }
                    before = Some(covered);
                }
            }
        }
    }
}
