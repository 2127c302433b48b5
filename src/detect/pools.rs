//! The detector of the whole server: a few threads, and the models that its streams ask for.
//!
//! One model is configured; it is loaded at the start and stays. Another is loaded when the first stream asks for it, on a
//! thread of its own, and goes with the last stream that uses it. Its failure to load is that stream's alone.
//!
//! However many models there are, the threads are those that are configured (`[detect] workers`, by default half of the
//! cores): every thread runs every model, and [`turns`](super::turns) shares their time. A model has as many detectors as
//! streams use it, and at most one for each thread, so that two threads never wait for each other.

mod files;
mod info;
mod status;
mod swap;
mod upload;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::lane::{Lane, LaneOptions, LaneState, OnResult, lock};
use super::loaded::Loaded;
use super::patience::within;
use super::pool::Shared;
use super::{Cascade, Config, DetectError, Family, Model, ModelInfo, Settings};
use crate::media::{DetectionTimes, Detections};
use files::Seen;

pub use info::PoolInfo;
pub use status::{InputStatus, ModelState, ModelStatus};
pub use swap::Change;
pub use upload::{ReplaceError, Upload};

/// How much the detector's threads have worked since they started. Two of these give the load between them.
#[derive(Clone, Copy, Debug)]
pub struct PoolStats {
    /// Threads.
    pub workers: usize,
    /// Threads that hold a frame now.
    pub working: usize,
    /// Streams.
    pub lanes: usize,
    /// Frames looked at, failures included.
    pub frames: u64,
    /// Panics of detectors, and of those who take the results.
    pub panics: u64,
    /// Frames that took longer than the deadline.
    pub overdue: u64,
    /// Models whose loading was given up, because it would not end.
    pub loads_overdue: u64,
    /// Threads that were given up and replaced, because their detector would not end.
    pub replaced: u64,
    /// The time spent on frames by all threads together; a frame counts when it is done.
    pub busy: Duration,
    /// The time since the start.
    pub uptime: Duration,
    /// What the newest finished frame cost.
    pub last: Option<DetectionTimes>,
}

impl PoolStats {
    /// The share of the threads' time that was spent on frames since `earlier`, 0 to 1.
    #[must_use]
    pub fn load_since(&self, earlier: &Self) -> f64 {
        let spent = self.busy.saturating_sub(earlier.busy).as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // a handful of threads
        let available = self.uptime.saturating_sub(earlier.uptime).as_secs_f64() * self.workers as f64;
        if available > 0.0 { (spent / available).min(1.0) } else { 0.0 }
    }
}

/// From a name to a model: [`Model::load`], or what a test has.
type Load = dyn Fn(&Config) -> Result<Model, DetectError> + Send + Sync;

/// The detector's threads and models. Dropping it joins the threads.
pub struct Pools {
    inner: Arc<Inner>,
}

/// What the threads that load share with it.
struct Inner {
    shared: Arc<Shared>,
    config: Config,
    default: ArcSwap<Loaded>,
    load: Arc<Load>,
    models: Mutex<HashMap<String, Entry>>,
    /// Those of them that are two in a row, by their keys.
    cascades: Mutex<HashMap<String, Cascade>>,
    /// One model at a time is replaced.
    swapping: Mutex<()>,
    seen: Mutex<HashMap<String, Seen>>,
    /// Why the newest file of a model is not in use.
    refused: Mutex<HashMap<String, Arc<str>>>,
    last_id: AtomicU64,
    loads_overdue: AtomicU64,
}

/// A model that is not the configured one.
enum Entry {
    /// With the lanes that wait for it; it is there already where it is one more detector that is being made.
    Loading(Vec<Arc<LaneState>>, Weak<Loaded>),
    /// The lanes hold it.
    Ready(Weak<Loaded>),
    /// It could not be loaded: these lanes get it when its files have changed.
    Failed { lanes: Vec<Weak<LaneState>>, reason: Arc<str> },
}

impl Entry {
    /// Whether somebody uses it, or would.
    fn lives(&mut self) -> bool {
        match self {
            Self::Loading(..) => true,
            Self::Ready(model) => model.strong_count() > 0,
            Self::Failed { lanes, .. } => {
                lanes.retain(|lane| lane.upgrade().is_some_and(|lane| !lane.closed()));
                !lanes.is_empty()
            }
        }
    }
}

impl Pools {
    /// Starts the threads, `config.workers` or one for every two cores (with a server, as many as requests), with `default` for
    /// all streams that do not name another. Its detectors are made here, so that a model that cannot be used is refused now.
    ///
    /// # Errors
    /// [`DetectError`] of the detectors, their slowness included; [`DetectError::Thread`] when the system gives no thread.
    pub fn start(default: Model, config: &Config) -> Result<Arc<Self>, DetectError> {
        Self::start_with(default, config, Model::load_unwatched)
    }

