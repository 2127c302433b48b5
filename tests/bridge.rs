//! The bridge from end to end: GStreamer's RTSP server on one side, WHEP viewers of ours on the other, and between them a camera
//! that dies and freezes, or a link that loses packets.

#[path = "support/camera.rs"]
mod camera;
#[path = "support/plate.rs"]
mod plate;
#[path = "support/relay.rs"]
#[allow(dead_code)] // other tests speak into it
mod relay;
#[path = "support/server.rs"]
#[allow(dead_code)] // other tests look closer at the sessions
mod server;
#[path = "support/squares.rs"]
#[allow(dead_code)] // the publisher draws it
mod squares;
#[path = "support/whip.rs"]
#[allow(dead_code)] // other tests publish
mod whip;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camera::Camera;
use plate::has_banner;
use relay::Relay;
use relay::link::{Conditions, Link};
use server::{LIMIT, Options, Server, until};
use sightline::decode::VideoDecoder;
use sightline::media::{AccessUnit, FramePool, I420Frame, KeyframeRequest};
use sightline::pipeline::{CameraConfig, CameraReport};
use sightline::source::camera::CameraState;
use whip::{Change, Viewer};

const CHOICES: [&str; 2] = ["annotated", "original"];

/// The server with a camera `yard`, whose pictures come.
async fn watching(camera: &Camera) -> Server {
    let server = Server::start(Options::default()).await;
    server.pipeline.add_camera("yard", CameraConfig::at(camera.url("", "live").parse().unwrap())).unwrap();
    until("the camera is live", || report(&server).stream.frames_decoded > 10).await;
    server
}

fn report(server: &Server) -> CameraReport {
    server.pipeline.camera("yard").expect("the camera")
}

fn path(choice: &str) -> String {
    format!("/whep/yard?video={choice}")
}

/// A viewer and what it sees: each unit must be a picture, and later than all before.
struct Watching {
    choice: &'static str,
    viewer: Viewer,
    decoder: VideoDecoder,
    last: Option<u32>,
    /// When the last packet of the newest picture came.
    newest: Instant,
}

impl Watching {
    async fn start(server: &Server, choice: &'static str) -> Self {
        Self::of(choice, Viewer::start(&server.base, &path(choice)).await)
    }

    fn of(choice: &'static str, viewer: Viewer) -> Self {
        let decoder = VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored());
        Self { choice, viewer, decoder, last: None, newest: Instant::now() }
    }

    async fn picture(&mut self) -> I420Frame {
        let unit = self.viewer.unit().await;
        self.newest = unit.last_packet;
        self.show(&unit)
    }

    fn show(&mut self, unit: &AccessUnit) -> I420Frame {
        if let Some(last) = self.last.replace(unit.rtp_timestamp) {
            assert!((1..1 << 31).contains(&unit.rtp_timestamp.wrapping_sub(last)), "{}: time goes on", self.choice);
        }
        let shown = self.decoder.decode(unit).unwrap_or_else(|error| panic!("{}: {error}", self.choice));
        shown.expect("each unit is a picture").picture
    }

    /// Looks on until a picture has the banner, or until one has none; when it came.
    async fn until_banner(&mut self, banner: bool) -> Instant {
        let begun = Instant::now();
        while has_banner(&self.picture().await) != banner {
            assert!(
                begun.elapsed() < LIMIT,
                "{}: no picture {} banner",
                self.choice,
                if banner { "with" } else { "without" }
            );
        }
        self.newest
    }

    /// Looks on for some pictures, all of them live.
    async fn live(&mut self, count: usize) {
        for _ in 0..count {
            assert!(!has_banner(&self.picture().await), "{}", self.choice);
        }
    }
}

/// Waits until the camera's pictures reach the server again; when that was.
async fn pictures_again(server: &Server, before: u64) -> Instant {
    until("the camera's pictures come again", || report(server).stream.frames_in > before).await;
    Instant::now()
}

/// What is done to a camera.
type Act = fn(&mut Camera);

