//! What nobody may see, on every picture that leaves: fixed masks, and the objects of chosen classes.
//!
//! It fails closed. Where an object was found it is hidden where it may be by now: between its place then and its place by its
//! motion, with a border, and more the longer ago that was. Before the first result, when no result has come for [`STALE`], and
//! while the model cannot find one of the classes, the whole picture is hidden.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::annotate::{Hidden, Hider, Veil};
use crate::detect::{Lane, LaneModel, Zone};
use crate::media::{BBox, Detection, Detections, I420Frame};

/// Without a result for this long nobody knows what is in the picture.
const STALE: Duration = Duration::from_secs(2);

/// What was found once and then missed stays hidden for this long: detectors miss a face now and then.
const HELD: Duration = Duration::from_secs(1);

/// A look at least this often, whatever the sampling says.
pub(super) const AT_LEAST: Duration = Duration::from_millis(250);

/// The border around a box, as a share of its sides.
const BORDER: f32 = 0.15;

/// By how much the border grows in a second, as a share of the box's sides: where the motion is known, and where it is not.
const GROWTH: f32 = 0.75;
const GROWTH_BLIND: f32 = 2.5;

/// An object keeps its motion for no longer than this, as far as anybody knows.
const MOTION: Duration = Duration::from_millis(500);

/// Two boxes that overlap by more are one object under two names.
const SAME: f32 = 0.3;

/// More objects than this are a crowd, and the whole picture is hidden.
const MOST: usize = 256;

/// What is shown before the detector has said anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeforeFirst {
    /// The whole picture is hidden.
    #[default]
    BlurAll,
    /// Only the masks are.
    Show,
}

/// What is hidden on the pictures of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Privacy {
    /// The classes whose objects are hidden.
    pub classes: Vec<String>,
    /// How they are.
    pub veil: Veil,
    /// What is shown before the first result.
    pub before_first: BeforeFirst,
    /// Polygons that are hidden always.
    pub masks: Vec<Vec<[f32; 2]>>,
    /// How they are.
    pub mask_veil: MaskVeil,
}

/// How the masks are hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaskVeil(pub Veil);

impl Default for MaskVeil {
    fn default() -> Self {
        Self(Veil::Black)
    }
}

/// The most masks of one picture, and classes that are hidden.
const MOST_MASKS: usize = 64;

impl Privacy {
    /// Checks the masks and the classes.
    ///
    /// # Errors
    /// Names the key, the value and what is possible.
    pub fn validate(&self) -> Result<(), String> {
        if self.masks.len() > MOST_MASKS || self.classes.len() > MOST_MASKS {
            return Err(format!("masks and blur: at most {MOST_MASKS} of each are possible"));
        }
        for (n, mask) in self.masks.iter().enumerate() {
            let zone = Zone::new(mask).map_err(|error| format!("masks: number {}: {error}", n + 1))?;
            if zone.is_none() {
                return Err(format!("masks: number {} has no corners", n + 1));
            }
        }
        if self.classes.iter().any(String::is_empty) {
            return Err("blur: a class has a name".to_owned());
        }
        Ok(())
    }

    /// Whether anything is hidden: then the source's own video is shown to nobody.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !(self.classes.is_empty() && self.masks.is_empty())
    }

    fn hides(&self, class_name: &str) -> bool {
        self.classes.iter().any(|class| class == class_name)
    }
}

/// How much of a picture is hidden.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cover {
    /// All of it, for this reason.
    All(&'static str),
    /// These boxes, in shares of width and height.
    Boxes(Vec<BBox>),
}

/// Whether the detector can find what is to be hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The model has the classes, or is being loaded.
    Able,
    /// There is no model, or it does not have them.
    Unable,
}

impl Fit {
    pub(super) fn of(lane: &Lane, privacy: &Privacy) -> Self {
        match lane.model() {
            LaneModel::Loading => Self::Able,
            LaneModel::Failed(_) => Self::Unable,
            LaneModel::Ready(info) => {
                let knows = |class: &String| info.labels.iter().any(|label| **label == **class);
                if privacy.classes.iter().all(knows) { Self::Able } else { Self::Unable }
            }
        }
    }
}

/// An object that was found, in shares of width and height, so that it holds for every size of the picture.
#[derive(Clone, Copy, Debug)]
struct Kept {
    track_id: Option<u64>,
    bbox: BBox,
    /// Shares per second.
    velocity: Option<[f32; 2]>,
    seen: Instant,
}

/// What is known of the objects that are to be hidden.
#[derive(Debug)]
struct Known {
    kept: Vec<Kept>,
    /// When the frame of the newest result arrived.
    newest: Option<Instant>,
    /// Results of frames before this are of another source.
    since: Instant,
}

/// What is hidden on a stream's pictures at which time.
#[derive(Debug)]
pub(super) struct Watch(Mutex<Known>);

