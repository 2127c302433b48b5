//! A stream: a name, a video thread, a lane in the detector pool, and whoever watches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{broadcast, watch};

use super::inbox::{Inbox, Pushed};
use super::metrics::{DropReason, StreamMetrics};
use super::options::PipelineError;
use super::parts::{Signal, StreamParts};
use super::status::{Snapshot, StreamStatus, Timeline};
use super::video::{Shared, Video, lock};
use crate::annotate::Annotator;
use crate::decode::VideoDecoder;
use crate::detect::{Lane, LaneModel, Priority, Zone};
use crate::encode::{Encoder, H264Encoder};
use crate::media::{AccessUnit, AudioPacket, Detections, FrameLedger, FramePool, KeyframeGate, KeyframeRequest};
use crate::sink::message::{ConfigMessage, ErrorCode, MessageError, StreamConfig};
use crate::sink::{EncodedFrame, Fanout, VideoChoice, ViewerFeed};

/// Results that a slow reader may be behind.
const WAITING_RESULTS: usize = 32;

/// Audio packets that a slow listener may be behind: a second at 20 ms each.
const WAITING_AUDIO: usize = 50;

/// A running stream. Stopped when dropped.
pub struct Stream {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    results: broadcast::Sender<Arc<Detections>>,
    audio: broadcast::Sender<AudioPacket>,
    unsupported: watch::Sender<Option<String>>,
    keyframes: KeyframeRequest,
    thread: Mutex<Option<JoinHandle<()>>>,
    started: Instant,
}

