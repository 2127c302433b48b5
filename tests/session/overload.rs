//! What gives way when there is too much to do: the work, in a fixed order, and never the time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sightline::media::AccessUnit;
use sightline::pipeline::{self, Gives, Load, StreamOptions, VideoChoice};
use tokio::time::sleep;

use crate::client::{self, Client};
use crate::fakes;
use crate::fed::{Fed, Screen, next};
use crate::server::{self, Server, until};

const CAMERA: StreamOptions = StreamOptions { detect_always: true, bridge: true, endures: true };

/// A unit that came so long ago: what a thread finds that did not get a core.
fn waited(mut unit: AccessUnit, long: Duration) -> AccessUnit {
    unit.first_packet -= long;
    unit.last_packet -= long;
    unit
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_would_leave_too_late_is_dropped_before_the_encoder_and_the_next_one_is_sent() {
    let config = pipeline::Config { max_latency_ms: 5000, ..pipeline::Config::default() };
    let mut fed = Fed::start_as(fakes::model(fakes::find_square), CAMERA, &config);
    let mut viewer = fed.stream.watch(VideoChoice::Annotated);
    let mut screen = Screen::new();
    fed.feed().await;
    screen.show(&*next(&mut viewer).await);
    let encodes = fed.stream.status().encodes;
    let late = fed.unit(false);
    fed.stream.push(waited(late, Duration::from_secs(6)));
    until("it is dropped", || fed.stream.status().dropped.get("late") == Some(&1)).await;
    assert_eq!(fed.stream.status().encodes, encodes);
    // What follows refers to the late one: it was decoded all the same.
    let unit = fed.unit(false);
    fed.stream.push(unit.clone());
    let frame = next(&mut viewer).await;
    screen.show(&frame);
    assert_eq!(frame.rtp_timestamp.source, unit.rtp_timestamp);
}

/// Feeds frames that waited for `long` until `state`, at the pace of a camera.
async fn starve(fed: &mut Fed, long: Duration, mut state: impl FnMut(&Fed) -> bool) {
    let mut frames = 0;
    while !state(fed) {
        let unit = fed.unit(false);
        fed.stream.push(waited(unit, long));
        // The pace is the input: windows are of time, and a thread that is given all at once has no waits to tell apart.
        sleep(Duration::from_millis(20)).await;
        frames += 1;
        assert!(frames < 2000, "{:?}", fed.stream.status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_wait_make_everything_give_way_in_order_and_then_new_sessions_are_refused() {
    let server = Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await;
    let config = pipeline::Config::default();
    let load = Arc::clone(server.pipeline.load());
    let mut fed = Fed::start_on(&load, fakes::model(fakes::find_square), CAMERA, &config);
    let mut seen = vec![Gives::Nothing];
    starve(&mut fed, Duration::from_millis(100), |fed| {
        let what = fed.stream.status().gives_way.what;
        if seen.last() != Some(&what) {
            seen.push(what);
        }
        load.is_full()
    })
    .await;
    assert!(seen.is_sorted_by_key(|what| *what as u8), "{seen:?}");
    assert_eq!(seen.last(), Some(&Gives::FrameRate));
    let (status, body) = client::post_offer(&server.base, &json!({"type": "offer", "sdp": "v=0"})).await;
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("overloaded")), "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("admission"), "{body}");
    drop(fed);
    until("there is room again", || !load.is_full()).await;
    let _client = Client::connect(client::Options::to(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_must_not_give_way_does_not() {
    let load = Load::new();
    let config = pipeline::Config { give_way: false, ..pipeline::Config::default() };
    let mut fed = Fed::start_on(&load, fakes::model(fakes::find_square), CAMERA, &config);
    let mut frames = 0;
    starve(&mut fed, Duration::from_millis(100), |_| {
        frames += 1;
        frames > 120
    })
    .await;
    assert_eq!(fed.stream.status().gives_way.step, 0);
}
