//! Boxes where the objects are now: the detector's answer is of a picture that is past, the box is drawn on the one at hand.
//!
//! ```text
//! picture ─► small luma, the last half second ─┐
//!                                              ├─► each object's path: the detected box, moved by what the pictures say,
//! result ──► Kalman filter of each object ─────┘   by the filter's velocity where they say nothing
//! ```
//!
//! Each object of the newest result is followed from the picture it was found in to the newest one, by sparse
//! Lucas–Kanade flow in the median of its points (MedianFlow: Kalal et al. 2010), searched around where it is expected. The
//! next result finds the path of the object in its own picture, and moves it by as much as it is to be trusted: so the noise
//! of the detector is smoothed without a lag, and an error of the flow does not last.
//!
//! A detector flickers: what was found again and again and is missed by one result is mostly still there. For that long the
//! pictures' own word is enough ([`Follower::missed`]).
//!
//! Belongs here: prediction, the reading of motion, and the filter. Does not belong here: names ([`Tracker`](super::Tracker)),
//! and when a box is too old to be drawn (`pipeline`).

mod flow;
mod kalman;
mod motion;
mod pyramid;
mod track;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use kalman::{Kalman, MEMORY};

use crate::media::{BBox, Detection, Detections, I420Frame, KeyPoint};
use motion::Reader;
use pyramid::Pictures;
use track::{Outcome, Track, Warp};

/// The least side of what is left in the picture of a box that leaves it, in pixels.
const LEAST_SIDE: f32 = 2.0;

/// What overlaps by more with an object of the newest result is that object under another name.
const SAME: f32 = 0.3;

/// The most objects that are remembered beside those of the newest result.
const MOST_TRACKS: usize = 1024;

/// How boxes come to the picture at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the velocity of a Kalman filter over the detector's boxes.
    Prediction,
    /// The same, corrected by the pictures.
    Picture,
}

/// The picture at hand.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its number: rises from one to the next.
    pub frame_id: u64,
    /// Its moment, on the clock of [`Detections::arrived`].
    pub at: Instant,
    /// Its pixels, without boxes.
    pub picture: &'a Arc<I420Frame>,
    /// When the pictures are not asked any more; `None`: no bound.
    pub until: Option<Instant>,
}

/// What became of the boxes of one picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The picture told where they are.
    pub followed: u64,
    /// The picture did not tell: too little texture, or a contradiction.
    pub doubtful: u64,
    /// There was no time to look.
    pub skipped: u64,
    /// There was no older picture to compare with.
    pub predicted: u64,
}

/// An object that the newest result misses.
#[derive(Clone, Debug, PartialEq)]
pub struct Missed {
    /// The object where it is in the picture at hand, everything else as it was found last.
    pub item: Detection,
    /// The picture that it was found in last.
    pub frame_id: u64,
}

/// Follows the objects of one stream from picture to picture.
#[derive(Debug)]
pub struct Follower {
    way: Way,
    memory: Duration,
    pictures: Pictures,
    reader: Reader,
    tracks: HashMap<u64, Track>,
    size: (usize, usize),
    /// The newest result that was taken in.
    taken: Option<(u64, Instant)>,
    counts: Counts,
    order: Vec<(f32, u64)>,
}

impl Follower {
    /// A follower that has seen nothing. Pictures older than `memory` are forgotten: no result will be of them.
    #[must_use]
    pub fn new(way: Way, memory: Duration) -> Self {
        Self {
            way,
            memory,
            pictures: Pictures::default(),
            reader: Reader::default(),
            tracks: HashMap::new(),
            size: (0, 0),
            taken: None,
            counts: Counts::default(),
            order: Vec::new(),
        }
    }

    /// Forgets everything: what comes next has nothing to do with what was.
    pub fn reset(&mut self) {
        *self = Self::new(self.way, self.memory);
    }

