//! What is drawn, and the words for it.

use serde_json::{Value, json};
use sightline::annotate;
use sightline::media::{I420Frame, Plane};

use crate::client::{Client, Options, Screen, picture_number};
use crate::fakes;
use crate::server::{self, Server};
use crate::squares::{CHROMA, Square, draw_patterned, squares};

const SIZE: (usize, usize) = (320, 240);

async fn finding() -> (Server, Client) {
    let server = Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await;
    let client = Client::connect(Options::to(&server)).await;
    (server, client)
}

fn bbox(value: &Value) -> [f64; 4] {
    let edges: Vec<f64> = value.as_array().unwrap().iter().map(|edge| edge.as_f64().unwrap()).collect();
    edges.try_into().unwrap()
}

/// Whether a box is that of the first square in the picture with this timestamp.
fn is_square_of(bbox: [f64; 4], rtp_timestamp: u32) -> bool {
    let [Square { left, top, side }, _] = squares(picture_number(rtp_timestamp), SIZE.0, SIZE.1);
    let truth = [left, top, left + side, top + side];
    #[allow(clippy::cast_precision_loss)]
    bbox.iter().zip(truth).all(|(edge, truth)| (edge - truth as f64).abs() <= 3.0)
}

/// The share of the samples of a box's left, right and bottom edge that have the colour of its class.
fn outline_share(picture: &I420Frame, bbox: [f64; 4], class_id: u32) -> f64 {
    let colour = annotate::colour(class_id);
    let (width, _) = picture.plane_size(Plane::U);
    // The message rounds to a tenth of a pixel, and an edge that is just past a whole one stands in the next sample.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let low = |edge: f64| [0.05, -0.05].map(|off| ((edge + off) / 2.0).floor() as usize);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let high = |edge: f64| [-0.05, 0.05].map(|off| ((edge + off) / 2.0).ceil() as usize);
    let (left, right, lower) = (low(bbox[0]), high(bbox[2]), high(bbox[3]));
    let ([top, _], [end, _]) = (low(bbox[1]), high(bbox[3]));
    let far = |plane: Plane, (x, y): (usize, usize), value: u8| picture.plane(plane)[y * width + x].abs_diff(value);
    let far = |at, (u, v)| u32::from(far(Plane::U, at, u)) + u32::from(far(Plane::V, at, v));
    // Compression spreads a line so thin over its neighbours: nearer to its colour than to the scene's.
    let hit = |at: (usize, usize)| far(at, (colour.u, colour.v)) < far(at, CHROMA);
    // An outline of 2 pixels is one sample of chroma wide; the label may hide the upper edge.
    let mut points: Vec<bool> = Vec::new();
    for y in top + 2..end - 1 {
        points.push(left.iter().any(|x| hit((*x, y))));
        points.push(right.iter().any(|x| hit((x - 1, y))));
    }
    for x in left[0]..right[0] {
        points.push(lower.iter().any(|y| hit((x, y - 1))));
    }
    let hits = points.iter().filter(|hit| **hit).count();
    #[allow(clippy::cast_precision_loss)]
    let share = hits as f64 / points.len() as f64;
    share
}

