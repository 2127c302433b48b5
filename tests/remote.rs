//! Detection on another machine: against mlserver, a server of the Open Inference Protocol that is not ours.
//!
//! Needs mlserver in `.sightline/venv-oip` (`make setup-test`), or the Python that `SIGHTLINE_OIP_PYTHON` names; prints a line
//! and passes where it is absent, unless all peers are required. A real Triton is asked where `SIGHTLINE_TRITON_PYTHON` names a Python with
//! `nvidia-pytriton` 0.7.0 (370 MB, so that no set-up installs it).
#![cfg(feature = "remote")]

#[path = "support/fed.rs"]
#[allow(dead_code)] // what the viewer sees is another test's matter
mod fed;
#[path = "support/onnx.rs"]
#[allow(dead_code)] // other models are other tests' matter
mod onnx;
#[path = "support/server.rs"]
#[allow(dead_code)] // a stream without a server is all that is needed here
mod server;
#[path = "support/squares.rs"]
#[allow(dead_code)] // nobody looks for the squares here
mod squares;
#[path = "remote/tls.rs"]
mod tls;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use onnx::{Kind, Port, brightness};
use sightline::detect::{
    Cascade, Config, DetectError, Lane, LaneOptions, Model, Picture, Pools, RemoteStatus, Settings,
};
use sightline::media::{Detection, Detections, Frame, FrameLedger, I420Frame, RtpTimestamp};
use sightline::pipeline::VideoChoice;
use sightline::sink::ViewerFeed;

