//! A source that goes and comes back: viewers stay, see why, and see the live picture again.

use std::time::{Duration, Instant};

use sightline::pipeline::{Signal, StreamOptions, VideoChoice};
use sightline::sink::Bitstream;

use crate::fakes;
use crate::fed::{Fed, Screen, next, unit};
use crate::plate::has_banner;
use crate::server::until;

fn camera() -> Fed {
    let options = StreamOptions { bridge: true, endures: true, ..StreamOptions::default() };
    Fed::start_with(fakes::model(fakes::find_square), options)
}

#[tokio::test]
async fn viewers_see_a_banner_twice_a_second_and_the_live_picture_with_its_first_idr() {
    for choice in [VideoChoice::Annotated, VideoChoice::Original] {
        let mut camera = camera();
        let mut viewer = camera.stream.watch(choice);
        let mut screen = Screen::new();
        let mut last = 0;
        for _ in 0..5 {
            camera.feed().await;
            let frame = next(&mut viewer).await;
            assert!(!has_banner(&screen.show(&frame)));
            last = frame.rtp_timestamp.output;
        }
        camera.stream.set_signal(Signal::Lost("the camera does not answer".into()));
        let begin = Instant::now();
        for n in 0..4u32 {
            let frame = next(&mut viewer).await;
            assert!(has_banner(&screen.show(&frame)), "{choice:?}");
            if n == 0 {
                assert!(begin.elapsed() < Duration::from_millis(400), "the first at once");
            }
        }
        let took = begin.elapsed().as_secs_f64();
        assert!((1.3..2.5).contains(&took), "three more in {took} s");
        assert_eq!(camera.stream.status().no_signal.as_deref(), Some("the camera does not answer"));

        // Another source, another count of timestamps.
        camera.begin_epoch(77);
        let fed = camera.feed().await;
        assert!(fed.idr);
        let back = Instant::now();
        let frame = loop {
            let frame = next(&mut viewer).await;
            let banner = has_banner(&screen.show(&frame));
            if !banner {
                break frame;
            }
        };
        assert!(back.elapsed() < Duration::from_secs(1));
        assert_eq!(frame.rtp_timestamp.source, 77);
        let gone = f64::from(frame.rtp_timestamp.output.wrapping_sub(last)) / 90_000.0;
        assert!((1.3..4.0).contains(&gone), "the clock went on: {gone} s");
        assert_eq!(camera.stream.status().no_signal, None);
        let live = if choice == VideoChoice::Original { Bitstream::Source } else { Bitstream::Annotated };
        camera.feed().await;
        assert_eq!(next(&mut viewer).await.bitstream, live);
    }
}

#[tokio::test]
async fn who_comes_during_an_outage_sees_the_banner_at_once_also_where_there_was_no_picture_yet() {
    let camera = camera();
    camera.stream.set_signal(Signal::Lost("connecting".into()));
    for choice in [VideoChoice::Annotated, VideoChoice::Original, VideoChoice::Annotated] {
        let begin = Instant::now();
        let mut viewer = camera.stream.watch(choice);
        let mut screen = Screen::new();
        let picture = screen.show(&*next(&mut viewer).await);
        assert!(begin.elapsed() < Duration::from_millis(400), "{:?}", begin.elapsed());
        assert_eq!((picture.width(), picture.height()), (640, 360));
        assert!(has_banner(&picture));
        assert!(has_banner(&screen.show(&*next(&mut viewer).await)), "and it goes on");
    }
}

#[tokio::test]
async fn video_that_cannot_be_decoded_costs_the_picture_and_not_the_stream() {
    let mut camera = camera();
    let mut viewer = camera.stream.watch(VideoChoice::Annotated);
    // An interlaced stream's parameter set, and the beginning of an IDR.
    let sps = "6764001eace40281ed8088000003000800000301e0f8a15240";
    let sps = (0..sps.len()).step_by(2).map(|at| u8::from_str_radix(&sps[at..at + 2], 16).unwrap());
    let data: Vec<u8> = [0, 0, 0, 1].into_iter().chain(sps).chain([0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65, 0x88]).collect();
    let strange = unit(data.into(), true, 0);
    let unsupported = camera.stream.unsupported();
    camera.stream.push(strange);
    until("it is refused", || unsupported.borrow().is_some() || camera.stream.failure().is_some()).await;
    assert!(camera.stream.failure().is_none());
    let mut screen = Screen::new();
    assert!(has_banner(&screen.show(&*next(&mut viewer).await)));
    camera.begin_epoch(0);
    camera.feed().await;
    until("it is taken back", || unsupported.borrow().is_none()).await;
    assert!(camera.stream.status().no_signal.is_none());
}
