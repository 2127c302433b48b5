//! A viewer and a publisher that are nothing else, as WHEP and WHIP have them: their offers go to the pipeline itself.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use sightline::media::{AccessUnit, I420Frame};
use sightline::peer::{
    Channel, Connection, ConnectionEvent, ConnectionState, Engine, Offered, PeerError, VideoOut, packetize,
};
use sightline::pipeline::{PipelineError, VideoChoice};
use sightline::source::rtp::AssemblerConfig;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::{Camera, engine, read_channel, read_video};
use super::relay::Relay;
use super::relay::link::Conditions;
use super::server::{LIMIT, Server};

/// A connected viewer.
pub struct Watcher {
    pub session: String,
    pub connection: Connection,
    #[allow(dead_code)] // few look at it; all keep it
    pub relay: Option<Relay>,
    frames: mpsc::UnboundedReceiver<AccessUnit>,
    messages: mpsc::UnboundedReceiver<Value>,
    channel: watch::Receiver<Option<Channel>>,
    _engine: Engine,
}

/// What becomes of an offer.
struct Wires {
    frames: mpsc::UnboundedReceiver<AccessUnit>,
    connected: watch::Receiver<bool>,
}

/// A player waits longer for a missing packet than this server does for a publisher's. Browsers ask ten times, a round trip apart
/// each, and for an IDR after three seconds without a picture; this is less patient than they are.
fn player() -> AssemblerConfig {
    AssemblerConfig { gap_timeout: Duration::from_millis(300), ..AssemblerConfig::default() }
}

fn wire(mut events: mpsc::Receiver<ConnectionEvent>) -> Wires {
    let (frames_in, frames) = mpsc::unbounded_channel();
    let (connected_in, connected) = watch::channel(false);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                ConnectionEvent::State(ConnectionState::Connected) => drop(connected_in.send(true)),
                ConnectionEvent::Video(video) => drop(tokio::spawn(read_video(video, frames_in.clone(), player()))),
                _ => {}
            }
        }
    });
    Wires { frames, connected }
}

async fn connected(mut connected: watch::Receiver<bool>) {
    timeout(LIMIT, connected.wait_for(|up| *up)).await.expect("no connection came about").unwrap();
}

impl Watcher {
    /// Watches without a datachannel.
    pub async fn watch(server: &Server, stream: &str, choice: Option<VideoChoice>) -> Result<Self, PipelineError> {
        let engine = engine();
        let offered = engine.offer_to_view().await.unwrap();
        let (_, messages) = mpsc::unbounded_channel();
        let channel = watch::channel(None).1;
        Self::connect(server, stream, choice, engine, offered, messages, channel, None).await
    }

    /// Watches without a datachannel over a link that is like this on the way to it.
    #[allow(dead_code)] // links are few tests' matter
    pub async fn watch_over(
        server: &Server,
        stream: &str,
        choice: Option<VideoChoice>,
        down: Conditions,
    ) -> Result<Self, PipelineError> {
        let engine = engine();
        let offered = engine.offer_to_view().await.unwrap();
        let (_, messages) = mpsc::unbounded_channel();
        let channel = watch::channel(None).1;
        let port = SocketAddr::from(([127, 0, 0, 1], server.pipeline.udp_port()));
        let relay = Relay::over(port, Conditions::clean(0), down).await;
        Self::connect(server, stream, choice, engine, offered, messages, channel, Some(relay)).await
    }

