//! The order of turns, simulated: threads, lanes and costs of a test's choice, in virtual time.

use super::*;
use proptest::prelude::*;

/// A lane of the simulation.
#[derive(Clone, Copy, Debug)]
struct Camera {
    priority: u32,
    /// Milliseconds from one frame to the next.
    interval: u64,
    /// What a frame costs a thread, in milliseconds.
    cost: u64,
}

/// What became of a lane.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    frames: u64,
    busy: u64,
    /// The longest from a waiting frame to its turn, in milliseconds.
    longest_wait: u64,
}

/// Runs `cameras` on `workers` threads for so many milliseconds; `change` may meddle at each millisecond.
fn simulate(
    cameras: &[Camera],
    workers: usize,
    millis: u64,
    mut change: impl FnMut(u64, &mut Turns<usize>),
) -> Vec<Seen> {
    let mut turns = Turns::default();
    for (at, camera) in cameras.iter().enumerate() {
        turns.add(at as u64, Priority::new(camera.priority).unwrap(), at);
    }
    let mut seen = vec![Seen::default(); cameras.len()];
    let mut waiting: Vec<Option<u64>> = vec![None; cameras.len()];
    let mut threads: Vec<Option<(Turn, u64, u64)>> = vec![None; workers];
    for now in 0..millis {
        change(now, &mut turns);
        for thread in &mut threads {
            if let Some((turn, began, until)) = *thread
                && until <= now
            {
                turns.done(turn, Duration::from_millis(until - began));
                *thread = None;
            }
        }
        for (at, camera) in cameras.iter().enumerate() {
            // Cameras are not in step.
            if (now + at as u64 * 7).is_multiple_of(camera.interval) {
                waiting[at].get_or_insert(now);
                turns.ready(at as u64);
            }
        }
        for thread in threads.iter_mut().filter(|thread| thread.is_none()) {
            let Some((turn, &at)) = turns.next() else { break };
            let since = waiting[at].take().expect("a turn is given to a lane with a frame");
            seen[at].longest_wait = seen[at].longest_wait.max(now - since);
            seen[at].frames += 1;
            seen[at].busy += cameras[at].cost;
            *thread = Some((turn, now, now + cameras[at].cost));
        }
    }
    seen
}

fn unchanged(_: u64, _: &mut Turns<usize>) {}

fn fps15(priority: u32, cost: u64) -> Camera {
    Camera { priority, interval: 66, cost }
}

#[test]
fn a_number_out_of_range_is_no_priority() {
    assert_eq!(Priority::new(1), Ok(Priority::default()));
    assert_eq!(Priority::new(9), Ok(Priority::LOWEST));
    for bad in [0, 10, 257, u32::MAX] {
        assert!(Priority::new(bad).unwrap_err().starts_with(&format!("priority = {bad}")));
    }
    assert_eq!(serde_json::from_str::<Priority>("3").unwrap().number(), 3);
    assert!(serde_json::from_str::<Priority>("0").is_err());
    assert_eq!(serde_json::to_string(&Priority::LOWEST).unwrap(), "9");
}

#[test]
fn eight_cameras_on_one_thread_get_an_equal_share() {
    let seen = simulate(&[fps15(1, 40); 8], 1, 60_000, unchanged);
    let (least, most) = (seen.iter().map(|s| s.frames).min().unwrap(), seen.iter().map(|s| s.frames).max().unwrap());
    assert!(most - least <= 1, "{seen:?}");
    assert!(seen.iter().map(|s| s.busy).sum::<u64>() >= 59_000, "no thread idles while a frame waits: {seen:?}");
}

#[test]
fn a_camera_that_offers_more_gets_no_more() {
    let mut cameras = [fps15(1, 40); 4];
    cameras[0].interval = 1;
    let seen = simulate(&cameras, 1, 30_000, unchanged);
    assert!(seen[0].frames <= seen[1].frames + 2, "{seen:?}");
}

#[test]
fn the_share_goes_by_the_priority() {
    let seen = simulate(&[fps15(1, 20), fps15(2, 20), fps15(4, 20), fps15(4, 20)], 1, 60_000, unchanged);
    // Of 3000 frames the first could have 1500 and the second 750, then more of what the first leaves; but neither has more
    // than 909 to offer. The other two share the rest.
    for (seen, expected) in seen.iter().zip([909, 909, 591, 591]) {
        assert!(seen.frames.abs_diff(expected) <= 15, "{seen:?}, {expected}");
    }
}

