//! WHIP and WHEP with peers that are not ours: aiortc, GStreamer's webrtcbin, and a page of one's own in Chromium, each against
//! the real binary.
//!
//! The scripts in `tests/peers/` and `tests/browser/` do and see; what they print is judged here.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/camera_file.rs"]
mod camera_file;
#[path = "support/process.rs"]
#[allow(dead_code)] // signals are another test's matter
mod process;
#[path = "support/server.rs"]
#[allow(dead_code)] // the server is a process of its own here
mod server;
#[path = "support/squares.rs"]
#[allow(dead_code)] // the detector finds the squares by itself
mod squares;
#[path = "support/whip.rs"]
#[allow(dead_code)] // the publisher is all that is needed here
mod whip;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use process::Process;
use serde_json::{Value, json};
use whip::Publisher;

/// A Python script of `tests/peers/`, ready to run.
fn python(interpreter: &str, script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(interpreter);
    command.current_dir(root).arg(format!("tests/peers/{script}.py")).stdin(Stdio::null());
    command
}

/// The Python of the project's own environment, which has aiortc; `None`, with a printed line, where `make setup-test` has not
/// been run.
fn aiortc(script: &str) -> Option<Command> {
    let python_path = ".sightline/venv/bin/python";
    let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(python_path).exists();
    peer(there, "aiortc in .sightline/venv").then(|| python(python_path, script))
}

/// Debian's Python, which has GStreamer's bindings.
fn webrtcbin(script: &str) -> Option<Command> {
    let check = "import gi; gi.require_version('GstWebRTC', '1.0'); from gi.repository import Gst, GstWebRTC; Gst.init(None); \
        assert all(Gst.ElementFactory.find(name) for name in ('webrtcbin', 'nicesrc', 'avdec_h264'))";
    let output = Command::new("/usr/bin/python3").args(["-c", check]).stderr(Stdio::null()).status();
    peer(output.is_ok_and(|status| status.success()), "GStreamer's webrtcbin")
        .then(|| python("/usr/bin/python3", script))
}

/// `make test` has installed all peers: there a missing one is a failure, so that nothing is left out unseen.
fn peer(there: bool, name: &str) -> bool {
    let required = std::env::var_os("SIGHTLINE_REQUIRE_BROWSER").is_some();
    assert!(there || !required, "{name} is not there: make setup-test installs it");
    if !there {
        println!("left out: {name} is not there (make setup-test installs it)");
    }
    there
}

