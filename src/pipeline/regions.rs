//! A stream's regions: as they are told and set while it runs, and in its picture.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Pipeline;
use super::rules::Rules;
use super::stream::Stream;
use crate::annotate::{Outline, draw_outlines};
use crate::detect::{Lane, RegionConfig, RegionCount, RegionKind, RegionSet};
use crate::media::I420Frame;

/// The regions of a stream, as `/api/v1/streams/NAME/regions` has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    /// Zones, lines, include and exclude polygons, by name.
    pub regions: BTreeMap<String, RegionConfig>,
    /// Whether they are drawn into the annotated picture, with their counts; unset: as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<bool>,
}

impl Regions {
    /// Checks them.
    ///
    /// # Errors
    /// Names the region, the key and what is possible.
    pub fn validate(&self) -> Result<(), String> {
        RegionSet::new(&self.regions).map(|_| ())
    }
}

impl Stream {
    /// The regions in force.
    #[must_use]
    pub fn regions(&self) -> Regions {
        let rules = self.rules();
        Regions { regions: rules.regions.clone(), draw: Some(rules.draw_regions) }
    }

    /// Watches these from the next result on, in place of all there were. One that is as it was keeps its counts.
    pub fn set_regions(&self, regions: Regions) {
        let rules = Rules::clone(&self.rules());
        let draw_regions = regions.draw.unwrap_or(rules.draw_regions);
        self.set_rules(Rules { regions: regions.regions, draw_regions, ..rules });
    }
}

impl Pipeline {
    /// Whether the stream of this name is a camera's: its regions belong to the camera's configuration.
    #[must_use]
    pub fn is_camera(&self, name: &str) -> bool {
        self.camera_config(name).is_some()
    }
}

/// The palette's colours are those of the first classes first; regions begin at the other end.
const LAST_COLOUR: u32 = 15;

/// Draws the regions that a lane watches, with their counts.
pub(super) fn draw(picture: &mut I420Frame, lane: &Lane) {
    let regions = lane.regions();
    let counts = lane.region_counts();
    let outlines: Vec<Outline<'_>> = regions
        .outlines()
        .zip((0..=LAST_COLOUR).rev().cycle())
        .map(|((name, points, closed), colour)| {
            let text = match counts.get(name) {
                Some(count) => format!("{name} {}", words(count)),
                None => name.to_owned(),
            };
            Outline { points, closed, colour, text }
        })
        .collect();
    draw_outlines(picture, &outlines);
}

fn words(count: &RegionCount) -> String {
    match count.kind {
        RegionKind::Line => format!(">{} <{}", count.left_to_right, count.right_to_left),
        _ => count.inside.to_string(),
    }
}
