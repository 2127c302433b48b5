//! Another file for a model that is in use: loaded and checked beside the old one, which stays until the new one has its
//! detectors, and for good if it does not get them.
//!
//! Streams keep their lanes, trackers and viewers, and the settings that somebody chose; a frame that a thread holds is finished
//! by the detector that began it. A model that could not be loaded is tried again when its files change.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::files::{Seen, Stamp};
use super::upload::{ReplaceError, Upload};
use super::{Entry, Inner, Pools};
use crate::detect::lane::{LaneState, lock};
use crate::detect::loaded::Loaded;
use crate::detect::locate::{files_of, is_path, place};
use crate::detect::{Config, DetectError, Family, Model, motion};

/// What came of a look at a model's files that had changed.
#[derive(Debug)]
pub struct Change {
    /// As the model is configured or asked for.
    pub model: String,
    /// Why the new file is not in use.
    pub outcome: Result<(), DetectError>,
}

impl Pools {
    /// Looks at the files of the models in use, and of those that could not be loaded; to be called about once a second. One that
    /// has changed, and is at rest since the last call, is loaded and takes the place of the old one. Blocks.
    #[must_use]
    pub fn look(&self) -> Vec<Change> {
        let inner = &self.inner;
        let _swapping = lock(&inner.swapping);
        let changed: Vec<String> = inner.watched().into_iter().filter(|key| inner.files_changed(key)).collect();
        let renew = |model: String| {
            let (this, key) = (Arc::clone(inner), model.clone());
            let ready = inner.in_time(&model, move || this.ready(&key, this.model(&key)?));
            let outcome = match ready.map(|new| inner.install_ready(&model, &new)) {
                Ok(true) => Ok(()),
                // Whoever loads it now loads the new file.
                Ok(false) => return None,
                Err(error) => Err(error),
            };
            if let Err(error) = &outcome {
                inner.note_refusal(&model, error);
            }
            Some(Change { model, outcome })
        };
        changed.into_iter().filter_map(renew).collect()
    }

    /// The models whose newest file is not in use, as they are configured or asked for, and why; in order.
    #[must_use]
    pub fn refused(&self) -> Vec<(String, String)> {
        let refused = lock(&self.inner.refused);
        let mut refused: Vec<_> = refused.iter().map(|(model, why)| (model.clone(), why.to_string())).collect();
        refused.sort_unstable();
        refused
    }

    /// Whether the motion detector stands in for the configured model, whose file is missing.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        let inner = &self.inner;
        inner.config.model != motion::NAME && inner.default.load().model.info().family == Family::Motion
    }

    /// Begins to replace a model's file, or to add one: a model in use is replaced where its file is, another one in the models
    /// folder. `name` is what the model is called, or was asked for by.
    ///
    /// # Errors
    /// [`ReplaceError::Name`] for a model without a file; [`ReplaceError::File`] when nothing can be written there.
    pub fn upload(&self, name: &str) -> Result<Upload, ReplaceError> {
        if name == motion::NAME {
            return Err(ReplaceError::Name(format!("{name} is built in: it has no file")));
        }
        if is_path(name) {
            return Err(ReplaceError::Name(format!("{name}: a model's name is written without folder and .onnx")));
        }
        let inner = &self.inner;
        let key = inner.key_of(name);
        let unknown = inner.config.models_dir.join(format!("{key}.onnx"));
        match place(&key, &inner.config.models_dir) {
            Ok(located) => Upload::open(&key, &located.path, located.manifest),
            // A manifest that cannot be read has to be mended first; without one the name is new.
            Err(error) if inner.config.models_dir.join(format!("{key}.toml")).exists() || is_path(&key) => {
                Err(ReplaceError::Refused(error))
            }
            Err(_) => Upload::open(&key, &unknown, None),
        }
    }

    /// Checks a file that has come whole, stores it, and lets it take the place of the old one, from each stream's next frame on.
    /// Blocks.
    ///
    /// # Errors
    /// [`ReplaceError`]: nothing was replaced, in use or on disk.
    pub fn replace(&self, mut upload: Upload, sha256: Option<&str>) -> Result<(), ReplaceError> {
        let inner = &self.inner;
        let key = upload.key.clone();
        let (target, manifest) = (upload.target.clone(), upload.manifest.take());
        let part = upload.check(sha256)?;
        let _swapping = lock(&inner.swapping);
        if matches!(lock(&inner.models).get(&key), Some(Entry::Loading(..))) {
            return Err(ReplaceError::Busy);
        }
        let (this, name, part, at) = (Arc::clone(inner), key.clone(), part.to_owned(), target.clone());
        let new = inner.in_time(&key, move || {
            let model = Model::load_in_place(&this.config_for(&name), &part, &at, manifest)?;
            this.ready(&name, model)
        });
        let new = new.map_err(ReplaceError::Refused)?;
        upload.store()?;
        // Whoever began to load it meanwhile may have read the old file: that is seen as a change.
        if inner.install_ready(&key, &new) {
            inner.files_taken(&key);
        }
        Ok(())
    }
}

impl Inner {
    pub(super) fn config_for(&self, key: &str) -> Config {
        let config = Config { model: key.to_owned(), ..self.config.clone() };
        // The server is the configured model's.
        if key == self.config.model { config } else { Config { remote: None, remote_model: None, ..config } }
    }

