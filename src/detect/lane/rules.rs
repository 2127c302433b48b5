//! What a lane is told beside its settings: which frames are looked at, and what to watch in the results.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::{Lane, LaneModel, LaneOptions, lock};
use crate::detect::regions::{Engine, RegionCount, RegionSet};
use crate::detect::sampling::{Gate, Hint, Sampling, SamplingCounts, Tally};
use crate::detect::zone::Zone;
use crate::detect::{Pass, Settings};
use crate::media::{Detection, Frame, RegionEvent};

/// So many objects are looked for where some are to be hidden: that one more is not reported must not show it.
const MOST_VEILED: usize = 300;

/// The lane's strategy and its counts. Whoever offers locks the gate for as long as a picture is measured; nobody else waits
/// for it but who changes the strategy.
#[derive(Debug)]
pub(super) struct Rules {
    gate: Mutex<Gate>,
    tally: Tally,
    /// In the newest result.
    objects: AtomicUsize,
    regions: ArcSwap<RegionSet>,
    veiled: ArcSwap<Vec<String>>,
    /// Of a cascade's models: pictures looked at, and those that something was found in.
    passes: Mutex<Vec<(u64, u64)>>,
    /// The worker that serves the lane locks it, for as long as it takes to count; and whoever asks for the counts.
    engine: Mutex<Engine>,
}

impl Rules {
    pub(super) fn new(options: &LaneOptions) -> Self {
        let mut gate = Gate::new(options.sampling);
        gate.set_at_least(options.at_least);
        Self {
            gate: Mutex::new(gate),
            tally: Tally::default(),
            objects: AtomicUsize::new(0),
            engine: Mutex::new(Engine::new(&options.regions)),
            regions: ArcSwap::from_pointee(options.regions.clone()),
            veiled: ArcSwap::from_pointee(options.veiled.clone()),
            passes: Mutex::default(),
        }
    }

    /// Whether this frame is to be looked at; counted. If so, for how long so far nothing moved in frames that were not.
    pub(super) fn admits(&self, frame: &Frame, hint: Hint) -> Option<Duration> {
        let mut gate = lock(&self.gate);
        let verdict = gate.judge(frame, hint, self.objects.load(Ordering::Relaxed));
        self.tally.note(verdict.reason);
        verdict.sampled.then(|| gate.still())
    }

    /// For so long nothing changed in the pictures.
    pub(super) fn rest(&self, still: Duration) {
        lock(&self.engine).rest(still);
    }

    /// The tracker remembers objects for so long.
    pub(super) fn remember(&self, memory: Duration) {
        lock(&self.engine).remember(memory);
    }

    /// A cascade's models looked.
    pub(super) fn passed(&self, passes: &[Pass]) {
        if passes.is_empty() {
            return;
        }
        let mut counts = lock(&self.passes);
        if counts.len() < passes.len() {
            counts.resize(passes.len(), (0, 0));
        }
        for (count, pass) in counts.iter_mut().zip(passes) {
            count.0 += u64::from(pass.looked);
            count.1 += u64::from(pass.passed);
        }
    }

    /// What the detector is asked for where some classes are to be hidden: those too, and not less surely than the model itself
    /// would report them. `None`: the settings as they are.
    pub(super) fn wider(&self, settings: &Settings, model: &LaneModel) -> Option<Settings> {
        let veiled = self.veiled.load();
        if veiled.is_empty() {
            return None;
        }
        let mut wider = settings.clone();
        if let Some(classes) = &settings.classes {
            let more = veiled.iter().filter(|class| !classes.contains(class));
            wider.classes = Some(classes.iter().chain(more).cloned().collect());
        }
        if let LaneModel::Ready(info) = model {
            wider.confidence = settings.confidence.min(info.confidence);
            wider.iou = settings.iou.max(info.iou);
        }
        wider.max_detections = settings.max_detections.max(MOST_VEILED);
        Some(wider)
    }

