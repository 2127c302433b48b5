//! A camera's smaller stream, for the detector alone: decoded on a thread of its own, its results said of the main stream.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::inbox::{Event, Inbox, Pushed};
use super::ingress::{Name, Named};
use super::metrics::DropReason;
use super::options::PipelineError;
use super::shared::Shared;
use super::video::lock;
use crate::decode::{DecodeError, VideoDecoder};
use crate::detect::{Hint, Lane, LaneOptions, Pools};
use crate::media::{
    AccessUnit, BBox, Detections, Frame, FrameLedger, FramePool, KeyPoint, KeyframeRequest, Mark, RtpTimestamp,
    StreamClock,
};

/// The sub-stream of a stream. Ends when dropped.
pub(super) struct SubStream {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    lane: Arc<Lane>,
    clock: Mutex<(StreamClock, u64)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SubStream {
    /// Starts its thread.
    pub(super) fn start(shared: &Arc<Shared>, pool: &Pools, options: LaneOptions) -> Result<Self, PipelineError> {
        let lane = Arc::new({
            let (name, shared) = (Arc::clone(&shared.name), Arc::downgrade(shared));
            pool.lane(name, options, move |result| {
                let Some(shared) = shared.upgrade() else { return };
                if let Some(result) = said_of_the_main_stream(&shared, &result) {
                    shared.detected(Arc::new(result));
                }
            })
        });
        // A camera cannot be asked.
        let decoder = VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored());
        let inbox = Arc::new(Inbox::default());
        let worker =
            Worker { shared: Arc::clone(shared), lane: Arc::clone(&lane), decoder, offered: None, logged: None };
        let thread = thread::Builder::new()
            .name(format!("sub-{}", shared.name))
            .spawn({
                let inbox = Arc::clone(&inbox);
                move || {
                    let name = Arc::clone(&worker.shared.name);
                    if catch_unwind(AssertUnwindSafe(|| worker.run(&inbox))).is_err() {
                        tracing::error!(stream = %name, "the sub-stream's thread panicked; the detector looks at the main stream");
                        inbox.close();
                    }
                }
            })
            .map_err(PipelineError::Thread)?;
        Ok(Self {
            shared: Arc::clone(shared),
            inbox,
            lane,
            clock: Mutex::new((StreamClock::new(), 0)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Its lane in the pool.
    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Takes its next access unit. Never waits.
    pub(super) fn push(&self, mut unit: AccessUnit) {
        let mut clock = lock(&self.clock);
        let rtp_timestamp = clock.0.stamp(unit.rtp_timestamp, unit.last_packet);
        let name =
            Name { id: clock.1, rtp_timestamp, captured: unit.captured, arrived: unit.last_packet, idr: unit.idr };
        clock.1 += 1;
        drop(clock);
        unit.rtp_timestamp = rtp_timestamp.output;
        if let Pushed::Dropped(units) = self.inbox.push(Named { unit, name, forwarded: false }) {
            self.shared.metrics.dropped(DropReason::Overflow, units);
        }
    }

    /// The camera's smaller stream begins anew.
    pub(super) fn begin_epoch(&self) {
        lock(&self.clock).0.begin_epoch();
        self.inbox.begin_epoch();
    }
}

impl Drop for SubStream {
    fn drop(&mut self) {
        self.inbox.close();
        if let Some(thread) = lock(&self.thread).take() {
            // Panics were caught and noted on the thread itself.
            let _ = thread.join();
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    decoder: VideoDecoder,
    /// When a frame was last offered to the detector.
    offered: Option<Instant>,
    /// An unsupported sub-stream is told of once in an epoch.
    logged: Option<DecodeError>,
}

impl Worker {
    fn run(mut self, inbox: &Inbox) {
        while let Some(event) = inbox.take(None) {
            match event {
                Event::Unit(named) => self.take_unit(&named, inbox),
                Event::Epoch => {
                    self.decoder.reset();
                    self.logged = None;
                }
                Event::Lost => self.decoder.unit_lost(Instant::now()),
                Event::Signal(_) | Event::Detected | Event::Wanted | Event::Due => {}
            }
        }
    }

    fn take_unit(&mut self, named: &Named, inbox: &Inbox) {
        let dequeued = Instant::now();
        let picture = match self.decoder.decode(&named.unit) {
            Ok(Some(picture)) => picture,
            Ok(None) => return,
            Err(error) => {
                self.shared.metrics.dropped(DropReason::Decode, 1);
                if error.ends_stream() && self.logged.as_ref() != Some(&error) {
                    tracing::warn!(stream = %self.shared.name, %error, "the sub-stream cannot be decoded; the detector looks at the main stream");
                    self.logged = Some(error);
                }
                return;
            }
        };
        *lock(&self.shared.sub_seen) = Some(dequeued);
        if inbox.has_unit() || !(self.shared.is_drawn() || self.shared.is_read()) {
            return;
        }
        let every = self.shared.looks_every();
        if self.offered.is_some_and(|offered| dequeued.saturating_duration_since(offered) < every) {
            return;
        }
        self.offered = Some(dequeued);
        let mut ledger = FrameLedger::arrived(picture.first_packet, picture.last_packet);
        ledger.mark_at(Mark::Dequeued, dequeued);
        ledger.mark(Mark::Decoded);
        let source = picture.rtp_timestamp;
        let frame = Frame {
            id: named.name.id,
            rtp_timestamp: RtpTimestamp { output: source, source },
            captured: picture.captured,
            picture: Arc::new(picture.picture),
            ledger,
        };
        self.lane.offer_as(frame, Hint { keyframe: named.unit.idr, wanted: false });
    }
}

/// The result as one of the main stream's frame of the same moment; `None` while there is no such frame.
fn said_of_the_main_stream(shared: &Shared, result: &Detections) -> Option<Detections> {
    let name = shared.ingress.nearest(result.captured, result.arrived)?;
    let last = shared.last.load_full()?;
    let (width, height) = (last.picture.width(), last.picture.height());
    let mut said = scaled(result, width, height);
    said.frame_id = name.id;
    said.rtp_timestamp = name.rtp_timestamp;
    said.captured = name.captured;
    said.arrived = name.arrived;
    Some(said)
}

/// A result for a picture of another size.
#[allow(clippy::cast_precision_loss)] // sides are at most 8192
fn scaled(result: &Detections, width: usize, height: usize) -> Detections {
    let (x, y) = (width as f32 / result.width.max(1) as f32, height as f32 / result.height.max(1) as f32);
    let mut scaled = result.clone();
    for item in scaled.items.iter_mut().chain(&mut scaled.veiled) {
        let BBox { x1, y1, x2, y2 } = item.bbox;
        item.bbox = BBox::new(x1 * x, y1 * y, x2 * x, y2 * y);
        item.velocity = item.velocity.map(|[vx, vy]| [vx * x, vy * y]);
        let point = |point: &KeyPoint| KeyPoint { x: point.x * x, y: point.y * y, ..*point };
        item.keypoints = item.keypoints.as_ref().map(|points| points.iter().map(point).collect());
        item.mask = item.mask.as_ref().map(|corners| corners.iter().map(|[cx, cy]| [cx * x, cy * y]).collect());
    }
    scaled.width = u32::try_from(width).unwrap_or(u32::MAX);
    scaled.height = u32::try_from(height).unwrap_or(u32::MAX);
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Detection, DetectionTimes};

    #[test]
    fn boxes_and_motion_are_scaled_to_the_main_picture() {
        let item = Detection {
            bbox: BBox::new(10.0, 20.0, 30.0, 60.0),
            confidence: 0.5,
            class_id: 0,
            class_name: "person".into(),
            track_id: Some(1),
            velocity: Some([4.0, -2.0]),
            keypoints: Some([KeyPoint { x: 10.0, y: 20.0, confidence: Some(0.5) }].into()),
            mask: Some([[10.0, 20.0]].into()),
            ..Detection::default()
        };
        let result = Detections {
            frame_id: 3,
            rtp_timestamp: RtpTimestamp::default(),
            captured: None,
            arrived: Instant::now(),
            width: 320,
            height: 240,
            model: "test".into(),
            items: vec![item],
            veiled: Vec::new(),
            events: Vec::new(),
            times: DetectionTimes::default(),
        };
        let scaled = scaled(&result, 1280, 720);
        assert_eq!((scaled.width, scaled.height), (1280, 720));
        assert_eq!(scaled.items[0].bbox, BBox::new(40.0, 60.0, 120.0, 180.0));
        assert_eq!(scaled.items[0].velocity, Some([16.0, -6.0]));
        let points = scaled.items[0].keypoints.as_deref().unwrap();
        assert_eq!(points, [KeyPoint { x: 40.0, y: 60.0, confidence: Some(0.5) }]);
        assert_eq!(scaled.items[0].mask.as_deref().unwrap(), [[40.0, 60.0]]);
    }
}
