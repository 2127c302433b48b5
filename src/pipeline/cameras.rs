//! The cameras of a server: what is known of each, and what changes when somebody says otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::camera::Camera;
use super::names::checked_name;
use super::options::{Mode, PipelineError};
use super::privacy::{BeforeFirst, MaskVeil};
use super::registry::Pipeline;
use super::rules::Rules;
use super::status::StreamStatus;
use super::video::lock;
use crate::annotate::Veil;
use crate::detect::{CascadeStage, Priority, RegionConfig, Sampling, Zone};
use crate::source::camera::{Address, CameraStatus, Transport};

/// A camera, as it stands in the configuration and in the API. What is written of it has no password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraConfig {
    /// Where it is: `rtsp://user:password@host/path`, `http://…` (Motion JPEG), `file:PATH` (played in a loop).
    pub url: Address,
    /// How RTP comes from an RTSP camera: `tcp` or `udp`.
    #[serde(default)]
    pub transport: Transport,
    /// Its smaller stream: the detector looks at that one, the viewers at the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_url: Option<Address>,
    /// False: the camera keeps its place, and is not opened.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// True: it is open only while somebody watches.
    #[serde(default)]
    pub on_demand: bool,
    /// What a viewer sees that does not choose: `annotated`, `original` or `detect_only`.
    #[serde(default)]
    pub mode: Mode,
    /// The model that looks at it: a name or a path, as in `[detect]`; that of the server when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its share of the detector: 1 (the most) to 9.
    #[serde(default = "first")]
    pub priority: u32,
    /// Where in the picture detections count: the corners of a polygon, as shares of width and height; everywhere when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zone: Vec<[f32; 2]>,
    /// Which frames the detector looks at; as `[stream]` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Zones, lines and include or exclude polygons, by name; those of `[stream]` when there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<String, RegionConfig>,
    /// They are drawn, with their counts; as `[stream]` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw_regions: Option<bool>,
    /// Classes whose objects nobody may see; those of `[stream]` when absent, none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blur: Option<Vec<String>>,
    /// How those are hidden: `blur`, `pixelate` or `black`; as `[stream]` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Veil>,
    /// What is shown before the detector's first result: `blur_all` or `show`; as `[stream]` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_before_first: Option<BeforeFirst>,
    /// Polygons that nobody may see; those of `[stream]` when absent, none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<Vec<Vec<[f32; 2]>>>,
    /// How those are hidden: `black`, `blur` or `pixelate`; as `[stream]` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_style: Option<MaskVeil>,
    /// How old its boxes may be, in milliseconds; as `[stream]` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_budget_ms: Option<u64>,
    /// The models that look where that is missed, heaviest first; those of `[stream]` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lighter_models: Option<Vec<String>>,
    /// Stages in place of one model; those of `[stream]` when absent and the camera has no model of its own, none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cascade: Option<Vec<CascadeStage>>,
}

fn yes() -> bool {
    true
}

fn first() -> u32 {
    1
}

