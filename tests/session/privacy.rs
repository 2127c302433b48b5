//! What nobody may see is on no picture that leaves: annotated, plain, snapshot, or under the banner.

use std::sync::Arc;

use sightline::annotate::Veil;
use sightline::media::{I420Frame, Plane};
use sightline::pipeline::{self, BeforeFirst, Rules, Signal, StreamOptions, VideoChoice};
use sightline::sink::Bitstream;
use sightline::sink::message::ConfigMessage;

use crate::fakes::{self, Gate};
use crate::fed::{Fed, Screen, next};
use crate::server::until;

const CAMERA: StreamOptions = StreamOptions { detect_always: true, bridge: true, endures: true };

/// Squares are hidden entirely: of a blur, a bright mean is left.
fn squares() -> Rules {
    Rules { blur: vec![fakes::LABELS[0].to_owned()], privacy: Veil::Black, ..Rules::default() }
}

fn fed(rules: Rules, gate: &Arc<Gate>) -> Fed {
    let gate = Arc::clone(gate);
    let model = fakes::model(move |frame| {
        gate.pass();
        fakes::find_square(frame)
    });
    Fed::start_as(model, CAMERA, &pipeline::Config { stream: rules, ..pipeline::Config::default() })
}

fn opened() -> Arc<Gate> {
    let gate = Arc::new(Gate::default());
    gate.open();
    gate
}

/// Feeds a picture and waits for what the detector says of it: the longer ago it spoke, the more is hidden.
async fn feed_seen(fed: &mut Fed) {
    let before = fed.stream.status().detections;
    fed.feed().await;
    until("the detector has looked at it", || fed.stream.status().detections > before).await;
}

/// The brightest sample where the first square goes, below any label and above any banner.
fn brightest(picture: &I420Frame) -> u8 {
    let rows = picture.plane(Plane::Y).chunks(320).take(70).skip(52);
    rows.flat_map(|row| &row[..240]).copied().max().unwrap()
}