    /// By what a model is configured or was asked for that goes by this name.
    fn key_of(&self, name: &str) -> String {
        let default = self.default.load();
        if name == &*default.model.info().name || name == self.config.model {
            return self.config.model.clone();
        }
        let models = lock(&self.models);
        if models.contains_key(name) {
            return name.to_owned();
        }
        let known_as = |entry: &Entry| match entry {
            Entry::Ready(model) => model.upgrade().is_some_and(|model| name == &*model.model.info().name),
            Entry::Loading(..) | Entry::Failed { .. } => false,
        };
        models.iter().find(|(_, entry)| known_as(entry)).map_or_else(|| name.to_owned(), |(key, _)| key.clone())
    }

    /// The models whose files are watched.
    fn watched(&self) -> Vec<String> {
        let mut models = lock(&self.models);
        models.retain(|_, entry| entry.lives());
        let mut keys: Vec<String> = models.keys().cloned().collect();
        if self.config.model != motion::NAME && !keys.contains(&self.config.model) {
            keys.push(self.config.model.clone());
        }
        let mut cascades = lock(&self.cascades);
        cascades.retain(|key, _| keys.contains(key));
        // A cascade takes what is in use: the models come first.
        keys.sort_by_key(|key| cascades.contains_key(key));
        drop((models, cascades));
        lock(&self.seen).retain(|key, _| keys.contains(key));
        lock(&self.refused).retain(|key, _| keys.contains(key));
        keys
    }

    /// How the files of a model, or of both models of a cascade, are now.
    fn stamp(&self, key: &str) -> Stamp {
        let folder = &self.config.models_dir;
        let cascades = lock(&self.cascades);
        Stamp::of(match cascades.get(key) {
            Some(cascade) => cascade.models().flat_map(|model| files_of(model, folder)).collect(),
            None => files_of(key, folder),
        })
    }

    fn files_changed(&self, key: &str) -> bool {
        let now = self.stamp(key);
        let mut seen = lock(&self.seen);
        if let Some(seen) = seen.get_mut(key) {
            return seen.changed(now);
        }
        seen.insert(key.to_owned(), Seen::taken(now));
        false
    }

    /// Notes how a model's files are that are about to be read.
    pub(super) fn files_taken(&self, key: &str) {
        let now = self.stamp(key);
        lock(&self.seen).insert(key.to_owned(), Seen::taken(now));
    }

    pub(super) fn note_refusal(&self, key: &str, error: &DetectError) {
        lock(&self.refused).insert(key.to_owned(), error.to_string().into());
        if let Some(Entry::Failed { reason, lanes }) = lock(&self.models).get_mut(key) {
            *reason = error.to_string().into();
            lanes.iter().filter_map(Weak::upgrade).for_each(|lane| lane.fail(reason));
        }
    }

    /// The model with as many detectors as the old one has to have.
    fn ready(&self, key: &str, model: Model) -> Result<Arc<Loaded>, DetectError> {
        let new = Arc::new(Loaded::new(model));
        let workers = self.shared.stats().workers;
        let count = match lock(&self.models).get(key) {
            _ if key == self.config.model => workers,
            Some(Entry::Ready(old)) => old.upgrade().map_or(1, |old| self.wanted(&old, 0)),
            Some(Entry::Failed { lanes, .. }) => lanes.len().clamp(1, workers),
            Some(Entry::Loading(..)) | None => 1,
        };
        new.stock(count.max(1))?;
        Ok(new)
    }

    /// Puts the model in the place of the one of that name; `false` where that is just being loaded.
    fn install_ready(&self, key: &str, new: &Arc<Loaded>) -> bool {
        // Held until all have moved: nobody takes a seat at the old one meanwhile.
        let mut models = lock(&self.models);
        let entry = match models.remove(key) {
            Some(Entry::Loading(waiting, known)) if key != self.config.model => {
                models.insert(key.to_owned(), Entry::Loading(waiting, known));
                return false;
            }
            // Who waits for the configured model under its name gets one of its own.
            Some(loading @ Entry::Loading(..)) => {
                models.insert(key.to_owned(), loading);
                None
            }
            entry => entry,
        };
        if key == self.config.model {
            let old = self.default.swap(Arc::clone(new));
            self.move_over(&old, new);
        }
        match entry {
            Some(Entry::Ready(old)) => {
                if let Some(old) = old.upgrade() {
                    self.move_over(&old, new);
                }
            }
            Some(Entry::Failed { lanes, .. }) => {
                for lane in lanes.iter().filter_map(Weak::upgrade) {
                    self.seat(&lane, new);
                }
            }
            Some(Entry::Loading(..)) | None => {}
        }
        if key != self.config.model && self.shared.lanes_of(new) > 0 {
            models.insert(key.to_owned(), Entry::Ready(Arc::downgrade(new)));
        }
        drop(models);
        lock(&self.refused).remove(key);
        true
    }

    /// The lanes of `old` are those of `new` from the next frame on.
    fn move_over(&self, old: &Arc<Loaded>, new: &Arc<Loaded>) {
        let lanes: Vec<Arc<LaneState>> = self.shared.reseat(old, new);
        for lane in lanes {
            // The state of one stream is the old model's.
            drop(lock(lane.detector()).take());
            lane.set_model(new.model.info_shared(), self.settings_for(new));
        }
        for (count, before) in [
            (&new.frames, &old.frames),
            (&new.failed, &old.failed),
            (&new.batched, &old.batched),
            (&new.overdue, &old.overdue),
        ] {
            count.fetch_add(before.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub(super) fn path_of(&self, key: &str) -> Option<std::path::PathBuf> {
        place(key, Path::new(&self.config.models_dir)).ok().map(|located| located.path)
    }
}