    /// The same with another way from a configuration, whose `model` is what a stream asks for, to a model. It need not keep the
    /// deadline for loading.
    ///
    /// # Errors
    /// The same.
    pub fn start_with(
        default: Model,
        config: &Config,
        load: impl Fn(&Config) -> Result<Model, DetectError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, DetectError> {
        let workers = config.all_workers();
        let default = Arc::new(Loaded::new(default));
        let own = Arc::clone(&default);
        within(config.load_limit(), &config.model, move || own.stock(workers))?;
        let shared = Shared::start(workers, Duration::from_millis(config.deadline_ms))?;
        let inner = Inner {
            shared,
            config: config.clone(),
            default: ArcSwap::new(default),
            load: Arc::new(load),
            models: Mutex::default(),
            cascades: Mutex::default(),
            swapping: Mutex::default(),
            seen: Mutex::default(),
            refused: Mutex::default(),
            last_id: AtomicU64::new(0),
            loads_overdue: AtomicU64::new(0),
        };
        inner.files_taken(&config.model);
        Ok(Arc::new(Self { inner: Arc::new(inner) }))
    }

    /// A place for one more stream. Never waits: a model that is not there is loaded meanwhile ([`Lane::model`] says how that
    /// goes), and the newest frame waits for it. `on_result` is called on a thread of the pool once for every frame that is
    /// finished, in the order of the frames; it must be quick.
    pub fn lane(
        &self,
        stream: Arc<str>,
        options: LaneOptions,
        on_result: impl Fn(Arc<Detections>) + Send + Sync + 'static,
    ) -> Lane {
        let inner = &self.inner;
        let cascade = options.cascade.clone();
        let model = options.model.clone().filter(|name| !inner.is_default(name));
        let wish = cascade.as_ref().map(Cascade::key).or(model);
        let settings = options.settings.clone().unwrap_or_else(|| self.settings());
        let id = inner.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let on_result: Arc<OnResult> = Arc::new(on_result);
        let state = Arc::new(LaneState::new(id, stream, options, settings, on_result));
        match wish {
            None => {
                // Not between the two steps of a model that takes another's place.
                let _models = lock(&inner.models);
                inner.seat(&state, &inner.default.load_full());
            }
            Some(name) => inner.fetch(&name, &state, cascade),
        }
        Lane::new(Arc::clone(&inner.shared), state)
    }

    /// The configured model.
    #[must_use]
    pub fn model_info(&self) -> Arc<ModelInfo> {
        self.inner.default.load().model.info_shared()
    }

    /// What holds for a stream of the configured model that chose nothing.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.inner.default.load().model.settings(&self.inner.config)
    }

    /// How much the threads have worked.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats { loads_overdue: self.inner.loads_overdue.load(Ordering::Relaxed), ..self.inner.shared.stats() }
    }

    /// Ends what can be ended of the frames in work, lets the threads finish the others, and joins them; a thread whose frame
    /// takes longer than a second is left to itself. Frames that wait or come later are not looked at.
    pub fn shutdown(&self) {
        self.inner.shared.shutdown();
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl std::fmt::Debug for Pools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pools").field("default", &self.inner.default.load().model).finish_non_exhaustive()
    }
}

impl Inner {
    /// Whether `name` means the configured model, and not the motion detector that stands in for one without a file.
    fn is_default(&self, name: &str) -> bool {
        let default = self.default.load();
        let info = default.model.info();
        name == &*info.name || (name == self.config.model && info.family != Family::Motion)
    }

    /// Puts `lane` among those who take turns.
    fn seat(&self, lane: &Arc<LaneState>, model: &Arc<Loaded>) {
        lane.set_model(model.model.info_shared(), self.settings_for(model));
        self.shared.attach(lane, model);
    }

    /// The configuration's wishes; its list of classes is meant for a model that knows one of them.
    fn settings_for(&self, model: &Arc<Loaded>) -> Settings {
        let mut settings = model.model.settings(&self.config);
        let labels = &model.model.info().labels;
        let known = |classes: &Arc<[String]>| classes.iter().any(|class| labels.iter().any(|label| **label == **class));
        settings.classes =
            settings.classes.filter(|classes| Arc::ptr_eq(model, &self.default.load()) || known(classes));
        settings
    }

