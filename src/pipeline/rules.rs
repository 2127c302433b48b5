//! The `[stream]` table of the configuration: how every stream is looked at, unless its camera says otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::privacy::{self, BeforeFirst, MaskVeil, Privacy};
use crate::annotate::Veil;
use crate::detect::{Cascade, CascadeStage, LaneOptions, RegionConfig, RegionSet, Sampling};

/// How a stream is looked at. The table `[stream]` holds for publishers, and for each key that a camera does not set itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Which frames the detector looks at: `every`, `every_n`, `keyframes`, `motion`, `scene_change` or `adaptive`, or a table
    /// with `mode` and its parameters.
    pub sampling: Sampling,
    /// Zones, lines and include or exclude polygons, by name.
    pub regions: BTreeMap<String, RegionConfig>,
    /// They are drawn, with their counts.
    pub draw_regions: bool,
    /// Classes whose objects nobody may see, on any picture that leaves.
    pub blur: Vec<String>,
    /// How those are hidden: `blur`, `pixelate` or `black`.
    pub privacy: Veil,
    /// What is shown before the detector's first result: `blur_all` hides the whole picture, `show` the masks alone.
    pub privacy_before_first: BeforeFirst,
    /// Polygons that nobody may see, each a list of corners in shares of width and height.
    pub masks: Vec<Vec<[f32; 2]>>,
    /// How those are hidden: `black`, `blur` or `pixelate`.
    pub mask_style: MaskVeil,
    /// Boxes are to be no older than this, in milliseconds: the detector looks as seldom as that allows, and by a lighter model where
    /// a look takes too long. 0: it looks at every frame that it can.
    pub detection_budget_ms: u64,
    /// The models that look in the place of the stream's own where that is too slow for the budget, heaviest first.
    pub lighter_models: Vec<String>,
    /// Stages in place of one model: a strategy of sampling, a model with the classes that go on, a model for the crops.
    pub cascade: Vec<CascadeStage>,
}

impl Rules {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key, the value and what is possible.
    pub fn validate(&self) -> Result<(), String> {
        self.sampling.validate()?;
        RegionSet::new(&self.regions)?;
        let cascade = Cascade::new(&self.cascade)?;
        if self.detection_budget_ms != 0 && !(50..=10_000).contains(&self.detection_budget_ms) {
            return Err(format!("detection_budget_ms = {}: 0 (none), or 50 to 10000", self.detection_budget_ms));
        }
        if !self.lighter_models.is_empty() && self.detection_budget_ms == 0 {
            return Err("lighter_models: they look where detection_budget_ms is missed, and that is 0".to_owned());
        }
        if !self.lighter_models.is_empty() && cascade.is_some() {
            return Err("lighter_models: a cascade names its models itself; leave one of them out".to_owned());
        }
        if self.sampling != Sampling::default() && cascade.is_some_and(|cascade| cascade.sampling.is_some()) {
            return Err("sampling: the cascade begins with one too; leave one of them out".to_owned());
        }
        self.hiding().validate()
    }

    /// How old boxes may be; zero for whatever they are.
    pub(super) fn budget(&self) -> Duration {
        Duration::from_millis(self.detection_budget_ms)
    }

    /// The cascade, if there is one.
    pub(super) fn cascade(&self) -> Option<Cascade> {
        // It was checked before.
        Cascade::new(&self.cascade).ok().flatten()
    }

    /// Which frames are looked at: the first stage of a cascade says so, where it has one.
    pub(super) fn sampling(&self) -> Sampling {
        self.cascade().and_then(|cascade| cascade.sampling).unwrap_or(self.sampling)
    }

    /// What is hidden.
    pub(super) fn hiding(&self) -> Privacy {
        Privacy {
            classes: self.blur.clone(),
            veil: self.privacy,
            before_first: self.privacy_before_first,
            masks: self.masks.clone(),
            mask_veil: self.mask_style,
        }
    }

    /// The time after which a frame is looked at whatever the sampling says.
    pub(super) fn at_least(&self) -> Option<Duration> {
        (!self.blur.is_empty()).then_some(privacy::AT_LEAST)
    }

    pub(super) fn region_set(&self) -> RegionSet {
        // They were checked before.
        RegionSet::new(&self.regions).unwrap_or_default()
    }

    /// What of them a lane has to know.
    pub(super) fn lane(&self, options: LaneOptions) -> LaneOptions {
        let veiled = self.blur.clone();
        LaneOptions {
            cascade: self.cascade(),
            sampling: self.sampling(),
            at_least: self.at_least(),
            regions: self.region_set(),
            veiled,
            ..options
        }
    }
}
