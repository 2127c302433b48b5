//! Cameras at work: opened, watched, changed, paused and removed. The camera is a file that is played in a loop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sightline::detect::{CascadeStage, Sampling};
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::I420Frame;
use sightline::pipeline::{self, CameraConfig, Changes, Mode, Origin, PipelineError, StreamKind, VideoChoice};
use sightline::source::camera::CameraState;

use crate::client::Screen;
use crate::fakes;
use crate::server::{self, Server, until, within};
use crate::squares;
use crate::watcher::Watcher;

/// A recording of one round of the scene; goes with the test.
struct Recording(PathBuf);

impl Recording {
    fn of(width: usize, height: usize) -> Self {
        let mut encoder = H264Encoder::new(encode::Config::default());
        let mut frame = I420Frame::black(width, height);
        let mut bytes = Vec::new();
        for n in 0..squares::ROUND {
            squares::draw(n, &mut frame);
            bytes.extend_from_slice(&encoder.encode(&frame, n % 30 == 0).unwrap().data);
        }
        let name = format!("sightline-scene-{}-{}.h264", std::process::id(), rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn camera(&self) -> CameraConfig {
        CameraConfig::at(format!("file:{}", self.0.display()).parse().unwrap())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn serving(config: pipeline::Config) -> Server {
    let options = server::Options::with_model(fakes::model(fakes::find_square));
    Server::start(server::Options { pipeline: config, ..options }).await
}

fn state(server: &Server, camera: &str) -> CameraState {
    server.pipeline.camera(camera).expect("the camera").status.state
}

async fn live(server: &Server, camera: &str) {
    until("the camera is live", || state(server, camera) == CameraState::Live).await;
    until("its pictures are decoded", || server.pipeline.camera(camera).unwrap().stream.frames_decoded > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_viewers_watch_a_camera_and_one_of_them_leaves() {
    let recording = Recording::of(320, 240);
    let server = serving(pipeline::Config::default()).await;
    server.pipeline.add_camera("gate", recording.camera()).unwrap();
    // Before its first picture it can be watched.
    let mut first = Watcher::watch_and_listen(&server, "gate", None).await.unwrap();
    let mut second = Watcher::watch(&server, "gate", None).await.unwrap();
    live(&server, "gate").await;
    let mut screen = Screen::new();
    // Whoever was early has seen a banner, of whatever size, and then the picture.
    let (mut wide, started) = (0, Instant::now());
    while wide < 20 {
        assert!(started.elapsed() < server::LIMIT, "no live picture");
        let frame = first.frame().await;
        wide += usize::from(screen.show(&frame).width() == 320);
    }
    assert_eq!(first.message_of("detections").await["stream"], "gate");
    second.frames(20).await;
    drop(first.connection);
    let frames = second.frames(60).await;
    assert!(frames.windows(2).all(|pair| pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp) < 1 << 31));
    let report = server.pipeline.stream_report("gate").unwrap();
    assert_eq!((report.kind, report.published), (StreamKind::Camera, true));
    assert_eq!(report.camera.unwrap().state, CameraState::Live);
    let sync = server.pipeline.sync();
    assert_eq!((sync.streams.len(), sync.waiting.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_on_demand_is_open_while_somebody_watches() {
    let recording = Recording::of(320, 240);
    let server = serving(pipeline::Config { on_demand_close_ms: 500, ..pipeline::Config::default() }).await;
    server.pipeline.add_camera("gate", CameraConfig { on_demand: true, ..recording.camera() }).unwrap();
    until("nobody watches", || state(&server, "gate") == CameraState::Idle).await;
    assert_eq!(server.pipeline.camera("gate").unwrap().stream.frames_in, 0);
    for _ in 0..2 {
        let viewer = Watcher::watch(&server, "gate", None).await.unwrap();
        within(Duration::from_secs(2), "it is open", || state(&server, "gate") == CameraState::Live).await;
        let left = Instant::now();
        assert!(server.pipeline.end_session(&viewer.session));
        until("it is closed again", || state(&server, "gate") == CameraState::Idle).await;
        assert!(left.elapsed() >= Duration::from_millis(500), "not at once");
    }
    assert!(server.pipeline.camera("gate").unwrap().stream.frames_in > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_is_removed_takes_its_viewers_along_and_leaves_its_name() {
    let recording = Recording::of(320, 240);
    let server = serving(pipeline::Config::default()).await;
    server.pipeline.add_camera("gate", recording.camera()).unwrap();
    let taken = server.pipeline.add_camera("gate", recording.camera()).unwrap_err();
    assert!(matches!(taken, PipelineError::NameTaken(_)), "{taken}");
    let mut viewer = Watcher::watch_and_listen(&server, "gate", None).await.unwrap();
    live(&server, "gate").await;
    server.pipeline.remove_camera("gate").unwrap();
    assert!(server.pipeline.streams().is_empty() && server.pipeline.cameras().is_empty());
    assert!(viewer.message_of("error").await["message"].as_str().unwrap().contains("removed"));
    within(Duration::from_secs(3), "its viewer is gone", || server.pipeline.sessions().is_empty()).await;
    let gone = server.pipeline.remove_camera("gate").unwrap_err();
    assert!(matches!(gone, PipelineError::NoSuchCamera(_)), "{gone}");
    server.pipeline.add_camera("gate", recording.camera()).unwrap();
    live(&server, "gate").await;
}

#[tokio::test]
async fn the_api_may_add_so_many_cameras_and_the_file_as_many_as_it_names() {
    let recording = Recording::of(160, 120);
    let server = serving(pipeline::Config { max_cameras: 2, ..pipeline::Config::default() }).await;
    let named = ["a", "b", "c"].map(|name| (name.to_owned(), recording.camera()));
    assert_eq!(server.pipeline.set_cameras(named.into()).added.len(), 3);
    for name in ["d", "e"] {
        server.pipeline.add_camera(name, recording.camera()).unwrap();
    }
    let full = server.pipeline.add_camera("f", recording.camera()).unwrap_err();
    assert!(matches!(full, PipelineError::TooManyCameras(2)), "{full}");
    server.pipeline.remove_camera("d").unwrap();
    server.pipeline.add_camera("f", recording.camera()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_new_set_only_what_changed_is_run_anew() {
    let (small, large) = (Recording::of(320, 240), Recording::of(480, 360));
    let server = serving(pipeline::Config::default()).await;
    let set = |cameras: &[(&str, CameraConfig)]| -> Changes {
        let cameras: BTreeMap<_, _> =
            cameras.iter().map(|(name, config)| ((*name).to_owned(), config.clone())).collect();
        server.pipeline.set_cameras(cameras)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let changes = set(&[("a", small.camera()), ("b", small.camera()), ("c", small.camera())]);
    assert_eq!(changes.added, names(&["a", "b", "c"]));
    server.pipeline.add_camera("own", small.camera()).unwrap();
    let mut viewer = Watcher::watch(&server, "a", None).await.unwrap();
    let mut screen = Screen::new();
    until("all are live", || server.pipeline.cameras().iter().all(|camera| camera.status.state == CameraState::Live))
        .await;
    while screen.show(&viewer.frame().await).width() != 320 {}

    let bad = CameraConfig { priority: 0, ..small.camera() };
    let other = CameraConfig { mode: Mode::Original, ..large.camera() };
    let changes =
        set(&[("a", small.camera()), ("b", other), ("d", small.camera()), ("bad", bad), ("own", large.camera())]);
    assert_eq!((changes.added, changes.changed, changes.removed), (names(&["d"]), names(&["b"]), names(&["c"])));
    let refused: Vec<&str> = changes.refused.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(refused, ["bad", "own"]);
    assert!(changes.refused[0].1.contains("priority = 0"), "{changes:?}", changes = changes.refused);
    until("b has the other picture", || server.pipeline.camera("b").unwrap().stream.width == Some(480)).await;
    // Not a frame of `a` is missing: one every 3000 ticks, however often the file begins anew.
    let frames = viewer.frames(60).await;
    let steps: Vec<u32> =
        frames.windows(2).map(|pair| pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp)).collect();
    assert!(steps.iter().all(|step| step % 3000 == 0 && *step < 30_000), "{steps:?}");
    let origins: Vec<_> = server.pipeline.cameras().iter().map(|camera| (camera.name.clone(), camera.origin)).collect();
    let config = |name: &str| (name.to_owned(), Origin::Config);
    assert_eq!(origins, [config("a"), config("b"), config("d"), ("own".to_owned(), Origin::Api)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_is_paused_keeps_its_place_and_its_viewers() {
    let recording = Recording::of(320, 240);
    let server = serving(pipeline::Config::default()).await;
    server.pipeline.add_camera("gate", recording.camera()).unwrap();
    let mut viewer = Watcher::watch(&server, "gate", None).await.unwrap();
    live(&server, "gate").await;
    viewer.frames(5).await;
    server.pipeline.change_camera("gate", CameraConfig { enabled: false, ..recording.camera() }).unwrap();
    until("it is disabled", || state(&server, "gate") == CameraState::Disabled).await;
    until("the picture says so", || {
        server.pipeline.camera("gate").unwrap().stream.no_signal.as_deref() == Some("disabled")
    })
    .await;
    assert_eq!(server.pipeline.sessions().len(), 1);
    server.pipeline.change_camera("gate", recording.camera()).unwrap();
    live(&server, "gate").await;
    viewer.frames_so_far();
    viewer.frames(20).await;
    until("the banner is gone", || server.pipeline.camera("gate").unwrap().stream.no_signal.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_viewer_sees_that_does_not_choose_is_the_cameras_mode() {
    let recording = Recording::of(320, 240);
    let server = serving(pipeline::Config::default()).await;
    let video = |session: &str| server.pipeline.sessions().into_iter().find(|one| one.id == session).unwrap().video;
    let camera = |mode| CameraConfig { mode, ..recording.camera() };
    server.pipeline.add_camera("gate", camera(Mode::Original)).unwrap();
    let first = Watcher::watch(&server, "gate", None).await.unwrap();
    assert_eq!(video(&first.session), Some(VideoChoice::Original));
    server.pipeline.change_camera("gate", camera(Mode::DetectOnly)).unwrap();
    let refused = Watcher::watch(&server, "gate", None).await.err().unwrap();
    assert!(refused.to_string().contains("detections only"), "{refused}");
    let mut listener = Watcher::watch_and_listen(&server, "gate", None).await.unwrap();
    assert_eq!(video(&listener.session), None);
    listener.message_of("detections").await;
    assert!(listener.frames_so_far().is_empty());
    let asked = Watcher::watch(&server, "gate", Some(VideoChoice::Annotated)).await.unwrap();
    assert_eq!(video(&asked.session), Some(VideoChoice::Annotated));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_is_away_costs_only_itself_and_its_viewers_see_why() {
    let recording = Recording::of(320, 240);
    let server = serving(pipeline::Config::default()).await;
    // Bound and not listening: nobody else gets the port, and nobody answers on it.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("rtsp://user:s3cret@{}/live", nobody.local_addr().unwrap());
    server.pipeline.add_camera("gate", recording.camera()).unwrap();
    server.pipeline.add_camera("yard", CameraConfig::at(address.parse().unwrap())).unwrap();
    let mut viewer = Watcher::watch(&server, "yard", None).await.unwrap();
    // A picture all the same, again and again.
    let frames = viewer.frames(3).await;
    let mut screen = Screen::new();
    for frame in &frames {
        screen.show(frame);
    }
    live(&server, "gate").await;
    until("it says why", || server.pipeline.camera("yard").unwrap().status.last_error.is_some()).await;
    let report = server.pipeline.camera("yard").unwrap();
    assert_ne!(report.status.state, CameraState::Live);
    let shown = serde_json::to_string(&report).unwrap() + &format!("{report:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    let revealed = server.pipeline.camera_config("yard").unwrap();
    assert!(revealed.url.reveal().contains("s3cret"), "to whoever keeps it in a file");
    let metrics = reqwest::get(format!("{}/metrics", server.base)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("video_camera_status{stream=\"gate\"} 1\n"), "{metrics}");
    assert!(metrics.contains("video_camera_status{stream=\"yard\"} "), "{metrics}");
    assert!(!metrics.contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_in_the_smaller_stream_is_said_of_the_main_one() {
    let (large, small) = (Recording::of(480, 360), Recording::of(160, 120));
    let server = serving(pipeline::Config::default()).await;
    let detect_url = Some(small.camera().url);
    server.pipeline.add_camera("gate", CameraConfig { detect_url, ..large.camera() }).unwrap();
    let mut listener = Watcher::watch_and_listen(&server, "gate", None).await.unwrap();
    let of_the_small = async {
        loop {
            let report = server.pipeline.camera("gate").unwrap();
            let message = listener.message_of("detections").await;
            let Some(found) = message["detections"].get(0) else { continue };
            assert_eq!((&message["width"], &message["height"]), (&480.into(), &360.into()), "{message}");
            let right = found["bbox"][2].as_f64().unwrap();
            let live = report.detect_status.as_ref().is_some_and(|status| status.state == CameraState::Live);
            // Further right than the small picture goes.
            if live && right > 200.0 {
                break;
            }
        }
    };
    tokio::time::timeout(server::LIMIT, of_the_small).await.expect("a detection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_gets_another_model_or_address_goes_on_under_its_name() {
    let (small, large) = (Recording::of(320, 240), Recording::of(480, 360));
    let server = serving(pipeline::Config::default()).await;
    server.pipeline.add_camera("gate", small.camera()).unwrap();
    let mut viewer = Watcher::watch(&server, "gate", None).await.unwrap();
    live(&server, "gate").await;
    server.pipeline.change_camera("gate", large.camera()).unwrap();
    // The same connection shows the other picture.
    let mut screen = Screen::new();
    let other = async { while screen.show(&viewer.frame().await).width() != 480 {} };
    tokio::time::timeout(server::LIMIT, other).await.expect("the other picture");
    let broken = CameraConfig { model: Some("no-such-model".to_owned()), ..large.camera() };
    server.pipeline.change_camera("gate", broken).unwrap();
    until("it says that there is no such model", || {
        server.pipeline.stream_report("gate").is_some_and(|report| report.model_error.is_some())
    })
    .await;
    live(&server, "gate").await;
    // Without a model there is video all the same, on the same connection.
    viewer.frames_so_far();
    for frame in viewer.frames(10).await {
        screen.show(&frame);
    }
    server.pipeline.change_camera("gate", large.camera()).unwrap();
    until("the model is back", || {
        server.pipeline.stream_report("gate").is_some_and(|report| report.model.as_deref() == Some("fake"))
    })
    .await;
    let found = server.pipeline.stream_report("gate").unwrap().status.detections;
    until("it looks again", || server.pipeline.stream_report("gate").unwrap().status.detections > found).await;
    viewer.frames(5).await;
    let sessions: Vec<_> = server.pipeline.sessions().into_iter().map(|session| session.id).collect();
    assert_eq!(sessions, [viewer.session.clone()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_sixteen_cameras_and_many_viewers_ends_in_two_seconds() {
    let recording = Recording::of(160, 120);
    let server = serving(pipeline::Config::default()).await;
    for n in 0..16 {
        server.pipeline.add_camera(&format!("camera-{n}"), recording.camera()).unwrap();
    }
    let mut viewers = Vec::new();
    for n in 0..50 {
        viewers.push(Watcher::watch_and_listen(&server, &format!("camera-{}", n % 16), None).await.unwrap());
    }
    let started = Instant::now();
    server.shutdown().await;
    let took = started.elapsed();
    for viewer in &mut viewers {
        assert_eq!(viewer.message_of("error").await["code"], "shutting_down");
    }
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_a_camera_is_looked_at_is_told_and_changes_while_it_runs() {
    let recording = Recording::of(320, 240);
    let server = serving(pipeline::Config::default()).await;
    let stages = [
        CascadeStage { sampling: Some(Sampling::EveryN { n: 2 }), ..CascadeStage::default() },
        CascadeStage { model: Some("motion".to_owned()), ..CascadeStage::default() },
    ];
    let camera = CameraConfig { cascade: Some(stages.to_vec()), ..recording.camera() };
    server.pipeline.add_camera("gate", camera).unwrap();
    live(&server, "gate").await;
    let status = || server.pipeline.stream_report("gate").unwrap().status;
    until("both stages have looked", || {
        let stages = status().cascade;
        stages.len() == 2 && stages.iter().all(|stage| stage.looked > 4) && stages[1].passed > 0
    })
    .await;
    let stages = status().cascade;
    assert_eq!((stages[0].stage.as_str(), stages[1].stage.as_str()), ("every_n", "motion"));
    assert!(stages[0].passed < stages[0].looked && stages[1].looked <= stages[0].passed, "{stages:?}");
    let metrics = reqwest::get(format!("{}/metrics", server.base)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("sightline_sampling_total{stream=\"gate\",decision=\"passed_over\"}"), "{metrics}");
    assert!(metrics.contains("sightline_cascade_looked_total{stream=\"gate\",stage=\"motion\"}"), "{metrics}");
    // Without the cascade another stream takes its place, which hides a part of its pictures.
    let mask = vec![vec![[0.0, 0.0], [0.5, 0.0], [0.5, 0.5]]];
    server.pipeline.change_camera("gate", CameraConfig { masks: Some(mask), ..recording.camera() }).unwrap();
    until("the change has come about", || {
        server.pipeline.stream_report("gate").is_some_and(|report| {
            let status = report.status;
            status.cascade.is_empty() && status.video.is_some_and(|video| !video.forwarded) && status.privacy.is_some()
        })
    })
    .await;
    let shown = serde_json::to_value(server.pipeline.stream_report("gate").unwrap()).unwrap();
    assert_eq!((&shown["sampling"]["mode"], &shown["privacy"]["hides"]), (&"every".into(), &"parts".into()));
}
