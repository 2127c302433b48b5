use proptest::prelude::*;

use super::pyramid::Pictures;
use super::*;
use crate::media::{DetectionTimes, RtpTimestamp};

const STEP: Duration = Duration::from_millis(33);
const MEMORY_OF_PICTURES: Duration = Duration::from_millis(500);

/// Smooth noise around 120, that repeats nowhere: what is periodic cannot be told apart at other places.
fn texture(x: f32, y: f32) -> f32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let corner = |x: f32, y: f32| {
        let hash = (x as i32 as u32).wrapping_mul(0x8da6_b343) ^ (y as i32 as u32).wrapping_mul(0xd816_3841);
        let hash = (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d);
        (((hash >> 13) ^ hash) & 0xff) as f32 - 127.5
    };
    let mut sum = 120.0;
    for (cell, weight) in [(19.0, 0.3), (7.0, 0.3)] {
        let (left, top) = ((x / cell).floor(), (y / cell).floor());
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (fx, fy) = (smooth(x / cell - left), smooth(y / cell - top));
        let row = |y: f32| corner(left, y) + fx * (corner(left + 1.0, y) - corner(left, y));
        sum += weight * (row(top) + fy * (row(top + 1.0) - row(top)));
    }
    sum
}

#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
fn luma(value: f32) -> u8 {
    value as u8
}

/// A flat picture of 640×360 with a textured square of 80 pixels at `(x, y)`.
fn picture(x: f32, y: f32) -> Arc<I420Frame> {
    let mut frame = I420Frame::black(640, 360);
    let rows = frame.planes_mut().0;
    for (n, sample) in rows.iter_mut().enumerate() {
        let (px, py) = ((n % 640) as f32 - x, (n / 640) as f32 - y);
        let inside = (0.0..80.0).contains(&px) && (0.0..80.0).contains(&py);
        *sample = if inside { luma(texture(px, py)) } else { 90 };
    }
    Arc::new(frame)
}

fn square(x: f32, y: f32) -> BBox {
    BBox::new(x, y, x + 80.0, y + 80.0)
}

fn object(id: u64, bbox: BBox) -> Detection {
    Detection { bbox, confidence: 0.8, track_id: Some(id), class_name: "thing".into(), ..Detection::default() }
}

fn result(frame_id: u64, arrived: Instant, items: Vec<Detection>) -> Detections {
    Detections {
        frame_id,
        rtp_timestamp: RtpTimestamp::default(),
        captured: None,
        arrived,
        width: 640,
        height: 360,
        model: "test".into(),
        items,
        times: DetectionTimes::default(),
        events: Vec::new(),
        veiled: Vec::new(),
    }
}

fn view(frame_id: u64, at: Instant, picture: &Arc<I420Frame>) -> View<'_> {
    View { frame_id, at, picture, until: None }
}

/// Plays `places` of the square, of which the detector found the first alone; the boxes of the last picture.
fn after_one_sighting(places: &[(f32, f32)]) -> (Follower, Vec<Detection>) {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let found = result(0, begun, vec![object(1, square(places[0].0, places[0].1))]);
    let mut boxes = Vec::new();
    for ((n, at), &(x, y)) in (0u32..).map(|n| (u64::from(n), begun + n * STEP)).zip(places) {
        // The answer comes two pictures late.
        boxes = follower.boxes(&view(n, at, &picture(x, y)), (n >= 2).then_some(&found));
    }
    (follower, boxes)
}

#[test]
fn a_box_goes_with_its_object_from_one_late_sighting_on() {
    let places: Vec<_> = (0..8u8).map(|n| (50.0 + 9.5 * f32::from(n), 120.0 + 4.25 * f32::from(n))).collect();
    let (follower, boxes) = after_one_sighting(&places);
    let (x, y) = places[7];
    assert!(boxes[0].bbox.iou(&square(x, y)) > 0.97, "{:?}", boxes[0].bbox);
    assert_eq!(follower.counts(), Counts { followed: 1, ..Counts::default() });
}

#[test]
fn an_object_is_followed_from_a_picture_that_came_before_there_was_any() {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let x = |n: u8| 100.0 + 9.0 * f32::from(n);
    let nothing = result(0, begun, Vec::new());
    for n in 0..4u8 {
        let boxes = follower.boxes(&view(n.into(), begun + u32::from(n) * STEP, &picture(x(n), 100.0)), Some(&nothing));
        assert_eq!(boxes, []);
    }
    let found = result(2, begun + 2 * STEP, vec![object(1, square(x(2), 100.0))]);
    let boxes = follower.boxes(&view(4, begun + 4 * STEP, &picture(x(4), 100.0)), Some(&found));
    assert!(boxes[0].bbox.iou(&square(x(4), 100.0)) > 0.97, "{:?}", boxes[0].bbox);
    assert_eq!(follower.counts(), Counts { followed: 1, ..Counts::default() });
}

