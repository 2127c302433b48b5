//! Named parts of the picture: where objects count, and what they do there.
//!
//! Belongs here: what a region is ([`RegionConfig`], [`RegionSet`]), and the engine that turns tracked objects into events
//! ([`Engine`]: time and objects in, events and counts out). Does not belong here: the tracker, and drawing.
//!
//! An object is where its *anchor* is, the middle of its box's lower edge, as for a [`Zone`].

mod engine;
mod line;
mod place;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use engine::{Engine, RegionCount};

use self::line::Line;
use super::zone::Zone;
use crate::media::Detection;

/// More regions than this on one picture nobody can tell apart.
const MOST_REGIONS: usize = 32;

/// The longest name of a region, in characters.
const LONGEST_NAME: usize = 64;

/// Nobody waits for longer than a day.
const LONGEST_DWELL_S: f32 = 86_400.0;

/// What a region is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionKind {
    /// A polygon that objects enter, leave and dwell in.
    Zone,
    /// A polygon outside of which objects do not count, if they are in no other such.
    Include,
    /// A polygon in which they do not count.
    Exclude,
    /// A line that objects cross.
    Line,
}

/// A region, as it stands in `[cameras.NAME.regions.NAME]` and in the API. Points are `[x, y]` in shares of the picture's width
/// and height.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegionConfig {
    /// The corners of a polygon, 3 to 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub polygon: Vec<[f32; 2]>,
    /// The two ends of a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<[f32; 2]>,
    /// What it is for; unset: `zone` for a polygon, `line` for a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RegionKind>,
    /// A zone tells of objects that have been inside for so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dwell_s: Option<f32>,
    /// Names of the classes that it is for; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// The shape of a region.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::detect) enum Shape {
    Polygon(Zone),
    Line(Line),
}

/// A region that was checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Region {
    pub name: Arc<str>,
    pub kind: RegionKind,
    pub shape: Shape,
    pub dwell_s: Option<f32>,
    classes: Vec<String>,
}

impl Region {
    pub(super) fn is_for(&self, class_name: &str) -> bool {
        self.classes.is_empty() || self.classes.iter().any(|class| class == class_name)
    }
}

/// The regions of a stream. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegionSet(Arc<[Region]>);

