//! One client: publishes the clip by `POST /offer`, takes the annotated frames back, and writes down when.
//!
//! It has no encoder, reads the headers of what comes back, and decodes two seconds in ten: the first, and then others that begin with
//! a keyframe that it asks for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;
use sightline::media::{KeyframeGate, KeyframeRequest};
use sightline::peer::{
    self, Answered, Channel, ChannelEvent, Connection, ConnectionEvent, ConnectionState, Engine, VideoIn, VideoOut,
};
use sightline::source::rtp::{Assembled, Assembler, AssemblerConfig};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use super::book::{Book, SentFrame};
use super::clip::Clip;
use super::relay::{self, Loss, Relay};
use super::screen::{Screen, Stretch};

/// How long a server may take to answer and to connect.
const LIMIT: Duration = Duration::from_secs(15);
/// Two seconds in ten are decoded: one frame in five.
const DECODE_EVERY: Duration = Duration::from_secs(10);
const DECODE_FOR: Duration = Duration::from_secs(2);

/// What is known of a session, shared by its tasks.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Book>>);

impl Shared {
    /// The book, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        // Each entry is written whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all sessions of a run share.
#[derive(Clone)]
pub struct Common {
    /// Where the server is: `http://host:port`.
    pub url: String,
    /// For its HTTP.
    pub http: reqwest::Client,
    /// What is sent.
    pub clip: Arc<Clip>,
    /// What is decoded goes there.
    pub screen: Screen,
}

/// A connected session.
pub struct Session {
    /// What it has seen.
    pub book: Shared,
    /// The stream's name, if the server gave it one.
    pub stream: Option<String>,
    /// From the offer until connected.
    pub connected: Duration,
    /// What stands between it and the server.
    pub relay: Option<Relay>,
    connection: Connection,
    engine: Engine,
    tasks: Vec<JoinHandle<()>>,
}

/// The part of an answer that is needed; another server may leave out the name.
#[derive(Deserialize)]
struct Answer {
    sdp: String,
    stream: Option<String>,
}

/// The part of a message that is needed.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<std::borrow::Cow<'a, str>>,
    server_added_ms: Option<f64>,
}

/// An engine of a client: each has a socket of its own, as each browser has.
pub fn engine() -> anyhow::Result<Engine> {
    Ok(Engine::bind_loopback(&peer::Config { udp_port: 0, public_ip: Vec::new() })?)
}

impl Session {
    /// Connects and begins to send. `number` staggers the sessions' decoding.
    ///
    /// # Errors
    /// With the server's own words where it refused.
    pub async fn start(common: &Common, number: usize) -> anyhow::Result<Self> {
        Self::start_over(common, number, None).await
    }

    /// The same, over a wire that loses datagrams if `loss` is given.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_over(common: &Common, number: usize, loss: Option<Loss>) -> anyhow::Result<Self> {
        let engine = engine()?;
        let offered = engine.offer().await?;
        let channel = offered.channel.clone();
        let begin = Instant::now();
        // Whoever begins DTLS begins SCTP in this stack, and a server may wait for the offering side to do so (aiortc does): we
        // say that we begin, as RFC 8842 §5.2 lets an offer do.
        let sdp = offered.sdp.replace("a=setup:actpass", "a=setup:active");
        let sdp = if loss.is_some() { relay::hidden(&sdp) } else { sdp };
        let body = serde_json::json!({ "sdp": sdp, "type": "offer" });
        let answer = timeout(LIMIT, post(common, &body.to_string())).await.context("no answer came to the offer")??;
        let (mut sdp, mut relay) = (answer.sdp, None);
        if let Some(loss) = loss {
            let wire = Relay::to(relay::server_of(&sdp)?, loss).await?;
            sdp = wire.put_before(&sdp);
            relay = Some(wire);
        }
        let mut answered = offered.accept(&sdp).await.context("the answer cannot be used")?;
        let early = timeout(LIMIT, stands(&mut answered)).await.context("no connection came about")??;
        let connected = begin.elapsed();
        let Answered { connection, events, video_out, .. } = answered;
        let out = video_out.context("the server takes no video")?;
        let (book, restart) = (Shared::default(), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&restart);
        out.on_keyframe_request(KeyframeRequest::new(move || asked.store(true, Ordering::Relaxed)));
        let stretch = Stretch::of(common.screen.clone(), book.clone());
        let tasks = vec![
            tokio::spawn(send(out, Arc::clone(&common.clip), book.clone(), restart)),
            tokio::spawn(read_messages(channel, book.clone())),
            tokio::spawn(take_events(early, events, book.clone(), Some((stretch, number)))),
        ];
        Ok(Self { book, stream: answer.stream, connected, relay, connection, engine, tasks })
    }

    /// Leaves as a page does that says goodbye.
    pub async fn close(self) {
        self.connection.close().await;
        self.tasks.iter().for_each(JoinHandle::abort);
        self.engine.stop();
    }
}