/// Through an outage that `begin` makes and `end` ends: everybody stays, sees why, and sees the live picture again no later than
/// `limit` after the first picture that reached the server.
async fn outage(
    camera: &mut Camera,
    server: &Server,
    viewers: &mut [Watching],
    (begin, end): (Act, Act),
    limit: Duration,
) {
    for viewer in &mut *viewers {
        viewer.live(5).await;
    }
    let sessions: Vec<String> = server.pipeline.sessions().into_iter().map(|session| session.id).collect();
    begin(camera);
    for viewer in &mut *viewers {
        viewer.until_banner(true).await;
    }
    assert!(report(server).stream.no_signal.is_some() && report(server).status.state != CameraState::Live);
    // And it goes on: there is more than one.
    for viewer in &mut *viewers {
        assert!(has_banner(&viewer.picture().await), "{}", viewer.choice);
    }
    let before = report(server).stream.frames_in;
    end(camera);
    let back = pictures_again(server, before).await;
    for viewer in &mut *viewers {
        let live = viewer.until_banner(false).await.saturating_duration_since(back);
        println!("{}: live {} ms after the camera", viewer.choice, live.as_millis());
        assert!(live < limit, "{}: live only after {live:?}", viewer.choice);
    }
    for viewer in &mut *viewers {
        viewer.live(20).await;
    }
    let now: Vec<String> = server.pipeline.sessions().into_iter().map(|session| session.id).collect();
    assert_eq!(now, sessions, "the connections are those that they were");
    until("the state is live again", || report(server).status.state == CameraState::Live).await;
}

