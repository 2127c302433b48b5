//! The order in which a stream gives way, and how it comes back.

use std::time::Duration;

use serde::Serialize;

use super::meter::{FULL, Verdict};

/// Calm windows that a step back takes: a second.
const PATIENCE: u32 = 2;
/// The most: half a minute, where that step back was too much each time.
const MOST_PATIENCE: u32 = 60;
/// A step back that was followed by a wait within so many windows was too much.
const TOO_SOON: u32 = 8;
/// What was given shows in the next window but one: the frames of the next began before it. Frames are left out only where
/// nothing else has helped for longer.
const SHOWS: u32 = 1;
const SHOWS_BEFORE_FRAMES: u32 = 3;

/// Windows in a row without enough looks that a step takes: what one gives shows in the looks that follow.
const HUNGRY: u32 = 2;

/// The detector is to look twice a second at least, and a little more often, as this is seen late: where it does not get the time
/// for that, encodes and sizes give it.
pub(super) const FLOOR: Duration = Duration::from_millis(450);

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
    pub every: u8,
}

impl Relief {
    /// What is left of the pixels that are encoded, 0 to 1.
    fn pixels(&self) -> f32 {
        #[allow(clippy::cast_precision_loss)] // 1 to 4
        let side = self.quarters as f32 / 4.0;
        side * side / f32::from(self.every)
    }

    /// What is left of the encodes' work, at the least: it goes with the pixels, and less with the bits.
    fn work(&self) -> f32 {
        self.pixels() * self.bitrate
    }
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
/// The last step that only takes size: nothing more is given for the detector's sake.
const SIZE_STEPS: u8 = 6;
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
    /// Windows in a row in which the detector got too little time.
    hungry: u32,
    calm: u32,
    /// The calm that a step back takes, by the step that it is taken from: where one was too much the others need not be.
    patience: [u32; STEPS.len()],
    /// Windows since the last step up, and since the last one back.
    since_up: u32,
    since_back: u32,
}

impl Ladder {
    pub(in crate::pipeline) fn new() -> Self {
        let patience = [PATIENCE; STEPS.len()];
        Self { step: 0, pressed: 0, hungry: 0, calm: 0, patience, since_up: u32::MAX, since_back: u32::MAX }
    }

    /// The step: 0 to 8.
    pub(in crate::pipeline) fn step(&self) -> u8 {
        self.step
    }

    /// The load may have become less: streams have left, and where so many took frames `before`, so many do now. What was too much
    /// may be little now, and is tried at once. What those who are here may have back without more work than there was is taken back
    /// now, as far as this stream's own thread has the time, which was `busy` for that share of it. Returns whether something was.
    pub(in crate::pipeline) fn forget(&mut self, before: usize, here: usize, busy: f64) -> bool {
        self.patience = [1; STEPS.len()];
        #[allow(clippy::cast_precision_loss)] // streams
        let (here, before) = (here as f32, before as f32);
        let now = relief(self.step);
        let room = before * now.work() + f32::EPSILON * before;
        let fits = |step: Relief| here * step.work() <= room && busy * f64::from(step.pixels() / now.pixels()) < FULL;
        let step = (DETECTION_STEPS..self.step).find(|step| fits(relief(*step))).filter(|_| here < before);
        if let Some(step) = step {
            (self.step, self.calm, self.since_back) = (step, 0, u32::MAX);
        }
        step.is_some()
    }