#[test]
fn key_points_and_the_outline_go_with_the_box() {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let mut item = object(1, square(100.0, 100.0));
    item.keypoints = Some([KeyPoint { x: 120.0, y: 130.0, confidence: Some(0.9) }].into());
    item.mask = Some([[100.0, 100.0], [180.0, 100.0], [140.0, 180.0]].into());
    let found = result(0, begun, vec![item]);
    follower.boxes(&view(0, begun, &picture(100.0, 100.0)), None);
    let boxes = follower.boxes(&view(1, begun + STEP, &picture(112.0, 95.0)), Some(&found));
    let point = boxes[0].keypoints.as_ref().unwrap()[0];
    assert!((point.x - 132.0).abs() < 1.0 && (point.y - 125.0).abs() < 1.0, "{point:?}");
    assert_eq!(point.confidence, Some(0.9));
    let outline = boxes[0].mask.as_ref().unwrap();
    assert!((outline[2][0] - 152.0).abs() < 1.0 && (outline[2][1] - 175.0).abs() < 1.0, "{outline:?}");
}

#[test]
fn what_leaves_the_picture_is_cut_and_then_left_out() {
    let places: Vec<_> = (0..9u8).map(|n| (500.0 + 14.0 * f32::from(n), 120.0)).collect();
    let (_, boxes) = after_one_sighting(&places);
    let cut = boxes[0].bbox;
    assert!((cut.x2 - 640.0).abs() < f32::EPSILON && (cut.x1 - 612.0).abs() < 4.0, "{cut:?}");

    let begun = Instant::now();
    let mut follower = Follower::new(Way::Prediction, MEMORY_OF_PICTURES);
    let empty = Arc::new(I420Frame::black(640, 360));
    for n in 0..5u8 {
        let at = begun + u32::from(n) * STEP;
        let found = result(u64::from(n), at, vec![object(1, square(400.0 + 40.0 * f32::from(n), 10.0))]);
        follower.boxes(&view(u64::from(n), at, &empty), Some(&found));
    }
    let last = result(4, begun + 4 * STEP, vec![object(1, square(560.0, 10.0))]);
    assert_eq!(follower.boxes(&view(20, begun + 12 * STEP, &empty), Some(&last)), []);
}

#[test]
fn where_the_picture_tells_nothing_the_velocity_does() {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let flat = Arc::new(I420Frame::black(640, 360));
    let mut found = result(0, begun, Vec::new());
    for n in 0..6u8 {
        let at = begun + u32::from(n) * STEP;
        found = result(u64::from(n), at, vec![object(1, square(100.0 + 10.0 * f32::from(n), 50.0))]);
        follower.boxes(&view(u64::from(n), at, &flat), Some(&found));
    }
    let boxes = follower.boxes(&view(6, begun + 6 * STEP, &flat), Some(&found));
    assert!(boxes[0].bbox.iou(&square(160.0, 50.0)) > 0.95, "{:?}", boxes[0].bbox);
    assert_eq!(follower.counts(), Counts { doubtful: 1, ..Counts::default() });
}

#[test]
fn without_time_the_boxes_are_predicted_and_counted() {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let found = result(0, begun, vec![object(1, square(100.0, 50.0)), object(2, square(300.0, 50.0))]);
    let still = picture(100.0, 50.0);
    let late = View { until: Some(begun), ..view(1, begun, &still) };
    assert_eq!(follower.boxes(&late, Some(&found)).len(), 2);
    assert_eq!(follower.counts(), Counts { skipped: 2, ..Counts::default() });
}

#[test]
fn what_passes_in_front_does_not_take_the_box_along() {
    // The found square stands; from the third picture on, another texture slides over it from the left.
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let found = result(0, begun, vec![object(1, square(200.0, 120.0))]);
    let mut last = BBox::default();
    for n in 0..8u8 {
        let mut frame = picture(200.0, 120.0);
        let front = 60.0 + 20.0 * f32::from(n);
        for (at, sample) in Arc::make_mut(&mut frame).planes_mut().0.iter_mut().enumerate() {
            let (x, y) = ((at % 640) as f32 - front, (at / 640) as f32 - 120.0);
            if (0.0..80.0).contains(&x) && (0.0..80.0).contains(&y) {
                *sample = luma(texture(y + 300.0, 2.0 * x));
            }
        }
        let boxes = follower.boxes(&view(u64::from(n), begun + u32::from(n) * STEP, &frame), Some(&found));
        last = boxes[0].bbox;
    }
    assert!(last.iou(&square(200.0, 120.0)) > 0.8, "{last:?}");
}