#[test]
fn a_slow_model_costs_those_who_chose_it() {
    let mut cameras = [Camera { priority: 1, interval: 5, cost: 20 }; 4];
    cameras[0].cost = 400;
    let seen = simulate(&cameras, 1, 60_000, unchanged);
    let fair = 60_000 / 4;
    assert!(seen[0].busy.abs_diff(fair) <= 800, "{seen:?}");
    for seen in &seen[1..] {
        assert!(seen.busy.abs_diff(fair) <= 800, "{seen:?}");
    }
}

#[test]
fn what_one_does_not_need_is_the_others() {
    let slow = Camera { priority: 1, interval: 1000, cost: 40 };
    let seen = simulate(&[slow, fps15(9, 40), fps15(9, 40)], 1, 60_000, unchanged);
    assert_eq!(seen[0].frames, 60);
    assert!(seen[0].longest_wait <= 80, "who is quiet is served next: {seen:?}");
    assert!(seen[1].frames + seen[2].frames >= 1430, "{seen:?}");
}

#[test]
fn a_quiet_lane_does_not_save_up() {
    let mut turns: Turns<&str> = Turns::default();
    turns.add(0, Priority::HIGHEST, "busy");
    turns.add(1, Priority::HIGHEST, "quiet");
    for _ in 0..1000 {
        turns.ready(0);
        let (turn, _) = turns.next().unwrap();
        turns.done(turn, Duration::from_millis(10));
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        turns.ready(0);
        turns.ready(1);
        let (turn, &name) = turns.next().unwrap();
        order.push(name);
        turns.done(turn, Duration::from_millis(10));
    }
    assert_eq!(order.iter().filter(|name| **name == "busy").count(), 3, "{order:?}");
}

#[test]
fn a_changed_priority_holds_at_once() {
    let seen = simulate(&[Camera { priority: 1, interval: 10, cost: 20 }; 2], 1, 60_000, |now, turns| {
        if now == 30_000 {
            turns.set_priority(1, Priority::new(4).unwrap());
        }
    });
    // 750 frames each, then four to one.
    assert!(seen[0].frames.abs_diff(750 + 1200) <= 10, "{seen:?}");
    assert!(seen[1].frames.abs_diff(750 + 300) <= 10, "{seen:?}");
}

#[test]
fn a_turn_counts_once_and_not_after_its_lane() {
    let mut turns: Turns<()> = Turns::default();
    turns.add(7, Priority::HIGHEST, ());
    assert!(turns.ready(7));
    let (turn, ()) = turns.next().unwrap();
    assert!(turns.is_out(turn) && turns.next().is_none());
    assert!(!turns.ready(7), "one frame at a time");
    assert!(turns.next().is_none());
    assert!(turns.done(turn, Duration::ZERO), "another waits");
    assert!(!turns.done(turn, Duration::from_secs(9)));
    let (second, ()) = turns.next().unwrap();
    assert_ne!(second, turn);
    assert!(!turns.done(turn, Duration::ZERO) && turns.is_out(second));
    assert_eq!(turns.remove(7), Some(()));
    assert!(!turns.done(second, Duration::ZERO) && !turns.ready(7) && turns.len() == 0);
}

#[test]
fn who_asks_for_some_lanes_only_passes_over_nobody() {
    let mut turns = Turns::default();
    for id in 0..3 {
        turns.add(id, Priority::HIGHEST, id);
        turns.ready(id);
    }
    let first = turns.next().unwrap().0;
    assert_eq!((first.lane, turns.waiting()), (0, 2));
    assert!(turns.next_if(|&kept| kept == 2).is_none(), "1 is next");
    assert_eq!(turns.waiting(), 2, "it still is");
    assert_eq!(turns.next_if(|&kept| kept == 1).unwrap().0.lane, 1);
    assert_eq!(turns.next_if(|&kept| kept == 2).unwrap().0.lane, 2);
    assert!(turns.next_if(|_| true).is_none() && turns.waiting() == 0);
}