async fn post(common: &Common, body: &str) -> anyhow::Result<Answer> {
    let request = common.http.post(format!("{}/offer", common.url)).header("content-type", "application/json");
    let response = request.body(body.to_owned()).send().await?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("the server refused: {status}: {}", text.trim());
    }
    serde_json::from_str(&text).with_context(|| format!("the server's answer has no sdp: {text}"))
}

/// Waits for the connection; what else happens on it until then.
pub async fn stands(answered: &mut Answered) -> anyhow::Result<Vec<ConnectionEvent>> {
    let mut early = Vec::new();
    loop {
        match answered.events.recv().await {
            Some(ConnectionEvent::State(ConnectionState::Connected)) => return Ok(early),
            Some(ConnectionEvent::State(ConnectionState::Ended)) | None => bail!("the connection ended"),
            Some(event) => early.push(event),
        }
    }
}

/// Sends the clip over and over, at its pace, and from its beginning when the server asks for a keyframe.
async fn send(mut out: VideoOut, clip: Arc<Clip>, book: Shared, restart: Arc<AtomicBool>) {
    let period = Duration::from_secs(1) / clip.fps;
    let mut keyframes = KeyframeGate::default();
    let (mut due, mut at) = (Instant::now(), 0usize);
    for n in 0u32.. {
        sleep_until(due.into()).await;
        if restart.swap(false, Ordering::Relaxed) {
            keyframes.ask();
        }
        if at == clip.payloads.len() || (at > 0 && keyframes.take(Instant::now())) {
            at = 0;
        }
        if at == 0 {
            keyframes.on_keyframe(Instant::now());
        }
        let rtp_timestamp = n.wrapping_mul(clip.ticks());
        let (Some(payloads), Ok(number)) = (clip.payloads.get(at), u16::try_from(at)) else { return };
        book.lock().sent.push(SentFrame { rtp_timestamp, number, due, left: Instant::now() });
        if out.send(payloads, rtp_timestamp, None).await.is_err() {
            book.lock().ended.get_or_insert_with(Instant::now);
            return;
        }
        at += 1;
        due += period;
    }
}

async fn read_messages(channel: Channel, book: Shared) {
    while let ChannelEvent::Message(text) = channel.recv().await {
        // Another server may say what it likes here.
        let Ok(message) = serde_json::from_str::<Message<'_>>(&text) else { continue };
        match message.kind.as_deref() {
            Some("detections") => book.lock().detections.push(Instant::now()),
            Some("frame") => {
                book.lock().added.extend(message.server_added_ms.map(|added| (Instant::now(), added)));
            }
            _ => {}
        }
    }
}

/// Follows a connection: its video, and its end.
pub async fn take_events(
    early: Vec<ConnectionEvent>,
    mut events: mpsc::Receiver<ConnectionEvent>,
    book: Shared,
    mut decode: Option<(Stretch, usize)>,
) {
    let mut readers = Readers(Vec::new());
    let mut early = early.into_iter();
    loop {
        let event = match early.next() {
            Some(event) => event,
            None => match events.recv().await {
                Some(event) => event,
                None => return,
            },
        };
        match event {
            ConnectionEvent::Video(video) => {
                readers.0.push(tokio::spawn(read_video(video, book.clone(), decode.take())));
            }
            ConnectionEvent::State(ConnectionState::Ended) => {
                book.lock().ended.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
    }
}

/// Tasks that end with the one that has them.
struct Readers(Vec<JoinHandle<()>>);

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn read_video(mut video: VideoIn, book: Shared, decode: Option<(Stretch, usize)>) {
    let keyframes = video.keyframe_request();
    let mut assembler: Option<(Assembler, Instant)> = None;
    let Some(first) = video.recv().await else { return };
    let begin = first.arrived;
    let (mut next, mut packet) = (Some(begin), first);
    loop {
        book.lock().back.push(
            packet.sequence_number,
            packet.timestamp,
            packet.marker,
            packet.payload.len(),
            packet.arrived,
        );
        if let Some((stretch, number)) = &decode {
            let now = packet.arrived;
            if next.is_some_and(|next| now >= next) {
                stretch.begin();
                if now > begin {
                    keyframes.request();
                }
                assembler = Some((Assembler::new(AssemblerConfig::default()), now + DECODE_FOR));
                // The sessions take turns.
                let turn = if next == Some(begin) { DECODE_FOR * (*number % 5) as u32 } else { Duration::ZERO };
                next = next.map(|next| next + DECODE_EVERY + turn);
            }
            assembler = assembler.filter(|(_, until)| now < *until);
            if let Some((assembler, _)) = &mut assembler {
                assembler.push(packet);
                while let Some(assembled) = assembler.poll(now) {
                    match assembled {
                        Assembled::AccessUnit(unit) => stretch.show(unit),
                        Assembled::KeyframeNeeded(_) => keyframes.request(),
                    }
                }
            }
        }
        packet = match video.recv().await {
            Some(packet) => packet,
            None => return,
        };
    }
}