    /// Watches with a datachannel of its own, which is open when this returns.
    pub async fn watch_and_listen(
        server: &Server,
        stream: &str,
        choice: Option<VideoChoice>,
    ) -> Result<Self, PipelineError> {
        let engine = engine();
        let offered = engine.offer_to_view_with_channel().await.unwrap();
        let (messages_in, messages) = mpsc::unbounded_channel();
        let (channel_in, channel) = watch::channel(None);
        tokio::spawn(read_channel(offered.channel.clone(), messages_in, channel_in));
        let mut watcher = Self::connect(server, stream, choice, engine, offered, messages, channel, None).await?;
        timeout(LIMIT, watcher.channel.wait_for(Option::is_some)).await.expect("the channel did not open").unwrap();
        watcher.say(r#"{"type":"ping","t":0}"#).await;
        watcher.message_of("pong").await;
        Ok(watcher)
    }

    #[allow(clippy::too_many_arguments)] // what the ways to watch differ in
    async fn connect<C>(
        server: &Server,
        stream: &str,
        choice: Option<VideoChoice>,
        engine: Engine,
        offered: Offered<C>,
        messages: mpsc::UnboundedReceiver<Value>,
        channel: watch::Receiver<Option<Channel>>,
        relay: Option<Relay>,
    ) -> Result<Self, PipelineError> {
        let offer = if relay.is_some() { Relay::hide(&offered.sdp) } else { offered.sdp.clone() };
        let accepted = server.pipeline.view(stream, offer, choice).await?;
        assert_eq!(accepted.stream, stream);
        let answer = relay.as_ref().map_or_else(|| accepted.sdp.clone(), |relay| relay.put_before(&accepted.sdp));
        let answered = offered.accept(&answer).await.unwrap();
        let wires = wire(answered.events);
        connected(wires.connected).await;
        Ok(Self {
            session: accepted.session,
            connection: answered.connection,
            relay,
            frames: wires.frames,
            messages,
            channel,
            _engine: engine,
        })
    }

    /// The next frame.
    pub async fn frame(&mut self) -> AccessUnit {
        timeout(LIMIT, self.frames.recv()).await.expect("no frame came").expect("the video ended")
    }

    /// The next frames.
    pub async fn frames(&mut self, count: usize) -> Vec<AccessUnit> {
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            frames.push(self.frame().await);
        }
        frames
    }

    /// The frames that have come so far.
    pub fn frames_so_far(&mut self) -> Vec<AccessUnit> {
        std::iter::from_fn(|| self.frames.try_recv().ok()).collect()
    }

    /// The next message of a kind; those before it are passed over.
    pub async fn message_of(&mut self, kind: &str) -> Value {
        loop {
            let message = timeout(LIMIT, self.messages.recv()).await.expect("no message came");
            let message = message.expect("the channel ended");
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Says something on the datachannel.
    pub async fn say(&self, text: &str) {
        let channel = self.channel.borrow().clone().expect("a channel");
        assert!(channel.try_send(text).await.unwrap());
    }

    /// Closes the datachannel alone.
    pub async fn close_channel(&self) {
        let channel = self.channel.borrow().clone().expect("a channel");
        channel.close().await;
    }
}

/// A connected publisher.
pub struct Broadcaster {
    pub session: String,
    camera: Camera,
    out: VideoOut,
    _connection: Connection,
    _engine: Engine,
}

impl Broadcaster {
    /// Publishes the scene.
    pub async fn publish(server: &Server, stream: &str, takeover: bool) -> Result<Self, PipelineError> {
        Self::publish_sized(server, stream, takeover, (320, 240)).await
    }

    /// Publishes the scene in this size.
    pub async fn publish_sized(
        server: &Server,
        stream: &str,
        takeover: bool,
        size: (usize, usize),
    ) -> Result<Self, PipelineError> {
        let engine = engine();
        let offered = engine.offer_to_publish().await.unwrap();
        let accepted = server.pipeline.publish(stream, offered.sdp.clone(), takeover).await?;
        let mut answered = offered.accept(&accepted.sdp).await.unwrap();
        let out = answered.video_out.take().unwrap();
        let camera = Camera::new(size, &out);
        connected(wire(answered.events).connected).await;
        Ok(Self { session: accepted.session, camera, out, _connection: answered.connection, _engine: engine })
    }

    /// From the next picture on the scene is drawn by another hand.
    #[allow(dead_code)] // most tests have one scene
    pub fn draw_by(&mut self, draw: fn(usize, &mut I420Frame)) {
        self.camera.draw_by(draw);
    }

    /// Sends the scene's next picture now.
    pub async fn send(&mut self) -> Result<u32, PeerError> {
        let (timestamp, data) = self.camera.next();
        self.out.send(&packetize(&data), timestamp, None).await?;
        Ok(timestamp)
    }

    /// Sends pictures at the camera's pace of 30 a second, until the connection ends.
    pub async fn play(&mut self) {
        let mut tick = interval(Duration::from_millis(33));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.send().await.is_err() {
                return;
            }
        }
    }
}
