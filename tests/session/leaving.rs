//! How sessions end.

use std::time::Duration;

use sightline::pipeline;

use crate::client::{Client, Options};
use crate::fakes;
use crate::server::{self, Server, within};

/// A server that does not take silence for leaving.
async fn patient() -> Server {
    let pipeline = pipeline::Config { silence_timeout_ms: 60_000, ..pipeline::Config::default() };
    let options = server::Options::with_model(fakes::model(fakes::find_square));
    Server::start(server::Options { pipeline, ..options }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_is_gone_at_once() {
    let server = patient().await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.round_trip().await;
    assert_eq!(server.pipeline.sessions().len(), 1);
    client.close().await;
    // ICE would take five seconds to notice.
    within(Duration::from_secs(3), "the session ends", || server.pipeline.sessions().is_empty()).await;
    assert!(server.pipeline.streams().is_empty(), "and its stream with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_is_gone_in_seconds() {
    let server = Server::start(server::Options::default()).await;
    let mut client = Client::connect(Options::through_a_relay(&server)).await;
    client.round_trip().await;
    client.relay.as_ref().unwrap().cut();
    within(Duration::from_secs(8), "the session ends", || server.pipeline.sessions().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_falls_silent_is_gone_too() {
    let server = Server::start(server::Options::default()).await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.round_trip().await;
    // The connection stands, but nothing is published any more.
    let goodbye = client.message_of("error").await;
    assert_eq!(goodbye["code"], "session_ended");
    assert!(goodbye["message"].as_str().unwrap().contains("no media"), "{goodbye}");
    within(Duration::from_secs(5), "the session ends", || server.pipeline.sessions().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_deleted_is_told_so() {
    let server = patient().await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.round_trip().await;
    let address = format!("{}/api/v1/sessions/{}", server.base, client.session);
    let http = reqwest::Client::new();
    assert_eq!(http.delete(&address).send().await.unwrap().status(), 204);
    assert_eq!(client.message_of("error").await["code"], "session_ended");
    within(Duration::from_secs(3), "the session ends", || server.pipeline.sessions().is_empty()).await;
    assert_eq!(http.delete(&address).send().await.unwrap().status(), 404, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_goodbye() {
    let server = patient().await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.round_trip().await;
    server.shutdown().await;
    assert_eq!(client.message_of("error").await["code"], "shutting_down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_free_again_once_its_session_has_ended() {
    let server = patient().await;
    for _ in 0..2 {
        let mut client = Client::connect(Options { stream: Some("desk".to_owned()), ..Options::to(&server) }).await;
        assert_eq!(client.stream, "desk");
        client.round_trip().await;
        client.close().await;
        within(Duration::from_secs(3), "the session ends", || server.pipeline.sessions().is_empty()).await;
    }
}
