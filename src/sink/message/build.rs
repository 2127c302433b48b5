//! From the house's words to messages: what is said, rounded to what is worth saying.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use super::{
    ConfigAck, CrossDirection, DetectionsMessage, DetectorStages, DrawnBox, ErrorMessage, Event, EventKind,
    FrameMessage, LedgerStages, MessageError, MessageId, Object, PingMessage, Point, Pong, SchemaVersion,
    ServerMessage, StreamConfig,
};
use crate::media::{
    BBox, Detection, DetectionTimes, Detections, Direction, FrameLedger, KeyPoint, Mark, RegionEvent, RegionEventKind,
    RtpTimestamp,
};

/// The longest message that is sent, in bytes. WebRTC's default limit is 65,536 (RFC 8841 §6.1).
pub const MAX_SERVER_MESSAGE_BYTES: usize = 60_000;

impl ServerMessage<'_> {
    /// The JSON text, of at most [`MAX_SERVER_MESSAGE_BYTES`]: in a longer list the last objects or boxes lose their key points
    /// and outlines; if that is not enough, the list loses its end, and the message says so in `omitted`.
    #[must_use]
    pub fn to_json(mut self) -> String {
        loop {
            // These types have no maps and no fallible parts: serialising them cannot fail.
            let text = serde_json::to_string(&self).unwrap_or_default();
            let listed = match &self {
                Self::Detections(message) => message.detections.len(),
                Self::Frame(message) => message.boxes.len(),
                Self::ConfigAck(_) | Self::Error(_) | Self::Pong(_) => return text,
            };
            if text.len() <= MAX_SERVER_MESSAGE_BYTES {
                return text;
            }
            if listed == 0 {
                // Names of classes have any length.
                if let Self::Detections(message) = &mut self
                    && !message.events.is_empty()
                {
                    message.events.truncate(message.events.len() / 2);
                    continue;
                }
                return text;
            }
            if self.drop_shapes(text.len()) {
                continue;
            }
            let (Self::Detections(DetectionsMessage { omitted, .. }) | Self::Frame(FrameMessage { omitted, .. })) =
                &mut self
            else {
                return text;
            };
            // In proportion, and at least one: names differ in length, so it may take a second round.
            let keep = (listed * MAX_SERVER_MESSAGE_BYTES / text.len()).min(listed - 1);
            *omitted = omitted.saturating_add(u32::try_from(listed - keep).unwrap_or(u32::MAX));
            match &mut self {
                Self::Detections(message) => message.detections.truncate(keep),
                Self::Frame(message) => message.boxes.truncate(keep),
                Self::ConfigAck(_) | Self::Error(_) | Self::Pong(_) => {}
            }
        }
    }
}

impl ServerMessage<'_> {
    /// Takes key points and outlines from the last objects or boxes, in proportion to how much too long the message is;
    /// `false` when none had any.
    fn drop_shapes(&mut self, length: usize) -> bool {
        type Shape<'b> = (&'b mut Option<Vec<Point>>, &'b mut Option<Vec<[f32; 2]>>);
        let mut shapes: Vec<Shape<'_>> = match self {
            Self::Detections(message) => {
                message.detections.iter_mut().map(|object| (&mut object.keypoints, &mut object.mask)).collect()
            }
            Self::Frame(message) => {
                message.boxes.iter_mut().map(|drawn| (&mut drawn.keypoints, &mut drawn.mask)).collect()
            }
            Self::ConfigAck(_) | Self::Error(_) | Self::Pong(_) => return false,
        };
        shapes.retain(|(points, mask)| points.is_some() || mask.is_some());
        let Some(most) = shapes.len().checked_sub(1) else { return false };
        let keep = (shapes.len() * MAX_SERVER_MESSAGE_BYTES / length.max(1)).min(most);
        for (points, mask) in shapes.into_iter().skip(keep) {
            (*points, *mask) = (None, None);
        }
        true
    }
}

impl<'a> DetectionsMessage<'a> {
    /// The message for one result. An object whose box or score is not a number is left out: JSON cannot say it.
    #[must_use]
    pub fn new(stream: &'a str, result: &'a Detections) -> Self {
        Self {
            v: SchemaVersion,
            stream: Cow::Borrowed(stream),
            frame_id: result.frame_id,
            rtp_timestamp: result.rtp_timestamp.output,
            source_rtp_timestamp: result.rtp_timestamp.source,
            capture_time_ms: result.captured.map(unix_milliseconds),
            width: result.width,
            height: result.height,
            model: Cow::Borrowed(&result.model),
            detections: result.items.iter().filter_map(Object::new).collect(),
            omitted: 0,
            events: result.events.iter().map(Event::new).collect(),
            processing_time_ms: milliseconds(result.times.processing()),
            stages_ms: DetectorStages::new(&result.times),
        }
    }

