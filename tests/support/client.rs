//! A publisher and viewer in one, as a browser is: offers over HTTP, sends a scene that it encodes itself, and takes the
//! annotated video and the messages apart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sightline::decode::VideoDecoder;
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::{AccessUnit, FramePool, I420Frame, KeyframeRequest};
use sightline::peer::{
    CHANNEL_LABEL, Channel, ChannelEvent, Config, Connection, ConnectionEvent, ConnectionState, Engine, VideoIn,
    VideoOut, packetize,
};
use sightline::source::rtp::{Assembled, Assembler, AssemblerConfig};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::relay::Relay;
use super::relay::link::Conditions;
use super::server::{LIMIT, Server};
use super::squares;

/// The first timestamp: it wraps within the first second, as any may.
pub const FIRST_TIMESTAMP: u32 = u32::MAX - 3000 * 20;
const TICKS: u32 = 3000;

/// The number of the scene's picture that was sent with this timestamp.
pub fn picture_number(rtp_timestamp: u32) -> usize {
    (rtp_timestamp.wrapping_sub(FIRST_TIMESTAMP) / TICKS) as usize
}

/// How to connect.
pub struct Options {
    /// Where the offer goes: `http://host:port`.
    pub base: String,
    pub size: (usize, usize),
    /// Through a relay to this media port.
    pub relay_to: Option<u16>,
    /// How the relay's way to the client is.
    pub down: Conditions,
    /// The label of the datachannel that the offer has.
    pub label: &'static str,
    pub stream: Option<String>,
    /// What is done to the offer on its way.
    pub munge: fn(String) -> String,
}

impl Options {
    pub fn to(server: &Server) -> Self {
        Self::at(server.base.clone())
    }

    pub fn at(base: String) -> Self {
        let (size, down) = ((320, 240), Conditions::clean(0));
        Self { base, size, relay_to: None, down, label: CHANNEL_LABEL, stream: None, munge: |offer| offer }
    }

    pub fn through_a_relay(server: &Server) -> Self {
        Self { relay_to: Some(server.pipeline.udp_port()), ..Self::to(server) }
    }
}

/// A connected client.
pub struct Client {
    pub session: String,
    pub stream: String,
    /// The server's answer.
    pub answer: String,
    /// The timestamps of the frames that were sent.
    pub sent: Vec<u32>,
    pub relay: Option<Relay>,
    frames: mpsc::UnboundedReceiver<AccessUnit>,
    messages: mpsc::UnboundedReceiver<Value>,
    channel: watch::Receiver<Option<Channel>>,
    viewer: watch::Receiver<Option<KeyframeRequest>>,
    camera: Camera,
    out: VideoOut,
    connection: Connection,
    _engine: Engine,
}

/// The scene, encoded.
pub struct Camera {
    encoder: H264Encoder,
    frame: I420Frame,
    next: usize,
    draw: fn(usize, &mut I420Frame),
    wants_idr: Arc<AtomicBool>,
}

impl Camera {
    /// A scene of this size, whose next picture is an IDR whenever the receiver of `out` asks for one.
    pub fn new((width, height): (usize, usize), out: &VideoOut) -> Self {
        let wants_idr = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&wants_idr);
        out.on_keyframe_request(KeyframeRequest::new(move || asked.store(true, Ordering::SeqCst)));
        let encoder = H264Encoder::new(encode::Config::default());
        Self { encoder, frame: I420Frame::black(width, height), next: 0, draw: squares::draw, wants_idr }
    }

    /// From the next picture on the scene is drawn by another hand.
    #[allow(dead_code)] // most tests have one scene
    pub fn draw_by(&mut self, draw: fn(usize, &mut I420Frame)) {
        self.draw = draw;
    }

    /// The next picture and its timestamp.
    pub fn next(&mut self) -> (u32, bytes::Bytes) {
        (self.draw)(self.next, &mut self.frame);
        let wanted = self.wants_idr.swap(false, Ordering::SeqCst);
        let encoded = self.encoder.encode(&self.frame, wanted).unwrap();
        let timestamp = FIRST_TIMESTAMP.wrapping_add(u32::try_from(self.next).unwrap() * TICKS);
        self.next += 1;
        (timestamp, encoded.data)
    }
}

