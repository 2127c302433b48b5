//! A stream: a name, a video thread, a lane in the detector pool, and whoever watches.

mod model;
mod report;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};

use self::model::take_lane;
use super::inbox::Pushed;
use super::ingress::{Name, wall_clock};
use super::latency::LatencyReport;
use super::metrics::DropReason;
use super::options::PipelineError;
use super::parts::{Signal, StreamParts};
use super::rules::Rules;
use super::shared::Shared;
use super::status::{Snapshot, Timeline};
use super::sub_stream::SubStream;
use super::video::{Video, lock};
use crate::annotate::{Annotator, Hider};
use crate::decode::VideoDecoder;
use crate::detect::follow::predicted;
use crate::detect::{Lane, LaneOptions, Pools, Priority, Zone};
use crate::media::{AccessUnit, AudioPacket, Detections, FrameLedger, FramePool, KeyframeRequest};
use crate::sink::message::{ConfigMessage, ErrorCode, LedgerMessage, MessageError, StreamConfig};
use crate::sink::{Bitstream, EncodedFrame, VideoChoice, ViewerFeed};

/// Audio packets that a slow listener may be behind: a second at 20 ms each.
const WAITING_AUDIO: usize = 50;

/// A running stream. Stopped when dropped.
pub struct Stream {
    shared: Arc<Shared>,
    pool: Arc<Pools>,
    lane: Arc<ArcSwap<Lane>>,
    /// The model that was asked for, for the sub-stream too.
    model: Mutex<Option<String>>,
    /// Frames that lanes skipped which are gone.
    skipped: AtomicU64,
    sub: Mutex<Option<Arc<SubStream>>>,
    /// What makes a lighter model ready before it looks, and keeps it so.
    standby: Mutex<Vec<Lane>>,
    /// The model that its own settings name, while a lighter one looks.
    own_model: Mutex<Option<String>>,
    audio: broadcast::Sender<AudioPacket>,
    keyframes: KeyframeRequest,
    thread: Mutex<Option<JoinHandle<()>>>,
    started: Instant,
    counted_lost: AtomicU64,
}