    /// [`ServerMessage::to_json`] of this message.
    #[must_use]
    pub fn to_json(self) -> String {
        ServerMessage::Detections(self).to_json()
    }
}

impl<'a> Object<'a> {
    fn new(detection: &'a Detection) -> Option<Self> {
        Some(Self {
            bbox: corners(&detection.bbox)?,
            confidence: score(detection.confidence)?,
            class_id: detection.class_id,
            class_name: Cow::Borrowed(&detection.class_name),
            track_id: detection.track_id,
            parent: detection.parent,
            velocity: detection.velocity.and_then(|[x, y]| Some([tenths(x)?, tenths(y)?])),
            keypoints: points(detection),
            mask: mask(detection),
        })
    }
}

impl<'a> Event<'a> {
    fn new(event: &'a RegionEvent) -> Self {
        Self {
            kind: match event.kind {
                RegionEventKind::Enter => EventKind::Enter,
                RegionEventKind::Leave => EventKind::Leave,
                RegionEventKind::Cross => EventKind::Cross,
                RegionEventKind::Dwell => EventKind::Dwell,
            },
            region: Cow::Borrowed(&event.region),
            track_id: event.track_id,
            class_name: Cow::Borrowed(&event.class_name),
            direction: event.direction.map(|direction| match direction {
                Direction::LeftToRight => CrossDirection::LeftToRight,
                Direction::RightToLeft => CrossDirection::RightToLeft,
            }),
            // JSON cannot say a number that is none; a duration is never one.
            dwell_s: event.dwell_s.map(|dwell_s| (f64::from(dwell_s) * 100.0).round() / 100.0),
            count: event.count,
        }
    }
}

impl DetectorStages {
    fn new(times: &DetectionTimes) -> Self {
        Self {
            detect_queue: milliseconds(times.detect_queue),
            preprocess: milliseconds(times.preprocess),
            infer: milliseconds(times.infer),
            postprocess: milliseconds(times.postprocess),
        }
    }
}

impl<'a> FrameMessage<'a> {
    /// The message for a frame that was sent. `boxes`: as drawn, in source pixels; `result`: what they come from.
    #[must_use]
    pub fn new(
        stream: &'a str,
        frame_id: u64,
        rtp_timestamp: RtpTimestamp,
        ledger: &FrameLedger,
        boxes: &[Detection],
        result: Option<&Detections>,
    ) -> Self {
        let arrived = ledger.at(Mark::LastPacket);
        let age = result.zip(arrived).map(|(result, arrived)| arrived.saturating_duration_since(result.arrived));
        Self {
            v: SchemaVersion,
            stream: Cow::Borrowed(stream),
            frame_id,
            rtp_timestamp: rtp_timestamp.output,
            source_rtp_timestamp: rtp_timestamp.source,
            boxes: boxes.iter().filter_map(DrawnBox::new).collect(),
            omitted: 0,
            detection_frame_id: result.map(|result| result.frame_id),
            age_ms: age.map(milliseconds),
            server_added_ms: ledger.server_added().map(milliseconds),
            sent_ms: None,
            ledger_ms: LedgerStages::new(ledger),
        }
    }

    /// Tells when the last packet went out by the wall clock too, of which `now` is two readings of one moment.
    #[must_use]
    pub fn dated(mut self, ledger: &FrameLedger, (instant, wall): (Instant, SystemTime)) -> Self {
        let sent = ledger.at(Mark::Sent).map(|sent| instant.saturating_duration_since(sent));
        self.sent_ms = sent.and_then(|ago| wall.checked_sub(ago)).map(unix_milliseconds);
        self
    }

    /// [`ServerMessage::to_json`] of this message.
    #[must_use]
    pub fn to_json(self) -> String {
        ServerMessage::Frame(self).to_json()
    }
}

impl DrawnBox {
    fn new(detection: &Detection) -> Option<Self> {
        Some(Self {
            bbox: corners(&detection.bbox)?,
            class_id: detection.class_id,
            track_id: detection.track_id,
            confidence: score(detection.confidence)?,
            keypoints: points(detection),
            mask: mask(detection),
        })
    }
}

