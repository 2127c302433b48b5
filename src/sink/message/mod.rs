//! The public JSON schema, version 1: the messages of the `detections` datachannel, both ways.
//!
//! Belongs here: the shape, the rounding and the checks of what stands on the wire. The same types give the JSON Schema
//! in `docs/schema`. Does not belong here: channels, and what a change of configuration does.

mod build;
mod client;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _, Unexpected};
use serde::{Deserialize, Serialize, Serializer};

pub use build::MAX_SERVER_MESSAGE_BYTES;
pub use client::{
    BrowserLedger, BrowserStages, ClientMessage, ConfigMessage, LedgerMessage, MAX_CLIENT_MESSAGE_BYTES,
    MAX_DETECTIONS, MAX_ID_BYTES, MAX_LEDGER_FRAMES, MessageError, PingMessage,
};

/// What the server says. `'a`: what a message borrows while it is written; one that was read owns everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    /// What the detector found in one frame.
    Detections(DetectionsMessage<'a>),
    /// What was drawn on one frame, and what its way through the server took.
    Frame(FrameMessage<'a>),
    /// A `config` was applied.
    ConfigAck(ConfigAck),
    /// A message was refused, and changed nothing.
    Error(ErrorMessage),
    /// The answer to a `ping`.
    Pong(Pong),
}

/// Sent once for every frame that the detector finished, an empty list included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DetectionsMessage<'a> {
    /// The version of the schema.
    pub v: SchemaVersion,
    /// The stream's name.
    pub stream: Cow<'a, str>,
    /// The frame's number in its stream.
    pub frame_id: u64,
    /// The frame's RTP timestamp as the server sends it, 90 kHz: what `requestVideoFrameCallback` calls `rtpTimestamp`.
    pub rtp_timestamp: u32,
    /// The frame's RTP timestamp as the source sent it, 90 kHz.
    pub source_rtp_timestamp: u32,
    /// When the sender captured the frame, by the sender's clock: milliseconds since 1970-01-01 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_time_ms: Option<f64>,
    /// Width of the frame in pixels; boxes are in these.
    pub width: u32,
    /// Height of the frame in pixels.
    pub height: u32,
    /// The model that looked.
    pub model: Cow<'a, str>,
    /// The objects found, best score first.
    pub detections: Vec<Object<'a>>,
    /// How many objects were left out because the message would have been too long; absent when none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
    /// What happened at the stream's zones and lines since the message before; absent when nothing did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event<'a>>,
    /// What the frame cost the detector: pre-processing, inference and post-processing, in milliseconds.
    pub processing_time_ms: f64,
    /// The detector's stages, in milliseconds.
    pub stages_ms: DetectorStages,
}

/// One object in a `detections` message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Object<'a> {
    /// `[x1, y1, x2, y2]` in pixels of the frame, to 0.1.
    pub bbox: [f32; 4],
    /// The model's score, to 0.0001.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f32,
    /// The class's index in the model's labels.
    pub class_id: u32,
    /// The class's name.
    pub class_name: Cow<'a, str>,
    /// The tracker's name for the object, stable while it is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_id: Option<u64>,
    /// Of what the second model of a cascade found: the `track_id` of the object in which it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    /// The motion of the box's centre `[vx, vy]`, in pixels per second, to 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub velocity: Option<[f32; 2]>,
    /// The object's points in the model's order: five landmarks of a face, 17 of a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keypoints: Option<Vec<Point>>,
    /// The object's outline, a closed polygon of `[x, y]` in pixels of the frame, to 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Vec<[f32; 2]>>,
}

/// A point of an object, in pixels of the frame, to 0.1; it may lie outside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Point {
    /// `[x, y, confidence]`: how sure the model is that the point can be seen, 0 to 1, to 0.0001.
    Rated([f32; 3]),
    /// `[x, y]`, from a model that does not say.
    Plain([f32; 2]),
}

/// What can happen at a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An object came into a zone.
    Enter,
    /// It left the zone, or has not been seen for a while.
    Leave,
    /// It crossed a line.
    Cross,
    /// It has been in a zone for the time that was asked for.
    Dwell,
}

/// Which way a line was crossed, as seen by who stands at its first point and looks at its second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CrossDirection {
    /// From the left-hand side to the right-hand one.
    LeftToRight,
    /// The other way.
    RightToLeft,
}

/// Something that happened at a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event<'a> {
    /// What.
    pub kind: EventKind,
    /// The region's name.
    pub region: Cow<'a, str>,
    /// The tracker's name for the object.
    pub track_id: u64,
    /// Its class.
    pub class_name: Cow<'a, str>,
    /// Which way, for `cross`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<CrossDirection>,
    /// For how long it was inside, in seconds, for `leave` and `dwell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dwell_s: Option<f64>,
    /// How many are inside after an `enter` or a `leave`; how many have crossed in this direction with this `cross`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// The detector's stages, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DetectorStages {
    /// From the frame's offer until a worker took it.
    pub detect_queue: f64,
    /// Planes to the model's input.
    pub preprocess: f64,
    /// The model itself.
    pub infer: f64,
    /// Raw outputs to objects with track ids.
    pub postprocess: f64,
}