    /// Takes the verdict on a window, and gives the step that follows. Steps beyond `most` are not taken: something else is to
    /// give way first. `back`: whether a step back may be taken, asked when one is due.
    pub(in crate::pipeline) fn take(&mut self, verdict: Verdict, most: u8, back: impl FnOnce() -> bool) -> u8 {
        self.since_up = self.since_up.saturating_add(1);
        self.since_back = self.since_back.saturating_add(1);
        self.hungry = if verdict == Verdict::Hungry { self.hungry + 1 } else { 0 };
        self.calm = if verdict == Verdict::Calm { self.calm.saturating_add(1) } else { 0 };
        match verdict {
            Verdict::Choked => self.press(2, most),
            Verdict::Pressed => self.press(1, most),
            Verdict::Hungry => {
                self.pressed = 0;
                if self.step < DETECTION_STEPS {
                    // It looks less often than that already: nothing is lost by it, and the cores are shared evenly.
                    self.give(DETECTION_STEPS - self.step, most);
                } else if self.hungry.is_multiple_of(HUNGRY) {
                    self.give(1, most.min(SIZE_STEPS));
                }
            }
            Verdict::Fair => self.pressed = 0,
            Verdict::Calm => {
                self.pressed = 0;
                if self.step > 0 && self.calm >= self.patience() && back() {
                    self.step -= 1;
                    (self.calm, self.since_back) = (0, 0);
                } else if self.step == 0 && self.calm >= MOST_PATIENCE {
                    self.patience = [PATIENCE; STEPS.len()];
                }
            }
        }
        self.step
    }

    fn press(&mut self, steps: u8, most: u8) {
        self.pressed += 1;
        let shows = if self.step >= SIZE_STEPS { SHOWS_BEFORE_FRAMES } else { SHOWS };
        // Two steps at once are for what cannot wait.
        let is_seen = self.since_up > shows || (steps > 1 && self.step < SIZE_STEPS);
        if (self.step > 0 || self.pressed > 1) && is_seen {
            let steps = if self.step + steps > SIZE_STEPS { 1 } else { steps };
            self.give(steps, most);
        }
    }

    fn give(&mut self, steps: u8, most: u8) {
        if self.since_back <= TOO_SOON {
            // Back from the step above this one was too much.
            if let Some(patience) = self.patience.get_mut(usize::from(self.step) + 1) {
                *patience = (*patience * 2).min(MOST_PATIENCE);
            }
            self.since_back = u32::MAX;
        }
        let step = (self.step + steps).min(most.max(self.step)).min(TOP);
        if step > self.step {
            (self.step, self.since_up) = (step, 0);
        }
    }

