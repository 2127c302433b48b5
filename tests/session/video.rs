//! The video that comes back: its timestamps, its pace, its keyframes, its size.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sightline::media::IDR_INTERVAL;

use crate::client::{Client, Options, Screen};
use crate::fakes::{self, Gate};
use crate::server::{self, Server, until};

async fn with_fake() -> Server {
    Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_has_the_timestamps_that_were_sent() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::through_a_relay(&server)).await;
    client.play(40).await;
    let last = *client.sent.last().unwrap();
    assert!(last < client.sent[0], "the timestamps wrapped on the way");
    let frames = client.frames_to(last).await;
    assert!(frames[0].idr, "a viewer begins with an IDR");
    let mut sent = client.sent.iter();
    for frame in &frames {
        assert!(sent.any(|one| *one == frame.rtp_timestamp), "in the order in which they were sent");
    }
    let packets = client.relay.as_ref().unwrap().headers();
    assert!(packets.len() >= frames.len());
    assert!(packets.iter().all(|packet| client.sent.contains(&packet.timestamp)), "on the wire too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_packet_asks_for_no_playout_delay() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::through_a_relay(&server)).await;
    let line = client.answer.lines().find(|line| line.contains("rtp-hdrext/playout-delay")).expect("it is negotiated");
    let id: u8 = line.trim_start_matches("a=extmap:").split([' ', '/']).next().unwrap().parse().unwrap();
    for _ in 0..10 {
        client.round_trip().await;
    }
    let packets = client.relay.as_ref().unwrap().headers();
    assert!(packets.len() >= 10);
    for packet in packets {
        assert!(packet.extensions.contains(&(id, vec![0, 0, 0])), "{packet:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_names_a_frame_that_was_sent() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.play(30).await;
    let last = *client.sent.last().unwrap();
    let shown: HashSet<u64> = client.frames_to(last).await.iter().map(|frame| frame.rtp_timestamp.into()).collect();
    let messages = client.messages_to(last).await;
    for kind in ["frame", "detections"] {
        let mut named = 0;
        for message in messages.iter().filter(|message| message["type"] == kind) {
            let timestamp = message["rtp_timestamp"].as_u64().unwrap();
            assert!(shown.contains(&timestamp), "{message}");
            assert_eq!(message["source_rtp_timestamp"], timestamp, "an offer's stream keeps its own");
            assert_eq!(message["stream"], client.stream.as_str());
            named += 1;
        }
        assert!(named > 5, "{named} {kind} messages");
    }
    let told = messages.iter().filter(|message| message["type"] == "frame").count();
    assert_eq!(told, shown.len(), "each frame that was sent has its message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_frame_has_a_ledger_without_gaps() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.round_trip().await;
    let message = client.message_of("detections").await;
    let stages = message["stages_ms"].as_object().unwrap();
    for stage in ["detect_queue", "preprocess", "infer", "postprocess"] {
        assert!(stages[stage].as_f64().is_some_and(|took| took >= 0.0), "{stage}: {message}");
    }
    for _ in 0..5 {
        client.round_trip().await;
        let message = client.message_of("frame").await;
        let ledger = message["ledger_ms"].as_object().unwrap();
        for stage in ["receive", "queue", "decode", "render_wait", "draw", "encode", "send"] {
            assert!(ledger[stage].as_f64().is_some_and(|took| took >= 0.0), "{stage}: {message}");
        }
        assert_eq!(ledger.len(), 7, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latency_of_the_last_seconds_and_minutes_can_be_asked_for() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::to(&server)).await;
    for _ in 0..5 {
        client.round_trip().await;
    }
    // A picture may be here before its last packet is noted as gone; its `frame` message is not.
    let (mut told, mut looked) = (0, false);
    while told < 5 || !looked {
        let message = client.message().await;
        told += usize::from(message["type"] == "frame");
        looked |= message["type"] == "detections";
    }
    let report = server.pipeline.latency(&client.stream).unwrap();
    assert_eq!(report.windows.iter().map(|window| window.seconds).collect::<Vec<_>>(), [10, 300]);
    for window in report.windows {
        assert!(window.frames >= 5, "{window:?}");
        let added = window.server_added_ms.unwrap();
        assert!(added.p50 > 0.0 && added.p50 <= added.p95 && added.p99 <= added.max, "{added:?}");
        assert_eq!(window.stages_ms.len(), 7, "{window:?}");
        assert_eq!(window.detector_ms.len(), 4, "{window:?}");
    }
    assert_eq!(server.pipeline.latency("nobody"), None);
}

/// A server, and a client whose last keyframe is longer ago than two must be apart.
async fn ready_for_a_keyframe() -> (Server, Client) {
    let server = with_fake().await;
    let mut client = Client::connect(Options::to(&server)).await;
    let started = Instant::now();
    assert!(client.round_trip().await.idr);
    while started.elapsed() <= IDR_INTERVAL + Duration::from_millis(50) {
        client.play(2).await;
    }
    let last = *client.sent.last().unwrap();
    assert!(client.frames_to(last).await.iter().all(|frame| !frame.idr), "nobody asked");
    (server, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pli_makes_the_next_frame_an_idr_and_no_other() {
    let (server, mut client) = ready_for_a_keyframe().await;
    let before = server.session().keyframe_requests;
    client.ask_for_keyframe();
    until("the request arrives", || server.session().keyframe_requests > before).await;
    assert!(client.round_trip().await.idr, "the very next one");
    client.play(25).await;
    let last = *client.sent.last().unwrap();
    assert!(client.frames_to(last).await.iter().all(|frame| !frame.idr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_plis_are_one_idr_in_half_a_second() {
    let (server, mut client) = ready_for_a_keyframe().await;
    let before = server.session().keyframe_requests;
    let started = Instant::now();
    let mut idrs = 0;
    for n in 0..10 {
        client.ask_for_keyframe();
        until("the request arrives", || server.session().keyframe_requests > before + n).await;
        idrs += u32::from(client.round_trip().await.idr);
    }
    // However slow the machine is, there is one, and another for each half second that it took.
    let most = |started: Instant| 1 + u32::try_from(started.elapsed().as_millis() / IDR_INTERVAL.as_millis()).unwrap();
    assert!((1..=most(started)).contains(&idrs), "{idrs} IDRs");
    // The wishes that came too early are fulfilled together.
    while idrs < 2 {
        client.play(1).await;
        idrs += u32::try_from(client.frames_so_far().iter().filter(|frame| frame.idr).count()).unwrap();
        assert!(started.elapsed() < server::LIMIT, "the later wishes were forgotten");
    }
    client.play(20).await;
    let last = *client.sent.last().unwrap();
    idrs += u32::try_from(client.frames_to(last).await.iter().filter(|frame| frame.idr).count()).unwrap();
    assert!(idrs == 2, "{idrs} IDRs: nobody asked after the tenth");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_size_goes_on_without_loss_and_begins_with_an_idr() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::to(&server)).await;
    let mut screen = Screen::new();
    for (width, height) in [(320, 240), (480, 360), (240, 320)] {
        client.resize(width, height);
        for n in 0..8 {
            let unit = client.round_trip().await;
            assert_eq!(unit.idr, n == 0, "picture {n} of {width}×{height}");
            let picture = screen.show(&unit);
            assert_eq!((picture.width(), picture.height()), (width, height));
        }
        let stream = server.stream();
        assert_eq!((stream.width, stream.height), (Some(width), Some(height)));
    }
    assert_eq!(server.stream().dropped.values().sum::<u64>(), 0, "{:?}", server.stream().dropped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_that_never_finishes_delays_no_frame() {
    let gate = Arc::new(Gate::default());
    let door = Arc::clone(&gate);
    let model = fakes::model(move |_| {
        door.pass();
        Vec::new()
    });
    let server = Server::start(server::Options::with_model(model)).await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.round_trip().await;
    until("the detector has a frame", || gate.arrived.load(Ordering::SeqCst) == 1).await;
    for _ in 1..30 {
        client.round_trip().await;
    }
    assert_eq!(gate.arrived.load(Ordering::SeqCst), 1, "it is still at the first");
    assert!(client.messages_so_far().iter().all(|message| message["type"] == "frame"));
    let stream = server.stream();
    assert_eq!((stream.frames_decoded, stream.detections), (30, 0));
    assert!(stream.detector_skipped >= 25, "what it missed is counted: {}", stream.detector_skipped);
    gate.open();
    let told = client.message_of("detections").await;
    assert_eq!(told["rtp_timestamp"], client.sent[0]);
    let told = client.message_of("detections").await;
    assert_eq!(told["rtp_timestamp"], client.sent[29], "it goes on with the newest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_detector_skips_frames_and_the_video_does_not() {
    // The time that a model takes, not one that anybody waits for.
    let model = fakes::model(|frame| {
        std::thread::sleep(Duration::from_millis(60));
        fakes::find_square(frame)
    });
    let server = Server::start(server::Options::with_model(model)).await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.play(60).await;
    let last = *client.sent.last().unwrap();
    let shown = client.frames_to(last).await.len();
    let messages = client.messages_to(last).await;
    let detected = messages.iter().filter(|message| message["type"] == "detections").count();
    assert!(shown >= 50, "{shown} of 60 frames (a machine that stalls may lose a few)");
    assert!((5..=45).contains(&detected), "{detected} of 60 frames were looked at");
    let ages: Vec<f64> = messages.iter().filter_map(|message| message["age_ms"].as_f64()).collect();
    assert!(ages.len() > 30 && ages.iter().all(|age| *age <= 500.0), "boxes are drawn, and none that is stale");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_burst_only_the_newest_is_shown_and_the_rest_is_counted() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.round_trip().await;
    for _ in 0..20 {
        client.send().await;
    }
    let last = *client.sent.last().unwrap();
    let shown = 1 + client.frames_to(last).await.len() as u64;
    until("the count of what was sent", || server.stream().frames_out == shown).await;
    let stream = server.stream();
    assert_eq!(stream.frames_decoded, 21, "each one is decoded: the next depends on it");
    assert_eq!(shown + stream.dropped["superseded"], 21, "{stream:?}");
    assert_eq!(stream.dropped["decode"], 0);
}
