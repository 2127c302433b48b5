//! How a stream is looked at: sampling, regions, and two models in a row.

use sightline::detect::{RegionConfig, Sampling};
use sightline::media::{Direction, Plane, RegionEventKind};
use sightline::pipeline::{self, Rules, StreamOptions, VideoChoice};
use sightline::sink::message::Overlay;

use crate::fakes;
use crate::fed::{Fed, Screen, next};
use crate::server::until;
use crate::squares::CHROMA;

const CAMERA: StreamOptions = StreamOptions { detect_always: true, bridge: true, endures: true };

fn fed(overlay: Overlay, rules: Rules) -> Fed {
    let config = pipeline::Config { overlay, stream: rules, ..pipeline::Config::default() };
    Fed::start_as(fakes::model(fakes::find_square), CAMERA, &config)
}

fn motion() -> Sampling {
    Sampling::Motion { threshold: 0.002, min_interval_ms: 0, cooldown_ms: 0, max_interval_ms: 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_still_scene_few_pictures_are_looked_at_and_of_a_moving_one_all() {
    let mut fed = fed(Overlay::Latest, Rules { sampling: motion(), ..Rules::default() });
    let mut seen = Vec::new();
    for moves in [true, false, true] {
        fed.moves = moves;
        for _ in 0..40 {
            fed.feed().await;
        }
        // The last picture may be on its way to the lane still.
        let due = seen.len() as u64 * 40 + 39;
        until("the frames were judged", || fed.stream.status().sampling.counts.offered >= due).await;
        seen.push(fed.stream.status().sampling.counts);
    }
    let looks = |n: usize| seen[n].sampled - if n > 0 { seen[n - 1].sampled } else { 0 };
    assert!(looks(0) >= 35 && looks(2) >= 30, "{seen:?}");
    // The average of late forgets a bright square within some 25 pictures.
    assert!(looks(1) <= 30, "{seen:?}");
    let counts = &seen[2];
    assert_eq!(counts.offered, counts.sampled + counts.passed_over);
    assert!(counts.reasons["motion"] > 0 && counts.reasons["still"] > 0 && counts.reasons["first"] == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_shows_what_is_looked_at_and_a_picture_to_who_comes() {
    let mut fed = fed(Overlay::Exact, Rules { sampling: Sampling::Keyframes, ..Rules::default() });
    for _ in 0..5 {
        fed.feed().await;
    }
    let mut viewer = fed.stream.watch(VideoChoice::Annotated);
    let mut screen = Screen::new();
    // None of these is a keyframe; the first is looked at because somebody waits for it.
    fed.feed().await;
    let first = next(&mut viewer).await;
    screen.show(&first);
    let wanted = fed.stream.status().sampling.counts.reasons["wanted"];
    assert!(wanted >= 1);
    fed.feed().await;
    fed.feed_as(true).await;
    let second = next(&mut viewer).await;
    screen.show(&second);
    assert_eq!(first.boxes.len() + second.boxes.len(), 2);
    let status = fed.stream.status();
    assert!(status.sampling.counts.reasons["keyframe"] >= 1 && status.dropped["exact"] >= 1, "{status:?}");
}

fn gate() -> Rules {
    let line = RegionConfig { line: vec![[0.35, 0.95], [0.35, 0.05]], ..RegionConfig::default() };
    let polygon = vec![[0.35, 0.0], [1.0, 0.0], [1.0, 1.0], [0.35, 1.0]];
    let room = RegionConfig { polygon, ..RegionConfig::default() };
    let regions = [("gate".to_owned(), line), ("room".to_owned(), room)].into();
    Rules { regions, draw_regions: true, ..Rules::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crosses_a_line_is_told_and_counted() {
    let mut fed = fed(Overlay::Latest, gate());
    let (mut results, _guard) = fed.stream.results();
    let mut events = Vec::new();
    for _ in 0..40 {
        fed.feed().await;
        while let Ok(result) = results.try_recv() {
            events.extend(result.events.iter().cloned());
        }
    }
    until("the square has crossed", || {
        let regions = fed.stream.status().regions;
        regions["gate"].left_to_right == 1 && regions["room"].inside == 1
    })
    .await;
    while let Ok(result) = results.try_recv() {
        events.extend(result.events.iter().cloned());
    }
    let crossing = events.iter().find(|event| event.kind == RegionEventKind::Cross).expect("told");
    assert_eq!((&*crossing.region, crossing.direction), ("gate", Some(Direction::LeftToRight)));
    assert_eq!((&*crossing.class_name, crossing.count), (fakes::LABELS[0], Some(1)));
    let kinds: Vec<_> = events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    // Another line in its place begins to count anew, and is drawn in the other's place.
    let mut rules = gate();
    rules.regions.remove("room");
    fed.stream.set_rules(rules);
    let regions = fed.stream.status().regions;
    assert_eq!((regions.len(), regions["gate"].left_to_right), (1, 1), "what stays as it was goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_are_drawn_where_that_is_asked_for() {
    let mut fed = fed(Overlay::Latest, gate());
    let mut viewer = fed.stream.watch(VideoChoice::Annotated);
    let mut screen = Screen::new();
    let far = |picture: &sightline::media::I420Frame| {
        let (width, height) = picture.plane_size(Plane::U);
        let at = height * 3 / 4 * width + width * 35 / 100;
        picture.plane(Plane::U)[at].abs_diff(CHROMA.0).max(picture.plane(Plane::V)[at].abs_diff(CHROMA.1))
    };
    fed.feed().await;
    let drawn = screen.show(&*next(&mut viewer).await);
    assert!(far(&drawn) > 15, "{}", far(&drawn));
    fed.stream.set_rules(Rules { draw_regions: false, ..gate() });
    fed.feed().await;
    let plain = screen.show(&*next(&mut viewer).await);
    assert!(far(&plain) < 10, "{}", far(&plain));
}
