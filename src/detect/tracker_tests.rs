use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::media::BBox;

const FRAME: Duration = Duration::from_millis(33);

fn object(class_id: u32, confidence: f32, x: f32, y: f32) -> Detection {
    Detection {
        bbox: BBox::new(x, y, x + 60.0, y + 80.0),
        confidence,
        class_id,
        class_name: "thing".into(),
        ..Detection::default()
    }
}

fn ids(items: &[Detection]) -> Vec<u64> {
    items.iter().map(|item| item.track_id.unwrap()).collect()
}

#[test]
fn an_object_is_named_at_once_and_keeps_its_name() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for step in 0..30u8 {
        let mut items = [object(0, 0.9, 100.0 + 5.0 * f32::from(step), 100.0)];
        tracker.update(now, &mut items);
        assert_eq!(ids(&items), [1]);
        assert_eq!(items[0].velocity.is_some(), step > 0);
        now += FRAME;
    }
}

#[test]
fn the_velocity_is_in_pixels_per_second() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    let mut velocity = [0.0; 2];
    for step in 0..30u8 {
        let jitter = if step % 2 == 0 { 0.5 } else { -0.5 };
        let mut items = [object(0, 0.9, 3.3 * f32::from(step) + jitter, 500.0 - 6.6 * f32::from(step))];
        tracker.update(now, &mut items);
        velocity = items[0].velocity.unwrap_or_default();
        now += FRAME;
    }
    assert!((velocity[0] - 100.0).abs() < 15.0 && (velocity[1] + 200.0).abs() < 5.0, "{velocity:?}");
}

#[test]
fn two_objects_that_cross_keep_their_names() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for step in 0..60u8 {
        let way = 8.0 * f32::from(step);
        // They pass each other with an offset of 30 pixels: at the meeting their boxes overlap by half.
        let mut items = [object(0, 0.9, 100.0 + way, 100.0), object(0, 0.8, 560.0 - way, 130.0)];
        if step % 2 == 1 {
            items.swap(0, 1);
        }
        tracker.update(now, &mut items);
        items.sort_by(|a, b| a.bbox.y1.total_cmp(&b.bbox.y1));
        assert_eq!(ids(&items), [1, 2], "step {step}");
        now += FRAME;
    }
}

#[test]
fn missed_detections_do_not_cost_the_name() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for step in 0..40u8 {
        let mut items = [object(0, 0.9, 10.0 * f32::from(step), 100.0)];
        if (15..30).contains(&step) {
            tracker.update(now, &mut []);
        } else {
            tracker.update(now, &mut items);
            assert_eq!(ids(&items), [1], "step {step}: found where it was bound to be");
        }
        now += FRAME;
    }
}

#[test]
fn an_object_that_left_does_not_lend_its_name() {
    let (mut tracker, now) = (Tracker::new(), Instant::now());
    let mut items = [object(0, 0.9, 100.0, 100.0)];
    tracker.update(now, &mut items);
    tracker.update(now + FRAME, &mut []);
    let mut elsewhere = [object(0, 0.9, 190.0, 100.0)];
    tracker.update(now + 2 * FRAME, &mut elsewhere);
    assert_eq!(ids(&elsewhere), [2], "beside the place of the one that left");
    let mut later = [object(0, 0.9, 100.0, 100.0)];
    tracker.update(now + MEMORY + 3 * FRAME, &mut later);
    assert_eq!(ids(&later), [3], "in the same place, too late");
}

#[test]
fn a_name_belongs_to_one_class() {
    let (mut tracker, now) = (Tracker::new(), Instant::now());
    tracker.update(now, &mut [object(0, 0.9, 100.0, 100.0)]);
    let mut items = [object(1, 0.9, 100.0, 100.0), object(0, 0.9, 100.0, 100.0)];
    tracker.update(now + FRAME, &mut items);
    assert_eq!(ids(&items), [2, 1]);
}

#[test]
fn a_sure_object_chooses_before_an_unsure_one_that_fits_better() {
    let (mut tracker, now) = (Tracker::new(), Instant::now());
    tracker.update(now, &mut [object(0, 0.9, 100.0, 100.0)]);
    let mut items = [object(0, 0.3, 102.0, 100.0), object(0, 0.9, 112.0, 100.0)];
    tracker.update(now + FRAME, &mut items);
    assert_eq!(ids(&items), [2, 1]);
}

#[test]
fn an_object_whose_score_sinks_keeps_its_name() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for confidence in [0.9, 0.6, 0.3, 0.1, 0.7] {
        let mut items = [object(0, confidence, 100.0, 100.0)];
        tracker.update(now, &mut items);
        assert_eq!(ids(&items), [1]);
        now += FRAME;
    }
}

#[test]
fn a_fast_object_under_a_slow_detector_keeps_its_name() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for step in 0..6u8 {
        let mut items = [object(0, 0.9, 70.0 * f32::from(step), 100.0)];
        tracker.update(now, &mut items);
        assert_eq!(ids(&items), [1], "step {step}: boxes do not even touch");
        now += Duration::from_millis(200);
    }
}

/// The names that an object of 60×80 pixels has that walks at so many pixels a second and is looked at every so many milliseconds.
fn names_at(speed: f32, every_ms: u64, looks: u8) -> Vec<u64> {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    let mut names = Vec::new();
    for look in 0..looks {
        let x = speed * f32::from(look) * every_ms as f32 / 1000.0;
        let mut items = [object(0, 0.9, x, 100.0), object(0, 0.9, 2000.0 - x, 600.0)];
        tracker.update(now, &mut items);
        names.extend(ids(&items));
        now += Duration::from_millis(every_ms);
    }
    names.dedup();
    names
}