/// Sent after the last packet of a frame that has boxes, or of which there is anything else to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FrameMessage<'a> {
    /// The version of the schema.
    pub v: SchemaVersion,
    /// The stream's name.
    pub stream: Cow<'a, str>,
    /// The frame's number in its stream.
    pub frame_id: u64,
    /// The frame's RTP timestamp as the server sent it, 90 kHz.
    pub rtp_timestamp: u32,
    /// The frame's RTP timestamp as the source sent it, 90 kHz.
    pub source_rtp_timestamp: u32,
    /// The boxes as they stand in the picture.
    pub boxes: Vec<DrawnBox>,
    /// How many boxes were left out because the message would have been too long; absent when none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
    /// The `frame_id` of the frame in which the boxes were found; absent when there is no result yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_frame_id: Option<u64>,
    /// How much older than this frame that frame is, by their arrival, in milliseconds: 0 in `exact` mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<f64>,
    /// What the server added: from the frame's last packet in to its first packet out, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_added_ms: Option<f64>,
    /// When the frame's last packet went out, by the clock of a `pong`'s `server_ms`: milliseconds since 1970-01-01 UTC. Less
    /// the stages of `ledger_ms`, it is when the frame's first packet came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_ms: Option<f64>,
    /// What the frame's way through the server took.
    pub ledger_ms: LedgerStages,
}

/// One box in a `frame` message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DrawnBox {
    /// `[x1, y1, x2, y2]` in pixels of the source's frame, to 0.1.
    pub bbox: [f32; 4],
    /// The class's index in the model's labels.
    pub class_id: u32,
    /// The tracker's name for the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_id: Option<u64>,
    /// The model's score, to 0.0001.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f32,
    /// The object's points as drawn, in pixels of the source's frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keypoints: Option<Vec<Point>>,
    /// The object's outline as drawn, a closed polygon of `[x, y]` in pixels of the source's frame, to 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Vec<[f32; 2]>>,
}

/// The contiguous stages of a frame's way through the server, in milliseconds. A stage that the frame did not pass is
/// absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LedgerStages {
    /// First to last packet of the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<f64>,
    /// Until the video thread took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<f64>,
    /// Until the decoder gave the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<f64>,
    /// Until drawing began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub render_wait: Option<f64>,
    /// Until the boxes stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<f64>,
    /// Until the encoder gave the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encode: Option<f64>,
    /// Until the last packet was out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<f64>,
}

/// The boxes on the picture: those of which moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlay {
    /// The newest boxes there are, on every frame: the video never waits.
    #[default]
    Latest,
    /// Each frame's own boxes, and only frames that the detector saw: the frame rate falls to the detector's.
    Exact,
    /// None.
    None,
}

/// The settings of a stream that are in force from the next frame on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamConfig {
    /// The lowest score that is reported.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence_threshold: f32,
    /// The IoU above which the weaker of two boxes is suppressed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub iou_threshold: f32,
    /// The names of the classes that are reported; null for all.
    pub classes: Option<Vec<String>>,
    /// What is drawn.
    pub overlay: Overlay,
    /// The most objects reported for a frame.
    #[schemars(range(min = 1, max = 1000))]
    pub max_detections: u32,
}

/// The answer to a `config` that was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigAck {
    /// The version of the schema.
    pub v: SchemaVersion,
    /// The `id` of the message answered, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// What holds now, all of it.
    pub config: StreamConfig,
}

/// The answer to a message that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorMessage {
    /// The version of the schema.
    pub v: SchemaVersion,
    /// The `id` of the message answered, where one could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// What kind of mistake it is, for programs.
    pub code: ErrorCode,
    /// What to change, for people.
    pub message: String,
}

/// The answer to a `ping`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pong {
    /// The version of the schema.
    pub v: SchemaVersion,
    /// The `id` of the ping, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The `t` of the ping, untouched.
    pub t: f64,
    /// The server's clock when it answered: milliseconds since 1970-01-01 UTC.
    pub server_ms: f64,
}

/// A name that the client gives to a message, and finds again in its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MessageId {
    /// A whole number.
    Number(u64),
    /// A text of at most 64 bytes.
    Text(#[schemars(length(max = 64))] String),
}

/// The kinds of mistake in a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Longer than is accepted.
    TooLarge,
    /// Not a JSON object.
    InvalidJson,
    /// A `v` other than 1.
    UnsupportedVersion,
    /// A `type` that is missing or not known.
    UnknownType,
    /// A field that this type does not have.
    UnknownField,
    /// A field with a value that is not possible.
    InvalidValue,
    /// A class that the model does not have.
    UnknownClass,
    /// Only the stream's publisher, or who has the `control` role, may do that.
    Forbidden,
    /// The server ends the session; the message says why. Nothing follows, and coming back by oneself is not wanted.
    SessionEnded,
    /// The server goes away, and may be back. Nothing follows.
    ShuttingDown,
}

/// The version of the schema: 1 on the wire, and nothing else is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchemaVersion;

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(D::Error::invalid_value(Unexpected::Unsigned(other), &"version 1")),
        }
    }
}

impl JsonSchema for SchemaVersion {
    fn schema_name() -> Cow<'static, str> {
        "SchemaVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1 })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
fn is_zero(count: &u32) -> bool {
    *count == 0
}