impl LedgerStages {
    fn new(ledger: &FrameLedger) -> Self {
        let mut stages = Self::default();
        for (name, took) in ledger.stages() {
            let field = match name {
                "receive" => &mut stages.receive,
                "queue" => &mut stages.queue,
                "decode" => &mut stages.decode,
                "render_wait" => &mut stages.render_wait,
                "draw" => &mut stages.draw,
                "encode" => &mut stages.encode,
                "send" => &mut stages.send,
                _ => continue,
            };
            *field = Some(milliseconds(took));
        }
        stages
    }
}

impl ConfigAck {
    /// Says that `config` holds now, in answer to message `id`.
    #[must_use]
    pub fn new(id: Option<MessageId>, config: StreamConfig) -> Self {
        Self { v: SchemaVersion, id, config }
    }

    /// [`ServerMessage::to_json`] of this message.
    #[must_use]
    pub fn to_json(self) -> String {
        ServerMessage::ConfigAck(self).to_json()
    }
}

impl From<MessageError> for ErrorMessage {
    fn from(error: MessageError) -> Self {
        Self { v: SchemaVersion, id: error.id, code: error.code, message: error.message }
    }
}

impl ErrorMessage {
    /// [`ServerMessage::to_json`] of this message.
    #[must_use]
    pub fn to_json(self) -> String {
        ServerMessage::Error(self).to_json()
    }
}

impl Pong {
    /// Answers `ping` at `now`.
    #[must_use]
    pub fn new(ping: PingMessage, now: SystemTime) -> Self {
        Self { v: SchemaVersion, id: ping.id, t: ping.t, server_ms: unix_milliseconds(now) }
    }

    /// [`ServerMessage::to_json`] of this message.
    #[must_use]
    pub fn to_json(self) -> String {
        ServerMessage::Pong(self).to_json()
    }
}

/// To 0.1, without a negative zero; `None` for what is not a number.
fn tenths(value: f32) -> Option<f32> {
    value.is_finite().then(|| (f64::from(value) * 10.0).round() / 10.0 + 0.0).map(narrow)
}

fn corners(bbox: &BBox) -> Option<[f32; 4]> {
    Some([tenths(bbox.x1)?, tenths(bbox.y1)?, tenths(bbox.x2)?, tenths(bbox.y2)?])
}

/// The key points; none at all if one is not a number, as each is known by its place in the list.
fn points(detection: &Detection) -> Option<Vec<Point>> {
    let point = |point: &KeyPoint| {
        let (x, y) = (tenths(point.x)?, tenths(point.y)?);
        Some(match point.confidence.and_then(score) {
            Some(confidence) => Point::Rated([x, y, confidence]),
            None => Point::Plain([x, y]),
        })
    };
    detection.keypoints.as_ref().and_then(|points| points.iter().map(point).collect())
}

fn mask(detection: &Detection) -> Option<Vec<[f32; 2]>> {
    let corners = detection.mask.as_ref()?;
    corners.iter().map(|[x, y]| Some([tenths(*x)?, tenths(*y)?])).collect()
}

/// To 0.0001, inside 0 to 1; `None` for what is not a number.
fn score(value: f32) -> Option<f32> {
    value.is_finite().then(|| (f64::from(value).clamp(0.0, 1.0) * 1e4).round() / 1e4 + 0.0).map(narrow)
}

#[allow(clippy::cast_possible_truncation)] // the value came from an f32
fn narrow(value: f64) -> f32 {
    value as f32
}

/// To 0.01.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 100.0
}

