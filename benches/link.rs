//! How the encode follows a link: the whole server, a client that publishes 1280×720 at 30 frames a second, and a viewer without a
//! datachannel behind a relay that is as narrow, as late and as lossy as is said. The queue is the relay's own, read there.
//!
//! ```sh
//! cargo bench --bench link             # all
//! cargo bench --bench link -- steps    # 300 kbit/s, 3 Mbit/s, 300 kbit/s
//! ```

#![allow(clippy::cast_precision_loss)] // bytes and milliseconds

use std::sync::LazyLock;
use std::time::{Duration, Instant};

#[path = "../tests/support/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../tests/support/relay.rs"]
#[allow(dead_code)]
mod relay;
#[path = "../tests/support/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "../tests/support/squares.rs"]
#[allow(dead_code)]
mod squares;
#[path = "../tests/support/watcher.rs"]
#[allow(dead_code)]
mod watcher;

use relay::link::Conditions;
use server::Server;
use sightline::media::I420Frame;
use sightline::pipeline::VideoChoice;
use tokio::task::JoinHandle;
use watcher::{Broadcaster, Watcher};

const NARROW: u64 = 300_000;
const WIDE: u64 = 3_000_000;
/// A second at the narrow rate, a tenth of one at the wide.
const QUEUE: usize = 37_500;
const PHASE: Duration = Duration::from_secs(15);

fn link(bps: u64) -> Conditions {
    Conditions { rate: Some(bps), queue: QUEUE, delay: Duration::from_millis(10), ..Conditions::clean(7) }
}

/// The scene, with a texture that moves as a whole: something that costs bits.
fn textured(n: usize, frame: &mut I420Frame) {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let coarse = |x: usize| (x / 3).wrapping_mul(2_654_435_761) >> 9 & 31;
        (0..4096).map(|x| u8::try_from(coarse(x)).unwrap_or(0)).collect()
    });
    squares::draw(n, frame);
    let width = frame.width();
    for (y, row) in frame.planes_mut().0.chunks_exact_mut(width).enumerate() {
        let noise = NOISE.iter().cycle().skip((3 * n + y / 3 * 731) % NOISE.len());
        for (sample, noise) in row.iter_mut().zip(noise).filter(|(sample, _)| **sample < 150) {
            *sample = sample.saturating_add(*noise);
        }
    }
}

/// What was seen of a time.
struct Seen {
    /// When it began.
    began: Instant,
    log: Vec<(Instant, Duration, usize)>,
    /// When pictures were there that could be shown.
    shown: Vec<Instant>,
}

impl Seen {
    /// The share of the link that was used from one second on.
    fn used(&self, from: f64, bps: u64) -> f64 {
        let begin = self.began + Duration::from_secs_f64(from);
        let bytes: usize = self.log.iter().filter(|(at, ..)| *at >= begin).map(|(.., bytes)| bytes).sum();
        let end = self.log.last().map_or(begin, |(at, ..)| *at);
        bytes as f64 * 8.0 / end.saturating_duration_since(begin).as_secs_f64() / bps as f64
    }

    /// The longest queue from one second on, in milliseconds.
    fn queue(&self, from: f64) -> f64 {
        let begin = self.began + Duration::from_secs_f64(from);
        let waits = self.log.iter().filter(|(at, ..)| *at >= begin).map(|(_, waits, _)| *waits);
        waits.max().unwrap_or_default().as_secs_f64() * 1000.0
    }

    /// When the queue was longer than 300 ms the last time, in seconds.
    fn emptied(&self) -> f64 {
        let long = self.log.iter().rfind(|(_, waits, _)| *waits > Duration::from_millis(300));
        long.map_or(0.0, |(at, ..)| at.saturating_duration_since(self.began).as_secs_f64())
    }

    /// The longest time without a new picture that ends between two seconds, in milliseconds.
    fn freeze(&self, from: f64, to: f64) -> f64 {
        let second = |at: Instant| at.saturating_duration_since(self.began).as_secs_f64();
        let gaps = self.shown.windows(2).filter(|two| (from..to).contains(&second(two[1])));
        gaps.map(|two| (two[1] - two[0]).as_secs_f64()).fold(0.0, f64::max) * 1000.0
    }

    fn dropped(&self) -> f64 {
        let dropped = self.log.iter().filter(|(.., bytes)| *bytes == 0).count();
        dropped as f64 / self.log.len().max(1) as f64 * 100.0
    }
}

