//! All streams and sessions of a server: what they share, how they are doing, and how everybody leaves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{counter, gauge};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cameras::Cameras;
use super::latency::LatencyReport;
use super::options::{Config, PipelineError};
use super::overload::Load;
use super::parts::{StreamOptions, StreamParts};
use super::rules::Rules;
use super::session::{Role, Session, SessionStatus};
use super::status::StreamStatus;
use super::stream::Stream;
use super::streams::{Place, StreamKind, Streams};
use super::video::lock;
use crate::annotate;
use crate::detect::{LaneModel, LaneOptions, PoolInfo, Pools};
use crate::encode;
use crate::media::KeyframeRequest;
use crate::peer::{Connection, Engine};
use crate::source::camera::CameraStatus;

/// How long sessions may take to say goodbye when the server goes, and then the detector to finish what it holds: with the
/// requests in flight, less than two seconds in all.
const GOODBYE_LIMIT: Duration = Duration::from_millis(1000);
const DETECTOR_LIMIT: Duration = Duration::from_millis(500);

/// The streams and sessions of a server, and what they share.
pub struct Pipeline {
    pub(super) engine: Engine,
    pub(super) pool: Arc<Pools>,
    pub(super) config: Config,
    pub(super) encode: encode::Config,
    warnings: Mutex<BTreeMap<&'static str, Vec<String>>>,
    pub(super) streams: Streams,
    pub(super) sessions: Sessions,
    pub(super) cameras: Cameras,
    pub(super) load: Arc<Load>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// All sessions by id. A place is taken before the session is made, so that the limits hold.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Seat>>);

struct Seat {
    role: Role,
    session: Option<Arc<Session>>,
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
    /// How each model is doing that a stream uses, that one first.
    pub models: Vec<PoolInfo>,
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

/// A stream as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// Where its pictures come from.
    pub kind: StreamKind,
    /// How it is doing.
    #[serde(flatten)]
    pub status: StreamStatus,
    /// Whether somebody publishes it now; always so for a camera.
    pub published: bool,
    /// The model that looks at it; absent while that is being loaded.
    pub model: Option<String>,
    /// Why none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_error: Option<String>,
    /// How its camera is, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraStatus>,
}

impl Sessions {
    /// Takes a place for a session of this role.
    pub(super) fn reserve(&self, id: &str, role: Role, config: &Config) -> Result<(), PipelineError> {
        let mut seats = lock(&self.0);
        let publishes = role.publishes();
        let taken = seats.values().filter(|seat| seat.role.publishes() == publishes).count();
        if publishes && taken >= config.max_sessions {
            return Err(PipelineError::TooManySessions(taken));
        }
        if !publishes && taken >= config.max_viewers {
            return Err(PipelineError::TooManyViewers(taken));
        }
        seats.insert(id.to_owned(), Seat { role, session: None });
        count(&seats);
        Ok(())
    }

    /// Puts the session into its place; `false` when the place is gone.
    pub(super) fn put(&self, session: &Arc<Session>) -> bool {
        let mut seats = lock(&self.0);
        let Some(seat) = seats.get_mut(&session.id) else { return false };
        seat.session = Some(Arc::clone(session));
        true
    }

    pub(super) fn remove(&self, id: &str) {
        let mut seats = lock(&self.0);
        let gone = seats.remove(id);
        count(&seats);
        drop(seats);
        // A connection may be closed by this.
        drop(gone);
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        lock(&self.0).get(id).and_then(|seat| seat.session.clone())
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.0).values().filter_map(|seat| seat.session.clone()).collect()
    }
}

fn count(seats: &HashMap<String, Seat>) {
    #[allow(clippy::cast_precision_loss)] // a handful
    gauge!("sightline_sessions").set(seats.len() as f64);
}

