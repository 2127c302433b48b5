use proptest::prelude::*;

use super::*;

const FRAME: Duration = Duration::from_millis(33);

fn still(at: Instant) -> Offer {
    Offer { at, keyframe: false, wanted: false, seen: Some(Seen::default()), objects: 0 }
}

fn moving(at: Instant, motion: f32) -> Offer {
    Offer { seen: Some(Seen { motion, scene: 0.0 }), ..still(at) }
}

/// Feeds frames 33 ms apart, and gives the reasons.
fn run(sampling: Sampling, offers: impl IntoIterator<Item = Offer>) -> Vec<Reason> {
    let (mut sampler, mut at) = (Sampler::new(sampling), Instant::now());
    let mut reasons = Vec::new();
    for offer in offers {
        reasons.push(sampler.decide(&Offer { at, ..offer }).reason);
        at += FRAME;
    }
    reasons
}

fn motion(min_interval_ms: u64, cooldown_ms: u64, max_interval_ms: u64) -> Sampling {
    Sampling::Motion { threshold: 0.01, min_interval_ms, cooldown_ms, max_interval_ms }
}

#[test]
fn every_n_looks_at_the_first_and_then_at_each_nth() {
    let now = Instant::now();
    let reasons = run(Sampling::EveryN { n: 3 }, std::iter::repeat_n(still(now), 7));
    let sampled: Vec<bool> = reasons.iter().map(|reason| reason.samples()).collect();
    assert_eq!(sampled, [true, false, false, true, false, false, true]);
}

#[test]
fn keyframes_alone_are_looked_at() {
    let now = Instant::now();
    let offers = (0..6).map(|n| Offer { keyframe: n % 3 == 1, ..still(now) });
    let reasons = run(Sampling::Keyframes, offers);
    use Reason::{Keyframe, NoKeyframe};
    assert_eq!(reasons, [NoKeyframe, Keyframe, NoKeyframe, NoKeyframe, Keyframe, NoKeyframe]);
}

#[test]
fn motion_is_looked_at_and_what_follows_it_for_the_cooldown() {
    let now = Instant::now();
    // One moving picture, then stillness; 100 ms are three frames.
    let offers = (0..8).map(|n| if n == 2 { moving(now, 0.5) } else { still(now) });
    use Reason::{Cooldown, First, Motion, Still};
    assert_eq!(run(motion(0, 100, 0), offers), [First, Still, Motion, Cooldown, Cooldown, Cooldown, Still, Still]);
}

#[test]
fn what_moved_too_soon_is_looked_at_when_it_is_not_any_more() {
    let now = Instant::now();
    let offers = (0..8).map(|n| if n == 1 { moving(now, 0.5) } else { still(now) });
    use Reason::{First, Motion, Still, TooSoon};
    assert_eq!(run(motion(100, 0, 0), offers), [First, TooSoon, TooSoon, TooSoon, Motion, TooSoon, TooSoon, TooSoon]);
    let later = (0..10).map(|n| if n == 1 { moving(now, 0.5) } else { still(now) });
    assert_eq!(run(motion(100, 0, 0), later)[8..], [Still, Still]);
}

#[test]
fn a_still_scene_is_looked_at_now_and_then() {
    let now = Instant::now();
    let reasons = run(motion(0, 0, 330), std::iter::repeat_n(still(now), 100));
    let looks = reasons.iter().filter(|reason| reason.samples()).count();
    assert_eq!(looks, 10, "{reasons:?}");
}

#[test]
fn a_scene_is_looked_at_once_when_it_changes() {
    let now = Instant::now();
    let sampling = Sampling::SceneChange { threshold: 0.3, min_interval_ms: 0, max_interval_ms: 0 };
    let offers =
        (0..5).map(|n| Offer { seen: Some(Seen { motion: 0.9, scene: if n == 3 { 0.4 } else { 0.1 } }), ..still(now) });
    use Reason::{First, SameScene, SceneChange};
    assert_eq!(run(sampling, offers), [First, SameScene, SameScene, SceneChange, SameScene]);
}

#[test]
fn who_waits_for_a_picture_gets_it_whatever_the_strategy() {
    let now = Instant::now();
    for sampling in [Sampling::Keyframes, motion(10_000, 0, 0), Sampling::EveryN { n: 1000 }] {
        let mut sampler = Sampler::new(sampling);
        sampler.decide(&still(now));
        let verdict = sampler.decide(&Offer { wanted: true, ..still(now + FRAME) });
        assert_eq!(verdict, Verdict { sampled: true, reason: Reason::Wanted }, "{sampling:?}");
    }
}