    /// Gets `lane` the model of that name, or the cascade of that key.
    fn fetch(self: &Arc<Self>, name: &str, lane: &Arc<LaneState>, cascade: Option<Cascade>) {
        let mut models = lock(&self.models);
        let there = match models.get_mut(name) {
            Some(Entry::Loading(waiting, _)) => {
                waiting.push(Arc::clone(lane));
                return;
            }
            Some(Entry::Ready(model)) => model.upgrade(),
            Some(Entry::Failed { .. }) | None => None,
        };
        if let Some(model) = &there
            && (model.model.per_stream() || self.wanted(model, 1) <= model.detectors())
        {
            self.seat(lane, model);
            return;
        }
        let known = there.as_ref().map_or_else(Weak::new, Arc::downgrade);
        // It is tried for all who were told that it does not come.
        let mut waiting = match models.remove(name) {
            Some(Entry::Failed { lanes, .. }) => lanes.iter().filter_map(Weak::upgrade).collect(),
            _ => Vec::new(),
        };
        waiting.push(Arc::clone(lane));
        models.insert(name.to_owned(), Entry::Loading(waiting, known));
        if let Some(cascade) = cascade {
            lock(&self.cascades).insert(name.to_owned(), cascade);
        }
        drop(models);
        let (this, wish) = (Arc::clone(self), name.to_owned());
        let thread = thread::Builder::new().name("detect-load-wait".to_owned()).spawn(move || this.load(&wish, there));
        if let Err(error) = thread {
            self.refuse(name, &format!("the system gave no thread to load it: {error}"));
        }
    }

    /// How many detectors a model needs that `more` lanes are about to use.
    fn wanted(&self, model: &Arc<Loaded>, more: usize) -> usize {
        (self.shared.lanes_of(model) + more).min(self.shared.stats().workers)
    }

    /// What `load` gives, if it gives it before the deadline for loading; what it still brings later is dropped.
    fn in_time<T: Send + 'static>(
        &self,
        name: &str,
        load: impl FnOnce() -> Result<T, DetectError> + Send + 'static,
    ) -> Result<T, DetectError> {
        within(self.config.load_limit(), name, load).inspect_err(|error| {
            if let DetectError::Overdue { .. } = error {
                self.loads_overdue.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "a model's loading does not end: it is left to itself");
            }
        })
    }

    /// The model of that name, or the cascade of that key, out of its files.
    fn model(&self, name: &str) -> Result<Model, DetectError> {
        let cascade = lock(&self.cascades).get(name).cloned();
        match cascade {
            None => (self.load)(&self.config_for(name)),
            // One that is in use is the same: its weights are in memory once, and its server is called on one connection.
            Some(cascade) => {
                cascade.load(|model| self.in_use(model).map_or_else(|| (self.load)(&self.config_for(model)), Ok))
            }
        }
    }

    /// The model of that name, where a stream has it.
    fn in_use(&self, name: &str) -> Option<Model> {
        if self.is_default(name) {
            return Some(self.default.load().model.clone());
        }
        match lock(&self.models).get(name) {
            Some(Entry::Ready(model)) => model.upgrade().map(|model| model.model.clone()),
            _ => None,
        }
    }

    /// Loads a model unless it is there, makes its detectors, and seats the lanes that wait for it.
    fn load(self: &Arc<Self>, name: &str, there: Option<Arc<Loaded>>) {
        let first = there.is_none();
        let (this, wish) = (Arc::clone(self), name.to_owned());
        let loaded = self.in_time(name, move || {
            let model = if let Some(model) = there {
                model
            } else {
                this.files_taken(&wish);
                Arc::new(Loaded::new(this.model(&wish)?))
            };
            if let Err(error) = model.stock(this.wanted(&model, 1)) {
                if first {
                    return Err(error);
                }
                tracing::warn!(model = wish, %error, "no further detector could be made");
            }
            Ok(model)
        });
        let model = match loaded {
            Ok(model) => model,
            Err(error) => return self.refuse(name, &error.to_string()),
        };
        if first {
            tracing::info!(model = name, family = %model.model.info().family, "model loaded");
        }
        loop {
            // Those who came meanwhile may need more detectors, and those who come while these are made.
            let mut models = lock(&self.models);
            let waiting = match models.get_mut(name) {
                Some(Entry::Loading(waiting, known)) => {
                    *known = Arc::downgrade(&model);
                    std::mem::take(waiting)
                }
                _ => Vec::new(),
            };
            if waiting.is_empty() {
                models.insert(name.to_owned(), Entry::Ready(Arc::downgrade(&model)));
                return;
            }
            drop(models);
            let (more, count) = (Arc::clone(&model), self.wanted(&model, waiting.len()));
            if let Err(error) = self.in_time(name, move || more.stock(count)) {
                tracing::warn!(model = name, %error, "no further detector could be made");
            }
            for lane in &waiting {
                self.seat(lane, &model);
            }
        }
    }

    /// Tells those who wait for a model that it does not come.
    fn refuse(&self, name: &str, reason: &str) {
        tracing::warn!(model = name, reason, "a model cannot be used");
        let mut models = lock(&self.models);
        if let Some(Entry::Loading(waiting, _)) = models.remove(name) {
            waiting.iter().for_each(|lane| lane.fail(reason));
            let lanes = waiting.iter().map(Arc::downgrade).collect();
            models.insert(name.to_owned(), Entry::Failed { lanes, reason: reason.into() });
        }
    }
}

#[cfg(test)]
#[path = "pools_tests.rs"]
mod tests;
