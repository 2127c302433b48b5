//! Cameras from outside: the API's every route and refusal, what outlasts a restart, what a changed configuration does to a
//! running server, and that no password comes out anywhere.

#[path = "support/process.rs"]
mod process;
#[path = "support/server.rs"]
#[allow(dead_code)] // no sessions here
mod server;
#[path = "support/squares.rs"]
#[allow(dead_code)] // nobody looks for the squares
mod squares;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use process::{Process, refused};
use reqwest::{Method, header};
use serde_json::{Value, json};
use server::{Options, Server};
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::I420Frame;
use sightline::pipeline::CameraConfig;
use tempfile::TempDir;

/// A camera that answers nobody: nothing listens on port 1.
const AWAY: &str = "rtsp://user:s3cret@127.0.0.1:1/x";
const SHOWN: &str = "rtsp://user:***@127.0.0.1:1/x";

async fn ask(base: &str, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
    let request = reqwest::Client::new().request(method, format!("{base}{path}"));
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    let response = request.send().await.unwrap();
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn get(base: &str, path: &str) -> Value {
    let (status, answer) = ask(base, Method::GET, path, None).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn post(base: &str, camera: Value) -> (u16, Value) {
    ask(base, Method::POST, "/api/v1/cameras", Some(&camera)).await
}

async fn patch(base: &str, name: &str, changes: Value) -> (u16, Value) {
    ask(base, Method::PATCH, &format!("/api/v1/cameras/{name}"), Some(&changes)).await
}

async fn delete(base: &str, name: &str) -> (u16, Value) {
    ask(base, Method::DELETE, &format!("/api/v1/cameras/{name}"), None).await
}

async fn names(base: &str) -> Vec<String> {
    let cameras = get(base, "/api/v1/cameras").await;
    cameras["cameras"].as_array().unwrap().iter().map(|camera| camera["name"].as_str().unwrap().to_owned()).collect()
}

/// Asks until the answer is as wished.
async fn until(base: &str, path: &str, wished: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let answer = ask(base, Method::GET, path, None).await.1;
        if wished(&answer) {
            return answer;
        }
        assert!(started.elapsed() < server::LIMIT, "{path}: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn config(url: &str) -> CameraConfig {
    CameraConfig::at(url.parse().unwrap())
}

#[tokio::test]
async fn a_camera_is_added_shown_changed_and_removed() {
    let server = Server::start(Options::default()).await;
    let base = &server.base;
    assert_eq!(get(base, "/api/v1/cameras").await, json!({ "cameras": [], "can_persist": false }));
    let wish = json!({ "name": "front", "url": AWAY, "mode": "original", "zone": [[0.1, 0], [1, 0], [1, 1]] });
    let response = reqwest::Client::new().post(format!("{base}/api/v1/cameras")).json(&wish).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[header::LOCATION]),
        (201, &"/api/v1/cameras/front".parse().unwrap())
    );
    let text = response.text().await.unwrap();
    assert!(text.contains("[0.1,0.0]"), "as it was written: {text}");
    let added: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&added["name"], &added["url"], &added["origin"]), (&json!("front"), &json!(SHOWN), &json!("api")));
    assert_eq!(
        (&added["mode"], &added["transport"], &added["persisted"]),
        (&json!("original"), &json!("tcp"), &json!(false))
    );
    assert!(added["status"]["state"].is_string() && added["stream"]["frames_in"].is_number(), "{added}");
    assert!(added.get("note").is_none());

    let (status, changed) = patch(base, "front", json!({ "enabled": false, "url": SHOWN, "zone": null })).await;
    assert_eq!((status, &changed["enabled"], &changed["mode"]), (200, &json!(false), &json!("original")), "{changed}");
    assert!(changed.get("zone").is_none() && changed.get("note").is_none(), "{changed}");
    assert_eq!(server.pipeline.camera_config("front").unwrap().url.reveal(), AWAY, "the address stays whole");
    until(base, "/api/v1/cameras/front", |camera| camera["status"]["state"] == "disabled").await;
    let stream = get(base, "/api/v1/streams/front").await;
    assert_eq!((&stream["name"], &stream["kind"]), (&json!("front"), &json!("camera")));
    assert!(
        get(base, "/api/v1/streams").await["streams"].as_array().unwrap().contains(&stream)
            || stream["uptime_s"].is_number()
    );
    assert_eq!(get(base, "/api/v1/sync").await["waiting"], json!(["front"]));

    assert_eq!(delete(base, "front").await, (204, json!("")));
    for (method, path) in [
        (Method::GET, "/api/v1/cameras/front"),
        (Method::DELETE, "/api/v1/cameras/front"),
        (Method::GET, "/api/v1/streams/front"),
        (Method::GET, "/api/v1/streams/front/snapshot.jpg"),
        (Method::GET, "/api/v1/streams/front/latency"),
    ] {
        let (status, answer) = ask(base, method, path, None).await;
        let code = if path.contains("cameras") { "no_such_camera" } else { "no_such_stream" };
        assert_eq!((status, &answer["error"]["code"]), (404, &json!(code)), "{path}: {answer}");
    }
}

