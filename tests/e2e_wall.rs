//! The wall of streams as a person has it: the real binary with a camera that plays a film, and a real Chromium.
//!
//! The script in `tests/browser/` does and sees; what it prints is judged here.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/process.rs"]
#[allow(dead_code)] // signals are another test's matter
mod process;
#[path = "support/squares.rs"]
#[allow(dead_code)] // the detector finds the squares by itself
mod squares;

use std::path::Path;

use process::Process;
use serde_json::{Value, json};
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::I420Frame;

const SIZE: (usize, usize) = (640, 480);

/// Writes one round of the scene as an H.264 elementary stream, an IDR every second.
fn write_film(path: &Path) {
    let mut encoder = H264Encoder::new(encode::Config { bitrate_kbps: Some(3000), ..encode::Config::default() });
    let mut frame = I420Frame::black(SIZE.0, SIZE.1);
    let mut film = Vec::new();
    for n in 0..squares::ROUND {
        squares::draw(n, &mut frame);
        film.extend_from_slice(&encoder.encode(&frame, n % 30 == 0).unwrap().data);
    }
    std::fs::write(path, film).unwrap();
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The boxes that a page drew stand on the square that the shown frames have.
fn assert_on_the_square(drawn: &Value) {
    let errors = drawn["errors"].as_array().unwrap_or_else(|| panic!("no comparison: {drawn}"));
    let mut errors: Vec<f64> = errors.iter().map(|error| number(error).abs()).collect();
    errors.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss)] // a hundred
    let share = errors.len() as f64 / number(&drawn["seen"]);
    assert!(share > 0.7, "{share} of the frames have a box: {drawn}");
    // The square is 80 pixels wide and walks 213 a second.
    assert!(errors[errors.len() / 2] < 8.0, "pixels off: {errors:?}");
}

#[test]
fn a_camera_stands_on_the_wall_plays_by_a_click_and_is_added_paused_and_removed() {
    let Some(mut node) = browser::node() else { return };
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("squares.h264");
    write_film(&film);
    let config = folder.path().join("sightline.toml");
    // The port of the example's page is not known before it is served.
    std::fs::write(&config, "[server]\nallowed_origins = [\"*\"]\n").unwrap();
    let camera = format!("loop=file:{}", film.display());
    let server = Process::start(&["--config", &config.display().to_string(), "--camera", &camera]);
    let output = node.arg("tests/browser/e2e_wall.mjs").arg(&server.base).arg(&film).output().expect("node starts");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    let seen: Value = serde_json::from_str(&text).expect("one JSON object");

    assert_eq!(seen["tile"]["kind"], "Camera", "{seen}");
    assert!(number(&seen["tile"]["picture"]) >= 160.0, "{seen}");
    for view in ["annotated", "original"] {
        let view = &seen[view];
        assert_eq!((&view["state"], &view["size"]), (&json!("Live"), &json!([SIZE.0, SIZE.1])), "{seen}");
        assert!(number(&view["detector"]) > 3.0, "{seen}");
    }
    assert!(number(&seen["annotated"]["joined"]) > 0.9, "{seen}");
    assert!(number(&seen["annotated"]["latency"]) < 1000.0, "{seen}");
    assert_eq!(seen["watched"], 1, "{seen}");
    assert_on_the_square(&seen["drawn"]);
    assert_on_the_square(&seen["example"]);

    let refusal = seen["refusal"].as_str().unwrap_or_default();
    assert!(refusal.contains("https") && !refusal.contains("hush"), "{refusal}");
    assert_eq!(seen["paused"], "disabled", "{seen}");
    assert_eq!(seen["mode"], json!([SIZE.0, SIZE.1]), "{seen}");
    // What was clicked on the picture is what the server counts by.
    let zone: Vec<[f64; 2]> = serde_json::from_value(seen["zone"].clone()).unwrap();
    let wanted = [[0.25, 0.25], [0.75, 0.25], [0.5, 0.75]];
    let near = |a: &[f64; 2], b: &[f64; 2]| (a[0] - b[0]).abs() < 0.01 && (a[1] - b[1]).abs() < 0.01;
    assert!(zone.len() == 3 && zone.iter().zip(&wanted).all(|(a, b)| near(a, b)), "{seen}");
    assert_eq!(seen["left"], json!(["loop"]), "{seen}");
    // What Chromium logs of answers that refuse: the address above, and pictures that were not there yet.
    let faults: Vec<_> = seen["faults"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(faults.iter().all(|fault| fault.contains("Failed to load resource")), "{faults:?}");
}
