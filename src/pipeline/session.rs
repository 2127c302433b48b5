//! A session: one peer connection that publishes a stream and gets it back annotated, from the answer to the goodbye.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use metrics::{counter, gauge};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::stream::Stream;
use super::video::lock;
use crate::media::KeyframeRequest;
use crate::peer::{
    AudioIn, AudioOut, CHANNEL_LABEL, Channel, Connection, ConnectionEvent, ConnectionState, NetworkStats, VideoIn,
    VideoOut,
};
use crate::sink::message::{ErrorCode, ErrorMessage, MessageError};
use crate::sink::{MessageQueue, VideoChoice, serve_channel, serve_viewer};
use crate::source::publisher::{IngestCounters, ingest};

/// How long after SCTP came up the client may take to make the channel, before we do.
const CHANNEL_GRACE: Duration = Duration::from_millis(500);
/// An answered offer that leads to no connection in this time is given up.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How often a session looks after itself.
const TICK: Duration = Duration::from_millis(250);
/// How long the connection stays up for the goodbye to leave: the stack tells nobody when a message has, and closing takes
/// with it what still waits.
const FAREWELL: Duration = Duration::from_millis(50);
/// How long the goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(100);

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SessionState {
    /// Answered; ICE and DTLS are under way.
    Connecting,
    /// Connected; no video yet.
    Connected,
    /// Video comes in.
    Live,
    /// Nothing comes at the moment.
    Disconnected,
}

impl SessionState {
    fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Connected,
            2 => Self::Live,
            3 => Self::Disconnected,
            _ => Self::Connecting,
        }
    }
}

/// How a session is doing, for the API.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// Its id.
    pub id: String,
    /// The stream that it publishes.
    pub stream: String,
    /// Where it is in its life.
    pub state: SessionState,
    /// When it began, as Unix time in milliseconds.
    pub started_ms: f64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bits per second received, over the last second.
    pub bitrate_in_bps: f64,
    /// Bits per second sent, over the last second.
    pub bitrate_out_bps: f64,
    /// Round trip to the peer, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The share of our packets that the peer lost lately, 0 to 1.
    pub loss_out: Option<f32>,
    /// Packets of the publisher's that never came.
    pub packets_lost: u64,
    /// Keyframes that the viewer asked for.
    pub keyframe_requests: u64,
    /// Whether a datachannel is open.
    pub channel: bool,
    /// Messages that the channel was too slow for.
    pub messages_dropped: u64,
}

/// A session as its registry sees it.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) stream: Arc<Stream>,
    /// Ends this session.
    pub(super) stop: CancellationToken,
    /// Ends all of them; `stop` hears it too.
    server_stop: CancellationToken,
    connection: Connection,
    state: AtomicU8,
    started: SystemTime,
    counters: IngestCounters,
    messages: Arc<MessageQueue>,
    rates: Mutex<Rates>,
}

#[derive(Clone, Copy, Debug)]
struct Rates {
    at: Instant,
    bytes: (u64, u64),
    bps: (f64, f64),
}

impl Rates {
    /// Takes the counts of about each second.
    fn update(&mut self, now: Instant, stats: &NetworkStats) {
        let took = now.saturating_duration_since(self.at).as_secs_f64();
        if took >= 1.0 {
            #[allow(clippy::cast_precision_loss)] // a second's bytes
            let bps = |now: u64, before: u64| now.saturating_sub(before) as f64 * 8.0 / took;
            self.bps = (bps(stats.bytes_in, self.bytes.0), bps(stats.bytes_out, self.bytes.1));
            self.bytes = (stats.bytes_in, stats.bytes_out);
            self.at = now;
        }
    }
}

/// What the session's task works with.
pub(super) struct Parts {
    pub(super) events: mpsc::Receiver<ConnectionEvent>,
    pub(super) video_out: Option<VideoOut>,
    pub(super) audio_out: Option<AudioOut>,
    pub(super) channel_possible: bool,
    /// Where the stream's keyframe requests go once the video is there.
    pub(super) publisher: Publisher,
    pub(super) silence: Duration,
}

/// A keyframe request that can be handed out before the track that serves it has come.
#[derive(Clone, Default)]
pub(super) struct Publisher(Arc<Mutex<Option<KeyframeRequest>>>);

impl Publisher {
    pub(super) fn keyframe_request(&self) -> KeyframeRequest {
        let publisher = self.clone();
        KeyframeRequest::new(move || {
            if let Some(request) = lock(&publisher.0).as_ref() {
                request.request();
            }
        })
    }

    fn set(&self, request: KeyframeRequest) {
        *lock(&self.0) = Some(request);
    }
}