#[tokio::test]
async fn the_regions_of_a_cameras_stream_are_those_of_the_camera() {
    let server = Server::start(Options::default()).await;
    let base = &server.base;
    assert_eq!(post(base, json!({ "name": "front", "url": AWAY, "priority": 3 })).await.0, 201);
    let path = "/api/v1/streams/front/regions";
    let door = json!({ "line": [[0.5, 1.0], [0.5, 0.0]] });
    let wished = json!({ "regions": { "door": door }, "draw": true });
    assert_eq!(ask(base, Method::PUT, path, Some(&wished)).await, (200, wished.clone()));
    let camera = get(base, "/api/v1/cameras/front").await;
    assert_eq!((&camera["regions"]["door"], &camera["draw_regions"]), (&door, &json!(true)), "{camera}");
    assert_eq!(camera["priority"], 3, "the rest stays");
    assert_eq!(patch(base, "front", json!({ "regions": null })).await.0, 200);
    assert_eq!(get(base, path).await, json!({ "regions": {}, "draw": true }));
}

#[tokio::test]
async fn every_refusal_says_what_to_change_and_keeps_the_password() {
    let server = Server::start(Options::default()).await;
    let base = &server.base;
    assert_eq!(post(base, json!({ "name": "front", "url": AWAY })).await.0, 201);
    let url = AWAY;
    for (camera, status, code, hint) in [
        (json!([]), 400, "bad_request", "JSON object"),
        (json!({ "url": url }), 400, "bad_camera", "name is missing"),
        (json!({ "name": 5, "url": url }), 400, "bad_camera", "name: "),
        (json!({ "name": "a/b", "url": url }), 400, "bad_name", "letters"),
        (json!({ "name": "", "url": url }), 400, "bad_name", "at least one"),
        (json!({ "name": "front", "url": url }), 409, "name_taken", "front"),
        (json!({ "name": "x" }), 400, "bad_camera", "url"),
        (json!({ "name": "x", "url": "https://user:s3cret@cam/" }), 400, "bad_camera", "https"),
        (json!({ "name": "x", "url": "user:s3cret@cam" }), 400, "bad_camera", "rtsp://"),
        (json!({ "name": "x", "url": SHOWN }), 400, "bad_camera", "***"),
        (json!({ "name": "x", "url": url, "detect_url": "ftp://user:s3cret@cam/" }), 400, "bad_camera", "detect_url"),
        (json!({ "name": "x", "url": url, "transport": url }), 400, "bad_camera", "transport"),
        (json!({ "name": "x", "url": url, "mode": "boxes" }), 400, "bad_camera", "detect_only"),
        (json!({ "name": "x", "url": url, "priority": 0 }), 400, "bad_camera", "priority = 0"),
        (json!({ "name": "x", "url": url, "zone": [[0, 0], [2, 0], [0, 1]] }), 400, "bad_camera", "zone"),
        (json!({ "name": "x", "url": url, "fps": 5 }), 400, "bad_camera", "fps"),
        (json!({ "name": "x", "url": url, "persist": 1 }), 400, "bad_camera", "persist"),
        (json!({ "name": "x", "url": url, "persist": true }), 422, "no_state_dir", "--state-dir"),
    ] {
        let (found, answer) = post(base, camera.clone()).await;
        assert_eq!((found, &answer["error"]["code"]), (status, &json!(code)), "{camera}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(hint) && !message.contains("s3cret"), "{camera}: {message}");
    }
    for (changes, status, hint) in [
        (json!({ "name": "back" }), 400, "keeps its name"),
        (json!({ "url": "rtsp://user:***@10.0.0.1/x" }), 400, "whole address"),
        (json!({ "url": null }), 400, "url"),
        (json!({ "priority": 10 }), 400, "priority = 10"),
        (json!({ "persist": true }), 422, "--state-dir"),
    ] {
        let (found, answer) = patch(base, "front", changes.clone()).await;
        assert_eq!(found, status, "{changes}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(hint), "{changes}: {answer}");
    }
    assert_eq!(patch(base, "nobody", json!({})).await.0, 404);
    let kind = reqwest::Client::new().post(format!("{base}/api/v1/cameras")).header(header::CONTENT_TYPE, "text/plain");
    assert_eq!(kind.body("{}").send().await.unwrap().status(), 415);
    let large = reqwest::Client::new().post(format!("{base}/api/v1/cameras")).body(vec![b' '; (256 << 10) + 1]);
    assert_eq!(large.send().await.unwrap().status(), 413);
    assert_eq!(ask(base, Method::PUT, "/api/v1/cameras/front", None).await.0, 405);
    for query in ["video=both", "width=0", "width=wide", "width=-3"] {
        let (status, answer) =
            ask(base, Method::GET, &format!("/api/v1/streams/front/snapshot.jpg?{query}"), None).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("bad_request")), "{query}: {answer}");
    }
    assert_eq!(names(base).await, ["front"], "nothing is left of them");
    let url = server.pipeline.camera_config("front").unwrap().url;
    assert_eq!(url.reveal(), AWAY, "and nothing changed");
}

