//! One stream's way through the pool: its newest frame, its settings, its tracker, its counts.

mod answers;
mod rules;
mod work;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};

use self::answers::Answers;
use self::rules::Rules;
use self::work::Work;
use super::pool::Shared;
use super::regions::RegionSet;
use super::sampling::{Hint, Sampling};
use super::turns::Priority;
use super::zone::Zone;
use super::{Cascade, DetectError, Detector, Found, ModelInfo, Settings};
use crate::media::{DetectionTimes, Detections, Frame, Mark, Slot};

/// Takes the results of a lane, on a thread of the pool: it should be quick, and must not wait for the lane.
pub(super) type OnResult = dyn Fn(Arc<Detections>) + Send + Sync;

/// What became of the frames of a lane. Every frame offered is passed over, skipped, finished or failed, or is still on its
/// way, or was when the lane went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Frames offered.
    pub offered: u64,
    /// Frames that the stream's [`Sampling`] left out.
    pub passed_over: u64,
    /// Frames that a newer one displaced before a worker was free.
    pub skipped: u64,
    /// Frames with a result.
    pub finished: u64,
    /// Frames that an error, a panic or the slowness of the detector cost, or a model that cannot be used.
    pub failed: u64,
}

/// What a stream wants of the detector. All but the model may be changed later, at the [`Lane`].
#[derive(Clone, Debug, Default)]
pub struct LaneOptions {
    /// The model, as `[detect] model` names it; `None` for the one that is configured.
    pub model: Option<String>,
    /// Two models in a row, in place of `model`.
    pub cascade: Option<Cascade>,
    /// `None`: what the configuration says, with the model's own thresholds where it says nothing.
    pub settings: Option<Settings>,
    /// How much of the detector's time, against the other streams.
    pub priority: Priority,
    /// Where an object counts; `None` for the whole picture.
    pub zone: Option<Zone>,
    /// Which frames are looked at.
    pub sampling: Sampling,
    /// A frame is looked at at least this often, whatever the sampling says.
    pub at_least: Option<Duration>,
    /// Where in the picture objects count, and what they do there.
    pub regions: RegionSet,
    /// Names of the classes whose objects are to be hidden: they are looked for whatever the settings say.
    pub veiled: Vec<String>,
}

/// The model of a lane.
#[derive(Clone, Debug)]
pub enum LaneModel {
    /// It is being loaded: the newest frame waits for it.
    Loading,
    /// It looks at the frames.
    Ready(Arc<ModelInfo>),
    /// It cannot be used, for this reason: no frame is looked at.
    Failed(Arc<str>),
}

