//! Models replaced while the server runs: by a file that is sent, or by one that has changed in its place.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::names::check_name;
use super::options::PipelineError;
use super::registry::Pipeline;
use crate::detect::{Change, ModelStatus, Pools, Upload};

/// How often the models' files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked whether a stream needs another model for its budget.
const BUDGET_LOOK: Duration = Duration::from_millis(500);

/// Whose warnings those of models are.
const MODELS: &str = "models";

/// A new file for a model, while it comes. Dropped, it is gone. All of it blocks.
#[derive(Debug)]
pub struct ModelUpload {
    pool: Arc<Pools>,
    name: String,
    upload: Upload,
}

impl ModelUpload {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`PipelineError::Model`] when they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PipelineError> {
        Ok(self.upload.write(bytes)?)
    }

    /// Checks the file, stores it, and lets it take the place of the old one in all streams that use that. `sha256` is what
    /// was announced, in hex.
    ///
    /// # Errors
    /// [`PipelineError::Model`]: nothing was replaced.
    pub fn finish(self, sha256: Option<&str>) -> Result<(), PipelineError> {
        let Self { pool, name, upload } = self;
        match pool.replace(upload, sha256) {
            Ok(()) => {
                tracing::info!(model = %name, "the model was replaced");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(model = %name, %error, "a model was not replaced");
                Err(error.into())
            }
        }
    }
}

impl Pipeline {
    /// The models: in use, in want of one, and those whose files are there. Reads manifests, and so blocks.
    #[must_use]
    pub fn models(&self) -> Vec<ModelStatus> {
        self.pool.models()
    }

    /// Begins to take a new file for the model of this name. Blocks.
    ///
    /// # Errors
    /// [`PipelineError::BadName`], or [`PipelineError::Model`] for a model without a file.
    pub fn upload_model(&self, name: &str) -> Result<ModelUpload, PipelineError> {
        check_name(name)?;
        let upload = self.pool.upload(name)?;
        Ok(ModelUpload { pool: Arc::clone(&self.pool), name: name.to_owned(), upload })
    }

    /// Looks at the streams with a `detection_budget_ms` twice a second, until the end, and lets another of their models look where
    /// the budget asks for it.
    pub async fn keep_budgets(self: Arc<Self>) {
        let mut tick = interval(BUDGET_LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            self.limit_publishers();
            let due = self.streams.all().into_iter().map(|place| Arc::clone(&place.stream));
            let due: Vec<_> = due.filter(|stream| stream.has_other_model_due()).collect();
            if due.is_empty() {
                continue;
            }
            // A sub-stream's thread may have to be joined.
            let kept =
                tokio::task::spawn_blocking(move || due.iter().for_each(|stream| _ = stream.keep_budget())).await;
            if kept.is_err() {
                tracing::error!("a stream's model could not be changed for its budget");
            }
        }
    }

    /// Asks of the publishers whose streams are encoded smaller for no more than that needs: what is not sent is not decoded.
    fn limit_publishers(&self) {
        for session in self.sessions.all().iter().filter(|session| session.role.publishes()) {
            self.limit_publisher(&session.id, session.place.stream.publisher_limit(&self.encode));
        }
    }

    /// Looks at the models' files once a second, until the end, and takes those over that have changed.
    pub async fn watch_models(self: Arc<Self>) {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut said, mut stood_in) = (Vec::new(), self.pool.stands_in());
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let pool = Arc::clone(&self.pool);
            // Loading takes its time, and the folder may lie on a mount that hangs.
            let Ok(changes) = tokio::task::spawn_blocking(move || pool.look()).await else { continue };
            changes.iter().for_each(tell);
            let refused = self.pool.refused();
            if refused != said {
                let warning = |(model, why): &(String, String)| {
                    format!("the file of the model `{model}` has changed and cannot be used: {why}")
                };
                self.set_warnings(MODELS, refused.iter().map(warning).collect());
                said = refused;
            }
            if std::mem::replace(&mut stood_in, self.pool.stands_in()) && !stood_in {
                // What was said at the start of the model that was missing is true no longer.
                self.set_warnings("start", Vec::new());
            }
        }
    }
}

fn tell(Change { model, outcome }: &Change) {
    match outcome {
        Ok(()) => tracing::info!(%model, "the model's file has changed: the new one is in use"),
        Err(error) => {
            tracing::warn!(%model, %error, "the model's file has changed and cannot be used: all stays as it was");
        }
    }
}