#[test]
fn the_rate_rises_with_what_happens_and_falls_when_nothing_does() {
    let sampling =
        Sampling::Adaptive { base_fps: 5.0, min_fps: 1.0, max_fps: 15.0, threshold: 0.02, smoothing_ms: 1000 };
    let now = Instant::now();
    let count = |reasons: &[Reason]| reasons.iter().filter(|reason| reason.samples()).count();
    // Ten seconds each; the last five of each are at rest.
    let quiet = run(sampling, std::iter::repeat_n(still(now), 300));
    assert!((4..=6).contains(&count(&quiet[150..])), "{}", count(&quiet[150..]));
    let half = run(sampling, std::iter::repeat_n(moving(now, 0.5), 300));
    assert!((24..=26).contains(&count(&half[150..])), "{}", count(&half[150..]));
    let busy = run(sampling, std::iter::repeat_n(Offer { objects: 5, ..moving(now, 0.5) }, 300));
    assert!((70..=75).contains(&count(&busy[150..])), "{}", count(&busy[150..]));
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    prop_oneof![
        Just(Sampling::Every),
        (1u32..20).prop_map(|n| Sampling::EveryN { n }),
        Just(Sampling::Keyframes),
        (0u64..500, 0u64..2000, prop_oneof![Just(0u64), 500u64..3000])
            .prop_map(|(min, cool, max)| motion(min, cool, max)),
        (0.01f32..0.9, 0u64..500, prop_oneof![Just(0u64), 500u64..3000]).prop_map(
            |(threshold, min_interval_ms, max_interval_ms)| {
                Sampling::SceneChange { threshold, min_interval_ms, max_interval_ms }
            }
        ),
        (0.1f32..5.0, 1.0f32..3.0, 1.0f32..3.0, 10u64..5000).prop_map(|(min_fps, up, further, smoothing_ms)| {
            let base_fps = min_fps * up;
            Sampling::Adaptive { base_fps, min_fps, max_fps: base_fps * further, threshold: 0.02, smoothing_ms }
        }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Step {
    gap_ms: u64,
    motion: f32,
    scene: f32,
    keyframe: bool,
    objects: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = (5u64..200, 0f32..0.03, 0f32..1.0, prop::bool::weighted(0.05), 0usize..6)
        .prop_map(|(gap_ms, motion, scene, keyframe, objects)| Step { gap_ms, motion, scene, keyframe, objects });
    prop::collection::vec(one, 1..200)
}

fn offer(at: Instant, step: &Step) -> Offer {
    let seen = Some(Seen { motion: step.motion, scene: step.scene });
    Offer { at, keyframe: step.keyframe, wanted: false, seen, objects: step.objects }
}

proptest! {
    #[test]
    fn the_times_that_were_asked_for_are_kept(sampling in any_sampling(), steps in steps()) {
        prop_assert_eq!(sampling.validate(), Ok(()));
        let (mut sampler, mut at) = (Sampler::new(sampling), Instant::now());
        let (mut last, mut gap) = (None::<Instant>, Duration::ZERO);
        for step in &steps {
            let before = at;
            at += Duration::from_millis(step.gap_ms);
            gap = gap.max(at - before);
            let verdict = sampler.decide(&offer(at, step));
            prop_assert_eq!(verdict.sampled, verdict.reason.samples());
            prop_assert!((0.0..=1.0).contains(&sampler.activity()));
            let (min, max) = match sampling {
                Sampling::Motion { min_interval_ms, max_interval_ms, .. }
                | Sampling::SceneChange { min_interval_ms, max_interval_ms, .. } => (min_interval_ms, max_interval_ms),
                _ => (0, 0),
            };
            if let Some(last) = last {
                let since = at - last;
                prop_assert!(!verdict.sampled || since >= Duration::from_millis(min));
                prop_assert!(max == 0 || verdict.sampled || since < Duration::from_millis(max));
            }
            if verdict.sampled {
                last = Some(at);
            }
        }
    }

    /// Nothing that moves goes unseen for longer than the least time between two looks.
    #[test]
    fn no_motion_is_missed(min in 0u64..400, cooldown in 0u64..500, steps in steps()) {
        let (mut sampler, mut at) = (Sampler::new(motion(min, cooldown, 0)), Instant::now());
        let mut unseen: Option<Instant> = None;
        for step in &steps {
            at += Duration::from_millis(step.gap_ms);
            if step.motion >= 0.01 {
                unseen.get_or_insert(at);
            }
            let sampled = sampler.decide(&offer(at, step)).sampled;
            if sampled {
                unseen = None;
            }
            prop_assert!(unseen.is_none_or(|since| at - since < Duration::from_millis(min)));
        }
    }

    #[test]
    fn the_rate_stays_between_its_bounds(min_fps in 0.5f32..3.0, up in 1.0f32..3.0, steps in steps()) {
        let max_fps = min_fps * up * up;
        let sampling = Sampling::Adaptive { base_fps: min_fps * up, min_fps, max_fps, threshold: 0.02, smoothing_ms: 500 };
        let (mut sampler, start) = (Sampler::new(sampling), Instant::now());
        let (mut at, mut looks) = (start, 0u16);
        // Thirty frames a second, more than the highest rate.
        for step in steps.iter().cycle().take(600) {
            looks += u16::from(sampler.decide(&offer(at, step)).sampled);
            at += FRAME;
        }
        let seconds = (at - start).as_secs_f32();
        prop_assert!(f32::from(looks) <= max_fps * seconds + 2.0, "{looks} in {seconds} s at most {max_fps}");
        prop_assert!(f32::from(looks) >= min_fps * seconds * 0.9 - 2.0, "{looks} in {seconds} s at least {min_fps}");
    }

    #[test]
    fn a_floor_under_every_strategy_holds(sampling in any_sampling(), steps in steps(), floor in 50u64..1000) {
        let (mut sampler, mut at) = (Sampler::new(sampling), Instant::now());
        sampler.set_at_least(Some(Duration::from_millis(floor)));
        let mut last = None::<Instant>;
        for step in &steps {
            at += Duration::from_millis(step.gap_ms);
            let sampled = sampler.decide(&offer(at, step)).sampled;
            prop_assert!(sampled || last.is_none_or(|last| at - last < Duration::from_millis(floor)));
            if sampled {
                last = Some(at);
            }
        }
    }

    #[test]
    fn time_that_goes_back_does_no_harm(sampling in any_sampling(), at in prop::collection::vec(0u64..5000, 1..60), motion in prop::num::f32::ANY) {
        let (mut sampler, start) = (Sampler::new(sampling), Instant::now());
        for ms in at {
            let seen = Some(Seen { motion, scene: motion });
            sampler.decide(&Offer { seen, ..still(start + Duration::from_millis(ms)) });
            prop_assert!((0.0..=1.0).contains(&sampler.activity()));
        }
    }
}
