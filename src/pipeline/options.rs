//! The `[pipeline]` table of the configuration, and what can go wrong.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use crate::decode::DecodeError;
use crate::detect::{DetectError, ReplaceError};
use crate::encode::EncodeError;
use crate::peer::PeerError;
use crate::sink::message::Overlay;

/// How streams and sessions are run.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Sessions that may publish at the same time; one more is refused with 503.
    pub max_sessions: usize,
    /// Viewers (WHEP) that may watch at the same time, of all streams together; one more is refused with 503.
    pub max_viewers: usize,
    /// Cameras that may be added at run time, by the API; one more is refused. Those of the file and of the command line are not
    /// counted.
    pub max_cameras: usize,
    /// What a publisher is told to send at most, in kbit/s (REMB).
    pub max_publish_kbps: u32,
    /// What is drawn on a new stream: `latest`, `exact` or `none`.
    pub overlay: Overlay,
    /// Boxes older than this are not drawn, in milliseconds.
    pub max_box_age_ms: u64,
    /// Boxes are moved to where the objects are in the frame that they are drawn on.
    pub follow: bool,
    /// A frame that would leave later than this after it came is dropped before it is encoded, in milliseconds.
    pub max_latency_ms: u64,
    /// When the machine has too much to do, the detector looks less often, then pictures are encoded with fewer bits, smaller,
    /// and less often. Without it, only `max_latency_ms` holds.
    pub give_way: bool,
    /// When nothing is left to give, new publishers are refused with 503.
    pub admission: bool,
    /// A publisher that sends no RTP for this long has left, in milliseconds.
    pub silence_timeout_ms: u64,
    /// A WHIP stream whose publisher has left waits this long for it to come back, in milliseconds; its viewers stay.
    pub publisher_grace_ms: u64,
    /// A camera that is opened on demand is closed this long after its last viewer has left, in milliseconds.
    pub on_demand_close_ms: u64,
    /// How every stream is looked at: the table `[stream]`.
    #[serde(skip)]
    pub stream: Rules,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions: 16,
            max_viewers: 100,
            max_cameras: 64,
            max_publish_kbps: 8000,
            overlay: Overlay::Latest,
            max_box_age_ms: 500,
            follow: true,
            max_latency_ms: 200,
            give_way: true,
            admission: true,
            silence_timeout_ms: 3000,
            publisher_grace_ms: 10_000,
            on_demand_close_ms: 10_000,
            stream: Rules::default(),
        }
    }
}

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_sessions == 0 {
            return Err("max_sessions = 0: at least 1".to_owned());
        }
        if self.max_viewers == 0 {
            return Err("max_viewers = 0: at least 1".to_owned());
        }
        for (key, value) in
            [("publisher_grace_ms", self.publisher_grace_ms), ("on_demand_close_ms", self.on_demand_close_ms)]
        {
            if value > 600_000 {
                return Err(format!("{key} = {value}: 0 to 600000"));
            }
        }
        if !(100..=100_000).contains(&self.max_publish_kbps) {
            return Err(format!("max_publish_kbps = {}: 100 to 100000", self.max_publish_kbps));
        }
        if !(500..=60_000).contains(&self.silence_timeout_ms) {
            return Err(format!("silence_timeout_ms = {}: 500 to 60000", self.silence_timeout_ms));
        }
        if !(1..=10_000).contains(&self.max_box_age_ms) {
            return Err(format!("max_box_age_ms = {}: 1 to 10000", self.max_box_age_ms));
        }
        if !(10..=10_000).contains(&self.max_latency_ms) {
            return Err(format!("max_latency_ms = {}: 10 to 10000", self.max_latency_ms));
        }
        Ok(())
    }
}

/// What a viewer of a stream sees that does not choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The pictures with boxes in them.
    #[default]
    Annotated,
    /// The source's own pictures, untouched; the boxes come as messages.
    Original,
    /// No video: the messages alone.
    DetectOnly,
}

/// Why a stream or a session could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The offer was refused.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The decoder could not be made.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The encoder could not be made.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The detector could not be made.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// A model was not replaced.
    #[error(transparent)]
    Model(#[from] ReplaceError),
    /// There are as many sessions as the configuration allows.
    #[error("{0} sessions are running, which is max_sessions; end one, or raise --max-sessions")]
    TooManySessions(usize),
    /// All that can give way has: one more would cost latency.
    #[error(
        "the machine is full: frames of the streams that it has wait although everything has given way; try again later, end \
             a session, or set admission = false in [pipeline]"
    )]
    Full,
    /// There are as many viewers as the configuration allows.
    #[error("{0} viewers are watching, which is max_viewers; raise it in [pipeline]")]
    TooManyViewers(usize),
    /// As many cameras were added by the API as the configuration allows.
    #[error("{0} cameras were added at run time, which is max_cameras; remove one, or raise it in [pipeline]")]
    TooManyCameras(usize),
    /// There is no stream of this name.
    #[error("there is no stream {0:?}; GET /api/v1/streams lists those that there are")]
    NoSuchStream(String),
    /// There is no camera of this name.
    #[error("there is no camera {0:?}; GET /api/v1/cameras lists those that there are")]
    NoSuchCamera(String),
    /// A camera's settings cannot be used.
    #[error("camera {name:?}: {reason}")]
    BadCamera {
        /// The camera.
        name: String,
        /// Key, value, and what is possible.
        reason: String,
    },
    /// The wished name cannot be used.
    #[error("stream {name:?}: {reason}")]
    BadName {
        /// The wish.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Somebody publishes under this name.
    #[error("stream {0:?} is there already; choose another name (a WHIP publisher may take over from another)")]
    NameTaken(String),
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The answer could not be made, by a fault of ours.
    #[error("the offer could not be answered: {0}")]
    Fault(String),
    /// The server is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn modes_are_written_as_in_the_configuration() {
        assert_eq!(serde_json::to_string(&Mode::DetectOnly).unwrap(), "\"detect_only\"");
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let config = Config { silence_timeout_ms: 3, ..Config::default() };
        assert!(config.validate().unwrap_err().contains("silence_timeout_ms = 3"));
    }
}