/// What a script printed, once it has ended.
fn said(output: &Output) -> Value {
    let (text, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}\n{faults}");
    assert!(output.status.success(), "{}\n{faults}", output.status);
    serde_json::from_str(&text).expect("one JSON object")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A child that ends with the test.
struct Running(Child);

impl Running {
    /// Closes its standard input, by which it knows that it is enough, and waits for what it has to say.
    fn end(mut self) -> Value {
        drop(self.0.stdin.take());
        let mut output = Vec::new();
        let mut stdout = self.0.stdout.take().unwrap();
        std::io::copy(&mut stdout, &mut output).unwrap();
        let status = self.0.wait().unwrap();
        said(&Output { status, stdout: output, stderr: Vec::new() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until pictures of a stream come in.
async fn pictures_come(base: &str) {
    let coming = async {
        loop {
            let answer: Value = reqwest::get(format!("{base}/api/v1/streams")).await.unwrap().json().await.unwrap();
            if answer["streams"]
                .as_array()
                .unwrap()
                .iter()
                .any(|stream| stream["input_fps"].as_f64().unwrap_or(0.0) > 0.0)
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(server::LIMIT, coming).await.expect("nothing was published");
}

/// Runs a viewer while this crate's own publisher sends.
async fn watch(mut viewer: Command, frames: u32) -> Value {
    // In a process of its own, on all addresses: GStreamer does not go from one interface to loopback.
    let server = Process::start(&[]);
    let mut publisher = Publisher::start(&server.base, "/whip/cam").await;
    viewer.args([format!("{}/whep/cam", server.base), frames.to_string()]);
    let run = tokio::task::spawn_blocking(move || viewer.output().expect("the peer starts"));
    let output = publisher.while_publishing(run).await.unwrap();
    said(&output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiortc_watches_and_hears_of_detections() {
    let Some(viewer) = aiortc("aiortc_view") else { return };
    let seen = watch(viewer, 45).await;
    assert_eq!((&seen["width"], &seen["height"], &seen["rising"]), (&json!(320), &json!(240), &json!(true)), "{seen}");
    assert!(number(&seen["brightest"]) > 200.0 && number(&seen["darkest"]) < 60.0, "the scene's squares: {seen}");
    assert!(number(&seen["messages"]["frame"]) > 10.0, "{seen}");
    assert_eq!(seen["streams"], json!(["cam"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webrtcbin_watches_and_trickles_its_candidates() {
    let Some(viewer) = webrtcbin("webrtcbin_view") else { return };
    let seen = watch(viewer, 45).await;
    assert_eq!((&seen["frames"], &seen["size"]), (&json!(45), &json!([320, 240])), "{seen}");
    assert!(number(&seen["trickled"]) >= 1.0, "{seen}");
}

#[tokio::test]
async fn aiortc_publishes_and_aiortc_watches() {
    let (Some(mut publisher), Some(mut viewer)) = (aiortc("aiortc_publish"), aiortc("aiortc_view")) else { return };
    let server = Process::start(&[]);
    publisher.arg(format!("{}/whip/cam", server.base)).stdin(Stdio::piped()).stdout(Stdio::piped());
    let publisher = Running(publisher.spawn().expect("aiortc starts"));
    pictures_come(&server.base).await;
    let seen = said(&viewer.args([format!("{}/whep/cam", server.base), "45".to_owned()]).output().unwrap());
    assert_eq!((&seen["width"], &seen["height"]), (&json!(320), &json!(240)), "{seen}");
    assert!(number(&seen["brightest"]) > 200.0, "the moving square: {seen}");
    let published = publisher.end();
    assert_eq!(
        (&published["state"], &published["direction"]),
        (&json!("connected"), &json!("sendonly")),
        "{published}"
    );
    assert_eq!(published["reported"], true, "the server reports what it received (RFC 3550 §6.4.2)");
}

#[test]
fn a_page_in_chromium_publishes_watches_and_restarts_ice() {
    let Some(mut node) = browser::node() else { return };
    let folder = tempfile::tempdir().unwrap();
    let camera = folder.path().join("camera.y4m");
    camera_file::write(&camera, (640, 480));
    let server = Process::start(&[]);
    let seen =
        said(&node.arg("tests/browser/whip_whep.mjs").arg(&server.base).arg(&camera).output().expect("node starts"));
    assert_eq!(seen["faults"], json!([]), "the page has no errors");
    assert_eq!(seen["bare"], json!([true, true]), "the offers went out before anything was gathered");
    assert_eq!(seen["trickled"], json!([204, 204]), "{seen}");
    assert!(number(&seen["size"][0]) > 0.0 && number(&seen["frames"]) >= 60.0, "{seen}");
    for restart in seen["restarts"].as_array().unwrap() {
        assert_eq!(restart, &json!({ "status": 200, "renewed": true, "trickled": 204 }));
    }
    assert_eq!(seen["changed"], json!([true, true]), "{seen}");
    assert_eq!(seen["states"], json!(["connected", "connected"]), "{seen}");
    assert!(number(&seen["after_restart"]) >= number(&seen["frames"]) + 60.0, "the picture goes on: {seen}");
    assert!(seen["messages"].as_array().is_some_and(|kinds| kinds.contains(&json!("frame"))), "{seen}");
    assert_eq!(seen["sessions"].as_array().map(Vec::len), Some(2), "no session was replaced: {seen}");
    assert_eq!(seen["ended"], json!([200, 200]));
}
