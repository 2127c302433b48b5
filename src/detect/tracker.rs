//! Which object of this picture is which of the pictures before: stable ids, and how fast things move.
//!
//! The association follows `ByteTrack` (Zhang et al. 2022, arXiv:2110.06864): sure objects choose their tracks first,
//! unsure ones may then continue what is left. Where a track is expected in the next picture, a Kalman filter says.

use std::time::{Duration, Instant};

use super::cadence::Cadence;
use super::follow::{Kalman, MEMORY};
use crate::media::{BBox, Detection};

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

/// It grows by this much in a second without a look: a person walks by a fifth of their height in a quarter of a second…
const GROWTH_PER_SECOND: f32 = 1.0;

/// …and by no more than this, where it could be anything.
const MOST_GROWTH: f32 = 1.5;

/// Two sightings closer than this say nothing of a velocity: a pixel of jitter would be a hundred pixels per second.
const SHORTEST: Duration = Duration::from_millis(5);

/// The most tracks that are remembered: a detector gone wild must not cost memory or time without a bound.
const MOST_TRACKS: usize = 1024;

#[derive(Clone, Debug)]
struct Track {
    id: u64,
    class_id: u32,
    kalman: Kalman,
    seen: Instant,
    /// Seen at two moments: there is a velocity.
    moving: bool,
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
    cadence: Cadence,
    memory: Option<Duration>,
    /// Part of the time since the last look, in which nothing moved.
    rested: Duration,
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
        let before = self.now;
        let now = before.map_or(now, |last| last.max(now));
        self.now = Some(now);
        let passed = before.map(|before| now.saturating_duration_since(before));
        let passed = passed.map(|passed| passed.saturating_sub(std::mem::take(&mut self.rested)));
        if let Some(passed) = passed {
            self.memory = Some(self.cadence.memory_after(passed));
        }
        let memory = self.memory();
        let growth = (GROWTH_PER_SECOND * passed.unwrap_or_default().as_secs_f32()).clamp(GROWTH, MOST_GROWTH);
        self.tracks.retain(|track| now.saturating_duration_since(track.seen) <= memory);
        for track in &mut self.tracks {
            track.taken = false;
            track.expected = track.kalman.at(now);
        }
        self.matched.clear();
        self.matched.resize(items.len(), false);

        self.associate(now, items, OVERLAP_SURE, |track, item| {
            if item.confidence >= SURE { track.expected.iou(&item.bbox) } else { 0.0 }
        });
        self.associate(now, items, OVERLAP_UNSURE, |track, item| track.expected.iou(&item.bbox));
        self.associate(now, items, OVERLAP_GROWN, |track, item| {
            if track.in_last { grown(&track.expected, growth).iou(&grown(&item.bbox, growth)) } else { 0.0 }
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

    /// How long an object is remembered that no look finds: the longer the more seldom looks are.
    #[must_use]
    pub fn memory(&self) -> Duration {
        self.memory.unwrap_or(MEMORY)
    }

    /// For so long the pictures did not change, and nobody looked at them: what was there still is, and where it was.
    pub fn rest(&mut self, still: Duration) {
        self.rested += still;
        for track in &mut self.tracks {
            track.seen += still;
        }
    }

    /// Scales what is remembered: the stream's pictures changed their size, and the objects stay what they are.
    pub fn rescale(&mut self, x: f32, y: f32) {
        for track in &mut self.tracks {
            track.kalman.rescale(x, y);
        }
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
            kalman: Kalman::begin(&item.bbox, now),
            seen: now,
            moving: false,
            expected: item.bbox,
            in_last: true,
            taken: true,
        }
    }

    /// Takes `item` as this track's object, and writes the track's name and velocity on it.
    fn see(&mut self, now: Instant, item: &mut Detection) {
        self.moving |= now.saturating_duration_since(self.seen) >= SHORTEST;
        self.kalman.see(&item.bbox, now);
        self.seen = now;
        self.taken = true;
        item.track_id = Some(self.id);
        item.velocity = self.moving.then(|| self.kalman.velocity());
    }
}

fn grown(bbox: &BBox, growth: f32) -> BBox {
    let (x, y) = (bbox.width() * growth, bbox.height() * growth);
    BBox::new(bbox.x1 - x, bbox.y1 - y, bbox.x2 + x, bbox.y2 + y)
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
