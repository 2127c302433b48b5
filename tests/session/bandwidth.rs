//! What leaves for a viewer is what the way to it carries.

use std::time::{Duration, Instant};

use serde_json::Value;
use sightline::annotate;
use sightline::media::{AccessUnit, Plane};
use sightline::pipeline::{self, SessionStatus, VideoChoice};

use crate::client::{Client, Options, Screen, picture_number};
use crate::fakes;
use crate::relay::link::Conditions;
use crate::server::{self, LIMIT, Server};
use crate::squares::{CHROMA, Square, squares};
use crate::watcher::{Broadcaster, Watcher};

/// Narrower than the encode of 320×240 at 30 frames a second would like (some 570 kbit/s).
const NARROW: u64 = 300_000;

/// A link of so many bits a second, with half a second of queue.
fn link(bps: u64) -> Conditions {
    let queue = usize::try_from(bps / 16).unwrap();
    Conditions { rate: Some(bps), queue, delay: Duration::from_millis(10), ..Conditions::clean(1) }
}

/// Plays until the session is like this.
async fn play_until(client: &mut Client, server: &Server, what: &str, is_so: impl Fn(&SessionStatus) -> bool) {
    let started = Instant::now();
    while !is_so(&server.session()) {
        assert!(started.elapsed() < LIMIT, "{what}: {:?}", server.session());
        client.play(10).await;
    }
}

/// What the link carries is looked at here, and not what a busy machine leaves: nothing gives way for that.
fn steady(options: server::Options) -> server::Options {
    let pipeline = pipeline::Config { give_way: false, ..options.pipeline };
    server::Options { pipeline, ..options }
}

#[tokio::test]
async fn the_encode_follows_a_link_that_is_narrow_and_one_that_is_wide_again() {
    let server = Server::start(steady(server::Options::default())).await;
    let options = Options { down: link(NARROW), ..Options::through_a_relay(&server) };
    let mut client = Client::connect(options).await;
    play_until(&mut client, &server, "the link is found to be narrow", |session| {
        session.bandwidth_bps.is_some_and(|bps| bps < 1.3 * NARROW as f64)
    })
    .await;
    // Bits of a whole second, headers and all.
    play_until(&mut client, &server, "no more is sent than it carries", |session| {
        session.bitrate_out_bps > 0.0 && session.bitrate_out_bps < 1.1 * NARROW as f64
    })
    .await;
    play_until(&mut client, &server, "the queue is gone", |session| {
        session.queue_ms.is_some_and(|queue| queue < 100.0)
    })
    .await;
    assert!(!client.frames_so_far().is_empty());
    client.relay.as_ref().unwrap().set_down(Conditions { rate: None, ..link(NARROW) });
    play_until(&mut client, &server, "the link is found to be wide", |session| session.bitrate_out_bps > 450_000.0)
        .await;
    server.shutdown().await;
}

#[tokio::test]
async fn messages_yield_to_the_video_on_a_narrow_link_and_come_whole_again_on_a_wide_one() {
    let server = Server::start(steady(server::Options::with_model(fakes::model(fakes::find_square)))).await;
    let options = Options { down: link(NARROW), ..Options::through_a_relay(&server) };
    let mut client = Client::connect(options).await;
    play_until(&mut client, &server, "the link is found to be narrow", |session| {
        session.bandwidth_bps.is_some_and(|bps| bps < 1.3 * NARROW as f64) && session.messages_thinned > 0
    })
    .await;
    client.messages_so_far();
    let sent = client.relay.as_ref().unwrap().sent();
    client.play(150).await;
    let sent_then = client.relay.as_ref().unwrap().sent();
    let share = (sent_then.0 - sent.0) as f64 / (sent_then.1 - sent.1) as f64;
    let count = |messages: &[Value], kind: &str| messages.iter().filter(|message| message["type"] == kind).count();
    let messages = client.messages_so_far();
    let (frames, found) = (count(&messages, "frame"), count(&messages, "detections"));
    assert!(share < 0.25, "{share:.2} of what was sent were messages: {frames} of frames, {found} of detections");
    assert!(frames > 0 && frames < found, "{frames} of frames, {found} of detections");
    client.relay.as_ref().unwrap().set_down(Conditions { rate: None, ..link(NARROW) });
    let mut thinned = server.session().messages_thinned;
    let mut whole = 0;
    for _ in 0..LIMIT.as_secs() {
        client.play(30).await;
        let now = server.session().messages_thinned;
        whole = if now == thinned { whole + 1 } else { 0 };
        thinned = now;
        if whole == 2 {
            break;
        }
    }
    assert_eq!(whole, 2, "messages are left out still: {:?}", server.session());
    server.shutdown().await;
}

