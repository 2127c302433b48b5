//! The video thread of a stream: every access unit is decoded, the newest picture is drawn on, encoded and sent.
//!
//! Detection is never waited for. The newest result that there is gets drawn, if it is young enough, its boxes moved to
//! where the objects are now (`boxes`); a frame is offered to
//! the detector before it is drawn on, and drawing makes a copy when somebody still holds the original. The one
//! exception is the overlay `exact`, which sends detected frames only, one in flight.
//!
//! While no pictures come, the last one goes out with a banner.

mod outage;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::boxes::{Boxes, scaled};
use super::encodes::{Encodes, Tiers};
use super::inbox::Event;
use super::ingress::Named;
use super::metrics::DropReason;
use super::overload::Giver;
use super::rendition::Affords;
use super::shared::{Last, Shared};
use super::silence::Silence;
use crate::annotate::{Annotator, Hider};
use crate::decode::{DecodeError, Picture, VideoDecoder};
use crate::detect::{Hint, Lane};
use crate::encode;
use crate::media::{Detection, Detections, Frame, FrameLedger, Mark};
use crate::sink::message::Overlay;
use crate::sink::{Bitstream, Demand};

/// After this long a frame that waits for its result in exact mode gives way: the detector lost it.
const EXACT_PATIENCE: Duration = Duration::from_secs(2);

/// The least time between two log lines about lost pictures of one stream.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked whether an encoder may be given up.
const REST_INTERVAL: Duration = Duration::from_secs(2);

/// What a decode waits at the longest for the packets of its unit to leave as they came: longer than a network thread that has
/// its turn takes, and short beside a frame.
const WAY: Duration = Duration::from_millis(1);

/// Boxes as they are drawn, and the result that they come from.
type Chosen = (Vec<Detection>, Option<Arc<Detections>>);

/// The thread's own tools.
pub(super) struct Video {
    shared: Arc<Shared>,
    lane: Arc<ArcSwap<Lane>>,
    decoder: VideoDecoder,
    encodes: Encodes,
    annotator: Annotator,
    boxes: Boxes,
    hider: Hider,
    /// While no pictures come.
    silence: Option<Silence>,
    /// The newest frame's number: those of pictures that come out of order rise all the same.
    last_id: Option<u64>,
    /// In exact mode: the frame whose result is awaited.
    awaited: Option<Frame>,
    /// And the number of the lane that was asked.
    asked: u64,
    logged: Option<Instant>,
    rested: Instant,
    giver: Giver,
}

