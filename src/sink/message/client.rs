//! What a client may say, and how it is told what is wrong with it.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{ErrorCode, MessageId, Overlay, SchemaVersion};

/// The longest message that is read, in bytes: a list of every class of a large model fits.
pub const MAX_CLIENT_MESSAGE_BYTES: usize = 65_536;

/// The longest textual `id`, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// The most objects that a client may ask for in one message.
pub const MAX_DETECTIONS: u32 = 1000;

/// The most frames that one `ledger` message tells of.
pub const MAX_LEDGER_FRAMES: usize = 64;

/// No stage takes longer, in milliseconds.
const LONGEST_MS: f64 = 60_000.0;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Changes settings of the stream, from the next frame on.
    Config(ConfigMessage),
    /// Asks for a `pong`.
    Ping(PingMessage),
    /// Tells where the time of frames went that the client sent and got back. It has no answer.
    Ledger(LedgerMessage),
}

/// A change of settings: what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigMessage {
    /// The version of the schema, 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<SchemaVersion>,
    /// Comes back in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The lowest score that is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence_threshold: Option<f32>,
    /// The IoU above which the weaker of two boxes is suppressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub iou_threshold: Option<f32>,
    /// The names of the classes that are reported, an empty list for none; null for all of them (absent: no change).
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub classes: Option<Option<Vec<String>>>,
    /// What is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// The most objects reported for a frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_detections: Option<u32>,
}

/// Asks for a `pong`, to measure the way there and back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PingMessage {
    /// The version of the schema, 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<SchemaVersion>,
    /// Comes back in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The client's own clock, in its own units: comes back untouched.
    pub t: f64,
}

/// Where the time of frames went that the client captured, sent, got back and presented: its own stages. It is counted under
/// `video_processing_latency_seconds` and in `GET /api/v1/streams/{name}/latency`; more than two in a second are not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerMessage {
    /// The version of the schema, 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<SchemaVersion>,
    /// Comes back in an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The frames, each once.
    #[schemars(length(min = 1, max = 64))]
    pub frames: Vec<BrowserLedger>,
}

/// One frame's way, as its sender sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrowserLedger {
    /// From capture to presentation, in milliseconds.
    #[schemars(range(min = 0.0, max = 60_000.0))]
    pub whole_ms: f64,
    /// The stages that are not the server's.
    #[serde(default)]
    pub stages_ms: BrowserStages,
}

/// The client's stages of a frame, in milliseconds, each from 0 to 60000; what is not known is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BrowserStages {
    /// Capture to encoder output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser_encode: Option<f64>,
    /// To the first packet in at the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<f64>,
    /// From the server's last packet out to the last packet in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downlink: Option<f64>,
    /// Before the client's decoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_buffer: Option<f64>,
    /// In it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser_decode: Option<f64>,
    /// Decoded to presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<f64>,
    /// The whole less all stages, the server's too; of either sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unaccounted: Option<f64>,
}

impl BrowserLedger {
    /// The first number that no frame's way can take, by its name.
    fn impossible(&self) -> Option<(&'static str, f64)> {
        let BrowserStages { browser_encode, uplink, downlink, jitter_buffer, browser_decode, display, unaccounted } =
            self.stages_ms;
        let positive = [
            ("whole_ms", Some(self.whole_ms)),
            ("browser_encode", browser_encode),
            ("uplink", uplink),
            ("downlink", downlink),
            ("jitter_buffer", jitter_buffer),
            ("browser_decode", browser_decode),
            ("display", display),
            ("unaccounted", unaccounted.map(f64::abs)),
        ];
        let mut told = positive.into_iter().filter_map(|(name, ms)| Some((name, ms?)));
        told.find(|(_, ms)| !(0.0..=LONGEST_MS).contains(ms))
    }
}

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MessageError {
    /// The message's `id`, where one could be read.
    pub id: Option<MessageId>,
    /// The kind of mistake.
    pub code: ErrorCode,
    /// What to change.
    pub message: String,
}

impl MessageError {
    /// An error in answer to message `id`.
    #[must_use]
    pub fn new(id: Option<MessageId>, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { id, code, message: message.into() }
    }
}

