//! Two engines of this crate talk to each other over loopback: the door works before anything stands behind it.

use std::time::Duration;

use bytes::Bytes;
use sightline::media::KeyframeRequest;
use sightline::peer::{
    Answered, Channel, ChannelEvent, Config, ConnectionEvent, ConnectionState, Engine, VideoIn, VideoOut, packetize,
};
use tokio::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(10);

fn engine() -> Engine {
    Engine::bind_loopback(&Config { udp_port: 0, public_ip: vec![] }).unwrap()
}

struct Ends {
    client: Answered,
    client_channel: Channel,
    server: Answered,
}

async fn connect(client: &Engine, server: &Engine) -> Ends {
    let offered = client.offer().await.unwrap();
    let mut server = server.answer(&offered.sdp).await.unwrap();
    let client_channel = offered.channel.clone();
    let mut client = offered.accept(&server.sdp).await.unwrap();
    for events in [&mut client.events, &mut server.events] {
        wait_for(events, |event| matches!(event, ConnectionEvent::State(ConnectionState::Connected))).await;
    }
    Ends { client, client_channel, server }
}

async fn wait_for(
    events: &mut mpsc::Receiver<ConnectionEvent>,
    wanted: impl Fn(&ConnectionEvent) -> bool,
) -> ConnectionEvent {
    tokio::time::timeout(LIMIT, async {
        loop {
            let event = events.recv().await.expect("the connection ended");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
    .expect("the event did not come in time")
}

fn access_unit(fill: u8) -> Bytes {
    let mut unit = vec![0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 0, 0, 0, 1, 0x68, 0xce, 0, 0, 0, 1, 0x65];
    unit.resize(5000, fill);
    unit.into()
}

async fn send_until_seen(out: &mut VideoOut, events: &mut mpsc::Receiver<ConnectionEvent>) -> VideoIn {
    // A track is announced by its first packet.
    out.send(&packetize(&access_unit(7)), 1000, None).await.unwrap();
    match wait_for(events, |event| matches!(event, ConnectionEvent::Video(_))).await {
        ConnectionEvent::Video(video) => video,
        _ => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn video_goes_both_ways_through_one_port_each() {
    let (client_engine, server_engine) = (engine(), engine());
    let mut ends = connect(&client_engine, &server_engine).await;
    let port = format!(" {} typ host", server_engine.port());
    assert!(ends.server.sdp.contains(&port), "the answer names the shared port:\n{}", ends.server.sdp);

    let mut client_out = ends.client.video_out.take().unwrap();
    let mut server_out = ends.server.video_out.take().unwrap();
    let mut up = send_until_seen(&mut client_out, &mut ends.server.events).await;
    let mut down = send_until_seen(&mut server_out, &mut ends.client.events).await;
    for video in [&mut up, &mut down] {
        let expected = packetize(&access_unit(7));
        for (index, payload) in expected.iter().enumerate() {
            let packet = tokio::time::timeout(LIMIT, video.recv()).await.unwrap().unwrap();
            assert_eq!(packet.timestamp, 1000);
            assert_eq!(packet.payload, payload);
            assert_eq!(packet.marker, index + 1 == expected.len());
        }
    }
    let stats = ends.server.connection.stats();
    assert!(stats.bytes_in > 5000 && stats.bytes_out > 5000, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_packet_of_a_frame_is_noted_when_it_has_left() {
    let (client_engine, server_engine) = (engine(), engine());
    let mut ends = connect(&client_engine, &server_engine).await;
    let mut out = ends.server.video_out.take().unwrap();
    let mut sent = out.take_sent().unwrap();
    for timestamp in [3000, 6000] {
        out.send(&packetize(&access_unit(1)), timestamp, None).await.unwrap();
        let note = tokio::time::timeout(LIMIT, sent.recv()).await.unwrap().unwrap();
        assert_eq!(note.rtp_timestamp, timestamp);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyframe_request_crosses_the_connection() {
    let (client_engine, server_engine) = (engine(), engine());
    let mut ends = connect(&client_engine, &server_engine).await;
    let mut out = ends.server.video_out.take().unwrap();
    let (asked, mut seen) = mpsc::channel(4);
    out.on_keyframe_request(KeyframeRequest::new(move || asked.try_send(()).unwrap()));
    let mut video = send_until_seen(&mut out, &mut ends.client.events).await;
    video.recv().await.unwrap();
    video.keyframe_request().request();
    tokio::time::timeout(LIMIT, seen.recv()).await.expect("no PLI came").unwrap();
    assert_eq!(ends.server.connection.stats().keyframe_requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_crosses_the_channel_and_closing_is_noticed_at_once() {
    let (client_engine, server_engine) = (engine(), engine());
    let mut ends = connect(&client_engine, &server_engine).await;
    let event = wait_for(&mut ends.server.events, |event| matches!(event, ConnectionEvent::Channel(_))).await;
    let ConnectionEvent::Channel(channel) = event else { unreachable!() };
    assert_eq!(channel.label().await, sightline::peer::CHANNEL_LABEL);
    assert!(ends.client_channel.opened().await);
    assert!(ends.client_channel.try_send("ping").await.unwrap());
    let heard = tokio::time::timeout(LIMIT, channel.recv()).await.unwrap();
    assert_eq!(heard, ChannelEvent::Message("ping".to_owned()));
    ends.client.connection.close().await;
    let heard = tokio::time::timeout(Duration::from_secs(2), channel.recv()).await.expect("not noticed in time");
    assert_eq!(heard, ChannelEvent::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_share_the_port_without_mixing() {
    // Two clients with a socket each, as two browsers have; behind one address they could not be told apart.
    let (first_engine, second_engine, server_engine) = (engine(), engine(), engine());
    let mut first = connect(&first_engine, &server_engine).await;
    let mut second = connect(&second_engine, &server_engine).await;
    let mut first_out = first.client.video_out.take().unwrap();
    let mut second_out = second.client.video_out.take().unwrap();
    let mut first_in = send_until_seen(&mut first_out, &mut first.server.events).await;
    second_out.send(&packetize(&access_unit(9)), 2000, None).await.unwrap();
    let event = wait_for(&mut second.server.events, |event| matches!(event, ConnectionEvent::Video(_))).await;
    let ConnectionEvent::Video(mut second_in) = event else { unreachable!() };
    assert_eq!(first_in.recv().await.unwrap().timestamp, 1000);
    assert_eq!(second_in.recv().await.unwrap().timestamp, 2000);
}
