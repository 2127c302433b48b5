//! What leaves for a viewer is what the way to it carries.

use std::time::{Duration, Instant};

use sightline::pipeline::SessionStatus;

use crate::client::{Client, Options};
use crate::relay::link::Conditions;
use crate::server::{self, LIMIT, Server};

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

#[tokio::test]
async fn the_encode_follows_a_link_that_is_narrow_and_one_that_is_wide_again() {
    let server = Server::start(server::Options::default()).await;
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
async fn round_trip_loss_and_bandwidth_of_a_viewer_are_told() {
    let server = Server::start(server::Options::default()).await;
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
    let server = Server::start(server::Options::default()).await;
    let without = |offer: String| {
        let lines = offer.lines().filter(|line| !line.contains("transport-wide-cc") && !line.contains("transport-cc"));
        lines.map(|line| format!("{line}\r\n")).collect()
    };
    let mut client = Client::connect(Options { munge: without, ..Options::to(&server) }).await;
    play_until(&mut client, &server, "the full rate", |session| session.bitrate_out_bps > 400_000.0).await;
    assert_eq!(server.session().bandwidth_bps, None);
    server.shutdown().await;
}