impl Video {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: Arc<ArcSwap<Lane>>,
        decoder: VideoDecoder,
        encode: &encode::Config,
    ) -> Self {
        let encodes = Encodes::new(&shared.gates, encode);
        let boxes = Boxes::new(&shared);
        Self {
            shared,
            lane,
            decoder,
            encodes,
            annotator: Annotator::new(),
            boxes,
            hider: Hider::new(),
            silence: None,
            last_id: None,
            awaited: None,
            asked: 0,
            logged: None,
            rested: Instant::now(),
            giver: Giver::new(),
        }
    }

    /// Runs until the inbox is closed, or the stream turns out to be one that cannot be decoded.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        if !shared.options.bridge {
            // While its publisher still connects, who mostly wants it back.
            self.encodes.prewarm();
        }
        while let Some(event) = shared.inbox.take(self.due()) {
            let goes_on = match event {
                Event::Unit(named) => {
                    self.giver.begin(named.unit.last_packet);
                    let goes_on = self.take_unit(&named);
                    self.giver.end(&shared, &self.lane.load());
                    goes_on
                }
                Event::Epoch => {
                    self.begin_epoch();
                    true
                }
                Event::Lost => {
                    self.decoder.unit_lost(Instant::now());
                    true
                }
                Event::Signal(lost) => {
                    self.take_signal(lost);
                    true
                }
                Event::Detected => {
                    self.take_result();
                    true
                }
                Event::Wanted | Event::Due => {
                    self.show_silence();
                    true
                }
            };
            if !goes_on {
                shared.inbox.close();
            }
            self.rest();
        }
    }

    /// When the thread has something to do without an event.
    fn due(&self) -> Option<Instant> {
        let silence = self.silence.as_ref()?;
        (self.shared.fanout.demand() != Demand::default()).then(|| silence.due())
    }

    fn rest(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.rested) >= REST_INTERVAL {
            self.rested = now;
            self.encodes.rest(now);
        }
    }

    fn begin_epoch(&mut self) {
        self.decoder.reset();
        self.awaited = None;
        self.shared.newest.store(None);
        self.boxes.reset();
        self.shared.watch.begin(Instant::now());
    }

    /// Lets the packets of the original go out first, where somebody gets it. To wake this thread is to put it before the
    /// network's that woke it, if they stand on one core, and what that one has to send would wait for the whole decode.
    fn give_way(&self, named: &Named) {
        if named.forwarded {
            self.shared.departures.wait_for(named.name.rtp_timestamp.output, WAY);
        }
    }

    fn take_unit(&mut self, named: &Named) -> bool {
        self.give_way(named);
        let dequeued = Instant::now();
        let picture = match self.decoder.decode(&named.unit) {
            Ok(Some(picture)) => picture,
            Ok(None) => return true,
            Err(error) if error.ends_stream() => return self.give_up(&error),
            Err(error) => {
                self.shared.metrics.dropped(DropReason::Decode, 1);
                self.log_rarely(&error);
                return true;
            }
        };
        let Some((frame, keyframe)) = self.name(picture, dequeued) else { return true };
        self.shared.metrics.frame_decoded();
        self.end_silence();
        if self.shared.inbox.has_unit() {
            // The next one is here already: this one was decoded for its sake.
            self.shared.metrics.dropped(DropReason::Superseded, 1);
            return true;
        }
        self.render(frame, keyframe);
        true
    }

    /// What comes can never be decoded. A stream that endures says so in its picture and waits for something else to come.
    fn give_up(&mut self, error: &DecodeError) -> bool {
        let text = error.to_string();
        if !self.shared.options.endures {
            tracing::warn!(stream = %self.shared.name, %error, "the stream ends");
            self.shared.failure.store(Some(Arc::new(text)));
            return false;
        }
        self.shared.metrics.dropped(DropReason::Decode, 1);
        self.log_rarely(error);
        if self.shared.unsupported.borrow().as_ref() != Some(&text) {
            self.shared.unsupported.send_replace(Some(text.clone()));
            self.take_signal(Some(text));
        }
        true
    }

    /// The picture's frame, and whether it refers to none before.
    fn name(&mut self, picture: Picture, dequeued: Instant) -> Option<(Frame, bool)> {
        let Picture { picture, rtp_timestamp, first_packet, last_packet, captured } = picture;
        let mut ledger = FrameLedger::arrived(first_packet, last_packet);
        ledger.mark_at(Mark::Dequeued, dequeued);
        ledger.mark(Mark::Decoded);
        // A decoder that gives a picture of more than two seconds ago is out of its mind.
        let mut name = self.shared.ingress.name_of(rtp_timestamp)?;
        name.id = self.last_id.map_or(name.id, |last| name.id.max(last + 1));
        self.last_id = Some(name.id);
        let picture = Arc::new(picture);
        let size = (picture.width(), picture.height());
        let before = self.shared.last.swap(Some(Arc::new(Last { picture: Arc::clone(&picture), name })));
        if before.is_none_or(|before| (before.picture.width(), before.picture.height()) != size) {
            self.shared.fanout.set_full(self.encodes.full(size));
            tracing::info!(stream = %self.shared.name, width = size.0, height = size.1, "picture size");
        }
        let frame = Frame { id: name.id, rtp_timestamp: name.rtp_timestamp, captured, picture, ledger };
        Some((frame, name.idr))
    }

    fn render(&mut self, frame: Frame, keyframe: bool) {
        let demand = self.shared.fanout.demand();
        let (drawn, read) = (self.shared.is_drawn(), self.shared.is_read());
        let for_plain = demand.plain > 0 && self.shared.fanout.wants_plain(frame.rtp_timestamp.output);
        let plain = for_plain.then(|| frame.clone());
        match **self.shared.overlay.load() {
            Overlay::Exact => {
                if drawn || read {
                    self.await_result(frame, keyframe);
                }
            }
            overlay => {
                self.awaited = None;
                let looks = (drawn || read) && !self.shared.sub_stream_is_live();
                if looks && self.giver.may_look(&self.shared) {
                    self.lane.load().offer_as(frame.clone(), Hint { keyframe, wanted: false });
                }
                if demand.annotated > 0 {
                    let lane = self.lane.load_full();
                    self.show(frame, |boxes, shared, frame| {
                        if overlay == Overlay::Latest { boxes.of(shared, &lane, frame) } else { (Vec::new(), None) }
                    });
                }
            }
        }
        if let Some(frame) = plain {
            self.show_plain(frame);
        }
    }

    fn await_result(&mut self, frame: Frame, keyframe: bool) {
        let lane = self.shared.lanes.load(Ordering::Acquire);
        if let Some(awaited) = self.awaited.as_ref().filter(|_| self.asked == lane) {
            let since = awaited.ledger.at(Mark::Decoded);
            if since.is_some_and(|since| since.elapsed() < EXACT_PATIENCE) {
                self.shared.metrics.dropped(DropReason::Exact, 1);
                return;
            }
        }
        // Who has just come sees a picture, whatever the sampling says.
        let wanted = self.encodes.has_to_begin(Bitstream::Annotated, &self.shared.fanout, Instant::now());
        if self.lane.load().offer_as(frame.clone(), Hint { keyframe, wanted }) {
            self.awaited = Some(frame);
            self.asked = lane;
        } else {
            self.shared.metrics.dropped(DropReason::Exact, 1);
        }
    }

    fn take_result(&mut self) {
        let Some(result) = self.shared.newest.load_full() else { return };
        if let Some(frame) = self.awaited.take_if(|frame| frame.id == result.frame_id)
            && self.shared.fanout.demand().annotated > 0
        {
            self.show(frame, |_, _, _| (result.items.clone(), Some(result)));
        }
    }

    /// The encodes that take the frame at hand, where there is time for them; counted where there is not.
    fn admitting(&mut self, bitstream: Bitstream, frame: &Frame) -> Option<Tiers> {
        let begins = self.encodes.has_to_begin(bitstream, &self.shared.fanout, Instant::now());
        if let Err(reason) = self.giver.may_encode(&self.shared, begins) {
            self.shared.metrics.dropped(reason, 1);
            return None;
        }
        self.encodes.admitting(bitstream, &frame.picture, &self.shared, self.giver.relief())
    }

    /// Draws and sends a frame to the viewers of the annotated video, with the boxes that are chosen for it.
    fn show(&mut self, mut frame: Frame, choose: impl FnOnce(&mut Boxes, &Shared, &Frame) -> Chosen) {
        let Some(tiers) = self.admitting(Bitstream::Annotated, &frame) else { return };
        let begun = Instant::now();
        frame.ledger.mark_at(Mark::RenderStarted, begun);
        let (mut boxes, result) = choose(&mut self.boxes, &self.shared, &frame);
        // What is drawn is what is said, to the pixel: 25.96 is told as 26.0, and its edge must not stand at 25.
        boxes.iter_mut().for_each(|item| item.bbox = item.bbox.in_tenths());
        self.hide(&mut frame, &boxes);
        self.send_each(Bitstream::Annotated, tiers, frame, (boxes, result));
        self.giver.encoded(begun);
    }

    /// Sends a frame without boxes.
    fn show_plain(&mut self, mut frame: Frame) {
        let Some(tiers) = self.admitting(Bitstream::Plain, &frame) else { return };
        frame.ledger.mark(Mark::RenderStarted);
        self.hide(&mut frame, &[]);
        self.send_each(Bitstream::Plain, tiers, frame, Chosen::default());
    }

    /// Sends a frame by some of the encodes, each in its size, with what is drawn on it.
    fn send_each(&mut self, bitstream: Bitstream, tiers: Tiers, frame: Frame, chosen: Chosen) {
        let source = (frame.picture.width(), frame.picture.height());
        let mut tiers = tiers.into_iter().flatten().peekable();
        let mut left = Some((frame, chosen));
        while let Some(tier) = tiers.next() {
            // The last takes the picture itself, so that it is not copied to be drawn on.
            let taken = if tiers.peek().is_some() { left.clone() } else { left.take() };
            let Some((mut frame, (boxes, result))) = taken else { return };
            let Some(rendition) = self.encodes.get(bitstream, tier) else { continue };
            frame.picture = rendition.fit(frame.picture);
            if !boxes.is_empty() {
                let boxes = scaled(&boxes, source, &frame.picture);
                self.annotator.draw(Arc::make_mut(&mut frame.picture), &boxes);
            }
            if bitstream == Bitstream::Annotated && self.shared.draws_regions() {
                super::regions::draw(Arc::make_mut(&mut frame.picture), &self.lane.load());
            }
            frame.ledger.mark(Mark::Drawn);
            self.send((bitstream, tier), frame, source, (boxes, result));
        }
    }

    /// Hides what nobody may see.
    fn hide(&mut self, frame: &mut Frame, drawn: &[Detection]) {
        let arrived = frame.ledger.at(Mark::LastPacket).unwrap_or_else(Instant::now);
        self.shared.hide(&mut frame.picture, &self.lane.load(), &mut self.hider, arrived, drawn);
    }

    /// Sends a frame that fits its encode, of a source whose pictures have this size.
    fn send(
        &mut self,
        (bitstream, tier): (Bitstream, usize),
        frame: Frame,
        source: (usize, usize),
        (boxes, result): Chosen,
    ) {
        let Some(rendition) = self.encodes.get(bitstream, tier) else { return };
        let affords = Affords { source, limit: self.shared.fanout.narrowest(bitstream, tier) };
        match rendition.encode(frame, boxes, result, affords) {
            Ok((encoded, bytes)) => {
                self.shared.metrics.frame_encoded(encoded.idr, bytes);
                self.shared.note(bitstream, tier, rendition.status(source));
                self.shared.fanout.send(&Arc::new(encoded));
            }
            Err(error) => {
                self.shared.metrics.dropped(DropReason::Encode, 1);
                self.log_rarely(&error);
            }
        }
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
