//! The order in which a stream gives way, and how it comes back.

use std::time::Duration;

use serde::Serialize;

use super::meter::Verdict;

/// Calm windows that a step back takes: two seconds.
const PATIENCE: u32 = 4;
/// The most: half a minute, where a step back was too much each time.
const MOST_PATIENCE: u32 = 60;
/// A step back that was followed by a wait within so many windows was too much.
const TOO_SOON: u32 = 8;

/// What gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gives {
    /// Nothing.
    Nothing,
    /// How often the detector looks.
    Detection,
    /// The bits, and with them the work, of an encode.
    Encode,
    /// The size of the encoded pictures.
    Size,
    /// The frame rate.
    FrameRate,
}

/// What is done less of on one step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::pipeline) struct Relief {
    pub gives: Gives,
    /// The least time between two looks of the detector.
    pub detect_every: Duration,
    /// The share of the bitrate.
    pub bitrate: f32,
    /// The sides of the encoded pictures, in quarters.
    pub quarters: u32,
    /// Every so manyth frame is encoded.
    pub every: u32,
}

const NONE: Relief =
    Relief { gives: Gives::Nothing, detect_every: Duration::ZERO, bitrate: 1.0, quarters: 4, every: 1 };

const fn detect(every_ms: u64) -> Relief {
    Relief { gives: Gives::Detection, detect_every: Duration::from_millis(every_ms), ..NONE }
}

/// What the detector has left when its cadence has given all: two looks a second and more, so that no box gets too old to be drawn.
const LEAST_DETECTION: Relief = detect(400);

/// The steps, in the order in which they are taken.
const STEPS: [Relief; 9] = [
    NONE,
    detect(100),
    detect(200),
    LEAST_DETECTION,
    Relief { gives: Gives::Encode, bitrate: 0.6, ..LEAST_DETECTION },
    Relief { gives: Gives::Size, bitrate: 0.6, quarters: 3, ..LEAST_DETECTION },
    Relief { gives: Gives::Size, bitrate: 0.6, quarters: 2, ..LEAST_DETECTION },
    Relief { gives: Gives::FrameRate, bitrate: 0.6, quarters: 2, every: 2, ..LEAST_DETECTION },
    Relief { gives: Gives::FrameRate, bitrate: 0.6, quarters: 2, every: 3, ..LEAST_DETECTION },
];

/// The last step in which the detector alone gives way.
pub(in crate::pipeline) const DETECTION_STEPS: u8 = 3;
/// The first step in which frames are left out: after it there is only to refuse.
pub(in crate::pipeline) const LAST_STEPS: u8 = 7;
const TOP: u8 = 8;

/// What is done less of on `step`.
pub(in crate::pipeline) fn relief(step: u8) -> Relief {
    STEPS.get(usize::from(step)).copied().unwrap_or(STEPS[STEPS.len() - 1])
}

/// Where one stream stands.
#[derive(Debug)]
pub(in crate::pipeline) struct Ladder {
    step: u8,
    /// Windows in a row that were too long, while nothing has given way yet: one may be chance.
    pressed: u32,
    calm: u32,
    patience: u32,
    /// Windows since the last step back.
    since_back: u32,
}

impl Ladder {
    pub(in crate::pipeline) fn new() -> Self {
        Self { step: 0, pressed: 0, calm: 0, patience: PATIENCE, since_back: u32::MAX }
    }

    /// The step: 0 to 8.
    pub(in crate::pipeline) fn step(&self) -> u8 {
        self.step
    }