#[tokio::test]
async fn a_camera_of_the_configuration_is_changed_until_the_restart_and_the_answer_says_so() {
    let state = tempfile::tempdir().unwrap();
    let http = sightline::server::Config { state_dir: Some(state.path().to_owned()), ..Default::default() };
    let server = Server::start(Options { http, ..Options::default() }).await;
    let base = &server.base;
    let file = |url: &str| BTreeMap::from([("front".to_owned(), config(url))]);
    assert_eq!(server.pipeline.set_cameras(file(AWAY)).added, ["front"]);
    let (status, changed) = patch(base, "front", json!({ "enabled": false })).await;
    assert_eq!((status, &changed["origin"], &changed["enabled"]), (200, &json!("config"), &json!(false)));
    assert!(changed["note"].as_str().unwrap().contains("until the server starts again"), "{changed}");
    let (status, answer) = patch(base, "front", json!({ "enabled": true, "persist": true })).await;
    assert_eq!((status, &answer["error"]["code"]), (422, &json!("not_persistable")), "{answer}");
    assert!(!server.pipeline.camera_config("front").unwrap().enabled, "nothing of it is done");
    assert_eq!(server.pipeline.set_cameras(file(AWAY)), Default::default(), "the same file changes nothing");
    assert!(!server.pipeline.camera_config("front").unwrap().enabled);

    let (status, answer) = delete(base, "front").await;
    assert!(status == 200 && answer["note"].as_str().unwrap().contains("configuration file"), "{answer}");
    server.pipeline.set_cameras(file(AWAY));
    assert!(names(base).await.is_empty(), "the same file does not bring it back");
    server.pipeline.set_cameras(file("rtsp://127.0.0.1:1/y"));
    assert_eq!(names(base).await, ["front"], "another entry does");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "nothing was kept");
}