/// How far the chroma is from the scene's own, which is the same everywhere.
fn most_colour(picture: &I420Frame) -> u8 {
    let far = |plane: Plane, own: u8| picture.plane(plane).iter().map(|sample| sample.abs_diff(own)).max().unwrap();
    far(Plane::U, CHROMA.0).max(far(Plane::V, CHROMA.1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_boxes_stand_where_the_message_says() {
    let (_server, mut client) = finding().await;
    let mut screen = Screen::new();
    let mut checked = 0;
    for _ in 0..30 {
        let unit = client.round_trip().await;
        let picture = screen.show(&unit);
        let message = client.message_of("frame").await;
        assert_eq!(message["rtp_timestamp"], unit.rtp_timestamp);
        for one in message["boxes"].as_array().unwrap() {
            let share = outline_share(&picture, bbox(&one["bbox"]), 0);
            assert!(share > 0.8, "{share}: {message}");
            checked += 1;
        }
    }
    assert!(checked >= 20, "{checked} boxes");
}

/// A model that finds the square in the first picture and then never finishes, until the gate is dropped.
fn finding_once() -> (sightline::detect::Model, std::sync::mpsc::Sender<()>) {
    let (gate, closed) = std::sync::mpsc::channel::<()>();
    let closed = std::sync::Mutex::new(closed);
    let looked = std::sync::atomic::AtomicBool::new(false);
    let model = fakes::model(move |frame| {
        if looked.swap(true, std::sync::atomic::Ordering::SeqCst) {
            // Nothing is ever sent: this ends when the gate goes.
            let _ = closed.lock().unwrap().recv();
        }
        fakes::find_square(frame)
    });
    (model, gate)
}

/// Whether a box that was found once is drawn on its square in a later picture, where it has moved by half its side.
async fn keeps_up(follow: bool) -> bool {
    let (model, gate) = finding_once();
    let pipeline = sightline::pipeline::Config { follow, max_box_age_ms: 10_000, ..Default::default() };
    let server = Server::start(server::Options { pipeline, ..server::Options::with_model(model) }).await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.draw_by(draw_patterned);
    let first = client.round_trip().await.rtp_timestamp;
    assert_eq!(client.message_of("detections").await["rtp_timestamp"], first);
    let mut kept = false;
    for n in 1..12 {
        let unit = client.round_trip().await;
        // That of the first picture may come after its detections.
        let mut message = client.message_of("frame").await;
        while message["rtp_timestamp"] != unit.rtp_timestamp {
            message = client.message_of("frame").await;
        }
        assert_ne!(message["detection_frame_id"], message["frame_id"]);
        let drawn = bbox(&message["boxes"][0]["bbox"]);
        kept |= n >= 6 && is_square_of(drawn, unit.rtp_timestamp);
    }
    drop(gate);
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_goes_with_its_object_while_the_detector_is_away() {
    assert!(keeps_up(true).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_that_does_not_follow_stays_where_it_was_found() {
    assert!(!keeps_up(false).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_sends_detected_frames_with_their_own_boxes() {
    let (server, mut client) = finding().await;
    let ack = client.ask(json!({ "type": "config", "id": 1, "overlay": "exact" })).await;
    assert_eq!((&ack["type"], &ack["config"]["overlay"]), (&json!("config_ack"), &json!("exact")));
    let mut screen = Screen::new();
    for _ in 0..20 {
        let unit = client.round_trip().await;
        let picture = screen.show(&unit);
        let message = client.message_of("frame").await;
        assert_eq!(message["rtp_timestamp"], unit.rtp_timestamp);
        assert_eq!(message["detection_frame_id"], message["frame_id"]);
        assert_eq!(message["age_ms"], 0.0);
        let found = bbox(&message["boxes"][0]["bbox"]);
        assert!(is_square_of(found, unit.rtp_timestamp), "{message}");
        assert!(outline_share(&picture, found, 0) > 0.8, "{message}");
    }
    assert_eq!(server.stream().detections, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_falls_to_the_detectors_rate() {
    let model = fakes::model(|frame| {
        std::thread::sleep(std::time::Duration::from_millis(80));
        fakes::find_square(frame)
    });
    let server = Server::start(server::Options {
        pipeline: sightline::pipeline::Config {
            overlay: sightline::sink::message::Overlay::Exact,
            ..Default::default()
        },
        ..server::Options::with_model(model)
    })
    .await;
    let mut client = Client::connect(Options::to(&server)).await;
    client.play(40).await;
    let mut shown = 0;
    for message in client.messages_so_far() {
        if message["type"] == "frame" {
            assert_eq!(message["detection_frame_id"], message["frame_id"]);
            shown += 1;
        }
    }
    let stream = server.stream();
    assert!((5..=20).contains(&shown), "{shown} of 40 frames");
    assert!(stream.dropped["exact"] >= 15, "{:?}", stream.dropped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_draws_nothing_and_the_detections_still_come() {
    let (_server, mut client) = finding().await;
    let mut screen = Screen::new();
    let mut coloured = 0;
    for _ in 0..10 {
        coloured = most_colour(&screen.show(&client.round_trip().await));
    }
    assert!(coloured > 30, "there was a box: {coloured}");
    let ack = client.ask(json!({ "type": "config", "overlay": "none" })).await;
    assert_eq!(ack["config"]["overlay"], "none");
    for _ in 0..10 {
        let unit = client.round_trip().await;
        let left = most_colour(&screen.show(&unit));
        assert!(left < 20, "nothing is left of it: {left}");
        loop {
            let message = client.message().await;
            if message["type"] == "frame" {
                assert_eq!(message["boxes"], json!([]), "{message}");
            } else if message["rtp_timestamp"] == unit.rtp_timestamp {
                assert!(is_square_of(bbox(&message["detections"][0]["bbox"]), unit.rtp_timestamp), "{message}");
                break;
            }
        }
    }
}