impl CameraConfig {
    /// A camera at an address, with the default of everything else.
    #[must_use]
    pub fn at(url: Address) -> Self {
        Self {
            url,
            transport: Transport::default(),
            detect_url: None,
            enabled: true,
            on_demand: false,
            mode: Mode::default(),
            model: None,
            priority: 1,
            zone: Vec::new(),
            sampling: None,
            regions: BTreeMap::new(),
            draw_regions: None,
            blur: None,
            privacy: None,
            privacy_before_first: None,
            masks: None,
            mask_style: None,
            detection_budget_ms: None,
            lighter_models: None,
            cascade: None,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key, the value and what is possible.
    pub fn validate(&self) -> Result<(), String> {
        self.lane_priority()?;
        self.lane_zone()?;
        // What `[stream]` says of the budget is not known here.
        let assumed = if self.lighter_models.as_ref().is_some_and(|models| !models.is_empty()) { 1000 } else { 0 };
        self.rules(&Rules { detection_budget_ms: assumed, ..Rules::default() }).validate()?;
        if self.model.is_some() && self.cascade.as_ref().is_some_and(|cascade| !cascade.is_empty()) {
            return Err("model and cascade: leave one of them out".to_owned());
        }
        if self.model.as_ref().is_some_and(String::is_empty) {
            return Err("model = \"\": a name or a path; leave it out for the server's".to_owned());
        }
        Ok(())
    }

    /// How its stream is looked at, where `defaults` hold for what it does not say.
    pub(super) fn rules(&self, defaults: &Rules) -> Rules {
        let regions = if self.regions.is_empty() { &defaults.regions } else { &self.regions };
        Rules {
            sampling: self.sampling.unwrap_or(defaults.sampling),
            regions: regions.clone(),
            draw_regions: self.draw_regions.unwrap_or(defaults.draw_regions),
            blur: self.blur.as_ref().unwrap_or(&defaults.blur).clone(),
            privacy: self.privacy.unwrap_or(defaults.privacy),
            privacy_before_first: self.privacy_before_first.unwrap_or(defaults.privacy_before_first),
            masks: self.masks.as_ref().unwrap_or(&defaults.masks).clone(),
            mask_style: self.mask_style.unwrap_or(defaults.mask_style),
            detection_budget_ms: self.detection_budget_ms.unwrap_or(defaults.detection_budget_ms),
            lighter_models: self.lighter_models.as_ref().unwrap_or(&defaults.lighter_models).clone(),
            cascade: match &self.cascade {
                Some(cascade) => cascade.clone(),
                None if self.model.is_some() => Vec::new(),
                None => defaults.cascade.clone(),
            },
        }
    }

    pub(super) fn lane_priority(&self) -> Result<Priority, String> {
        Priority::new(self.priority)
    }

    pub(super) fn lane_zone(&self) -> Result<Option<Zone>, String> {
        Zone::new(&self.zone)
    }
}

/// Who named a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file.
    Config,
    /// The command line or the environment.
    Flag,
    /// The API.
    Api,
}

/// What a new set of cameras changed, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones.
    pub added: Vec<String>,
    /// Those that are run in another way from now on.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
    /// Those that could not be had, and why.
    pub refused: Vec<(String, String)>,
}

/// A camera as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct CameraReport {
    /// Its name, and its stream's.
    pub name: String,
    /// Who named it.
    pub origin: Origin,
    /// How it is run, without secrets.
    #[serde(flatten)]
    pub config: CameraConfig,
    /// How it is.
    pub status: CameraStatus,
    /// How its smaller stream is, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_status: Option<CameraStatus>,
    /// How its stream is doing.
    pub stream: StreamStatus,
}

/// All cameras by name.
#[derive(Default)]
pub(super) struct Cameras(Mutex<Book>);

#[derive(Default)]
struct Book {
    cameras: BTreeMap<String, Arc<Camera>>,
    /// What was last declared by the file and by the command line. Against this a new set is compared, and not against what
    /// runs: what somebody changed at run time stays until its own declaration changes.
    declared: BTreeMap<Origin, BTreeMap<String, CameraConfig>>,
}

impl Cameras {
    fn get(&self, name: &str) -> Option<Arc<Camera>> {
        lock(&self.0).cameras.get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Camera>> {
        lock(&self.0).cameras.values().cloned().collect()
    }

    /// How the camera of this name is.
    pub(super) fn status(&self, name: &str) -> Option<CameraStatus> {
        self.get(name).map(|camera| camera.status())
    }

    pub(super) fn publish_metrics(&self) {
        self.all().iter().for_each(|camera| camera.publish_metrics());
    }
}

impl Pipeline {
    /// The cameras of the configuration file, at the start and after each reload: those whose declaration is the same go on
    /// untouched.
    pub fn set_cameras(self: &Arc<Self>, cameras: BTreeMap<String, CameraConfig>) -> Changes {
        self.declare_cameras(Origin::Config, cameras)
    }