#[tokio::test]
async fn round_trip_loss_and_bandwidth_of_a_viewer_are_told() {
    let server = Server::start(steady(server::Options::default())).await;
    let (delay, loss) = (Duration::from_millis(30), 0.1);
    let options =
        Options { down: Conditions { delay, loss, ..Conditions::clean(3) }, ..Options::through_a_relay(&server) };
    let mut client = Client::connect(options).await;
    play_until(&mut client, &server, "all is known", |session| {
        session.rtt_ms.is_some() && session.loss_out.is_some_and(|loss| loss > 0.0) && session.bandwidth_bps.is_some()
    })
    .await;
    assert!(server.session().rtt_ms.unwrap() >= 30.0);
    server.shutdown().await;
}

#[tokio::test]
async fn a_viewer_that_tells_nothing_of_its_link_gets_the_full_rate() {
    let server = Server::start(steady(server::Options::default())).await;
    let without = |offer: String| {
        let lines = offer.lines().filter(|line| !line.contains("transport-wide-cc") && !line.contains("transport-cc"));
        lines.map(|line| format!("{line}\r\n")).collect()
    };
    let mut client = Client::connect(Options { munge: without, ..Options::to(&server) }).await;
    play_until(&mut client, &server, "the full rate", |session| session.bitrate_out_bps > 400_000.0).await;
    assert_eq!(server.session().bandwidth_bps, None);
    server.shutdown().await;
}

#[tokio::test]
async fn a_picture_too_large_for_the_link_comes_smaller_and_its_boxes_stay_in_the_sources_pixels() {
    let server = Server::start(steady(server::Options::with_model(fakes::model(fakes::find_square)))).await;
    let options = Options { size: (640, 480), down: link(NARROW), ..Options::through_a_relay(&server) };
    let mut client = Client::connect(options).await;
    until_size(&mut client, &server, |width| width < 640).await;
    client.frames_so_far();
    // An IDR that came whole, and its message too: the link loses what it has no room for.
    let (started, mut messages, mut idrs) = (Instant::now(), Vec::new(), Vec::new());
    let (shown, picture, told) = loop {
        assert!(started.elapsed() < LIMIT, "{:?}, {:?}", server.stream().renditions, server.session());
        client.ask_for_keyframe();
        client.play(20).await;
        messages.extend(client.messages_so_far());
        for idr in client.frames_so_far().into_iter().filter(|unit| unit.idr) {
            idrs.push((Screen::new().show(&idr), idr));
        }
        let told_of = |idr: &AccessUnit| {
            let is_of = |message: &&Value| message["type"] == "frame" && message["rtp_timestamp"] == idr.rtp_timestamp;
            messages.iter().find(is_of).map(|message| message["boxes"][0]["bbox"].clone())
        };
        let small = idrs.iter().filter(|(picture, _)| picture.width() < 640);
        let mut told = small.filter_map(|(picture, idr)| Some((idr.clone(), picture.clone(), told_of(idr)?)));
        if let Some(found) = told.find(|(.., told)| told.is_array()) {
            break found;
        }
    };
    assert!(picture.width() < 640, "{}", picture.width());
    assert_eq!(picture.width() * 3, picture.height() * 4);
    let edge = |n: usize| told[n].as_f64().unwrap();
    // It is told where it is in the source's picture, give or take a frame of the follower's …
    let [Square { left, top, side }, _] = squares(picture_number(shown.rtp_timestamp), 640, 480);
    for (edge, truth) in [edge(0), edge(1), edge(2), edge(3)].into_iter().zip([left, top, left + side, top + side]) {
        assert!((edge - truth as f64).abs() <= 10.0, "{told} for a square at {left},{top}");
    }
    // … and drawn there in the small one: the left edge has the colour of its class.
    let scale = picture.width() as f64 / 640.0 / 2.0;
    let colour = annotate::colour(0);
    let across = picture.plane_size(Plane::U).0;
    let rows = (edge(1) * scale) as usize + 2..(edge(3) * scale) as usize - 2;
    let is_drawn = |row: usize| {
        let at = row * across + (edge(0) * scale) as usize;
        let far = |at: usize, (u, v): (u8, u8)| {
            let apart = |plane: Plane, value: u8| u32::from(picture.plane(plane)[at].abs_diff(value));
            apart(Plane::U, u) + apart(Plane::V, v)
        };
        (at - 1..=at + 1).any(|at| far(at, (colour.u, colour.v)) < far(at, CHROMA))
    };
    let drawn = rows.clone().filter(|row| is_drawn(*row)).count();
    assert!(drawn * 10 >= rows.len() * 6, "{drawn} of {} rows of the edge are drawn", rows.len());
    client.relay.as_ref().unwrap().set_down(Conditions { rate: None, ..link(NARROW) });
    until_size(&mut client, &server, |width| width == 640).await;
    server.shutdown().await;
}

