//! Non-maximum suppression: of boxes that show the same thing, the best stays.

use serde::Deserialize;

use crate::media::BBox;

/// Which boxes suppress each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NmsMode {
    /// Those of the same class.
    PerClass,
    /// All.
    Agnostic,
    /// None: the network proposes every object once.
    None,
}

/// A box that a head proposes, in the pixels of the model's input.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Where.
    pub bbox: BBox,
    /// How sure, 0 to 1.
    pub score: f32,
    /// Which class.
    pub class_id: u32,
    /// Which line, anchor or cell of the outputs proposes it: its key points and its mask stand there too.
    pub row: usize,
}

/// The most candidates that are compared with each other: the best by score. The comparison is quadratic, and a
/// threshold of 0 makes every anchor a candidate.
pub const MAX_CANDIDATES: usize = 3000;

/// Greedy suppression, in place: sorts by descending score (equal scores keep their order), then removes every
/// candidate whose IoU with a kept one is above `iou` (IoU without "+1"; equal stays), until `limit` are kept.
pub fn suppress(candidates: &mut Vec<Candidate>, mode: NmsMode, iou: f32, limit: usize) {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MAX_CANDIDATES);
    if mode == NmsMode::None {
        candidates.truncate(limit);
        return;
    }
    let mut kept = 0;
    for next in 0..candidates.len() {
        if kept == limit {
            break;
        }
        let (best, rest) = candidates.split_at_mut(next);
        let Some(candidate) = rest.first() else { break };
        let rival = |better: &Candidate| {
            (mode == NmsMode::Agnostic || better.class_id == candidate.class_id)
                && better.bbox.iou(&candidate.bbox) > iou
        };
        if !best.iter().take(kept).any(rival) {
            candidates.swap(kept, next);
            kept += 1;
        }
    }
    candidates.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(x: f32, score: f32, class_id: u32) -> Candidate {
        Candidate { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), score, class_id, row: 0 }
    }

    #[test]
    fn the_best_of_overlapping_boxes_stays() {
        let mut all = vec![candidate(1.0, 0.5, 0), candidate(0.0, 0.9, 0), candidate(50.0, 0.3, 0)];
        suppress(&mut all, NmsMode::PerClass, 0.5, 100);
        assert_eq!(all, [candidate(0.0, 0.9, 0), candidate(50.0, 0.3, 0)]);
    }

    #[test]
    fn an_overlap_of_exactly_the_threshold_stays() {
        let mut all = vec![candidate(0.0, 0.9, 0), candidate(5.0, 0.5, 0)];
        let exactly = all[0].bbox.iou(&all[1].bbox);
        suppress(&mut all, NmsMode::PerClass, exactly, 100);
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn other_classes_are_rivals_only_in_agnostic_mode() {
        let both = vec![candidate(0.0, 0.9, 0), candidate(0.0, 0.5, 1)];
        let mut all = both.clone();
        suppress(&mut all, NmsMode::PerClass, 0.5, 100);
        assert_eq!(all, both);
        suppress(&mut all, NmsMode::Agnostic, 0.5, 100);
        assert_eq!(all, both[..1]);
    }

    #[test]
    fn without_suppression_the_best_stay_whatever_they_overlap() {
        let mut all = vec![candidate(0.0, 0.5, 0), candidate(0.0, 0.9, 0), candidate(0.0, 0.7, 1)];
        suppress(&mut all, NmsMode::None, 0.5, 2);
        assert_eq!(all, [candidate(0.0, 0.9, 0), candidate(0.0, 0.7, 1)]);
    }

    #[test]
    fn a_suppressed_box_suppresses_nobody() {
        // B overlaps A and C, which do not overlap each other: A removes B, and C stays.
        let mut all = vec![candidate(0.0, 0.9, 0), candidate(4.0, 0.8, 0), candidate(8.0, 0.7, 0)];
        suppress(&mut all, NmsMode::Agnostic, 0.3, 100);
        assert_eq!(all, [candidate(0.0, 0.9, 0), candidate(8.0, 0.7, 0)]);
    }

    #[test]
    fn equal_scores_keep_their_order() {
        let mut all = vec![candidate(100.0, 0.5, 0), candidate(0.0, 0.5, 0), candidate(50.0, 0.5, 0)];
        let before = all.clone();
        suppress(&mut all, NmsMode::Agnostic, 0.5, 100);
        assert_eq!(all, before);
    }

    fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0f32..100.0, 0f32..100.0, 0f32..60.0, 0f32..60.0, 0f32..1.0, 0u32..3).prop_map(
            |(x, y, w, h, score, class_id)| Candidate { bbox: BBox::new(x, y, x + w, y + h), score, class_id, row: 0 },
        );
        prop::collection::vec(one, 0..40)
    }

    /// The definition, literally, as `refdet.py` has it.
    fn reference(candidates: &[Candidate], mode: NmsMode, iou: f32) -> Vec<Candidate> {
        let mut order = candidates.to_vec();
        order.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut kept = Vec::new();
        while !order.is_empty() {
            let best = order.remove(0);
            order.retain(|c| {
                (mode == NmsMode::PerClass && c.class_id != best.class_id) || best.bbox.iou(&c.bbox) <= iou
            });
            kept.push(best);
        }
        kept
    }

    proptest! {
        #[test]
        fn it_does_what_the_definition_says(all in any_candidates(), iou in 0f32..1.0, agnostic: bool) {
            let mode = if agnostic { NmsMode::Agnostic } else { NmsMode::PerClass };
            let mut ours = all.clone();
            suppress(&mut ours, mode, iou, usize::MAX);
            prop_assert_eq!(ours, reference(&all, mode, iou));
        }

        #[test]
        fn a_second_time_changes_nothing(mut all in any_candidates(), iou in 0f32..1.0) {
            suppress(&mut all, NmsMode::PerClass, iou, usize::MAX);
            let once = all.clone();
            suppress(&mut all, NmsMode::PerClass, iou, usize::MAX);
            prop_assert_eq!(all, once);
        }

        #[test]
        fn the_order_of_unequal_scores_does_not_matter(all in any_candidates(), iou in 0f32..1.0) {
            let mut scores: Vec<_> = all.iter().map(|c| c.score.to_bits()).collect();
            scores.sort_unstable();
            scores.dedup();
            prop_assume!(scores.len() == all.len());
            let mut forward = all.clone();
            let mut backward: Vec<_> = all.into_iter().rev().collect();
            suppress(&mut forward, NmsMode::Agnostic, iou, usize::MAX);
            suppress(&mut backward, NmsMode::Agnostic, iou, usize::MAX);
            prop_assert_eq!(forward, backward);
        }

        #[test]
        fn a_limit_keeps_the_best(all in any_candidates(), limit in 0usize..10) {
            let (mut few, mut many) = (all.clone(), all);
            suppress(&mut few, NmsMode::Agnostic, 0.5, limit);
            suppress(&mut many, NmsMode::Agnostic, 0.5, usize::MAX);
            many.truncate(limit);
            prop_assert_eq!(few, many);
        }

        #[test]
        fn garbage_does_not_panic(values in prop::collection::vec(any::<[f32; 5]>(), 0..20)) {
            let mut all: Vec<_> = values
                .into_iter()
                .map(|[x1, y1, x2, y2, score]| Candidate { bbox: BBox::new(x1, y1, x2, y2), score, ..Candidate::default() })
                .collect();
            suppress(&mut all, NmsMode::Agnostic, 0.5, 10);
            prop_assert!(all.len() <= 10);
        }
    }
}
