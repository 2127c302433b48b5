//! What happens at a region of a picture.

use std::sync::Arc;

use serde::Serialize;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionEventKind {
    /// An object came into a zone.
    Enter,
    /// It left the zone, or was not seen any more.
    Leave,
    /// It crossed a line.
    Cross,
    /// It has been in a zone for as long as was asked for.
    Dwell,
}

impl RegionEventKind {
    /// Its name in messages and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Enter => "enter",
            Self::Leave => "leave",
            Self::Cross => "cross",
            Self::Dwell => "dwell",
        }
    }
}

/// Which way a line was crossed, as seen by who stands at its first point and looks at its second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the left-hand side to the right-hand one.
    LeftToRight,
    /// The other way.
    RightToLeft,
}

impl Direction {
    /// Its name in messages and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LeftToRight => "left_to_right",
            Self::RightToLeft => "right_to_left",
        }
    }
}

/// Something that happened at a region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionEvent {
    /// What.
    pub kind: RegionEventKind,
    /// The region's name.
    pub region: Arc<str>,
    /// The object, by the tracker's name.
    pub track_id: u64,
    /// Its class.
    pub class_name: Arc<str>,
    /// For `cross`.
    pub direction: Option<Direction>,
    /// For how long it was inside, in seconds: for `leave` and `dwell`.
    pub dwell_s: Option<f32>,
    /// How many are inside after an `enter` or a `leave`; how many have crossed in this direction with this `cross`.
    pub count: Option<u64>,
}
