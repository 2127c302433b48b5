//! A WHEP viewer that takes the packets apart no further than it must: it names each frame that came whole, and keeps the
//! server's own account of it where it asked for one.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sightline::decode::VideoDecoder;
use sightline::media::{FramePool, KeyframeRequest};
use sightline::peer::{self, Channel, ChannelEvent, Connection, ConnectionEvent, Engine, VideoIn};
use sightline::source::rtp::{Assembled, Assembler, AssemblerConfig};

/// One frame that came whole.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub rtp_timestamp: u32,
    /// When its last packet was read.
    pub at: Instant,
}

/// What a viewer has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub frames: Vec<Frame>,
    /// Bytes of RTP payload.
    pub bytes: u64,
    /// Packets that never came.
    pub gaps: u64,
    /// `server_added_ms` of each `frame` message.
    pub added: Vec<f64>,
    /// Of each, how long the source took to hand the frame over, in milliseconds.
    pub queued: Vec<f64>,
    pub detections: u64,
}

pub struct Viewer {
    pub seen: Arc<Mutex<Seen>>,
    /// From the POST until the first picture was decoded.
    pub first_picture: Duration,
    /// Whether the beginning of what was sent was lost on the way, so that it had to be asked for.
    pub asked: bool,
    connection: Connection,
    engine: Engine,
}

impl Viewer {
    /// Watches `stream`; with `channel`, the messages too.
    pub async fn watch(url: &str, stream: &str, video: &str, channel: bool) -> Self {
        let engine = Engine::bind_loopback(&peer::Config { udp_port: 0, public_ip: vec![] }).expect("a UDP port");
        let address = format!("{url}/whep/{stream}?video={video}");
        let (answered, channel, start) = if channel {
            let offered = engine.offer_to_view_with_channel().await.expect("an offer");
            let (channel, start) = (offered.channel.clone(), Instant::now());
            let answer = post(&address, offered.sdp.clone()).await;
            (offered.accept(&answer).await.expect("an answer that fits"), Some(channel), start)
        } else {
            let offered = engine.offer_to_view().await.expect("an offer");
            let start = Instant::now();
            let answer = post(&address, offered.sdp.clone()).await;
            (offered.accept(&answer).await.expect("an answer that fits"), None, start)
        };
        let mut events = answered.events;
        let mut video = loop {
            match events.recv().await.expect("the connection stands") {
                ConnectionEvent::Video(video) => break video,
                _ => continue,
            }
        };
        let (first_picture, asked) = first_picture(&mut video, start).await;
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        tokio::spawn(count(video, Arc::clone(&seen)));
        if let Some(channel) = channel {
            tokio::spawn(read(channel, Arc::clone(&seen)));
        }
        Self { seen, first_picture, asked, connection: answered.connection, engine }
    }

    pub async fn leave(self) {
        self.connection.close().await;
        self.engine.stop();
    }
}

async fn post(address: &str, offer: String) -> String {
    let request = reqwest::Client::new().post(address).header("content-type", "application/sdp").body(offer);
    let response = request.send().await.expect("the server answers");
    let status = response.status();
    let text = response.text().await.expect("text");
    assert_eq!(status.as_u16(), 201, "{text}");
    text
}

async fn first_picture(video: &mut VideoIn, start: Instant) -> (Duration, bool) {
    let mut assembler = Assembler::new(AssemblerConfig::default());
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).expect("a decoder");
    let keyframes = video.keyframe_request();
    let mut asked = false;
    loop {
        let deadline = assembler.deadline();
        tokio::select! {
            packet = video.recv() => assembler.push(packet.expect("the track goes on")),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {}
        }
        while let Some(assembled) = assembler.poll(Instant::now()) {
            match assembled {
                Assembled::AccessUnit(unit) => {
                    if let Ok(Some(_)) = decoder.decode(&unit) {
                        return (start.elapsed(), asked);
                    }
                }
                // As every player does whose first packets were lost.
                Assembled::KeyframeNeeded(_) => {
                    asked = true;
                    keyframes.request();
                }
            }
        }
    }
}

async fn count(mut video: VideoIn, seen: Arc<Mutex<Seen>>) {
    let mut next: Option<u16> = None;
    while let Some(packet) = video.recv().await {
        let mut seen = seen.lock().expect("no panic");
        if let Some(next) = next {
            seen.gaps += u64::from(packet.sequence_number.wrapping_sub(next));
        }
        seen.bytes += packet.payload.len() as u64;
        next = Some(packet.sequence_number.wrapping_add(1));
        if packet.marker {
            seen.frames.push(Frame { rtp_timestamp: packet.timestamp, at: packet.arrived });
        }
    }
}

async fn read(channel: Channel, seen: Arc<Mutex<Seen>>) {
    while let ChannelEvent::Message(text) = channel.recv().await {
        let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let mut seen = seen.lock().expect("no panic");
        match message["type"].as_str() {
            Some("detections") => seen.detections += 1,
            Some("frame") => {
                seen.added.extend(message["server_added_ms"].as_f64());
                seen.queued.extend(message["ledger_ms"]["queue"].as_f64());
            }
            _ => {}
        }
    }
}