const LIVE: &str = "live:h264,size=320x240,pattern=smpte";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_stay_through_a_cameras_death_and_see_it_live_within_a_second_of_its_return() {
    let mut camera = Camera::start(&[LIVE]);
    let server = watching(&camera).await;
    let mut viewers = Vec::new();
    for choice in CHOICES {
        viewers.push(Watching::start(&server, choice).await);
    }
    // A camera that is started anew begins with an IDR.
    outage(&mut camera, &server, &mut viewers, (Camera::kill, Camera::restart), Duration::from_secs(1)).await;
    outage(&mut camera, &server, &mut viewers, (Camera::kill, Camera::restart), Duration::from_secs(1)).await;
    assert_eq!(report(&server).status.restarts, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_stay_while_a_camera_is_frozen_and_see_it_live_when_it_thaws() {
    let mut camera = Camera::start(&[&format!("{LIVE},gop=15")]);
    let server = watching(&camera).await;
    let mut viewers = Vec::new();
    for choice in CHOICES {
        viewers.push(Watching::start(&server, choice).await);
    }
    // One that went on meanwhile may be in the middle of its group of half a second; a second after its first IDR.
    let limit = Duration::from_millis(1500);
    outage(&mut camera, &server, &mut viewers, (|camera| camera.freeze(), |camera| camera.thaw()), limit).await;
}

/// A path to the server's media over a link that loses one of twenty datagrams in both directions.
async fn over_a_bad_link(server: &Server, choice: &'static str, seed: u64) -> (Watching, Arc<Relay>) {
    let bad = |seed| Conditions {
        rate: Some(10_000_000),
        queue: 128 << 10,
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(10),
        loss: 0.05,
        reorder: 0.01,
        ..Conditions::clean(seed)
    };
    let media = SocketAddr::from(([127, 0, 0, 1], server.pipeline.udp_port()));
    let relay = Arc::new(Relay::over(media, bad(seed), bad(seed + 1)).await);
    let before = Arc::clone(&relay);
    let change = Change { offer: Relay::hide, answer: Box::new(move |answer| before.put_before(answer)) };
    let viewer = Viewer::start_changed(&server.base, &path(choice), change).await;
    (Watching::of(choice, viewer), relay)
}

/// The units of a viewer by their timestamps, and how they came.
fn by_timestamp(units: &[AccessUnit]) -> HashMap<u32, &AccessUnit> {
    units.iter().map(|unit| (unit.rtp_timestamp, unit)).collect()
}

/// The longest step between two units, in seconds of the stream's time.
fn longest_step(units: &[AccessUnit]) -> f64 {
    let steps = units.windows(2).map(|pair| pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp));
    f64::from(steps.max().expect("units")) / 90_000.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_loses_packets_recovers_each_time_and_costs_the_one_beside_it_nothing() {
    let camera = Camera::start(&[&format!("{LIVE},bitrate=600")]);
    let server = watching(&camera).await;
    for (choice, seed) in CHOICES.into_iter().zip([11, 23]) {
        let mut clean = Watching::start(&server, choice).await;
        let (mut lossy, relay) = over_a_bad_link(&server, choice, seed).await;
        for viewer in [&mut clean, &mut lossy] {
            viewer.picture().await;
        }
        let (mut whole, mut patched) = (Vec::new(), Vec::new());
        for outage in 0..3 {
            for _ in 0..60 {
                whole.push(clean.viewer.unit().await);
            }
            // What is lost for longer than a packet is waited for is not mended by repetition.
            relay.cut();
            for _ in 0..12 {
                whole.push(clean.viewer.unit().await);
            }
            patched.extend(lossy.viewer.units_so_far());
            relay.mend();
            // It comes back by itself, each time.
            patched.push(lossy.viewer.unit().await);
            println!("{choice}: outage {outage} is over");
        }
        for _ in 0..60 {
            whole.push(clean.viewer.unit().await);
        }
        patched.extend(lossy.viewer.units_so_far());
        let counters = lossy.viewer.counters.get();
        println!(
            "{choice}: {:.1} % lost on the way; clean {} units, lossy {}; {} packets lost for good, {} keyframes asked for",
            relay.loss() * 100.0,
            whole.len(),
            patched.len(),
            counters.lost,
            counters.keyframe_requests,
        );
        assert!((0.02..0.08).contains(&relay.loss()), "the link is as bad as it should be: {}", relay.loss());
        assert!(counters.lost > 0 && counters.keyframe_requests > 0, "something was lost for good: {counters:?}");

        // The clean one lost nothing: every picture of the camera, each at its time.
        let lost = clean.viewer.counters.get();
        assert_eq!((lost.lost, lost.broken, lost.keyframe_requests), (0, 0, 0), "{lost:?}");
        assert!(longest_step(&whole) < 0.05, "{choice}: a picture is missing: {} s", longest_step(&whole));
        for unit in &whole {
            clean.show(unit);
        }
        // The lossy one shows whole pictures only, and stood still for no longer than an IDR takes.
        for unit in &patched {
            lossy.show(unit);
        }
        assert!(longest_step(&patched) < 2.0, "{choice}: {} s without a picture", longest_step(&patched));
        assert!(patched.len() > whole.len() / 2, "{choice}: {} of {} pictures", patched.len(), whole.len());
        let (whole_by, last) = (by_timestamp(&whole), whole.last().expect("units").rtp_timestamp);
        let behind = last.wrapping_sub(patched.last().expect("units").rtp_timestamp).cast_signed();
        assert!(behind < 90_000, "{choice}: it ends {behind} ticks behind the other");
        // Neither does the slow way of the one hold up the other: whoever is nearer has each picture first.
        let both: Vec<_> =
            patched.iter().filter_map(|unit| Some((unit, *whole_by.get(&unit.rtp_timestamp)?))).collect();
        let first = both.iter().filter(|(far, near)| near.last_packet < far.last_packet).count();
        assert!(first * 10 >= both.len() * 9 && !both.is_empty(), "{choice}: {first} of {}", both.len());
        if choice == "annotated" {
            assert!(both.iter().all(|(far, near)| far.data == near.data), "it is one encode");
            // However often the lossy one asks: one IDR in half a second.
            let seconds = f64::from(last.wrapping_sub(whole[0].rtp_timestamp)) / 90_000.0;
            let idrs = whole.iter().filter(|unit| unit.idr).count() as f64;
            assert!(idrs <= seconds / 0.5 + 2.0, "{idrs} IDRs in {seconds} s");
        }
    }
}

#[test]
fn a_link_loses_delays_and_reorders_as_it_is_told_and_always_the_same() {
    let start = Instant::now();
    let ms = Duration::from_millis;
    let conditions = Conditions { delay: ms(30), jitter: ms(10), loss: 0.05, reorder: 0.02, ..Conditions::clean(7) };
    let run = || {
        let mut link = Link::new(conditions);
        (0..10_000u32).map(|n| link.carry(1000, start + n * ms(5))).collect::<Vec<_>>()
    };
    let arrivals = run();
    assert_eq!(arrivals, run());
    let lost = arrivals.iter().filter(|at| at.is_none()).count();
    assert!((400..600).contains(&lost), "{lost} of 10000");
    let came: Vec<(Instant, Instant)> =
        arrivals.iter().zip(0u32..).filter_map(|(at, n)| Some((start + n * ms(5), (*at)?))).collect();
    assert!(came.iter().all(|&(sent, at)| at >= sent + ms(30) && at <= sent + ms(60)));
    let overtaken = came.windows(2).filter(|pair| pair[1].1 < pair[0].1).count();
    assert!((50..200).contains(&overtaken), "{overtaken} of 10000");
}

#[test]
fn what_is_more_than_the_rate_waits_and_what_the_queue_has_no_room_for_is_dropped() {
    let start = Instant::now();
    let conditions = Conditions { rate: Some(8_000_000), queue: 10_280, ..Conditions::clean(1) };
    let mut link = Link::new(conditions);
    // 1028 bytes are 1.028 ms at 8 Mbit/s; ten have room.
    let burst: Vec<_> = (0..15).map(|_| link.carry(1000, start)).collect();
    let took = |n: u32| Some(start + Duration::from_micros(1028) * n);
    assert_eq!(burst[..10], (1..=10).map(took).collect::<Vec<_>>());
    assert!(burst[10..].iter().all(Option::is_none));
    let later = start + Duration::from_secs(1);
    assert_eq!(link.carry(1000, later), Some(later + Duration::from_micros(1028)));
}
