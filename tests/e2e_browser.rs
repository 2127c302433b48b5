//! The whole, as a person has it: the real binary, a real Chromium with a webcam whose picture is known, and the page.
//!
//! The scripts in `tests/browser/` do and see; what they print is judged here.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/camera_file.rs"]
mod camera_file;
#[path = "support/process.rs"]
#[allow(dead_code)] // signals are another test's matter
mod process;
#[path = "support/squares.rs"]
#[allow(dead_code)] // the detector finds the squares by itself
mod squares;

use process::Process;
use serde_json::Value;

/// Runs a script against a server of its own; what it printed. `None` where there is no browser.
fn run(script: &str) -> Option<Value> {
    let mut node = browser::node()?;
    let folder = tempfile::tempdir().unwrap();
    let camera = folder.path().join("camera.y4m");
    camera_file::write(&camera, (640, 480));
    let server = Process::start(&[]);
    let script = format!("tests/browser/{script}.mjs");
    let output = node.arg(&script).arg(&server.base).arg(&camera).output().expect("node starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{script}: {text}\n{said}");
    assert!(output.status.success(), "{script}: {}", output.status);
    let result: Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(result["faults"], serde_json::json!([]), "the page has no errors");
    Some(result)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_boxes_that_a_person_sees_stand_where_the_messages_say() {
    let Some(seen) = run("e2e_boxes") else { return };
    let boxes = number(&seen["boxes"]);
    assert!(number(&seen["frames_with_boxes"]) >= 100.0, "{seen}");
    assert!(number(&seen["good"]) >= 0.97 * boxes, "{seen}");
    assert!(number(&seen["mean_share"]) > 0.85, "{seen}");
    assert!(number(&seen["mean_shifted"]) < 0.3, "and not elsewhere: {seen}");
    let (callbacks, joined) = (number(&seen["callbacks"]), number(&seen["joined"]));
    assert!(joined >= 0.99 * callbacks, "{joined} of {callbacks} frames found their message");
    assert_eq!(seen["streams"][0]["dropped"]["decode"], 0, "{seen}");
}

#[test]
fn the_datachannel_works_both_ways_and_another_size_goes_on() {
    let Some(seen) = run("e2e_channel") else { return };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| panic!("{value} is no list"));

    let most = &seen["max_detections"];
    assert_eq!(most["answer"]["config"]["max_detections"], 1, "{most}");
    assert!(list(&most["objects"]).iter().all(|count| number(count) <= 1.0), "{most}");
    assert!(list(&most["objects"]).len() >= 10);
    let nothing = &seen["nothing"];
    assert!((number(&nothing["answer"]["config"]["confidence_threshold"]) - 0.9).abs() < 1e-6, "{nothing}");
    assert_eq!(nothing["answer"]["config"]["classes"], serde_json::json!([]));
    assert!(list(&nothing["objects"]).len() >= 10);
    assert!(list(&nothing["objects"]).iter().all(|count| number(count) < 0.5), "{nothing}");
    assert_eq!((&seen["refused"]["type"], &seen["refused"]["code"]), (&"error".into(), &"unknown_class".into()));
    let again = &seen["again"];
    assert!(list(&again["objects"]).iter().any(|count| number(count) > 1.0), "both squares again: {again}");

    assert_eq!(seen["exact"]["answer"]["config"]["overlay"], "exact");
    let frames = list(&seen["exact"]["frames"]);
    assert!(frames.len() >= 20, "{}", frames.len());
    for frame in &frames {
        assert_eq!(frame["detection_frame_id"], frame["frame_id"], "{frame}");
        assert!(number(&frame["age_ms"]).abs() < f64::EPSILON, "{frame}");
    }
    let none = &seen["none"];
    assert!(
        number(&none["drawn"]) < 0.5 && number(&none["frames"]) > 10.0 && number(&none["detections"]) > 10.0,
        "{none}"
    );

    let (before, after) = (&seen["before"], &seen["after"]);
    assert_eq!(before["session"], after["session"], "one connection");
    assert_eq!(before["plis"], after["plis"], "the browser missed nothing");
    assert!(number(&after["decoded"]) >= number(&before["decoded"]) + 30.0);
    assert_eq!((&seen["stream"]["width"], &seen["stream"]["height"]), (&320.into(), &240.into()));
    assert_eq!(seen["stream"]["dropped"]["decode"], 0);
}

#[test]
fn a_line_and_a_zone_that_a_person_draws_count_who_passes() {
    let Some(seen) = run("e2e_regions") else { return };
    let corners = |region: &str, shape: &str| -> Vec<[f64; 2]> {
        serde_json::from_value(seen["set"]["regions"][region][shape].clone()).unwrap_or_default()
    };
    let near = |found: &[[f64; 2]], wanted: &[[f64; 2]]| {
        let close = |(a, b): (&[f64; 2], &[f64; 2])| (a[0] - b[0]).abs() < 0.01 && (a[1] - b[1]).abs() < 0.01;
        found.len() == wanted.len() && found.iter().zip(wanted).all(close)
    };
    assert!(near(&corners("gate", "line"), &[[0.36, 0.6], [0.36, 0.2]]), "{seen}");
    assert!(near(&corners("zone 1", "polygon"), &[[0.5, 0.25], [0.25, 0.25], [0.35, 0.8]]), "{seen}");
    assert_eq!(seen["set"]["draw"], true, "{seen}");
    let count = |region: &str, what: &str| number(&seen["counts"][region][what]);
    assert!(count("gate", "left_to_right") >= 1.0 && count("gate", "right_to_left") >= 1.0, "{seen}");
    assert!(count("zone 1", "enters") >= 1.0 && count("zone 1", "leaves") >= 1.0, "{seen}");
    assert_eq!(seen["left"]["regions"]["gate"], Value::Null, "{seen}");
    assert_eq!(seen["hidden"], true, "{seen}");
    assert_eq!(seen["again"], seen["left"], "another stream has them again: {seen}");
}

