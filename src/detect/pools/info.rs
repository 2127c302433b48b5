//! The figures of the models in use.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{Entry, Inner, Pools};
use crate::detect::RemoteStatus;
use crate::detect::lane::lock;
use crate::detect::loaded::Loaded;

/// How a model is doing, for the API.
#[derive(Clone, Debug, Serialize)]
pub struct PoolInfo {
    /// The model's name, as it was asked for while it is being loaded.
    pub model: String,
    /// It is the one that is configured.
    pub default: bool,
    /// It is being loaded; all that follows is 0.
    pub loading: bool,
    /// Streams that use it.
    pub lanes: usize,
    /// Its detectors; those of single streams (`motion`) are not counted.
    pub detectors: usize,
    /// Frames looked at, failures included.
    pub frames: u64,
    /// Frames that failed.
    pub failed: u64,
    /// Frames that were looked at together with those of other streams.
    pub batched: u64,
    /// Frames that took longer than the deadline: among those that failed, unless they were done at the last moment.
    pub overdue: u64,
    /// What the model itself took for the newest finished frame, in milliseconds.
    pub infer_ms: Option<f64>,
    /// The server that runs it, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteStatus>,
}

impl Pools {
    /// How each model is doing: the configured one first, then by name.
    #[must_use]
    pub fn info(&self) -> Vec<PoolInfo> {
        let inner = &self.inner;
        let mut models = lock(&inner.models);
        models.retain(|_, entry| entry.lives());
        let others = models.iter().filter_map(|(name, entry)| match entry {
            Entry::Loading(_, model) => Some(model.upgrade().ok_or_else(|| name.clone())),
            Entry::Ready(model) => model.upgrade().map(Ok),
            Entry::Failed { .. } => None,
        });
        let others: Vec<Result<Arc<Loaded>, String>> = others.collect();
        drop(models);
        let mut all = vec![inner.describe(&inner.default.load_full(), true)];
        all.extend(others.into_iter().map(|other| match other {
            Ok(model) => inner.describe(&model, false),
            Err(model) => PoolInfo {
                model,
                default: false,
                loading: true,
                lanes: 0,
                detectors: 0,
                frames: 0,
                failed: 0,
                batched: 0,
                overdue: 0,
                infer_ms: None,
                remote: None,
            },
        }));
        if let Some((_, others)) = all.split_first_mut() {
            others.sort_by(|a, b| a.model.cmp(&b.model));
        }
        all
    }
}

impl Inner {
    pub(super) fn describe(&self, model: &Arc<Loaded>, default: bool) -> PoolInfo {
        let last = *lock(&model.last);
        PoolInfo {
            model: model.model.info().name.to_string(),
            default,
            loading: false,
            lanes: self.shared.lanes_of(model),
            detectors: model.detectors(),
            frames: model.frames.load(Ordering::Relaxed),
            failed: model.failed.load(Ordering::Relaxed),
            batched: model.batched.load(Ordering::Relaxed),
            overdue: model.overdue.load(Ordering::Relaxed),
            infer_ms: last.map(|times| times.infer.as_secs_f64() * 1e3),
            remote: model.model.remote_status(),
        }
    }
}
