//! The examples, run as a person runs them, on a video that is made here.
//!
//! `consumer.py` needs aiortc in `.sightline/venv` (`scripts/setup test` makes it); where it is absent a line says so.

#[path = "support/server.rs"]
#[allow(dead_code)] // an example is the server here
mod server;
#[path = "support/squares.rs"]
#[allow(dead_code)] // another's scene
mod squares;
#[path = "support/whip.rs"]
#[allow(dead_code)] // the viewer is all that is needed here
mod whip;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sightline::annotate::colour;
use sightline::decode::VideoDecoder;
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::{FramePool, I420Frame, KeyframeRequest, Plane};
use sightline::sink::message::{DetectionsMessage, ServerMessage};
use sightline::source::file::H264File;

const WIDTH: usize = 320;
const HEIGHT: usize = 240;
const SIDE: usize = 60;
const PICTURES: usize = 90;

/// A hanging example must not hang the tests. Far more than a loaded machine needs.
const LIMIT: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An example, which is built beside the tests.
fn example(name: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_sightline")).with_file_name("examples").join(name);
    assert!(path.is_file(), "{} is not there: run `cargo build --examples`", path.display());
    clean(&path)
}

/// A program in the project's folder, with nothing of the caller's settings.
fn clean(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SIGHTLINE_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    command.current_dir(root());
    command
}

/// A bright square that crosses a grey picture: the built-in detector sees it.
fn square(number: usize) -> I420Frame {
    let mut picture = I420Frame::black(WIDTH, HEIGHT);
    let left = number * 4 % (WIDTH - SIDE);
    let (luma, _, _) = picture.planes_mut();
    luma.fill(90);
    for row in luma.chunks_exact_mut(WIDTH).skip(HEIGHT / 2 - SIDE / 2).take(SIDE) {
        row[left..left + SIDE].fill(220);
    }
    picture
}

fn video(folder: &Path) -> PathBuf {
    let mut encoder = H264Encoder::new(encode::Config::default());
    let units = (0..PICTURES).flat_map(|number| encoder.encode(&square(number), false).unwrap().data);
    let path = folder.join("square.h264");
    fs::write(&path, units.collect::<Vec<u8>>()).unwrap();
    path
}

fn decoded(path: &Path) -> Vec<I420Frame> {
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).unwrap();
    let now = Instant::now();
    let units = H264File::open(path).unwrap();
    let units = units.units().map(|unit| unit.arriving(now));
    let mut pictures: Vec<_> = units.filter_map(|unit| decoder.decode(&unit).unwrap()).map(|got| got.picture).collect();
    pictures.extend(std::iter::from_fn(|| decoder.flush()).map(|got| got.picture));
    pictures
}

fn messages(output: &[u8]) -> Vec<DetectionsMessage<'static>> {
    let text = String::from_utf8(output.to_vec()).unwrap();
    text.lines()
        .map(|line| match serde_json::from_str::<ServerMessage<'static>>(line).unwrap() {
            ServerMessage::Detections(message) => message,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// The lower edge of a box, in its middle: no label is drawn there.
fn stands(picture: &I420Frame, bbox: [f32; 4], luma: u8) -> bool {
    let [x1, _, x2, y2] = bbox;
    let (x, y) = (f32::midpoint(x1, x2) as usize, (y2.ceil() as usize).next_multiple_of(2) - 1);
    let sample = picture.plane(Plane::Y)[y.min(HEIGHT - 1) * WIDTH + x.min(WIDTH - 1)];
    sample.abs_diff(luma) < 30
}

#[test]
fn annotate_file_draws_what_it_reports_into_every_picture() {
    let folder = tempfile::tempdir().unwrap();
    let input = video(folder.path());
    let (out, lines) = (folder.path().join("out.h264"), folder.path().join("out.jsonl"));
    let output = example("annotate_file")
        .args(["--model", "motion", "--out"])
        .args([&out, Path::new("--json"), &lines, &input])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains(&format!("{PICTURES} pictures")) && said.contains("fps") && said.contains("motion"),
        "{said}"
    );

    let messages = messages(&fs::read(&lines).unwrap());
    let pictures = decoded(&out);
    assert_eq!((messages.len(), pictures.len()), (PICTURES, PICTURES));
    let luma = colour(0).y;
    let (mut boxes, mut drawn) = (0, 0);
    for (number, (message, picture)) in messages.iter().zip(&pictures).enumerate() {
        assert_eq!((message.frame_id, message.width, message.height), (number as u64, WIDTH as u32, HEIGHT as u32));
        for object in &message.detections {
            boxes += 1;
            drawn += usize::from(stands(picture, object.bbox, luma));
        }
    }
    assert!(boxes >= PICTURES / 2, "{boxes} boxes were found");
    assert!(drawn * 10 >= boxes * 9, "{drawn} of {boxes} boxes stand where they were reported");
    let ids: std::collections::BTreeSet<_> =
        messages.iter().flat_map(|message| &message.detections).filter_map(|object| object.track_id).collect();
    assert!(!ids.is_empty() && ids.len() < boxes / 4, "the square is followed: {ids:?}");
}