#[test]
fn a_page_of_ones_own_sends_on_one_transceiver_and_receives_on_another() {
    let Some(seen) = run("e2e_transceivers") else { return };
    assert_eq!(seen["answer"]["stream"], "own-page", "{seen}");
    assert_eq!(seen["directions"], serde_json::json!({ "up": "sendonly", "down": "recvonly", "audio": "sendrecv" }));
    let inbound = &seen["inbound"];
    assert_eq!(inbound["video"]["mid"], seen["mids"]["down"], "{seen}");
    assert!(number(&inbound["video"]["frames"]) > 30.0, "{seen}");
    assert_eq!(inbound["audio"]["mid"], seen["mids"]["audio"]);
    assert!(
        number(&inbound["audio"]["packets"]) > 60.0 && number(&inbound["audio"]["energy"]) > 0.0,
        "an echo: {seen}"
    );
    let tracks = seen["tracks"].as_array().unwrap();
    let msid = |kind: &str, mid: &Value| {
        let track = tracks.iter().find(|track| track["kind"] == kind && track["mid"] == *mid);
        track.unwrap_or_else(|| panic!("no {kind} track: {seen}"))["streams"].clone()
    };
    let (video, audio) = (msid("video", &seen["mids"]["down"]), msid("audio", &seen["mids"]["audio"]));
    assert!(video.as_array().is_some_and(|ids| ids.len() == 1) && audio.as_array().is_some_and(|ids| ids.len() == 1));
    assert_ne!(video, audio, "lip-sync must not hold the video back");
    assert_eq!(
        seen["channels"],
        serde_json::json!([{ "label": "detections", "ordered": false }]),
        "the server made it"
    );
    assert!(number(&seen["messages"]["frame"]) > 10.0 && number(&seen["messages"]["detections"]) > 10.0);
    assert_eq!(seen["sessions"][0]["packets_lost"], 0, "{seen}");
}

#[test]
fn leaving_is_noticed_at_once_and_a_killed_browser_in_seconds() {
    let Some(seen) = run("e2e_leaving") else { return };
    assert_eq!((number(&seen["before"]), number(&seen["again"])), (1.0, 1.0), "{seen}");
    assert!(number(&seen["closed"]) < 2000.0, "{seen}");
    assert!(number(&seen["stop"]) < 2000.0, "{seen}");
    assert!(number(&seen["killed"]) < 5000.0, "{seen}");
}

/// The stages of a frame from capture to screen that the server tells, and those that the page finds.
const SERVER_STAGES: [&str; 7] = ["receive", "queue", "decode", "render_wait", "draw", "encode", "send"];
const BROWSER_STAGES: [&str; 6] =
    ["browser_encode", "uplink", "downlink", "jitter_buffer", "browser_decode", "display"];

#[test]
fn a_frames_ledger_has_every_stage_from_drawing_to_screen_and_they_are_the_whole() {
    let Some(seen) = run("e2e_latency") else { return };
    let ledgers = seen["ledgers"].as_array().unwrap();
    assert!(ledgers.len() >= 100, "{}", ledgers.len());
    for ledger in ledgers {
        let stages = ledger["stages"].as_object().unwrap();
        assert_eq!(stages.len(), SERVER_STAGES.len() + BROWSER_STAGES.len(), "{ledger}");
        let times = SERVER_STAGES.iter().chain(&BROWSER_STAGES).map(|&stage| number(&ledger["stages"][stage]));
        assert!(times.clone().all(|ms| ms >= 0.0), "{ledger}");
        let sum: f64 = times.sum::<f64>() + number(&ledger["unaccounted"]);
        assert!((sum - number(&ledger["whole"])).abs() < 1e-6, "{ledger}");
    }
    // Its clock and the page's are the machine's: what lies between them is the page's beginning.
    assert!(number(&seen["clock"]["offset"]).abs() < 1000.0, "{}", seen["clock"]);

    let stages = seen["latency"]["windows"][0]["stages_ms"].as_object().unwrap();
    let histogram = seen["histogram"].as_array().unwrap();
    for stage in SERVER_STAGES {
        assert!(stages.contains_key(stage), "{stage}: {stages:?}");
        let told = |line: &Value| line.as_str().is_some_and(|line| line.contains(&format!("stage=\"{stage}\"")));
        assert!(histogram.iter().any(told), "{stage}: {histogram:?}");
    }
    let window = &seen["latency"]["windows"][0];
    assert!(number(&window["glass_to_glass_ms"]["p50"]) > 0.0, "{window}");
    for stage in BROWSER_STAGES {
        assert!(number(&window["browser_ms"][stage]["p50"]) >= 0.0, "{stage}: {window}");
    }
    for leg in ["through", "loopback"] {
        assert!(number(&seen["result"][leg]["frames"]) >= 30.0, "{leg}: {}", seen["result"]);
    }
}
