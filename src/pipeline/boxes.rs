//! Which boxes are drawn on a frame, and where: the newest result's, moved to where the objects are now.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::overload::DETECTION_STEPS;
use super::shared::Shared;
use crate::detect::Lane;
use crate::detect::follow::{Follower, View, Way};
use crate::media::{Detection, Detections, Frame, I420Frame, Mark};

/// The time that the pictures may be asked for in one frame. What is left over then is predicted.
const BUDGET: Duration = Duration::from_millis(2);

/// A frame that is this old when its boxes are due is late: the video comes first, and boxes are only predicted.
const LATE: Duration = Duration::from_millis(20);

/// Results that are remembered: an object that two of them miss was found in the third.
const MOST_RESULTS: usize = 4;

/// Chooses the boxes of one stream's frames.
pub(super) struct Boxes {
    /// `None`: boxes stand where they were found.
    follower: Option<Follower>,
    /// Oldest first.
    results: VecDeque<Arc<Detections>>,
}

impl Boxes {
    pub(super) fn new(shared: &Shared) -> Self {
        let follower = shared.follow.then(|| Follower::new(Way::Picture, shared.max_box_age));
        Self { follower, results: VecDeque::new() }
    }

    /// What comes next has nothing to do with what was.
    pub(super) fn reset(&mut self) {
        self.results.clear();
        if let Some(follower) = &mut self.follower {
            follower.reset();
        }
    }

    /// The boxes of `frame`, whose picture has none in it yet, and the oldest result that one of them comes from, or the newest, if
    /// it is young enough.
    pub(super) fn of(
        &mut self,
        shared: &Shared,
        lane: &Lane,
        frame: &Frame,
    ) -> (Vec<Detection>, Option<Arc<Detections>>) {
        let now = Instant::now();
        let at = frame.ledger.at(Mark::LastPacket).unwrap_or(now);
        let result = shared.result_for(&frame.picture, at);
        let Some(follower) = &mut self.follower else {
            return (result.as_ref().map(|result| result.items.clone()).unwrap_or_default(), result);
        };
        // When the detector has given all that it can, what following takes is better spent on its looks.
        let spent = shared.give_way && shared.member.detection() >= DETECTION_STEPS;
        let late = spent || now.saturating_duration_since(at) > LATE || shared.inbox.has_unit();
        let until = Some(if late { now } else { now + BUDGET });
        let view = View { frame_id: frame.id, at, picture: &frame.picture, until };
        let mut boxes = follower.boxes(&view, result.as_deref());
        let counts = follower.counts();
        let Some(result) = result else {
            shared.metrics.boxes(counts, 0);
            return (boxes, None);
        };
        if self.results.back().is_none_or(|last| !Arc::ptr_eq(last, &result)) {
            if self.results.len() == MOST_RESULTS {
                self.results.pop_front();
            }
            self.results.push_back(Arc::clone(&result));
        }
        // What is out of bounds since, or not asked for any more, was not missed.
        let size = (frame.picture.width(), frame.picture.height());
        let mut missed = follower.missed(&view, &boxes);
        missed.retain(|missed| lane.admits(&missed.item, size));
        missed.truncate(lane.settings().max_detections.saturating_sub(boxes.len()));
        shared.metrics.boxes(counts, missed.len());
        let oldest = missed.iter().map(|missed| missed.frame_id).min();
        let found_in = oldest.and_then(|id| self.results.iter().find(|result| result.frame_id == id)).cloned();
        boxes.extend(missed.into_iter().map(|missed| missed.item));
        (boxes, Some(found_in.unwrap_or(result)))
    }
}

/// Boxes that are in pixels of a source of this size, in those of `picture`, which was made of it.
pub(super) fn scaled<'a>(
    boxes: &'a [Detection],
    (width, height): (usize, usize),
    picture: &I420Frame,
) -> Cow<'a, [Detection]> {
    if (picture.width(), picture.height()) == (width, height) {
        return Cow::Borrowed(boxes);
    }
    let (across, down) = (picture.width() as f32 / width as f32, picture.height() as f32 / height as f32);
    Cow::Owned(boxes.iter().map(|item| item.scaled(across, down)).collect())
}
