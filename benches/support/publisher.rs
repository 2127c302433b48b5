//! A publisher that costs next to nothing: frames encoded before the clock starts, sent at the camera's pace over real
//! WebRTC, and the ledgers that come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sightline::encode::{Config, Encoder, H264Encoder};
use sightline::media::I420Frame;
use sightline::peer::{self, Channel, ChannelEvent, ConnectionEvent, ConnectionState, Engine, packetize};

#[path = "../../tests/support/scene.rs"]
mod scene;

/// A loop of encoded pictures; the first is an IDR.
pub struct Clip {
    pub units: Vec<Bytes>,
    payloads: Vec<Vec<Bytes>>,
}

impl Clip {
    pub fn new(width: usize, height: usize, frames: usize) -> Self {
        let mut encoder = H264Encoder::new(Config::default());
        let mut units = Vec::new();
        for n in 0..frames {
            let mut picture = I420Frame::black(width, height);
            scene::draw_scene(n, width, height, picture.planes_mut());
            units.push(encoder.encode(&picture, n == 0).expect("a common size").data);
        }
        let payloads = units.iter().map(packetize).collect();
        Self { units, payloads }
    }
}

/// One frame's way through the server, in milliseconds, by its ledger.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the message came, since the start.
    pub at: Duration,
    /// Last packet in → last packet out.
    pub added: f64,
    pub encode: f64,
    pub decode: f64,
    pub age: Option<f64>,
}

pub struct Report {
    pub frames: Vec<Seen>,
    pub detections: usize,
    pub sent: usize,
    /// From the POST until connected.
    pub connected: Duration,
}

/// Publishes `clip` at `fps` for `duration` to the server at `url`.
pub async fn publish(url: &str, clip: Arc<Clip>, fps: u32, duration: Duration) -> Report {
    let engine = Engine::bind_loopback(&peer::Config { udp_port: 0, public_ip: vec![] }).expect("a UDP port");
    let offered = engine.offer().await.expect("an offer");
    let channel = offered.channel.clone();
    let start = Instant::now();
    let answer: serde_json::Value = reqwest::Client::new()
        .post(format!("{url}/offer"))
        .json(&serde_json::json!({ "sdp": offered.sdp, "type": "offer" }))
        .send()
        .await
        .expect("the server answers")
        .json()
        .await
        .expect("JSON");
    let sdp = answer["sdp"].as_str().unwrap_or_else(|| panic!("refused: {answer}"));
    let mut answered = offered.accept(sdp).await.expect("an answer that fits");
    while !matches!(
        answered.events.recv().await.expect("the connection ended"),
        ConnectionEvent::State(ConnectionState::Connected)
    ) {}
    let connected = start.elapsed();
    let mut out = answered.video_out.take().expect("video is accepted");
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read(channel, start, Arc::clone(&done)));
    // The annotated packets have to be taken, or they would pile up.
    let mut events = answered.events;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let ConnectionEvent::Video(mut video) = event {
                tokio::spawn(async move { while video.recv().await.is_some() {} });
            }
        }
    });
    let mut pace = tokio::time::interval(Duration::from_secs(1) / fps);
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < duration {
        pace.tick().await;
        let payloads = &clip.payloads[sent % clip.payloads.len()];
        let timestamp = u32::try_from(sent).expect("a short run").wrapping_mul(90_000 / fps);
        out.send(payloads, timestamp, None).await.expect("the connection stands");
        sent += 1;
    }
    done.store(true, Ordering::Relaxed);
    answered.connection.close().await;
    let (frames, detections) = reader.await.expect("the reader ends");
    engine.stop();
    Report { frames, detections, sent, connected }
}

async fn read(channel: Channel, start: Instant, done: Arc<AtomicBool>) -> (Vec<Seen>, usize) {
    let (mut frames, mut detections) = (Vec::new(), 0);
    while !done.load(Ordering::Relaxed) {
        let ChannelEvent::Message(text) = channel.recv().await else { break };
        let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        match message["type"].as_str() {
            Some("detections") => detections += 1,
            Some("frame") => {
                let ledger = &message["ledger_ms"];
                let stage = |name: &str| ledger[name].as_f64().unwrap_or(0.0);
                frames.push(Seen {
                    at: start.elapsed(),
                    added: message["server_added_ms"].as_f64().unwrap_or(f64::NAN),
                    encode: stage("encode"),
                    decode: stage("decode"),
                    age: message["age_ms"].as_f64(),
                });
            }
            _ => {}
        }
    }
    (frames, detections)
}

/// The value below which `share` of the values lie (nearest rank).
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let rank = ((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}