    /// All cameras that `origin` names, in place of those that it named before.
    pub fn declare_cameras(self: &Arc<Self>, origin: Origin, cameras: BTreeMap<String, CameraConfig>) -> Changes {
        let mut changes = Changes::default();
        let mut book = lock(&self.cameras.0);
        let before = book.declared.insert(origin, cameras.clone()).unwrap_or_default();
        for name in before.keys().filter(|name| !cameras.contains_key(*name)) {
            let ours = book.cameras.get(name).is_some_and(|camera| camera.origin() == origin);
            if ours && let Some(camera) = book.cameras.remove(name) {
                camera.remove(self);
                changes.removed.push(name.clone());
            }
        }
        for (name, config) in cameras {
            if before.get(&name) == Some(&config) {
                continue;
            }
            match self.declare(&mut book, origin, &name, config) {
                Ok(true) => changes.added.push(name),
                Ok(false) => changes.changed.push(name),
                Err(error) => {
                    // It is not declared, so that the next set tries it again.
                    if let Some(declared) = book.declared.get_mut(&origin) {
                        declared.remove(&name);
                    }
                    changes.refused.push((name, error.to_string()));
                }
            }
        }
        changes
    }

    fn declare(
        self: &Arc<Self>,
        book: &mut Book,
        origin: Origin,
        name: &str,
        config: CameraConfig,
    ) -> Result<bool, PipelineError> {
        check(name, &config)?;
        match book.cameras.get(name) {
            Some(camera) if camera.origin() == origin => {
                camera.change(config);
                Ok(false)
            }
            Some(_) => Err(PipelineError::NameTaken(name.to_owned())),
            None => {
                self.open_camera(book, origin, name, config)?;
                Ok(true)
            }
        }
    }

    fn open_camera(
        self: &Arc<Self>,
        book: &mut Book,
        origin: Origin,
        name: &str,
        config: CameraConfig,
    ) -> Result<(), PipelineError> {
        let camera = Camera::start(self, origin, checked_name(name.to_owned())?, config)?;
        book.cameras.insert(name.to_owned(), camera);
        Ok(())
    }

    /// A camera more, by the API.
    ///
    /// # Errors
    /// [`PipelineError::NameTaken`], [`PipelineError::BadName`], [`PipelineError::BadCamera`],
    /// [`PipelineError::TooManyCameras`].
    pub fn add_camera(self: &Arc<Self>, name: &str, config: CameraConfig) -> Result<(), PipelineError> {
        check(name, &config)?;
        let mut book = lock(&self.cameras.0);
        if book.cameras.contains_key(name) {
            return Err(PipelineError::NameTaken(name.to_owned()));
        }
        let added = book.cameras.values().filter(|camera| camera.origin() == Origin::Api).count();
        if added >= self.config.max_cameras {
            return Err(PipelineError::TooManyCameras(added));
        }
        self.open_camera(&mut book, Origin::Api, name, config)
    }

    /// Runs a camera in another way from now on; one of the file until its entry there changes, or the server starts again.
    ///
    /// # Errors
    /// [`PipelineError::NoSuchCamera`], [`PipelineError::BadCamera`].
    pub fn change_camera(&self, name: &str, config: CameraConfig) -> Result<(), PipelineError> {
        let camera = self.cameras.get(name).ok_or_else(|| PipelineError::NoSuchCamera(name.to_owned()))?;
        check(name, &config)?;
        camera.change(config);
        Ok(())
    }

    /// Takes a camera out; its stream ends, and its viewers leave.
    ///
    /// # Errors
    /// [`PipelineError::NoSuchCamera`].
    pub fn remove_camera(&self, name: &str) -> Result<(), PipelineError> {
        let camera = lock(&self.cameras.0).cameras.remove(name);
        let camera = camera.ok_or_else(|| PipelineError::NoSuchCamera(name.to_owned()))?;
        camera.remove(self);
        Ok(())
    }

    /// All cameras by name.
    #[must_use]
    pub fn cameras(&self) -> Vec<CameraReport> {
        self.cameras.all().iter().map(|camera| camera.report()).collect()
    }

    /// The camera of this name.
    #[must_use]
    pub fn camera(&self, name: &str) -> Option<CameraReport> {
        self.cameras.get(name).map(|camera| camera.report())
    }

    /// How a camera is run, with its secrets: to be changed, or kept in a file that only the server reads.
    #[must_use]
    pub fn camera_config(&self, name: &str) -> Option<CameraConfig> {
        self.cameras.get(name).map(|camera| camera.config())
    }
}

fn check(name: &str, config: &CameraConfig) -> Result<(), PipelineError> {
    checked_name(name.to_owned())?;
    config.validate().map_err(|reason| PipelineError::BadCamera { name: name.to_owned(), reason })
}
