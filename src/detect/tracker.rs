//! Which object of this picture is which of the pictures before: stable ids, and how fast things move.
//!
//! The association follows `ByteTrack` (Zhang et al. 2022, arXiv:2110.06864): sure objects choose their tracks first,
//! unsure ones may then continue what is left. Between two pictures a track is expected to go on at its last velocity.

use std::time::{Duration, Instant};

use crate::media::{BBox, Detection};

/// How long a track is remembered after it was last seen.
const MEMORY: Duration = Duration::from_millis(700);

/// From this score on an object is sure.
const SURE: f32 = 0.5;

/// The least IoU with the expected box that continues a track, for sure objects.
const OVERLAP_SURE: f32 = 0.2;

/// The same for unsure ones: they have to fit better.
const OVERLAP_UNSURE: f32 = 0.4;

/// The same between boxes grown by [`GROWTH`] (C-BIoU, Yang et al. 2023, arXiv:2211.14317): for what moved further than
/// its own size between two pictures of a slow detector. Only tracks of the picture before may be continued so.
const OVERLAP_GROWN: f32 = 0.15;

/// By how much of its size a box grows on each side.
const GROWTH: f32 = 0.5;

/// The time over which a velocity is smoothed.
const SMOOTHING: Duration = Duration::from_millis(150);

/// Two sightings closer than this say nothing of a velocity: a pixel of jitter would be a hundred pixels per second.
const SHORTEST: Duration = Duration::from_millis(5);

/// The most tracks that are remembered: a detector gone wild must not cost memory or time without a bound.
const MOST_TRACKS: usize = 1024;

#[derive(Clone, Debug)]
struct Track {
    id: u64,
    class_id: u32,
    /// The box as last seen.
    bbox: BBox,
    seen: Instant,
    /// Pixels per second of the centre; `None` until the second sighting.
    velocity: Option<[f32; 2]>,
    /// Where the box is expected in the picture at hand.
    expected: BBox,
    /// Whether the last picture showed it.
    in_last: bool,
    taken: bool,
}

/// A possible pair: how well it fits, the track, the object.
type Pair = (f32, usize, usize);

/// Follows the objects of one stream.
///
/// It never makes, moves or drops a box, nor changes a class or a score: it only fills in `track_id`, from an object's first
/// sighting on, and `velocity`, from its second.
#[derive(Debug, Default)]
pub struct Tracker {
    tracks: Vec<Track>,
    last_id: u64,
    now: Option<Instant>,
    matched: Vec<bool>,
    pairs: Vec<Pair>,
}

impl Tracker {
    /// A tracker that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the objects `items` of the picture of instant `now`. Objects of one class continue tracks of that class only.
    /// A `now` before the last one counts as the last one. Boxes that are not numbers stay without a name.
    pub fn update(&mut self, now: Instant, items: &mut [Detection]) {
        let now = self.now.map_or(now, |last| last.max(now));
        self.now = Some(now);
        self.tracks.retain(|track| now.saturating_duration_since(track.seen) <= MEMORY);
        for track in &mut self.tracks {
            track.taken = false;
            track.expected = track.expected_at(now);
        }
        self.matched.clear();
        self.matched.resize(items.len(), false);

        self.associate(now, items, OVERLAP_SURE, |track, item| {
            if item.confidence >= SURE { track.expected.iou(&item.bbox) } else { 0.0 }
        });
        self.associate(now, items, OVERLAP_UNSURE, |track, item| track.expected.iou(&item.bbox));
        self.associate(now, items, OVERLAP_GROWN, |track, item| {
            if track.in_last { grown(&track.expected).iou(&grown(&item.bbox)) } else { 0.0 }
        });

        for track in &mut self.tracks {
            track.in_last = track.taken;
        }
        for (item, matched) in items.iter_mut().zip(&self.matched) {
            if !matched {
                item.track_id = None;
                item.velocity = None;
                if item.bbox.is_finite() {
                    self.last_id += 1;
                    item.track_id = Some(self.last_id);
                    self.tracks.push(Track::begin(self.last_id, now, item));
                }
            }
        }
        if self.tracks.len() > MOST_TRACKS {
            self.tracks.sort_by_key(|track| std::cmp::Reverse((track.seen, track.id)));
            self.tracks.truncate(MOST_TRACKS);
        }
    }