impl Stream {
    /// Starts a stream's thread. `keyframes` reaches its source.
    ///
    /// # Errors
    /// When the codec or the thread cannot be had.
    pub fn start(parts: StreamParts<'_>) -> Result<Arc<Self>, PipelineError> {
        let StreamParts { name, pool, lane, config, encode, keyframes, options: _ } = parts;
        let name = &name;
        let frames = FramePool::new();
        let decoder = VideoDecoder::h264(frames, keyframes.clone())?;
        let encoder: Box<dyn Encoder> = Box::new(H264Encoder::new(encode.clone()));
        let gate = Arc::new(Mutex::new(KeyframeGate::default()));
        let asked = Arc::clone(&gate);
        let shared = Arc::new(Shared {
            name: Arc::clone(name),
            inbox: Inbox::default(),
            fanout: Fanout::new(KeyframeRequest::new(move || lock(&asked).ask())),
            gate,
            newest: ArcSwapOption::empty(),
            overlay: ArcSwap::from_pointee(config.overlay),
            readers: AtomicUsize::new(0),
            max_box_age: Duration::from_millis(config.max_box_age_ms),
            metrics: StreamMetrics::new(name),
            failure: ArcSwapOption::empty(),
            size: ArcSwapOption::empty(),
            no_signal: ArcSwapOption::empty(),
        });
        let (results, _) = broadcast::channel(WAITING_RESULTS);
        let lane = Arc::new({
            let (shared, results) = (Arc::downgrade(&shared), results.clone());
            pool.lane(Arc::clone(name), lane, move |result| {
                let Some(shared) = shared.upgrade() else { return };
                shared.metrics.detected(&result);
                shared.newest.store(Some(Arc::clone(&result)));
                shared.inbox.notify_detected();
                // Nobody may be reading.
                let _ = results.send(result);
            })
        });
        let video = Video::new(Arc::clone(&shared), Arc::clone(&lane), decoder, encoder, Annotator::new());
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
                }
            })
            .map_err(PipelineError::Thread)?;
        Ok(Arc::new(Self {
            shared,
            lane,
            results,
            audio: broadcast::channel(WAITING_AUDIO).0,
            unsupported: watch::Sender::new(None),
            keyframes,
            thread: Mutex::new(Some(thread)),
            started: Instant::now(),
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
        if let Pushed::Dropped(units) = self.shared.inbox.push(unit) {
            self.shared.metrics.dropped(DropReason::Overflow, units);
            if self.shared.inbox.should_ask(Instant::now()) {
                self.keyframes.request();
            }
        }
    }

    /// The source is back, or another one: what comes next refers to nothing before, and its timestamps begin anew. What
    /// leaves goes on where it was.
    pub fn begin_epoch(&self) {}

    /// Says whether pictures come. While they do not, viewers get the last one with a banner.
    pub fn set_signal(&self, signal: Signal) {
        let text = match signal {
            Signal::Live => None,
            Signal::Lost(text) => Some(Arc::new(text)),
        };
        self.shared.no_signal.store(text);
    }

    /// Takes an access unit of the camera's smaller stream, for the detector alone.
    pub fn push_detect(&self, _unit: AccessUnit) {}

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
        self.shared.fanout.subscribe(choice)
    }

    /// The newest picture, once there is one.
    #[must_use]
    pub fn snapshot(&self, _annotated: bool) -> Option<Snapshot> {
        None
    }

    /// Where the stream is in time, once something came.
    #[must_use]
    pub fn timeline(&self) -> Option<Timeline> {
        None
    }

    /// Why the video that comes cannot be decoded, as long as that is so. A stream that endures stays; whoever runs its
    /// source may want to slow down.
    #[must_use]
    pub fn unsupported(&self) -> watch::Receiver<Option<String>> {
        self.unsupported.subscribe()
    }

    /// The results of the detector, from now on, and a guard that says somebody reads them.
    #[must_use]
    pub fn results(&self) -> (broadcast::Receiver<Arc<Detections>>, ResultsGuard) {
        self.shared.readers.fetch_add(1, Ordering::Relaxed);
        (self.results.subscribe(), ResultsGuard(Arc::clone(&self.shared)))
    }

    /// Notes that a frame has left for a viewer.
    pub fn frame_sent(&self, _frame: &EncodedFrame, ledger: &FrameLedger) {
        self.shared.metrics.frame_sent(ledger);
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> StreamConfig {
        let settings = self.lane.settings();
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
        let labels = self.lane.labels();
        if let Some(Some(classes)) = &change.classes
            && let Some(unknown) = classes.iter().find(|class| !labels.iter().any(|label| **label == ***class))
        {
            let known: Vec<&str> = labels.iter().take(100).map(|label| &**label).collect();
            let message = format!("classes: {unknown:?} is not one of the model's: {}", known.join(", "));
            return Err(MessageError::new(change.id, ErrorCode::UnknownClass, message));
        }
        let mut settings = (*self.lane.settings()).clone();
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
        self.lane.set_settings(settings);
        if let Some(overlay) = change.overlay {
            self.shared.overlay.store(Arc::new(overlay));
        }
        Ok(self.config())
    }

    /// Which model looks, or why none does.
    #[must_use]
    pub fn model(&self) -> LaneModel {
        self.lane.model()
    }

    /// How much of the detector's time, against the other streams; holds from the next frame on.
    pub fn set_priority(&self, priority: Priority) {
        self.lane.set_priority(priority);
    }

    /// Where in the picture an object counts, `None` for everywhere; holds from the next result on.
    pub fn set_zone(&self, zone: Option<Zone>) {
        self.lane.set_zone(zone);
    }

    /// Why the stream ended by itself, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.load().as_deref().cloned()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> StreamStatus {
        let seen = self.shared.metrics.snapshot();
        let size = self.shared.size.load_full();
        StreamStatus {
            name: self.shared.name.to_string(),
            width: size.as_ref().map(|size| size.0),
            height: size.as_ref().map(|size| size.1),
            uptime_s: self.started.elapsed().as_secs_f64(),
            viewers: self.shared.fanout.viewers(),
            fps: seen.fps,
            input_fps: 0.0,
            detection_fps: 0.0,
            frames_in: seen.frames_in,
            frames_decoded: seen.decoded,
            frames_out: seen.processed,
            encodes: 0,
            detections: seen.detections,
            detector_skipped: self.lane.counters().skipped,
            dropped: seen.dropped.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
            bridged_viewers: 0,
            video: None,
            no_signal: self.shared.no_signal.load().as_deref().cloned(),
            clock: None,
            config: self.config(),
        }
    }

    /// Bytes of video encoded so far.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.shared.metrics.snapshot().bytes_out
    }

    /// Frames that slow viewers lost so far.
    #[must_use]
    pub fn viewer_lost(&self) -> u64 {
        self.shared.fanout.lost()
    }

    /// Ends the thread and waits for it. What it was doing is done within a frame's time.
    pub fn stop(&self) {
        self.shared.inbox.close();
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