    /// The objects of `result`, the newest there is, where they are in the picture at hand: boxes, key points and outlines
    /// moved, everything else as it was found. What has left the picture is left out. The picture is kept for results to come:
    /// that costs time while there are objects, and next to none while there are none.
    pub fn boxes(&mut self, view: &View<'_>, result: Option<&Detections>) -> Vec<Detection> {
        self.counts = Counts::default();
        self.fit_to(view);
        let in_time = || view.until.is_none_or(|until| Instant::now() < until);
        if self.way == Way::Picture && in_time() {
            self.pictures.push(view.frame_id, view.at, view.picture, self.memory);
        }
        if self.has_objects(view.at, result) {
            // Whoever draws on a picture that is kept whole has to copy it first.
            self.pictures.build();
        }
        let Some(result) = result else { return Vec::new() };
        self.take_in(result);
        self.follow(result, view, in_time);
        let size = self.side_lengths();
        result.items.iter().filter_map(|item| self.moved(item, view, size)).collect()
    }

    /// Beside `boxes`, which [`boxes`](Self::boxes) gave for this picture: objects that were there result after result, and that
    /// the last one or two miss, as long as the pictures find them without a break, and no longer than pictures are remembered.
    #[must_use]
    pub fn missed(&self, view: &View<'_>, boxes: &[Detection]) -> Vec<Missed> {
        let size = self.side_lengths();
        let mut missed: Vec<_> = self
            .tracks
            .iter()
            .filter(|(_, track)| track.is_missed(view.at, self.memory) && track.is_in(view.frame_id))
            .collect();
        missed.sort_unstable_by_key(|(id, _)| **id);
        let moved = missed.into_iter().filter_map(|(_, track)| {
            let item = self.moved(&track.item, view, size)?;
            let apart = boxes.iter().all(|other| other.bbox.iou(&item.bbox) <= SAME);
            apart.then_some(Missed { item, frame_id: track.found_in })
        });
        moved.collect()
    }

    /// What became of the boxes of the last picture.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn side_lengths(&self) -> (f32, f32) {
        (self.size.0 as f32, self.size.1 as f32)
    }

    /// Whether there is anything to follow, or was a moment ago.
    fn has_objects(&self, at: Instant, result: Option<&Detections>) -> bool {
        let lately = |track: &Track| at.saturating_duration_since(track.seen) <= MEMORY;
        result.is_some_and(|result| !result.items.is_empty()) || self.tracks.values().any(lately)
    }

    fn fit_to(&mut self, view: &View<'_>) {
        let size = (view.picture.width(), view.picture.height());
        let before = std::mem::replace(&mut self.size, size);
        if before != size && before != (0, 0) {
            let (x, y) = (size.0 as f32 / before.0 as f32, size.1 as f32 / before.1 as f32);
            self.tracks.values_mut().for_each(|track| track.rescale(x, y));
        }
    }

    /// Takes a result in, once.
    fn take_in(&mut self, result: &Detections) {
        let name = (result.frame_id, result.arrived);
        if self.taken == Some(name) {
            return;
        }
        self.taken = Some(name);
        let (frame_id, at, size) = (result.frame_id, result.arrived, self.side_lengths());
        self.pictures.forget_before(frame_id);
        let memory = MEMORY.max(self.memory);
        self.tracks.retain(|_, track| at.saturating_duration_since(track.seen) <= memory);
        for item in result.items.iter().filter(|item| item.bbox.is_finite()) {
            let Some(id) = item.track_id else { continue };
            match self.tracks.get_mut(&id) {
                Some(track) if track.item.class_id == item.class_id => {
                    track.see(item, frame_id, at, size);
                    continue;
                }
                _ => {}
            }
            if self.tracks.len() < MOST_TRACKS {
                self.tracks.insert(id, Track::begin(item, frame_id, at, size));
            }
        }
        self.tracks.values_mut().filter(|track| track.found_in != frame_id).for_each(Track::miss);
    }

    /// Follows the objects of `result` into the picture at hand, those with most to gain first, and then those that it misses.
    fn follow(&mut self, result: &Detections, view: &View<'_>, in_time: impl Fn() -> bool) {
        self.order.clear();
        let tracks = &self.tracks;
        let named = result.items.iter().filter_map(|item| item.track_id);
        self.order.extend(named.filter_map(|id| Some((tracks.get(&id)?.worth(view.at), id))));
        self.order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let found = self.order.len();
        if self.way == Way::Picture {
            let missed = tracks.iter().filter(|(_, track)| track.is_missed(view.at, self.memory));
            self.order.extend(missed.map(|(id, track)| (track.worth(view.at), *id)));
            if let Some(missed) = self.order.get_mut(found..) {
                missed.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            }
        }
        let (width, height) = self.side_lengths();
        for (n, &(_, id)) in self.order.iter().enumerate() {
            let Some(track) = self.tracks.get_mut(&id) else { continue };
            let outcome = match self.way {
                Way::Prediction => Outcome::Predicted,
                Way::Picture if self.pictures.find(view.frame_id).is_none() => Outcome::Skipped,
                Way::Picture => track.follow(&self.pictures, (width, height), &mut self.reader, &in_time),
            };
            let count = match outcome {
                Outcome::Followed => &mut self.counts.followed,
                Outcome::Doubtful => &mut self.counts.doubtful,
                Outcome::Skipped => &mut self.counts.skipped,
                Outcome::Predicted => &mut self.counts.predicted,
            };
            *count += u64::from(n < found);
        }
    }

    fn moved(&self, item: &Detection, view: &View<'_>, size: (f32, f32)) -> Option<Detection> {
        let track = item.track_id.and_then(|id| self.tracks.get(&id));
        let Some(track) = track else { return Some(item.clone()) };
        let (bbox, warp) = track.now(view.frame_id, view.at, size);
        put_inside(item, bbox, warp, size)
    }
}

