//! Models replaced while the server runs: by `PUT`, and by a file that has changed. Small generated graphs, the real ONNX Runtime
//! (where it is absent, a line says so), real streams.

#[path = "support/server.rs"]
#[allow(dead_code)] // no sessions here
mod server;
#[path = "support/tiny_onnx.rs"]
mod tiny_onnx;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use server::{LIMIT, Options, Server};
use sha2::{Digest, Sha256};
use sightline::detect::{Config, DetectError, LaneModel, LaneOptions, Model, Pools};
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::{Detections, Frame, FrameLedger, I420Frame, RtpTimestamp};
use sightline::pipeline::CameraConfig;
use sightline::sink::message::ConfigMessage;
use tempfile::TempDir;
use tiny_onnx::yolox;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// The model that is configured, at its path.
fn config(path: &Path, models_dir: &Path) -> Config {
    Config {
        model: path.to_str().unwrap().to_owned(),
        models_dir: models_dir.to_owned(),
        workers: Some(2),
        ..Config::default()
    }
}

/// A folder with `tiny.onnx`, whose square has the score 0.9.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.onnx");
    fs::write(&path, yolox(0.9, 1)).unwrap();
    (folder, path)
}

/// The configured model, or `None` with a printed line where there is no runtime.
fn load(config: &Config) -> Option<Model> {
    match Model::load(config) {
        Ok(model) => Some(model),
        Err(error @ DetectError::Runtime { .. }) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Frame `id` of a stream of 30 frames per second by its own clock.
fn frame(id: u64, start: Instant) -> Frame {
    let now = start + Duration::from_millis(id * 33);
    let stamp = u32::try_from(id).unwrap() * 3000;
    Frame {
        id,
        rtp_timestamp: RtpTimestamp { output: stamp, source: stamp },
        captured: None,
        picture: Arc::new(I420Frame::black(64, 64)),
        ledger: FrameLedger::arrived(now, now),
    }
}

fn score(result: &Detections) -> u32 {
    assert_eq!(result.items.len(), 1, "{:?}", result.items);
    let bbox = result.items[0].bbox;
    for (edge, expected) in [bbox.x1, bbox.y1, bbox.x2, bbox.y2].into_iter().zip(tiny_onnx::SQUARE) {
        assert!((edge - expected).abs() < 0.01, "{bbox:?}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let score = (result.items[0].confidence * 100.0).round() as u32;
    score
}

#[test]
fn a_model_is_replaced_under_load_and_no_frame_of_any_stream_is_lost() {
    const FRAMES: u64 = 300;
    let (folder, path) = folder();
    let config = config(&path, folder.path());
    let Some(model) = load(&config) else { return };
    let pools = Pools::start(model, &config).unwrap();
    let streams: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let pools = Arc::clone(&pools);
            std::thread::spawn(move || {
                let (deliver, results) = channel();
                let lane = pools.lane(name.into(), LaneOptions::default(), move |result| deliver.send(result).unwrap());
                let (mut scores, start) = (Vec::new(), Instant::now());
                for id in 0..FRAMES {
                    lane.offer(frame(id, start));
                    let result: Arc<Detections> = results.recv_timeout(LIMIT).unwrap();
                    assert_eq!(result.frame_id, id, "in order, and none is missing");
                    assert_eq!(result.items[0].track_id, Some(1), "the tracker knows it still");
                    scores.push(score(&result));
                }
                (scores, lane.counters())
            })
        })
        .into();
    let mut replaced = 0;
    while streams.iter().any(|stream| !stream.is_finished()) {
        replaced += 1;
        let mut upload = pools.upload("tiny").unwrap();
        upload.write(&yolox(if replaced % 2 == 1 { 0.6 } else { 0.9 }, 1)).unwrap();
        pools.replace(upload, None).unwrap();
    }
    let mut changes = 0;
    for stream in streams {
        let (scores, counters) = stream.join().unwrap();
        assert_eq!((counters.offered, counters.finished), (FRAMES, FRAMES), "{counters:?}");
        assert_eq!((counters.failed, counters.skipped), (0, 0), "{counters:?}");
        assert!(scores.iter().all(|score| [60, 90].contains(score)), "{scores:?}");
        changes += scores.windows(2).filter(|pair| pair[0] != pair[1]).count();
    }
    assert!(changes > 0, "{replaced} files came, and nobody saw another model");
    assert_eq!(pools.info()[0].failed, 0);
}

#[test]
fn an_old_model_is_whole_whatever_becomes_of_its_file() {
    let (folder, path) = folder();
    let config = config(&path, folder.path());
    let Some(model) = load(&config) else { return };
    fs::write(&path, "no longer a model").unwrap();
    for _ in 0..3 {
        model.detector().unwrap();
    }
}

/// A server with the tiny model, and a camera that plays a clip of 64×64 pixels over and over.
struct Stage {
    server: Server,
    folder: TempDir,
    path: PathBuf,
}

impl Stage {
    async fn start() -> Option<Self> {
        Self::with(sightline::server::Config::default()).await
    }

    async fn with(http: sightline::server::Config) -> Option<Self> {
        let (folder, path) = folder();
        let detect = config(&path, folder.path());
        let model = load(&detect)?;
        let server = Server::start(Options { model, detect, http, ..Options::default() }).await;
        let mut encoder = H264Encoder::new(encode::Config::default());
        let mut clip = Vec::new();
        for n in 0..30 {
            clip.extend_from_slice(&encoder.encode(&I420Frame::black(64, 64), n == 0).unwrap().data);
        }
        fs::write(folder.path().join("clip.h264"), clip).unwrap();
        Some(Self { server, folder, path })
    }

    /// A camera, and what the detector finds in it.
    fn camera(&self, name: &str, model: Option<&str>) -> Receiver<Arc<Detections>> {
        let clip = format!("file:{}", self.folder.path().join("clip.h264").display());
        let camera = CameraConfig { model: model.map(str::to_owned), ..CameraConfig::at(clip.parse().unwrap()) };
        self.server.pipeline.add_camera(name, camera).unwrap();
        self.server.pipeline.stream(name).unwrap().results().0
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/models{path}", self.server.base)
    }

    async fn put(&self, path: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = reqwest::Client::new().request(Method::PUT, self.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn model(&self, name: &str) -> Value {
        let response = reqwest::get(self.url(&format!("/{name}"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    /// What lies in the folder of the models, without the clip.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "clip.h264");
        names.sort();
        names
    }
}

async fn next(results: &mut Receiver<Arc<Detections>>) -> Arc<Detections> {
    loop {
        match timeout(LIMIT, results.recv()).await.expect("a result comes") {
            Ok(result) => return result,
            // The test was elsewhere for a while.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => panic!("the stream is over"),
        }
    }
}

/// Waits for a result with this score; everything before has the other.
async fn until_score(results: &mut Receiver<Arc<Detections>>, wished: u32, before: u32) {
    loop {
        match score(&*next(results).await) {
            found if found == wished => return,
            found => assert_eq!(found, before),
        }
    }
}

fn assert_error(answer: &(u16, Value), status: u16, code: &str, hint: &str) {
    let (found, body) = answer;
    assert_eq!((*found, &body["error"]["code"]), (status, &json!(code)), "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains(hint), "{body} does not say {hint:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_put_looks_from_the_next_frame_on_and_the_stream_goes_on() {
    let Some(stage) = Stage::start().await else { return };
    let mut results = stage.camera("front", None);
    let pipeline = &stage.server.pipeline;
    assert_eq!(score(&*next(&mut results).await), 90);
    let before = pipeline.stream("front").unwrap();
    let bytes = yolox(0.6, 1);
    let sum = format!("{:x}", Sha256::digest(&bytes));
    let (status, answer) = stage.put(&format!("/tiny?sha256={sum}"), bytes.clone(), &[]).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["name"], &answer["state"], &answer["default"]),
        (&json!("tiny"), &json!("loaded"), &json!(true))
    );
    assert_eq!((&answer["family"], &answer["classes"]), (&json!("yolox"), &json!(1)));
    assert_eq!(answer["input"], json!({ "width": 64, "height": 64 }));
    assert_eq!(answer["streams"], json!(["front"]));
    until_score(&mut results, 60, 90).await;
    assert!(Arc::ptr_eq(&before, &pipeline.stream("front").unwrap()), "the same stream");
    assert_eq!(fs::read(&stage.path).unwrap(), bytes);
    assert_eq!(stage.files(), ["tiny.onnx"]);
    let info = stage.model("tiny").await;
    assert_eq!((&info["stats"]["failed"], info.get("error")), (&json!(0), None), "{info}");
    // Another number of classes is another model too: everything that follows from it is taken over.
    let (status, answer) = stage.put("/tiny", yolox(0.6, 3), &[]).await;
    assert_eq!((status, &answer["classes"]), (200, &json!(3)), "{answer}");
    let LaneModel::Ready(model) = pipeline.stream("front").unwrap().model() else { panic!("it is ready") };
    assert_eq!(model.labels.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_leaves_the_old_in_place_and_says_why() {
    let http = sightline::server::Config { max_model_mb: 1, ..sightline::server::Config::default() };
    let Some(stage) = Stage::with(http).await else { return };
    let mut results = stage.camera("front", None);
    next(&mut results).await;
    let good = yolox(0.6, 1);
    let truncated = good[..good.len() / 2].to_vec();
    let digest = "0".repeat(64);
    assert_error(&stage.put("/tiny", truncated, &[]).await, 422, "unusable_model", "the ONNX Runtime refused");
    assert_error(&stage.put("/tiny", b"no model".to_vec(), &[]).await, 422, "unusable_model", "the old one stays");
    assert_error(&stage.put("/tiny", Vec::new(), &[]).await, 400, "bad_request", "empty");
    for (path, headers) in
        [(format!("/tiny?sha256={digest}"), vec![]), ("/tiny".into(), vec![("x-checksum-sha256", digest.as_str())])]
    {
        assert_error(&stage.put(&path, good.clone(), &headers).await, 422, "wrong_checksum", &digest);
    }
    assert_error(&stage.put("/tiny?sha256=abc", good.clone(), &[]).await, 400, "bad_request", "64");
    assert_error(&stage.put("/tiny", vec![0; 1_000_001], &[]).await, 413, "too_large", "max_model_mb");
    assert_error(&stage.put("/motion", good.clone(), &[]).await, 400, "bad_name", "built in");
    assert_error(&stage.put("/new.onnx", good.clone(), &[]).await, 400, "bad_name", ".onnx");
    assert_error(&stage.put("/..%2Fx", good.clone(), &[]).await, 400, "bad_name", "letters");
    let foreign = [("origin", "https://evil.example")];
    assert_error(&stage.put("/tiny", good.clone(), &foreign).await, 403, "origin_not_allowed", "allowed_origins");
    let (status, answer) = stage.put("/new", b"no model".to_vec(), &[]).await;
    assert_error(&(status, answer), 422, "unusable_model", "");
    assert_eq!(stage.files(), ["tiny.onnx"], "nothing is left of them");
    assert_eq!(fs::read(&stage.path).unwrap(), yolox(0.9, 1));
    for _ in 0..3 {
        assert_eq!(score(&*next(&mut results).await), 90);
    }
    assert_eq!(stage.model("tiny").await["stats"]["failed"], 0);
    let nobody = reqwest::get(stage.url("/nobody")).await.unwrap();
    assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_breaks_off_replaces_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Some(stage) = Stage::start().await else { return };
    let address = stage.server.base.trim_start_matches("http://").to_owned();
    let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!("PUT /api/v1/models/tiny HTTP/1.1\r\nHost: {address}\r\nContent-Length: 4000\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&yolox(0.6, 1)[..1000]).await.unwrap();
    server::until("the upload has begun", || stage.files().len() == 2).await;
    connection.shutdown().await.unwrap();
    let _ = connection.read_to_end(&mut Vec::new()).await;
    drop(connection);
    server::until("what came is gone", || stage.files() == ["tiny.onnx"]).await;
    assert_eq!(fs::read(&stage.path).unwrap(), yolox(0.9, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_has_changed_is_taken_over_and_a_broken_one_is_not() {
    let Some(stage) = Stage::start().await else { return };
    tokio::spawn(Arc::clone(&stage.server.pipeline).watch_models());
    let mut results = stage.camera("front", None);
    assert_eq!(score(&*next(&mut results).await), 90);
    fs::write(&stage.path, yolox(0.6, 1)).unwrap();
    until_score(&mut results, 60, 90).await;

    fs::write(&stage.path, &yolox(0.8, 1)[..500]).unwrap();
    let started = Instant::now();
    loop {
        let model = stage.model("tiny").await;
        if model["error"].as_str().is_some_and(|error| error.contains("refused")) {
            assert_eq!(model["state"], "loaded", "the old one is at work: {model}");
            break;
        }
        assert!(started.elapsed() < LIMIT, "{model}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let warnings = stage.server.pipeline.info().warnings;
    assert!(
        warnings.iter().any(|warning| warning.contains("tiny") && warning.contains("cannot be used")),
        "{warnings:?}"
    );
    while let Ok(result) = results.try_recv() {
        assert_eq!(score(&result), 60);
    }
    fs::write(&stage.path, yolox(0.7, 1)).unwrap();
    until_score(&mut results, 70, 60).await;
    server::until("it is said no longer", || stage.server.pipeline.info().warnings.is_empty()).await;
    assert_eq!(stage.model("tiny").await.get("error"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_could_not_be_loaded_is_tried_again_when_its_file_comes() {
    let Some(stage) = Stage::start().await else { return };
    let mut waiting = stage.camera("side", Some("late"));
    let pipeline = Arc::clone(&stage.server.pipeline);
    let failed = || pipeline.stream_report("side").and_then(|report| report.model_error);
    server::until("it failed", || failed().is_some()).await;
    let status = stage.model("late").await;
    assert_eq!((&status["state"], &status["streams"]), (&json!("failed"), &json!(["side"])), "{status}");
    assert!(status["error"].as_str().unwrap().contains("no model of that name"), "{status}");
    // By hand, and bad at first.
    tokio::spawn(Arc::clone(&pipeline).watch_models());
    fs::write(stage.folder.path().join("late.onnx"), "not yet").unwrap();
    server::until("it was tried", || failed().is_some_and(|why| why.contains("refused"))).await;
    fs::write(stage.folder.path().join("late.onnx"), yolox(0.6, 1)).unwrap();
    assert_eq!(score(&*next(&mut waiting).await), 60);
    assert_eq!(failed(), None);
    // By the API.
    let mut other = stage.camera("back", Some("later"));
    server::until("it failed", || pipeline.stream_report("back").is_some_and(|report| report.model_error.is_some()))
        .await;
    let (status, answer) = stage.put("/later", yolox(0.7, 1), &[]).await;
    assert_eq!((status, &answer["streams"]), (201, &json!(["back"])), "{answer}");
    assert_eq!(score(&*next(&mut other).await), 70);
    let listed: Value = reqwest::get(stage.url("")).await.unwrap().json().await.unwrap();
    let names: Vec<_> =
        listed["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["tiny", "late", "later"], "{listed}");
    assert!(names.contains(&"face") && !names[1..].contains(&"tiny"), "{listed}");
    let face = stage.model("face").await;
    assert_eq!((&face["state"], &face["licence"]), (&json!("absent"), &json!("MIT")), "{face}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_somebody_chose_stay_and_others_are_the_new_models() {
    let Some(stage) = Stage::start().await else { return };
    let mut chosen = stage.camera("chosen", None);
    let mut plain = stage.camera("plain", None);
    let stream = |name: &str| stage.server.pipeline.stream(name).unwrap();
    stream("chosen").configure(ConfigMessage { confidence_threshold: Some(0.25), ..ConfigMessage::default() }).unwrap();
    tokio::spawn(Arc::clone(&stage.server.pipeline).watch_models());
    next(&mut chosen).await;
    next(&mut plain).await;
    // The manifest is one of the model's files.
    let manifest = "family = \"yolox\"\nfile = \"tiny.onnx\"\nlabels = [\"thing\"]\nconfidence = 0.55\niou = 0.5\n\
                    nms = \"per-class\"\n[input]\nsize = { fixed = { width = 64, height = 64 } }\nfit = \"stretch\"\ncolour = \"rgb\"\n";
    fs::write(stage.path.with_extension("toml"), manifest).unwrap();
    server::until("the threshold is the manifest's", || {
        (stream("plain").config().confidence_threshold - 0.55).abs() < 1e-6
    })
    .await;
    assert!((stream("chosen").config().confidence_threshold - 0.25).abs() < 1e-6);
    let (status, answer) =
        stage.put("/tiny", yolox(0.4, 1), &[(header::CONTENT_TYPE.as_str(), "application/octet-stream")]).await;
    assert_eq!(status, 200, "{answer}");
    // 0.4 is below the one threshold and above the other.
    loop {
        let result = next(&mut chosen).await;
        assert_eq!(result.items.len(), 1);
        if score(&result) == 40 {
            break;
        }
    }
    loop {
        if next(&mut plain).await.items.is_empty() {
            break;
        }
    }
}