#[test]
fn names_last_from_one_seldom_look_to_the_next() {
    for (speed, every_ms) in [(0.0, 4000), (20.0, 2000), (60.0, 1000), (100.0, 800), (-100.0, 800)] {
        let names: HashSet<_> = names_at(speed, every_ms, 8).into_iter().collect();
        assert_eq!(names.len(), 2, "{speed} pixels a second, a look every {every_ms} ms");
    }
}

#[test]
fn objects_side_by_side_keep_their_own_names_under_seldom_looks() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for look in 0..8u8 {
        let x = 50.0 * f32::from(look);
        let mut items = [0.0, 150.0, 300.0].map(|beside| object(0, 0.9, x + beside, 100.0));
        tracker.update(now, &mut items);
        assert_eq!(ids(&items), [1, 2, 3], "look {look}");
        now += Duration::from_secs(1);
    }
}

#[test]
fn one_seldom_look_may_miss_an_object() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for look in 0..8u8 {
        let mut items = [object(0, 0.9, 10.0 * f32::from(look), 100.0)];
        if look == 5 {
            tracker.update(now, &mut []);
        } else {
            tracker.update(now, &mut items);
            assert_eq!(ids(&items), [1], "look {look}");
        }
        now += Duration::from_secs(1);
    }
}

#[test]
fn an_outage_of_a_quick_stream_makes_new_names() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for _ in 0..10 {
        tracker.update(now, &mut [object(0, 0.9, 100.0, 100.0)]);
        now += FRAME;
    }
    let mut items = [object(0, 0.9, 100.0, 100.0)];
    tracker.update(now + Duration::from_secs(3), &mut items);
    assert_eq!(ids(&items), [2]);
}

#[test]
fn a_time_in_which_nothing_moved_is_no_cadence() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for _ in 0..6 {
        tracker.update(now, &mut [object(0, 0.9, 100.0, 100.0)]);
        tracker.rest(Duration::from_secs(9));
        now += Duration::from_secs(9) + FRAME;
    }
    assert_eq!(tracker.memory(), MEMORY);
}

#[test]
fn a_change_of_the_pictures_size_keeps_the_names() {
    let (mut tracker, now) = (Tracker::new(), Instant::now());
    tracker.update(now, &mut [object(0, 0.9, 400.0, 300.0)]);
    tracker.rescale(0.5, 0.5);
    let mut items = [object(0, 0.9, 0.0, 0.0)];
    items[0].bbox = BBox::new(200.0, 150.0, 230.0, 190.0);
    tracker.update(now + FRAME, &mut items);
    assert_eq!(ids(&items), [1]);
    assert_eq!(items[0].velocity, Some([0.0, 0.0]));
}

#[test]
fn a_wild_detector_is_forgotten_in_bounds() {
    let (mut tracker, mut now) = (Tracker::new(), Instant::now());
    for picture in 0..5u8 {
        let mut items: Vec<_> =
            (0..1000u16).map(|n| object(u32::from(n), 0.9, f32::from(picture) * 500.0, 0.0)).collect();
        tracker.update(now, &mut items);
        assert!(tracker.tracks.len() <= MOST_TRACKS);
        now += FRAME;
    }
}

fn any_object() -> impl Strategy<Value = Detection> {
    let edge = prop_oneof![8 => 0f32..600.0, 1 => any::<f32>()];
    (prop::array::uniform4(edge), any::<f32>(), 0u32..3).prop_map(|(e, confidence, class_id)| Detection {
        bbox: BBox::new(e[0], e[1], e[0] + e[2], e[1] + e[3]),
        ..object(class_id, confidence, 0.0, 0.0)
    })
}

fn bits(item: &Detection) -> ([u32; 5], u32) {
    let b = item.bbox;
    ([b.x1, b.y1, b.x2, b.y2, item.confidence].map(f32::to_bits), item.class_id)
}

proptest! {
    #[test]
    fn nothing_is_invented_and_no_name_is_given_twice(
        pictures in prop::collection::vec((0u64..400, prop::collection::vec(any_object(), 0..8)), 1..12),
    ) {
        let (mut tracker, mut now) = (Tracker::new(), Instant::now());
        let mut classes = std::collections::HashMap::new();
        for (pause, mut items) in pictures {
            now += Duration::from_millis(pause);
            let before: Vec<_> = items.iter().map(bits).collect();
            tracker.update(now, &mut items);
            prop_assert_eq!(before, items.iter().map(bits).collect::<Vec<_>>());
            let mut names = HashSet::new();
            for item in &items {
                prop_assert_eq!(item.track_id.is_some(), item.bbox.is_finite());
                if let Some(id) = item.track_id {
                    prop_assert!(names.insert(id), "named twice in one picture");
                    prop_assert_eq!(*classes.entry(id).or_insert(item.class_id), item.class_id);
                }
                if let Some([vx, vy]) = item.velocity {
                    prop_assert!(vx.is_finite() && vy.is_finite());
                }
            }
        }
    }

    #[test]
    fn a_steady_object_keeps_its_name_at_any_frame_rate(
        interval in 10u64..300, vx in -300f32..300.0, vy in -300f32..300.0,
    ) {
        // Up to its own size between two pictures.
        let seconds = interval as f32 / 1000.0;
        let scale = (60.0 / (vx.abs().max(vy.abs()) * seconds).max(60.0)).min(1.0);
        let (mut tracker, mut now) = (Tracker::new(), Instant::now());
        for step in 0..10u8 {
            let t = seconds * f32::from(step) * scale;
            let mut items = [object(0, 0.8, 1000.0 + vx * t, 1000.0 + vy * t)];
            tracker.update(now, &mut items);
            prop_assert_eq!(ids(&items), [1]);
            now += Duration::from_millis(interval);
        }
    }
}