impl Stream {
    /// Starts a stream's thread.
    ///
    /// # Errors
    /// When the codec or the thread cannot be had.
    pub fn start(parts: StreamParts<'_>) -> Result<Arc<Self>, PipelineError> {
        let StreamParts { name, pool, load, lane, config, encode, keyframes, options } = parts;
        let model = lane.model.clone();
        let decoder = VideoDecoder::h264(FramePool::new(), keyframes.clone())?;
        let shared = Shared::new(&name, config, options, &keyframes, load);
        let lane = Arc::new(ArcSwap::from_pointee(take_lane(&shared, pool, lane)));
        let video = Video::new(Arc::clone(&shared), Arc::clone(&lane), decoder, encode);
        let thread = thread::Builder::new()
            .name(format!("video-{name}"))
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    super::schedule::stand_ahead();
                    // A fault in the path of one stream's frames ends that stream, and nothing else.
                    if catch_unwind(AssertUnwindSafe(|| video.run())).is_err() {
                        tracing::error!(stream = %shared.name, "the video thread panicked");
                        shared.failure.store(Some(Arc::new("an internal fault ended the stream".to_owned())));
                        shared.inbox.close();
                    }
                    super::memory::give_back();
                }
            })
            .map_err(PipelineError::Thread)?;
        Ok(Arc::new(Self {
            shared,
            pool: Arc::clone(pool),
            lane,
            sub: Mutex::default(),
            standby: Mutex::default(),
            own_model: Mutex::new(model.clone()),
            model: Mutex::new(model),
            skipped: AtomicU64::new(0),
            audio: broadcast::channel(WAITING_AUDIO).0,
            keyframes,
            thread: Mutex::new(Some(thread)),
            started: Instant::now(),
            counted_lost: AtomicU64::new(0),
        }))
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// Takes an access unit from the source. Never waits: an overflow costs everything up to the next IDR.
    pub fn push(&self, unit: AccessUnit) {
        self.shared.metrics.frame_in();
        let named = self.shared.ingress.take(unit, &self.shared.fanout);
        if let Pushed::Dropped(units) = self.shared.inbox.push(named) {
            self.shared.metrics.dropped(DropReason::Overflow, units);
            if self.shared.inbox.should_ask(Instant::now()) {
                self.keyframes.request();
            }
        }
    }

    /// The source is back, or another one: what comes next refers to nothing before, and its timestamps begin anew. What
    /// leaves goes on where it was.
    pub fn begin_epoch(&self) {
        self.shared.ingress.begin_epoch();
        self.shared.fanout.break_source();
        let dropped = self.shared.inbox.begin_epoch();
        self.shared.metrics.dropped(DropReason::Overflow, dropped);
    }

    /// Says whether pictures come. From [`Signal::Lost`] to the next picture, viewers get the last one with a banner.
    pub fn set_signal(&self, signal: Signal) {
        let lost = match signal {
            Signal::Live => None,
            Signal::Lost(text) => Some(text),
        };
        self.shared.fanout.set_lost(lost.is_some());
        self.shared.inbox.signal(lost);
    }

    /// Says that a unit of the source never came whole: what follows may refer to it, up to the next IDR.
    pub fn unit_lost(&self) {
        self.shared.fanout.break_source();
        self.shared.inbox.unit_lost();
    }

    /// Takes an access unit of the camera's smaller stream, for the detector alone. From the first on, it is what the detector
    /// looks at, as long as its pictures come; what is found is said of the main stream's frame of the same moment.
    ///
    /// # Errors
    /// When the system gives no thread for it.
    pub fn push_detect(&self, unit: AccessUnit) -> Result<(), PipelineError> {
        let sub_stream = {
            let mut sub = lock(&self.sub);
            if let Some(running) = &*sub {
                Arc::clone(running)
            } else {
                let lane = self.lane.load();
                let options = self.shared.rules.load().lane(LaneOptions {
                    model: lock(&self.model).clone(),
                    settings: lane.chosen_settings(),
                    priority: lane.priority(),
                    zone: lane.zone(),
                    ..LaneOptions::default()
                });
                let started = Arc::new(SubStream::start(&self.shared, &self.pool, options)?);
                Arc::clone(sub.insert(started))
            }
        };
        sub_stream.push(unit);
        Ok(())
    }

    /// The camera's smaller stream is back, or another one.
    pub fn begin_detect_epoch(&self) {
        if let Some(sub_stream) = &*lock(&self.sub) {
            sub_stream.begin_epoch();
        }
    }

    /// Takes a packet of the source's audio, for whoever listens.
    pub fn push_audio(&self, packet: AudioPacket) {
        // Nobody may be listening.
        let _ = self.audio.send(packet);
    }

    /// The source's audio from now on. A listener that is too slow loses its own packets.
    #[must_use]
    pub fn audio(&self) -> broadcast::Receiver<AudioPacket> {
        self.audio.subscribe()
    }

    /// A new viewer.
    #[must_use]
    pub fn watch(&self, choice: VideoChoice) -> ViewerFeed {
        let feed = self.shared.fanout.subscribe(choice);
        self.shared.inbox.notify_wanted();
        feed
    }

    /// A copy of the newest picture, once there is one; `annotated`: with the boxes of now, if any are known.
    #[must_use]
    pub fn snapshot(&self, annotated: bool) -> Option<Snapshot> {
        let last = self.shared.last.load_full()?;
        let Name { rtp_timestamp, arrived, .. } = last.name;
        let mut picture = Arc::clone(&last.picture);
        let result = if annotated { self.shared.result_for(&picture, arrived) } else { None };
        // Nobody may be watching, and then no picture was kept to correct the prediction by.
        let follow = self.shared.follow;
        let boxes = result
            .map(|result| if follow { predicted(&result, arrived) } else { result.items.clone() })
            .unwrap_or_default();
        self.shared.hide(&mut picture, &self.lane.load(), &mut Hider::new(), arrived, &boxes);
        let mut picture = Arc::unwrap_or_clone(picture);
        if !boxes.is_empty() {
            Annotator::new().draw(&mut picture, &boxes);
        }
        Some(Snapshot { picture, rtp_timestamp, at: wall_clock(arrived, Instant::now()) })
    }

    /// Where the stream is in time, once something came.
    #[must_use]
    pub fn timeline(&self) -> Option<Timeline> {
        self.shared.ingress.timeline()
    }

    /// Why the video that comes cannot be decoded, as long as that is so. A stream that endures stays; whoever runs its
    /// source may want to slow down.
    #[must_use]
    pub fn unsupported(&self) -> watch::Receiver<Option<String>> {
        self.shared.unsupported.subscribe()
    }

    /// The results of the detector, from now on, and a guard that says somebody reads them.
    #[must_use]
    pub fn results(&self) -> (broadcast::Receiver<Arc<Detections>>, ResultsGuard) {
        self.shared.readers.fetch_add(1, Ordering::Relaxed);
        (self.shared.results.subscribe(), ResultsGuard(Arc::clone(&self.shared)))
    }

    /// Notes that a frame has left for a viewer.
    pub fn frame_sent(&self, frame: &EncodedFrame, ledger: &FrameLedger) {
        if frame.bitstream == Bitstream::Source {
            self.shared.departures.note(frame.rtp_timestamp.output);
        }
        self.shared.metrics.frame_sent(frame.frame_id, ledger);
    }

    /// Takes what the publisher's page tells of frames that it has presented.
    pub fn reported(&self, report: &LedgerMessage) {
        self.shared.metrics.reported(report);
    }

    /// Where the time of its frames went, lately.
    #[must_use]
    pub fn latency(&self) -> LatencyReport {
        self.shared.metrics.latency()
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> StreamConfig {
        let settings = self.lane.load().settings();
        StreamConfig {
            confidence_threshold: settings.confidence,
            iou_threshold: settings.iou,
            classes: settings.classes.as_ref().map(|classes| classes.to_vec()),
            overlay: **self.shared.overlay.load(),
            max_detections: u32::try_from(settings.max_detections).unwrap_or(u32::MAX),
        }
    }

    /// Applies a change from the next frame on, or refuses it whole.
    ///
    /// # Errors
    /// When a class is not one of the model's; nothing was changed.
    pub fn configure(&self, change: ConfigMessage) -> Result<StreamConfig, MessageError> {
        let lane = self.lane.load();
        let labels = lane.labels();
        if let Some(Some(classes)) = &change.classes
            && let Some(unknown) = classes.iter().find(|class| !labels.iter().any(|label| **label == ***class))
        {
            let known: Vec<&str> = labels.iter().take(100).map(|label| &**label).collect();
            let message = format!("classes: {unknown:?} is not one of the model's: {}", known.join(", "));
            return Err(MessageError::new(change.id, ErrorCode::UnknownClass, message));
        }
        let mut settings = (*lane.settings()).clone();
        if let Some(confidence) = change.confidence_threshold {
            settings.confidence = confidence;
        }
        if let Some(iou) = change.iou_threshold {
            settings.iou = iou;
        }
        if let Some(classes) = change.classes {
            settings.classes = classes.map(Into::into);
        }
        if let Some(most) = change.max_detections {
            settings.max_detections = most as usize;
        }
        if let Some(sub_stream) = &*lock(&self.sub) {
            sub_stream.lane().set_settings(settings.clone());
        }
        lane.set_settings(settings);
        if let Some(overlay) = change.overlay {
            self.shared.overlay.store(Arc::new(overlay));
        }
        Ok(self.config())
    }

    /// How much of the detector's time, against the other streams; holds from the next frame on.
    pub fn set_priority(&self, priority: Priority) {
        self.lane.load().set_priority(priority);
        if let Some(sub_stream) = &*lock(&self.sub) {
            sub_stream.lane().set_priority(priority);
        }
    }

    /// Where in the picture an object counts, `None` for everywhere; holds from the next result on.
    pub fn set_zone(&self, zone: Option<Zone>) {
        if let Some(sub_stream) = &*lock(&self.sub) {
            sub_stream.lane().set_zone(zone.clone());
        }
        self.lane.load().set_zone(zone);
    }

    /// How it is looked at.
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.shared.rules.load_full()
    }

    /// How it is looked at from the next frame on.
    pub fn set_rules(&self, rules: Rules) {
        let rules = Arc::new(rules);
        let regions = rules.region_set();
        // First this: a sub-stream that begins now begins with them.
        self.shared.rules.store(Arc::clone(&rules));
        let sub = lock(&self.sub).clone();
        let lane = self.lane.load();
        for lane in std::iter::once(&*lane).chain(sub.as_ref().map(|sub| sub.lane())) {
            lane.set_veiled(&rules.blur);
            lane.set_sampling(rules.sampling(), rules.at_least());
            lane.set_regions(&regions);
        }
        self.shared.set_privacy(rules.hiding());
        self.shared.budget.set(rules.budget(), 1 + rules.lighter_models.len());
        lock(&self.standby).clear();
    }

    /// Why the stream ended by itself, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.load().as_deref().cloned()
    }

    /// Bytes of video encoded so far.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.shared.metrics.snapshot().bytes_out
    }

    /// Frames that slow viewers lost since this was asked last: another stream of this name counts on from there.
    #[must_use]
    pub(super) fn take_viewer_lost(&self) -> u64 {
        let lost = self.shared.fanout.lost();
        lost.saturating_sub(self.counted_lost.swap(lost, Ordering::Relaxed))
    }

    /// Ends the thread and waits for it. What it was doing is done within a frame's time.
    pub fn stop(&self) {
        self.shared.inbox.close();
        drop(lock(&self.sub).take());
        if let Some(thread) = lock(&self.thread).take() {
            // Panics were caught and noted on the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop();
    }
}

/// As long as one lives, somebody reads the stream's results.
pub struct ResultsGuard(Arc<Shared>);

impl Drop for ResultsGuard {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}
