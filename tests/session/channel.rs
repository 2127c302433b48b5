//! The datachannel: what may be changed through it, who makes it, and what it cannot do to the video.

use std::sync::Arc;

use serde_json::{Value, json};
use sightline::media::BBox;

use crate::client::{Client, Options};
use crate::fakes;
use crate::server::{self, Server, until};

async fn finding() -> (Server, Client) {
    let server = Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await;
    let client = Client::connect(Options::to(&server)).await;
    (server, client)
}

/// The objects that the detector reports in a frame sent now.
async fn objects(client: &mut Client) -> usize {
    let sent = client.round_trip().await.rtp_timestamp;
    loop {
        let message = client.message_of("detections").await;
        if message["rtp_timestamp"] == sent {
            return message["detections"].as_array().unwrap().len();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_is_acknowledged_whole_and_holds_from_the_next_frame_on() {
    let (_server, mut client) = finding().await;
    assert_eq!(objects(&mut client).await, 1);
    for (change, expected) in [
        (json!({ "confidence_threshold": 0.9 }), 0),
        (json!({ "confidence_threshold": 0.3 }), 1),
        (json!({ "classes": ["other"] }), 0),
        (json!({ "classes": null }), 1),
    ] {
        let mut message = change.clone();
        message["type"] = "config".into();
        message["id"] = "a".into();
        let ack = client.ask(message).await;
        assert_eq!((&ack["type"], &ack["id"]), (&json!("config_ack"), &json!("a")), "{ack}");
        for (key, value) in change.as_object().unwrap() {
            let said = &ack["config"][key];
            let same = match (said.as_f64(), value.as_f64()) {
                (Some(said), Some(value)) => (said - value).abs() < 1e-6,
                _ => said == value,
            };
            assert!(same, "{key}: {ack}");
        }
        assert_eq!(ack["config"].as_object().unwrap().len(), 5, "all that holds: {ack}");
        assert_eq!(objects(&mut client).await, expected, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_message_is_answered_and_changes_nothing() {
    let (server, mut client) = finding().await;
    client.round_trip().await;
    let before = server.stream().config;
    for (text, code) in [
        ("nonsense", "invalid_json"),
        ("[1]", "invalid_json"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"config","id":7,"overlay":"none","colour":"red"}"#, "unknown_field"),
        (r#"{"type":"config","id":7,"overlay":"none","confidence_threshold":2}"#, "invalid_value"),
        (r#"{"type":"config","id":7,"overlay":"none","classes":["dragon"]}"#, "unknown_class"),
        (r#"{"v":2,"type":"config","overlay":"none"}"#, "unsupported_version"),
    ] {
        client.say(text).await;
        let error = client.message_of("error").await;
        assert_eq!(error["code"], code, "{text}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(error["id"], if text.contains("\"id\"") { json!(7) } else { Value::Null }, "{error}");
        assert_eq!(server.stream().config, before, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_comes_back_with_its_own_time() {
    let (_server, mut client) = finding().await;
    client.say(r#"{"type":"ping","id":3,"t":12.5}"#).await;
    let pong = client.message_of("pong").await;
    assert_eq!((&pong["id"], &pong["t"]), (&json!(3), &json!(12.5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_makes_the_channel_that_the_client_did_not() {
    let server = Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await;
    let mut client = Client::connect(Options { label: "something-else", ..Options::to(&server) }).await;
    client.round_trip().await;
    client.channel_made().await;
    until("the server sees it open", || server.session().channel).await;
    let sent = client.round_trip().await.rtp_timestamp;
    assert_eq!(client.message_of("frame").await["rtp_timestamp"], sent);
    let ack = client.ask(json!({ "type": "config", "max_detections": 3 })).await;
    assert_eq!(ack["config"]["max_detections"], 3, "and it works in both directions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_too_slow_loses_messages_and_the_video_nothing() {
    // Long messages fill the buffers soon.
    let many: Arc<[_]> = (0..90u8)
        .map(|n| {
            let edge = f32::from(n);
            fakes::object(BBox::new(edge, edge, edge + 20.0, edge + 20.0), 0.9)
        })
        .collect();
    let server = Server::start(server::Options::with_model(fakes::model(move |_| many.to_vec()))).await;
    let mut client = Client::connect(Options::through_a_relay(&server)).await;
    client.round_trip().await;
    client.message_of("detections").await;
    client.relay.as_ref().unwrap().cut_channel();
    let mut frames = 0;
    while server.session().messages_dropped < 50 {
        client.round_trip().await;
        frames += 1;
        assert!(frames < 2000, "no message was dropped: {:?}", server.session());
    }
    assert_eq!(
        server.stream().dropped.values().sum::<u64>(),
        0,
        "each frame came back, whatever became of its message"
    );
    assert_eq!(server.stream().frames_decoded, frames + 1);
}
