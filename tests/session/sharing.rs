//! Nobody pays for what nobody wants, and what several want is made once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sightline::detect::Model;
use sightline::pipeline::VideoChoice;

use crate::client::{Client, Options, picture_number};
use crate::fakes;
use crate::fed::Fed;
use crate::server::{self, Server};

fn counting() -> (Model, Arc<AtomicU64>) {
    let looked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&looked);
    let model = fakes::model(move |frame| {
        count.fetch_add(1, Ordering::SeqCst);
        fakes::find_square(frame)
    });
    (model, looked)
}

#[tokio::test]
async fn nobody_watches_and_nobody_listens_so_nothing_is_made() {
    let (model, looked) = counting();
    let mut fed = Fed::start(model);
    for _ in 0..10 {
        fed.feed().await;
    }
    assert_eq!(fed.stream.bytes_out(), 0, "no encode");
    assert_eq!(looked.load(Ordering::SeqCst), 0, "no inference");
}

#[tokio::test]
async fn a_reader_alone_costs_the_inference_and_no_encode() {
    let (model, looked) = counting();
    let mut fed = Fed::start(model);
    let (mut results, reading) = fed.stream.results();
    fed.feed().await;
    assert_eq!(results.recv().await.unwrap().items.len(), 1);
    assert_eq!(fed.stream.bytes_out(), 0, "no encode");
    drop(reading);
    let before = looked.load(Ordering::SeqCst);
    for _ in 0..5 {
        fed.feed().await;
    }
    assert_eq!(looked.load(Ordering::SeqCst), before, "nobody reads any more");
}

#[tokio::test]
async fn two_viewers_get_the_same_encode() {
    let (model, _) = counting();
    let mut fed = Fed::start(model);
    let (mut first, mut second) = (fed.stream.watch(VideoChoice::Annotated), fed.stream.watch(VideoChoice::Annotated));
    let mut bytes = 0;
    for n in 0..10 {
        fed.feed().await;
        let (a, b) = (first.recv().await.unwrap(), second.recv().await.unwrap());
        assert!(Arc::ptr_eq(&a, &b), "not even copied");
        assert_eq!(a.idr, n == 0);
        bytes += a.payloads.iter().map(bytes::Bytes::len).sum::<usize>();
    }
    // Start codes and RTP's own bytes differ by a few for each NAL unit.
    let made = usize::try_from(fed.stream.bytes_out()).unwrap();
    assert!(made.abs_diff(bytes) < 10 * 60, "{made} bytes were made, {bytes} sent to each");
    drop(first);
    drop(second);
    // With the first picture it shows that they have left; once the second is decoded, all is done for the first.
    fed.feed().await;
    fed.feed().await;
    let last = fed.stream.bytes_out();
    for _ in 0..3 {
        fed.feed().await;
    }
    assert_eq!(fed.stream.bytes_out(), last, "both have left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_does_not_watch_costs_no_encode() {
    let server = Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await;
    let munge = |offer: String| offer.replace("a=sendrecv", "a=sendonly");
    let mut client = Client::connect(Options { munge, ..Options::to(&server) }).await;
    client.play(10).await;
    let last = *client.sent.last().unwrap();
    loop {
        let message = client.message().await;
        assert_eq!(message["type"], "detections", "there are no frames to tell of: {message}");
        if message["rtp_timestamp"] == last {
            assert_eq!(picture_number(last), 9);
            break;
        }
    }
    let stream = server.stream();
    assert_eq!((stream.viewers, stream.frames_out), (0, 0));
}
