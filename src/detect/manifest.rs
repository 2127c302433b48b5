//! What a `models/NAME.toml` says about a model: everything that its file does not.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::DetectError;
use super::labels::{COCO80, coco91};
use super::model::{Family, InputSize, InputSpec, OutputSpec};
use super::nms::NmsMode;

/// The manifests that come with the program, by name.
const SHIPPED: [(&str, &str); 9] = [
    ("face", include_str!("../../models/face.toml")),
    ("yolox-nano", include_str!("../../models/yolox-nano.toml")),
    ("light-person", include_str!("../../models/light-person.toml")),
    ("nanodet-m", include_str!("../../models/nanodet-m.toml")),
    ("picodet-s", include_str!("../../models/picodet-s.toml")),
    ("deimv2-atto", include_str!("../../models/deimv2-atto.toml")),
    ("deimv2-femto", include_str!("../../models/deimv2-femto.toml")),
    ("yunet-n", include_str!("../../models/yunet-n.toml")),
    ("ultraface-320", include_str!("../../models/ultraface-320.toml")),
];

/// The largest side of a model's input, in pixels.
const MAX_INPUT_SIDE: usize = 4096;

/// More points than any published pose model has.
pub(super) const MAX_KEYPOINTS: usize = 256;

/// A manifest is small; a larger file is something else.
const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// One model's manifest.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The manifest's file name without `.toml`; not a key of the file.
    #[serde(skip)]
    pub name: String,
    /// The decoding of the outputs.
    pub family: Family,
    /// The model's file name, in the models folder or beside the manifest.
    pub file: String,
    /// Class names, or the name of a known list.
    pub labels: Labels,
    /// The lowest score reported unless told otherwise.
    pub confidence: f32,
    /// The IoU of non-maximum suppression unless told otherwise.
    pub iou: f32,
    /// Whether boxes of different classes suppress each other.
    pub nms: NmsMode,
    /// The licence of the weights (SPDX).
    pub licence: Option<String>,
    /// One line for `models list`.
    pub about: Option<String>,
    /// How a picture becomes the input.
    pub input: InputSpec,
    /// How the outputs are to be read, where the family leaves a choice.
    #[serde(default)]
    pub output: OutputSpec,
    /// Where the file comes from.
    pub source: Option<Source>,
}

/// Class names.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Labels {
    /// The name of a list: `coco80`, or `coco91` (by COCO's own category ids).
    List(String),
    /// The names themselves, by class id.
    Names(Vec<String>),
}

/// Where a model's file comes from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A file inside a wheel of the Python package index.
    Wheel(WheelSource),
    /// A file of a public git repository.
    Repository(RepositorySource),
}

/// A file inside a wheel of the Python package index.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelSource {
    /// The package's name.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// The wheel's file name, by which a mirror on the web has it; unset: `PACKAGE-VERSION-py3-none-any.whl`.
    pub file: Option<String>,
    /// SHA-256 of the wheel, lower-case hex.
    pub wheel_sha256: String,
    /// The file's path inside the wheel.
    pub path: String,
    /// SHA-256 of the file inside the wheel, before any rewriting.
    pub sha256: String,
    /// SHA-256 of the file after the rewrite that makes the runtime accept its graph; unset: it is used as it is.
    pub rewritten_sha256: Option<String>,
}

/// A file of a public git repository.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositorySource {
    /// The repository's address.
    pub repository: String,
    /// The commit that the file was taken from.
    pub commit: String,
    /// The file's path in the repository.
    pub path: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
}

impl Source {
    /// SHA-256 of the model's file as it stands in the models folder, after any rewriting.
    #[must_use]
    pub fn stored_sha256(&self) -> &str {
        match self {
            Self::Wheel(wheel) => wheel.rewritten_sha256.as_ref().unwrap_or(&wheel.sha256),
            Self::Repository(file) => &file.sha256,
        }
    }

    /// One line that says where the file comes from.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Wheel(wheel) => format!("{} of the wheel {}=={}", wheel.path, wheel.package, wheel.version),
            Self::Repository(file) => format!("{} of {} at {}", file.path, file.repository, file.commit),
        }
    }
}