/// Posts an offer; the status and the JSON that came back.
pub async fn post_offer(base: &str, body: &Value) -> (u16, Value) {
    let response = reqwest::Client::new().post(format!("{base}/offer")).json(body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// An engine of a client: each has a socket of its own, as each browser has.
pub fn engine() -> Engine {
    Engine::bind_loopback(&Config { udp_port: 0, public_ip: Vec::new() }).unwrap()
}

impl Client {
    /// Offers, connects, and waits until the datachannel works in both directions if the client made it.
    pub async fn connect(options: Options) -> Self {
        let engine = engine();
        let offered = engine.offer_with_channel(options.label).await.unwrap();
        let mut offer = (options.munge)(offered.sdp.clone());
        if options.relay_to.is_some() {
            offer = Relay::hide(&offer);
        }
        let body = json!({ "type": "offer", "sdp": offer, "stream": options.stream });
        let (status, answer) = post_offer(&options.base, &body).await;
        assert_eq!(status, 200, "{answer}");
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        let relay = match options.relay_to {
            Some(port) => {
                let server = SocketAddr::from(([127, 0, 0, 1], port));
                Some(Relay::over(server, Conditions::clean(0), options.down).await)
            }
            None => None,
        };
        let sdp = relay.as_ref().map_or_else(|| text("sdp"), |relay| relay.put_before(&text("sdp")));
        let own_channel = offered.channel.clone();
        let mut answered = offered.accept(&sdp).await.unwrap();

        let (frames_in, frames) = mpsc::unbounded_channel();
        let (messages_in, messages) = mpsc::unbounded_channel();
        let (channel_in, mut channel) = watch::channel(None);
        let (viewer_in, viewer) = watch::channel(None);
        let (connected_in, mut connected) = watch::channel(false);
        if options.label == CHANNEL_LABEL {
            tokio::spawn(read_channel(own_channel, messages_in.clone(), channel_in.clone()));
        }
        tokio::spawn(async move {
            while let Some(event) = answered.events.recv().await {
                match event {
                    ConnectionEvent::State(ConnectionState::Connected) => drop(connected_in.send(true)),
                    ConnectionEvent::Video(video) => {
                        let _ = viewer_in.send(Some(video.keyframe_request()));
                        tokio::spawn(read_video(video, frames_in.clone(), AssemblerConfig::default()));
                    }
                    ConnectionEvent::Channel(made) => {
                        tokio::spawn(read_channel(made, messages_in.clone(), channel_in.clone()));
                    }
                    _ => {}
                }
            }
        });
        timeout(LIMIT, connected.wait_for(|up| *up)).await.expect("no connection came about").unwrap();
        if options.label == CHANNEL_LABEL {
            timeout(LIMIT, channel.wait_for(Option::is_some)).await.expect("the channel did not open").unwrap();
        }
        let out = answered.video_out.take().unwrap();
        let mut client = Self {
            session: text("session"),
            stream: text("stream"),
            answer: text("sdp"),
            sent: Vec::new(),
            relay,
            frames,
            messages,
            channel,
            viewer,
            camera: Camera::new(options.size, &out),
            out,
            connection: answered.connection,
            _engine: engine,
        };
        if options.label == CHANNEL_LABEL {
            // From here on the server reads and writes the channel too.
            client.say(r#"{"type":"ping","t":0}"#).await;
            client.message_of("pong").await;
        }
        client
    }

    /// Sends the scene's next picture now; its timestamp.
    pub async fn send(&mut self) -> u32 {
        let (timestamp, data) = self.camera.next();
        self.out.send(&packetize(&data), timestamp, None).await.unwrap();
        self.sent.push(timestamp);
        timestamp
    }

    /// Sends `count` pictures at the camera's pace of 30 a second.
    pub async fn play(&mut self, count: usize) {
        let mut tick = interval(Duration::from_millis(33));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..count {
            tick.tick().await;
            self.send().await;
        }
    }

    /// Sends the next picture and waits until it has come back.
    pub async fn round_trip(&mut self) -> AccessUnit {
        let timestamp = self.send().await;
        self.frames_to(timestamp).await.pop().unwrap()
    }

    /// From the next picture on the scene has another size.
    pub fn resize(&mut self, width: usize, height: usize) {
        self.camera.frame = I420Frame::black(width, height);
    }

    /// From the next picture on the scene is drawn by another hand.
    #[allow(dead_code)] // most tests have one scene
    pub fn draw_by(&mut self, draw: fn(usize, &mut I420Frame)) {
        self.camera.draw = draw;
    }

    /// The next annotated frame.
    pub async fn frame(&mut self) -> AccessUnit {
        timeout(LIMIT, self.frames.recv()).await.expect("no frame came").expect("the video ended")
    }

    /// The annotated frames that came and come, up to the one with this timestamp.
    pub async fn frames_to(&mut self, timestamp: u32) -> Vec<AccessUnit> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await;
            let last = frame.rtp_timestamp == timestamp;
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// The annotated frames that have come so far.
    pub fn frames_so_far(&mut self) -> Vec<AccessUnit> {
        std::iter::from_fn(|| self.frames.try_recv().ok()).collect()
    }

    /// The next message.
    pub async fn message(&mut self) -> Value {
        timeout(LIMIT, self.messages.recv()).await.expect("no message came").expect("the channel ended")
    }

    /// The next message of a kind; those before it are passed over.
    pub async fn message_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.message().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The messages that came and come, up to the `frame` message with this timestamp.
    pub async fn messages_to(&mut self, timestamp: u32) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let message = self.message().await;
            let last = message["type"] == "frame" && message["rtp_timestamp"] == timestamp;
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// The messages that have come so far.
    pub fn messages_so_far(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.messages.try_recv().ok()).collect()
    }

    /// Says something on the datachannel.
    pub async fn say(&self, text: &str) {
        let channel = self.channel.borrow().clone().expect("a channel");
        assert!(channel.try_send(text).await.unwrap());
    }

    /// Says something and waits for the answer, a `config_ack` or an `error`.
    pub async fn ask(&mut self, message: Value) -> Value {
        self.say(&message.to_string()).await;
        loop {
            let answer = self.message().await;
            if answer["type"] == "config_ack" || answer["type"] == "error" {
                return answer;
            }
        }
    }

    /// Waits until the server has made a datachannel.
    pub async fn channel_made(&mut self) {
        timeout(LIMIT, self.channel.wait_for(Option::is_some)).await.expect("no channel came").unwrap();
    }

    /// What the server lets this publisher send, and the way to it carries, in bits a second.
    pub fn may_send(&self) -> Option<f64> {
        self.out.bandwidth().borrow().map(|bandwidth| bandwidth.bps)
    }

    /// Sends a PLI; the first frame has come before.
    pub fn ask_for_keyframe(&self) {
        self.viewer.borrow().as_ref().expect("video has come").request();
    }

    /// Leaves as a page does that says goodbye.
    pub async fn close(self) {
        self.connection.close().await;
    }
}

/// Reads access units until the video ends, but those that refer to one that never came.
pub async fn read_video(mut video: VideoIn, frames: mpsc::UnboundedSender<AccessUnit>, config: AssemblerConfig) {
    let mut assembler = Assembler::new(config);
    let mut broken = false;
    loop {
        let deadline = assembler.deadline();
        tokio::select! {
            packet = video.recv() => match packet {
                Some(packet) => assembler.push(packet),
                None => return,
            },
            () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {}
        }
        while let Some(assembled) = assembler.poll(Instant::now()) {
            match assembled {
                Assembled::AccessUnit(unit) => {
                    broken &= !unit.idr;
                    if !broken {
                        let _ = frames.send(unit);
                    }
                }
                Assembled::KeyframeNeeded(_) => {
                    broken = true;
                    video.keyframe_request().request();
                }
            }
        }
    }
}

/// Reads messages until the channel ends; tells when it is open.
pub async fn read_channel(
    channel: Channel,
    messages: mpsc::UnboundedSender<Value>,
    open: watch::Sender<Option<Channel>>,
) {
    if !channel.opened().await {
        return;
    }
    assert_eq!(channel.label().await, CHANNEL_LABEL);
    let _ = open.send(Some(channel.clone()));
    while let ChannelEvent::Message(text) = channel.recv().await {
        let _ = messages.send(serde_json::from_str(&text).expect("every message is JSON"));
    }
}

/// Decodes what came back.
pub struct Screen(VideoDecoder);

impl Screen {
    pub fn new() -> Self {
        Self(VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).unwrap())
    }

    pub fn show(&mut self, unit: &AccessUnit) -> I420Frame {
        let shown = self.0.decode(unit).unwrap().expect("each access unit is a picture");
        assert_eq!(shown.rtp_timestamp, unit.rtp_timestamp);
        shown.picture
    }
}