/// The objects of `result` at the instant `at`, moved by the velocity that was found with them, without a look at any picture.
#[must_use]
pub fn predicted(result: &Detections, at: Instant) -> Vec<Detection> {
    let seconds = at.saturating_duration_since(result.arrived).as_secs_f32();
    let (width, height) = (result.width as f32, result.height as f32);
    let moved = |item: &Detection| {
        let by = item.velocity.unwrap_or_default().map(|v| v * seconds);
        let BBox { x1, y1, x2, y2 } = item.bbox;
        let bbox = BBox::new(x1 + by[0], y1 + by[1], x2 + by[0], y2 + by[1]);
        put_inside(item, bbox, Warp { scale: 1.0, by }, (width, height))
    };
    result.items.iter().filter_map(moved).collect()
}

/// `item` with its box put to `bbox`, as much of it as the picture shows; `None` where that is nothing.
fn put_inside(item: &Detection, bbox: BBox, warp: Warp, (width, height): (f32, f32)) -> Option<Detection> {
    if !bbox.is_finite() {
        return Some(item.clone());
    }
    let bbox = bbox.clipped(width, height);
    let gone = |side: f32, before: f32| side < LEAST_SIDE.min(before);
    if gone(bbox.width(), item.bbox.width()) || gone(bbox.height(), item.bbox.height()) {
        return None;
    }
    Some(put(item, bbox, warp))
}

/// `item` with its box put to `bbox`, and what belongs to it moved by `warp`.
fn put(item: &Detection, bbox: BBox, warp: Warp) -> Detection {
    let keypoints = item.keypoints.as_ref().map(|points| {
        let moved = points.iter().map(|point| {
            let [x, y] = warp.apply([point.x, point.y]);
            KeyPoint { x, y, ..*point }
        });
        moved.collect::<Arc<[KeyPoint]>>()
    });
    let mask = item.mask.as_ref().map(|outline| outline.iter().map(|at| warp.apply(*at)).collect::<Arc<[[f32; 2]]>>());
    Detection { bbox, keypoints, mask, ..item.clone() }
}

#[cfg(test)]
mod tests;
