//! All streams and sessions of a server: who may come in, who is there, and how everybody leaves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{counter, gauge};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::options::{Config, PipelineError};
use super::session::{Parts, Publisher, Session, SessionStatus};
use super::stream::{Stream, StreamStatus};
use super::video::lock;
use crate::annotate;
use crate::detect::{Pools, Settings};
use crate::encode;
use crate::peer::{Answered, Engine};

/// How long sessions may take to say goodbye when the server goes, and then the detector to finish what it holds: with the
/// requests in flight, less than two seconds in all.
const GOODBYE_LIMIT: Duration = Duration::from_millis(1000);
const DETECTOR_LIMIT: Duration = Duration::from_millis(500);

/// The longest name of a stream.
const MAX_NAME: usize = 64;

/// The streams and sessions of a server, and what they share.
pub struct Pipeline {
    engine: Engine,
    pool: Arc<Pools>,
    settings: Settings,
    config: Config,
    encode: encode::Config,
    warnings: Vec<String>,
    sessions: Mutex<HashMap<String, Place>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A session's place in the registry, taken before it is made so that the limit and the name hold.
struct Place {
    stream: Arc<str>,
    session: Option<Arc<Session>>,
}

/// What an offer led to.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    /// The answer.
    pub sdp: String,
    /// Always `answer`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The session's id, to end it by.
    pub session: String,
    /// The stream's name.
    pub stream: String,
}

/// What a page needs to know of the server.
#[derive(Clone, Debug, Serialize)]
pub struct ServerInfo {
    /// The version of the program.
    pub version: &'static str,
    /// The model that looks.
    pub model: ModelSummary,
    /// A colour for each class, `#rrggbb`, class id modulo the length.
    pub palette: Vec<String>,
    /// The threshold of a new stream.
    pub default_confidence: f32,
    /// The IoU threshold of a new stream.
    pub default_iou: f32,
    /// What a person should know: the model is missing, say.
    pub warnings: Vec<String>,
}

/// The model in a few words.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSummary {
    /// Its name.
    pub name: String,
    /// Its family.
    pub family: String,
    /// Names of its classes, by class id.
    pub labels: Vec<String>,
}