impl ClientMessage {
    /// Reads one message, strictly: what it does not say in full and correctly, it does not say.
    ///
    /// # Errors
    /// Names the field, the value and what is possible.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        if text.len() > MAX_CLIENT_MESSAGE_BYTES {
            let message = format!("a message of {} bytes: at most {MAX_CLIENT_MESSAGE_BYTES} are read", text.len());
            return Err(MessageError::new(None, ErrorCode::TooLarge, message));
        }
        let mut fields: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| MessageError::new(None, ErrorCode::InvalidJson, format!("not a JSON object: {error}")))?;
        let id = id(&mut fields)?;
        Self::from_fields(id.clone(), fields).map_err(|(code, message)| MessageError::new(id, code, message))
    }

    fn from_fields(id: Option<MessageId>, mut fields: Map<String, Value>) -> Result<Self, Complaint> {
        let v = match fields.remove("v") {
            None | Some(Value::Null) => None,
            Some(Value::Number(v)) if v.as_u64() == Some(1) => Some(SchemaVersion),
            Some(other) => {
                return Err((ErrorCode::UnsupportedVersion, format!("v = {}: 1 is spoken here", shown(&other))));
            }
        };
        let message = match fields.remove("type") {
            Some(Value::String(kind)) if kind == "config" => Self::Config(ConfigMessage {
                v,
                id,
                confidence_threshold: unit(&mut fields, "confidence_threshold")?,
                iou_threshold: unit(&mut fields, "iou_threshold")?,
                classes: match fields.remove("classes") {
                    None => None,
                    Some(value) => Some(read("classes", value, "a list of class names, or null for all")?),
                },
                overlay: optional(&mut fields, "overlay", r#""latest", "exact" or "none""#)?,
                max_detections: max_detections(&mut fields)?,
            }),
            Some(Value::String(kind)) if kind == "ping" => {
                let t = optional(&mut fields, "t", "a number")?;
                let t = t.ok_or_else(|| (ErrorCode::InvalidValue, "t is missing: a number".to_owned()))?;
                Self::Ping(PingMessage { v, id, t })
            }
            Some(Value::String(kind)) if kind == "ledger" => {
                Self::Ledger(LedgerMessage { v, id, frames: ledger_frames(&mut fields)? })
            }
            Some(other) => {
                let message = format!("type = {}: {KNOWN_TYPES}", shown(&other));
                return Err((ErrorCode::UnknownType, message));
            }
            None => return Err((ErrorCode::UnknownType, format!("type is missing: {KNOWN_TYPES}"))),
        };
        match fields.keys().next() {
            None => Ok(message),
            Some(key) => Err((ErrorCode::UnknownField, format!("there is no field {}", cut(format!("{key:?}"))))),
        }
    }
}

type Complaint = (ErrorCode, String);

const KNOWN_TYPES: &str = r#""config", "ping" and "ledger" are known"#;

fn id(fields: &mut Map<String, Value>) -> Result<Option<MessageId>, MessageError> {
    match fields.remove("id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_ID_BYTES => Ok(Some(MessageId::Text(text))),
        Some(Value::Number(number)) if number.is_u64() => Ok(number.as_u64().map(MessageId::Number)),
        Some(other) => {
            let message = format!(
                "id = {}: a whole number from 0, or a text of at most {MAX_ID_BYTES} bytes, is possible",
                shown(&other)
            );
            Err(MessageError::new(None, ErrorCode::InvalidValue, message))
        }
    }
}

fn read<T: DeserializeOwned>(key: &str, value: Value, possible: &str) -> Result<T, Complaint> {
    let said = shown(&value);
    serde_json::from_value(value).map_err(|_| impossible(key, &said, possible))
}

/// A field that says nothing where it is null.
fn optional<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    key: &str,
    possible: &str,
) -> Result<Option<T>, Complaint> {
    fields.remove(key).map_or(Ok(None), |value| read(key, value, possible))
}

fn unit(fields: &mut Map<String, Value>, key: &str) -> Result<Option<f32>, Complaint> {
    const POSSIBLE: &str = "a number from 0 to 1";
    match optional::<f32>(fields, key, POSSIBLE)? {
        Some(value) if !(0.0..=1.0).contains(&value) => Err(impossible(key, &value.to_string(), POSSIBLE)),
        value => Ok(value),
    }
}

fn max_detections(fields: &mut Map<String, Value>) -> Result<Option<u32>, Complaint> {
    const KEY: &str = "max_detections";
    const POSSIBLE: &str = "a whole number from 1 to 1000";
    match optional::<u32>(fields, KEY, POSSIBLE)? {
        Some(value) if !(1..=MAX_DETECTIONS).contains(&value) => Err(impossible(KEY, &value.to_string(), POSSIBLE)),
        value => Ok(value),
    }
}

fn ledger_frames(fields: &mut Map<String, Value>) -> Result<Vec<BrowserLedger>, Complaint> {
    const KEY: &str = "frames";
    const POSSIBLE: &str = "a list of 1 to 64 frames, each with whole_ms and stages_ms";
    let frames: Vec<BrowserLedger> = optional(fields, KEY, POSSIBLE)?.unwrap_or_default();
    if frames.is_empty() || frames.len() > MAX_LEDGER_FRAMES {
        return Err(impossible(KEY, &format!("{} of them", frames.len()), POSSIBLE));
    }
    match frames.iter().find_map(BrowserLedger::impossible) {
        Some((name, ms)) => Err(impossible(name, &ms.to_string(), "a number from 0 to 60000")),
        None => Ok(frames),
    }
}