    /// Takes the verdict on a window, and gives the step that follows. Steps beyond `most` are not taken: something else is to
    /// give way first.
    pub(in crate::pipeline) fn take(&mut self, verdict: Verdict, most: u8) -> u8 {
        self.since_back = self.since_back.saturating_add(1);
        match verdict {
            Verdict::Choked | Verdict::Pressed => {
                self.calm = 0;
                self.pressed += 1;
                if self.step > 0 || self.pressed > 1 {
                    self.give(if verdict == Verdict::Choked { 2 } else { 1 }, most);
                }
            }
            Verdict::Fair => (self.calm, self.pressed) = (0, 0),
            Verdict::Calm => {
                self.pressed = 0;
                self.calm += 1;
                if self.step > 0 && self.calm >= self.patience {
                    self.step -= 1;
                    (self.calm, self.since_back) = (0, 0);
                } else if self.step == 0 && self.calm >= MOST_PATIENCE {
                    self.patience = PATIENCE;
                }
            }
        }
        self.step
    }

    fn give(&mut self, steps: u8, most: u8) {
        if self.since_back <= TOO_SOON {
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
            self.since_back = u32::MAX;
        }
        self.step = (self.step + steps).min(most.max(self.step)).min(TOP);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(verdicts: &[(Verdict, u32)]) -> u8 {
        let mut ladder = Ladder::new();
        for &(verdict, times) in verdicts {
            (0..times).for_each(|_| _ = ladder.take(verdict, TOP));
        }
        ladder.step()
    }

    #[test]
    fn the_order_is_detection_then_encode_then_size_then_frame_rate() {
        let order = STEPS.map(|step| step.gives as u8);
        assert!(order.is_sorted());
        assert_eq!(relief(DETECTION_STEPS).gives, Gives::Detection);
        assert_eq!(relief(DETECTION_STEPS + 1).gives, Gives::Encode);
        assert_eq!((relief(LAST_STEPS - 1).gives, relief(LAST_STEPS).gives), (Gives::Size, Gives::FrameRate));
        assert_eq!(relief(200), relief(TOP));
    }

    #[test]
    fn one_long_window_is_chance_and_two_are_not() {
        assert_eq!(after(&[(Verdict::Pressed, 1), (Verdict::Fair, 1), (Verdict::Pressed, 1)]), 0);
        assert_eq!(after(&[(Verdict::Pressed, 2)]), 1);
        assert_eq!(after(&[(Verdict::Pressed, 2), (Verdict::Choked, 1)]), 3);
    }

    #[test]
    fn a_step_back_takes_two_seconds_of_calm_and_longer_each_time_it_was_too_much() {
        let mut ladder = Ladder::new();
        (0..3).for_each(|_| _ = ladder.take(Verdict::Pressed, TOP));
        let back = |ladder: &mut Ladder| {
            let before = ladder.step();
            (1..).find(|_| ladder.take(Verdict::Calm, TOP) < before).unwrap_or(0)
        };
        assert_eq!(back(&mut ladder), PATIENCE);
        ladder.take(Verdict::Pressed, TOP);
        assert_eq!(back(&mut ladder), 2 * PATIENCE);
        ladder.take(Verdict::Pressed, TOP);
        assert_eq!(back(&mut ladder), 4 * PATIENCE);
        assert_eq!(after(&[(Verdict::Pressed, 9), (Verdict::Calm, 400)]), 0);
    }

    #[test]
    fn what_something_else_is_to_give_first_is_not_given() {
        let mut ladder = Ladder::new();
        (0..20).for_each(|_| _ = ladder.take(Verdict::Choked, DETECTION_STEPS));
        assert_eq!(ladder.step(), DETECTION_STEPS);
    }

    proptest! {
        #[test]
        fn no_step_is_left_out_by_more_than_one_and_none_is_above_the_top(
            verdicts in prop::collection::vec((0u8..4, 0u8..9), 1..300)
        ) {
            let mut ladder = Ladder::new();
            for (verdict, most) in verdicts {
                let before = ladder.step();
                let verdict = [Verdict::Choked, Verdict::Pressed, Verdict::Fair, Verdict::Calm][usize::from(verdict)];
                let after = ladder.take(verdict, most);
                prop_assert!(after <= TOP && after.abs_diff(before) <= 2);
                prop_assert!(after <= before || after <= most);
            }
        }
    }
}
