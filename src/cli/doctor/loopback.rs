//! The whole way of a picture, on this machine alone: encoded, packetised, sent over a real connection, received,
//! decoded, and compared with what was sent.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use sightline::decode::VideoDecoder;
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::{AccessUnit, FramePool, I420Frame, KeyframeRequest, Plane};
use sightline::peer::{Config, ConnectionEvent, ConnectionState, Engine, VideoOut, packetize};
use sightline::source::publisher::{IngestCounters, ingest};
use tokio::sync::mpsc;

const WIDTH: usize = 640;
const HEIGHT: usize = 480;

/// Far more than a slow machine needs.
const LIMIT: Duration = Duration::from_secs(10);

/// A picture is sent again after this long: a datagram may get lost on a loaded machine.
const AGAIN: Duration = Duration::from_millis(300);

/// How far the decoded luma may be from the one that was sent, on average: half of the step between two bars is 10.
const TOLERANCE: u64 = 4;

/// What the way took.
#[derive(Clone, Copy, Debug)]
pub struct Trip {
    /// From the offer to the connection.
    pub connect: Duration,
    /// From the picture to the decoded picture.
    pub picture: Duration,
    /// Size of the access unit.
    pub bytes: usize,
}

/// Sends one picture from an engine to another.
pub async fn run() -> anyhow::Result<Trip> {
    let config = Config { udp_port: 0, public_ip: Vec::new() };
    let (here, there) = (Engine::bind_loopback(&config)?, Engine::bind_loopback(&config)?);
    let result = tokio::time::timeout(LIMIT, send_one(&here, &there)).await;
    here.stop();
    there.stop();
    result.map_err(|_| anyhow!("no picture came through within {} s", LIMIT.as_secs()))?
}

async fn send_one(here: &Engine, there: &Engine) -> anyhow::Result<Trip> {
    let begun = Instant::now();
    let offered = here.offer().await?;
    let mut receiver = there.answer(&offered.sdp).await?;
    let mut sender = offered.accept(&receiver.sdp).await?;
    connected(&mut sender.events).await?;
    connected(&mut receiver.events).await?;
    let connect = begun.elapsed();

    let picture = bars();
    let mut encoder = H264Encoder::new(encode::Config::default());
    encoder.prewarm(WIDTH, HEIGHT)?;
    let mut out = sender.video_out.context("the answer takes no video")?;
    let (deliver, mut units) = mpsc::channel(4);
    let mut resend = tokio::time::interval(AGAIN);
    let (mut started, mut bytes, mut timestamp) = (Instant::now(), 0, 0u32);
    let unit: AccessUnit = loop {
        tokio::select! {
            _ = resend.tick() => {
                started = Instant::now();
                timestamp = timestamp.wrapping_add(3000);
                bytes = send(&mut encoder, &mut out, &picture, timestamp).await?;
            }
            event = receiver.events.recv() => match event {
                Some(ConnectionEvent::Video(video)) => {
                    let deliver = deliver.clone();
                    // One unit is all that is wanted; a second finds nobody, and that is well.
                    tokio::spawn(ingest(video, IngestCounters::default(), move |unit| drop(deliver.try_send(unit))));
                }
                Some(ConnectionEvent::State(ConnectionState::Ended)) | None => bail!("the connection ended"),
                Some(_) => {}
            },
            Some(unit) = units.recv() => break unit,
        }
    };
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored())?;
    let decoded = decoder.decode(&unit)?.context("the decoder gave no picture")?;
    let trip = Trip { connect, picture: started.elapsed(), bytes };
    compare(&picture, &decoded.picture)?;
    sender.connection.close().await;
    receiver.connection.close().await;
    Ok(trip)
}

async fn connected(events: &mut mpsc::Receiver<ConnectionEvent>) -> anyhow::Result<()> {
    loop {
        match events.recv().await {
            Some(ConnectionEvent::State(ConnectionState::Connected)) => return Ok(()),
            Some(ConnectionEvent::State(ConnectionState::Ended)) | None => bail!("the connection ended"),
            Some(_) => {}
        }
    }
}

async fn send(
    encoder: &mut H264Encoder,
    out: &mut VideoOut,
    picture: &I420Frame,
    timestamp: u32,
) -> anyhow::Result<usize> {
    let encoded = encoder.encode(picture, true)?;
    out.send(&packetize(&encoded.data), timestamp, None).await?;
    Ok(encoded.data.len())
}

/// Eight upright bars from dark to bright.
fn bars() -> I420Frame {
    let mut picture = I420Frame::black(WIDTH, HEIGHT);
    let (luma, _, _) = picture.planes_mut();
    for row in luma.chunks_exact_mut(WIDTH) {
        for (x, sample) in row.iter_mut().enumerate() {
            *sample = u8::try_from(40 + x * 8 / WIDTH * 20).unwrap_or(u8::MAX);
        }
    }
    picture
}

fn compare(sent: &I420Frame, got: &I420Frame) -> anyhow::Result<()> {
    let size = |frame: &I420Frame| (frame.width(), frame.height());
    ensure!(size(sent) == size(got), "the picture came back as {:?} pixels", size(got));
    let (ours, theirs) = (sent.plane(Plane::Y), got.plane(Plane::Y));
    let total: u64 = ours.iter().zip(theirs).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    let mean = total / (WIDTH * HEIGHT) as u64;
    ensure!(mean <= TOLERANCE, "the picture came back as another: its luma is off by {mean} on average");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_picture_makes_the_whole_way() {
        let trip = run().await.unwrap();
        assert!(trip.bytes > 100, "{trip:?}");
    }

    #[test]
    fn another_picture_is_noticed() {
        assert!(compare(&bars(), &bars()).is_ok());
        assert!(compare(&bars(), &I420Frame::black(WIDTH, HEIGHT)).unwrap_err().to_string().contains("another"));
        assert!(compare(&bars(), &I420Frame::black(64, 48)).unwrap_err().to_string().contains("64"));
    }
}
