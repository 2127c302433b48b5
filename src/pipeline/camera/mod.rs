//! One camera at work: its supervisor, what its stream is told, and when it is open.

mod banner;
mod need;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::banner::{Banner, at_first, words};
use self::need::Need;
use super::cameras::{CameraConfig, CameraReport, Origin};
use super::options::PipelineError;
use super::parts::StreamOptions;
use super::registry::Pipeline;
use super::rules::Rules;
use super::stream::Stream;
use super::streams::{Place, StreamKind, Upstream};
use super::video::lock;
use crate::detect::LaneOptions;
use crate::source::camera::{CameraEvent, CameraHealth, CameraSource, CameraState, CameraStatus, Demand, supervise};

/// How often a camera's stream is looked after.
const TICK: Duration = Duration::from_millis(500);
/// After a fault of ours the camera is left alone for this long, so that one that comes with every picture costs little.
const FAULT_PAUSE: Duration = Duration::from_secs(5);
/// What the viewers of a camera are told that is gone.
const REMOVED: &str = "the camera was removed";

/// A camera with its stream.
pub(super) struct Camera {
    name: String,
    origin: Origin,
    config: watch::Sender<CameraConfig>,
    /// Its stream; another one after a fault.
    place: Mutex<Arc<Place>>,
    health: CameraHealth,
    /// Of the smaller stream.
    detect_health: CameraHealth,
    /// A fault of ours, while the camera is left alone for it.
    fault: Mutex<Option<String>>,
    /// What holds where its configuration says nothing.
    defaults: Rules,
    stop: CancellationToken,
    counted_restarts: AtomicU64,
}

/// What to do when a camera's sources have stopped.
enum Next {
    /// Start them anew: the address is another one.
    Restart,
    /// Start them anew after a pause, for this fault.
    Pause(String),
    /// Make a new stream too after a pause: the old one failed, for this reason.
    Renew(String),
    /// Nothing: the camera is gone.
    Stop,
}