#[test]
fn a_growing_object_has_a_growing_box() {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let grown = |scale: f32| {
        let mut frame = I420Frame::black(640, 360);
        for (n, sample) in frame.planes_mut().0.iter_mut().enumerate() {
            let (x, y) = (((n % 640) as f32 - 300.0) / scale, ((n / 640) as f32 - 180.0) / scale);
            *sample = if x.abs() < 40.0 && y.abs() < 40.0 { luma(texture(x, y)) } else { 90 };
        }
        Arc::new(frame)
    };
    let found = result(0, begun, vec![object(1, square(260.0, 140.0))]);
    let mut last = BBox::default();
    for n in 0..6u8 {
        let frame = grown(1.04f32.powi(i32::from(n)));
        last = follower.boxes(&view(u64::from(n), begun + u32::from(n) * STEP, &frame), Some(&found))[0].bbox;
    }
    let truth = 80.0 * 1.04f32.powi(5);
    assert!((last.width() - truth).abs() < 5.0, "{} of {truth}", last.width());
}

/// Plays a square that the detector finds in pictures 0 to `found` (exclusive) and misses up to picture `last`, always two pictures
/// late; what is told beside the boxes for each result that misses it, and where the square was then. From picture `gone` on it is
/// not there.
fn missed_after(found: u8, last: u8, gone: u8, confidence: f32) -> (Vec<Vec<Missed>>, BBox) {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let mut told = Vec::new();
    let at = |n: u8| begun + u32::from(n) * STEP;
    let place = |n: u8| square(50.0 + 8.0 * f32::from(n), 120.0);
    for n in 0..last + 3 {
        let frame = if n < gone { picture(place(n).x1, place(n).y1) } else { Arc::new(I420Frame::black(640, 360)) };
        let result = n.checked_sub(2).map(|of| {
            let item = Detection { confidence, ..object(1, place(of)) };
            result(u64::from(of), at(of), if of < found { vec![item] } else { Vec::new() })
        });
        let view = view(u64::from(n), at(n), &frame);
        let boxes = follower.boxes(&view, result.as_ref());
        let missed = follower.missed(&view, &boxes);
        if n < found + 2 {
            assert_eq!(missed, [], "nothing is missed");
        } else {
            assert_eq!(boxes, [], "nothing was found");
            told.push(missed);
        }
    }
    (told, place(last + 2))
}

#[test]
fn what_one_result_misses_is_told_where_the_picture_finds_it() {
    let (told, place) = missed_after(8, 8, u8::MAX, 0.8);
    let [missed] = &*told[0] else { panic!("{told:?}") };
    assert!(missed.item.bbox.iou(&place) > 0.95, "{missed:?}");
    assert_eq!((missed.item.track_id, missed.frame_id), (Some(1), 7));
}

#[test]
fn what_two_results_miss_is_told_and_what_three_miss_is_not() {
    let (told, _) = missed_after(8, 11, u8::MAX, 0.8);
    assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0, 0]);
}

