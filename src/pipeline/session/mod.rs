//! A session: one peer connection that publishes a stream, watches one, or both, from the answer to the goodbye.

mod audio;
mod run;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, SystemTime};

use metrics::counter;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::streams::Place;
use super::video::lock;
use crate::peer::{Connection, NetworkStats};
use crate::sink::{MessageQueue, Standing, VideoChoice};
use crate::source::publisher::IngestCounters;

pub(super) use run::Parts;

/// What a session is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It publishes a stream and watches it (`/offer`).
    Offer,
    /// It publishes (WHIP).
    Publish,
    /// It watches (WHEP).
    View,
}

impl Role {
    /// Whether the session feeds its stream.
    pub(super) fn publishes(self) -> bool {
        self != Self::View
    }
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SessionState {
    /// Answered; ICE and DTLS are under way.
    Connecting,
    /// Connected; no video yet.
    Connected,
    /// Video flows.
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
    /// The stream that it publishes or watches.
    pub stream: String,
    /// What it is there for.
    pub role: Role,
    /// The video that it is sent; none for one that gets no video.
    pub video: Option<VideoChoice>,
    /// The video that it is sent now: `original`, `annotated`, or `plain`, an encode of the original.
    pub sent: Option<&'static str>,
    /// Why one that watches the original is sent an encode of it, where its own link is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_encoded: Option<&'static str>,
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
    /// What the way to the viewer carries, by transport-wide feedback, in bits per second with all headers; absent where the
    /// peer gives none, or nothing is sent to it.
    pub bandwidth_bps: Option<f64>,
    /// How long packets wait in a queue on the way to the viewer, in milliseconds.
    pub queue_ms: Option<f64>,
    /// What the publisher is told to send at most, in bits per second; absent for one that only watches.
    pub publish_limit_bps: Option<u32>,
    /// Packets of the publisher's that never came.
    pub packets_lost: u64,
    /// Keyframes that the viewer asked for.
    pub keyframe_requests: u64,
    /// Whether a datachannel is open.
    pub channel: bool,
    /// Messages that the channel was too slow for.
    pub messages_dropped: u64,
    /// Messages that were left out because the link is narrow.
    pub messages_thinned: u64,
}

/// Why a viewer of the original is sent an encode.
const TOO_NARROW: &str = "its link does not carry the original";

/// A session as its registry sees it.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) role: Role,
    pub(super) place: Arc<Place>,
    pub(super) connection: Arc<Connection>,
    /// The video that it is sent.
    video: Option<VideoChoice>,
    /// Ends this session.
    stop: CancellationToken,
    /// Ends all of them; `stop` hears it too.
    server_stop: CancellationToken,
    /// Why this one was ended, where somebody said so.
    why: OnceLock<String>,
    state: AtomicU8,
    started: SystemTime,
    counters: IngestCounters,
    /// Tells what it is sent.
    standing: OnceLock<Standing>,
    /// What the publisher may send, in bits a second.
    publish_limit: watch::Sender<u32>,
    messages: Arc<MessageQueue>,
    rates: Mutex<Rates>,
    counted: Counted,
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

/// What of each count has been added to its stream's, which several sessions may share.
#[derive(Debug, Default)]
struct Counted([AtomicU64; 7]);

impl Session {
    pub(super) fn new(
        id: String,
        role: Role,
        place: Arc<Place>,
        connection: Connection,
        video: Option<VideoChoice>,
        publish_limit: u32,
        server_stop: &CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            role,
            place,
            connection: Arc::new(connection),
            video,
            stop: server_stop.child_token(),
            server_stop: server_stop.clone(),
            why: OnceLock::new(),
            state: AtomicU8::new(SessionState::Connecting as u8),
            started: SystemTime::now(),
            counters: IngestCounters::default(),
            standing: OnceLock::new(),
            publish_limit: watch::Sender::new(publish_limit),
            messages: Arc::new(MessageQueue::new()),
            rates: Mutex::new(Rates { at: Instant::now(), bytes: (0, 0), bps: (0.0, 0.0) }),
            counted: Counted::default(),
        })
    }

    /// Ends the session, told `why`.
    pub(super) fn end(&self, why: &str) {
        let _ = self.why.set(why.to_owned());
        self.stop.cancel();
    }

    /// Tells the publisher to send no more than this, in bits a second, from now on.
    pub(super) fn limit_publisher(&self, bps: u32) {
        self.publish_limit.send_if_modified(|limit| std::mem::replace(limit, bps) != bps);
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
        let sending = self.standing.get().and_then(Standing::sending);
        SessionStatus {
            id: self.id.clone(),
            stream: self.place.name().to_string(),
            role: self.role,
            video: self.video,
            sent: sending.map(|sending| sending.video),
            why_encoded: sending.filter(|sending| sending.narrow).map(|_| TOO_NARROW),
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
            loss_out: stats.bandwidth.and_then(|bandwidth| bandwidth.loss).or(stats.loss),
            bandwidth_bps: stats.bandwidth.map(|bandwidth| bandwidth.bps.round()),
            queue_ms: stats.bandwidth.map(|bandwidth| bandwidth.queue.as_secs_f64() * 1000.0),
            publish_limit_bps: self.role.publishes().then(|| *self.publish_limit.borrow()),
            packets_lost: self.counters.get().lost,
            keyframe_requests: stats.keyframe_requests,
            channel: self.messages.is_open(),
            messages_dropped: self.messages.dropped(),
            messages_thinned: self.messages.thinned(),
        }
    }

    /// Adds what happened since the last time to the counters of the stream, and looks at the rates.
    fn publish_metrics(&self) {
        let stats = self.connection.stats();
        lock(&self.rates).update(Instant::now(), &stats);
        let ingest = self.counters.get();
        let totals = [
            ("sightline_packets_in_total", ingest.packets),
            ("sightline_packets_lost_total", ingest.lost),
            ("sightline_packets_late_total", ingest.late),
            ("sightline_keyframes_asked_total", ingest.keyframe_requests),
            ("sightline_keyframe_requests_in_total", stats.keyframe_requests),
            ("sightline_messages_dropped_total", self.messages.dropped()),
            ("sightline_messages_thinned_total", self.messages.thinned()),
        ];
        for ((name, total), counted) in totals.into_iter().zip(&self.counted.0) {
            let before = counted.swap(total, Ordering::Relaxed);
            counter!(name, "stream" => self.place.name().to_string()).increment(total.saturating_sub(before));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