    /// For so long the pictures did not change, and nobody looked at them: what was there still is, and where it was.
    pub fn rest(&mut self, still: Duration) {
        for track in &mut self.tracks {
            track.seen += still;
        }
    }

    /// Scales what is remembered: the stream's pictures changed their size, and the objects stay what they are.
    pub fn rescale(&mut self, x: f32, y: f32) {
        for track in &mut self.tracks {
            let b = track.bbox;
            track.bbox = BBox::new(b.x1 * x, b.y1 * y, b.x2 * x, b.y2 * y);
            track.velocity = track.velocity.map(|[vx, vy]| [vx * x, vy * y]);
        }
        self.tracks.retain(|track| track.bbox.is_finite());
    }

    /// Joins free objects to free tracks of their class, the best fit first, as long as a pair fits better than `least`.
    fn associate(
        &mut self,
        now: Instant,
        items: &mut [Detection],
        least: f32,
        fit: impl Fn(&Track, &Detection) -> f32,
    ) {
        self.pairs.clear();
        for (t, track) in self.tracks.iter().enumerate().filter(|(_, track)| !track.taken) {
            for (i, (item, matched)) in items.iter().zip(&self.matched).enumerate() {
                if !matched && item.class_id == track.class_id {
                    let fit = fit(track, item);
                    if fit > least {
                        self.pairs.push((fit, t, i));
                    }
                }
            }
        }
        // Equal fits go to the older track and the surer object: lists come best score first.
        self.pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        for &(_, t, i) in &self.pairs {
            let (Some(track), Some(item), Some(matched)) =
                (self.tracks.get_mut(t), items.get_mut(i), self.matched.get_mut(i))
            else {
                continue;
            };
            if !track.taken && !*matched {
                *matched = true;
                track.see(now, item);
            }
        }
    }
}

impl Track {
    fn begin(id: u64, now: Instant, item: &Detection) -> Self {
        Self {
            id,
            class_id: item.class_id,
            bbox: item.bbox,
            seen: now,
            velocity: None,
            expected: item.bbox,
            in_last: true,
            taken: true,
        }
    }

    fn expected_at(&self, now: Instant) -> BBox {
        let Some([vx, vy]) = self.velocity else { return self.bbox };
        let seconds = now.saturating_duration_since(self.seen).as_secs_f32();
        let (x, y) = (vx * seconds, vy * seconds);
        BBox::new(self.bbox.x1 + x, self.bbox.y1 + y, self.bbox.x2 + x, self.bbox.y2 + y)
    }

    /// Takes `item` as this track's object, and writes the track's name and velocity on it.
    fn see(&mut self, now: Instant, item: &mut Detection) {
        let elapsed = now.saturating_duration_since(self.seen).as_secs_f32();
        if elapsed >= SHORTEST.as_secs_f32() {
            let ((x0, y0), (x1, y1)) = (self.bbox.centre(), item.bbox.centre());
            let measured = [(x1 - x0) / elapsed, (y1 - y0) / elapsed];
            let weight = 1.0 - (-elapsed / SMOOTHING.as_secs_f32()).exp();
            let smoothed = match self.velocity {
                None => measured,
                Some([vx, vy]) => [vx + weight * (measured[0] - vx), vy + weight * (measured[1] - vy)],
            };
            self.velocity = Some(smoothed).filter(|velocity| velocity.iter().all(|v| v.is_finite()));
        }
        self.bbox = item.bbox;
        self.seen = now;
        self.taken = true;
        item.track_id = Some(self.id);
        item.velocity = self.velocity;
    }
}

fn grown(bbox: &BBox) -> BBox {
    let (x, y) = (bbox.width() * GROWTH, bbox.height() * GROWTH);
    BBox::new(bbox.x1 - x, bbox.y1 - y, bbox.x2 + x, bbox.y2 + y)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

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
}
