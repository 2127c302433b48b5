//! How old boxes may be: how often the detector looks for that, and which of a stream's models does.

use std::thread::sleep;
use std::time::Duration;

use sightline::pipeline::{self, Rules, StreamReport};

use crate::client::{self, Client};
use crate::fakes;
use crate::server::{self, Server};

async fn with_budget(budget_ms: u64, look_ms: u64) -> Server {
    let model = fakes::model(move |frame| {
        sleep(Duration::from_millis(look_ms));
        fakes::find_square(frame)
    });
    let rules = Rules { detection_budget_ms: budget_ms, lighter_models: vec!["motion".to_owned()], ..Rules::default() };
    let config = pipeline::Config { stream: rules, ..pipeline::Config::default() };
    let server = Server::start(server::Options { pipeline: config, ..server::Options::with_model(model) }).await;
    tokio::spawn(server.pipeline.clone().keep_budgets());
    server
}

fn report(server: &Server) -> StreamReport {
    server.pipeline.streams().into_iter().next().expect("a stream")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_too_slow_for_the_budget_gives_its_place_to_a_lighter_one() {
    let server = with_budget(100, 120).await;
    let mut client = Client::connect(client::Options::to(&server)).await;
    let first = report(&server).model;
    let mut played = 0;
    while report(&server).model.as_deref() != Some("motion") {
        client.play(10).await;
        played += 10;
        assert!(played < 2000, "{:?}", report(&server));
    }
    assert_ne!(first.as_deref(), Some("motion"));
    let before = report(&server).status.detections;
    client.play(30).await;
    assert!(report(&server).status.detections > before, "it looks on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_with_room_makes_the_detector_look_less_often() {
    let server = with_budget(1000, 1).await;
    let mut client = Client::connect(client::Options::to(&server)).await;
    // The first looks tell how long one takes.
    let mut played = 0;
    while report(&server).status.detections < 8 {
        client.play(5).await;
        played += 5;
        assert!(played < 2000, "{:?}", report(&server));
    }
    let before = report(&server);
    client.play(60).await;
    let after = report(&server);
    let looks = after.status.detections - before.status.detections;
    let frames = after.status.frames_decoded - before.status.frames_decoded;
    assert!(looks * 4 < frames, "{looks} of {frames}");
    assert_eq!(after.model, before.model);
}
