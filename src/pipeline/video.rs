//! The video thread of a stream: every access unit is decoded, the newest picture is drawn on, encoded and sent.
//!
//! Detection is never waited for. The newest result that there is gets drawn, if it is young enough; a frame is offered to
//! the detector before it is drawn on, and drawing makes a copy when the detector still holds the original. The one
//! exception is the overlay `exact`, which sends detected frames only, one in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::inbox::{Event, Inbox};
use super::metrics::{DropReason, StreamMetrics};
use crate::annotate::Annotator;
use crate::decode::{Picture, VideoDecoder};
use crate::detect::Lane;
use crate::encode::Encoder;
use crate::media::{AccessUnit, Detection, Detections, Frame, FrameLedger, KeyframeGate, Mark, StreamClock};
use crate::peer::packetize;
use crate::sink::message::Overlay;
use crate::sink::{EncodedFrame, Fanout};

/// After this long a frame that waits for its result in exact mode gives way: the detector lost it.
const EXACT_PATIENCE: Duration = Duration::from_secs(2);

/// The least time between two log lines about lost pictures of one stream.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What the thread shares with its stream.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) inbox: Inbox,
    pub(super) fanout: Fanout,
    pub(super) gate: Arc<std::sync::Mutex<KeyframeGate>>,
    pub(super) newest: ArcSwapOption<Detections>,
    pub(super) overlay: ArcSwap<Overlay>,
    /// How many read the results, beside the boxes in the picture.
    pub(super) readers: AtomicUsize,
    pub(super) max_box_age: Duration,
    pub(super) metrics: StreamMetrics,
    /// Why the stream ended by itself, if it did.
    pub(super) failure: ArcSwapOption<String>,
    pub(super) size: ArcSwapOption<(usize, usize)>,
    /// Why no pictures come.
    pub(super) no_signal: ArcSwapOption<String>,
}

/// The thread's own tools.
pub(super) struct Video {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Arc<Lane>,
    pub(super) decoder: VideoDecoder,
    pub(super) encoder: Box<dyn Encoder>,
    pub(super) annotator: Annotator,
    clock: StreamClock,
    next_id: u64,
    /// In exact mode: the frame whose result is awaited.
    awaited: Option<Frame>,
    logged: Option<Instant>,
}

