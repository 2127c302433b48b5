//! Whether a frame is looked at: the decision, without a clock and without a picture.

use std::time::{Duration, Instant};

use super::Sampling;
use super::meter::Seen;

/// Objects in the newest result that make the half of an activity that is due to what was found.
const BUSY_OBJECTS: f32 = 3.0;

/// Why a frame is looked at, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All are.
    Every,
    /// It is the n-th.
    Nth,
    /// It is a keyframe.
    Keyframe,
    /// Something moves.
    Motion,
    /// Something moved a moment ago.
    Cooldown,
    /// It differs from what was looked at last.
    SceneChange,
    /// The rate allows it.
    Rate,
    /// The last look was long ago.
    Interval,
    /// There was none before.
    First,
    /// Somebody waits for this picture.
    Wanted,
    /// It is not the n-th.
    NotNth,
    /// It is no keyframe.
    NoKeyframe,
    /// Nothing moves.
    Still,
    /// It is like what was looked at last.
    SameScene,
    /// The last look was just now.
    TooSoon,
    /// The rate does not allow it yet.
    NotDue,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Every,
        Self::Nth,
        Self::Keyframe,
        Self::Motion,
        Self::Cooldown,
        Self::SceneChange,
        Self::Rate,
        Self::Interval,
        Self::First,
        Self::Wanted,
        Self::NotNth,
        Self::NoKeyframe,
        Self::Still,
        Self::SameScene,
        Self::TooSoon,
        Self::NotDue,
    ];

    /// Its name in metrics and status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Every => "every",
            Self::Nth => "nth",
            Self::Keyframe => "keyframe",
            Self::Motion => "motion",
            Self::Cooldown => "cooldown",
            Self::SceneChange => "scene_change",
            Self::Rate => "rate",
            Self::Interval => "interval",
            Self::First => "first",
            Self::Wanted => "wanted",
            Self::NotNth => "not_nth",
            Self::NoKeyframe => "no_keyframe",
            Self::Still => "still",
            Self::SameScene => "same_scene",
            Self::TooSoon => "too_soon",
            Self::NotDue => "not_due",
        }
    }

    /// Whether it is one to look.
    #[must_use]
    pub fn samples(self) -> bool {
        !matches!(self, Self::NotNth | Self::NoKeyframe | Self::Still | Self::SameScene | Self::TooSoon | Self::NotDue)
    }
}

/// A frame that could be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// When it arrived.
    pub at: Instant,
    /// It is a picture of its own, which refers to none before.
    pub keyframe: bool,
    /// Somebody waits for its result: it is looked at whatever happens.
    pub wanted: bool,
    /// What was measured on it; `None` where [`Sampler::needs_measure`] says that nothing need be.
    pub seen: Option<Seen>,
    /// Objects in the newest result.
    pub objects: usize,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is looked at.
    pub sampled: bool,
    /// Why, or why not.
    pub reason: Reason,
}

/// Decides frame by frame. Time that goes back counts as standing still.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    /// At least this often, whatever the strategy says.
    at_least: Option<Duration>,
    now: Option<Instant>,
    last: Option<Instant>,
    moved: Option<Instant>,
    due: Option<Instant>,
    passed: u32,
    /// 0 to 1, averaged.
    activity: f32,
}

