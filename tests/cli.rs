//! The commands as a person runs them: the real binary, its output, its exit code.
//!
//! The detector's tests need the ONNX Runtime and the pulled model `face` (`make test` sets both up); where they are absent
//! a line says so. The shared media (`SIGHTLINE_SHARED`, else `../shared`) adds a comparison with the reference.

#[path = "support/tiny_onnx.rs"]
mod tiny_onnx;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sightline::decode::VideoDecoder;
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::{AccessUnit, FramePool, I420Frame, KeyframeRequest, VideoCodec};
use sightline::source::file::H264File;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary, in the project's folder, with nothing of the caller's settings.
fn sightline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SIGHTLINE_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    command.current_dir(root()).args(args);
    command
}

fn run(args: &[&str]) -> Output {
    sightline(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shared_media() -> Option<PathBuf> {
    let shared = std::env::var_os("SIGHTLINE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let media = shared.join("media");
    media.join("models").is_dir().then_some(media).or_else(|| {
        println!("skipped: no shared media (set SIGHTLINE_SHARED)");
        None
    })
}

/// Whether the default model can be used here.
fn has_face() -> bool {
    let model = root().join(".sightline/models/face.onnx").is_file();
    let runtime = root().join(".sightline/lib").is_dir() || std::env::var_os("ORT_DYLIB_PATH").is_some();
    if !(model && runtime) {
        println!("skipped: no model `face` or no ONNX Runtime here (`make setup`, `sightline models pull face`)");
    }
    model && runtime
}

fn json_lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_picture_gives_a_line_and_a_bad_one_costs_itself_alone() {
    if !has_face() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (plain, bad, tiny, out) = (at("plain.png"), at("bad.png"), at("tiny.png"), at("out"));
    RgbImage::from_pixel(321, 241, Rgb([90, 120, 150])).save(&plain).unwrap();
    fs::write(&bad, "\u{89}PNG, or so it says").unwrap();
    RgbImage::from_pixel(1, 1, Rgb([1, 2, 3])).save(&tiny).unwrap();
    let output = run(&["detect", "--json", "--out", &out, &plain, &bad, "/nowhere/at_all.png", &tiny]);
    assert_eq!(output.status.code(), Some(1), "two pictures failed");
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 2, "{}", text(&output.stdout));
    for (line, image, size) in [(&lines[0], &plain, (321, 241)), (&lines[1], &tiny, (1, 1))] {
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["detections", "height", "image", "model", "processing_time_ms", "width"]);
        assert_eq!((line["image"].as_str(), line["model"].as_str()), (Some(image.as_str()), Some("face")));
        assert_eq!((line["width"].as_u64(), line["height"].as_u64()), (Some(size.0), Some(size.1)));
        assert!(line["processing_time_ms"].as_f64().unwrap() > 0.0);
    }
    let errors = text(&output.stderr);
    assert!(errors.contains(&bad) && errors.contains("/nowhere/at_all.png"), "{errors}");
    let drawn = image::open(format!("{out}/plain.annotated.png")).unwrap().into_rgb8();
    assert_eq!(drawn.dimensions(), (321, 241));
    let pixel = drawn.get_pixel(160, 120).0;
    assert!(pixel.iter().zip([90u8, 120, 150]).all(|(a, b)| a.abs_diff(b) <= 3), "nothing found: unchanged, {pixel:?}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);

    let table = run(&["detect", &plain]);
    assert!(table.status.success() && text(&table.stdout).contains("321×241, face"), "{}", text(&table.stdout));
}

#[test]
fn what_the_command_finds_is_what_the_reference_finds() {
    let Some(media) = shared_media() else { return };
    if !has_face() {
        return;
    }
    let reference = fs::read_to_string(media.join("reference/yolox_nano_416.json")).unwrap();
    let reference: Value = serde_json::from_str(&reference).unwrap();
    let models = media.join("models");
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for (name, expected) in reference["images"].as_object().unwrap() {
        let image = media.join("images").join(name);
        let (models, image) = (models.to_str().unwrap(), image.to_str().unwrap());
        let threshold = reference["spec"]["score_thr"].to_string();
        let out = folder.path().to_str().unwrap();
        let args = ["--model", "yolox-nano", "--models-dir", models, "--confidence", &threshold, "--out", out];
        let output = run(&[&["detect", "--json"], &args[..], &[image]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let found = &json_lines(&output)[0]["detections"];
        let (found, expected) = (found.as_array().unwrap(), expected["detections"].as_array().unwrap());
        assert_eq!(found.len(), expected.len(), "{name}");
        for (ours, theirs) in found.iter().zip(expected) {
            assert_eq!(ours["class_name"], theirs["class_name"], "{name}");
            assert!((ours["confidence"].as_f64().unwrap() - theirs["score"].as_f64().unwrap()).abs() < 0.01);
            for (a, b) in ours["bbox"].as_array().unwrap().iter().zip(theirs["box"].as_array().unwrap()) {
                assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= 1.0, "{name}: {ours} and {theirs}");
            }
            compared += 1;
        }
        let stem = Path::new(name).file_stem().unwrap().to_str().unwrap();
        let drawn = image::open(folder.path().join(format!("{stem}.annotated.png"))).unwrap().into_rgb8();
        let original = image::open(image).unwrap().into_rgb8();
        let changed = drawn.pixels().zip(original.pixels()).filter(|(a, b)| a.0[1].abs_diff(b.0[1]) > 40).count();
        assert!(expected.is_empty() || changed > 200, "{name}: {changed} pixels drawn");
    }
    assert!(compared > 10, "{compared} detections compared");
}

#[test]
fn classes_are_chosen_by_name_and_an_unknown_one_is_refused() {
    let Some(media) = shared_media() else { return };
    if !has_face() {
        return;
    }
    let (models, image) = (media.join("models"), media.join("images/coco_000000001000.png"));
    let common = ["detect", "--json", "--model", "yolox-nano", "--models-dir", models.to_str().unwrap()];
    let image = image.to_str().unwrap();
    let classes = |output: &Output| {
        let lines = json_lines(output);
        let found = lines[0]["detections"].as_array().unwrap();
        found.iter().map(|found| found["class_name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = classes(&run(&[&common[..], &[image]].concat()));
    assert!(all.iter().any(|class| class == "person") && all.iter().any(|class| class != "person"), "{all:?}");
    let people = classes(&run(&[&common[..], &["--classes", "person,dog", image]].concat()));
    assert_eq!(people.len(), all.iter().filter(|class| *class == "person" || *class == "dog").count());
    let refused = run(&[&common[..], &["--classes", "persona", image]].concat());
    let error = text(&refused.stderr);
    assert!(!refused.status.success() && error.contains("persona") && error.contains("bicycle"), "{error}");
}

/// A folder with `tiny.onnx`, which finds one square of 32 pixels in the middle of every picture of 64, where there is a runtime.
fn tiny() -> Option<(tempfile::TempDir, String)> {
    if !root().join(".sightline/lib").is_dir() && std::env::var_os("ORT_DYLIB_PATH").is_none() {
        println!("skipped: no ONNX Runtime here (`make setup`)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.onnx");
    fs::write(&path, tiny_onnx::yolox(0.9, 1)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    Some((folder, path))
}

/// So many black pictures of 64×64 as an elementary stream.
fn clip(path: &Path, pictures: usize) {
    let mut encoder = H264Encoder::new(encode::Config::default());
    let units = (0..pictures).flat_map(|n| encoder.encode(&I420Frame::black(64, 64), n == 0).unwrap().data);
    fs::write(path, units.collect::<Vec<u8>>()).unwrap();
}

#[test]
fn a_folder_is_looked_through_and_a_video_frame_by_frame() {
    let Some((folder, model)) = tiny() else { return };
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("in/deep")).unwrap();
    for name in ["in/b.png", "in/a.jpg", "in/deep/a.png"] {
        RgbImage::from_pixel(64, 64, Rgb([10, 20, 30])).save(at(name)).unwrap();
    }
    fs::write(at("in/notes.txt"), "no picture").unwrap();
    clip(&at("in/clip.h264"), 10);
    let (input, out) = (at("in").to_str().unwrap().to_owned(), at("out").to_str().unwrap().to_owned());
    let output = run(&["detect", "--json", "--model", &model, "--out", &out, &input]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = json_lines(&output);
    let name = |line: &Value| line["image"].as_str().unwrap().strip_prefix(&input).unwrap().to_owned();
    let names: Vec<_> = lines.iter().map(name).collect();
    assert_eq!((&*names[0], &*names[1], &*names[2]), ("/a.jpg", "/b.png", "/clip.h264"), "{names:?}");
    assert_eq!((names.len(), &*names[12]), (13, "/deep/a.png"));
    for (number, line) in lines[2..12].iter().enumerate() {
        assert_eq!((&line["frame"], &line["width"]), (&number.into(), &64.into()), "{line}");
        assert!((line["time_s"].as_f64().unwrap() - number as f64 / 30.0).abs() < 0.001, "{line}");
        let found = &line["detections"][0];
        assert_eq!(found["track_id"], 1, "{line}");
        let edges = found["bbox"].as_array().unwrap().iter().map(|edge| edge.as_f64().unwrap());
        assert!(edges.zip(tiny_onnx::SQUARE).all(|(edge, expected)| (edge - f64::from(expected)).abs() < 0.011));
    }
    assert!(lines[0].get("frame").is_none() && lines[0]["detections"][0].get("track_id").is_none());
    for name in ["a.annotated.png", "b.annotated.png", "deep/a.annotated.png"] {
        assert!(at("out").join(name).is_file(), "{name}");
    }
    let file = H264File::open(at("out/clip.annotated.mp4")).unwrap();
    assert_eq!((file.len(), file.size()), (10, (64, 64)));
    let unit = file.unit(0).unwrap();
    let now = std::time::Instant::now();
    let unit = AccessUnit {
        codec: VideoCodec::H264,
        data: unit.data,
        rtp_timestamp: 0,
        idr: true,
        first_packet: now,
        last_packet: now,
        captured: None,
    };
    let mut decoder = VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored());
    let picture = decoder.decode(&unit).unwrap().or_else(|| decoder.flush()).unwrap().picture;
    let luma = |x: usize, y: usize| picture.planes().0[y * 64 + x];
    assert!(luma(17, 40) > 40 && luma(32, 40) < 40, "the outline stands: {} and {}", luma(17, 40), luma(32, 40));

    let clip = at("in/clip.h264").to_str().unwrap().to_owned();
    let some = run(&["detect", "--json", "--every", "3", "--model", &model, &clip]);
    let frames: Vec<_> = json_lines(&some).iter().map(|line| line["frame"].as_u64().unwrap()).collect();
    assert_eq!(frames, [0, 3, 6, 9]);
    let table = text(&run(&["detect", "--model", &model, &clip]).stdout);
    assert!(table.contains("frame 9 at 0.30 s: 64×64, tiny") && table.contains("#1"), "{table}");
    let moving = run(&["detect", "--json", "--model", "motion", &clip]);
    assert_eq!((moving.status.code(), json_lines(&moving).len()), (Some(0), 10), "{}", text(&moving.stderr));
    fs::write(at("bad.mp4"), "\0\0\0\u{10}ftypisom").unwrap();
    let bad = run(&["detect", "--json", "--model", &model, at("bad.mp4").to_str().unwrap(), &clip]);
    assert_eq!((bad.status.code(), json_lines(&bad).len()), (Some(1), 10), "a bad one costs itself alone");
    assert!(text(&bad.stderr).contains("bad.mp4"), "{}", text(&bad.stderr));
}

#[test]
fn a_model_is_measured_on_labelled_pictures_of_either_format() {
    let Some((folder, model)) = tiny() else { return };
    let at = |name: &str| folder.path().join(name);
    let path = |name: &str| at(name).to_str().unwrap().to_owned();
    fs::create_dir_all(at("images")).unwrap();
    fs::create_dir_all(at("labels")).unwrap();
    for name in ["a", "b", "c", "empty"] {
        RgbImage::from_pixel(64, 64, Rgb([10, 20, 30])).save(at(&format!("images/{name}.png"))).unwrap();
    }
    fs::write(at("labels/a.txt"), "0 0.5 0.5 0.5 0.5\n").unwrap();
    // One that is found, and one that is not.
    fs::write(at("labels/b.txt"), "0 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.1 0.1\n").unwrap();
    let eval = |labels: &str| run(&["eval", "--json", "--model", &model, "--labels", labels, &path("images")]);
    let report = |output: &Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        json_lines(output).remove(0)
    };
    let output = eval(&path("labels"));
    let yolo = report(&output);
    assert!(text(&output.stderr).contains("2 pictures have no labels"), "{}", text(&output.stderr));
    assert_eq!((&yolo["model"], &yolo["images"], &yolo["objects"]), (&"tiny".into(), &2.into(), &3.into()), "{yolo}");
    // Two of three found: 67 of the 101 recalls are reached, at precision 1.
    assert_eq!((&yolo["ap"], &yolo["ap50"]), (&0.6634.into(), &0.6634.into()), "{yolo}");
    assert_eq!(yolo["classes"][0]["class_name"], "class 0");
    fs::write(at("labels/empty.txt"), "").unwrap();
    assert_eq!(report(&eval(&path("labels")))["images"], 3);

    let coco = r#"{"images":[{"id":1,"file_name":"a.png"},{"id":2,"file_name":"b.png"}],
        "categories":[{"id":5,"name":"Class_0"},{"id":6,"name":"zebra"}],
        "annotations":[{"image_id":1,"category_id":5,"bbox":[16,16,32,32]},{"image_id":2,"category_id":5,"bbox":[16,16,32,32]},
                       {"image_id":2,"category_id":6,"bbox":[1,1,9,9]}]}"#;
    fs::write(at("instances_x.json"), coco).unwrap();
    for labels in [path("instances_x.json"), path("")] {
        let output = eval(&labels);
        let report = report(&output);
        assert_eq!((&report["ap"], &report["objects"]), (&1.0.into(), &2.into()), "{report}");
        assert_eq!(report["unknown_classes"], serde_json::json!(["zebra"]));
        assert!(text(&output.stderr).contains("zebra"));
    }
    let table = run(&["eval", "--model", &model, "--labels", &path("labels"), &path("images")]);
    assert!(text(&table.stdout).contains("tiny: 3 pictures, 3 objects") && text(&table.stdout).contains("0.663"));

    fs::write(at("labels/b.txt"), "0 0.5 0.5 0.5\n").unwrap();
    let broken = eval(&path("labels"));
    assert!(broken.status.code() == Some(1) && json_lines(&broken)[0]["images"] == 2, "{}", text(&broken.stderr));
    assert!(text(&broken.stderr).contains("b.txt: line 1"), "{}", text(&broken.stderr));
    fs::write(at("classes.txt"), "horse\n").unwrap();
    let foreign = eval(&path("labels"));
    assert!(text(&foreign.stderr).contains("no class in common") && text(&foreign.stderr).contains("horse"));
    assert!(text(&eval("/nowhere").stderr).contains("/nowhere"));
}

#[test]
fn a_model_given_by_path_is_known_by_its_bytes() {
    let Some((folder, model)) = tiny() else { return };
    let digest = format!("{:x}", Sha256::digest(fs::read(&model).unwrap()));
    let models = tempfile::tempdir().unwrap();
    let manifest = format!(
        "family = \"yolox\"\nfile = \"elsewhere.onnx\"\nlabels = [\"thing\"]\nconfidence = 0.4\niou = 0.5\nnms = \"per-class\"\n\
         [input]\nsize = {{ fixed = {{ width = 64, height = 64 }} }}\nfit = \"stretch\"\ncolour = \"rgb\"\n\
         [source.repository]\nrepository = \"https://example.invalid/x\"\ncommit = \"c0ffee\"\npath = \"n.onnx\"\n\
         sha256 = \"{digest}\"\n"
    );
    fs::write(models.path().join("known.toml"), manifest).unwrap();
    let models = models.path().to_str().unwrap();
    let picture = folder.path().join("x.png");
    RgbImage::from_pixel(64, 64, Rgb([10, 20, 30])).save(&picture).unwrap();
    let output = run(&["detect", "--json", "--model", &model, "--models-dir", models, picture.to_str().unwrap()]);
    let line = &json_lines(&output)[0];
    assert_eq!((&line["model"], &line["detections"][0]["class_name"]), (&"known".into(), &"thing".into()), "{line}");
    assert!(text(&output.stderr).contains("`known`") && text(&output.stderr).contains("SHA-256"));
    let info = text(&run(&["models", "info", &model, "--models-dir", models]).stdout);
    assert!(info.contains("that of `known`") && info.contains("thing"), "{info}");
}

#[test]
fn motion_is_refused_for_still_pictures() {
    let output = run(&["detect", "--model", "motion", "x.png"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("motion"), "{}", text(&output.stderr));
}

#[test]
fn a_model_that_is_not_there_is_named_with_the_command_that_gets_it() {
    let empty = tempfile::tempdir().unwrap();
    let output = run(&["detect", "--models-dir", empty.path().to_str().unwrap(), "x.png"]);
    assert!(text(&output.stderr).contains("sightline models pull face"), "{}", text(&output.stderr));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

/// A folder with the manifest of a model whose file is pinned, and a mirror that holds the file.
fn pinned() -> (tempfile::TempDir, tempfile::TempDir, String) {
    let (models, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = b"what a network would look like";
    let digest = format!("{:x}", Sha256::digest(bytes));
    fs::write(mirror.path().join("net.onnx"), bytes).unwrap();
    let manifest = format!(
        "family = \"yolox\"\nfile = \"mine.onnx\"\nlabels = [\"thing\"]\nconfidence = 0.4\niou = 0.5\nnms = \"per-class\"\n\
         about = \"Things.\"\n[input]\nsize = {{ fixed = {{ width = 64, height = 64 }} }}\nfit = \"stretch\"\ncolour = \"rgb\"\n\
         [source.repository]\nrepository = \"https://example.invalid/x\"\ncommit = \"c0ffee\"\npath = \"weights/net.onnx\"\n\
         sha256 = \"{digest}\"\n"
    );
    fs::write(models.path().join("mine.toml"), manifest).unwrap();
    (models, mirror, digest)
}

#[test]
fn a_model_is_pulled_once_and_checked() {
    let (models, mirror, digest) = pinned();
    let (models, mirror) = (models.path().to_str().unwrap(), mirror.path().to_str().unwrap());
    let pull = |name: &str| run(&["models", "pull", name, "--models-dir", models, "--mirror", mirror]);
    let list = || text(&run(&["models", "list", "--models-dir", models]).stdout);
    let row = |list: &str| list.lines().find(|line| line.starts_with("mine ")).unwrap().to_owned();

    assert!(row(&list()).contains("absent"), "{}", list());
    let first = pull("mine");
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(text(&first.stdout).starts_with("mine: stored") && text(&first.stderr).contains("net.onnx"), "plain lines");
    let second = pull("mine");
    assert!(second.status.success() && text(&second.stdout).starts_with("mine: already there"));
    assert!(row(&list()).contains("present") && row(&list()).contains("Things."), "{}", list());
    let info = text(&run(&["models", "info", "mine", "--models-dir", models]).stdout);
    assert!(info.contains(&digest) && info.contains("64×64") && info.contains("the pinned one"), "{info}");

    let all = run(&["models", "pull", "--all", "--models-dir", models, "--mirror", mirror]);
    assert_eq!(all.status.code(), Some(1), "the mirror has no other");
    assert!(text(&all.stdout).contains("mine: already there"), "{}", text(&all.stdout));
    assert!(text(&all.stderr).contains("face: the mirror"), "{}", text(&all.stderr));

    fs::write(Path::new(models).join("mine.onnx"), "something else").unwrap();
    assert!(row(&list()).contains("altered"), "{}", list());
    fs::write(Path::new(mirror).join("net.onnx"), "something else").unwrap();
    let wrong = run(&["models", "pull", "motion", "nobody", "mine", "--models-dir", models, "--mirror", mirror]);
    assert_eq!(wrong.status.code(), Some(1));
    let (said, errors) = (text(&wrong.stdout), text(&wrong.stderr));
    assert!(said.contains("motion: built in"), "one that fails does not keep the others: {said}");
    assert!(errors.contains("nobody") && errors.contains("SHA-256") && errors.contains(&digest), "{errors}");
    assert_eq!(fs::read(Path::new(models).join("mine.onnx")).unwrap(), b"something else", "nothing was stored");
}

#[test]
fn the_list_shows_what_comes_with_the_program() {
    let list = text(&run(&["models", "list"]).stdout);
    for name in ["face *", "yolox-nano", "light-person", "motion"] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{name} in\n{list}");
    }
    assert!(list.contains("Apache-2.0") && list.contains("416×416") && list.contains("CenterFace"), "{list}");
    let configured = sightline(&["models", "list"]).env("SIGHTLINE_MODELS_DIR", "/nowhere/else").output().unwrap();
    assert!(text(&configured.stdout).contains("/nowhere/else"), "the environment counts");
    let unknown = run(&["models", "info", "nobody"]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("yolox-nano"));
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn the_doctor_sends_a_picture_all_the_way_and_says_what_is_chosen() {
    let output = run(&["doctor", "--json", "--model", "motion", "--listen", "127.0.0.1:0", "--udp-port", "0"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["ok"]), (Some(0), &Value::Bool(true)), "{report}");
    assert_eq!(check(&report, "self-test")["status"], "ok");
    assert!(check(&report, "self-test")["took_ms"].as_f64().unwrap() > 0.0);
    assert!(check(&report, "UDP port")["detail"].as_str().unwrap().contains("127.0.0.1:"), "{report}");
    assert!(check(&report, "detector")["detail"].as_str().unwrap().contains("core"), "{report}");
    let lines = run(&["doctor", "--model", "motion", "--listen", "127.0.0.1:0", "--udp-port", "0"]);
    assert!(text(&lines.stdout).contains("✓ self-test"), "{}", text(&lines.stdout));
}

#[test]
fn the_doctor_fails_with_what_to_do_where_the_server_would_not_start() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = held.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("wrong.toml");
    fs::write(&config, "[detect]\nmodell = \"face\"\n").unwrap();
    let output = run(&["doctor", "--json", "--listen", &listen, "--udp-port", "0", "--model", "/nowhere/x.onnx"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["ok"]), (Some(1), &Value::Bool(false)), "{report}");
    assert_eq!(check(&report, "TCP port")["status"], "failed");
    assert!(check(&report, "TCP port")["fix"].as_str().unwrap().contains("--listen"));
    assert_eq!(check(&report, "model")["status"], "failed");
    let output = run(&["doctor", "--json", "--config", config.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let detail = check(&report, "configuration")["detail"].as_str().unwrap();
    assert!(detail.contains("wrong.toml") && detail.contains("modell"), "{detail}");
}

#[test]
fn a_default_model_that_was_never_pulled_is_a_warning_as_the_server_runs_without() {
    let empty = tempfile::tempdir().unwrap();
    let models = empty.path().to_str().unwrap();
    let output = run(&["doctor", "--json", "--models-dir", models, "--listen", "127.0.0.1:0", "--udp-port", "0"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &check(&report, "model")["status"]),
        (Some(0), &Value::from("warning")),
        "{report}"
    );
    assert!(check(&report, "model")["detail"].as_str().unwrap().contains("models pull face"));
}

#[test]
fn a_server_whose_log_nobody_reads_any_more_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = sightline(&["serve", "--listen", "127.0.0.1:0", "--udp-port", "0", "--model", "motion"]);
    let mut server = server.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("open http://") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it listened");
    }
    drop(log);
    assert!(Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap().success());
    let started = Instant::now();
    let status = loop {
        if let Some(status) = server.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > Duration::from_secs(10) {
            server.kill().unwrap();
            panic!("it did not end");
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn the_bench_measures_a_server_of_its_own_and_writes_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let output = run(&[
        "bench",
        "--sessions",
        "1",
        "--viewers",
        "1",
        "--seconds",
        "2",
        "--size",
        "320x240",
        "--no-stages",
        "--json",
        "--html",
        page.to_str().unwrap(),
        "--",
        "--model",
        "motion",
    ]);
    let said = text(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let step = &report["steps"][0];
    assert_eq!((step["sessions"].as_u64(), &step["failed"]), (Some(1), &Value::Null), "{said}");
    let each = &step["each"][0];
    assert!(each["fps"].as_f64().unwrap() > 5.0, "{each}");
    assert_eq!(each["join"], "timestamp");
    let stamps: Vec<u64> = each["stamps"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert!(stamps[0] > 5 && stamps[1] == 0, "{stamps:?}");
    for figure in ["server_added_ms", "end_to_end_ms", "turnaround_ms", "viewers_end_to_end_ms"] {
        assert!(step[figure]["p50"].as_f64().unwrap() > 0.0, "{figure}: {step}");
    }
    assert!(step["end_to_end_ms"]["p50"].as_f64() >= step["turnaround_ms"]["p50"].as_f64());
    assert!(step["server_rss_mib"].as_f64().unwrap() > 1.0 && step["server_cpu"]["total"].is_number());
    let html = fs::read_to_string(page).unwrap();
    assert!(
        html.contains("<svg") && html.contains("prefers-color-scheme") && !html.contains("http"),
        "one page, by itself"
    );
}

#[test]
fn the_bench_says_what_it_cannot_measure() {
    for (args, said) in [
        (&["--sessions", "0"][..], "at least 1"),
        (&["--hold", "p95=fast"], "a number is expected"),
        (&["--size", "32x32"], "at least 160x64"),
        (&["--video", "/nowhere.mp4"], "/nowhere.mp4"),
        (&["--sessions", "1", "--no-stages", "--", "--model", "/nowhere.onnx"], "/nowhere.onnx"),
        (&["--url", "http://127.0.0.1:9", "--sessions", "1", "--seconds", "1", "--size", "160x120"], "127.0.0.1:9"),
    ] {
        let output = run(&[&["bench"][..], args].concat());
        let all = text(&output.stderr) + &text(&output.stdout);
        assert!(!output.status.success() && all.contains(said), "{args:?}: {all}");
    }
}