/// Sixty pictures of the moving squares in a file.
fn clip(folder: &Path) -> PathBuf {
    let mut encoder = H264Encoder::new(encode::Config::default());
    let mut picture = I420Frame::black(320, 240);
    let mut stream = Vec::new();
    for n in 0..60 {
        squares::draw(n, &mut picture);
        stream.extend_from_slice(&encoder.encode(&picture, n % 30 == 0).unwrap().data);
    }
    let path = folder.join("squares.h264");
    fs::write(&path, stream).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_the_newest_picture_as_wide_as_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Options::default()).await;
    let base = &server.base;
    let paused = json!({ "name": "demo", "url": format!("file:{}", clip(folder.path()).display()), "enabled": false });
    assert_eq!(post(base, paused).await.0, 201);
    let (status, answer) = ask(base, Method::GET, "/api/v1/streams/demo/snapshot.jpg", None).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")), "no picture yet: {answer}");
    assert_eq!(patch(base, "demo", json!({ "enabled": true })).await.0, 200);
    until(base, "/api/v1/streams/demo", |stream| stream["frames_decoded"].as_u64() > Some(2)).await;
    for (query, size) in [("", (320, 240)), ("?width=160", (160, 120)), ("?video=original&width=64", (64, 48))] {
        let address = format!("{base}/api/v1/streams/demo/snapshot.jpg{query}");
        let response = reqwest::get(&address).await.unwrap();
        assert_eq!(response.status(), 200, "{query}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "image/jpeg");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let picture = image::load_from_memory(&response.bytes().await.unwrap()).unwrap().into_luma8();
        assert_eq!(picture.dimensions(), size, "{query}");
        let (dark, bright) =
            picture.pixels().fold((255, 0), |(dark, bright), p| (dark.min(p.0[0]), bright.max(p.0[0])));
        assert!(dark < 90 && bright > 200, "{query}: squares on a background, {dark} to {bright}");
    }
    let sync = get(base, "/api/v1/sync").await;
    assert_eq!(sync["streams"][0]["stream"], "demo", "{sync}");
}