    /// Leaves what `settings` ask for, and gives what is to be hidden.
    pub(super) fn narrow(&self, settings: &Settings, items: &mut Vec<Detection>) -> Vec<Detection> {
        let veiled = self.veiled.load();
        let hidden =
            items.iter().filter(|item| veiled.iter().any(|class| **class == *item.class_name)).cloned().collect();
        items.retain(|item| settings.admits(item));
        items.truncate(settings.max_detections);
        hidden
    }

    /// Leaves the objects that count in a picture of this size, and says what they did.
    #[allow(clippy::cast_precision_loss)] // sides are at most 8192
    pub(super) fn apply(
        &self,
        now: Instant,
        (width, height): (usize, usize),
        zone: Option<&Zone>,
        items: &mut Vec<Detection>,
    ) -> Vec<RegionEvent> {
        let (width, height) = (width as f32, height as f32);
        let regions = self.regions.load();
        if zone.is_some() || !regions.is_empty() {
            items.retain(|item| regions.admits(zone, item, width, height));
        }
        self.objects.store(items.len(), Ordering::Relaxed);
        lock(&self.engine).update(now, width, height, items)
    }
}

/// Parents by the names that the tracker has given them, in place of their places in the list.
pub(super) fn name_parents(items: &mut [Detection]) {
    if items.iter().any(|item| item.parent.is_some()) {
        let names: Vec<Option<u64>> = items.iter().map(|item| item.track_id).collect();
        for item in items {
            item.parent = item.parent.and_then(|at| *names.get(usize::try_from(at).ok()?)?);
        }
    }
}

impl Lane {
    /// Where an object counts; `None` for the whole picture.
    #[must_use]
    pub fn zone(&self) -> Option<Zone> {
        self.state.zone.load().as_deref().cloned()
    }

    /// Holds from the next result on.
    pub fn set_zone(&self, zone: Option<Zone>) {
        self.state.zone.store(zone.map(Arc::new));
    }

    /// Whether the settings and the regions in force let an object be told in a picture of this size.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // sides are at most 8192
    pub fn admits(&self, item: &Detection, (width, height): (usize, usize)) -> bool {
        let (width, height) = (width as f32, height as f32);
        self.state.settings.load().admits(item)
            && self.state.rules.regions.load().admits(self.state.zone.load().as_deref(), item, width, height)
    }

    /// Which frames are looked at.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        lock(&self.state.rules.gate).sampling()
    }

    /// Holds from the next frame on; what the strategy before knew is forgotten. `at_least`: the time after which a frame is
    /// looked at whatever the strategy says.
    pub fn set_sampling(&self, sampling: Sampling, at_least: Option<Duration>) {
        let mut gate = lock(&self.state.rules.gate);
        if gate.sampling() != sampling {
            gate.set_sampling(sampling);
        }
        gate.set_at_least(at_least);
    }

    /// Watches these regions from the next result on. One that is as it was keeps its counts.
    pub fn set_regions(&self, regions: &RegionSet) {
        lock(&self.state.rules.engine).set(regions);
        self.state.rules.regions.store(Arc::new(regions.clone()));
    }

    /// Looks for the objects of these classes from the next frame on, whatever the settings say, so that they can be hidden.
    pub fn set_veiled(&self, classes: &[String]) {
        self.state.rules.veiled.store(Arc::new(classes.to_vec()));
    }

    /// Of a cascade's models, in order: pictures looked at, and those in which something was found.
    #[must_use]
    pub fn passes(&self) -> Vec<(u64, u64)> {
        lock(&self.state.rules.passes).clone()
    }

    /// The regions in force.
    #[must_use]
    pub fn regions(&self) -> RegionSet {
        RegionSet::clone(&self.state.rules.regions.load())
    }

    /// What happened at its zones and lines so far, by their names.
    #[must_use]
    pub fn region_counts(&self) -> BTreeMap<String, RegionCount> {
        let engine = lock(&self.state.rules.engine);
        engine.counts().map(|(name, count)| (name.to_string(), count.clone())).collect()
    }

    /// What became of the frames that were offered.
    #[must_use]
    pub fn sampled(&self) -> SamplingCounts {
        self.state.rules.tally.counts()
    }
}