impl Session {
    pub(super) fn new(
        id: String,
        stream: Arc<Stream>,
        connection: Connection,
        server_stop: &CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            stream,
            stop: server_stop.child_token(),
            server_stop: server_stop.clone(),
            connection,
            state: AtomicU8::new(SessionState::Connecting as u8),
            started: SystemTime::now(),
            counters: IngestCounters::default(),
            messages: Arc::new(MessageQueue::new()),
            rates: Mutex::new(Rates { at: Instant::now(), bytes: (0, 0), bps: (0.0, 0.0) }),
        })
    }

    fn state(&self) -> SessionState {
        SessionState::from_u8(self.state.load(Ordering::Relaxed))
    }

    fn set_state(&self, state: SessionState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> SessionStatus {
        let stats = self.connection.stats();
        let rates = *lock(&self.rates);
        SessionStatus {
            id: self.id.clone(),
            stream: self.stream.name().to_string(),
            state: self.state(),
            started_ms: self
                .started
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0.0, |since| since.as_secs_f64() * 1000.0),
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            bitrate_in_bps: rates.bps.0,
            bitrate_out_bps: rates.bps.1,
            rtt_ms: stats.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
            loss_out: stats.loss,
            packets_lost: self.counters.get().lost,
            keyframe_requests: stats.keyframe_requests,
            channel: self.messages.is_open(),
            messages_dropped: self.messages.dropped(),
        }
    }

    /// Runs the session to its end, and says why it ended.
    pub(super) async fn run(self: Arc<Self>, parts: Parts) -> String {
        let Parts { mut events, video_out, mut audio_out, channel_possible, publisher, silence } = parts;
        let mut tasks = JoinSet::new();
        let left = Arc::new(Notify::new());
        if let Some(out) = video_out {
            self.serve_video(out, &mut tasks);
        }
        let born = Instant::now();
        let mut connected_at = None;
        let mut make_channel_at = None;
        let mut channel: Option<Channel> = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let why = loop {
            tokio::select! {
                () = self.stop.cancelled() => {
                    let going = self.server_stop.is_cancelled();
                    break if going { "the server is shutting down" } else { "the session was ended on request" }.to_owned();
                }
                () = left.notified() => break "the peer closed its channel".to_owned(),
                event = events.recv() => match event {
                    Some(ConnectionEvent::Video(video)) => {
                        self.set_state(SessionState::Live);
                        publisher.set(video.keyframe_request());
                        self.serve_ingest(video, &mut tasks);
                    }
                    Some(ConnectionEvent::Audio(audio)) => {
                        if let Some(out) = audio_out.take() {
                            tasks.spawn(echo(audio, out));
                        }
                    }
                    Some(ConnectionEvent::Channel(made)) if made.label().await == CHANNEL_LABEL && channel.is_none() => {
                        make_channel_at = None;
                        self.serve_channel(made.clone(), &left, &mut tasks);
                        channel = Some(made);
                    }
                    Some(ConnectionEvent::Channel(_)) => {}
                    Some(ConnectionEvent::State(ConnectionState::Connected)) => {
                        if connected_at.is_none() {
                            connected_at = Some(Instant::now());
                            if channel_possible && channel.is_none() {
                                make_channel_at = Some(Instant::now() + CHANNEL_GRACE);
                            }
                        }
                        self.set_state(SessionState::Connected);
                    }
                    Some(ConnectionEvent::State(ConnectionState::Disconnected)) => {
                        self.set_state(SessionState::Disconnected);
                    }
                    Some(ConnectionEvent::State(ConnectionState::Ended)) | None => {
                        break "the connection was lost".to_owned();
                    }
                },
                () = sleep_until(make_channel_at.unwrap_or(born).into()), if make_channel_at.is_some() => {
                    make_channel_at = None;
                    match self.connection.create_channel().await {
                        Ok(made) => {
                            self.serve_channel(made.clone(), &left, &mut tasks);
                            channel = Some(made);
                        }
                        Err(error) => tracing::debug!(%error, "no datachannel"),
                    }
                }
                _ = tick.tick() => {
                    self.publish_metrics();
                    if let Some(why) = self.stream.failure() {
                        break why;
                    }
                    match connected_at {
                        None if born.elapsed() > CONNECT_LIMIT => {
                            break "no connection came about (is UDP open?)".to_owned();
                        }
                        Some(connected) => {
                            let heard = self.connection.last_rtp().unwrap_or(connected).max(connected);
                            if heard.elapsed() > silence {
                                break format!("no media for {} ms", silence.as_millis());
                            }
                            if self.connection.last_rtp().is_some() {
                                self.set_state(SessionState::Live);
                            }
                        }
                        None => {}
                    }
                }
            }
        };
        self.close(channel, &why).await;
        tasks.shutdown().await;
        why
    }

    async fn close(&self, channel: Option<Channel>, why: &str) {
        if let Some(channel) = channel
            && self.messages.is_open()
        {
            let going = self.server_stop.is_cancelled();
            let code = if going { ErrorCode::ShuttingDown } else { ErrorCode::SessionEnded };
            let goodbye = MessageError::new(None, code, why);
            let text = ErrorMessage::from(goodbye).to_json();
            let _ = timeout(GOODBYE_LIMIT, channel.try_send(&text)).await;
            sleep(FAREWELL).await;
            let _ = timeout(GOODBYE_LIMIT, channel.close()).await;
        }
        self.connection.close().await;
        let stream = Arc::clone(&self.stream);
        // Joining the video thread takes a frame's time: not on a task of the network's.
        let stopped = tokio::task::spawn_blocking(move || stream.stop()).await;
        if stopped.is_err() {
            tracing::error!("stopping the stream failed");
        }
        let stream = self.stream.name().to_string();
        for (name, value) in [("sightline_rtt_seconds", 0.0), ("sightline_loss_ratio", 0.0)] {
            gauge!(name, "stream" => stream.clone()).set(value);
        }
    }

    fn serve_video(&self, out: VideoOut, tasks: &mut JoinSet<()>) {
        let feed = self.stream.watch(VideoChoice::Annotated);
        out.on_keyframe_request(feed.keyframe_request());
        let stream = Arc::clone(&self.stream);
        let name = Arc::clone(stream.name());
        let messages = Arc::clone(&self.messages);
        let serve = async move {
            serve_viewer(feed, out, name, messages, move |frame, ledger| stream.frame_sent(frame, ledger)).await;
        };
        tasks.spawn(serve.in_current_span());
    }

    fn serve_ingest(&self, video: VideoIn, tasks: &mut JoinSet<()>) {
        let (stream, counters) = (Arc::clone(&self.stream), self.counters.clone());
        tasks.spawn(ingest(video, counters, move |unit| stream.push(unit)).in_current_span());
    }

    fn serve_channel(&self, channel: Channel, left: &Arc<Notify>, tasks: &mut JoinSet<()>) {
        let (results, reading) = self.stream.results();
        let stream = Arc::clone(&self.stream);
        let (name, messages, left) = (Arc::clone(stream.name()), Arc::clone(&self.messages), Arc::clone(left));
        tasks.spawn(
            async move {
                serve_channel(channel, name, messages, results, |change| stream.configure(change)).await;
                drop(reading);
                left.notify_one();
            }
            .in_current_span(),
        );
    }

    fn publish_metrics(&self) {
        let stats = self.connection.stats();
        let mut rates = lock(&self.rates);
        rates.update(Instant::now(), &stats);
        let (bps_in, bps_out) = rates.bps;
        drop(rates);
        let stream = self.stream.name();
        let label = || stream.to_string();
        gauge!("sightline_bitrate_bps", "stream" => label(), "direction" => "in").set(bps_in);
        gauge!("sightline_bitrate_bps", "stream" => label(), "direction" => "out").set(bps_out);
        if let Some(rtt) = stats.rtt {
            gauge!("sightline_rtt_seconds", "stream" => label()).set(rtt.as_secs_f64());
        }
        if let Some(loss) = stats.loss {
            gauge!("sightline_loss_ratio", "stream" => label()).set(f64::from(loss));
        }
        let ingest = self.counters.get();
        for (name, total) in [
            ("sightline_packets_in_total", ingest.packets),
            ("sightline_packets_lost_total", ingest.lost),
            ("sightline_packets_late_total", ingest.late),
            ("sightline_keyframes_asked_total", ingest.keyframe_requests),
            ("sightline_keyframe_requests_in_total", stats.keyframe_requests),
            ("sightline_messages_dropped_total", self.messages.dropped()),
            ("sightline_viewer_frames_lost_total", self.stream.viewer_lost()),
        ] {
            counter!(name, "stream" => label()).absolute(total);
        }
        // Sets the frame rate's gauge too.
        let _ = self.stream.status();
    }
}