/// A stream's place with the detector ([`Pools`](super::Pools)). Dropping it takes the stream out at once: the result of a
/// frame that a worker holds is discarded, unless it is just being delivered.
pub struct Lane {
    state: Arc<LaneState>,
    shared: Arc<Shared>,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<LaneState>) -> Self {
        Self { state, shared }
    }

    /// [`offer_as`](Self::offer_as) of a frame of which nothing more is known.
    #[allow(clippy::must_use_candidate)] // who offers may not care
    pub fn offer(&self, frame: Frame) -> bool {
        self.offer_as(frame, Hint::default())
    }

    /// Puts `frame` up to be looked at, in place of one that still waits, unless the lane's [`Sampling`] passes it over; says
    /// whether it did put it up. Never waits for a worker.
    #[allow(clippy::must_use_candidate)] // the same
    pub fn offer_as(&self, frame: Frame, hint: Hint) -> bool {
        self.state.offered.fetch_add(1, Ordering::Relaxed);
        if matches!(**self.state.model.load(), LaneModel::Failed(_)) {
            self.state.failed.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let Some(still) = self.state.rules.admits(&frame, hint) else {
            self.state.passed_over.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let now = Instant::now();
        self.state.answers.asked(now);
        let displaced = self.state.waiting.put(Waiting { frame, offered: now, still });
        if displaced.is_some() {
            self.state.skipped.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.wake(&self.state);
        true
    }

    /// Which model looks, or why none does.
    #[must_use]
    pub fn model(&self) -> LaneModel {
        LaneModel::clone(&self.state.model.load())
    }

    /// The names of the model's classes, by class id; empty while there is no model.
    #[must_use]
    pub fn labels(&self) -> Arc<[Arc<str>]> {
        match &**self.state.model.load() {
            LaneModel::Ready(info) => Arc::clone(&info.labels),
            LaneModel::Loading | LaneModel::Failed(_) => Arc::from([]),
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.state.settings.load_full()
    }

    /// The same if somebody chose them; `None` where they are the model's, and change with it.
    #[must_use]
    pub fn chosen_settings(&self) -> Option<Settings> {
        self.state.own_settings.load(Ordering::Relaxed).then(|| (*self.settings()).clone())
    }

    /// Sets what holds from the next frame on that a worker takes.
    pub fn set_settings(&self, settings: Settings) {
        self.state.own_settings.store(true, Ordering::Relaxed);
        self.state.settings.store(Arc::new(settings));
    }

    /// How much of the detector's time, against the other streams.
    #[must_use]
    pub fn priority(&self) -> Priority {
        *lock(&self.state.priority)
    }

    /// Holds from the next frame on.
    pub fn set_priority(&self, priority: Priority) {
        self.shared.set_priority(&self.state, priority);
    }

    /// What became of the frames so far.
    #[must_use]
    pub fn counters(&self) -> LaneCounters {
        self.state.counters()
    }

    /// The stream's name.
    #[must_use]
    pub fn stream(&self) -> &Arc<str> {
        &self.state.stream
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.state.close();
        self.shared.remove(&self.state);
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("stream", &self.state.stream).field("counters", &self.counters()).finish()
    }
}

struct Waiting {
    frame: Frame,
    offered: Instant,
    /// For how long so far nothing moved in frames that were passed over.
    still: Duration,
}

/// What a worker needs of a lane.
pub(super) struct LaneState {
    pub(super) id: u64,
    stream: Arc<str>,
    model: ArcSwap<LaneModel>,
    settings: ArcSwap<Settings>,
    /// Somebody chose the settings: those of the model do not replace them.
    own_settings: AtomicBool,
    /// Locked while it is handed on, so that a place in the queue is made with the newest.
    pub(super) priority: Mutex<Priority>,
    zone: ArcSwapOption<Zone>,
    rules: Rules,
    waiting: Slot<Waiting>,
    answers: Answers,
    on_result: Mutex<Option<Arc<OnResult>>>,
    /// Of a model that keeps the state of one stream. A worker takes it out for as long as it looks.
    detector: Mutex<Option<Box<dyn Detector>>>,
    /// Only the worker that serves the lane locks it, and one at a time does: nobody ever waits here.
    work: Mutex<Work>,
    /// The turn that is being served; 0 for none, or one that was given up.
    turn: AtomicU64,
    offered: AtomicU64,
    passed_over: AtomicU64,
    skipped: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
}

/// A frame in the hands of a worker.
pub(super) struct Taken {
    pub frame: Frame,
    offered: Instant,
    still: Duration,
    since: Instant,
    settings: Arc<Settings>,
    /// What the detector is asked for in their place, where the stream's rules need more.
    wider: Option<Settings>,
}

impl Taken {
    /// What the detector is asked for.
    pub(super) fn wish(&self) -> &Settings {
        self.wider.as_ref().unwrap_or(&self.settings)
    }
}

/// What a frame cost that was finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub times: DetectionTimes,
    /// What the detector says that it took; of what it did for several frames together, this one's part.
    pub cost: Duration,
}

impl LaneState {
    pub(super) fn new(
        id: u64,
        stream: Arc<str>,
        options: LaneOptions,
        settings: Settings,
        on_result: Arc<OnResult>,
    ) -> Self {
        let rules = Rules::new(&options);
        Self {
            id,
            stream,
            model: ArcSwap::from_pointee(LaneModel::Loading),
            settings: ArcSwap::from_pointee(settings),
            own_settings: AtomicBool::new(options.settings.is_some()),
            priority: Mutex::new(options.priority),
            zone: ArcSwapOption::new(options.zone.map(Arc::new)),
            rules,
            waiting: Slot::new(),
            answers: Answers::default(),
            on_result: Mutex::new(Some(on_result)),
            detector: Mutex::default(),
            work: Mutex::default(),
            turn: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            passed_over: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(super) fn stream(&self) -> &Arc<str> {
        &self.stream
    }

    /// The model is there.
    pub(super) fn set_model(&self, info: Arc<ModelInfo>, settings: Settings) {
        if !self.own_settings.load(Ordering::Relaxed) {
            self.settings.store(Arc::new(settings));
        }
        self.model.store(Arc::new(LaneModel::Ready(info)));
    }

    /// The model will not come.
    pub(super) fn fail(&self, reason: &str) {
        self.model.store(Arc::new(LaneModel::Failed(reason.into())));
        let waited = self.waiting.take().is_some();
        self.answers.answered(Instant::now(), false);
        if waited {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counters(&self) -> LaneCounters {
        LaneCounters {
            offered: self.offered.load(Ordering::Relaxed),
            passed_over: self.passed_over.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            finished: self.finished.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    fn close(&self) {
        let on_result = lock(&self.on_result).take();
        drop(on_result);
        drop(self.waiting.take());
    }

    /// Whether the lane was dropped.
    pub(super) fn closed(&self) -> bool {
        lock(&self.on_result).is_none()
    }

    /// The place of the stream's own detector.
    pub(super) fn detector(&self) -> &Mutex<Option<Box<dyn Detector>>> {
        &self.detector
    }

    /// Gives up the frame of this turn: what its worker may still find is nobody's.
    pub(super) fn give_up(&self, turn: u64, error: &DetectError) {
        if self.turn.compare_exchange(turn, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.answers.answered(Instant::now(), !self.waiting.is_empty());
            lock(&self.work).log(&self.stream, error);
        }
    }

    /// Takes the newest frame, if one waits, in this turn.
    pub(super) fn take(&self, turn: u64) -> Option<Taken> {
        let Waiting { frame, offered, still } = self.waiting.take()?;
        let (since, settings) = (Instant::now(), self.settings.load_full());
        self.turn.store(turn, Ordering::Release);
        let wider = self.rules.wider(&settings, &self.model.load());
        Some(Taken { frame, offered, still, since, settings, wider })
    }

    /// Delivers what was found in a frame. Returns what the frame cost, unless it failed.
    pub(super) fn deliver(
        &self,
        turn: u64,
        model: &Arc<str>,
        taken: Taken,
        found: Result<Found, DetectError>,
    ) -> Option<Served> {
        let Taken { frame, offered, still, since, settings, wider } = taken;
        // Given up meanwhile: another worker may be serving the lane.
        self.turn.compare_exchange(turn, 0, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        self.answers.answered(Instant::now(), !self.waiting.is_empty());
        let mut work = lock(&self.work);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                work.log(&self.stream, &error);
                return None;
            }
        };
        let Found { mut items, preprocess, infer, postprocess, shared_by, passes } = found;
        self.rules.passed(&passes);
        let tracking = Instant::now();
        let arrived = frame.ledger.at(Mark::LastPacket).unwrap_or(offered);
        let (width, height) = (frame.picture.width(), frame.picture.height());
        work.fit_to(width, height);
        if let Some(rest) = still.checked_sub(std::mem::replace(&mut work.still, still)).filter(|rest| !rest.is_zero())
        {
            work.tracker.rest(rest);
            self.rules.rest(rest);
        }
        work.tracker.update(arrived, &mut items);
        self.rules.remember(work.tracker.memory());
        rules::name_parents(&mut items);
        drop(work);
        let veiled = if wider.is_some() { self.rules.narrow(&settings, &mut items) } else { Vec::new() };
        // Only now: what walks out of the zone and back in is still the same to the tracker.
        let events = self.rules.apply(arrived, (width, height), self.zone.load().as_deref(), &mut items);
        let times = DetectionTimes {
            detect_queue: since.saturating_duration_since(offered),
            preprocess,
            infer,
            postprocess: postprocess + tracking.elapsed(),
        };
        self.finished.fetch_add(1, Ordering::Relaxed);
        let on_result = lock(&self.on_result).clone();
        if let Some(on_result) = on_result {
            let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
            on_result(Arc::new(Detections {
                frame_id: frame.id,
                rtp_timestamp: frame.rtp_timestamp,
                captured: frame.captured,
                arrived,
                width: side(width),
                height: side(height),
                model: Arc::clone(model),
                items,
                veiled,
                events,
                times,
            }));
        }
        let together = u32::try_from(shared_by.max(1)).unwrap_or(u32::MAX);
        Some(Served { times, cost: (preprocess + infer) / together + postprocess })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half-done by a panic: a detector's own state is thrown away with it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