#[test]
fn a_cost_without_measure_is_only_a_long_time() {
    let mut turns: Turns<()> = Turns::default();
    turns.add(0, Priority::LOWEST, ());
    for _ in 0..3 {
        turns.ready(0);
        let (turn, ()) = turns.next().unwrap();
        turns.done(turn, Duration::MAX);
    }
    turns.add(1, Priority::HIGHEST, ());
    turns.ready(0);
    turns.ready(1);
    assert!(turns.next().is_some() && turns.next().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With too little time for all, equals with the same model are served equally often, on however many threads, and none
    /// gets less than half of the mean.
    #[test]
    fn equals_share_equally_under_overload(count in 2usize..17, workers in 1usize..5, cost in 10u64..120) {
        let cameras = vec![Camera { priority: 1, interval: 66, cost }; count];
        let seen = simulate(&cameras, workers, 20_000, unchanged);
        let frames: Vec<u64> = seen.iter().map(|seen| seen.frames).collect();
        let mean = frames.iter().sum::<u64>() as f64 / count as f64;
        prop_assert!(frames.iter().all(|&frames| frames as f64 >= 0.9 * mean - 2.0), "{:?}", frames);
    }

    /// Costs that are all over the place, priorities, rates and threads of any kind: who waits is served within a bound.
    #[test]
    fn nobody_starves(cameras in prop::collection::vec((1u32..10, 5u64..200, 1u64..150), 1..12), workers in 1usize..4) {
        let cameras: Vec<_> =
            cameras.into_iter().map(|(priority, interval, cost)| Camera { priority, interval, cost }).collect();
        let seen = simulate(&cameras, workers, 30_000, unchanged);
        // In the worst case each of the others uses up as much virtual time as the two longest frames of one who waits.
        let virtual_cost = |camera: &Camera| camera.cost * u64::from(camera.priority);
        let longest = cameras.iter().map(virtual_cost).max().unwrap();
        let bound: u64 = cameras.iter().map(|camera| 2 * longest / u64::from(camera.priority) + 2 * camera.cost).sum();
        for (camera, seen) in cameras.iter().zip(&seen) {
            prop_assert!(seen.frames > 0 || bound > 30_000, "{:?} of {:?}", camera, cameras);
            prop_assert!(seen.longest_wait <= bound, "{:?}: {:?}, {}", camera, seen, bound);
        }
    }

    /// On one thread that is never enough, the time goes by weight, whatever the models cost.
    #[test]
    fn time_goes_by_weight(cameras in prop::collection::vec((1u32..10, 5u64..60), 2..8)) {
        let cameras: Vec<_> =
            cameras.into_iter().map(|(priority, cost)| Camera { priority, interval: 1, cost }).collect();
        let seen = simulate(&cameras, 1, 120_000, unchanged);
        let weights: f64 = cameras.iter().map(|camera| 1.0 / f64::from(camera.priority)).sum();
        for (camera, seen) in cameras.iter().zip(&seen) {
            let share = 120_000.0 / f64::from(camera.priority) / weights;
            let slack = 3.0 * camera.cost as f64 + 0.03 * share;
            prop_assert!((seen.busy as f64 - share).abs() <= slack, "{:?}: {:?}, {}", camera, seen, share);
        }
    }

    /// Lanes that come, go and change while the others work: whoever is there gets turns, and nobody who is gone.
    #[test]
    fn lanes_may_come_and_go(script in prop::collection::vec((0u8..4, 0u64..6, 1u32..10), 0..200)) {
        let mut turns: Turns<u64> = Turns::default();
        let (mut there, mut out) = (std::collections::BTreeSet::new(), Vec::new());
        for (what, id, number) in script {
            match what {
                0 if there.insert(id) => turns.add(id, Priority::new(number).unwrap(), id),
                0 => turns.set_priority(id, Priority::new(number).unwrap()),
                1 => {
                    prop_assert_eq!(turns.remove(id).is_some(), there.remove(&id));
                    out.retain(|turn: &Turn| turn.lane != id);
                }
                2 => { turns.ready(id); }
                _ => {
                    if let Some((turn, &kept)) = turns.next() {
                        prop_assert!(there.contains(&kept) && kept == turn.lane);
                        prop_assert!(!out.iter().any(|other: &Turn| other.lane == turn.lane), "one frame at a time");
                        out.push(turn);
                    } else if let Some(turn) = out.pop() {
                        turns.done(turn, Duration::from_millis(number.into()));
                    }
                }
            }
            prop_assert_eq!(turns.len(), there.len());
        }
    }
}