async fn echo(mut audio: AudioIn, mut out: AudioOut) {
    while let Some(packet) = audio.recv().await {
        if out.send(packet).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bits_of_the_time_that_passed() {
        let start = Instant::now();
        let mut rates = Rates { at: start, bytes: (0, 0), bps: (0.0, 0.0) };
        let stats = NetworkStats { bytes_in: 1000, bytes_out: 500, ..NetworkStats::default() };
        rates.update(start + Duration::from_millis(100), &stats);
        assert!(rates.bps.0.abs() < f64::EPSILON, "too early to say");
        rates.update(start + Duration::from_secs(2), &stats);
        assert!((rates.bps.0 - 4000.0).abs() < 1e-6 && (rates.bps.1 - 2000.0).abs() < 1e-6);
    }

    #[test]
    fn states_survive_being_stored() {
        for state in [SessionState::Connecting, SessionState::Connected, SessionState::Live, SessionState::Disconnected]
        {
            assert_eq!(SessionState::from_u8(state as u8), state);
        }
    }

    #[test]
    fn a_keyframe_request_waits_for_its_publisher() {
        let publisher = Publisher::default();
        let request = publisher.keyframe_request();
        request.request();
        let (asked, seen) = std::sync::mpsc::channel();
        publisher.set(KeyframeRequest::new(move || asked.send(()).unwrap()));
        request.request();
        assert!(seen.try_recv().is_ok());
    }
}
