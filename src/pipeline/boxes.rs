//! Which boxes are drawn on a frame, and where: the newest result's, moved to where the objects are now.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::overload::DETECTION_STEPS;
use super::shared::Shared;
use crate::detect::follow::{Follower, View, Way};
use crate::media::{Detection, Detections, Frame, I420Frame, Mark};

/// The time that the pictures may be asked for in one frame. What is left over then is predicted.
const BUDGET: Duration = Duration::from_millis(2);

/// A frame that is this old when its boxes are due is late: the video comes first, and boxes are only predicted.
const LATE: Duration = Duration::from_millis(20);

/// Chooses the boxes of one stream's frames.
pub(super) struct Boxes {
    /// `None`: boxes stand where they were found.
    follower: Option<Follower>,
}

impl Boxes {
    pub(super) fn new(shared: &Shared) -> Self {
        let follower = shared.follow.then(|| Follower::new(Way::Picture, shared.max_box_age));
        Self { follower }
    }

    /// What comes next has nothing to do with what was.
    pub(super) fn reset(&mut self) {
        if let Some(follower) = &mut self.follower {
            follower.reset();
        }
    }

    /// The boxes of `frame`, whose picture has none in it yet, and the result that they come from, if it is young enough.
    pub(super) fn of(&mut self, shared: &Shared, frame: &Frame) -> (Vec<Detection>, Option<Arc<Detections>>) {
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
        let boxes = follower.boxes(&view, result.as_deref());
        shared.metrics.boxes(follower.counts());
        (boxes, result)
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
