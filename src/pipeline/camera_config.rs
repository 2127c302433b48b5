//! One camera as it is configured, in the file and over the API alike.

use serde::{Deserialize, Serialize};

use super::options::{Mode, PipelineError};
use super::registry::checked_name;
use crate::source::camera::{Address, Transport};

/// The most corners of a zone.
const MAX_CORNERS: usize = 64;
/// The highest priority: weights further apart would starve the others.
const MAX_PRIORITY: u32 = 100;

/// A camera: `[cameras.NAME]` in the configuration, or what `/api/v1/cameras` takes. Serialized without secrets.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CameraConfig {
    /// Where it is: `rtsp://…`, `http://…` (Motion JPEG), or `file:PATH`, a video that is played in a loop.
    pub url: Address,
    /// How RTP comes: `tcp`, or `udp` where the camera cannot do otherwise.
    #[serde(default)]
    pub transport: Transport,
    /// The camera's smaller stream of the same picture: the detector looks at that one, `url` is what is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_url: Option<Address>,
    /// False: paused. Its place and its viewers stay.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Connect only while somebody watches, and 10 s longer.
    #[serde(default)]
    pub on_demand: bool,
    /// What a viewer sees that does not choose.
    #[serde(default)]
    pub mode: Mode,
    /// The model that looks at it: a name, or the path of an .onnx file; `None`: that of `[detect]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its share of the detector beside the other streams, 1 to 100.
    #[serde(default = "one")]
    pub priority: u32,
    /// The corners of the area in which objects are reported, as shares of width and height, 0 to 1; empty: everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zone: Vec<[f32; 2]>,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

impl CameraConfig {
    /// A camera with the defaults.
    #[must_use]
    pub fn new(url: Address) -> Self {
        Self {
            url,
            transport: Transport::default(),
            detect_url: None,
            enabled: true,
            on_demand: false,
            mode: Mode::default(),
            model: None,
            priority: one(),
            zone: Vec::new(),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn validate(&self) -> Result<(), String> {
        if self.model.as_ref().is_some_and(|model| model.trim().is_empty()) {
            return Err("model = \"\": name a model, or leave the key out".to_owned());
        }
        if !(1..=MAX_PRIORITY).contains(&self.priority) {
            return Err(format!("priority = {}: 1 to {MAX_PRIORITY}", self.priority));
        }
        let corners = self.zone.len();
        if corners != 0 && !(3..=MAX_CORNERS).contains(&corners) {
            return Err(format!("zone has {corners} corners: 3 to {MAX_CORNERS}, or none for the whole picture"));
        }
        if let Some([x, y]) = self.zone.iter().find(|corner| !corner.iter().all(|share| (0.0..=1.0).contains(share))) {
            return Err(format!("zone = [[{x}, {y}], …]: shares of width and height, 0 to 1"));
        }
        Ok(())
    }
}

/// Whether a stream can have this name.
///
/// # Errors
/// [`PipelineError::BadName`].
pub fn check_name(name: &str) -> Result<(), PipelineError> {
    checked_name(name.to_owned()).map(drop)
}

/// A text in which an address may stand, with the secrets of every address in it hidden: for messages that quote what a
/// person wrote. What looks like an address and cannot be read as one is hidden whole.
#[must_use]
pub fn hide_secrets(text: &str) -> String {
    let quote = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    text.split_inclusive(quote)
        .map(|word| {
            let body = word.trim_end_matches(quote);
            let end = word.get(body.len()..).unwrap_or_default();
            match (body.parse::<Address>(), body.find("://").map(|at| at + 3)) {
                (Ok(address), _) => format!("{address}{end}"),
                (Err(_), Some(at)) => format!("{}***{end}", body.get(..at).unwrap_or_default()),
                (Err(_), None) if body.contains('@') => format!("***{end}"),
                (Err(_), None) => word.to_owned(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<CameraConfig, String> {
        let camera: CameraConfig = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        camera.validate().map(|()| camera)
    }

    #[test]
    fn an_address_is_enough() {
        let camera = read("url = \"rtsp://cam/live\"").unwrap();
        assert_eq!(camera, CameraConfig::new("rtsp://cam/live".parse().unwrap()));
        assert!(camera.enabled && !camera.on_demand && camera.mode == Mode::Annotated);
    }

    #[test]
    fn every_key_is_read() {
        let camera = read(
            "url = \"rtsp://cam/1\"\ntransport = \"udp\"\ndetect_url = \"rtsp://cam/2\"\nenabled = false\non_demand = true\n\
             mode = \"detect_only\"\nmodel = \"yolox-nano\"\npriority = 3\nzone = [[0.1, 0], [1, 0], [1, 1]]",
        )
        .unwrap();
        assert_eq!((camera.transport, camera.mode, camera.priority), (Transport::Udp, Mode::DetectOnly, 3));
        assert_eq!(camera.detect_url.unwrap().reveal(), "rtsp://cam/2");
        assert_eq!(camera.zone, [[0.1, 0.0], [1.0, 0.0], [1.0, 1.0]]);
    }

    #[test]
    fn what_is_wrong_is_named_and_a_password_is_not() {
        for (text, hint) in [
            ("enabled = true", "url"),
            ("urls = \"rtsp://u:s3cret@cam/\"", "urls"),
            ("url = \"https://u:s3cret@cam/\"", "https"),
            ("url = \"rtsp://cam/\"\ndetect_url = \"u:s3cret@cam\"", "rtsp://"),
            ("url = \"rtsp://u:s3cret@cam/\"\npriority = 0", "priority = 0"),
            ("url = \"rtsp://u:s3cret@cam/\"\nmode = \"boxes\"", "annotated"),
            ("url = \"rtsp://u:s3cret@cam/\"\nmodel = \" \"", "model"),
            ("url = \"rtsp://cam/\"\nzone = [[0, 0], [1, 1]]", "2 corners"),
            ("url = \"rtsp://cam/\"\nzone = [[0, 0], [1, 1], [0, 1.5]]", "[0, 1.5]"),
            ("url = \"rtsp://cam/\"\nzone = [[0, 0], [1, 1], [0, nan]]", "zone"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(hint) && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let camera = read("url = \"rtsp://u:s3cret@cam/1\"\ndetect_url = \"http://cam/?pwd=s3cret\"").unwrap();
        let shown = serde_json::to_string(&camera).unwrap() + &format!("{camera:?}");
        assert!(shown.contains("rtsp://u:***@cam/1") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn addresses_in_a_message_lose_their_secrets() {
        for (text, shown) in [
            (
                "unknown variant `rtsp://u:s3cret@cam/1`, expected `tcp`",
                "unknown variant `rtsp://u:***@cam/1`, expected `tcp`",
            ),
            ("string \"https://u:s3cret@cam/1\", expected", "string \"https://***\", expected"),
            ("s3:s3cret@cam is no address", "*** is no address"),
            ("write rtsp:// or http://", "write rtsp://*** or http://***"),
            ("nothing  to hide", "nothing  to hide"),
        ] {
            assert_eq!(hide_secrets(text), shown);
        }
    }

    proptest! {
        #[test]
        fn no_password_stands_in_a_message(
            before in "[a-z `\"]{0,12}", user in "[a-z]{1,5}", password in "[A-Z!$%&*+/:=?@#]{3,12}", after in "[a-z `\"]{0,12}",
        ) {
            let hidden = hide_secrets(&format!("{before} rtsp://{user}:{password}@cam/live {after}"));
            prop_assert!(!hidden.contains(&password), "{}", hidden);
        }
    }
}
