//! A WHIP publisher and a WHEP viewer of this crate's own parts: each an engine, an offer, and what the documents say to do
//! with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, header};
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::{AccessUnit, I420Frame, KeyframeRequest};
use sightline::peer::{
    Answered, Channel, ChannelEvent, Config, Connection, ConnectionEvent, ConnectionState, Engine, Offered, VideoOut,
    packetize,
};
use sightline::source::publisher::{IngestCounters, ingest};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use super::server::LIMIT;
use super::squares;

pub const SDP: &str = "application/sdp";
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

pub fn engine() -> Engine {
    Engine::bind_loopback(&Config { udp_port: 0, public_ip: Vec::new() }).unwrap()
}

/// A request with a body of a type.
pub fn request(method: Method, address: &str, kind: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    reqwest::Client::new().request(method, address).header(header::CONTENT_TYPE, kind).body(body)
}

pub fn post(address: &str, offer: &str) -> RequestBuilder {
    request(Method::POST, address, SDP, offer.to_owned())
}

/// A header that must be there.
pub fn told(response: &Response, name: impl header::AsHeaderName) -> String {
    response.headers().get(name).expect("the header is there").to_str().unwrap().to_owned()
}

/// What a 201 gave.
pub struct Session {
    /// The session's whole address.
    pub url: String,
}

/// What is done to an offer and to its answer on their ways.
pub struct Change {
    pub offer: fn(&str) -> String,
    pub answer: Box<dyn Fn(&str) -> String + Send>,
}

async fn signal<C>(offered: Offered<C>, base: &str, path: &str, change: Option<Change>) -> (Session, Answered) {
    let offer = change.as_ref().map_or_else(|| offered.sdp.clone(), |change| (change.offer)(&offered.sdp));
    let response = post(&format!("{base}{path}"), &offer).send().await.unwrap();
    assert_eq!(response.status(), 201, "{path}");
    let session = Session { url: format!("{base}{}", told(&response, header::LOCATION)) };
    let mut answer = response.text().await.unwrap();
    if let Some(change) = change {
        answer = (change.answer)(&answer);
    }
    let mut answered = offered.accept(&answer).await.unwrap();
    let connected = async {
        loop {
            match answered.events.recv().await.expect("the connection ended") {
                ConnectionEvent::State(ConnectionState::Connected) => return,
                ConnectionEvent::State(ConnectionState::Ended) => panic!("the connection failed"),
                _ => {}
            }
        }
    };
    timeout(LIMIT, connected).await.expect("no connection came about");
    (session, answered)
}

/// Publishes the scene of the squares.
pub struct Publisher {
    out: VideoOut,
    encoder: H264Encoder,
    frame: I420Frame,
    wants_idr: Arc<AtomicBool>,
    next: usize,
    _connection: Connection,
    _engine: Engine,
}

impl Publisher {
    /// Connects to `/whip/…`.
    pub async fn start(base: &str, path: &str) -> Self {
        let engine = engine();
        let (_, mut answered) = signal(engine.offer_to_publish().await.unwrap(), base, path, None).await;
        let out = answered.video_out.take().unwrap();
        let wants_idr = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&wants_idr);
        out.on_keyframe_request(KeyframeRequest::new(move || asked.store(true, Ordering::SeqCst)));
        Self {
            out,
            encoder: H264Encoder::new(encode::Config::default()),
            frame: I420Frame::black(320, 240),
            wants_idr,
            next: 0,
            _connection: answered.connection,
            _engine: engine,
        }
    }

    /// Sends the scene's next picture; `false` once the connection is gone.
    pub async fn send(&mut self) -> bool {
        squares::draw(self.next, &mut self.frame);
        let encoded = self.encoder.encode(&self.frame, self.wants_idr.swap(false, Ordering::SeqCst)).unwrap();
        let timestamp = u32::try_from(self.next * 3000).unwrap();
        self.next += 1;
        self.out.send(&packetize(&encoded.data), timestamp, None).await.is_ok()
    }

    /// Publishes at 30 pictures a second for as long as `until` takes.
    pub async fn while_publishing<T>(&mut self, until: impl Future<Output = T>) -> T {
        let mut until = std::pin::pin!(until);
        let mut tick = interval(Duration::from_millis(33));
        loop {
            tokio::select! {
                value = &mut until => return value,
                _ = tick.tick() => drop(self.send().await),
            }
        }
    }
}

/// Watches a stream.
pub struct Viewer {
    pub session: Session,
    /// The `detections` channel, if it was offered.
    pub channel: Option<Channel>,
    /// What became of the packets.
    pub counters: IngestCounters,
    units: mpsc::UnboundedReceiver<AccessUnit>,
    _connection: Connection,
    _engine: Engine,
}

impl Viewer {
    /// Connects to `/whep/…`.
    pub async fn start(base: &str, path: &str) -> Self {
        let engine = engine();
        let (session, answered) = signal(engine.offer_to_view().await.unwrap(), base, path, None).await;
        Self::receive(engine, session, answered, None)
    }

    /// The same, with the offer and the answer changed.
    pub async fn start_changed(base: &str, path: &str, change: Change) -> Self {
        let engine = engine();
        let (session, answered) = signal(engine.offer_to_view().await.unwrap(), base, path, Some(change)).await;
        Self::receive(engine, session, answered, None)
    }

    /// The same with a datachannel in the offer.
    pub async fn start_with_channel(base: &str, path: &str) -> Self {
        let engine = engine();
        let offered = engine.offer_to_view_with_channel().await.unwrap();
        let channel = offered.channel.clone();
        let (session, answered) = signal(offered, base, path, None).await;
        Self::receive(engine, session, answered, Some(channel))
    }

    fn receive(engine: Engine, session: Session, answered: Answered, channel: Option<Channel>) -> Self {
        let Answered { connection, mut events, .. } = answered;
        let (deliver, units) = mpsc::unbounded_channel();
        let counters = IngestCounters::default();
        let counted = counters.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let ConnectionEvent::Video(video) = event {
                    let deliver = deliver.clone();
                    tokio::spawn(ingest(video, counted.clone(), move |unit| drop(deliver.send(unit))));
                }
            }
        });
        Self { session, channel, counters, units, _connection: connection, _engine: engine }
    }

    /// The next picture.
    pub async fn unit(&mut self) -> AccessUnit {
        timeout(LIMIT, self.units.recv()).await.expect("no picture came").expect("the video ended")
    }

    /// The pictures that have come so far.
    pub fn units_so_far(&mut self) -> Vec<AccessUnit> {
        std::iter::from_fn(|| self.units.try_recv().ok()).collect()
    }

    /// The next text on the channel.
    pub async fn message(&mut self) -> String {
        let channel = self.channel.as_ref().expect("a channel was offered");
        assert!(timeout(LIMIT, channel.opened()).await.expect("the channel did not open in time"));
        match timeout(LIMIT, channel.recv()).await.expect("no message came") {
            ChannelEvent::Message(text) => text,
            ChannelEvent::Closed => panic!("the channel was closed"),
        }
    }
}