fn unix_milliseconds(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => milliseconds(after),
        Err(before) => -milliseconds(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::media::STAGES;

    fn detection(bbox: BBox, confidence: f32) -> Detection {
        Detection {
            bbox,
            confidence,
            class_id: 3,
            class_name: "dog".into(),
            track_id: Some(7),
            velocity: Some([-0.04, 12.345]),
            ..Detection::default()
        }
    }

    fn result(items: Vec<Detection>) -> Detections {
        Detections {
            frame_id: 41,
            rtp_timestamp: RtpTimestamp { output: 3000, source: 1000 },
            captured: Some(SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456)),
            arrived: Instant::now(),
            width: 640,
            height: 480,
            model: "face".into(),
            items,
            veiled: Vec::new(),
            events: Vec::new(),
            times: DetectionTimes {
                detect_queue: Duration::from_micros(104),
                preprocess: Duration::from_micros(1006),
                infer: Duration::from_micros(6000),
                postprocess: Duration::from_micros(499),
            },
        }
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_result_becomes_the_documented_message() {
        let result = result(vec![detection(BBox::new(-0.04, 1.26, 100.0, 200.06), 0.876_543)]);
        let sent = value(&DetectionsMessage::new("cam", &result).to_json());
        let expected = json!({
            "v": 1, "type": "detections", "stream": "cam", "frame_id": 41, "rtp_timestamp": 3000,
            "source_rtp_timestamp": 1000, "capture_time_ms": 1_700_000_000_123.46, "width": 640, "height": 480,
            "model": "face",
            "detections": [{"bbox": [0.0, 1.3, 100.0, 200.1], "confidence": 0.8765, "class_id": 3, "class_name": "dog",
                "track_id": 7, "velocity": [0.0, 12.3]}],
            "processing_time_ms": 7.51,
            "stages_ms": {"detect_queue": 0.1, "preprocess": 1.01, "infer": 6.0, "postprocess": 0.5}
        });
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_first_fields_say_what_it_is() {
        let text = DetectionsMessage::new("cam", &result(Vec::new())).to_json();
        assert!(text.starts_with(r#"{"type":"detections","v":1,"stream":"cam""#), "{text}");
    }

    #[test]
    fn an_empty_list_is_said_and_what_is_unknown_is_left_out() {
        let result = Detections { captured: None, ..result(Vec::new()) };
        let sent = value(&DetectionsMessage::new("cam", &result).to_json());
        assert_eq!(sent["detections"], json!([]));
        assert!(sent.get("capture_time_ms").is_none() && sent.get("omitted").is_none());
    }

    #[test]
    fn a_frame_tells_the_age_of_its_boxes_and_every_stage() {
        let result = result(vec![detection(BBox::new(1.0, 2.0, 3.0, 4.0), 0.5)]);
        let start = result.arrived;
        let mut ledger = FrameLedger::arrived(start + Duration::from_millis(30), start + Duration::from_millis(33));
        for (n, door) in [Mark::Dequeued, Mark::Decoded, Mark::RenderStarted, Mark::Drawn, Mark::Encoded, Mark::Sent]
            .into_iter()
            .enumerate()
        {
            ledger.mark_at(door, start + Duration::from_millis(34 + u64::try_from(n).unwrap()));
        }
        ledger.mark_at(Mark::FirstSent, start + Duration::from_millis(38));
        let stamp = RtpTimestamp { output: 6000, source: 4000 };
        let now =
            (start + Duration::from_millis(49), SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_010));
        let message = FrameMessage::new("cam", 42, stamp, &ledger, &result.items, Some(&result)).dated(&ledger, now);
        let sent = value(&message.to_json());
        let expected = json!({
            "v": 1, "type": "frame", "stream": "cam", "frame_id": 42, "rtp_timestamp": 6000, "source_rtp_timestamp": 4000,
            "boxes": [{"bbox": [1.0, 2.0, 3.0, 4.0], "class_id": 3, "track_id": 7, "confidence": 0.5}],
            "detection_frame_id": 41, "age_ms": 33.0, "server_added_ms": 5.0,
            "sent_ms": 1_700_000_000_000.0,
            "ledger_ms": {"receive": 3.0, "queue": 1.0, "decode": 1.0, "render_wait": 1.0, "draw": 1.0, "encode": 1.0,
                "send": 1.0}
        });
        assert_eq!(sent, expected);
        let stages: Vec<_> = sent["ledger_ms"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(STAGES.iter().all(|stage| stages.contains(&stage.name)), "every stage of the ledger has its field");
    }

    #[test]
    fn a_frame_without_a_result_says_nothing_of_one() {
        let now = Instant::now();
        let message = FrameMessage::new("cam", 0, RtpTimestamp::default(), &FrameLedger::arrived(now, now), &[], None);
        let sent = value(&message.to_json());
        assert!(sent.get("age_ms").is_none() && sent.get("detection_frame_id").is_none());
        assert!(sent.get("sent_ms").is_none(), "nor of a departure that was not");
        assert_eq!(sent["ledger_ms"], json!({"receive": 0.0}));
    }

    #[test]
    fn too_long_a_list_keeps_its_best_and_says_what_it_lost() {
        let mut items = vec![detection(BBox::new(1234.5, 1234.5, 1334.5, 1334.5), 0.9876); 1000];
        items[999].class_name = "x".repeat(50_000).into();
        let text = DetectionsMessage::new("cam", &result(items)).to_json();
        assert!(text.len() <= MAX_SERVER_MESSAGE_BYTES);
        let sent = value(&text);
        let kept = sent["detections"].as_array().unwrap().len();
        assert!(kept > 300, "{kept}");
        assert_eq!(u64::try_from(kept).unwrap() + sent["omitted"].as_u64().unwrap(), 1000);
    }

    #[test]
    fn key_points_and_outlines_travel_to_a_tenth_of_a_pixel_in_both_messages() {
        let mut item = detection(BBox::new(0.0, 0.0, 10.0, 10.0), 0.5);
        let point = |x, y, confidence| KeyPoint { x, y, confidence };
        item.keypoints = Some([point(1.234, -5.678, Some(0.123_45)), point(2.0, 3.0, None)].into());
        item.mask = Some([[0.04, 0.06], [10.0, 0.0], [5.0, 9.99]].into());
        let result = result(vec![item]);
        let sent = value(&DetectionsMessage::new("cam", &result).to_json());
        let expected = (json!([[1.2, -5.7, 0.1235], [2.0, 3.0]]), json!([[0.0, 0.1], [10.0, 0.0], [5.0, 10.0]]));
        assert_eq!((sent["detections"][0]["keypoints"].clone(), sent["detections"][0]["mask"].clone()), expected);
        let now = Instant::now();
        let (stamp, ledger) = (RtpTimestamp::default(), FrameLedger::arrived(now, now));
        let frame = FrameMessage::new("cam", 0, stamp, &ledger, &result.items, Some(&result));
        let sent = value(&frame.to_json());
        assert_eq!((sent["boxes"][0]["keypoints"].clone(), sent["boxes"][0]["mask"].clone()), expected);
    }

    #[test]
    fn a_shape_that_is_not_all_numbers_is_left_out_and_the_object_stays() {
        let mut item = detection(BBox::new(0.0, 0.0, 10.0, 10.0), 0.5);
        item.keypoints = Some([KeyPoint { x: f32::NAN, y: 1.0, confidence: None }].into());
        item.mask = Some([[f32::INFINITY, 0.0]].into());
        let sent = value(&DetectionsMessage::new("cam", &result(vec![item])).to_json());
        let object = &sent["detections"][0];
        assert!(object.is_object() && object.get("keypoints").is_none() && object.get("mask").is_none(), "{object}");
    }

    #[test]
    fn outlines_give_way_before_objects_do() {
        let mut item = detection(BBox::new(1234.5, 1234.5, 1334.5, 1334.5), 0.9876);
        item.mask = Some(vec![[1234.5, 1234.5]; 64].into());
        let sent = |count| {
            let text = DetectionsMessage::new("cam", &result(vec![item.clone(); count])).to_json();
            assert!(text.len() <= MAX_SERVER_MESSAGE_BYTES);
            value(&text)
        };
        let shaped = |sent: &Value| {
            sent["detections"].as_array().unwrap().iter().filter(|object| object.get("mask").is_some()).count()
        };
        let few = sent(20);
        assert_eq!(shaped(&few), 20);
        let many = sent(200);
        assert_eq!(many["detections"].as_array().unwrap().len(), 200, "every object is there");
        assert!(
            (1..60).contains(&shaped(&many)) && many["detections"][0].get("mask").is_some(),
            "the best keep theirs"
        );
        assert!(sent(1000)["omitted"].as_u64().unwrap() > 0);
    }

    proptest! {
        #[test]
        fn any_floats_give_messages_that_read_back_the_same(
            edges in prop::array::uniform4(any::<f32>()), confidence in any::<f32>(), velocity in any::<f32>(),
        ) {
            let mut item = detection(BBox::new(edges[0], edges[1], edges[2], edges[3]), confidence);
            item.velocity = Some([velocity, 1.0]);
            item.keypoints = Some([KeyPoint { x: edges[0], y: velocity, confidence: Some(confidence) }].into());
            item.mask = Some([[edges[1], edges[2]]; 3].into());
            let result = result(vec![item]);
            let message = ServerMessage::Detections(DetectionsMessage::new("cam", &result));
            let text = message.clone().to_json();
            prop_assert!(!text.contains("null"), "{}", text);
            let back: ServerMessage<'static> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, message);
        }
    }
}