const LIMIT: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn python() -> Option<PathBuf> {
    let named = std::env::var_os("SIGHTLINE_OIP_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| root().join(".sightline/venv-oip/bin/python"));
    let required = std::env::var_os("SIGHTLINE_REQUIRE_BROWSER").is_some();
    assert!(python.exists() || !required, "mlserver is not there: make setup-test installs it");
    if !python.exists() {
        println!("left out: mlserver is not there (make setup-test installs it)");
    }
    python.exists().then_some(python)
}

/// A running mlserver or Triton; killed when dropped.
struct Server {
    child: Child,
}

impl Server {
    /// Serves `file` as `name` on `port`, and waits until it is ready.
    fn start(python: &Path, port: u16, name: &str, file: &Path) -> Self {
        let mut command = Command::new(python);
        command.arg("oip_server.py").args([port, free_port()].map(|port| port.to_string())).arg(name).arg(file);
        Self::run(&mut command)
    }

    /// The same of Triton, which serves `bright`.
    fn triton(python: &Path, port: u16) -> Self {
        let ports = [port, free_port(), free_port()].map(|port| port.to_string());
        Self::run(Command::new(python).arg("triton_server.py").args(ports))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command
            .current_dir(root().join("tests/remote"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Its end closes the pipe, so that this ends too.
        assert!(lines.any(|line| line.unwrap() == "ready"), "the server ended");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder with the model `bright`, which finds how bright the picture is.
fn models() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bright.onnx"), brightness(1)).unwrap();
    folder
}

fn config(models_dir: &Path, port: u16) -> Config {
    Config {
        model: "bright".into(),
        models_dir: models_dir.into(),
        remote: Some(format!("grpc://127.0.0.1:{port}")),
        remote_timeout_ms: 4000,
        confidence: Some(0.1),
        deadline_ms: 600_000,
        ..Config::default()
    }
}

/// A grey picture of so much luma.
fn grey(luma: u8) -> I420Frame {
    let mut frame = I420Frame::black(64, 64);
    frame.planes_mut().0.fill(luma);
    frame
}

fn all() -> Settings {
    Settings { confidence: 0.05, iou: 0.5, classes: None, max_detections: 10 }
}

/// A stream of grey pictures.
struct Fed {
    pools: Arc<Pools>,
    lane: Lane,
    results: Receiver<Arc<Detections>>,
    offered: u64,
}

impl Fed {
    fn start(model: Model, config: &Config) -> Self {
        let pools = Pools::start(model, config).unwrap();
        let (deliver, results) = channel();
        let lane = pools.lane("cam".into(), LaneOptions::default(), move |result| drop(deliver.send(result)));
        Self { pools, lane, results, offered: 0 }
    }

    fn status(&self) -> RemoteStatus {
        self.pools.info()[0].remote.clone().unwrap()
    }

    /// Offers a frame and waits for what was found in it.
    fn look(&mut self) {
        self.offered += 1;
        let now = Instant::now();
        self.lane.offer(Frame {
            id: self.offered,
            rtp_timestamp: RtpTimestamp::default(),
            captured: None,
            picture: Arc::new(grey(200)),
            ledger: FrameLedger::arrived(now, now),
        });
        let result = self.results.recv_timeout(LIMIT).expect("every frame has a result");
        assert_eq!((result.frame_id, result.items.len()), (self.offered, 1));
    }

    /// Looks at frames until the server's state is as wished.
    fn look_until(&mut self, what: &str, wished: impl Fn(&RemoteStatus) -> bool) {
        let begun = Instant::now();
        while !wished(&self.status()) {
            assert!(begun.elapsed() < LIMIT, "{what}: {:?}", self.status());
            self.look();
        }
    }
}

#[test]
fn a_server_finds_what_the_same_model_finds_here() {
    let Some(python) = python() else { return };
    let (folder, port) = (models(), free_port());
    let _server = Server::start(&python, port, "bright", &folder.path().join("bright.onnx"));
    let far = Model::load(&config(folder.path(), port)).unwrap();
    let near = Model::load(&Config { remote: None, ..config(folder.path(), port) }).unwrap();
    let (mut far_detector, mut near_detector) = (far.detector().unwrap(), near.detector().unwrap());
    let before = far.remote_status().unwrap();
    assert!(before.up && before.local, "{before:?}");
    for luma in [60, 120, 200] {
        let picture = grey(luma);
        let found = far_detector.detect(Picture::I420(&picture), &all()).unwrap();
        let expected = near_detector.detect(Picture::I420(&picture), &all()).unwrap();
        assert_eq!(found.items, expected.items);
        assert_eq!(found.items.len(), 1);
    }
    let after = far.remote_status().unwrap();
    assert_eq!((after.frames - before.frames, after.failures, after.fallbacks), (3, 0, 0));
}

#[test]
fn published_models_find_the_same_on_a_server() {
    // The second takes a size beside the picture, and gives the classes as i64.
    for (name, file) in [("yolox-nano", "yolox_nano_416.onnx"), ("deimv2-atto", "deimv2_atto_320.onnx")] {
        finds_the_same(name, file);
    }
}

fn finds_the_same(name: &str, file: &str) {
    let Some(python) = python() else { return };
    let shared = std::env::var_os("SIGHTLINE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let models_dir = shared.join("media/models");
    let file = models_dir.join(file);
    if !file.is_file() {
        return println!("skipped: no shared media (set SIGHTLINE_SHARED)");
    }
    let port = free_port();
    let _server = Server::start(&python, port, name, &file);
    let config = Config { model: name.into(), ..config(&models_dir, port) };
    let mut images = 0;
    let far = Model::load(&config).unwrap();
    let near = Model::load(&Config { remote: None, ..config.clone() }).unwrap();
    let (mut far_detector, mut near_detector) = (far.detector().unwrap(), near.detector().unwrap());
    let mut paths: Vec<_> =
        std::fs::read_dir(shared.join("media/images")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().take(4) {
        let Ok(image) = image::open(path) else { continue };
        let image = image.to_rgb8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        let picture = Picture::Rgb { data: image.as_raw(), width, height };
        let settings = near.settings(&config);
        let found = far_detector.detect(picture, &settings).unwrap().items;
        let expected = near_detector.detect(picture, &settings).unwrap().items;
        assert_eq!(found.len(), expected.len(), "{}", path.display());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.class_name, expected.class_name);
            assert!((found.confidence - expected.confidence).abs() < 1e-4);
        }
        images += expected.len().min(1);
    }
    assert!(images > 0, "nothing was found in any image");
    assert_eq!(far.remote_status().unwrap().fallbacks, 0);
}

/// A model that finds the means of the picture's channels, as scores of three objects, in its own type and order of axes.
fn means(kind: Kind, nhwc: bool) -> Vec<u8> {
    let (shape, axes) = if nhwc { ([1, 64, 64, 3], [1, 2]) } else { ([1, 3, 64, 64], [2, 3]) };
    let boxes: Vec<f32> = (0..3u8).flat_map(|n| [f32::from(n) * 20.0, 4.0, f32::from(n) * 20.0 + 16.0, 40.0]).collect();
    onnx::Model::new(&[Port::new("image", kind, &shape)])
        .constant(Port::new("boxes", Kind::F32, &[1, 3, 4]), &[1, 3, 4], &boxes)
        .channel_means("image", axes, 1.0 / 255.0, "scores")
        .bytes()
}

#[test]
fn a_model_of_bytes_halves_or_pixels_finds_the_same_on_a_server() {
    let Some(python) = python() else { return };
    for (kind, nhwc) in [(Kind::U8, false), (Kind::F16, false), (Kind::U8, true), (Kind::F32, true)] {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("means.onnx");
        std::fs::write(&file, means(kind, nhwc)).unwrap();
        let manifest = "family = \"ssd\"\nfile = \"means.onnx\"\nlabels = [\"thing\"]\nconfidence = 0.1\niou = 0.5\nnms = \"none\"\n\
                        [input]\nsize = { fixed = { width = 64, height = 64 } }\nfit = \"stretch\"\ncolour = \"rgb\"\n\
                        [output]\nboxes = \"xyxy\"\nunit = \"pixels\"\nscores = \"probabilities\"\nbackground = \"first\"\n";
        std::fs::write(folder.path().join("means.toml"), manifest).unwrap();
        let _server = Server::start(&python, port, "means", &file);
        let config = Config { model: "means".into(), ..config(folder.path(), port) };
        let far = Model::load(&config).unwrap();
        let near = Model::load(&Config { remote: None, ..config }).unwrap();
        let colour = image::RgbImage::from_pixel(64, 64, image::Rgb([200, 120, 60]));
        let picture = Picture::Rgb { data: colour.as_raw(), width: 64, height: 64 };
        let found = far.detector().unwrap().detect(picture, &all()).unwrap().items;
        let expected = near.detector().unwrap().detect(picture, &all()).unwrap().items;
        assert_eq!((found.len(), &found), (3, &expected), "{kind:?}, pixels: {nhwc}");
        let status = far.remote_status().unwrap();
        assert!(status.up && status.fallbacks == 0, "{status:?}");
    }
}

#[test]
fn pictures_of_several_streams_go_in_one_request() {
    let Some(python) = python() else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = folder.path().join("bright.onnx");
    std::fs::write(&file, brightness(-1)).unwrap();
    let server = Server::start(&python, port, "bright", &file);
    let config = Config { batch: Some(4), ..config(folder.path(), port) };
    let far = Model::load(&config).unwrap();
    assert_eq!(far.batch(), 4);
    let near = Model::load(&Config { remote: None, ..config.clone() }).unwrap();
    let (mut far_detector, mut near_detector) = (far.detector().unwrap(), near.detector().unwrap());
    let (pictures, settings) = ([60, 120, 200].map(grey), all());
    let before = far.remote_status().unwrap();
    let asked: Vec<_> = pictures.iter().map(|picture| (Picture::I420(picture), &settings)).collect();
    for (found, (picture, settings)) in far_detector.detect_batch(&asked).into_iter().zip(&asked) {
        let found = found.unwrap();
        assert_eq!(found.items, near_detector.detect(*picture, settings).unwrap().items);
        assert_eq!((found.items.len(), found.shared_by), (1, 3));
    }
    let after = far.remote_status().unwrap();
    assert_eq!((after.frames - before.frames, after.failures, after.fallbacks), (1, 0, 0));

    // Without the server they are looked at here, together too.
    server.kill();
    let found = far_detector.detect_batch(&asked);
    assert!(found.iter().flatten().all(|found| found.items.len() == 1 && found.shared_by == 3), "{found:?}");
    let away = far.remote_status().unwrap();
    assert_eq!((found.len(), away.up, away.fallbacks), (3, false, 3), "{away:?}");
}

#[test]
fn a_real_triton_is_asked_one_by_one_and_together() {
    let Some(python) = std::env::var_os("SIGHTLINE_TRITON_PYTHON").map(PathBuf::from) else {
        return println!("left out: SIGHTLINE_TRITON_PYTHON names no Python with nvidia-pytriton");
    };
    let (folder, port) = (models(), free_port());
    let _server = Server::triton(&python, port);
    let config = Config { batch: Some(4), ..config(folder.path(), port) };
    let far = Model::load(&config).unwrap();
    let near = Model::load(&Config { remote: None, ..config.clone() }).unwrap();
    assert_eq!(far.batch(), 4, "{:?}", far.remote_status());
    let (mut far_detector, mut near_detector) = (far.detector().unwrap(), near.detector().unwrap());
    let (pictures, settings) = ([60, 120, 200].map(grey), all());
    let asked: Vec<_> = pictures.iter().map(|picture| (Picture::I420(picture), &settings)).collect();
    let close = |found: &[Detection], expected: &[Detection]| {
        found.len() == 1 && expected.len() == 1 && (found[0].confidence - expected[0].confidence).abs() < 1e-4
    };
    for (found, (picture, settings)) in far_detector.detect_batch(&asked).into_iter().zip(&asked) {
        let (found, expected) = (found.unwrap(), near_detector.detect(*picture, settings).unwrap());
        assert!(found.shared_by == 3 && close(&found.items, &expected.items), "{found:?} and {expected:?}");
        let found = far_detector.detect(*picture, settings).unwrap();
        assert!(close(&found.items, &expected.items), "{found:?} and {expected:?}");
    }
    let status = far.remote_status().unwrap();
    assert_eq!((status.up, status.failures, status.fallbacks), (true, 0, 0), "{status:?}");
}

#[test]
fn a_server_that_takes_one_picture_at_a_time_is_asked_one_by_one() {
    let Some(python) = python() else { return };
    let (folder, port) = (models(), free_port());
    let _server = Server::start(&python, port, "bright", &folder.path().join("bright.onnx"));
    let far = Model::load(&Config { batch: Some(4), ..config(folder.path(), port) }).unwrap();
    assert_eq!(far.batch(), 1);
    let (pictures, settings) = ([60, 200].map(grey), all());
    let asked: Vec<_> = pictures.iter().map(|picture| (Picture::I420(picture), &settings)).collect();
    let found = far.detector().unwrap().detect_batch(&asked);
    assert!(found.iter().flatten().all(|found| found.items.len() == 1), "{found:?}");
    let status = far.remote_status().unwrap();
    assert!(status.up && status.fallbacks == 0, "what it does not take says nothing of the server: {status:?}");
}

#[test]
fn a_server_behind_tls_is_asked_by_who_trusts_its_authority_alone() {
    let Some(python) = python() else { return };
    let (folder, port) = (models(), free_port());
    let _server = Server::start(&python, port, "bright", &folder.path().join("bright.onnx"));
    let (own, other) = (folder.path().join("own.pem"), folder.path().join("other.pem"));
    let door = tls::Door::open(port, &own);
    drop(tls::Door::open(port, &other));
    let with =
        |ca: Option<PathBuf>| Config { remote: Some(door.address()), remote_ca: ca, ..config(folder.path(), port) };
    let config = with(Some(own));
    assert_eq!(config.validate(), Ok(()));
    let far = Model::load(&config).unwrap();
    assert_eq!(far.detector().unwrap().detect(Picture::I420(&grey(200)), &all()).unwrap().items.len(), 1);
    let status = far.remote_status().unwrap();
    assert!(status.up && status.fallbacks == 0 && status.address.starts_with("grpcs://"), "{status:?}");
    // The system's authorities do not know it either.
    for ca in [Some(other), None] {
        let status = Model::load(&with(ca)).unwrap().remote_status().unwrap();
        assert!(!status.up && status.reason.as_ref().is_some_and(|why| why.contains("certificate")), "{status:?}");
    }
    // Nor does a door with TLS take a caller without.
    let plain = Config { remote: Some(door.address().replace("grpcs", "grpc")), remote_ca: None, ..config };
    assert!(!Model::load(&plain).unwrap().remote_status().unwrap().up);
}

#[test]
fn a_cascade_of_the_configured_model_asks_on_its_connection() {
    let Some(python) = python() else { return };
    let (folder, port) = (models(), free_port());
    let _server = Server::start(&python, port, "bright", &folder.path().join("bright.onnx"));
    let config = config(folder.path(), port);
    let fed = Fed::start(Model::load(&config).unwrap(), &config);
    let before = fed.status().frames;
    let second = Some("bright".to_owned());
    let cascade = Cascade { sampling: None, first: "bright".into(), classes: Vec::new(), second };
    let options = LaneOptions { cascade: Some(cascade), ..LaneOptions::default() };
    let (deliver, results) = channel();
    let lane = fed.pools.lane("cascade".into(), options, move |result| drop(deliver.send(result)));
    let now = Instant::now();
    lane.offer(Frame {
        id: 1,
        rtp_timestamp: RtpTimestamp::default(),
        captured: None,
        picture: Arc::new(grey(200)),
        ledger: FrameLedger::arrived(now, now),
    });
    let result = results.recv_timeout(LIMIT).expect("the frame has a result");
    assert_eq!(result.items.len(), 2, "the first finds one, and the second one on its crop: {:?}", result.items);
    // The configured model's own connection counts what the cascade asked.
    assert_eq!(fed.status().frames, before + 2);
}

#[test]
fn a_server_that_dies_and_comes_back_costs_no_frame() {
    let Some(python) = python() else { return };
    let (folder, port) = (models(), free_port());
    let file = folder.path().join("bright.onnx");
    let server = Server::start(&python, port, "bright", &file);
    let config = config(folder.path(), port);
    let mut fed = Fed::start(Model::load(&config).unwrap(), &config);
    fed.look_until("the server looks", |status| status.frames >= 10);
    assert_eq!(fed.status().fallbacks, 0);

    server.kill();
    fed.look_until("the model here looks", |status| !status.up && status.fallbacks >= 10);
    let away = fed.status();
    assert!(away.reason.is_some(), "{away:?}");
    assert!(away.failures <= 4, "no more than what was in flight tried it: {away:?}");

    let _server = Server::start(&python, port, "bright", &file);
    fed.look_until("the server looks again", |status| status.up && status.frames >= away.frames + 10);
    let counters = fed.lane.counters();
    assert_eq!((counters.finished, counters.failed, counters.skipped), (fed.offered, 0, 0));
}

#[test]
fn a_server_that_is_away_at_the_start_is_found_when_it_comes() {
    let Some(python) = python() else { return };
    let (folder, port) = (models(), free_port());
    let config = config(folder.path(), port);
    let mut fed = Fed::start(Model::load(&config).unwrap(), &config);
    fed.look();
    let status = fed.status();
    assert!(!status.up && status.fallbacks == 1 && status.failures == 0, "{status:?}");
    let _server = Server::start(&python, port, "bright", &folder.path().join("bright.onnx"));
    fed.look_until("the server looks", |status| status.up && status.frames >= 5);
    assert_eq!(fed.lane.counters().failed, 0);
}

#[test]
fn a_server_can_have_the_model_alone() {
    let Some(python) = python() else { return };
    let (folder, elsewhere, port) = (models(), tempfile::tempdir().unwrap(), free_port());
    let server = Server::start(&python, port, "bright", &folder.path().join("bright.onnx"));
    let config = Config { model: "./bright.onnx".into(), ..config(elsewhere.path(), port) };
    let model = Model::load(&config).unwrap();
    assert_eq!((&*model.info().name, model.info().labels.len()), ("bright", 1));
    let mut detector = model.detector().unwrap();
    assert_eq!(detector.detect(Picture::I420(&grey(200)), &all()).unwrap().items.len(), 1);
    server.kill();
    // What is in flight fails, and then what comes fails without being tried.
    while model.remote_status().unwrap().up {
        let _ = detector.detect(Picture::I420(&grey(200)), &all());
    }
    let error = detector.detect(Picture::I420(&grey(200)), &all()).unwrap_err();
    assert!(matches!(&error, DetectError::Frame(why) if why.contains("away")), "{error}");
}

#[test]
fn a_model_that_the_server_does_not_have_leaves_the_one_here_at_work_and_says_so() {
    let Some(python) = python() else { return };
    let (folder, port) = (models(), free_port());
    let _server = Server::start(&python, port, "another", &folder.path().join("bright.onnx"));
    let model = Model::load(&config(folder.path(), port)).unwrap();
    let status = model.remote_status().unwrap();
    assert!(!status.up && status.reason.as_ref().is_some_and(|why| why.contains("bright")), "{status:?}");
    // By its own name it is found, and says what the one here says.
    let config = Config { remote_model: Some("another".into()), ..config(folder.path(), port) };
    assert!(Model::load(&config).unwrap().remote_status().unwrap().up);
}

#[test]
fn nobody_there_and_no_model_here_is_refused_with_both_reasons() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = Config { model: "yolox-nano".into(), ..config(folder.path(), port) };
    let error = Model::load(&config).unwrap_err();
    assert!(matches!(error, DetectError::Remote { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("models pull"), "{text}");
}

#[test]
fn a_server_that_never_answers_costs_its_timeout_once() {
    let (folder, silent) = (models(), TcpListener::bind("127.0.0.1:0").unwrap());
    let config = config(folder.path(), silent.local_addr().unwrap().port());
    let mut fed = Fed::start(Model::load(&config).unwrap(), &config);
    for _ in 0..5 {
        fed.look();
    }
    let status = fed.status();
    assert!(!status.up && status.fallbacks == 5, "{status:?}");
}

#[test]
fn a_new_file_is_for_the_model_here_and_the_server_stays_before_it() {
    let (folder, silent) = (models(), TcpListener::bind("127.0.0.1:0").unwrap());
    let config = config(folder.path(), silent.local_addr().unwrap().port());
    let mut fed = Fed::start(Model::load(&config).unwrap(), &config);
    fed.look();
    let mut upload = fed.pools.upload("bright").unwrap();
    upload.write(&brightness(-1)).unwrap();
    fed.pools.replace(upload, None).unwrap();
    assert_eq!(std::fs::read(folder.path().join("bright.onnx")).unwrap(), brightness(-1));
    fed.look();
    let status = fed.status();
    assert!(!status.up && status.local && status.fallbacks == 1, "{status:?}");
}

/// The next picture of a stream, and its frame at the viewer.
async fn pass(camera: &mut fed::Fed, viewer: &mut ViewerFeed, passed: &mut u64) {
    camera.feed().await;
    fed::next(viewer).await;
    *passed += 1;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_frame_of_video_is_lost_while_the_server_dies_and_comes_back() {
    let Some(python) = python() else { return };
    let (folder, port) = (models(), free_port());
    let file = folder.path().join("bright.onnx");
    let server = Server::start(&python, port, "bright", &file);
    let model = Model::load(&config(folder.path(), port)).unwrap();
    let remote = model.clone();
    let status = || remote.remote_status().unwrap();
    let mut camera = fed::Fed::start(model);
    let mut viewer = camera.stream.watch(VideoChoice::Annotated);
    let mut passed = 0;
    let first = status().frames;
    while status().frames < first + 5 {
        pass(&mut camera, &mut viewer, &mut passed).await;
    }
    server.kill();
    while status().up || status().fallbacks < 5 {
        pass(&mut camera, &mut viewer, &mut passed).await;
    }
    let away = status().frames;
    let server = tokio::task::spawn_blocking(move || Server::start(&python, port, "bright", &file));
    while !status().up || status().frames < away + 5 {
        pass(&mut camera, &mut viewer, &mut passed).await;
    }
    drop(server.await.unwrap());
    let seen = camera.stream.status();
    assert_eq!((seen.frames_in, seen.frames_decoded, seen.encodes), (passed, passed, passed));
    assert!(seen.dropped.values().all(|&dropped| dropped == 0), "{:?}", seen.dropped);
}
