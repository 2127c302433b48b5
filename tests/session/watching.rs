//! Viewers of a stream that somebody else publishes.

use std::time::{Duration, Instant};

use serde_json::json;
use sightline::peer::PeerError;
use sightline::pipeline::{self, PipelineError, Role, VideoChoice};

use crate::client::{Client, Options, Screen, engine};
use crate::fakes;
use crate::server::{self, Server, until, within};
use crate::watcher::Watcher;

async fn serving(name: &str) -> (Server, Client) {
    let server = Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await;
    let options = Options { stream: Some(name.to_owned()), ..Options::to(&server) };
    let mut client = Client::connect(options).await;
    client.round_trip().await;
    (server, client)
}

/// Plays until `done`, for as long as that takes.
async fn play_until<T>(client: &mut Client, done: impl Future<Output = T>) -> T {
    tokio::select! {
        () = async { loop { client.play(30).await } } => unreachable!("it plays on"),
        value = done => value,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_of_one_stream_get_the_frames_that_its_publisher_gets() {
    let (server, mut client) = serving("desk").await;
    let mut first = Watcher::watch(&server, "desk", None).await.unwrap();
    let mut second = Watcher::watch(&server, "desk", Some(VideoChoice::Annotated)).await.unwrap();
    let (mut a, b) = play_until(&mut client, async { (first.frames(20).await, second.frames(20).await) }).await;
    let mut screen = Screen::new();
    assert!(a[0].idr && b[0].idr, "each begins with an IDR");
    for frame in &a {
        assert_eq!(screen.show(frame).width(), 320);
    }
    // From where both are there, they get the same bytes under the same names.
    let start = b[0].rtp_timestamp;
    a.retain(|frame| frame.rtp_timestamp.wrapping_sub(start) < 1 << 31);
    let same = a.iter().zip(&b).filter(|(a, b)| a.data == b.data && a.rtp_timestamp == b.rtp_timestamp).count();
    assert_eq!(same, a.len().min(b.len()));
    // And the publisher as well, if not at the same moment.
    let own = client.frames_to(a.last().expect("frames").rtp_timestamp).await;
    // Its first frame was taken before the viewers came, who may have begun with it.
    let since = own[0].rtp_timestamp;
    a.retain(|frame| frame.rtp_timestamp.wrapping_sub(since) < 1 << 31);
    assert!(a.len() >= 10 && a.iter().all(|frame| own.iter().any(|own| own.rtp_timestamp == frame.rtp_timestamp)));
    let roles: Vec<Role> = server.pipeline.sessions().iter().map(|session| session.role).collect();
    assert_eq!(roles, [Role::Offer, Role::View, Role::View]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_has_messages_and_may_not_change_the_stream() {
    let (server, mut client) = serving("desk").await;
    let mut watcher = Watcher::watch_and_listen(&server, "desk", None).await.unwrap();
    let work = async {
        let detections = watcher.message_of("detections").await;
        assert_eq!(detections["stream"], "desk");
        watcher.message_of("frame").await;
        watcher.say(&json!({"type": "config", "id": 7, "confidence_threshold": 0.9}).to_string()).await;
        let refusal = watcher.message_of("error").await;
        assert_eq!((&refusal["code"], &refusal["id"]), (&json!("forbidden"), &json!(7)));
    };
    play_until(&mut client, work).await;
    assert!((server.stream().config.confidence_threshold - 0.5).abs() < 1e-6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_closes_its_channel_leaves() {
    let (server, _client) = serving("desk").await;
    let watcher = Watcher::watch_and_listen(&server, "desk", None).await.unwrap();
    assert_eq!(server.pipeline.sessions().len(), 2);
    watcher.close_channel().await;
    within(Duration::from_secs(3), "the viewer is gone", || server.pipeline.sessions().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_vanishes_is_noticed_though_it_never_sent_a_packet_of_media() {
    let (server, mut client) = serving("desk").await;
    let watcher = Watcher::watch(&server, "desk", None).await.unwrap();
    let gone = async {
        // Longer than a publisher may be silent.
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(3500) {
            assert_eq!(server.pipeline.sessions().len(), 2);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(watcher);
        within(Duration::from_secs(8), "the viewer is gone", || server.pipeline.sessions().len() == 1).await;
    };
    play_until(&mut client, gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_viewers_of_an_offer_end_with_it_and_are_told_so() {
    let (server, client) = serving("desk").await;
    let mut watcher = Watcher::watch_and_listen(&server, "desk", None).await.unwrap();
    client.close().await;
    let goodbye = watcher.message_of("error").await;
    assert_eq!(goodbye["code"], "session_ended");
    assert!(goodbye["message"].as_str().unwrap().contains("publisher"), "{goodbye}");
    within(Duration::from_secs(3), "all are gone", || server.pipeline.sessions().is_empty()).await;
    assert!(server.pipeline.streams().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_is_ended_leaves_the_others_alone() {
    let (server, mut client) = serving("desk").await;
    let one = Watcher::watch(&server, "desk", None).await.unwrap();
    let mut other = Watcher::watch(&server, "desk", None).await.unwrap();
    assert!(server.pipeline.connection(&one.session).is_some());
    assert!(server.pipeline.end_session(&one.session));
    play_until(&mut client, async {
        within(Duration::from_secs(3), "one is gone", || server.pipeline.sessions().len() == 2).await;
        other.frames(10).await;
    })
    .await;
    assert!(!server.pipeline.end_session(&one.session), "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_watch_is_bounded_and_what_cannot_be_watched_is_said() {
    let pipeline = pipeline::Config { max_viewers: 1, max_sessions: 1, ..pipeline::Config::default() };
    let server = Server::start(server::Options { pipeline, ..server::Options::default() }).await;
    let no_such = Watcher::watch(&server, "desk", None).await.err().unwrap();
    assert!(matches!(&no_such, PipelineError::NoSuchStream(name) if name == "desk"), "{no_such}");
    let _client = Client::connect(Options { stream: Some("desk".to_owned()), ..Options::to(&server) }).await;
    // One that publishes takes no viewer's place.
    let first = Watcher::watch(&server, "desk", None).await.unwrap();
    let full = Watcher::watch(&server, "desk", None).await.err().unwrap();
    assert!(matches!(full, PipelineError::TooManyViewers(1)), "{full}");
    assert!(server.pipeline.end_session(&first.session));
    until("its place is free", || server.pipeline.sessions().len() == 1).await;
    // A publisher's offer receives nothing.
    let offer = engine().offer_to_publish().await.unwrap().sdp;
    let refused = server.pipeline.view("desk", offer, None).await.err().unwrap();
    assert!(matches!(&refused, PipelineError::Peer(PeerError::NoVideo(_))), "{refused}");
    assert_eq!(server.pipeline.sessions().len(), 1, "nothing is left of it");
}