async fn play(watcher: &mut Watcher, server: &Server, long: Duration) -> Seen {
    let began = Instant::now();
    let mut seen = Seen { began, log: Vec::new(), shown: Vec::new() };
    let trace = std::env::var_os("LINK_TRACE").is_some();
    while began.elapsed() < long {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let frames = watcher.frames_so_far();
        if trace {
            for frame in frames.iter().filter(|frame| frame.idr) {
                let at = frame.last_packet.saturating_duration_since(began).as_secs_f64();
                println!("          an IDR of {} bytes at {at:.2} s", frame.data.len());
            }
        }
        seen.shown.extend(frames.iter().map(|frame| frame.last_packet));
        let log = watcher.relay.as_ref().expect("a relay").log();
        if trace {
            let sessions = server.pipeline.sessions();
            let Some(session) = sessions.iter().find(|session| session.id == watcher.session) else { break };
            let shape = server.stream().renditions.first().map(|one| (one.width, one.every, one.bitrate_bps / 1000));
            let queue = log.iter().map(|(_, waits, _)| waits.as_millis()).max().unwrap_or(0);
            println!(
                "  {:5.1} s  bandwidth {:5.0} kbit/s, queue {:3.0} ms (really {queue}), out {:5.0}, {shape:?}, loss {:.2}, asked for {} IDRs",
                began.elapsed().as_secs_f64(),
                session.bandwidth_bps.unwrap_or(0.0) / 1000.0,
                session.queue_ms.unwrap_or(0.0),
                session.bitrate_out_bps / 1000.0,
                session.loss_out.unwrap_or(0.0),
                session.keyframe_requests,
            );
        }
        seen.log.extend(log);
    }
    seen
}

async fn publish(server: &Server) -> JoinHandle<()> {
    let mut publisher = Broadcaster::publish_sized(server, "scene", false, (1280, 720)).await.expect("a publisher");
    publisher.draw_by(textured);
    tokio::spawn(async move { publisher.play().await })
}

async fn watch(server: &Server, down: Conditions) -> Watcher {
    Watcher::watch_over(server, "scene", Some(VideoChoice::Annotated), down).await.expect("a viewer")
}

fn report(name: &str, seen: &Seen, bps: u64, step: bool) {
    let (at_step, later) = (seen.freeze(0.0, 2.0), seen.freeze(2.0, f64::MAX));
    println!(
        "| {name} | {:.0} % | {} | {:.0} ms | {at_step:.0} ms | {later:.0} ms | {:.1} | {:.1} % |",
        seen.used(5.0, bps) * 100.0,
        if step { format!("{:.2} s", seen.emptied()) } else { "–".to_owned() },
        seen.queue(2.0),
        seen.shown.len() as f64 / PHASE.as_secs_f64(),
        seen.dropped(),
    );
}

#[tokio::main]
async fn main() {
    let wanted = std::env::args().nth(1).filter(|wanted| !wanted.starts_with('-'));
    let wants = |name: &str| wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str()));
    println!(
        "| link | used after 5 s | queue under 300 ms after | longest after 2 s | longest freeze, first 2 s | after | fps | dropped |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    if wants("steps") {
        let server = Server::start(server::Options::default()).await;
        let playing = publish(&server).await;
        let mut watcher = watch(&server, link(NARROW)).await;
        for (name, bps, step) in
            [("300 kbit/s", NARROW, true), ("then 3 Mbit/s", WIDE, false), ("then 300 kbit/s", NARROW, true)]
        {
            watcher.relay.as_ref().expect("a relay").set_down(link(bps));
            let seen = play(&mut watcher, &server, PHASE).await;
            report(name, &seen, bps, step);
        }
        playing.abort();
        server.shutdown().await;
    }
    let rtt = Duration::from_millis(50);
    let jitter = Duration::from_millis(20);
    for (name, conditions) in [
        ("2 Mbit/s, 5 % loss", Conditions { loss: 0.05, ..link(2_000_000) }),
        ("2 Mbit/s, 50 ms there", Conditions { delay: rtt, ..link(2_000_000) }),
        ("2 Mbit/s, 20 ms jitter", Conditions { jitter, ..link(2_000_000) }),
    ] {
        if wants(name) {
            let server = Server::start(server::Options::default()).await;
            let playing = publish(&server).await;
            let mut watcher = watch(&server, conditions).await;
            let seen = play(&mut watcher, &server, PHASE).await;
            report(name, &seen, 2_000_000, false);
            playing.abort();
            server.shutdown().await;
        }
    }
}