fn state(arguments: &[&str], state: &Path) -> Process {
    Process::start(&[arguments, &["--state-dir", state.to_str().unwrap()]].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state");
    let mut process = state(&[], &place);
    let base = process.base.clone();
    assert_eq!(get(&base, "/api/v1/cameras").await["can_persist"], true);
    let kept = json!({ "name": "kept", "url": AWAY, "priority": 3, "persist": true });
    let (status, added) = post(&base, kept).await;
    assert_eq!((status, &added["persisted"]), (201, &json!(true)), "{added}");
    assert_eq!(post(&base, json!({ "name": "gone", "url": AWAY, "persist": true })).await.0, 201);
    assert_eq!(post(&base, json!({ "name": "passing", "url": AWAY })).await.1["persisted"], false);
    assert_eq!(patch(&base, "kept", json!({ "enabled": false })).await.1["persisted"], true, "it stays kept");
    assert_eq!(post(&base, json!({ "name": "later", "url": AWAY })).await.0, 201);
    assert_eq!(patch(&base, "later", json!({ "persist": true })).await.1["persisted"], true);
    assert_eq!(post(&base, json!({ "name": "lost", "url": AWAY, "persist": true })).await.0, 201);
    assert_eq!(patch(&base, "lost", json!({ "persist": false })).await.1["persisted"], false);
    assert_eq!(delete(&base, "gone").await.0, 204);
    let file = place.join("cameras.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains("s3cret"), "it is kept whole");
    process.signal("TERM");
    process.ended(server::LIMIT);

    let process = state(&["--camera", "later=rtsp://127.0.0.1:1/other"], &place);
    let base = process.base.clone();
    assert_eq!(names(&base).await, ["kept", "later"]);
    let kept = get(&base, "/api/v1/cameras/kept").await;
    assert_eq!(
        (&kept["enabled"], &kept["priority"], &kept["url"]),
        (&json!(false), &json!(3), &json!(SHOWN)),
        "{kept}"
    );
    assert_eq!((&kept["origin"], &kept["persisted"]), (&json!("api"), &json!(true)));
    let later = get(&base, "/api/v1/cameras/later").await;
    assert_eq!((&later["origin"], &later["persisted"]), (&json!("flag"), &json!(false)), "the command line wins");
    let info = get(&base, "/api/v1/info").await;
    assert!(
        info["warnings"].as_array().unwrap().iter().any(|warning| warning.as_str().unwrap().contains("later")),
        "{info}"
    );
    drop(process);

    fs::write(&file, "[cameras.a]\nurl = \"rtsp://u:s3cret@cam/\"\nfps = 3\n").unwrap();
    let said = refused(&[
        "--listen",
        "127.0.0.1:0",
        "--udp-port",
        "0",
        "--model",
        "motion",
        "--state-dir",
        place.to_str().unwrap(),
    ]);
    assert!(said.contains("cameras.toml") && said.contains("fps") && !said.contains("s3cret"), "{said}");
}

/// A configuration file of these lines.
struct File(TempDir);

impl File {
    fn of(text: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(text);
        file
    }

    fn path(&self) -> String {
        self.0.path().join("my.toml").to_str().unwrap().to_owned()
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }
}

fn table(name: &str, url: &str) -> String {
    format!("[cameras.{name}]\nurl = \"{url}\"\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_restarts_only_the_cameras_that_changed() {
    let (same, old, new) = (table("same", AWAY), table("other", AWAY), table("other", "rtsp://127.0.0.1:1/new"));
    let file = File::of(&(same.clone() + &old + &table("gone", AWAY)));
    let process = Process::start(&["--config", &file.path(), "--camera", "flag=rtsp://127.0.0.1:1/flag"]);
    let base = process.base.clone();
    assert_eq!(names(&base).await, ["flag", "gone", "other", "same"]);
    assert_eq!(get(&base, "/api/v1/cameras/same").await["origin"], "config");
    assert_eq!(get(&base, "/api/v1/cameras/flag").await["origin"], "flag");
    assert_eq!(post(&base, json!({ "name": "mine", "url": AWAY })).await.0, 201);

    file.write(&(same.clone() + &new + &table("mine", AWAY) + &table("fresh", AWAY)));
    process.signal("HUP");
    process.says("the configuration was read again");
    assert_eq!(names(&base).await, ["flag", "fresh", "mine", "other", "same"]);
    assert_eq!(get(&base, "/api/v1/cameras/other").await["url"], "rtsp://127.0.0.1:1/new");
    assert_eq!(get(&base, "/api/v1/cameras/mine").await["origin"], "api", "those of the API stay");
    let log = process.log();
    let changed: Vec<&str> = log.lines().filter(|line| line.contains("cameras changed")).collect();
    assert!(changed.len() == 1 && changed[0].contains("\"other\""), "{changed:?}");
    let info = get(&base, "/api/v1/info").await;
    assert!(info["warnings"].to_string().contains("mine"), "what does not run is said: {info}");

    assert_eq!(delete(&base, "mine").await.0, 204);
    process.signal("HUP");
    until(&base, "/api/v1/cameras", |list| list["cameras"].to_string().contains("\"mine\"")).await;
    assert_eq!(get(&base, "/api/v1/cameras/mine").await["origin"], "config", "its place was free");

    // Nobody sends a signal: the file is looked at.
    file.write(&same);
    until(&base, "/api/v1/cameras", |list| list["cameras"].as_array().unwrap().len() == 2).await;
    assert_eq!(names(&base).await, ["flag", "same"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_and_what_needs_a_restart_is_named() {
    let good = table("front", AWAY);
    let file = File::of(&good);
    let process = Process::start(&["--config", &file.path()]);
    let base = process.base.clone();
    let warnings = async || get(&base, "/api/v1/info").await["warnings"].clone();
    assert_eq!(warnings().await, json!([]));
    file.write(&(good.clone() + "fps = 5\n"));
    process.signal("HUP");
    let line = process.says("cannot be read again");
    assert!(line.contains("my.toml") && line.contains("fps") && line.contains("line 3"), "{line}");
    assert_eq!(names(&base).await, ["front"]);
    assert!(warnings().await[0].as_str().unwrap().contains("fps"));

    file.write(&(good.clone() + &table("back", AWAY) + "[detect]\nmodel = \"face\"\n[log]\nfilter = \"warn\"\n"));
    process.signal("HUP");
    let line = process.says("takes effect after a restart");
    assert!(line.contains("detect.model") && line.contains("log.filter"), "{line}");
    assert_eq!(names(&base).await, ["back", "front"], "the cameras are taken all the same");
    assert_eq!(warnings().await.as_array().unwrap().len(), 1);

    fs::remove_file(file.path()).unwrap();
    process.says("the file is gone");
    assert_eq!(names(&base).await, ["back", "front"]);
    file.write(&good);
    until(&base, "/api/v1/cameras", |list| list["cameras"].as_array().unwrap().len() == 1).await;
    assert_eq!(warnings().await, json!([]));
    assert!(!process.log().contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_stands_in_any_output() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::of(
        &(table("file", AWAY) + "detect_url = \"rtsp://user:s3cret@127.0.0.1:1/sub\"\n[log]\nfilter = \"trace\"\n"),
    );
    let flag = format!("flag={AWAY}");
    let process = state(&["--config", &file.path(), "--camera", &flag], folder.path());
    let base = process.base.clone();
    let mut seen = String::new();
    for camera in [
        json!({ "name": "a", "url": AWAY, "persist": true }),
        json!({ "name": "b", "url": "http://127.0.0.1:1/video?user=me&pwd=s3cret" }),
        json!({ "name": "c", "url": "https://user:s3cret@127.0.0.1:1/" }),
        json!({ "name": "d", "transport": AWAY }),
        json!({ "name": AWAY, "url": AWAY }),
        json!({ "name": "e", "url": AWAY, AWAY: 1 }),
        json!({ "name": "f", "model": AWAY }),
    ] {
        seen += &format!("{:?}\n", post(&base, camera).await);
    }
    seen +=
        &format!("{:?}\n", patch(&base, "a", json!({ "url": "rtsp://user:s3cret@127.0.0.1:1/y", "mode": AWAY })).await);
    seen += &format!("{:?}\n", patch(&base, "a", json!({ "url": "rtsp://user:s3cret@127.0.0.1:1/y" })).await);
    // Each has been tried and has failed, so that there is an error to show.
    until(&base, "/api/v1/cameras", |list| {
        list["cameras"].as_array().unwrap().iter().all(|camera| camera["status"]["last_error"].is_string())
    })
    .await;
    for path in [
        "/api/v1/cameras",
        "/api/v1/cameras/a",
        "/api/v1/cameras/b",
        "/api/v1/cameras/file",
        "/api/v1/cameras/flag",
        "/api/v1/streams",
        "/api/v1/streams/a",
        "/api/v1/sessions",
        "/api/v1/sync",
        "/api/v1/info",
        "/metrics",
        "/api/v1/streams/a/snapshot.jpg",
    ] {
        seen += &format!("{path} {:?}\n", ask(&base, Method::GET, path, None).await);
    }
    file.write("[cameras.file]\nurl = \"https://user:s3cret@127.0.0.1:1/\"\n");
    process.signal("HUP");
    process.says("cannot be read again");
    seen += &get(&base, "/api/v1/info").await.to_string();
    seen += &format!("{:?}", delete(&base, "a").await);
    let log = process.log();
    assert!(seen.matches("user:***@").count() > 5 && log.len() > 1000, "both are looked at: {seen}");
    for (what, text) in [("an answer", &seen), ("the log", &log)] {
        let line = text.lines().find(|line| line.contains("s3cret"));
        assert_eq!(line, None, "{what}");
    }
}

#[test]
fn the_command_line_keeps_what_it_cannot_use() {
    let common = ["--listen", "127.0.0.1:0", "--udp-port", "0", "--model", "motion"];
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], variable: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
        command.current_dir(folder.path()).arg("serve").args(common).args(arguments).env("SIGHTLINE_CAMERAS", variable);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    for (arguments, variable, hint) in [
        (&["--camera", AWAY][..], "", "NAME=URL"),
        (&["--camera", "front=https://user:s3cret@cam/"], "", "https"),
        (&["--camera", "a/b=rtsp://user:s3cret@cam/"], "", "a/b"),
        (&[], "front=rtsp://user:s3cret@cam/,front=rtsp://user:s3cret@cam/", "twice"),
    ] {
        let (code, said) = run(arguments, variable);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(hint) && !said.contains("s3cret") && !said.contains("panicked"), "{said}");
    }
    let (code, help) = run(&["--help"], "front=rtsp://user:s3cret@cam/");
    assert_eq!(code, Some(0));
    assert!(help.contains("SIGHTLINE_CAMERAS") && !help.contains("s3cret"), "{help}");
}
