//! Streams that outlive their publisher: WHIP.

use std::time::{Duration, Instant};

use sightline::pipeline::{self, PipelineError, StreamKind};

use crate::client::{Client, Options, Screen};
use crate::fakes;
use crate::server::{self, Server, within};
use crate::watcher::{Broadcaster, Watcher};

async fn serving(grace: Duration) -> Server {
    let grace = u64::try_from(grace.as_millis()).unwrap();
    let pipeline = pipeline::Config { publisher_grace_ms: grace, ..pipeline::Config::default() };
    let options = server::Options::with_model(fakes::model(fakes::find_square));
    Server::start(server::Options { pipeline, ..options }).await
}

/// Plays on while the viewer waits for this many frames.
async fn show(publisher: &mut Broadcaster, viewer: &mut Watcher, count: usize) -> Vec<sightline::media::AccessUnit> {
    tokio::select! {
        () = publisher.play() => panic!("the publisher was thrown out"),
        frames = viewer.frames(count) => frames,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_can_be_watched() {
    let server = serving(Duration::from_secs(10)).await;
    let mut publisher = Broadcaster::publish(&server, "stage", false).await.unwrap();
    let mut viewer = Watcher::watch(&server, "stage", None).await.unwrap();
    let frames = show(&mut publisher, &mut viewer, 20).await;
    let mut screen = Screen::new();
    for frame in &frames {
        screen.show(frame);
    }
    let report = server.pipeline.stream_report("stage").unwrap();
    assert_eq!((report.kind, report.published), (StreamKind::Whip, true));
    assert_eq!((report.status.width, report.status.height), (Some(320), Some(240)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_publisher_is_refused_unless_it_takes_over() {
    let server = serving(Duration::from_secs(10)).await;
    let mut first = Broadcaster::publish(&server, "stage", false).await.unwrap();
    let mut viewer = Watcher::watch(&server, "stage", None).await.unwrap();
    let before = show(&mut first, &mut viewer, 10).await;
    let refused = Broadcaster::publish(&server, "stage", false).await.err().unwrap();
    assert!(matches!(refused, PipelineError::NameTaken(_)), "{refused}");
    show(&mut first, &mut viewer, 5).await;

    let mut second = Broadcaster::publish(&server, "stage", true).await.unwrap();
    let displaced = first.session.clone();
    let after = tokio::select! {
        () = second.play() => panic!("the second was thrown out"),
        frames = async {
            let there = || server.pipeline.connection(&displaced).is_some();
            within(Duration::from_secs(3), "the first is gone", || !there()).await;
            viewer.frames_so_far();
            viewer.frames(20).await
        } => frames,
    };
    // The same viewer, the same connection; the second's timestamps begin anew, what the viewer gets does not.
    assert!(after.windows(2).all(|pair| pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp) < 1 << 31));
    assert!(after[0].rtp_timestamp.wrapping_sub(before[9].rtp_timestamp) < 1 << 31);
    assert_eq!(server.pipeline.sessions().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_may_come_back_and_its_viewers_stay() {
    let server = serving(Duration::from_secs(20)).await;
    let mut first = Broadcaster::publish(&server, "stage", false).await.unwrap();
    let mut viewer = Watcher::watch(&server, "stage", None).await.unwrap();
    show(&mut first, &mut viewer, 10).await;
    assert!(server.pipeline.end_session(&first.session));
    within(Duration::from_secs(3), "nobody publishes", || !server.pipeline.stream_report("stage").unwrap().published)
        .await;
    assert!(server.pipeline.stream_report("stage").unwrap().status.no_signal.is_some());
    let mut again = Broadcaster::publish(&server, "stage", false).await.unwrap();
    show(&mut again, &mut viewer, 20).await;
    assert_eq!(server.pipeline.sessions().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_does_not_come_back_ends_the_stream() {
    let server = serving(Duration::from_millis(700)).await;
    let first = Broadcaster::publish(&server, "stage", false).await.unwrap();
    let mut viewer = Watcher::watch_and_listen(&server, "stage", None).await.unwrap();
    let started = Instant::now();
    assert!(server.pipeline.end_session(&first.session));
    let goodbye = viewer.message_of("error").await;
    assert!(started.elapsed() >= Duration::from_millis(700), "not before its time");
    assert_eq!(goodbye["code"], "session_ended");
    within(Duration::from_secs(3), "the stream is gone", || server.pipeline.streams().is_empty()).await;
    within(Duration::from_secs(3), "its viewer is gone", || server.pipeline.sessions().is_empty()).await;
    let again = Broadcaster::publish(&server, "stage", false).await;
    assert!(again.is_ok(), "the name is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_an_offer_is_nobody_elses_to_take() {
    let server = serving(Duration::from_secs(10)).await;
    let _client = Client::connect(Options { stream: Some("desk".to_owned()), ..Options::to(&server) }).await;
    let refused = Broadcaster::publish(&server, "desk", true).await.err().unwrap();
    assert!(matches!(refused, PipelineError::NameTaken(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_falls_silent_has_left() {
    let server = serving(Duration::from_millis(100)).await;
    let mut publisher = Broadcaster::publish(&server, "stage", false).await.unwrap();
    publisher.send().await.unwrap();
    within(Duration::from_secs(6), "the stream is gone", || server.pipeline.streams().is_empty()).await;
}
