//! Precision over recall, and the area below it: the rules of `COCOeval.accumulate`.

use super::matching::{Matched, THRESHOLDS, Verdict};

/// Recalls at which the precision is read: 0, 0.01, … 1.
const POINTS: u32 = 101;

/// All objects of one class.
#[derive(Clone, Debug, Default)]
pub(super) struct Curve {
    objects: usize,
    found: Vec<(f64, [Verdict; THRESHOLDS])>,
}

impl Curve {
    pub(super) fn add(&mut self, picture: &Matched) {
        self.objects += picture.objects;
        self.found.extend_from_slice(&picture.found);
    }

    pub(super) fn objects(&self) -> usize {
        self.objects
    }

    /// The average precision at each IoU; `None` where nothing is to be found.
    pub(super) fn average_precisions(&self) -> Option<[f64; THRESHOLDS]> {
        if self.objects == 0 {
            return None;
        }
        let mut sorted: Vec<&(f64, [Verdict; THRESHOLDS])> = self.found.iter().collect();
        // Equals stay in the order of their pictures.
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut all = [0.0; THRESHOLDS];
        for (number, average) in all.iter_mut().enumerate() {
            let verdicts = sorted.iter().filter_map(|(_, verdicts)| verdicts.get(number).copied());
            *average = average_precision(verdicts, self.objects);
        }
        Some(all)
    }
}

/// The mean of the precisions at the 101 recalls; 0 where a recall is not reached.
#[allow(clippy::cast_precision_loss)] // counts of objects
fn average_precision(verdicts: impl Iterator<Item = Verdict>, objects: usize) -> f64 {
    let (mut right, mut wrong) = (0usize, 0usize);
    let (mut recalls, mut precisions) = (Vec::new(), Vec::new());
    for verdict in verdicts {
        match verdict {
            Verdict::Right => right += 1,
            Verdict::Wrong => wrong += 1,
            // It has a point on the curve all the same, as in the reference.
            Verdict::Ignored => {}
        }
        recalls.push(right as f64 / objects as f64);
        precisions.push(right as f64 / ((right + wrong) as f64 + f64::EPSILON));
    }
    // What is reached later with more precision could have been had before.
    let mut best = 0.0f64;
    for precision in precisions.iter_mut().rev() {
        best = best.max(*precision);
        *precision = best;
    }
    let at = |point: u32| {
        let recall = if point + 1 == POINTS { 1.0 } else { f64::from(point) * 0.01 };
        let first = recalls.partition_point(|reached| *reached < recall);
        precisions.get(first).copied().unwrap_or(0.0)
    };
    (0..POINTS).map(at).sum::<f64>() / f64::from(POINTS)
}