impl Watch {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Known { kept: Vec::new(), newest: None, since: Instant::now() }))
    }

    /// Another source begins: nothing is known of it.
    pub(super) fn begin(&self, now: Instant) {
        *self.lock() = Known { kept: Vec::new(), newest: None, since: now };
    }

    /// Takes a result of the detector. What it found before and misses now is held for a while.
    #[allow(clippy::cast_precision_loss)] // sides are at most 8192
    pub(super) fn take(&self, result: &Detections) {
        let mut known = self.lock();
        if result.arrived < known.since || known.newest.is_some_and(|newest| result.arrived < newest) {
            return;
        }
        known.newest = Some(result.arrived);
        let (width, height) = (result.width.max(1) as f32, result.height.max(1) as f32);
        let fresh = result.veiled.iter().map(|item| Kept {
            track_id: item.track_id,
            bbox: shares(&item.bbox, width, height),
            velocity: item.velocity.map(|[x, y]| [x / width, y / height]),
            seen: result.arrived,
        });
        let fresh: Vec<Kept> = fresh.collect();
        known.kept.retain(|old| {
            let held = result.arrived.saturating_duration_since(old.seen) <= HELD;
            let renewed = fresh
                .iter()
                .any(|new| (new.track_id.is_some() && new.track_id == old.track_id) || new.bbox.iou(&old.bbox) > SAME);
            held && !renewed
        });
        known.kept.extend(fresh);
        // One more than can be told apart, so that it shows.
        known.kept.truncate(MOST + 1);
    }

    /// What is hidden on a picture that arrived at `at`. `drawn`: boxes of these objects as they are drawn on it, in shares.
    pub(super) fn cover(&self, privacy: &Privacy, fit: Fit, at: Instant, drawn: &[BBox]) -> Cover {
        if privacy.classes.is_empty() {
            return Cover::Boxes(Vec::new());
        }
        if fit == Fit::Unable {
            return Cover::All("the model cannot find what is to be hidden");
        }
        let known = self.lock();
        let Some(newest) = known.newest else {
            return match privacy.before_first {
                BeforeFirst::BlurAll => Cover::All("the detector has said nothing yet"),
                BeforeFirst::Show => Cover::Boxes(Vec::new()),
            };
        };
        if at.saturating_duration_since(newest) > STALE {
            return Cover::All("the detector has said nothing for a while");
        }
        if known.kept.len() > MOST {
            return Cover::All("there is more to be hidden than can be told apart");
        }
        let drawn = drawn.iter().map(|bbox| widened(bbox, BORDER));
        Cover::Boxes(known.kept.iter().map(|kept| kept.at(at)).chain(drawn).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Where it may be by now.
    fn at(&self, now: Instant) -> BBox {
        let age = now.saturating_duration_since(self.seen);
        let growth = if self.velocity.is_some() { GROWTH } else { GROWTH_BLIND };
        let there = match self.velocity {
            None => self.bbox,
            Some([vx, vy]) => {
                let seconds = age.min(MOTION).as_secs_f32();
                let (dx, dy) = (vx * seconds, vy * seconds);
                let BBox { x1, y1, x2, y2 } = self.bbox;
                BBox::new(x1.min(x1 + dx), y1.min(y1 + dy), x2.max(x2 + dx), y2.max(y2 + dy))
            }
        };
        let border = BORDER + growth * age.as_secs_f32();
        let (w, h) = (self.bbox.width() * border, self.bbox.height() * border);
        BBox::new(there.x1 - w, there.y1 - h, there.x2 + w, there.y2 + h)
    }
}

fn widened(bbox: &BBox, by: f32) -> BBox {
    let (w, h) = (bbox.width() * by, bbox.height() * by);
    BBox::new(bbox.x1 - w, bbox.y1 - h, bbox.x2 + w, bbox.y2 + h)
}

fn shares(bbox: &BBox, width: f32, height: f32) -> BBox {
    BBox::new(bbox.x1 / width, bbox.y1 / height, bbox.x2 / width, bbox.y2 / height)
}

/// Boxes of the objects that are hidden among those that are drawn on a picture, in shares.
#[allow(clippy::cast_precision_loss)] // sides are at most 8192
pub(super) fn hidden_of(privacy: &Privacy, boxes: &[Detection], picture: &I420Frame) -> Vec<BBox> {
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let hidden = boxes.iter().filter(|item| privacy.hides(&item.class_name));
    hidden.map(|item| shares(&item.bbox, width, height)).collect()
}

/// Hides on a picture what is covered, and the masks.
#[allow(clippy::cast_precision_loss)] // sides are at most 8192
pub(super) fn hide(hider: &mut Hider, picture: &mut I420Frame, privacy: &Privacy, cover: &Cover) {
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    match cover {
        Cover::All(_) => {
            hider.hide(picture, &Hidden::All, privacy.veil);
        }
        Cover::Boxes(boxes) => {
            for b in boxes {
                let bbox = BBox::new(b.x1 * width, b.y1 * height, b.x2 * width, b.y2 * height);
                hider.hide(picture, &Hidden::Box(bbox), privacy.veil);
            }
        }
    }
    for mask in &privacy.masks {
        hider.hide(picture, &Hidden::Polygon(mask), privacy.mask_veil.0);
    }
}

#[cfg(test)]
#[path = "privacy_tests.rs"]
mod tests;
