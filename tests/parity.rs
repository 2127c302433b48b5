//! Our detections against those of the reference (ONNX Runtime and OpenCV in Python), on the same pictures.
//!
//! Needs the shared media (`SIGHTLINE_SHARED`, else `../shared`), the ONNX Runtime, and for CenterFace the pulled model
//! (`SIGHTLINE_MODELS`, else `.sightline/models`); prints a line and passes where one of them is absent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sightline::detect::{Config, DetectError, Detector, Family, Model, Picture};
use sightline::media::{BBox, Detection, I420Frame, KeyPoint, Plane};
use yuv::{YuvConversionMode, YuvPlanarImageMut, YuvRange, YuvStandardMatrix};

/// How far an edge may be off, in source pixels.
const EDGE: f32 = 1.0;
/// The same for a model whose activations are quantised while it runs: a last bit of a sigmoid, which differs between
/// CPUs, becomes a step of the quantiser. The reference's own script gives a box that is 1.55 pixels off on an AVX2 machine.
const EDGE_QUANTISED: f32 = 2.0;
/// How far a score may be off.
const SCORE: f32 = 0.01;
/// Detections this near to the threshold may be there or not.
const DOUBT: f32 = 0.02;

#[derive(Deserialize)]
struct Reference {
    spec: Spec,
    images: BTreeMap<String, ReferenceImage>,
}

#[derive(Deserialize)]
struct Spec {
    score_thr: f32,
}

#[derive(Deserialize)]
struct ReferenceImage {
    width: usize,
    height: usize,
    detections: Vec<ReferenceDetection>,
}

