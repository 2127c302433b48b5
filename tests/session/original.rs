//! The source's own video to viewers, without an encode, and the bridge to it.

use std::time::Duration;

use sightline::media::{BBox, I420Frame, Plane, STAGES};
use sightline::pipeline::{StreamOptions, VideoChoice};
use sightline::sink::Bitstream;
use sightline::source::file::H264File;
use tokio::time::timeout;

use crate::fakes;
use crate::fed::{Fed, Screen, next, unit};
use crate::server::until;
use crate::squares::{self, BRIGHT};

/// A camera: it cannot be asked for an IDR.
fn camera() -> Fed {
    let options = StreamOptions { bridge: true, endures: true, ..StreamOptions::default() };
    Fed::start_with(fakes::model(fakes::find_square), options)
}

/// Whether the first square of the scene's picture `n` stands where it should.
fn is_picture(picture: &I420Frame, n: usize) -> bool {
    let square = squares::squares(n, picture.width(), picture.height())[0];
    let at = (square.top + square.side / 2) * picture.width() + square.left + square.side / 2;
    picture.plane(Plane::Y)[at].abs_diff(BRIGHT) < 30
}

#[tokio::test]
async fn while_the_viewers_are_in_sync_the_source_goes_out_untouched_and_nothing_is_encoded() {
    let mut camera = camera();
    camera.feed().await;
    let mut viewers: Vec<_> = (0..3).map(|_| camera.stream.watch(VideoChoice::Original)).collect();
    let mut screen = Screen::new();
    for viewer in &mut viewers[1..] {
        next(viewer).await;
    }
    assert!(is_picture(&screen.show(&*next(&mut viewers[0]).await), 0));
    for n in 1..20 {
        let fed = camera.feed_as(n == 10).await;
        for (which, viewer) in viewers.iter_mut().enumerate() {
            let frame = next(viewer).await;
            assert_eq!((frame.bitstream, frame.idr), (Bitstream::Source, fed.idr));
            assert_eq!(
                (frame.rtp_timestamp.output, frame.rtp_timestamp.source),
                (fed.rtp_timestamp, fed.rtp_timestamp)
            );
            if which == 0 {
                assert!(is_picture(&screen.show(&frame), n));
            }
            let stages: Vec<_> = frame.ledger.stages().map(|(name, _)| name).collect();
            assert_eq!(stages, ["receive", "queue"], "of {}; then it is sent", STAGES.len());
        }
    }
    let status = camera.stream.status();
    assert_eq!((status.encodes, status.bridged_viewers, status.viewers), (0, 0, 3));
    let video = status.video.unwrap();
    assert!(video.forwarded && !video.reorders, "{video:?}");
    assert_eq!((video.codec, video.profile), ("H.264", Some("Constrained Baseline")));
}

#[tokio::test]
async fn who_joins_far_from_an_idr_is_bridged_to_the_next_one() {
    let mut camera = camera();
    for _ in 0..80 {
        camera.feed().await;
    }
    let mut viewer = camera.stream.watch(VideoChoice::Original);
    assert_eq!(camera.stream.status().bridged_viewers, 1);
    let mut screen = Screen::new();
    let mut seen = Vec::new();
    for n in 80..100 {
        camera.feed_as(n == 90).await;
        let frame = next(&mut viewer).await;
        assert!(is_picture(&screen.show(&frame), n), "picture {n}");
        seen.push((frame.bitstream, frame.idr));
    }
    assert_eq!(seen[0], (Bitstream::Plain, true));
    assert!(seen[1..10].iter().all(|frame| *frame == (Bitstream::Plain, false)));
    assert_eq!(seen[10], (Bitstream::Source, true));
    assert!(seen[11..].iter().all(|frame| *frame == (Bitstream::Source, false)));
    let status = camera.stream.status();
    assert_eq!((status.encodes, status.bridged_viewers), (10, 0), "and no more");
}

#[tokio::test]
async fn who_lost_data_is_bridged_and_the_others_see_nothing_of_it() {
    let mut camera = camera();
    camera.feed().await;
    let (mut lossy, mut clean) =
        (camera.stream.watch(VideoChoice::Original), camera.stream.watch(VideoChoice::Original));
    let mut screens = [Screen::new(), Screen::new()];
    // Far enough from the IDR for the bridge to be sooner than everything since, once more.
    for n in 0..45 {
        if n > 0 {
            camera.feed_as(n == 35).await;
        }
        if n == 25 {
            lossy.keyframe_request().request();
        }
        let (one, other) = (next(&mut clean).await, next(&mut lossy).await);
        assert_eq!(one.bitstream, Bitstream::Source);
        let bridged = if (26..35).contains(&n) { Bitstream::Plain } else { Bitstream::Source };
        assert_eq!(other.bitstream, bridged, "picture {n}");
        assert!(is_picture(&screens[0].show(&one), n) && is_picture(&screens[1].show(&other), n));
    }
    assert_eq!(camera.stream.status().encodes, 9);
}