impl Sampler {
    /// A sampler that has seen nothing: it looks at the first frame.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, at_least: None, now: None, last: None, moved: None, due: None, passed: 0, activity: 0.5 }
    }

    /// The strategy.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Looks at least this often from now on, whatever the strategy says.
    pub fn set_at_least(&mut self, interval: Option<Duration>) {
        self.at_least = interval;
    }

    /// Whether a picture has to be measured for the decision.
    #[must_use]
    pub fn needs_measure(&self) -> bool {
        matches!(self.sampling, Sampling::Motion { .. } | Sampling::SceneChange { .. } | Sampling::Adaptive { .. })
    }

    /// The average activity, 0 to 1 (`adaptive` alone changes it).
    #[must_use]
    pub fn activity(&self) -> f32 {
        self.activity
    }

    /// Whether this frame is looked at.
    pub fn decide(&mut self, offer: &Offer) -> Verdict {
        let now = self.now.map_or(offer.at, |before| before.max(offer.at));
        let elapsed = self.now.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        self.now = Some(now);
        let since = self.last.map(|last| now.saturating_duration_since(last));
        let own = self.judge(offer, now, elapsed, since);
        let reason = if own.samples() {
            own
        } else if offer.wanted {
            Reason::Wanted
        } else if since.zip(self.at_least).is_some_and(|(since, most)| since >= most) {
            Reason::Interval
        } else {
            own
        };
        let sampled = reason.samples();
        if sampled {
            self.last = Some(now);
            self.passed = 0;
        } else {
            self.passed = self.passed.saturating_add(1);
        }
        Verdict { sampled, reason }
    }

    fn judge(&mut self, offer: &Offer, now: Instant, elapsed: Duration, since: Option<Duration>) -> Reason {
        let seen = offer.seen.unwrap_or_default();
        let too_soon = |least: u64| since.is_some_and(|since| since < Duration::from_millis(least));
        let long_ago = |most: u64| most > 0 && since.is_some_and(|since| since >= Duration::from_millis(most));
        match self.sampling {
            Sampling::Every => Reason::Every,
            Sampling::EveryN { n } => match since {
                Some(_) if self.passed + 1 < n => Reason::NotNth,
                _ => Reason::Nth,
            },
            // Before the first one there is nothing to wait for either.
            Sampling::Keyframes if offer.keyframe => Reason::Keyframe,
            Sampling::Keyframes => Reason::NoKeyframe,
            Sampling::Motion { threshold, min_interval_ms, cooldown_ms, max_interval_ms } => {
                let moves = seen.motion >= threshold;
                if moves {
                    self.moved = Some(now);
                }
                let cooling = self.moved.is_some_and(|moved| {
                    cooldown_ms > 0 && now.saturating_duration_since(moved) <= Duration::from_millis(cooldown_ms)
                });
                if since.is_none() {
                    Reason::First
                } else if too_soon(min_interval_ms) {
                    Reason::TooSoon
                } else if moves || self.owed() {
                    // What moved when it was too soon is looked at as soon as it is not.
                    Reason::Motion
                } else if cooling {
                    Reason::Cooldown
                } else if long_ago(max_interval_ms) {
                    Reason::Interval
                } else {
                    Reason::Still
                }
            }
            Sampling::SceneChange { threshold, min_interval_ms, max_interval_ms } => {
                if since.is_none() {
                    Reason::First
                } else if too_soon(min_interval_ms) {
                    Reason::TooSoon
                } else if seen.scene >= threshold {
                    Reason::SceneChange
                } else if long_ago(max_interval_ms) {
                    Reason::Interval
                } else {
                    Reason::SameScene
                }
            }
            Sampling::Adaptive { base_fps, min_fps, max_fps, threshold, smoothing_ms } => {
                self.average(activity(&seen, threshold, offer.objects), elapsed, smoothing_ms);
                let interval = Duration::from_secs_f32(1.0 / rate(self.activity, [min_fps, base_fps, max_fps]));
                let Some(last) = self.last else {
                    self.due = Some(now + interval);
                    return Reason::First;
                };
                // A rate that has risen since is not waited for as long as the old one said.
                let due = self.due.map_or(now, |due| due.min(last + interval));
                if now < due {
                    return Reason::NotDue;
                }
                // From the due time on and not from now, so that the rate is met on the average.
                self.due = Some((due + interval).max(now));
                Reason::Rate
            }
        }
    }

    /// Whether something moved after the last look.
    fn owed(&self) -> bool {
        self.moved.zip(self.last).is_some_and(|(moved, last)| moved > last)
    }

    fn average(&mut self, activity: f32, elapsed: Duration, smoothing_ms: u64) {
        let over = Duration::from_millis(smoothing_ms.max(1)).as_secs_f32();
        let weight = 1.0 - (-elapsed.as_secs_f32() / over).exp();
        self.activity = (self.activity + weight * (activity - self.activity)).clamp(0.0, 1.0);
    }
}

/// Half of it is what moves, half what was found.
fn activity(seen: &Seen, threshold: f32, objects: usize) -> f32 {
    #[allow(clippy::cast_precision_loss)] // at most a thousand
    let found = (objects as f32 / BUSY_OBJECTS).min(1.0);
    let moves = seen.motion / threshold;
    // What is not a number is no motion.
    f32::midpoint(if moves > 0.0 { moves.min(1.0) } else { 0.0 }, found)
}

/// Frames per second at this activity, on two straight lines through the lowest, the base and the highest.
fn rate(activity: f32, [min, base, max]: [f32; 3]) -> f32 {
    let fps =
        if activity < 0.5 { min + (base - min) * activity * 2.0 } else { base + (max - base) * (activity - 0.5) * 2.0 };
    fps.clamp(min, max)
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