impl Pipeline {
    /// A pipeline without streams.
    #[must_use]
    pub fn new(
        engine: Engine,
        pool: Arc<Pools>,
        settings: Settings,
        config: Config,
        encode: encode::Config,
        warnings: Vec<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            pool,
            settings,
            config,
            encode,
            warnings,
            sessions: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Answers an offer and runs the session that follows.
    ///
    /// # Errors
    /// With the reason, when the offer is refused; nothing is left of it.
    pub async fn offer(self: &Arc<Self>, sdp: String, name: Option<String>) -> Result<Accepted, PipelineError> {
        let id = random_name(16);
        let name = self.reserve(&id, name)?;
        // On a task of its own: a fault in the reading of a strange offer costs that offer.
        let this = Arc::clone(self);
        let reserved = Reservation { pipeline: Arc::clone(self), id: id.clone() };
        let answered = tokio::spawn(async move { this.engine.answer(&sdp).await }.in_current_span()).await;
        let answered = match answered {
            Ok(answered) => answered?,
            Err(error) => return Err(PipelineError::Fault(error.to_string())),
        };
        let sdp = answered.sdp.clone();
        self.start_session(&id, &name, answered)?;
        reserved.keep();
        Ok(Accepted { sdp, kind: "answer", session: id, stream: name.to_string() })
    }

    fn start_session(self: &Arc<Self>, id: &str, name: &Arc<str>, answered: Answered) -> Result<(), PipelineError> {
        let Answered { connection, events, video_out, audio_out, channel_possible, .. } = answered;
        let publisher = Publisher::default();
        let stream = Stream::start(
            name,
            &self.pool,
            self.settings.clone(),
            &self.config,
            &self.encode,
            publisher.keyframe_request(),
        )?;
        let session = Session::new(id.to_owned(), stream, connection, &self.stop);
        {
            let mut sessions = lock(&self.sessions);
            let Some(place) = sessions.get_mut(id) else { return Err(PipelineError::ShuttingDown) };
            place.session = Some(Arc::clone(&session));
        }
        let silence = Duration::from_millis(self.config.silence_timeout_ms);
        let parts = Parts { events, video_out, audio_out, channel_possible, publisher, silence };
        let this = Arc::clone(self);
        let span = tracing::info_span!("session", id, stream = %name);
        let run = async move {
            tracing::info!("session begins");
            counter!("sightline_sessions_total").increment(1);
            let why = Arc::clone(&session).run(parts).await;
            tracing::info!(%why, "session ended");
            this.remove(&session.id);
        };
        self.tasks.spawn(run.instrument(span));
        Ok(())
    }

    fn reserve(&self, id: &str, wish: Option<String>) -> Result<Arc<str>, PipelineError> {
        if self.stop.is_cancelled() {
            return Err(PipelineError::ShuttingDown);
        }
        let wish = wish.map(checked_name).transpose()?;
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= self.config.max_sessions {
            return Err(PipelineError::TooManySessions(sessions.len()));
        }
        let taken = |name: &str| sessions.values().any(|place| &*place.stream == name);
        let name: Arc<str> = match wish {
            Some(wish) if taken(&wish) => return Err(PipelineError::NameTaken(wish)),
            Some(wish) => wish.into(),
            None => loop {
                let name = random_name(6);
                if !taken(&name) {
                    break name.into();
                }
            },
        };
        sessions.insert(id.to_owned(), Place { stream: Arc::clone(&name), session: None });
        #[allow(clippy::cast_precision_loss)] // a handful
        gauge!("sightline_sessions").set(sessions.len() as f64);
        Ok(name)
    }

    fn remove(&self, id: &str) {
        let mut sessions = lock(&self.sessions);
        let gone = sessions.remove(id);
        #[allow(clippy::cast_precision_loss)] // a handful
        gauge!("sightline_sessions").set(sessions.len() as f64);
        drop(sessions);
        drop(gone);
    }

    fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).values().filter_map(|place| place.session.clone()).collect()
    }

    /// How each session is doing, the oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let mut all: Vec<SessionStatus> = self.all().iter().map(|session| session.status()).collect();
        all.sort_by(|a, b| a.started_ms.total_cmp(&b.started_ms));
        all
    }

    /// How each stream is doing, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamStatus> {
        let mut all: Vec<StreamStatus> = self.all().iter().map(|session| session.stream.status()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Ends a session; `false` when there is none of that id.
    #[must_use]
    pub fn end_session(&self, id: &str) -> bool {
        let session = lock(&self.sessions).get(id).and_then(|place| place.session.clone());
        session.is_some_and(|session| {
            session.stop.cancel();
            true
        })
    }

    /// What a page needs to know.
    #[must_use]
    pub fn info(&self) -> ServerInfo {
        let model = self.pool.model_info();
        ServerInfo {
            version: env!("CARGO_PKG_VERSION"),
            model: ModelSummary {
                name: model.name.to_string(),
                family: model.family.to_string(),
                labels: model.labels.iter().map(ToString::to_string).collect(),
            },
            palette: annotate::PALETTE.iter().map(ToString::to_string).collect(),
            default_confidence: self.settings.confidence,
            default_iou: self.settings.iou,
            warnings: self.warnings.clone(),
        }
    }

    /// Brings the metrics that nobody else keeps up to date.
    pub fn publish_metrics(&self) {
        for (reason, count) in self.engine.lost_datagrams() {
            counter!("sightline_datagrams_lost_total", "reason" => reason).absolute(count);
        }
        let pool = self.pool.stats();
        counter!("sightline_detector_frames_total").absolute(pool.frames);
        counter!("sightline_detector_panics_total").absolute(pool.panics);
        counter!("sightline_detector_overdue_total").absolute(pool.overdue);
        gauge!("sightline_detector_busy_seconds").set(pool.busy.as_secs_f64());
        #[allow(clippy::cast_precision_loss)] // a handful
        gauge!("sightline_detector_workers").set(pool.workers as f64);
    }

    /// The UDP port of all peers.
    #[must_use]
    pub fn udp_port(&self) -> u16 {
        self.engine.port()
    }

    /// Ends all sessions, each with a goodbye, and the pool. Nothing new is let in meanwhile.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GOODBYE_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        self.engine.stop();
        let pool = Arc::clone(&self.pool);
        if tokio::time::timeout(DETECTOR_LIMIT, tokio::task::spawn_blocking(move || pool.shutdown())).await.is_err() {
            tracing::warn!("the detector did not end in time");
        }
    }
}

/// Gives the place back unless the session came to life.
struct Reservation {
    pipeline: Arc<Pipeline>,
    id: String,
}

impl Reservation {
    fn keep(mut self) {
        self.id.clear();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.id.is_empty() {
            self.pipeline.remove(&self.id);
        }
    }
}

fn checked_name(name: String) -> Result<String, PipelineError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let reason = if name.is_empty() {
        "a name has at least one character; leave it out to be given one"
    } else if name.len() > MAX_NAME {
        "a name has at most 64 characters"
    } else if !name.chars().all(allowed) || name.starts_with('.') {
        "a name is made of letters, digits, '-', '_' and '.', and does not begin with '.'"
    } else {
        return Ok(name);
    };
    Err(PipelineError::BadName { name: name.chars().take(MAX_NAME).collect(), reason })
}

/// Letters and digits that are not mistaken for each other.
fn random_name(length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
    (0..length).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_fit_a_path_and_a_label_are_taken() {
        for good in ["cam-1", "Front_Door", "a.b"] {
            assert_eq!(checked_name(good.to_owned()).unwrap(), good);
        }
        for bad in ["", "a/b", "..", "a b", "ä", &"x".repeat(65)] {
            assert!(checked_name(bad.to_owned()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_of_ours_is_one_that_we_take(length in 1usize..40) {
            let name = random_name(length);
            prop_assert_eq!(name.len(), length);
            prop_assert!(checked_name(name).is_ok());
        }
    }
}