#[tokio::test]
async fn annotated_and_original_viewers_each_get_theirs() {
    let mut camera = camera();
    let mut annotated = camera.stream.watch(VideoChoice::Annotated);
    let mut original = camera.stream.watch(VideoChoice::Original);
    for _ in 0..5 {
        camera.feed().await;
        assert_eq!(next(&mut original).await.bitstream, Bitstream::Source);
        assert_eq!(next(&mut annotated).await.bitstream, Bitstream::Annotated);
    }
    assert_eq!(camera.stream.status().encodes, 5);
}

#[tokio::test]
async fn a_stream_with_b_frames_is_encoded_anew_and_says_why() {
    let camera = camera();
    let mut viewer = camera.stream.watch(VideoChoice::Original);
    let file = H264File::open("tests/data/b_slices_64x48.h264").unwrap();
    let mut screen = Screen::new();
    let mut shown = 0;
    // Twice: until the first B slice nobody knows.
    for (n, coded) in (0u64..).zip(file.units().chain(file.units())) {
        let round = if n < file.len() as u64 { 0 } else { 900_000 };
        let before = camera.stream.status().frames_decoded;
        camera.stream.push(unit(coded.data, coded.idr, coded.rtp_timestamp + round));
        if n > 4 {
            until("a picture for each unit", || camera.stream.status().frames_decoded > before).await;
        }
    }
    until("pictures are encoded", || camera.stream.status().encodes > 0).await;
    while let Ok(Some(frame)) = timeout(Duration::from_millis(300), viewer.recv()).await {
        if frame.bitstream == Bitstream::Plain {
            screen.show(&frame);
            shown += 1;
        } else {
            assert_eq!(shown, 0, "not forwarded again");
        }
    }
    assert!(shown > 0);
    let video = camera.stream.status().video.unwrap();
    assert!(video.reorders && !video.forwarded, "{video:?}");
    assert!(video.why_not.unwrap().contains("B-frames"));
}

#[tokio::test]
async fn the_detector_looks_at_the_smaller_stream_and_speaks_of_the_main_one() {
    let mut main = camera();
    let mut small = Fed::start(fakes::model(|_| Vec::new()));
    small.frame = I420Frame::black(160, 120);
    let (mut results, _reading) = main.stream.results();
    // From the first picture of the smaller stream on, the main one is not looked at.
    main.stream.push_detect(small.unit(false)).unwrap();
    main.stream.begin_detect_epoch();
    let square = squares::squares(0, 320, 240)[0];
    let side = |pixels: usize| f32::from(u16::try_from(pixels).unwrap());
    let (left, top, length) = (side(square.left), side(square.top), side(square.side));
    // The smaller stream stands still: a box anywhere else would be the main stream's.
    let wanted = BBox::new(left, top, left + length, top + length);
    let mut joined = 0;
    for n in 0..30 {
        let fed = main.feed().await;
        main.stream.push_detect(small.unit(n == 0)).unwrap();
        while let Ok(Ok(result)) = timeout(Duration::from_millis(200), results.recv()).await {
            if result.rtp_timestamp.output == fed.rtp_timestamp {
                assert_eq!((result.width, result.height), (320, 240));
                joined += usize::from(n > 1 && result.items.iter().any(|item| item.bbox.iou(&wanted) > 0.5));
                break;
            }
        }
    }
    assert!(joined >= 20, "{joined} of 28");
}

#[tokio::test]
async fn a_snapshot_is_a_copy_with_or_without_boxes_and_disturbs_nothing() {
    let mut camera = camera();
    assert!(camera.stream.snapshot(true).is_none() && camera.stream.timeline().is_none());
    let (mut results, _reading) = camera.stream.results();
    let fed = camera.feed().await;
    results.recv().await.unwrap();
    let (plain, annotated) = (camera.stream.snapshot(false).unwrap(), camera.stream.snapshot(true).unwrap());
    assert!(is_picture(&plain.picture, 0));
    assert_ne!(plain.picture.plane(Plane::Y), annotated.picture.plane(Plane::Y));
    assert_eq!(plain.rtp_timestamp.output, fed.rtp_timestamp);
    assert_eq!(camera.stream.status().encodes, 0);
    let timeline = camera.stream.timeline().unwrap();
    assert_eq!(timeline.rtp_timestamp.output, fed.rtp_timestamp);
    assert!(timeline.captured.is_none() && timeline.skew.is_none());
    assert!(timeline.arrived.elapsed().unwrap() < Duration::from_secs(10));
}