impl Pipeline {
    /// A pipeline without streams.
    #[must_use]
    pub fn new(
        engine: Engine,
        pool: Arc<Pools>,
        config: Config,
        encode: encode::Config,
        warnings: Vec<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            pool,
            config,
            encode,
            warnings: Mutex::new(BTreeMap::from([("start", warnings)])),
            streams: Streams::default(),
            sessions: Sessions::default(),
            cameras: Cameras::default(),
            load: Load::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// A stream that nobody feeds yet.
    pub(super) fn make_stream(
        &self,
        name: &str,
        keyframes: KeyframeRequest,
        lane: LaneOptions,
        options: StreamOptions,
        rules: Rules,
    ) -> Result<Arc<Stream>, PipelineError> {
        Stream::start(StreamParts {
            name: name.into(),
            pool: &self.pool,
            load: &self.load,
            lane,
            config: &Config { stream: rules, ..self.config.clone() },
            encode: &self.encode,
            keyframes,
            options,
        })
    }

    /// The names of all streams and cameras.
    #[must_use]
    pub fn stream_names(&self) -> HashSet<String> {
        let streams = self.streams.all().into_iter().map(|place| place.name().to_string());
        let cameras = self.cameras.all().into_iter().map(|camera| camera.name().to_owned());
        streams.chain(cameras).collect()
    }

    /// The load of its streams.
    #[must_use]
    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Joins the threads of a stream that is out of the registry: not on a task of the network's.
    pub(super) async fn stop_stream(&self, place: &Arc<Place>) {
        let stream = Arc::clone(&place.stream);
        if tokio::task::spawn_blocking(move || stream.stop()).await.is_err() {
            tracing::error!(stream = %place.name(), "stopping the stream failed");
        }
        publish_lost(place);
        for name in ["sightline_rtt_seconds", "sightline_loss_ratio"] {
            gauge!(name, "stream" => place.name().to_string()).set(0.0);
        }
        for direction in ["in", "out"] {
            gauge!("sightline_bitrate_bps", "stream" => place.name().to_string(), "direction" => direction).set(0.0);
        }
    }

    /// How each session is doing, the oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let mut all: Vec<SessionStatus> = self.sessions.all().iter().map(|session| session.status()).collect();
        all.sort_by(|a, b| a.started_ms.total_cmp(&b.started_ms));
        all
    }