fn impossible(key: &str, said: &str, possible: &str) -> Complaint {
    (ErrorCode::InvalidValue, format!("{key} = {said}: {possible} is possible"))
}

/// The value as JSON, cut to what an error message can carry.
fn shown(value: &Value) -> String {
    cut(value.to_string())
}

fn cut(mut text: String) -> String {
    const LONGEST: usize = 80;
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// Tells `null` from absent: what is there at all is `Some`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(text: &str) -> ConfigMessage {
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Config(config)) => config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_field_of_a_config_is_read() {
        let read = config(
            r#"{"type":"config","id":"a","confidence_threshold":0.25,"iou_threshold":1,"classes":["cat"],
                "overlay":"exact","max_detections":20,"v":1}"#,
        );
        let expected = ConfigMessage {
            v: Some(SchemaVersion),
            id: Some(MessageId::Text("a".into())),
            confidence_threshold: Some(0.25),
            iou_threshold: Some(1.0),
            classes: Some(Some(vec!["cat".into()])),
            overlay: Some(Overlay::Exact),
            max_detections: Some(20),
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn null_classes_mean_all_and_absent_classes_no_change() {
        assert_eq!(config(r#"{"type":"config","classes":null}"#).classes, Some(None));
        assert_eq!(config(r#"{"type":"config"}"#).classes, None);
        assert_eq!(config(r#"{"type":"config","classes":[]}"#).classes, Some(Some(Vec::new())));
    }

    #[test]
    fn a_ledger_is_read_with_what_it_tells() {
        let text = r#"{"type":"ledger","id":5,"frames":[{"whole_ms":32.7,"stages_ms":{"uplink":0.5,"unaccounted":-0.25}},{"whole_ms":0}]}"#;
        let Ok(ClientMessage::Ledger(ledger)) = ClientMessage::parse(text) else { panic!("{text}") };
        assert_eq!(ledger.frames.len(), 2);
        let stages = BrowserStages { uplink: Some(0.5), unaccounted: Some(-0.25), ..BrowserStages::default() };
        assert_eq!(ledger.frames[0], BrowserLedger { whole_ms: 32.7, stages_ms: stages });
        let written = serde_json::to_string(&ClientMessage::Ledger(ledger.clone())).unwrap();
        assert_eq!(ClientMessage::parse(&written), Ok(ClientMessage::Ledger(ledger)));
    }

    #[test]
    fn a_ledger_that_no_frame_can_have_is_refused_whole() {
        let many = format!("[{}]", vec![r#"{"whole_ms":1}"#; MAX_LEDGER_FRAMES + 1].join(","));
        for (frames, named) in [
            ("[]", "frames"),
            ("7", "frames"),
            ("[{}]", "frames"),
            (many.as_str(), "65 of them"),
            (r#"[{"whole_ms":-1}]"#, "whole_ms"),
            (r#"[{"whole_ms":60001}]"#, "whole_ms"),
            (r#"[{"whole_ms":1},{"whole_ms":1,"stages_ms":{"display":-0.1}}]"#, "display"),
            (r#"[{"whole_ms":1,"stages_ms":{"unaccounted":-70000}}]"#, "unaccounted"),
            (r#"[{"whole_ms":1,"stages_ms":{"infer":1}}]"#, "frames"),
        ] {
            let error = ClientMessage::parse(&format!(r#"{{"type":"ledger","id":9,"frames":{frames}}}"#)).unwrap_err();
            assert_eq!((error.code, error.id), (ErrorCode::InvalidValue, Some(MessageId::Number(9))), "{frames}");
            assert!(error.message.contains(named), "{frames}: {}", error.message);
        }
        assert!(ClientMessage::parse(r#"{"type":"ledger"}"#).unwrap_err().message.contains("frames"));
    }

    #[test]
    fn a_bad_message_is_named_with_its_field_and_its_id() {
        use ErrorCode::{InvalidJson, InvalidValue, UnknownField, UnknownType, UnsupportedVersion};
        for (text, code, part) in [
            ("", InvalidJson, "JSON"),
            ("[1]", InvalidJson, "JSON"),
            (r#"{"type":"config""#, InvalidJson, "JSON"),
            (r#"{"id":7}"#, UnknownType, "type"),
            (r#"{"id":7,"type":"reboot"}"#, UnknownType, "reboot"),
            (r#"{"id":7,"type":"config","confidence":0.5}"#, UnknownField, "\"confidence\""),
            (r#"{"id":7,"type":"config","confidence_threshold":1.5}"#, InvalidValue, "confidence_threshold = 1.5"),
            (r#"{"id":7,"type":"config","iou_threshold":-0.1}"#, InvalidValue, "iou_threshold = -0.1"),
            (r#"{"id":7,"type":"config","iou_threshold":"x"}"#, InvalidValue, "iou_threshold = \"x\""),
            (r#"{"id":7,"type":"config","max_detections":0}"#, InvalidValue, "max_detections = 0"),
            (r#"{"id":7,"type":"config","max_detections":1001}"#, InvalidValue, "max_detections = 1001"),
            (r#"{"id":7,"type":"config","max_detections":2.5}"#, InvalidValue, "max_detections = 2.5"),
            (r#"{"id":7,"type":"config","overlay":"best"}"#, InvalidValue, "overlay = \"best\""),
            (r#"{"id":7,"type":"config","classes":"cat"}"#, InvalidValue, "classes = \"cat\""),
            (r#"{"id":7,"type":"config","classes":[1]}"#, InvalidValue, "classes = [1]"),
            (r#"{"id":7,"type":"config","v":2}"#, UnsupportedVersion, "v = 2"),
            (r#"{"id":7,"type":"ping"}"#, InvalidValue, "t is missing"),
        ] {
            let error = ClientMessage::parse(text).unwrap_err();
            assert_eq!(error.code, code, "{text}");
            assert!(error.message.contains(part), "{text}: {}", error.message);
            assert_eq!(error.id, text.contains("\"id\"").then_some(MessageId::Number(7)), "{text}");
        }
    }

    #[test]
    fn a_strange_id_is_refused_without_echo() {
        for id in ["{}", "-1", "1.5", "true", &format!("\"{}\"", "x".repeat(65))] {
            let error = ClientMessage::parse(&format!(r#"{{"type":"config","id":{id}}}"#)).unwrap_err();
            assert_eq!((error.code, error.id), (ErrorCode::InvalidValue, None), "{id}");
        }
    }

    #[test]
    fn a_huge_message_is_refused_unread_and_a_huge_value_is_not_echoed() {
        let huge = "x".repeat(MAX_CLIENT_MESSAGE_BYTES);
        assert_eq!(ClientMessage::parse(&huge[..]).unwrap_err().code, ErrorCode::InvalidJson);
        assert_eq!(ClientMessage::parse(&format!("{huge}x")).unwrap_err().code, ErrorCode::TooLarge);
        let long = format!(r#"{{"type":"config","{}":1}}"#, "é".repeat(1000));
        assert!(ClientMessage::parse(&long).unwrap_err().message.len() < 200);
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let deep = format!(r#"{{"type":"config","classes":{}"#, "[".repeat(60_000));
        assert_eq!(ClientMessage::parse(&deep).unwrap_err().code, ErrorCode::InvalidJson);
    }

    fn any_config() -> impl Strategy<Value = ConfigMessage> {
        let id = prop_oneof![any::<u64>().prop_map(MessageId::Number), "[a-z\"é]{0,20}".prop_map(MessageId::Text)];
        let overlay = prop_oneof![Just(Overlay::Latest), Just(Overlay::Exact), Just(Overlay::None)];
        (
            prop::option::of(id),
            prop::option::of(0f32..=1.0),
            prop::option::of(0f32..=1.0),
            prop::option::of(prop::option::of(prop::collection::vec(".{0,8}", 0..4))),
            prop::option::of(overlay),
            prop::option::of(1..=MAX_DETECTIONS),
        )
            .prop_map(|(id, confidence_threshold, iou_threshold, classes, overlay, max_detections)| {
                ConfigMessage { v: None, id, confidence_threshold, iou_threshold, classes, overlay, max_detections }
            })
    }

    proptest! {
        #[test]
        fn what_the_type_writes_the_parser_and_the_type_read(config in any_config()) {
            let message = ClientMessage::Config(config);
            let text = serde_json::to_string(&message).unwrap();
            prop_assert_eq!(ClientMessage::parse(&text), Ok(message.clone()));
            prop_assert_eq!(serde_json::from_str::<ClientMessage>(&text).unwrap(), message);
        }

        #[test]
        fn no_text_panics(text in r#"\PC{0,200}"#) {
            let _ = ClientMessage::parse(&text);
        }

        #[test]
        fn no_near_miss_panics(key in "(type|id|v|classes|overlay|max_detections|t|[a-z]{1,5})", value in r#"(null|true|-?[0-9]{1,30}(e[0-9]{1,4})?|"[a-z]{0,9}"|\[[0-9,]{0,5}\]|\{\})"#, kind in "(config|ping|frame)") {
            let _ = ClientMessage::parse(&format!(r#"{{"type":"{kind}","{key}":{value}}}"#));
        }
    }
}