impl RegionSet {
    /// The regions of a configuration.
    ///
    /// # Errors
    /// Names the region, the key and what is possible.
    pub fn new(regions: &BTreeMap<String, RegionConfig>) -> Result<Self, String> {
        if regions.len() > MOST_REGIONS {
            return Err(format!("regions: at most {MOST_REGIONS} are possible, here are {}", regions.len()));
        }
        let checked = regions.iter().map(|(name, config)| {
            region(name, config).map_err(|error| format!("regions.{}: {error}", name.escape_debug()))
        });
        Ok(Self(checked.collect::<Result<Vec<_>, _>>()?.into()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shape of each, to be drawn: name, corners, and whether it is a polygon.
    pub fn outlines(&self) -> impl Iterator<Item = (&str, &[[f32; 2]], bool)> {
        self.iter().map(|region| match &region.shape {
            Shape::Polygon(zone) => (&*region.name, zone.points(), true),
            Shape::Line(line) => (&*region.name, line.points(), false),
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.0.iter()
    }

    /// Whether an object counts in a picture of `width`×`height` pixels: in `zone` or an `include` region if there is one that
    /// is for its class, and in no `exclude` region.
    #[must_use]
    pub fn admits(&self, zone: Option<&Zone>, item: &Detection, width: f32, height: f32) -> bool {
        let inside = |region: &&Region| match &region.shape {
            Shape::Polygon(zone) => zone.counts(&item.bbox, width, height),
            Shape::Line(_) => false,
        };
        let of = |kind| self.iter().filter(move |region| region.kind == kind && region.is_for(&item.class_name));
        let anywhere = zone.is_none() && of(RegionKind::Include).next().is_none();
        let included = anywhere
            || zone.is_some_and(|zone| zone.counts(&item.bbox, width, height))
            || of(RegionKind::Include).any(|region| inside(&region));
        included && !of(RegionKind::Exclude).any(|region| inside(&region))
    }
}

fn region(name: &str, config: &RegionConfig) -> Result<Region, String> {
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(format!("a name has from 1 to {LONGEST_NAME} characters"));
    }
    let shape = match (config.polygon.is_empty(), config.line.is_empty()) {
        (false, true) => {
            let zone = Zone::new(&config.polygon).map_err(|error| format!("polygon: {error}"))?;
            Shape::Polygon(zone.ok_or("polygon: 3 corners are needed")?)
        }
        (true, false) => Shape::Line(Line::new(&config.line)?),
        _ => return Err("either polygon or line is needed".to_owned()),
    };
    let kind = match (&shape, config.kind) {
        (Shape::Polygon(_), None) => RegionKind::Zone,
        (Shape::Polygon(_), Some(kind)) if kind != RegionKind::Line => kind,
        (Shape::Line(_), None | Some(RegionKind::Line)) => RegionKind::Line,
        (Shape::Polygon(_), _) => return Err("kind = \"line\": a polygon is a zone, include or exclude".to_owned()),
        (Shape::Line(_), _) => return Err("kind: a line is a \"line\"; the others have a polygon".to_owned()),
    };
    if let Some(dwell_s) = config.dwell_s {
        if kind != RegionKind::Zone {
            return Err("dwell_s: only a zone has it".to_owned());
        }
        if !(0.1..=LONGEST_DWELL_S).contains(&dwell_s) {
            return Err(format!("dwell_s = {dwell_s}: from 0.1 to {LONGEST_DWELL_S} is possible"));
        }
    }
    Ok(Region { name: name.into(), kind, shape, dwell_s: config.dwell_s, classes: config.classes.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::BBox;

    fn set(text: &str) -> Result<RegionSet, String> {
        RegionSet::new(&toml::from_str(text).map_err(|error| error.to_string())?)
    }

    fn standing(class: &str, x: f32, y: f32) -> Detection {
        Detection { bbox: BBox::new(x - 5.0, y - 20.0, x + 5.0, y), class_name: class.into(), ..Detection::default() }
    }

    #[test]
    fn what_cannot_be_a_region_is_refused_by_its_name() {
        for (text, hint) in [
            ("[door]", "regions.door: either polygon or line"),
            ("[door]\nline = [[0, 0], [1, 1]]\npolygon = [[0, 0], [1, 0], [1, 1]]", "either polygon or line"),
            ("[door]\nline = [[0, 0]]", "two ends"),
            ("[door]\nline = [[0, 0], [0, 0]]", "same point"),
            ("[door]\nline = [[0, 0], [2, 0]]", "[2, 0]"),
            ("[door]\npolygon = [[0, 0], [1, 0]]", "here are 2"),
            ("[door]\nline = [[0, 0], [1, 0]]\nkind = \"zone\"", "a line is a"),
            ("[door]\npolygon = [[0, 0], [1, 0], [1, 1]]\nkind = \"line\"", "a polygon is a"),
            ("[door]\nline = [[0, 0], [1, 0]]\ndwell_s = 3", "only a zone"),
            ("[door]\npolygon = [[0, 0], [1, 0], [1, 1]]\ndwell_s = nan", "dwell_s = NaN"),
            ("[door]\npolygon = [[0, 0], [1, 0], [1, 1]]\ncolour = 3", "colour"),
            ("[\"\"]\nline = [[0, 0], [1, 0]]", "1 to 64"),
        ] {
            let error = set(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
        let many: String = (0..33).map(|n| format!("[r{n}]\nline = [[0, 0], [1, 0]]\n")).collect();
        assert!(set(&many).unwrap_err().contains("at most 32"));
    }

    #[test]
    fn include_and_exclude_say_where_an_object_counts_and_for_which_classes() {
        let half = "polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]";
        let admits = |set: &RegionSet, item: &Detection| set.admits(None, item, 100.0, 100.0);
        let (left, right) = (standing("cat", 20.0, 50.0), standing("cat", 80.0, 50.0));
        let include = set(&format!("[a]\n{half}\nkind = \"include\"")).unwrap();
        assert!(admits(&include, &left) && !admits(&include, &right));
        let exclude = set(&format!("[a]\n{half}\nkind = \"exclude\"\nclasses = [\"cat\"]")).unwrap();
        assert!(!admits(&exclude, &left) && admits(&exclude, &right));
        assert!(admits(&exclude, &standing("dog", 20.0, 50.0)));
        let zone = set(&format!("[a]\n{half}")).unwrap();
        assert!(admits(&zone, &left) && admits(&zone, &right), "a zone only watches");
        // The camera's zone is one more polygon to be in.
        let right_half = Zone::new(&[[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]).unwrap();
        assert!(include.admits(right_half.as_ref(), &right, 100.0, 100.0));
        assert!(!exclude.admits(right_half.as_ref(), &left, 100.0, 100.0));
    }
}