    /// How each stream is doing, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamReport> {
        self.streams.all().iter().map(|place| self.report(place)).collect()
    }

    /// The stream of this name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.streams.get(name).map(|place| Arc::clone(&place.stream))
    }

    /// How the stream of this name is doing.
    #[must_use]
    pub fn stream_report(&self, name: &str) -> Option<StreamReport> {
        self.streams.get(name).map(|place| self.report(&place))
    }

    /// Where the time of a stream's frames went, lately; `None` without a stream of this name.
    #[must_use]
    pub fn latency(&self, name: &str) -> Option<LatencyReport> {
        self.streams.get(name).map(|place| place.stream.latency())
    }

    fn report(&self, place: &Arc<Place>) -> StreamReport {
        let camera = self.cameras.status(place.name());
        let (model, model_error) = match place.stream.model() {
            LaneModel::Loading => (None, None),
            LaneModel::Ready(info) => (Some(info.name.to_string()), None),
            LaneModel::Failed(why) => (None, Some(why.to_string())),
        };
        StreamReport {
            model,
            model_error,
            kind: place.kind,
            status: place.stream.status(),
            published: place.kind == StreamKind::Camera || place.published(),
            camera,
        }
    }

    /// The connection of a session: for what is asked of it later, as candidates and restarts of ICE.
    #[must_use]
    pub fn connection(&self, session: &str) -> Option<Arc<Connection>> {
        self.sessions.get(session).map(|session| Arc::clone(&session.connection))
    }

    /// The stream and the role of a session.
    #[must_use]
    pub fn session(&self, id: &str) -> Option<(String, Role)> {
        self.sessions.get(id).map(|session| (session.place.name().to_string(), session.role))
    }

    /// Ends a session; `false` when there is none of that id.
    #[must_use]
    pub fn end_session(&self, id: &str) -> bool {
        let session = self.sessions.get(id);
        session.is_some_and(|session| {
            session.end("the session was ended on request");
            true
        })
    }

    /// What a page needs to know.
    #[must_use]
    pub fn info(&self) -> ServerInfo {
        let (model, settings) = (self.pool.model_info(), self.pool.settings());
        ServerInfo {
            version: env!("CARGO_PKG_VERSION"),
            model: ModelSummary {
                name: model.name.to_string(),
                family: model.family.to_string(),
                labels: model.labels.iter().map(ToString::to_string).collect(),
            },
            palette: annotate::PALETTE.iter().map(ToString::to_string).collect(),
            default_confidence: settings.confidence,
            default_iou: settings.iou,
            models: self.pool.info(),
            warnings: lock(&self.warnings).values().flatten().cloned().collect(),
        }
    }

    /// What a person should know, in place of what the same part of the server said before.
    pub fn set_warnings(&self, part: &'static str, warnings: Vec<String>) {
        lock(&self.warnings).insert(part, warnings);
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
        counter!("sightline_model_loads_overdue_total").absolute(pool.loads_overdue);
        gauge!("sightline_detector_busy_seconds").set(pool.busy.as_secs_f64());
        #[allow(clippy::cast_precision_loss)] // a handful
        gauge!("sightline_detector_workers").set(pool.workers as f64);
        for info in self.pool.info() {
            counter!("sightline_detector_batched_frames_total", "model" => info.model.clone()).absolute(info.batched);
            if let Some(remote) = info.remote {
                let model = || info.model.clone();
                gauge!("sightline_remote_up", "model" => model()).set(f64::from(u8::from(remote.up)));
                counter!("sightline_remote_frames_total", "model" => model()).absolute(remote.frames);
                counter!("sightline_remote_failures_total", "model" => model()).absolute(remote.failures);
                counter!("sightline_remote_retries_total", "model" => model()).absolute(remote.retries);
                counter!("sightline_remote_fallbacks_total", "model" => model()).absolute(remote.fallbacks);
            }
        }
        self.publish_streams();
        self.cameras.publish_metrics();
    }

    /// Of each stream its state, the sum of its sessions' bitrates, and the worst round trip, loss, bandwidth and queue.
    fn publish_streams(&self) {
        let mut streams: BTreeMap<String, Network> = BTreeMap::new();
        for session in self.sessions() {
            let network = streams.entry(session.stream).or_default();
            network.bps_in += session.bitrate_in_bps;
            network.bps_out += session.bitrate_out_bps;
            network.rtt_ms = network.rtt_ms.max(session.rtt_ms.unwrap_or(0.0));
            network.loss = network.loss.max(session.loss_out.unwrap_or(0.0));
            network.queue_ms = network.queue_ms.max(session.queue_ms.unwrap_or(0.0));
            let narrowest = network.bandwidth_bps.into_iter().chain(session.bandwidth_bps);
            network.bandwidth_bps = narrowest.min_by(f64::total_cmp);
        }
        for place in self.streams.all() {
            let name = || place.name().to_string();
            let network = streams.remove(&**place.name()).unwrap_or_default();
            gauge!("sightline_bitrate_bps", "stream" => name(), "direction" => "in").set(network.bps_in);
            gauge!("sightline_bitrate_bps", "stream" => name(), "direction" => "out").set(network.bps_out);
            gauge!("sightline_rtt_seconds", "stream" => name()).set(network.rtt_ms / 1000.0);
            gauge!("sightline_loss_ratio", "stream" => name()).set(f64::from(network.loss));
            gauge!("sightline_link_queue_seconds", "stream" => name()).set(network.queue_ms / 1000.0);
            // The frame rate's gauge is set by asking.
            place.published.update(&place.stream.status(), network.bandwidth_bps);
            publish_lost(&place);
        }
    }

    /// The UDP port of all peers.
    #[must_use]
    pub fn udp_port(&self) -> u16 {
        self.engine.port()
    }

    /// Ends all sessions, each with a goodbye, all streams, and the pool. Nothing new is let in meanwhile.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GOODBYE_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some sessions or streams did not end in time");
        }
        self.engine.stop();
        let pool = Arc::clone(&self.pool);
        if tokio::time::timeout(DETECTOR_LIMIT, tokio::task::spawn_blocking(move || pool.shutdown())).await.is_err() {
            tracing::warn!("the detector did not end in time");
        }
    }
}

/// Adds the frames that a stream's viewers lost since the last time.
fn publish_lost(place: &Place) {
    let name = place.name().to_string();
    counter!("sightline_viewer_frames_lost_total", "stream" => name).increment(place.stream.take_viewer_lost());
}

/// What is summed up over the sessions of a stream.
#[derive(Default)]
struct Network {
    bps_in: f64,
    bps_out: f64,
    rtt_ms: f64,
    loss: f32,
    queue_ms: f64,
    bandwidth_bps: Option<f64>,
}