impl Video {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: Arc<Lane>,
        decoder: VideoDecoder,
        encoder: Box<dyn Encoder>,
        annotator: Annotator,
    ) -> Self {
        Self {
            shared,
            lane,
            decoder,
            encoder,
            annotator,
            clock: StreamClock::new(),
            next_id: 0,
            awaited: None,
            logged: None,
        }
    }

    /// Runs until the inbox is closed, or the stream turns out to be one that cannot be decoded.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(event) = shared.inbox.take() {
            let goes_on = match event {
                Event::Unit(unit) => self.take_unit(&unit),
                Event::Detected => {
                    self.take_result();
                    true
                }
            };
            if !goes_on {
                shared.inbox.close();
            }
        }
    }

    fn take_unit(&mut self, unit: &AccessUnit) -> bool {
        let dequeued = Instant::now();
        let picture = match self.decoder.decode(unit) {
            Ok(Some(picture)) => picture,
            Ok(None) => return true,
            Err(error) if error.ends_stream() => {
                tracing::warn!(stream = %self.shared.name, %error, "the stream ends");
                self.shared.failure.store(Some(Arc::new(error.to_string())));
                return false;
            }
            Err(error) => {
                self.shared.metrics.dropped(DropReason::Decode, 1);
                self.log_rarely(&error);
                return true;
            }
        };
        let frame = self.name(picture, dequeued);
        self.shared.metrics.frame_decoded();
        if self.shared.inbox.has_unit() {
            // The next one is here already: this one was decoded for its sake.
            self.shared.metrics.dropped(DropReason::Superseded, 1);
            return true;
        }
        self.render(frame);
        true
    }

    fn name(&mut self, picture: Picture, dequeued: Instant) -> Frame {
        let Picture { picture, rtp_timestamp, first_packet, last_packet, captured } = picture;
        let mut ledger = FrameLedger::arrived(first_packet, last_packet);
        ledger.mark_at(Mark::Dequeued, dequeued);
        ledger.mark(Mark::Decoded);
        let size = (picture.width(), picture.height());
        if self.shared.size.load().as_deref() != Some(&size) {
            tracing::info!(stream = %self.shared.name, width = size.0, height = size.1, "picture size");
            self.shared.size.store(Some(Arc::new(size)));
        }
        let id = self.next_id;
        self.next_id += 1;
        Frame { id, rtp_timestamp: self.clock.stamp(rtp_timestamp), captured, picture: Arc::new(picture), ledger }
    }

    fn render(&mut self, frame: Frame) {
        match **self.shared.overlay.load() {
            Overlay::Exact => self.await_result(frame),
            overlay => {
                self.awaited = None;
                let watched = self.shared.fanout.viewers() > 0;
                let drawn = watched && overlay == Overlay::Latest;
                if drawn || self.shared.readers.load(Ordering::Relaxed) > 0 {
                    self.lane.offer(frame.clone());
                }
                if watched {
                    let result = if drawn { self.result_for(&frame) } else { None };
                    self.show(frame, result);
                }
            }
        }
    }

    /// The newest result, if it is of a picture of this size and young enough for this frame.
    fn result_for(&self, frame: &Frame) -> Option<Arc<Detections>> {
        let result = self.shared.newest.load_full()?;
        let arrived = frame.ledger.at(Mark::LastPacket)?;
        let age = arrived.saturating_duration_since(result.arrived);
        let same_size =
            (result.width as usize, result.height as usize) == (frame.picture.width(), frame.picture.height());
        (same_size && age <= self.shared.max_box_age).then_some(result)
    }

    fn await_result(&mut self, frame: Frame) {
        if let Some(awaited) = &self.awaited {
            let since = awaited.ledger.at(Mark::Decoded);
            if since.is_some_and(|since| since.elapsed() < EXACT_PATIENCE) {
                self.shared.metrics.dropped(DropReason::Exact, 1);
                return;
            }
        }
        self.lane.offer(frame.clone());
        self.awaited = Some(frame);
    }

    fn take_result(&mut self) {
        let Some(result) = self.shared.newest.load_full() else { return };
        if let Some(frame) = self.awaited.take_if(|frame| frame.id == result.frame_id)
            && self.shared.fanout.viewers() > 0
        {
            self.show(frame, Some(result));
        }
    }

    fn show(&mut self, mut frame: Frame, result: Option<Arc<Detections>>) {
        frame.ledger.mark(Mark::RenderStarted);
        let boxes: Vec<Detection> = result.as_ref().map(|result| result.items.clone()).unwrap_or_default();
        if !boxes.is_empty() {
            self.annotator.draw(Arc::make_mut(&mut frame.picture), &boxes);
        }
        frame.ledger.mark(Mark::Drawn);
        let now = Instant::now();
        let wanted = lock(&self.shared.gate).take(now);
        let encoded = match self.encoder.encode(&frame.picture, wanted) {
            Ok(encoded) => encoded,
            Err(error) => {
                self.shared.metrics.dropped(DropReason::Encode, 1);
                self.log_rarely(&error);
                // The wish that was taken is still there.
                self.shared.fanout.keyframe_request().request();
                return;
            }
        };
        frame.ledger.mark(Mark::Encoded);
        if encoded.idr && !wanted {
            lock(&self.shared.gate).on_keyframe(now);
        }
        self.shared.metrics.frame_encoded(encoded.idr, encoded.data.len());
        self.shared.fanout.send(&Arc::new(EncodedFrame {
            payloads: packetize(&encoded.data),
            idr: encoded.idr,
            frame_id: frame.id,
            rtp_timestamp: frame.rtp_timestamp,
            captured: frame.captured,
            ledger: frame.ledger,
            boxes,
            result,
        }));
    }

    fn log_rarely(&mut self, error: &dyn std::fmt::Display) {
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            tracing::warn!(stream = %self.shared.name, %error, "a picture was lost");
        }
    }
}

pub(super) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
