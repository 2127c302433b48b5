//! Heads and suppression alone, on the raw outputs that the reference's runtime gave for one picture.
//!
//! Needs the shared media (`SIGHTLINE_SHARED`, else `../shared`); prints a line and passes where they are absent.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::detect::Manifest;
use crate::detect::nms::suppress;
use crate::detect::preprocess::Geometry;

const PICTURE: &str = "coco_000000001000.png";

/// A tensor of an `.npz` file: f4 or i8, little endian, C order.
struct Array {
    name: String,
    shape: Vec<i64>,
    data: Vec<f32>,
    kind: &'static str,
}

fn arrays(path: &Path) -> Vec<Array> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    (0..archive.len())
        .map(|at| {
            let mut entry = archive.by_index(at).unwrap();
            let name = entry.name().trim_end_matches(".npy").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            let header = std::str::from_utf8(&bytes[10..header_end]).unwrap();
            assert!(header.contains("'fortran_order': False"), "{header}");
            let shape = header.split('(').nth(1).unwrap().split(')').next().unwrap();
            let shape = shape.split(',').filter_map(|side| side.trim().parse().ok()).collect();
            let body = &bytes[header_end..];
            let (kind, data) = if header.contains("<f4") {
                ("f32", body.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
            } else {
                assert!(header.contains("<i8"), "{header}");
                ("i64", body.as_chunks::<8>().0.iter().map(|eight| i64::from_le_bytes(*eight) as f32).collect())
            };
            Array { name, shape, data, kind }
        })
        .collect()
}

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("SIGHTLINE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let media = folder.join("media");
    let found = media.join("reference/stage").is_dir().then_some(media);
    if found.is_none() {
        println!("skipped: no shared media (set SIGHTLINE_SHARED)");
    }
    found
}

/// Decodes and suppresses the outputs of one model, and holds the result against the reference's detections of that picture.
fn hold(media: &Path, name: &str, manifest: Option<&str>, (width, height): (usize, usize)) {
    let arrays = arrays(&media.join(format!("reference/stage/{name}__outputs.npz")));
    let port = |name: &str, kind: &str, shape: &[i64]| Port {
        name: name.into(),
        kind: kind.into(),
        shape: shape.iter().map(|&side| usize::try_from(side).ok()).collect(),
    };
    let sides = [width, height].map(|side| i64::try_from(side).unwrap());
    let mut graph = Graph {
        inputs: vec![port("images", "f32", &[1, 3, sides[1], sides[0]])],
        outputs: arrays.iter().map(|array| port(&array.name, array.kind, &array.shape)).collect(),
        metadata: [].into(),
    };
    let sized = name.starts_with("deim");
    if sized {
        graph.inputs.push(port("orig_target_sizes", "i64", &[-1, 2]));
    }
    let found = identify(&graph).unwrap();
    let (input, iou, nms, labels) = match manifest {
        Some(manifest) => {
            let manifest = Manifest::shipped(manifest).unwrap().unwrap();
            assert_eq!(manifest.family, found.family, "{name}: the graph tells what the manifest says");
            (manifest.input, manifest.iou, manifest.nms, manifest.labels().len())
        }
        None => (found.input, found.iou, found.nms, found.labels.len()),
    };
    let text = std::fs::read_to_string(media.join(format!("reference/{name}.json"))).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let threshold = reference["spec"]["score_thr"].as_f64().unwrap() as f32;
    let expected = &reference["images"][PICTURE];
    let source = [&expected["width"], &expected["height"]].map(|side| usize::try_from(side.as_u64().unwrap()).unwrap());

    let mut head = Head::new(found.family, &graph, &input, &found.output, labels).unwrap();
    let outputs: Vec<_> = arrays.iter().map(|array| Output { shape: &array.shape, data: &array.data }).collect();
    let mut ours = Vec::new();
    // The reference asked the sized models for boxes in pixels of the picture.
    let (size, mapping) = if sized {
        let size = (source[0], source[1]);
        (size, Geometry::new(&InputSpec { size: InputSize::Fixed { width: size.0, height: size.1 }, ..input }, size))
    } else {
        ((width, height), Geometry::new(&input, (source[0], source[1])))
    };
    head.decode(&outputs, size, &Filter { confidence: threshold, classes: None }, &mut ours).unwrap();
    suppress(&mut ours, nms, iou, 1000);
    let wanted = expected["detections"].as_array().unwrap();
    assert_eq!(ours.len(), wanted.len(), "{name}: {ours:?}");
    assert!(!wanted.is_empty(), "{name}: nothing is compared");
    for wanted in wanted {
        let number = |value: &Value| value.as_f64().unwrap() as f32;
        let class = u32::try_from(wanted["class_id"].as_u64().unwrap()).unwrap();
        let near = |candidate: &&Candidate| {
            let found = mapping.mapping.to_source(&candidate.bbox);
            let edges = [found.x1, found.y1, found.x2, found.y2];
            let off = edges.iter().zip(0..).map(|(edge, at)| (edge - number(&wanted["box"][at])).abs());
            candidate.class_id == class
                && (candidate.score - number(&wanted["score"])).abs() <= 0.001
                && off.fold(0.0, f32::max) <= 0.05
        };
        let partner = ours.iter().find(near).unwrap_or_else(|| panic!("{name}: no {wanted} among {ours:?}"));
        if let Some(points) = wanted["kps"].as_array() {
            let parts = head.parts(&outputs, size, partner);
            assert_eq!(parts.keypoints.len(), points.len());
            for (ours, wanted) in parts.keypoints.iter().zip(points) {
                let [x, y] = mapping.mapping.point([ours.x, ours.y]);
                assert!(
                    (x - number(&wanted[0])).abs() <= 0.05 && (y - number(&wanted[1])).abs() <= 0.05,
                    "{name}: {wanted}"
                );
            }
        }
    }
}

#[test]
fn the_raw_outputs_of_the_reference_give_its_detections() {
    let Some(media) = shared() else { return };
    for (name, manifest, size) in [
        ("yolox_nano_416", Some("yolox-nano"), (416, 416)),
        ("light_person_192", Some("light-person"), (192, 192)),
        ("nanodet_m_320", Some("nanodet-m"), (320, 320)),
        ("picodet_s_320", Some("picodet-s"), (320, 320)),
        ("deimv2_atto_320", Some("deimv2-atto"), (320, 320)),
        ("deimv2_femto_416", Some("deimv2-femto"), (416, 416)),
        ("yunet_n_320", Some("yunet-n"), (320, 320)),
        ("ultraface_rfb_320", Some("ultraface-320"), (320, 240)),
        ("yolo11n_int8_320", None, (320, 320)),
        ("yolov10n_fp32deq_640", None, (640, 640)),
    ] {
        hold(&media, name, manifest, size);
    }
}
