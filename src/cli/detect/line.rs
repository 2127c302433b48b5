//! What is printed of a picture: a JSON object a line, or a table.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use sightline::detect::{Found, ModelInfo};
use sightline::media::{Detection, KeyPoint};

/// A picture, or a picture of a video, that was looked at.
pub struct Seen<'a> {
    pub path: &'a Path,
    pub width: usize,
    pub height: usize,
    pub model: &'a ModelInfo,
    pub found: &'a Found,
    /// Of a video: the picture's number from 0 on, in the order in which they are shown, and when it is shown.
    pub moment: Option<(usize, f64)>,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<usize>,
    /// To a millisecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_s: Option<f64>,
    width: usize,
    height: usize,
    model: &'a str,
    detections: Vec<Object<'a>>,
    processing_time_ms: f64,
}

#[derive(Debug, Serialize)]
struct Object<'a> {
    /// Left, top, right, bottom in pixels, to 0.01.
    bbox: [f32; 4],
    /// To 0.0001.
    confidence: f32,
    class_id: u32,
    class_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    track_id: Option<u64>,
    /// `[x, y]`, or `[x, y, confidence]` where the model says it, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    keypoints: Option<Vec<Vec<f32>>>,
    /// The corners `[x, y]` of the outline, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<Vec<[f32; 2]>>,
}

fn round(value: f32, steps: f32) -> f32 {
    (value * steps).round() / steps
}

fn pixels(value: f32) -> f32 {
    round(value, 100.0)
}

fn point(point: &KeyPoint) -> Vec<f32> {
    let confidence = point.confidence.map(|confidence| round(confidence, 10_000.0));
    [pixels(point.x), pixels(point.y)].into_iter().chain(confidence).collect()
}

impl<'a> Object<'a> {
    fn new(detection: &'a Detection) -> Self {
        let bbox = detection.bbox;
        Self {
            bbox: [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(pixels),
            confidence: round(detection.confidence, 10_000.0),
            class_id: detection.class_id,
            class_name: &detection.class_name,
            track_id: detection.track_id,
            keypoints: detection.keypoints.as_ref().map(|points| points.iter().map(point).collect()),
            mask: detection.mask.as_ref().map(|corners| corners.iter().map(|corner| corner.map(pixels)).collect()),
        }
    }
}

impl Seen<'_> {
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let line = Line {
            image: self.path.display().to_string(),
            frame: self.moment.map(|(frame, _)| frame),
            time_s: self.moment.map(|(_, time)| (time * 1000.0).round() / 1000.0),
            width: self.width,
            height: self.height,
            model: &self.model.name,
            detections: self.found.items.iter().map(Object::new).collect(),
            processing_time_ms: (self.milliseconds() * 100.0).round() / 100.0,
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)
    }

    pub fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let items = &self.found.items;
        let count = match items.len() {
            0 => "nothing found".to_owned(),
            1 => "1 object".to_owned(),
            count => format!("{count} objects"),
        };
        let (path, time, model) = (self.path.display(), self.milliseconds(), &self.model.name);
        let moment = self.moment.map_or(String::new(), |(frame, time)| format!(" frame {frame} at {time:.2} s"));
        writeln!(out, "{path}{moment}: {}×{}, {model}, {time:.1} ms, {count}", self.width, self.height)?;
        let widest = items.iter().map(|item| item.class_name.chars().count()).max().unwrap_or(0);
        for item in items {
            let (name, score, bbox) = (&item.class_name, item.confidence, item.bbox);
            let [x1, y1, x2, y2] = [bbox.x1, bbox.y1, bbox.x2, bbox.y2];
            let track = item.track_id.map_or(String::new(), |id| format!("  #{id}"));
            writeln!(out, "  {name:widest$}  {score:.3}  {x1:7.1} {y1:7.1} {x2:7.1} {y2:7.1}{track}")?;
        }
        Ok(())
    }

    fn milliseconds(&self) -> f64 {
        (self.found.preprocess + self.found.infer + self.found.postprocess).as_secs_f64() * 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sightline::detect::Model;
    use sightline::media::BBox;

    #[test]
    fn what_a_model_does_not_give_is_not_in_the_line() {
        let plain = Detection { bbox: BBox::new(1.234, 2.0, 3.0, 4.0), confidence: 0.5, ..Detection::default() };
        let points =
            [KeyPoint { x: 1.0, y: 2.0, confidence: Some(0.25) }, KeyPoint { x: 3.0, y: 4.0, confidence: None }];
        let full = Detection {
            track_id: Some(7),
            keypoints: Some(points.into()),
            mask: Some([[1.0, 2.5], [3.0, 4.0], [5.0, 6.0]].into()),
            ..plain.clone()
        };
        let found = Found { items: vec![plain, full], ..Found::default() };
        let motion = Model::motion();
        let line = |moment| {
            let mut out = Vec::new();
            let path = Path::new("a.mp4");
            let seen = Seen { path, width: 64, height: 48, model: motion.info(), found: &found, moment };
            seen.write_json(&mut out).unwrap();
            seen.write_table(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            (serde_json::from_str::<serde_json::Value>(text.lines().next().unwrap()).unwrap(), text)
        };
        let (still, _) = line(None);
        assert!(still.get("frame").is_none() && still.get("time_s").is_none());
        let keys = |n: usize| still["detections"][n].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(0), ["bbox", "class_id", "class_name", "confidence"]);
        assert_eq!(keys(1), ["bbox", "class_id", "class_name", "confidence", "keypoints", "mask", "track_id"]);
        assert_eq!(still["detections"][1]["keypoints"], serde_json::json!([[1.0, 2.0, 0.25], [3.0, 4.0]]));
        let (moving, text) = line(Some((12, 0.40004)));
        assert_eq!((&moving["frame"], &moving["time_s"]), (&12.into(), &0.4.into()));
        assert!(text.contains("frame 12 at 0.40 s") && text.contains("#7"), "{text}");
    }
}