impl Manifest {
    /// The names of the manifests that come with the program.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The manifest of that name that comes with the program.
    ///
    /// # Errors
    /// [`DetectError::Unusable`] if it does not parse, which a test rules out.
    pub fn shipped(name: &str) -> Result<Option<Self>, DetectError> {
        SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| Self::parse(name, text)).transpose()
    }

    /// The manifest in a file, if there is one.
    ///
    /// # Errors
    /// [`DetectError::Unusable`] when the file cannot be read or does not parse: names the file, key and value.
    pub fn read(path: &Path) -> Result<Option<Self>, DetectError> {
        let refuse = |reason: String| DetectError::Unusable { model: path.display().to_string(), reason };
        let Ok(meta) = std::fs::metadata(path) else { return Ok(None) };
        if meta.len() > MAX_MANIFEST_BYTES {
            return Err(refuse(format!("a manifest of {} bytes; at most {MAX_MANIFEST_BYTES} are read", meta.len())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::parse(&name, &text).map(Some)
    }

    /// Reads a manifest's text.
    ///
    /// # Errors
    /// [`DetectError::Unusable`]: names the key and the value.
    pub fn parse(name: &str, text: &str) -> Result<Self, DetectError> {
        let refuse = |reason: String| DetectError::Unusable { model: format!("{name}.toml"), reason };
        let mut manifest: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        name.clone_into(&mut manifest.name);
        manifest.validate().map_err(refuse)?;
        Ok(manifest)
    }

    /// The class names by class id.
    #[must_use]
    pub fn labels(&self) -> Arc<[Arc<str>]> {
        match &self.labels {
            Labels::List(list) if list == "coco91" => coco91().into_iter().map(Arc::from).collect(),
            // `validate` knows no other list.
            Labels::List(_) => COCO80.iter().map(|name| Arc::from(*name)).collect(),
            Labels::Names(names) => names.iter().map(|name| Arc::from(name.as_str())).collect(),
        }
    }

    fn validate(&self) -> Result<(), String> {
        for (key, value) in [("confidence", self.confidence), ("iou", self.iou)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{key} = {value}: from 0 to 1 is possible"));
            }
        }
        match &self.labels {
            Labels::List(list) if !["coco80", "coco91"].contains(&list.as_str()) => {
                return Err(format!(
                    "labels = \"{list}\": the known lists are \"coco80\" and \"coco91\"; others are written out"
                ));
            }
            Labels::Names(names) if names.is_empty() => return Err("labels = []: at least one is needed".into()),
            _ => {}
        }
        if self.family == Family::Motion {
            return Err("family = \"motion\": the built-in detector has no manifest".into());
        }
        // A manifest may come with a downloaded model: it must not reach out of its folder.
        if self.file.is_empty() || self.file.contains(['/', '\\']) || self.file == ".." {
            return Err(format!("file = \"{}\": a file name without folders is needed", self.file));
        }
        if let Some([count, values]) = self.output.keypoints
            && (!(1..=MAX_KEYPOINTS).contains(&count) || !(2..=3).contains(&values))
        {
            return Err(format!(
                "output.keypoints = [{count}, {values}]: 1 to {MAX_KEYPOINTS} points of 2 or 3 values are possible"
            ));
        }
        self.input.validate()
    }
}

impl InputSpec {
    /// Checks what the arithmetic relies on.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub(super) fn validate(&self) -> Result<(), String> {
        let side = |key: &str, value: usize| {
            if (1..=MAX_INPUT_SIDE).contains(&value) {
                Ok(())
            } else {
                Err(format!("input.size {key} = {value}: from 1 to {MAX_INPUT_SIDE} is possible"))
            }
        };
        match self.size {
            InputSize::Fixed { width, height } => {
                side("width", width)?;
                side("height", height)?;
            }
            InputSize::LongerSide { side: longer, multiple } => {
                side("side", longer)?;
                side("multiple", multiple)?;
                if multiple > longer {
                    return Err(format!("input.size multiple = {multiple}: at most the side, {longer}, is possible"));
                }
            }
            InputSize::Source { multiple, at_most } => {
                side("at_most", at_most)?;
                side("multiple", multiple)?;
                if multiple > at_most {
                    return Err(format!(
                        "input.size multiple = {multiple}: no more than at_most, {at_most}, is possible"
                    ));
                }
            }
        }
        if !self.mean.iter().all(|value| value.is_finite()) {
            return Err(format!("input.mean = {:?}: numbers are needed", self.mean));
        }
        if !self.std.iter().all(|value| value.is_normal()) {
            return Err(format!("input.std = {:?}: numbers other than 0 are needed", self.std));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_shipped_manifest_parses_and_is_named_after_its_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".toml").map(String::from))
            .collect();
        files.sort_unstable();
        let mut shipped: Vec<_> = Manifest::shipped_names().map(String::from).collect();
        shipped.sort_unstable();
        assert_eq!(files, shipped, "the folder and the embedded list");
        for name in shipped {
            let manifest = Manifest::shipped(&name).unwrap().unwrap();
            assert_eq!(manifest.name, name);
            assert!(manifest.licence.is_some() && manifest.about.is_some() && manifest.source.is_some(), "{name}");
        }
    }

    #[test]
    fn the_default_model_comes_from_a_pinned_wheel_and_is_rewritten() {
        let manifest = Manifest::shipped("face").unwrap().unwrap();
        let Some(Source::Wheel(wheel)) = manifest.source else { panic!("{:?}", manifest.source) };
        let rewritten = wheel.rewritten_sha256.unwrap();
        assert_eq!([wheel.wheel_sha256, wheel.sha256, rewritten].map(|hash| hash.len()), [64; 3]);
        assert_eq!(manifest.labels.clone(), Labels::Names(vec!["face".into()]));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        let good = SHIPPED[1].1;
        for (from, to, expected) in [
            ("confidence = 0.3", "confidence = 3.0", "confidence = 3"),
            ("labels = \"coco80\"", "labels = \"coco\"", "labels = \"coco\""),
            ("labels = \"coco80\"", "labels = []", "labels = []"),
            ("family = \"yolox\"", "family = \"yolo\"", "yolo"),
            ("family = \"yolox\"", "family = \"motion\"", "motion"),
            ("width = 416", "width = 0", "width = 0"),
            ("width = 416", "width = 100000", "width = 100000"),
            ("pad = 114", "std = [1.0, 0.0, 1.0]", "input.std"),
            ("pad = 114", "mean = [nan, 0.0, 1.0]", "input.mean"),
            ("pad = 114", "padding = 114", "padding"),
            ("file = \"yolox_nano_416.onnx\"", "file = \"../secret\"", "../secret"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = Manifest::parse("bad", &good.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("bad.toml"), "{error}");
        }
    }

    #[test]
    fn a_manifest_that_is_not_there_is_no_error() {
        assert_eq!(Manifest::read(Path::new("/nonexistent/x.toml")).unwrap(), None);
        assert_eq!(Manifest::shipped("nonexistent").unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", cut in 0usize..700) {
            let _ = Manifest::parse("any", &text);
            let good = SHIPPED[0].1;
            let _ = Manifest::parse("cut", good.get(..cut.min(good.len())).unwrap_or_default());
        }
    }
}