impl Camera {
    /// Makes the camera's stream and opens the camera, if it should be open.
    pub(super) fn start(
        pipeline: &Arc<Pipeline>,
        origin: Origin,
        name: String,
        config: CameraConfig,
    ) -> Result<Arc<Self>, PipelineError> {
        if pipeline.stop.is_cancelled() {
            return Err(PipelineError::ShuttingDown);
        }
        let place = open_place(pipeline, &name, &config)?;
        let camera = Arc::new(Self {
            name,
            origin,
            config: watch::Sender::new(config),
            place: Mutex::new(place),
            health: CameraHealth::new(),
            detect_health: CameraHealth::new(),
            fault: Mutex::default(),
            defaults: pipeline.config.stream.clone(),
            stop: pipeline.stop.child_token(),
            counted_restarts: AtomicU64::new(0),
        });
        let span = tracing::info_span!("camera", stream = %camera.name);
        pipeline.tasks.spawn(Arc::clone(&camera).keep(Arc::clone(pipeline)).instrument(span));
        Ok(camera)
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    pub(super) fn config(&self) -> CameraConfig {
        self.config.borrow().clone()
    }

    /// Runs it in another way from now on.
    pub(super) fn change(&self, config: CameraConfig) {
        let place = self.place();
        place.set_mode(config.mode);
        // They were checked before.
        if let (Ok(priority), Ok(zone)) = (config.lane_priority(), config.lane_zone()) {
            place.stream.set_priority(priority);
            place.stream.set_zone(zone);
            place.stream.set_rules(config.rules(&self.defaults));
        }
        self.config.send_if_modified(|now| {
            let other = *now != config;
            *now = config;
            other
        });
    }

    /// Ends the camera; its name is free at once.
    pub(super) fn remove(&self, pipeline: &Pipeline) {
        let place = lock(&self.place);
        self.stop.cancel();
        pipeline.streams.remove(&place, REMOVED);
    }

    fn place(&self) -> Arc<Place> {
        Arc::clone(&lock(&self.place))
    }

    pub(super) fn status(&self) -> CameraStatus {
        let status = self.health.status();
        match lock(&self.fault).clone() {
            Some(fault) => CameraStatus { state: CameraState::Backoff, last_error: Some(fault), ..status },
            None => status,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn report(&self) -> CameraReport {
        let config = self.config();
        CameraReport {
            name: self.name.clone(),
            origin: self.origin,
            status: self.status(),
            detect_status: config.detect_url.is_some().then(|| self.detect_health.status()),
            stream: self.place().stream.status(),
            config,
        }
    }

    pub(super) fn publish_metrics(&self) {
        let status = self.status();
        let name = || self.name.clone();
        gauge!("video_camera_status", "stream" => name()).set(number(status.state));
        let before = self.counted_restarts.swap(status.restarts, Ordering::Relaxed);
        counter!("sightline_camera_restarts_total", "stream" => name())
            .increment(status.restarts.saturating_sub(before));
        // Without a picture, or while it is disabled, there is no such time.
        let since = status.since_last_frame_ms.map_or(f64::NAN, |since| Duration::from_millis(since).as_secs_f64());
        gauge!("sightline_camera_last_frame_seconds", "stream" => name()).set(since);
    }

    /// The camera's own task.
    async fn keep(self: Arc<Self>, pipeline: Arc<Pipeline>) {
        while !self.stop.is_cancelled() {
            match self.run(&pipeline).await {
                Next::Restart => {}
                Next::Pause(fault) => {
                    tracing::error!(fault, "the camera's task failed");
                    self.pause(fault).await;
                }
                Next::Renew(why) => {
                    tracing::error!(why, "the camera's stream failed");
                    let failed = self.place();
                    pipeline.close_stream(&failed, &why).await;
                    self.pause(why).await;
                    self.renew(&pipeline);
                }
                Next::Stop => break,
            }
        }
        let place = self.place();
        pipeline.streams.remove(&place, REMOVED);
        pipeline.stop_stream(&place).await;
    }

    /// Leaves the camera alone for a while.
    async fn pause(&self, fault: String) {
        *lock(&self.fault) = Some(fault);
        tokio::select! {
            () = sleep(FAULT_PAUSE) => {}
            () = self.stop.cancelled() => {}
        }
        *lock(&self.fault) = None;
    }

    /// A new stream under the camera's name.
    fn renew(&self, pipeline: &Pipeline) {
        let mut place = lock(&self.place);
        if self.stop.is_cancelled() {
            return;
        }
        match open_place(pipeline, &self.name, &self.config.borrow()) {
            Ok(made) => *place = made,
            // The next look finds that the old one is still failed, and tries again.
            Err(error) => tracing::error!(%error, "no stream for the camera"),
        }
    }

    /// Runs the camera's sources for as long as its addresses stay the same.
    async fn run(&self, pipeline: &Pipeline) -> Next {
        let place = self.place();
        let linger = Duration::from_millis(pipeline.config.on_demand_close_ms);
        let (mut config, mut viewers) = (self.config.subscribe(), place.viewers());
        let (mut unsupported, mut states) = (place.stream.unsupported(), self.health.states());
        let mut started = config.borrow_and_update().clone();
        let mut need = Need::default();
        let first = need.update(&started, *viewers.borrow_and_update(), linger, Instant::now());
        let (demand, wanted) = watch::channel(first);
        self.set_enabled(started.enabled);
        let banner = Arc::new(Banner::default());
        banner.put_up(&place.stream, at_first(started.enabled));
        let mut sources = self.open_sources(&place.stream, &started, &wanted, &banner);
        let mut enabled = started.enabled;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = need.deadline(linger);
            tokio::select! {
                () = self.stop.cancelled() => return Next::Stop,
                Ok(()) = config.changed() => {}
                Ok(()) = viewers.changed() => {}
                Ok(()) = states.changed() => {}
                Ok(()) = unsupported.changed() => {
                    if let Some(reason) = unsupported.borrow_and_update().clone() {
                        self.health.refuse(reason);
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {}
                ended = sources.join_next() => {
                    let fault = match ended {
                        Some(Err(error)) if error.is_panic() => "an internal fault ended the connection",
                        _ => "the connection's task ended",
                    };
                    return Next::Pause(fault.to_owned());
                }
                _ = tick.tick() => {
                    if let Some(why) = place.stream.failure() {
                        return Next::Renew(why);
                    }
                }
            }
            let now = config.borrow_and_update().clone();
            // A cascade is a model; what it begins with is told to the stream that there is.
            let cascade = |config: &CameraConfig| config.rules(&self.defaults).cascade().map(|cascade| cascade.key());
            if now.model != started.model || cascade(&now) != cascade(&started) {
                started.model.clone_from(&now.model);
                started.cascade.clone_from(&now.cascade);
                let (stream, model) = (Arc::clone(&place.stream), now.model.clone());
                // Its viewers stay.
                if tokio::task::spawn_blocking(move || stream.set_model(model)).await.is_err() {
                    return Next::Renew("an internal fault ended the change of the model".to_owned());
                }
            }
            if !same_sources(&now, &started) {
                return Next::Restart;
            }
            if now.enabled != enabled {
                enabled = now.enabled;
                self.set_enabled(enabled);
                banner.put_up(&place.stream, at_first(enabled));
            }
            banner.correct(&place.stream, words(enabled, self.health.status().state));
            let next = need.update(&now, *viewers.borrow_and_update(), linger, Instant::now());
            demand.send_if_modified(|demand| {
                let other = *demand != next;
                *demand = next;
                other
            });
        }
    }

    fn open_sources(
        &self,
        stream: &Arc<Stream>,
        config: &CameraConfig,
        demand: &watch::Receiver<Demand>,
        banner: &Arc<Banner>,
    ) -> JoinSet<()> {
        let mut sources = JoinSet::new();
        let source = CameraSource { address: config.url.clone(), transport: config.transport };
        let deliver = deliver(Arc::clone(stream), Arc::clone(banner));
        sources.spawn(supervise(source, demand.clone(), self.health.clone(), deliver).in_current_span());
        if let Some(address) = &config.detect_url {
            let source = CameraSource { address: address.clone(), transport: config.transport };
            let stream = Arc::clone(stream);
            let mut failed = false;
            let deliver = move |event| match event {
                CameraEvent::Opened(_) => stream.begin_detect_epoch(),
                CameraEvent::Unit(unit) => {
                    // Without it the detector looks at the main stream.
                    if let Err(error) = stream.push_detect(unit)
                        && !std::mem::replace(&mut failed, true)
                    {
                        tracing::error!(%error, "detect_url is not used");
                    }
                }
                CameraEvent::Audio(_) | CameraEvent::Lost => {}
            };
            let span = tracing::info_span!("detect_url");
            sources.spawn(supervise(source, demand.clone(), self.detect_health.clone(), deliver).instrument(span));
        }
        sources
    }

    fn set_enabled(&self, enabled: bool) {
        self.health.set_enabled(enabled);
        self.detect_health.set_enabled(enabled);
    }
}

/// A stream of a camera under its name.
fn open_place(pipeline: &Pipeline, name: &str, config: &CameraConfig) -> Result<Arc<Place>, PipelineError> {
    let upstream = Upstream::default();
    let options = StreamOptions { detect_always: true, bridge: true, endures: true };
    if pipeline.streams.get(name).is_some() {
        return Err(PipelineError::NameTaken(name.to_owned()));
    }
    let bad = |reason| PipelineError::BadCamera { name: name.to_owned(), reason };
    let rules = config.rules(&pipeline.config.stream);
    let lane = LaneOptions {
        // The model's own, until somebody chooses others.
        settings: None,
        model: config.model.clone(),
        priority: config.lane_priority().map_err(bad)?,
        zone: config.lane_zone().map_err(bad)?,
        ..LaneOptions::default()
    };
    let stream = pipeline.make_stream(name, upstream.keyframe_request(), lane, options, rules)?;
    let place = Place::new(stream, StreamKind::Camera, config.mode, upstream);
    pipeline.streams.insert(&place, None)?;
    Ok(place)
}

/// Hands on what the camera delivers.
fn deliver(stream: Arc<Stream>, banner: Arc<Banner>) -> impl FnMut(CameraEvent) + Send {
    move |event| match event {
        CameraEvent::Opened(_) => stream.begin_epoch(),
        CameraEvent::Unit(unit) => {
            // Before an IDR nothing can be shown.
            if unit.idr {
                banner.take_down(&stream);
            }
            stream.push(unit);
        }
        CameraEvent::Audio(packet) => stream.push_audio(packet),
        CameraEvent::Lost => banner.lost(&stream),
    }
}

/// The value of `video_camera_status`.
fn number(state: CameraState) -> f64 {
    match state {
        CameraState::Disabled => 0.0,
        CameraState::Live => 1.0,
        CameraState::Connecting => 2.0,
        CameraState::Stalled => 3.0,
        CameraState::Backoff => 4.0,
        CameraState::Unauthorized => 5.0,
        CameraState::Unsupported => 6.0,
        CameraState::Idle => 7.0,
    }
}

/// Whether a camera need not be opened anew for a change.
fn same_sources(a: &CameraConfig, b: &CameraConfig) -> bool {
    a.url == b.url && a.transport == b.transport && a.detect_url == b.detect_url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_number_of_its_own() {
        let mut numbers: Vec<f64> = CameraState::ALL.into_iter().map(number).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        assert_eq!(numbers.len(), CameraState::ALL.len());
    }
}
