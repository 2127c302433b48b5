//! Which object of a picture is which label: the rules of `COCOeval.evaluateImg`.

use super::{Guess, Label, Rect, thresholds};

/// How many IoUs there are at which an object counts as found.
pub(super) const THRESHOLDS: usize = 10;

/// What an object that was found is at each of the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// It is in a crowd.
    Ignored,
}

/// One picture's objects of one class.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matched {
    /// Labels that are to be found.
    pub(super) objects: usize,
    /// Scores, falling, and verdicts.
    pub(super) found: Vec<(f64, [Verdict; THRESHOLDS])>,
}

/// Intersection over union; with a crowd, over the object's own area, so that it may be anywhere in it.
pub(super) fn iou(found: &Rect, label: &Rect, crowd: bool) -> f64 {
    let overlap = |a: f64, a_side: f64, b: f64, b_side: f64| (a + a_side).min(b + b_side) - a.max(b);
    let (w, h) = (overlap(found.x, found.w, label.x, label.w), overlap(found.y, found.h, label.y, label.h));
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let (common, own) = (w * h, found.w * found.h);
    let union = if crowd { own } else { own + label.w * label.h - common };
    common / union
}

/// Gives each object, the best score first, the label that it overlaps most and that is still free.
pub(super) fn match_image(labels: &[&Label], found: &[&Guess]) -> Matched {
    // Crowds last: an object prefers what is to be found.
    let mut labels = labels.to_vec();
    labels.sort_by_key(|label| label.crowd);
    let ious: Vec<Vec<f64>> = found
        .iter()
        .map(|guess| labels.iter().map(|label| iou(&guess.rect, &label.rect, label.crowd)).collect())
        .collect();
    let mut verdicts = vec![[Verdict::Wrong; THRESHOLDS]; found.len()];
    for (number, threshold) in thresholds().into_iter().enumerate() {
        let mut taken = vec![false; labels.len()];
        for (ious, verdicts) in ious.iter().zip(&mut verdicts) {
            let Some(verdict) = verdicts.get_mut(number) else { continue };
            // As in the reference: a label that fits as well as the one before takes its place.
            let (mut best, mut chosen) = (threshold.min(1.0 - 1e-10), None::<(usize, bool)>);
            for (place, (label, &iou)) in labels.iter().zip(ious).enumerate() {
                if taken.get(place).copied().unwrap_or(false) && !label.crowd {
                    continue;
                }
                if label.crowd && chosen.is_some_and(|(_, crowd)| !crowd) {
                    break;
                }
                if iou >= best {
                    (best, chosen) = (iou, Some((place, label.crowd)));
                }
            }
            if let Some((place, crowd)) = chosen {
                *verdict = if crowd { Verdict::Ignored } else { Verdict::Right };
                if let Some(taken) = taken.get_mut(place) {
                    *taken = true;
                }
            }
        }
    }
    let objects = labels.iter().filter(|label| !label.crowd).count();
    Matched { objects, found: found.iter().map(|guess| guess.score).zip(verdicts).collect() }
}
