//! What the threads of a stream share with it.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{broadcast, watch};

use super::budget::Budget;
use super::departures::Departures;
use super::encodes::{Gates, Statuses};
use super::inbox::Inbox;
use super::ingress::{Ingress, Name};
use super::metrics::StreamMetrics;
use super::options::Config;
use super::overload::{Load, Member, relief};
use super::parts::StreamOptions;
use super::privacy::{self, Cover, Fit, Privacy, Watch};
use super::rules::Rules;
use super::status::RenditionStatus;
use super::video::lock;
use crate::annotate::Hider;
use crate::detect::Lane;
use crate::media::{Detection, Detections, I420Frame, KeyframeRequest};
use crate::sink::message::Overlay;
use crate::sink::{Bitstream, Fanout, KeyframeRequests};

/// Results that a slow reader may be behind.
const WAITING_RESULTS: usize = 32;

/// Without a picture of the sub-stream for this long, the detector looks at the main stream again.
const SUB_STREAM_PATIENCE: Duration = Duration::from_secs(3);

/// What the threads of a stream share with it.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) options: StreamOptions,
    pub(super) rules: ArcSwap<Rules>,
    /// What is hidden, and where that is.
    pub(super) privacy: ArcSwap<Privacy>,
    pub(super) watch: Watch,
    /// Why the whole picture is hidden, if it is.
    pub(super) all_hidden: ArcSwapOption<&'static str>,
    pub(super) ingress: Ingress,
    pub(super) inbox: Arc<Inbox>,
    pub(super) fanout: Fanout,
    /// The source's own frames that have left.
    pub(super) departures: Departures,
    pub(super) gates: Gates,
    /// How the encodes were at their last picture.
    pub(super) renditions: Mutex<Statuses>,
    /// The newest result, for the boxes in the picture.
    pub(super) newest: ArcSwapOption<Detections>,
    pub(super) results: broadcast::Sender<Arc<Detections>>,
    pub(super) overlay: ArcSwap<Overlay>,
    /// How old they may be.
    pub(super) budget: Budget,
    /// How many read the results, beside the boxes in the picture.
    pub(super) readers: AtomicUsize,
    pub(super) max_box_age: Duration,
    /// Boxes are moved to where the objects are now.
    pub(super) follow: bool,
    pub(super) metrics: StreamMetrics,
    pub(super) max_latency: Duration,
    /// Whether it gives way when there is too much to do, and where it stands among the others.
    pub(super) give_way: bool,
    pub(super) member: Member,
    /// The step of giving way that it stands on.
    pub(super) step: AtomicU8,
    /// What suits its pictures as they came before anything gave way, in bits a second.
    pub(super) whole_bps: AtomicU32,
    /// The newest picture without boxes.
    pub(super) last: ArcSwapOption<Last>,
    /// Why no pictures come.
    pub(super) no_signal: ArcSwapOption<String>,
    /// Why what comes cannot be decoded.
    pub(super) unsupported: watch::Sender<Option<String>>,
    /// Why the stream ended by itself, if it did.
    pub(super) failure: ArcSwapOption<String>,
    /// How many lanes the stream has had: what an earlier one still finds is nobody's.
    pub(super) lanes: AtomicU64,
    /// When the sub-stream gave its last picture.
    pub(super) sub_seen: Mutex<Option<Instant>>,
}

/// A picture with its name.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) picture: Arc<I420Frame>,
    pub(super) name: Name,
}

impl Shared {
    pub(super) fn new(
        name: &Arc<str>,
        config: &Config,
        options: StreamOptions,
        source: &KeyframeRequest,
        load: &Arc<Load>,
    ) -> Arc<Self> {
        let inbox = Arc::new(Inbox::default());
        let (gates, annotated, plain) = Gates::new(&inbox);
        let source = (!options.bridge).then(|| source.clone());
        let privacy = config.stream.hiding();
        let shared = Arc::new(Self {
            name: Arc::clone(name),
            options,
            rules: ArcSwap::from_pointee(config.stream.clone()),
            privacy: ArcSwap::from_pointee(Privacy::default()),
            watch: Watch::new(),
            all_hidden: ArcSwapOption::empty(),
            ingress: Ingress::default(),
            inbox,
            fanout: Fanout::new(KeyframeRequests { annotated, plain, source }),
            departures: Departures::default(),
            gates,
            renditions: Mutex::default(),
            newest: ArcSwapOption::empty(),
            results: broadcast::channel(WAITING_RESULTS).0,
            overlay: ArcSwap::from_pointee(config.overlay),
            budget: Budget::new(),
            readers: AtomicUsize::new(0),
            max_box_age: Duration::from_millis(config.max_box_age_ms),
            follow: config.follow,
            metrics: StreamMetrics::new(name),
            max_latency: Duration::from_millis(config.max_latency_ms),
            give_way: config.give_way,
            member: load.join(),
            step: AtomicU8::new(0),
            whole_bps: AtomicU32::new(0),
            last: ArcSwapOption::empty(),
            no_signal: ArcSwapOption::empty(),
            unsupported: watch::Sender::new(None),
            failure: ArcSwapOption::empty(),
            lanes: AtomicU64::new(0),
            sub_seen: Mutex::new(None),
        });
        shared.set_privacy(privacy);
        shared.budget.set(config.stream.budget(), 1 + config.stream.lighter_models.len());
        shared
    }