#[test]
fn annotate_file_names_what_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("clip.webm");
    fs::write(&input, b"\x1a\x45\xdf\xa3 and so on").unwrap();
    let output = example("annotate_file").args(["--model", "motion"]).arg(&input).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("clip.webm") && said.contains("Matroska"), "{said}");
}

/// A server on ports of its own, ended with the test.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let mut process = clean(Path::new(env!("CARGO_BIN_EXE_sightline")))
            .args(["serve", "--model", "motion", "--listen", "127.0.0.1:0", "--udp-port", "0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (found, url) = mpsc::channel();
        let log = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("open http://") {
                    let address = rest.split('/').next().unwrap_or_default();
                    let _ = found.send(format!("http://{address}"));
                }
                println!("server: {line}");
            }
        });
        let url = url.recv_timeout(LIMIT).expect("the server did not say where it listens");
        Self { process, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a client to its own end.
fn finish(mut command: Command) -> Output {
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (done, over) = mpsc::channel::<()>();
    let id = process.id();
    let watch = std::thread::spawn(move || {
        if over.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").arg(id.to_string()).status();
        }
    });
    let (mut out, mut err) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        std::io::copy(&mut err, &mut text).unwrap();
        text
    });
    let mut stdout = Vec::new();
    std::io::copy(&mut out, &mut stdout).unwrap();
    let status = process.wait().unwrap();
    drop(done);
    watch.join().unwrap();
    Output { status, stdout, stderr: errors.join().unwrap() }
}

/// What a client printed: the square was found, and came back annotated.
fn hold(output: &Output, count: usize) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let messages = messages(&output.stdout);
    assert_eq!(messages.len(), count, "{said}");
    assert!(messages.iter().any(|message| !message.detections.is_empty()), "nothing was detected");
    assert!(messages.iter().all(|message| message.stream == "square" && message.model == "motion"));
    let returned = said.split_once(" annotated pictures").and_then(|(text, _)| text.rsplit([' ', '\n']).next());
    assert!(returned.unwrap().parse::<u32>().unwrap() > 0, "{said}");
}

#[test]
fn the_rust_client_publishes_and_prints_detections() {
    let folder = tempfile::tempdir().unwrap();
    let input = video(folder.path());
    let server = Server::start();
    let mut client = example("datachannel_consumer");
    client.arg(&server.url).arg(&input).args(["--stream", "square", "--json", "--count", "40"]);
    hold(&finish(client), 40);

    let mut refused = example("datachannel_consumer");
    refused.arg(&server.url).arg(&input).args(["--stream", "not a name!"]);
    let said = finish(refused);
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("bad_name"), "{said:?}");
}

#[test]
fn the_python_client_publishes_and_prints_detections() {
    let python = root().join(".sightline/venv/bin/python");
    if !python.is_file() {
        println!("skipped: no aiortc in .sightline/venv (`scripts/setup test` makes it)");
        return;
    }
    let server = Server::start();
    let mut client = clean(&python);
    client.args([
        "examples/python/consumer.py",
        "--server",
        &server.url,
        "--stream",
        "square",
        "--json",
        "--count",
        "40",
    ]);
    hold(&finish(client), 40);
}

/// An example that serves until it is ended.
struct Bridge(Child);

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtsp_to_whep_shows_a_camera_to_a_player() {
    let folder = tempfile::tempdir().unwrap();
    let camera = format!("file:{}", video(folder.path()).display());
    let mut bridge = example("rtsp_to_whep")
        .args([&camera, "--listen", "127.0.0.1:0", "--udp-port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .map(Bridge)
        .unwrap();
    let mut address = String::new();
    BufReader::new(bridge.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let (base, path) = address.trim().split_at(address.find("/whep/").expect("an address"));
    for choice in ["", "?video=annotated"] {
        let mut viewer = whip::Viewer::start(base, &format!("{path}{choice}")).await;
        assert!(viewer.unit().await.idr, "{choice:?}: the first picture can be decoded");
        for _ in 0..20 {
            viewer.unit().await;
        }
    }
}