#[derive(Deserialize)]
struct ReferenceDetection {
    #[serde(rename = "box")]
    bbox: [f32; 4],
    score: f32,
    class_id: u32,
    class_name: String,
    kps: Option<Vec<[f32; 2]>>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn media() -> Option<PathBuf> {
    let shared = std::env::var_os("SIGHTLINE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let media = shared.join("media");
    if media.join("reference").is_dir() {
        return Some(media);
    }
    println!("skipped: no shared media (set SIGHTLINE_SHARED)");
    None
}

fn pulled_models() -> PathBuf {
    std::env::var_os("SIGHTLINE_MODELS").map_or_else(|| root().join(".sightline/models"), PathBuf::from)
}

/// The model, or `None` with a printed line when its file or the runtime is not on this machine.
fn load(model: &str, models_dir: PathBuf) -> Option<Model> {
    match Model::load(&Config { model: model.into(), models_dir, ..Config::default() }) {
        Ok(model) => Some(model),
        Err(error @ (DetectError::Missing { .. } | DetectError::Runtime { .. })) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

struct Rgb {
    data: Vec<u8>,
    width: usize,
    height: usize,
}

impl Rgb {
    fn open(path: &Path) -> Self {
        let image = image::open(path).unwrap().into_rgb8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self { data: image.into_raw(), width, height }
    }

    fn picture(&self) -> Picture<'_> {
        Picture::Rgb { data: &self.data, width: self.width, height: self.height }
    }

    /// The upper left part of this size.
    fn corner(&self, width: usize, height: usize) -> Self {
        let rows = self.data.chunks_exact(self.width * 3).take(height);
        Self { data: rows.flat_map(|row| &row[..width * 3]).copied().collect(), width, height }
    }

    /// The same picture as a camera would send it.
    fn to_i420(&self) -> I420Frame {
        let (width, height) = (u32::try_from(self.width).unwrap(), u32::try_from(self.height).unwrap());
        let mut planar = YuvPlanarImageMut::<u8>::alloc(width, height, yuv::YuvChromaSubsampling::Yuv420);
        yuv::rgb_to_yuv420(
            &mut planar,
            &self.data,
            width * 3,
            YuvRange::Limited,
            YuvStandardMatrix::Bt601,
            YuvConversionMode::Balanced,
        )
        .unwrap();
        let mut frame = I420Frame::black(self.width, self.height);
        frame.copy_plane_from(Plane::Y, planar.y_plane.borrow(), planar.y_stride as usize);
        frame.copy_plane_from(Plane::U, planar.u_plane.borrow(), planar.u_stride as usize);
        frame.copy_plane_from(Plane::V, planar.v_plane.borrow(), planar.v_stride as usize);
        frame
    }
}

fn reference(media: &Path, name: &str) -> Reference {
    let text = std::fs::read_to_string(media.join(format!("reference/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn detect(detector: &mut dyn Detector, model: &Model, picture: Picture<'_>, confidence: f32) -> Vec<Detection> {
    let mut settings = model.settings(&Config { max_detections: 1000, ..Config::default() });
    settings.confidence = confidence;
    detector.detect(picture, &settings).unwrap().items
}

fn far(a: &BBox, b: &[f32; 4]) -> f32 {
    [a.x1 - b[0], a.y1 - b[1], a.x2 - b[2], a.y2 - b[3]].into_iter().fold(0.0, |worst, d| worst.max(d.abs()))
}

/// Whether the landmarks are those of the reference, where it has any.
fn same_points(found: &Detection, wanted: &ReferenceDetection, within: f32) -> bool {
    let Some(wanted) = &wanted.kps else { return found.keypoints.is_none() };
    found.keypoints.as_ref().is_some_and(|points| {
        let near = |(point, wanted): (&KeyPoint, &[f32; 2])| {
            (point.x - wanted[0]).abs() <= within && (point.y - wanted[1]).abs() <= within
        };
        points.len() == wanted.len() && points.iter().zip(wanted).all(near)
    })
}

/// Holds every image of the reference against ours, one to one.
fn hold(model: &Model, media: &Path, name: &str, edge: f32) {
    let reference = reference(media, name);
    let threshold = reference.spec.score_thr;
    assert!((model.info().confidence - threshold).abs() < 0.051, "the model's own threshold is about the reference's");
    let mut detector = model.detector().unwrap();
    let (mut compared, mut worst_edge, mut worst_score) = (0, 0.0f32, 0.0f32);
    for (file, expected) in &reference.images {
        let image = Rgb::open(&media.join("images").join(file));
        assert_eq!((image.width, image.height), (expected.width, expected.height), "{file}");
        // Asked below the threshold, so that one that slipped under it is still found.
        let mut ours = detect(&mut *detector, model, image.picture(), threshold - DOUBT);
        for wanted in &expected.detections {
            let partner = ours.iter().position(|found| {
                found.class_id == wanted.class_id
                    && far(&found.bbox, &wanted.bbox) <= edge
                    && (found.confidence - wanted.score).abs() <= SCORE
                    && same_points(found, wanted, edge)
            });
            let Some(partner) = partner else {
                assert!(
                    wanted.score < threshold + DOUBT,
                    "{name} {file}: no {} {:.3} at {:?} among {ours:#?}",
                    wanted.class_name,
                    wanted.score,
                    wanted.bbox
                );
                continue;
            };
            let found = ours.swap_remove(partner);
            if !found.class_name.starts_with("class ") {
                assert_eq!(*found.class_name, *wanted.class_name);
            }
            worst_edge = worst_edge.max(far(&found.bbox, &wanted.bbox));
            worst_score = worst_score.max((found.confidence - wanted.score).abs());
            compared += 1;
        }
        let invented: Vec<_> = ours.iter().filter(|found| found.confidence >= threshold + DOUBT).collect();
        assert!(invented.is_empty(), "{name} {file}: the reference knows nothing of {invented:#?}");
    }
    assert!(compared > 0, "{name}: nothing was compared");
    println!("{name}: {compared} detections agree; worst edge {worst_edge:.3} px, worst score {worst_score:.4}");
}

/// Holds the reference's clear detections against those that the same picture gives as I420, where chroma is halved and
/// rounded: each has a partner of its class that overlaps it well.
fn hold_video(model: &Model, media: &Path, name: &str, sure: f32) {
    let mut detector = model.detector().unwrap();
    let mut compared = 0;
    for (file, expected) in &reference(media, name).images {
        let frame = Rgb::open(&media.join("images").join(file)).to_i420();
        let ours = detect(&mut *detector, model, Picture::I420(&frame), sure / 2.0);
        for wanted in expected.detections.iter().filter(|wanted| wanted.score >= sure) {
            let [x1, y1, x2, y2] = wanted.bbox;
            let target = BBox::new(x1, y1, x2, y2);
            let partner = ours.iter().find(|found| {
                found.class_id == wanted.class_id
                    && found.bbox.iou(&target) >= 0.8
                    && (found.confidence - wanted.score).abs() <= 0.15
            });
            assert!(partner.is_some(), "{name} {file}: no {} at {target:?} among {ours:#?}", wanted.class_name);
            compared += 1;
        }
    }
    assert!(compared > 0, "{name}: nothing was compared");
    println!("{name} as I420: {compared} clear detections found again");
}

#[test]
fn yolox_nano_agrees_with_the_reference() {
    let Some(media) = media() else { return };
    let Some(model) = load("yolox-nano", media.join("models")) else { return };
    hold(&model, &media, "yolox_nano_416", EDGE);
    hold_video(&model, &media, "yolox_nano_416", 0.5);
}

#[test]
fn light_person_agrees_with_the_reference() {
    let Some(media) = media() else { return };
    let Some(model) = load("light-person", media.join("models")) else { return };
    hold(&model, &media, "light_person_192", EDGE);
}

#[test]
fn centerface_agrees_with_the_reference() {
    let Some(media) = media() else { return };
    let Some(model) = load("face", pulled_models()) else { return };
    hold(&model, &media, "centerface_320", EDGE);
    hold_video(&model, &media, "centerface_320", 0.6);
}

#[test]
fn an_ultralytics_model_without_a_manifest_agrees_with_the_reference() {
    let Some(media) = media() else { return };
    let path = media.join("models/agpl_test_only/yolo11n_int8_320.onnx");
    let Some(model) = load(path.to_str().unwrap(), pulled_models()) else { return };
    let info = model.info();
    assert_eq!((info.family, info.labels.len(), &*info.labels[79]), (Family::Ultralytics, 80, "toothbrush"));
    assert!(info.assumed.is_empty(), "the file says everything itself: {:?}", info.assumed);
    hold(&model, &media, "yolo11n_int8_320", EDGE_QUANTISED);
    hold_video(&model, &media, "yolo11n_int8_320", 0.5);
}

/// A copy of a model that no manifest knows by its digest: with a comment (`doc_string`, field 6 of `ModelProto`) of its own.
fn unknown_copy(path: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes.extend([6 << 3 | 2, 1, b'x']);
    std::fs::write(folder.path().join(path.file_name().unwrap()), bytes).unwrap();
    folder
}

/// The models with a manifest that lie in the shared media, and their reference.
const MANIFESTS: [(&str, &str, Family); 6] = [
    ("nanodet-m", "nanodet_m_320", Family::Nanodet),
    ("picodet-s", "picodet_s_320", Family::Picodet),
    ("deimv2-atto", "deimv2_atto_320", Family::Detr),
    ("deimv2-femto", "deimv2_femto_416", Family::Detr),
    ("yunet-n", "yunet_n_320", Family::Yunet),
    ("ultraface-320", "ultraface_rfb_320", Family::Ultraface),
];

#[test]
fn the_other_manifests_agree_with_the_reference() {
    let Some(media) = media() else { return };
    for (name, reference, _) in MANIFESTS {
        let Some(model) = load(name, media.join("models")) else { return };
        hold(&model, &media, reference, EDGE);
        hold_video(&model, &media, reference, 0.6);
    }
}

#[test]
fn every_model_without_a_manifest_is_recognised_and_agrees() {
    let Some(media) = media() else { return };
    let others = [
        ("", "yolox_nano_416", Family::Yolox),
        ("", "yunet_s_dyn", Family::Yunet),
        ("", "agpl_test_only/yolov10n_fp32deq_640", Family::EndToEnd),
    ];
    for (_, file, family) in MANIFESTS.into_iter().chain(others) {
        let path = media.join(format!("models/{file}.onnx"));
        let folder = unknown_copy(&path);
        let path = folder.path().join(path.file_name().unwrap());
        let Some(model) = load(path.to_str().unwrap(), pulled_models()) else { return };
        let info = model.info();
        assert_eq!(info.family, family, "{file}");
        let says_so = info.assumed.iter().any(|line| line.contains("COCO")) || info.labels.len() == 1;
        assert!(says_so || file.contains("yolov10"), "{file}: {:?}", info.assumed);
        hold(&model, &media, file.rsplit('/').next().unwrap(), EDGE);
    }
}

#[test]
fn a_one_class_yolox_without_a_manifest_is_recognised_and_agrees() {
    let Some(media) = media() else { return };
    let folder = unknown_copy(&media.join("models/light_person_192.onnx"));
    let path = folder.path().join("light_person_192.onnx");
    let Some(model) = load(path.to_str().unwrap(), pulled_models()) else { return };
    assert_eq!((model.info().family, &*model.info().labels[0]), (Family::Yolox, "class 0"));
    let image = Rgb::open(&media.join("images/street_london_f060.png"));
    let ours = detect(&mut *model.detector().unwrap(), &model, image.picture(), 0.4);
    let expected = &reference(&media, "light_person_192").images["street_london_f060.png"];
    for wanted in expected.detections.iter().filter(|wanted| wanted.score > 0.4 + DOUBT) {
        assert!(ours.iter().any(|found| far(&found.bbox, &wanted.bbox) <= EDGE), "{:?}", wanted.bbox);
    }
}

#[test]
fn pictures_that_are_looked_at_together_give_what_each_gives_alone() {
    const TOGETHER: usize = 3;
    let Some(media) = media() else { return };
    for (file, name) in [("deimv2_atto_320", "deimv2-atto"), ("deimv2_femto_416", "deimv2-femto"), ("yunet_s_dyn", "")]
    {
        let path = media.join(format!("models/{file}.onnx"));
        let model = if name.is_empty() { path.to_str().unwrap() } else { name };
        let config = Config {
            model: model.into(),
            models_dir: media.join("models"),
            batch: Some(TOGETHER),
            ..Config::default()
        };
        let model = match Model::load(&config) {
            Ok(model) => model,
            Err(error @ (DetectError::Missing { .. } | DetectError::Runtime { .. })) => {
                return println!("skipped: {error}");
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(model.batch(), TOGETHER, "{file} has an open first axis");
        let images: Vec<_> = reference(&media, file)
            .images
            .into_keys()
            .map(|image| Rgb::open(&media.join("images").join(image)))
            .collect();
        // A network of open sides is given pictures of one size at a time.
        let width = images.iter().map(|image| image.width).min().unwrap();
        let height = images.iter().map(|image| image.height).min().unwrap();
        let images: Vec<_> = images.iter().map(|image| image.corner(width, height)).collect();
        let (mut detector, settings) = (model.detector().unwrap(), model.settings(&config));
        let (mut shared, mut compared) = (0, 0);
        for images in images.chunks(TOGETHER) {
            let pictures: Vec<_> = images.iter().map(|image| (image.picture(), &settings)).collect();
            for (found, (picture, settings)) in detector.detect_batch(&pictures).into_iter().zip(&pictures) {
                let (found, alone) = (found.unwrap(), detector.detect(*picture, settings).unwrap());
                assert_eq!(found.items.len(), alone.items.len(), "{file}");
                for (found, alone) in found.items.iter().zip(&alone.items) {
                    let bbox = [alone.bbox.x1, alone.bbox.y1, alone.bbox.x2, alone.bbox.y2];
                    assert_eq!(found.class_id, alone.class_id, "{file}");
                    assert!(far(&found.bbox, &bbox) < 0.05, "{file}: {found:?}, alone {alone:?}");
                    assert!((found.confidence - alone.confidence).abs() < 1e-3, "{file}: {found:?}, alone {alone:?}");
                    compared += 1;
                }
                shared += usize::from(found.shared_by > 1);
            }
        }
        assert!(shared > 1 && compared > 0, "{file}: {shared} pictures shared a run, {compared} detections");
        println!("{file}: {compared} detections agree, {shared} pictures looked at with others");
    }
}

/// What `Model::load` says to a file that it must refuse; `None` without a runtime.
fn refusal(path: &Path) -> Option<String> {
    let config = Config { model: path.to_str().unwrap().into(), ..Config::default() };
    match Model::load(&config) {
        Err(error @ DetectError::Runtime { .. }) => {
            println!("skipped: {error}");
            None
        }
        Err(error @ DetectError::Unusable { .. }) => Some(error.to_string()),
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[test]
fn a_truncated_model_is_refused_and_nothing_breaks() {
    let Some(media) = media() else { return };
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(media.join("models/yolox_nano_416.onnx")).unwrap();
    for len in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        let path = folder.path().join("cut.onnx");
        std::fs::write(&path, &whole[..len]).unwrap();
        let Some(text) = refusal(&path) else { return };
        assert!(text.contains("cut.onnx"), "{text}");
    }
}

#[test]
fn settings_choose_classes_and_bound_the_number() {
    let Some(media) = media() else { return };
    let Some(model) = load("yolox-nano", media.join("models")) else { return };
    let image = Rgb::open(&media.join("images/street_london_f060.png"));
    let mut detector = model.detector().unwrap();
    let mut settings = model.settings(&Config::default());
    let all = detector.detect(image.picture(), &settings).unwrap().items;
    assert!(all.is_sorted_by(|a, b| a.confidence >= b.confidence), "best first");
    let name = all[0].class_name.clone();
    settings.classes = Some([name.to_string()].into());
    let chosen = detector.detect(image.picture(), &settings).unwrap().items;
    assert!(!chosen.is_empty() && chosen.iter().all(|found| found.class_name == name));
    settings.classes = Some(["no such thing".to_string()].into());
    assert_eq!(detector.detect(image.picture(), &settings).unwrap().items, []);
    settings.classes = None;
    settings.max_detections = 1;
    assert_eq!(detector.detect(image.picture(), &settings).unwrap().items, all[..1]);
    settings.confidence = 0.0;
    settings.max_detections = 1000;
    assert!(detector.detect(image.picture(), &settings).unwrap().items.len() <= 1000, "every anchor is a candidate");
}