#[test]
fn what_the_picture_does_not_show_is_not_told() {
    let (told, _) = missed_after(8, 9, 10, 0.8);
    assert_eq!(told, [[], []]);
    // It was lost in between: whatever is there now may be something else.
    let (told, _) = missed_after(8, 9, 11, 0.8);
    assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn what_was_found_a_few_times_or_unsurely_is_not_told() {
    assert_eq!(missed_after(5, 6, u8::MAX, 0.8).0, [[], []]);
    assert_eq!(missed_after(8, 9, u8::MAX, 0.4).0, [[], []]);
}

#[test]
fn what_was_found_under_another_name_is_not_missed() {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let frame = picture(100.0, 100.0);
    for n in 0..10u64 {
        let at = begun + u32::try_from(n).unwrap() * STEP;
        let found = result(n, at, vec![object(if n < 8 { 1 } else { 2 }, square(100.0, 100.0))]);
        let view = view(n, at, &frame);
        let boxes = follower.boxes(&view, Some(&found));
        assert_eq!(follower.missed(&view, &boxes), []);
    }
}

#[test]
fn a_change_of_the_pictures_size_costs_no_box() {
    let begun = Instant::now();
    let mut follower = Follower::new(Way::Picture, MEMORY_OF_PICTURES);
    let found = result(0, begun, vec![object(1, square(100.0, 100.0))]);
    follower.boxes(&view(0, begun, &picture(100.0, 100.0)), Some(&found));
    let small = Arc::new(I420Frame::black(320, 180));
    assert_eq!(follower.boxes(&view(1, begun + STEP, &small), None), []);
    let mut found = result(1, begun + STEP, vec![object(1, BBox::new(50.0, 50.0, 90.0, 90.0))]);
    (found.width, found.height) = (320, 180);
    let boxes = follower.boxes(&view(2, begun + 2 * STEP, &small), Some(&found));
    assert!(boxes[0].bbox.iou(&BBox::new(50.0, 50.0, 90.0, 90.0)) > 0.9, "{:?}", boxes[0].bbox);
}

#[test]
fn a_prediction_without_pictures_goes_by_the_velocity_that_was_found() {
    let begun = Instant::now();
    let mut item = object(1, square(100.0, 100.0));
    item.velocity = Some([300.0, -100.0]);
    let boxes = predicted(&result(0, begun, vec![item]), begun + Duration::from_millis(100));
    assert!((boxes[0].bbox.x1 - 130.0).abs() < 0.01 && (boxes[0].bbox.y2 - 170.0).abs() < 0.01);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_shift_is_read_to_a_part_of_a_pixel(dx in -30f32..30.0, dy in -30f32..30.0) {
        let now = Instant::now();
        let mut pictures = Pictures::default();
        pictures.push(0, now, &picture(200.0, 130.0), MEMORY_OF_PICTURES);
        pictures.push(1, now, &picture(200.0 + dx, 130.0 + dy), MEMORY_OF_PICTURES);
        pictures.build();
        let (older, newer) = (pictures.find(0).unwrap(), pictures.find(1).unwrap());
        let motion = Reader::default().read(&older.pyramid, &newer.pyramid, &square(200.0, 130.0), (0.0, 0.0), false);
        // None is an honest answer; a wrong one is not.
        if let Some(motion) = motion {
            prop_assert!((motion.by.0 - dx).abs() < 0.5 && (motion.by.1 - dy).abs() < 0.5, "{:?} of {} {}", motion, dx, dy);
            prop_assert!((motion.scale - 1.0).abs() < 0.02, "{:?}", motion);
        } else {
            prop_assert!(dx.hypot(dy) > 12.0, "nothing read of {} {}", dx, dy);
        }
    }

    #[test]
    fn nothing_is_invented_whatever_comes(
        ways in prop::collection::vec((0u64..3, 0u64..200, prop::collection::vec(any_item(), 0..6)), 1..8),
        width in 1usize..200, height in 1usize..200, predict in any::<bool>(),
    ) {
        let way = if predict { Way::Prediction } else { Way::Picture };
        let mut follower = Follower::new(way, MEMORY_OF_PICTURES);
        let (mut frame_id, mut at) = (0, Instant::now());
        let mut newest: Option<Detections> = None;
        let mut seen = std::collections::HashSet::new();
        for (more, pause, items) in ways {
            frame_id += 1 + more;
            at += Duration::from_millis(pause);
            let frame = Arc::new(I420Frame::black(width, height));
            if more != 1 {
                let mut found = result(frame_id.saturating_sub(more), at, items);
                (found.width, found.height) = (u32::try_from(width).unwrap(), u32::try_from(height).unwrap());
                newest = Some(found);
            }
            let boxes = follower.boxes(&view(frame_id, at, &frame), newest.as_ref());
            if let Some(found) = &newest {
                seen.extend(found.items.iter().map(|item| (item.track_id, item.class_id)));
            }
            for missed in follower.missed(&view(frame_id, at, &frame), &boxes) {
                let Missed { item, frame_id: found_in } = missed;
                prop_assert!(seen.contains(&(item.track_id, item.class_id)) && found_in < frame_id + 3, "{:?}", item);
                prop_assert!(boxes.iter().all(|drawn| drawn.track_id != item.track_id), "{:?} twice", item);
            }
            let found = newest.as_ref().map(|found| found.items.clone()).unwrap_or_default();
            prop_assert!(boxes.len() <= found.len());
            for drawn in boxes {
                let from = found.iter().find(|item| {
                    item.track_id == drawn.track_id && item.class_id == drawn.class_id
                        && item.confidence.to_bits() == drawn.confidence.to_bits()
                });
                prop_assert!(from.is_some(), "{:?}", drawn);
                if drawn.bbox.is_finite() && drawn.track_id.is_some() {
                    let b = drawn.bbox;
                    prop_assert!(b.x1 <= b.x2 && b.y1 <= b.y2, "{:?}", b);
                }
            }
        }
    }
}

fn any_item() -> impl Strategy<Value = Detection> {
    let edge = prop_oneof![8 => -20f32..220.0, 1 => any::<f32>()];
    (prop::array::uniform4(edge), prop::option::of(0u64..4), 0u32..2, 0f32..1.0).prop_map(
        |(e, id, class_id, confidence)| Detection {
            bbox: BBox::new(e[0], e[1], e[0] + e[2].abs(), e[1] + e[3].abs()),
            track_id: id,
            class_id,
            confidence,
            ..Detection::default()
        },
    )
}