/// The mean of the lower half, where only the background is.
fn background(picture: &I420Frame) -> u32 {
    let rows = picture.plane(Plane::Y).chunks(320).skip(200);
    let samples: Vec<u32> = rows.flat_map(|row| &row[..200]).map(|sample| u32::from(*sample)).collect();
    samples.iter().sum::<u32>() / u32::try_from(samples.len()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_detector_has_spoken_nothing_is_shown_and_then_all_but_the_hidden() {
    let gate = Arc::new(Gate::default());
    let mut fed = fed(squares(), &gate);
    let mut annotated = fed.stream.watch(VideoChoice::Annotated);
    let mut original = fed.stream.watch(VideoChoice::Original);
    let (mut first, mut second) = (Screen::new(), Screen::new());
    for _ in 0..3 {
        fed.feed().await;
        let frame = next(&mut original).await;
        assert_eq!(frame.bitstream, Bitstream::Plain, "the source's own goes to nobody");
        for picture in [first.show(&*next(&mut annotated).await), second.show(&frame)] {
            assert!(background(&picture) < 25 && brightest(&picture) < 40);
        }
        for snapshot in [true, false].map(|annotated| fed.stream.snapshot(annotated).unwrap().picture) {
            assert!(background(&snapshot) < 25 && brightest(&snapshot) < 40);
        }
    }
    let privacy = fed.stream.status().privacy.unwrap();
    assert_eq!((privacy.hides, privacy.why.is_some()), ("all", true));
    gate.open();
    until("the detector has spoken", || fed.stream.status().detections > 0).await;
    for n in 0..40 {
        feed_seen(&mut fed).await;
        let frame = next(&mut original).await;
        assert_eq!(frame.bitstream, Bitstream::Plain);
        for picture in [first.show(&*next(&mut annotated).await), second.show(&frame)] {
            assert!(background(&picture) > 40, "{n}");
            assert!(brightest(&picture) < 185, "{n}: {}", brightest(&picture));
        }
        for snapshot in [true, false].map(|annotated| fed.stream.snapshot(annotated).unwrap().picture) {
            assert!(background(&snapshot) > 40 && brightest(&snapshot) < 185, "{n}: {}", brightest(&snapshot));
        }
    }
    let status = fed.stream.status();
    assert_eq!(status.privacy.unwrap().hides, "parts");
    assert!(!status.video.unwrap().forwarded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_picture_under_the_banner_is_hidden_too() {
    let mut fed = fed(squares(), &opened());
    for _ in 0..5 {
        feed_seen(&mut fed).await;
    }
    fed.stream.set_signal(Signal::Lost("gone".to_owned()));
    for choice in [VideoChoice::Annotated, VideoChoice::Original] {
        let mut viewer = fed.stream.watch(choice);
        let picture = Screen::new().show(&*next(&mut viewer).await);
        assert_eq!(picture.width(), 320);
        assert!(background(&picture) > 40 && brightest(&picture) < 185, "{choice:?}: {}", brightest(&picture));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_messages_leave_out_is_hidden_all_the_same() {
    let mut fed = fed(squares(), &opened());
    let (mut results, _guard) = fed.stream.results();
    let nothing =
        ConfigMessage { classes: Some(Some(Vec::new())), confidence_threshold: Some(0.99), ..ConfigMessage::default() };
    fed.stream.configure(nothing).unwrap();
    let mut viewer = fed.stream.watch(VideoChoice::Annotated);
    let mut screen = Screen::new();
    fed.feed().await;
    screen.show(&*next(&mut viewer).await);
    until("the detector has spoken", || fed.stream.status().detections > 0).await;
    for _ in 0..20 {
        feed_seen(&mut fed).await;
        let picture = screen.show(&*next(&mut viewer).await);
        assert!(background(&picture) > 40 && brightest(&picture) < 185, "{}", brightest(&picture));
    }
    while let Ok(result) = results.try_recv() {
        assert!(result.items.is_empty() && result.veiled.len() == 1, "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masks_are_on_every_picture_and_the_original_is_back_when_there_are_none() {
    let mask = vec![[0.5, 0.75], [1.0, 0.75], [1.0, 1.0], [0.5, 1.0]];
    let mut fed = fed(Rules { masks: vec![mask], ..Rules::default() }, &opened());
    let masked = |picture: &I420Frame| {
        let rows = picture.plane(Plane::Y).chunks(320).skip(184);
        rows.flat_map(|row| &row[164..]).all(|sample| *sample < 40)
    };
    let mut annotated = fed.stream.watch(VideoChoice::Annotated);
    let mut original = fed.stream.watch(VideoChoice::Original);
    let (mut first, mut second) = (Screen::new(), Screen::new());
    for _ in 0..5 {
        fed.feed().await;
        let frame = next(&mut original).await;
        assert_eq!(frame.bitstream, Bitstream::Plain);
        assert!(masked(&first.show(&*next(&mut annotated).await)) && masked(&second.show(&frame)));
        assert!(masked(&fed.stream.snapshot(false).unwrap().picture));
    }
    fed.stream.set_rules(Rules::default());
    fed.feed().await;
    fed.feed_as(true).await;
    fed.feed().await;
    until("the original goes out", || fed.stream.status().video.is_some_and(|video| video.forwarded)).await;
    loop {
        let frame = next(&mut original).await;
        second.show(&frame);
        if frame.bitstream == Bitstream::Source {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_that_the_model_does_not_have_hides_everything() {
    let faces = Rules {
        blur: vec!["face".to_owned()],
        privacy_before_first: BeforeFirst::Show,
        privacy: Veil::Black,
        ..Rules::default()
    };
    let mut fed = fed(faces, &opened());
    let mut viewer = fed.stream.watch(VideoChoice::Annotated);
    let mut screen = Screen::new();
    for _ in 0..5 {
        fed.feed().await;
        assert!(background(&screen.show(&*next(&mut viewer).await)) < 25);
    }
    assert!(fed.stream.status().privacy.unwrap().why.unwrap().contains("cannot find"));
}
