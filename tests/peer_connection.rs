//! Two engines of this crate talk to each other over loopback: the door works before anything stands behind it.

use std::time::Duration;

use bytes::Bytes;
use sightline::media::{AudioCodec, AudioPacket, KeyframeRequest};
use sightline::peer::{
    Answered, Channel, ChannelEvent, Config, ConnectionEvent, ConnectionState, Engine, Patched, PeerError, Role,
    VideoIn, VideoOut, packetize,
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

/// A publisher or a viewer of one kind, connected to what answered it.
async fn connect_as<C>(offered: sightline::peer::Offered<C>, server: &Engine, role: Role) -> (Answered, Answered, C)
where
    C: Clone,
{
    let channel = offered.channel.clone();
    let mut server = server.answer_as(&offered.sdp, role).await.unwrap();
    let mut client = offered.accept(&server.sdp).await.unwrap();
    for events in [&mut client.events, &mut server.events] {
        wait_for(events, |event| matches!(event, ConnectionEvent::State(ConnectionState::Connected))).await;
    }
    (client, server, channel)
}

/// The directions of an answer's video and audio sections (RFC 8866 §6.7).
fn directions(sdp: &str) -> Vec<&str> {
    let known = ["a=sendonly", "a=recvonly", "a=sendrecv", "a=inactive"];
    let media = sdp.split("\r\nm=").filter(|section| section.starts_with("video") || section.starts_with("audio"));
    media.flat_map(|section| section.lines().filter(|line| known.contains(line))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_is_answered_recvonly_and_its_video_comes() {
    let (client_engine, server_engine) = (engine(), engine());
    let offered = client_engine.offer_to_publish().await.unwrap();
    let (mut client, mut server, ()) = connect_as(offered, &server_engine, Role::Publisher).await;
    assert_eq!(directions(&server.sdp), ["a=recvonly"], "{}", server.sdp);
    assert!(server.sdp.contains("a=rtcp-mux-only"), "RFC 9725 §4.4.1: {}", server.sdp);
    assert!(server.video_out.is_none() && server.audio_out.is_none() && !server.channel_possible);
    let mut out = client.video_out.take().unwrap();
    let mut video = send_until_seen(&mut out, &mut server.events).await;
    assert_eq!(video.recv().await.unwrap().timestamp, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_both_directions_is_answered_as_the_role_has_it() {
    let (client_engine, server_engine) = (engine(), engine());
    for (role, expected) in [(Role::Publisher, "a=recvonly"), (Role::Viewer, "a=sendonly")] {
        let offered = client_engine.offer().await.unwrap();
        let answered = server_engine.answer_as(&offered.sdp, role).await.unwrap();
        assert_eq!(directions(&answered.sdp), [expected], "{role:?}: {}", answered.sdp);
        assert_eq!(answered.video_out.is_some(), role == Role::Viewer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_gets_video_the_capture_time_and_g711_audio() {
    let (client_engine, server_engine) = (engine(), engine());
    let offered = client_engine.offer_to_view_with_channel().await.unwrap();
    let (mut client, mut server, channel) = connect_as(offered, &server_engine, Role::Viewer).await;
    assert_eq!(directions(&server.sdp), ["a=sendonly", "a=sendonly"], "{}", server.sdp);
    assert!(client.video_out.is_none() && server.channel_possible);
    assert!(server.sdp.contains("abs-capture-time"), "{}", server.sdp);

    let mut out = server.video_out.take().unwrap();
    let captured = std::time::SystemTime::now();
    out.send(&packetize(&access_unit(7)), 1000, Some(captured)).await.unwrap();
    let event = wait_for(&mut client.events, |event| matches!(event, ConnectionEvent::Video(_))).await;
    let ConnectionEvent::Video(mut video) = event else { unreachable!() };
    assert_eq!(video.recv().await.unwrap().timestamp, 1000);
    let told = video.sender_report().expect("the first packet says when its frame was captured");
    assert_eq!(told.rtp_timestamp, 1000);
    let told = told.wall_clock().unwrap();
    let off = told.duration_since(captured).unwrap_or_else(|early| early.duration());
    assert!(off < Duration::from_micros(1), "{off:?}");

    let mut audio = server.audio_out.take().unwrap();
    assert!([AudioCodec::Opus, AudioCodec::Pcmu, AudioCodec::Pcma].into_iter().all(|codec| audio.takes(codec)));
    let packet = AudioPacket {
        codec: AudioCodec::Pcmu,
        rtp_timestamp: 160,
        marker: true,
        payload: Bytes::from_static(&[0xff; 160]),
        arrived: std::time::Instant::now(),
    };
    audio.send(&packet).await.unwrap();
    let event = wait_for(&mut client.events, |event| matches!(event, ConnectionEvent::Audio(_))).await;
    let ConnectionEvent::Audio(mut heard) = event else { unreachable!() };
    let heard = tokio::time::timeout(LIMIT, heard.recv()).await.unwrap().unwrap();
    assert_eq!((heard.codec, heard.rtp_timestamp, heard.payload), (AudioCodec::Pcmu, 160, packet.payload));
    assert_eq!(audio.dropped(), 0);
    assert!(channel.opened().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_that_come_after_the_offer_make_the_connection() {
    let (client_engine, server_engine) = (engine(), engine());
    let offered = client_engine.offer_to_view().await.unwrap();
    let (bare, candidates): (Vec<&str>, Vec<&str>) =
        offered.sdp.lines().partition(|line| !line.starts_with("a=candidate:"));
    // The server's own candidates are hidden too: it must be the one that begins.
    let offer = bare.iter().map(|line| format!("{line}\r\n")).collect::<String>();
    let mut server = server_engine.answer_as(&offer, Role::Viewer).await.unwrap();
    let answer: String =
        server.sdp.lines().filter(|line| !line.starts_with("a=candidate:")).map(|line| format!("{line}\r\n")).collect();
    let fragment: String = bare
        .iter()
        .filter(|line| line.starts_with("a=ice-ufrag:") || line.starts_with("a=ice-pwd:"))
        .chain(&candidates)
        .map(|line| format!("{line}\r\n"))
        .collect();
    let mut client = offered.accept(&answer).await.unwrap();
    let etag = server.connection.etag();
    let stale = server.connection.patch(&fragment, |tag| tag == "another").await;
    assert!(matches!(stale, Err(PeerError::OtherGeneration)));
    assert_eq!(server.connection.patch(&fragment, |tag| tag == etag).await.unwrap(), Patched::Added);
    for events in [&mut client.events, &mut server.events] {
        wait_for(events, |event| matches!(event, ConnectionEvent::State(ConnectionState::Connected))).await;
    }
    assert_eq!(server.connection.etag(), etag, "candidates are no new generation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_gives_new_credentials_and_a_fragment_that_cannot_be_read_changes_nothing() {
    let (client_engine, server_engine) = (engine(), engine());
    let offered = client_engine.offer_to_view().await.unwrap();
    let (_client, server, ()) = connect_as(offered, &server_engine, Role::Viewer).await;
    let before = server.connection.etag();
    for bad in ["", "hello", "a=ice-ufrag:abcd\r\n"] {
        assert!(matches!(server.connection.patch(bad, |_| true).await, Err(PeerError::BadFragment(_))), "{bad:?}");
    }
    assert_eq!(server.connection.etag(), before);
    let fragment = "a=ice-ufrag:newuser\r\na=ice-pwd:newpassword0123456789012\r\n";
    let Patched::Restarted { fragment: answer, etag } = server.connection.patch(fragment, |_| true).await.unwrap()
    else {
        panic!("other credentials are a restart");
    };
    assert_ne!(etag, before);
    assert_eq!(server.connection.etag(), etag);
    assert!(answer.contains(&format!("a=ice-ufrag:{etag}\r\n")) && answer.contains("a=ice-pwd:"), "{answer}");
    assert!(answer.contains(&format!(" {} typ host", server_engine.port())), "with our candidates: {answer}");
    let again = server.connection.patch(fragment, |_| true).await.unwrap();
    assert_eq!(again, Patched::Added, "the same credentials again are the same generation");
}
