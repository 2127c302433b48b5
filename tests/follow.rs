//! Boxes keep up with objects of known motion: `cargo bench --bench follow` prints the same in full. Bounds of overlap, not of
//! time; a detector at 15 Hz that errs by 2 pixels at each edge and answers 66 ms late.

use std::time::Duration;

use sightline::detect::follow::Way;

#[path = "support/moving.rs"]
mod moving;

use moving::{Run, SCENARIOS, Stage};

/// The mean overlap with the boxes as they were found and with the boxes moved, and how often a name changed.
fn played(name: &str, late_ms: u64) -> (f64, f64, usize) {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
    let mut stage = Stage::new(scenario, 11);
    let mut runs = [None, Some(Way::Picture)].map(|way| Run::new(way, Duration::from_millis(late_ms), 11));
    for n in 0..stage.pictures() {
        let shot = stage.shot(n);
        runs.iter_mut().for_each(|run| run.draw(n, &shot));
    }
    let [off, on] = runs;
    (off.score.mean(), on.score.mean(), on.detector.switches)
}

fn holds(name: &str, late_ms: u64, least: f64) {
    let (off, on, switches) = played(name, late_ms);
    assert!(on >= least, "{name}: {on:.3}, where the found box gives {off:.3}");
    assert_eq!(switches, 0, "{name}: a name changed");
}

#[test]
fn a_box_keeps_up_with_a_linear_motion() {
    holds("linear", 66, 0.95);
}

#[test]
fn a_box_keeps_up_when_the_detector_is_very_late() {
    holds("linear", 150, 0.90);
}

#[test]
fn a_box_stops_with_its_object() {
    holds("stop", 66, 0.93);
}

#[test]
fn a_box_turns_with_its_object() {
    holds("turn", 66, 0.93);
}

#[test]
fn a_box_goes_round_with_its_object() {
    holds("circle", 66, 0.92);
}

#[test]
fn a_box_leaves_with_its_object() {
    holds("leaving", 66, 0.93);
}

#[test]
fn two_that_cross_keep_their_boxes_and_their_names() {
    holds("crossing", 66, 0.93);
}

#[test]
fn what_stands_is_not_moved() {
    let (off, on, _) = played("standing", 66);
    assert!(on >= off - 0.01, "{on:.3} against {off:.3}");
}
