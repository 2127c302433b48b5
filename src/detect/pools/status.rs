//! The models as the API shows them: those in use, those that could not be loaded, and those whose files could be.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use serde::Serialize;

use super::{Entry, PoolInfo, Pools};
use crate::detect::lane::lock;
use crate::detect::loaded::Loaded;
use crate::detect::locate::{known_models, place};
use crate::detect::{InputSize, InputSpec, ModelInfo};

/// How a model is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// It looks at pictures, or would as soon as one comes.
    Loaded,
    /// It is being loaded.
    Loading,
    /// It could not be loaded; it is tried again when its files change.
    Failed,
    /// Its file is there, and nobody uses it.
    Available,
    /// Its manifest is known, and its file is not there.
    Absent,
}

/// The size of a model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum InputStatus {
    /// The same for every picture, in pixels.
    Fixed {
        /// In pixels.
        width: usize,
        /// In pixels.
        height: usize,
    },
    /// By the picture, whose longer side becomes this long.
    LongerSide {
        /// In pixels.
        longer_side: usize,
    },
    /// The picture's own, up to this long a side.
    Source {
        /// In pixels.
        at_most: usize,
    },
}

impl From<&InputSpec> for InputStatus {
    fn from(input: &InputSpec) -> Self {
        match input.size {
            InputSize::Fixed { width, height } => Self::Fixed { width, height },
            InputSize::LongerSide { side, .. } => Self::LongerSide { longer_side: side },
            InputSize::Source { at_most, .. } => Self::Source { at_most },
        }
    }
}

/// A model in an answer of the API.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStatus {
    /// What it is called in messages, or by what it was asked for.
    pub name: String,
    /// By what it is configured or asked for: a name, or the path of a file.
    pub asked_for: String,
    /// Whether it is there.
    pub state: ModelState,
    /// Streams that do not name another have it.
    pub default: bool,
    /// The decoding of its outputs, where that is known.
    pub family: Option<String>,
    /// How many classes it knows.
    pub classes: Option<usize>,
    /// The size of its input; absent for the motion detector.
    pub input: Option<InputStatus>,
    /// The licence of its weights (SPDX), where a manifest says it.
    pub licence: Option<String>,
    /// The streams that use it, by name, or would.
    pub streams: Vec<String>,
    /// Why it cannot be used, or why the newest file in its place is not: the one before is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How it is doing, while it is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<PoolInfo>,
}

impl ModelStatus {
    fn new(asked_for: &str, state: ModelState) -> Self {
        Self {
            name: asked_for.to_owned(),
            asked_for: asked_for.to_owned(),
            state,
            default: false,
            family: None,
            classes: None,
            input: None,
            licence: None,
            streams: Vec::new(),
            error: None,
            stats: None,
        }
    }

    fn describe(mut self, info: &ModelInfo) -> Self {
        self.name = info.name.to_string();
        self.family = Some(info.family.to_string());
        self.classes = Some(info.labels.len());
        self.input = info.input.as_ref().map(InputStatus::from);
        self.licence.clone_from(&info.licence);
        self
    }
}

impl Pools {
    /// The models: the configured one first, then those in use or in want of one, then those that could be, each by name. Reads
    /// manifests, and so blocks.
    #[must_use]
    pub fn models(&self) -> Vec<ModelStatus> {
        let inner = &self.inner;
        let loaded = |model: &Arc<Loaded>, key: &str| {
            let info = model.model.info();
            let mut status = ModelStatus::new(key, ModelState::Loaded).describe(info);
            status.streams = inner.shared.streams_of(model).iter().map(ToString::to_string).collect();
            status.error = lock(&inner.refused).get(key).map(ToString::to_string);
            status.stats = Some(inner.describe(model, key == inner.config.model));
            status
        };
        let mut first = loaded(&inner.default.load_full(), &inner.config.model);
        first.default = true;
        if self.stands_in() {
            first
                .error
                .get_or_insert_with(|| format!("the model `{}` is not there: this one stands in", inner.config.model));
        }
        let mut models = lock(&inner.models);
        models.retain(|_, entry| entry.lives());
        let mut keys: BTreeSet<String> = models.keys().cloned().collect();
        let mut used: Vec<ModelStatus> = models
            .iter()
            .filter_map(|(key, entry)| match entry {
                Entry::Ready(model) => Some(loaded(&model.upgrade()?, key)),
                Entry::Loading(waiting, _) => {
                    let mut status = ModelStatus::new(key, ModelState::Loading);
                    status.streams = names(waiting.iter().map(|lane| lane.stream().to_string()));
                    Some(status)
                }
                Entry::Failed { lanes, reason } => {
                    let mut status = ModelStatus::new(key, ModelState::Failed);
                    let lanes = lanes.iter().filter_map(Weak::upgrade);
                    status.streams = names(lanes.map(|lane| lane.stream().to_string()));
                    status.error = Some(reason.to_string());
                    Some(status)
                }
            })
            .collect();
        drop(models);
        used.sort_by(|a, b| a.name.cmp(&b.name));
        keys.extend(used.iter().map(|status| status.name.clone()));
        keys.insert(first.name.clone());
        // The configured model that another one stands in for is still to come.
        if !self.stands_in() {
            keys.insert(inner.config.model.clone());
        }
        let files: Vec<_> = keys.iter().filter_map(|key| inner.path_of(key)).collect();
        let folder = &inner.config.models_dir;
        let free = known_models(folder).into_iter().filter(|name| !keys.contains(name)).filter_map(|name| {
            let mut status = ModelStatus::new(&name, ModelState::Absent);
            match place(&name, folder) {
                Ok(located) if files.contains(&located.path) => return None,
                Ok(located) => {
                    if located.path.is_file() {
                        status.state = ModelState::Available;
                    }
                    if let Some(manifest) = located.manifest {
                        status.family = Some(manifest.family.to_string());
                        status.classes = Some(manifest.labels().len());
                        status.input = Some((&manifest.input).into());
                        status.licence = manifest.licence;
                    }
                }
                Err(error) => {
                    status.state = ModelState::Failed;
                    status.error = Some(error.to_string());
                }
            }
            Some(status)
        });
        let mut free: Vec<ModelStatus> = free.collect();
        free.sort_by(|a, b| a.name.cmp(&b.name));
        std::iter::once(first).chain(used).chain(free).collect()
    }
}

fn names(streams: impl Iterator<Item = String>) -> Vec<String> {
    streams.collect::<BTreeSet<_>>().into_iter().collect()
}