    fn patience(&self) -> u32 {
        self.patience.get(usize::from(self.step)).copied().unwrap_or(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(verdicts: &[(Verdict, u32)]) -> u8 {
        let mut ladder = Ladder::new();
        for &(verdict, times) in verdicts {
            (0..times).for_each(|_| _ = ladder.take(verdict, TOP, || true));
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
    fn what_was_given_is_waited_for_and_longest_before_frames_are_left_out() {
        let steps = |verdict: Verdict, windows: u32| {
            let mut ladder = Ladder::new();
            (0..windows).map(|_| ladder.take(verdict, TOP, || true)).collect::<Vec<_>>()
        };
        assert_eq!(steps(Verdict::Pressed, 14), [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6]);
        assert_eq!(steps(Verdict::Pressed, 20)[14..], [6, 7, 7, 7, 7, 8]);
        assert_eq!(steps(Verdict::Choked, 12), [0, 2, 4, 6, 6, 6, 6, 7, 7, 7, 7, 8]);
    }

    #[test]
    fn a_step_back_takes_a_second_of_calm_and_longer_where_it_was_too_much() {
        let mut ladder = Ladder::new();
        let press = |ladder: &mut Ladder, step: u8| {
            while ladder.step() < step {
                ladder.take(Verdict::Pressed, TOP, || true);
            }
        };
        let back = |ladder: &mut Ladder| {
            let before = ladder.step();
            (1..).find(|_| ladder.take(Verdict::Calm, TOP, || true) < before).unwrap_or(0)
        };
        press(&mut ladder, 3);
        assert_eq!(back(&mut ladder), PATIENCE);
        press(&mut ladder, 3);
        assert_eq!(back(&mut ladder), 2 * PATIENCE);
        press(&mut ladder, 3);
        assert_eq!(back(&mut ladder), 4 * PATIENCE);
        assert_eq!(back(&mut ladder), PATIENCE, "from 2 it was never too much");
        press(&mut ladder, 3);
        ladder.forget(9, 9, 0.1);
        assert_eq!(back(&mut ladder), 1);
        assert_eq!(after(&[(Verdict::Pressed, 20), (Verdict::Calm, 400)]), 0);
    }

    #[test]
    fn what_streams_that_left_had_is_had_by_those_who_stay_at_once() {
        let after = |step: u8, before: usize, here: usize, busy: f64| {
            let mut ladder = Ladder::new();
            while ladder.step() < step {
                ladder.take(Verdict::Pressed, TOP, || true);
            }
            assert_eq!(ladder.forget(before, here, busy), ladder.step() < step);
            ladder.step()
        };
        assert_eq!(after(TOP, 30, 1, 0.05), DETECTION_STEPS, "a twentieth of the work each, and thirty times the room");
        assert_eq!(after(TOP, 30, 10, 0.05), SIZE_STEPS, "a third of the frames, and three times the room");
        assert_eq!(after(TOP, 30, 20, 0.05), LAST_STEPS);
        assert_eq!(after(SIZE_STEPS, 30, 10, 0.05), SIZE_STEPS - 1, "a quarter of the area becomes nine sixteenths");
        assert_eq!(after(SIZE_STEPS, 30, 29, 0.05), SIZE_STEPS);
        assert_eq!(after(TOP, 30, 30, 0.05), TOP, "others came in their place");
        assert_eq!(after(2, 30, 1, 0.05), 2, "the detector's cadence is everybody's, and comes back step by step");
        assert_eq!(after(SIZE_STEPS, 7, 1, 0.5), SIZE_STEPS, "it is its own core that it waits for");
    }

    #[test]
    fn a_step_back_that_may_not_be_taken_is_taken_when_it_may() {
        let mut ladder = Ladder::new();
        (0..3).for_each(|_| _ = ladder.take(Verdict::Choked, TOP, || true));
        (0..9).for_each(|_| assert_eq!(ladder.take(Verdict::Calm, TOP, || false), 4));
        assert_eq!(ladder.take(Verdict::Calm, TOP, || true), 3);
    }

    #[test]
    fn for_a_detector_that_gets_too_little_time_sizes_are_given_and_no_frames() {
        assert_eq!(after(&[(Verdict::Hungry, 1)]), DETECTION_STEPS);
        assert_eq!(after(&[(Verdict::Hungry, 1), (Verdict::Fair, 1), (Verdict::Hungry, 1)]), DETECTION_STEPS);
        assert_eq!(after(&[(Verdict::Hungry, HUNGRY)]), DETECTION_STEPS + 1);
        assert_eq!(after(&[(Verdict::Hungry, 100)]), SIZE_STEPS);
        assert_eq!(relief(SIZE_STEPS).every, 1);
        assert_eq!(after(&[(Verdict::Pressed, 16), (Verdict::Hungry, 100)]), LAST_STEPS, "nothing is given back by it");
    }

    #[test]
    fn what_something_else_is_to_give_first_is_not_given() {
        let mut ladder = Ladder::new();
        (0..20).for_each(|_| _ = ladder.take(Verdict::Choked, DETECTION_STEPS, || true));
        assert_eq!(ladder.step(), DETECTION_STEPS);
    }

    proptest! {
        #[test]
        fn no_step_but_the_detectors_is_left_out_by_more_than_one_and_none_is_above_the_top(
            verdicts in prop::collection::vec((0u8..5, 0u8..9), 1..300)
        ) {
            let mut ladder = Ladder::new();
            for (verdict, most) in verdicts {
                let before = ladder.step();
                let verdict = [Verdict::Choked, Verdict::Pressed, Verdict::Hungry, Verdict::Fair, Verdict::Calm][usize::from(verdict)];
                let after = ladder.take(verdict, most, || true);
                prop_assert!(after <= TOP && (after <= DETECTION_STEPS || after.abs_diff(before) <= 2));
                prop_assert!(after <= before || after <= most);
            }
        }
    }
}
