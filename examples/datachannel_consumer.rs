//! Publishes a video file to a running server, in real time and over and over, and prints what the server detects in it.
//!
//! ```sh
//! cargo run --example datachannel_consumer -- http://127.0.0.1:8080 clip.mp4
//! ```
//!
//! A client needs no more than this: an offer with one video section and a datachannel `detections`, sent as JSON to
//! `POST /offer`, and the answer that comes back. The messages are described in `docs/schema/README.md`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use serde::Deserialize;
use serde_json::json;
use sightline::media::{KeyframeRequest, VIDEO_CLOCK_HZ};
use sightline::peer::{
    Answered, Channel, ChannelEvent, Config, ConnectionEvent, ConnectionState, Engine, Offered, VideoOut, packetize,
};
use sightline::sink::message::{DetectionsMessage, ServerMessage};
use sightline::source::file::H264File;
use sightline::source::publisher::{IngestCounters, ingest};

/// Sends a video file to a Sightline server and prints its detections.
#[derive(Parser)]
struct Args {
    /// Address of the server, as http://host:port.
    server: String,
    /// H.264 video: MP4, QuickTime or an elementary stream.
    file: PathBuf,
    /// Name of the stream [default: the server chooses one].
    #[arg(long)]
    stream: Option<String>,
    /// Print the messages as they come.
    #[arg(long)]
    json: bool,
    /// Stop after so many messages of detections [default: at Ctrl-C].
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Offer to connection: a second on the slowest of networks.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let file = H264File::open(&args.file)?;
    let engine = Engine::bind(&Config { udp_port: 0, public_ip: Vec::new() })?;
    let offered = engine.offer().await?;
    let channel = offered.channel.clone();
    let (mut answered, session) = signal(&args, offered).await?;
    tokio::time::timeout(PATIENCE, connected(&mut answered))
        .await
        .context("the server's media port did not answer")??;
    eprintln!("connected: session {session}; Ctrl-C ends it");

    let out = answered.video_out.take().context("the server takes no video")?;
    let returned = Arc::new(AtomicU64::new(0));
    let printed = tokio::select! {
        result = publish(out, file) => result.map(|()| 0),
        result = print(&channel, &args) => result,
        result = watch(&mut answered, &returned) => result.map(|()| 0),
        _ = tokio::signal::ctrl_c() => Ok(0),
    };
    answered.connection.close().await;
    engine.stop();
    eprintln!("{} annotated pictures came back", returned.load(Ordering::Relaxed));
    printed.map(|_| ())
}

/// What the server answers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Accepted { sdp: String, session: String },
    Refused { error: Refusal },
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

async fn signal(args: &Args, offered: Offered) -> anyhow::Result<(Answered, String)> {
    let url = format!("{}/offer", args.server.trim_end_matches('/'));
    let body = json!({ "type": "offer", "sdp": offered.sdp, "stream": args.stream });
    let response = reqwest::Client::new().post(&url).json(&body).send().await?;
    match response.json().await.with_context(|| format!("{url} does not answer as a Sightline server"))? {
        Answer::Accepted { sdp, session } => Ok((offered.accept(&sdp).await?, session)),
        Answer::Refused { error } => Err(anyhow!("{url} refused: {} ({})", error.message, error.code)),
    }
}

async fn connected(answered: &mut Answered) -> anyhow::Result<()> {
    while let Some(event) = answered.events.recv().await {
        match event {
            ConnectionEvent::State(ConnectionState::Connected) => return Ok(()),
            ConnectionEvent::State(ConnectionState::Ended) => break,
            _ => {}
        }
    }
    bail!("the connection failed")
}

/// Sends the file's access units when they are due, from the beginning again at its end. Never returns but with an error.
async fn publish(mut out: VideoOut, file: H264File) -> anyhow::Result<()> {
    // A file's encoder cannot be asked for a keyframe; there is one at the beginning.
    let wanted = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&wanted);
    out.on_keyframe_request(KeyframeRequest::new(move || asked.store(true, Ordering::Relaxed)));
    let frame = Duration::from_secs_f64(1.0 / file.frame_rate());
    let mut round_began = Instant::now();
    let mut timestamp_began = 0u32;
    loop {
        let mut newest = 0;
        let mut lasts = file.duration();
        for unit in file.units() {
            if wanted.swap(false, Ordering::Relaxed) && unit.decode_time > Duration::ZERO {
                lasts = unit.decode_time;
                break;
            }
            tokio::time::sleep_until((round_began + unit.decode_time).into()).await;
            newest = newest.max(unit.rtp_timestamp);
            let timestamp = timestamp_began.wrapping_add(unit.rtp_timestamp);
            out.send(&packetize(&unit.data), timestamp, None).await?;
        }
        let ticks = |time: Duration| u32::try_from(time.as_micros() * u128::from(VIDEO_CLOCK_HZ) / 1_000_000);
        // Where there are B-frames, the newest picture is shown later than the last unit was sent.
        timestamp_began = timestamp_began.wrapping_add(ticks(lasts)?.max(newest.saturating_add(ticks(frame)?)));
        round_began += lasts;
    }
}

/// Prints the messages, until there were enough of them.
async fn print(channel: &Channel, args: &Args) -> anyhow::Result<u64> {
    let mut count = 0;
    while args.count.is_none_or(|wanted| count < wanted) {
        let ChannelEvent::Message(text) = channel.recv().await else { bail!("the server closed the datachannel") };
        match serde_json::from_str(&text).with_context(|| format!("unknown message {text}"))? {
            ServerMessage::Detections(message) => {
                count += 1;
                if args.json {
                    println!("{text}");
                } else {
                    println!("{}", describe(&message));
                }
            }
            ServerMessage::Error(error) => eprintln!("the server says: {}", error.message),
            // Of each picture sent, what was drawn and how long each stage took; not asked for here.
            ServerMessage::Frame(_) | ServerMessage::ConfigAck(_) | ServerMessage::Pong(_) => {}
        }
    }
    Ok(count)
}

fn describe(message: &DetectionsMessage<'_>) -> String {
    let objects: Vec<String> = message
        .detections
        .iter()
        .map(|object| {
            let id = object.track_id.map(|id| format!(" #{id}")).unwrap_or_default();
            let [x1, y1, x2, y2] = object.bbox;
            format!("{}{id} {:.2} [{x1:.0} {y1:.0} {x2:.0} {y2:.0}]", object.class_name, object.confidence)
        })
        .collect();
    let objects = if objects.is_empty() { "nothing".to_owned() } else { objects.join(", ") };
    format!("frame {:>5}  {:>5.1} ms  {objects}", message.frame_id, message.processing_time_ms)
}

/// Counts the annotated pictures, until the connection ends.
async fn watch(answered: &mut Answered, returned: &Arc<AtomicU64>) -> anyhow::Result<()> {
    while let Some(event) = answered.events.recv().await {
        match event {
            ConnectionEvent::Video(video) => {
                let returned = Arc::clone(returned);
                tokio::spawn(ingest(video, IngestCounters::default(), move |_unit| {
                    returned.fetch_add(1, Ordering::Relaxed);
                }));
            }
            ConnectionEvent::State(ConnectionState::Ended) => break,
            _ => {}
        }
    }
    bail!("the server ended the connection")
}
