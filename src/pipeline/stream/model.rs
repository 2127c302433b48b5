//! Which model looks at a stream, and how another one takes its place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Stream;
use crate::detect::{Lane, LaneModel, LaneOptions, Pools};
use crate::pipeline::shared::Shared;
use crate::pipeline::video::lock;

impl Stream {
    /// Which model looks, or why none does.
    #[must_use]
    pub fn model(&self) -> LaneModel {
        self.lane.load().model()
    }

    /// Lets another model look, from the next frame on, with what the configuration says and its own thresholds where that says
    /// nothing; priority and zone stay, and so do the viewers. Tracks begin anew.
    ///
    /// Joins the sub-stream's thread, which begins again with its next IDR: not to be called on a task of the network's.
    pub fn set_model(&self, model: Option<String>) {
        lock(&self.own_model).clone_from(&model);
        self.shared.budget.chose(0, Instant::now());
        self.look_with(model);
    }

    /// Whether its budget asks for another of its models.
    pub(in crate::pipeline) fn has_other_model_due(&self) -> bool {
        self.shared.budget.plan(Instant::now()).is_some()
    }

    /// Lets another of its models look where its budget asks for that and the model is ready; says whether it did. A model that is
    /// not is made ready.
    ///
    /// Joins the sub-stream's thread, as [`set_model`](Self::set_model) does.
    pub(in crate::pipeline) fn keep_budget(&self) -> bool {
        let now = Instant::now();
        let Some(wanted) = self.shared.budget.plan(now) else { return false };
        let rules = self.shared.rules.load();
        let model = match wanted.checked_sub(1) {
            None => lock(&self.own_model).clone(),
            Some(n) => rules.lighter_models.get(n).cloned(),
        };
        let mut standby = lock(&self.standby);
        let before = if wanted == 0 { None } else { standby.get(wanted - 1) };
        match before.map(Lane::model) {
            Some(LaneModel::Loading) => return false,
            Some(LaneModel::Failed(_)) => {
                // It was said when it failed, and what cannot look is not asked again.
                self.shared.budget.set(rules.budget(), wanted);
                return false;
            }
            Some(LaneModel::Ready(_)) => {}
            None if wanted == 0 => {}
            None => {
                let options = LaneOptions { model, ..LaneOptions::default() };
                standby.push(self.pool.lane(Arc::clone(&self.shared.name), options, |_| {}));
                return false;
            }
        }
        drop(standby);
        tracing::info!(stream = %self.shared.name, model = model.as_deref().unwrap_or("the configured one"), "another model looks, for the detection budget");
        self.shared.budget.chose(wanted, now);
        self.look_with(model);
        true
    }

    fn look_with(&self, model: Option<String>) {
        let before = self.lane.load_full();
        let options = LaneOptions {
            model: model.clone(),
            priority: before.priority(),
            zone: before.zone(),
            ..LaneOptions::default()
        };
        *lock(&self.model) = model;
        self.lane.store(Arc::new(take_lane(&self.shared, &self.pool, options)));
        self.shared.newest.store(None);
        let sub = lock(&self.sub).take();
        let skipped = before.counters().skipped + sub.as_ref().map_or(0, |sub| sub.lane().counters().skipped);
        self.skipped.fetch_add(skipped, Ordering::Relaxed);
        drop((before, sub));
        *lock(&self.shared.sub_seen) = None;
    }
}

/// A place with the detector, whose results are the stream's for as long as it has no other.
pub(super) fn take_lane(shared: &Arc<Shared>, pool: &Pools, options: LaneOptions) -> Lane {
    let number = shared.lanes.fetch_add(1, Ordering::AcqRel) + 1;
    let weak = Arc::downgrade(shared);
    pool.lane(Arc::clone(&shared.name), shared.rules.load().lane(options), move |result| {
        if let Some(shared) = weak.upgrade()
            && shared.lanes.load(Ordering::Acquire) == number
        {
            shared.detected(result);
        }
    })
}