/// Plays until the pictures that are encoded are so wide.
async fn until_size(client: &mut Client, server: &Server, is_so: impl Fn(usize) -> bool) -> usize {
    let started = Instant::now();
    loop {
        let width = server.stream().renditions.first().map(|rendition| rendition.width);
        if let Some(width) = width.filter(|width| is_so(*width)) {
            return width;
        }
        assert!(started.elapsed() < LIMIT, "{:?}, {:?}", server.stream().renditions, server.session());
        client.play(10).await;
    }
}

#[tokio::test]
async fn a_publisher_is_told_what_it_may_send_and_less_when_the_machine_has_too_much_to_do() {
    let options = server::Options {
        pipeline: sightline::pipeline::Config { max_publish_kbps: 300, ..Default::default() },
        ..server::Options::default()
    };
    let server = Server::start(options).await;
    let mut client = Client::connect(Options::to(&server)).await;
    for (limit, allowed) in [(None, 300_000), (Some(200_000), 200_000), (None, 300_000)] {
        assert!(server.pipeline.limit_publisher(&client.session, limit));
        assert_eq!(server.session().publish_limit_bps, Some(allowed));
        let started = Instant::now();
        let is_told = |bps: f64| (bps - f64::from(allowed)).abs() < f64::from(allowed) / 100.0;
        while !client.may_send().is_some_and(is_told) {
            assert!(started.elapsed() < LIMIT, "{:?} instead of {allowed}", client.may_send());
            client.play(5).await;
        }
    }
    assert!(!server.pipeline.limit_publisher("nobody", None));
    server.shutdown().await;
}

#[tokio::test]
async fn viewers_of_unlike_links_get_encodes_of_their_own_and_only_while_they_are_there() {
    let server = Server::start(steady(server::Options::default())).await;
    let mut publisher = Broadcaster::publish(&server, "scene", false).await.unwrap();
    let playing = tokio::spawn(async move { publisher.play().await });
    let watch = |down| Watcher::watch_over(&server, "scene", Some(VideoChoice::Annotated), down);
    let mut wide = watch(Conditions::clean(2)).await.unwrap();
    let narrow = watch(link(200_000)).await.unwrap();
    let encodes = || server.stream().renditions.iter().map(|one| (one.tier, one.viewers)).collect::<Vec<_>>();
    server::until("two encodes", || encodes() == [(0, 1), (1, 1)]).await;
    // What the one gets is not what the other can.
    server::until("the wide link's is at the full rate", || {
        let bps =
            |tier: usize| server.stream().renditions.iter().find(|one| one.tier == tier).map(|one| one.bitrate_bps);
        bps(0).zip(bps(1)).is_some_and(|(wide, narrow)| wide > 2 * narrow)
    })
    .await;
    wide.frames_so_far();
    assert_eq!(wide.frames(30).await.len(), 30);
    drop(narrow);
    server::until("one encode", || encodes() == [(0, 1)]).await;
    playing.abort();
    server.shutdown().await;
}

#[tokio::test]
async fn a_viewer_of_the_original_whose_link_does_not_carry_it_gets_an_encode_and_its_status_says_so() {
    let server = Server::start(steady(server::Options::default())).await;
    let mut publisher = Broadcaster::publish(&server, "scene", false).await.unwrap();
    let playing = tokio::spawn(async move { publisher.play().await });
    let original = Some(VideoChoice::Original);
    let wide = Watcher::watch_over(&server, "scene", original, Conditions::clean(2)).await.unwrap();
    let narrow = Watcher::watch_over(&server, "scene", original, link(200_000)).await.unwrap();
    let of = |watcher: &Watcher| {
        let session = server.pipeline.sessions().into_iter().find(|session| session.id == watcher.session);
        session.map(|session| (session.sent, session.why_encoded.is_some()))
    };
    server::until("it is encoded for", || of(&narrow) == Some((Some("plain"), true))).await;
    assert_eq!(of(&wide), Some((Some("original"), false)));
    playing.abort();
    server.shutdown().await;
}
