//! What is bad costs one frame or one stream, and nobody else anything.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::{Client, Options};
use crate::fakes;
use crate::server::{self, Server};

async fn with_fake() -> Server {
    Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_packet_is_sent_again_and_no_frame_is_missing() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::through_a_relay(&server)).await;
    client.round_trip().await;
    client.relay.as_ref().unwrap().lose_next(false);
    client.play(30).await;
    let last = *client.sent.last().unwrap();
    client.frames_to(last).await;
    let stream = server.stream();
    assert_eq!((stream.frames_in, stream.frames_decoded), (31, 31), "{stream:?}");
    assert_eq!(server.session().packets_lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_lost_for_good_asks_the_publisher_for_a_keyframe() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::through_a_relay(&server)).await;
    client.round_trip().await;
    client.relay.as_ref().unwrap().lose_next(true);
    let lost = client.send().await;
    // The publisher answers the request by an IDR, from which on everything is shown again.
    let mut shown = Vec::new();
    while shown.is_empty() {
        client.play(1).await;
        shown = client.frames_so_far();
        assert!(client.sent.len() < 200, "nothing came any more");
    }
    let first = shown[0].rtp_timestamp;
    assert!(first.wrapping_sub(lost) > 0 && first != lost);
    assert_eq!(server.session().packets_lost, 1);
    let again = client.round_trip().await;
    assert_eq!(again.rtp_timestamp, *client.sent.last().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_wire_costs_nothing() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::through_a_relay(&server)).await;
    let mut other = Client::connect(Options::to(&server)).await;
    client.round_trip().await;
    let relay = client.relay.as_ref().unwrap();
    let media = relay.headers().last().cloned().unwrap();
    let mut garbage: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0x80], vec![22; 3], vec![23; 40], vec![255; 1400]];
    for length in 0..40 {
        // Cut-off RTP, RTCP, STUN and DTLS, with a header that begins well.
        for first in [[0x80, 102], [0x90, 102], [0xb0, 230], [0x81, 200], [0x8f, 206], [0, 1], [22, 254], [23, 254]] {
            let mut datagram = first.to_vec();
            datagram.extend([0, 1]);
            datagram.extend(media.timestamp.to_be_bytes());
            datagram.extend(media.ssrc.to_be_bytes());
            datagram.extend([0xff; 40]);
            datagram.truncate(length);
            garbage.push(datagram);
        }
    }
    for datagram in &garbage {
        relay.inject(datagram).await;
    }
    for _ in 0..10 {
        client.round_trip().await;
        other.round_trip().await;
    }
    assert_eq!(server.pipeline.sessions().len(), 2);
    for stream in server.pipeline.streams() {
        assert_eq!(stream.status.dropped.values().sum::<u64>(), 0, "{stream:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_reaches_nobody_and_is_counted() {
    let server = with_fake().await;
    let mut client = Client::connect(Options::to(&server)).await;
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for n in 0..50u8 {
        stranger.send_to(&[n; 100], ("127.0.0.1", server.pipeline.udp_port())).await.unwrap();
    }
    client.round_trip().await;
    let metrics = format!("{}/metrics", server.base);
    let text = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.contains("sightline_datagrams_lost_total{reason=\"unknown_address\"}"));
    let count: u64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count >= 50, "{count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_that_panics_costs_that_frame() {
    static LOOKED: AtomicU64 = AtomicU64::new(0);
    let model = fakes::model(|frame| {
        assert!(!LOOKED.fetch_add(1, Ordering::SeqCst).is_multiple_of(2), "every other picture");
        fakes::find_square(frame)
    });
    let server = Server::start(server::Options::with_model(model)).await;
    let mut client = Client::connect(Options::to(&server)).await;
    // The detector may pass over most of the pictures while they come: send until it has looked at three.
    let looked_at_three = async {
        while LOOKED.load(Ordering::SeqCst) < 3 {
            client.round_trip().await;
        }
    };
    tokio::time::timeout(server::LIMIT, looked_at_three).await.expect("the detector looks on after a panic");
    let found = client.message_of("detections").await;
    assert_eq!(found["detections"].as_array().unwrap().len(), 1);
    assert_eq!(server.stream().dropped.values().sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_picture_comes_back_beside_another_stream() {
    let server = with_fake().await;
    let mut other = Client::connect(Options::to(&server)).await;
    let mut client = Client::connect(Options { size: (16, 16), ..Options::to(&server) }).await;
    client.round_trip().await;
    for _ in 0..5 {
        other.round_trip().await;
    }
}