    /// Hides this from the next picture on, and lets nothing out that was not looked over.
    pub(super) fn set_privacy(&self, privacy: Privacy) {
        let on = privacy.is_on();
        if self.privacy.load().classes != privacy.classes {
            // What was looked for before says nothing of these.
            self.watch.begin(Instant::now());
        }
        self.privacy.store(Arc::new(privacy));
        self.ingress.set_private(on, &self.fanout);
    }

    /// Hides on a picture that arrived at `arrived` what nobody may see. `drawn`: what is drawn on it.
    pub(super) fn hide(
        &self,
        picture: &mut Arc<I420Frame>,
        lane: &Lane,
        hider: &mut Hider,
        arrived: Instant,
        drawn: &[Detection],
    ) {
        let privacy = self.privacy.load();
        if !privacy.is_on() {
            self.all_hidden.store(None);
            return;
        }
        let drawn = privacy::hidden_of(&privacy, drawn, picture);
        let cover = self.watch.cover(&privacy, Fit::of(lane, &privacy), arrived, &drawn);
        let why = if let Cover::All(why) = cover { Some(Arc::new(why)) } else { None };
        self.metrics.hidden(why.is_some());
        self.all_hidden.store(why);
        privacy::hide(hider, Arc::make_mut(picture), &privacy, &cover);
    }

    /// Takes a result of the detector, named after a frame of the main stream.
    pub(super) fn detected(&self, result: Arc<Detections>) {
        self.metrics.detected(&result);
        self.budget.note(result.arrived.elapsed());
        self.watch.take(&result);
        self.newest.store(Some(Arc::clone(&result)));
        self.inbox.notify_detected();
        // Nobody may be reading.
        let _ = self.results.send(result);
    }

    /// Whether somebody wants to know what the detector sees, beside the boxes in the picture.
    pub(super) fn is_read(&self) -> bool {
        self.hides_objects() || self.options.detect_always || self.readers.load(Ordering::Relaxed) > 0
    }

    /// The least time between two looks of the detector: it gives way to the video of all streams, and looks no more often than its
    /// budget needs.
    pub(super) fn looks_every(&self) -> Duration {
        let guarded = self.hides_objects() || !self.give_way;
        let gives = if guarded { Duration::ZERO } else { relief(self.member.detection()).detect_every };
        // Where objects are hidden a look is due this often, whatever else is asked for.
        let most = if self.hides_objects() { privacy::AT_LEAST } else { Duration::MAX };
        gives.max(self.budget.every()).min(most)
    }

    /// Whether there are objects that nobody may see.
    pub(super) fn hides_objects(&self) -> bool {
        !self.privacy.load().classes.is_empty()
    }

    /// Notes how an encode was at its last picture.
    pub(super) fn note(&self, bitstream: Bitstream, tier: usize, status: RenditionStatus) {
        let mut renditions = lock(&self.renditions);
        let kind = renditions.get_mut(usize::from(bitstream == Bitstream::Plain));
        if let Some(place) = kind.and_then(|tiers| tiers.get_mut(tier)) {
            *place = Some(status);
        }
    }

    /// Whether regions are drawn on the annotated pictures.
    pub(super) fn draws_regions(&self) -> bool {
        self.rules.load().draw_regions && **self.overlay.load() != Overlay::None
    }

    /// Whether boxes are drawn for somebody.
    pub(super) fn is_drawn(&self) -> bool {
        **self.overlay.load() != Overlay::None && self.fanout.demand().annotated > 0
    }

    /// Whether the detector looks at the sub-stream.
    pub(super) fn sub_stream_is_live(&self) -> bool {
        lock(&self.sub_seen).is_some_and(|seen| seen.elapsed() < SUB_STREAM_PATIENCE)
    }

    /// The newest result, if it is of a picture of this size and young enough for a frame that arrived at `arrived`.
    pub(super) fn result_for(&self, picture: &I420Frame, arrived: Instant) -> Option<Arc<Detections>> {
        let result = self.newest.load_full()?;
        let age = arrived.saturating_duration_since(result.arrived);
        let same_size = (result.width as usize, result.height as usize) == (picture.width(), picture.height());
        (same_size && age <= self.max_box_age).then_some(result)
    }
}
