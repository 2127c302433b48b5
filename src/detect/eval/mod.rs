//! How well a model finds what people have labelled: average precision as COCO defines it (cocodataset.org/#detection-eval), with
//! the arithmetic of its reference implementation, `pycocotools`.
//!
//! Belongs here: matching, the curves and their areas, and the two formats of labels. Does not belong here: files, pictures, and
//! running a model.

mod coco;
mod curve;
mod matching;
mod yolo;

pub use coco::{CocoError, CocoLabels};
pub use yolo::{class_names, yaml_names, yolo_labels};

use curve::Curve;
use matching::{THRESHOLDS, match_image};

/// The most objects of one class that count in a picture: the best by score.
pub const MAX_DETECTIONS: usize = 100;

/// A box as labels have it, in pixels: left, top, width, height.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width, not negative.
    pub w: f64,
    /// Height, not negative.
    pub h: f64,
}

impl Rect {
    /// Whether it is a place: numbers, and no side negative.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        [self.x, self.y, self.w, self.h].iter().all(|side| side.is_finite()) && self.w >= 0.0 && self.h >= 0.0
    }
}

/// An object that somebody labelled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// The class's index.
    pub class: usize,
    /// Where it is.
    pub rect: Rect,
    /// A crowd: what is found in it counts neither way.
    pub crowd: bool,
}

/// An object that a model found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// The class's index.
    pub class: usize,
    /// Where it is.
    pub rect: Rect,
    /// How sure the model is.
    pub score: f64,
}

/// How well one class is found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassScore {
    /// Labelled objects without crowds.
    pub objects: usize,
    /// Mean of the average precisions at an IoU of 0.50, 0.55, … 0.95, 0 to 1; `None` where nothing is labelled.
    pub ap: Option<f64>,
    /// The average precision at an IoU of 0.50.
    pub ap50: Option<f64>,
}

/// How well a model finds what is labelled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Pictures.
    pub images: usize,
    /// Over the classes of which something is labelled.
    pub all: ClassScore,
    /// By class.
    pub classes: Vec<ClassScore>,
}

/// An evaluation, picture by picture.
#[derive(Debug)]
pub struct Evaluation {
    images: usize,
    curves: Vec<Curve>,
}

impl Evaluation {
    /// Of so many classes, without a picture yet.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { images: 0, curves: vec![Curve::default(); classes] }
    }

    /// Adds a picture. Classes that were not announced, and boxes and scores that are not numbers, do not count.
    pub fn add(&mut self, labels: &[Label], found: &[Guess]) {
        self.images += 1;
        for (class, curve) in self.curves.iter_mut().enumerate() {
            let labels: Vec<&Label> = labels.iter().filter(|label| label.class == class).collect();
            let mut found: Vec<&Guess> = found
                .iter()
                .filter(|guess| guess.class == class && guess.rect.is_valid() && guess.score.is_finite())
                .collect();
            if labels.is_empty() && found.is_empty() {
                continue;
            }
            // The order of equals stays, as in the reference.
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(MAX_DETECTIONS);
            curve.add(&match_image(&labels, &found));
        }
    }

    /// The result.
    #[must_use]
    pub fn score(&self) -> Score {
        let classes: Vec<ClassScore> = self.curves.iter().map(class_score).collect();
        let mean = |value: fn(&ClassScore) -> Option<f64>| mean(classes.iter().filter_map(value));
        let all = ClassScore {
            objects: classes.iter().map(|class| class.objects).sum(),
            ap: mean(|class| class.ap),
            ap50: mean(|class| class.ap50),
        };
        Score { images: self.images, all, classes }
    }
}

fn class_score(curve: &Curve) -> ClassScore {
    let precisions = curve.average_precisions();
    let ap = precisions.and_then(|precisions| mean(precisions.into_iter()));
    let ap50 = precisions.map(|[first, ..]| first);
    ClassScore { objects: curve.objects(), ap, ap50 }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0u32);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// The IoUs at which an object counts as found: as numpy's `linspace(0.5, 0.95, 10)` has them.
fn thresholds() -> [f64; THRESHOLDS] {
    let step = (0.95 - 0.5) / 9.0;
    let mut all = [0.0; THRESHOLDS];
    for (number, threshold) in (0u32..).zip(&mut all) {
        *threshold = f64::from(number) * step + 0.5;
    }
    if let Some(last) = all.last_mut() {
        *last = 0.95;
    }
    all
}

#[cfg(test)]
mod tests;
