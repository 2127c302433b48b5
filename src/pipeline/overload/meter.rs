//! How long the frames of a stream wait.

use std::time::{Duration, Instant};

/// What is looked at together.
const WINDOW: Duration = Duration::from_millis(500);

/// Fewer frames tell nothing; a slow camera has longer windows.
const LEAST_FRAMES: usize = 5;

/// After a pause this long what was before says nothing of now.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// Nine of ten frames wait less than this when all is well, so that with its work no frame needs more than its interval.
const LONG: Duration = Duration::from_millis(20);
/// Four times that is beyond what one step mends.
const VERY_LONG: Duration = Duration::from_millis(80);
/// Below this there is room.
const SHORT: Duration = Duration::from_millis(8);

/// A thread that computes for a larger share of the time is full by itself.
pub(super) const FULL: f64 = 0.85;

/// How the frames of a window fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline) enum Verdict {
    /// They waited for far too long.
    Choked,
    /// They waited for too long.
    Pressed,
    /// Neither too long nor so little that more could be done.
    Fair,
    /// They hardly waited.
    Calm,
    /// They did not wait for too long, but the detector does not get the time to look at them as often as it should at the least.
    Hungry,
}

impl Verdict {
    /// Whether no frame waited for too long.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Fair | Self::Calm)
    }
}

/// One window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::pipeline) struct Window {
    pub verdict: Verdict,
    /// The share of the time for which the thread computed.
    pub busy: f64,
    /// The thread had work all the time: it is its own work that its frames wait for.
    pub full: bool,
}

/// Collects the waits of a stream's frames, window by window.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Meter {
    began: Option<Instant>,
    last: Option<Instant>,
    waits: Vec<Duration>,
    computed: Duration,
}

impl Meter {
    /// Takes a frame that waited for `wait`, and for which the thread computed for `computed`, at `now`. Gives the verdict when
    /// that ends a window.
    pub(in crate::pipeline) fn note(&mut self, wait: Duration, computed: Duration, now: Instant) -> Option<Window> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) > PAUSE) {
            self.restart(now);
        }
        self.last = Some(now);
        let began = *self.began.get_or_insert(now);
        self.waits.push(wait);
        self.computed += computed;
        let length = now.saturating_duration_since(began);
        if length < WINDOW || self.waits.len() < LEAST_FRAMES {
            return None;
        }
        let busy = self.computed.as_secs_f64() / length.as_secs_f64();
        self.waits.sort_unstable();
        let nine_of_ten = (self.waits.len() * 9).div_ceil(10).saturating_sub(1);
        let wait = self.waits.get(nine_of_ten).copied().unwrap_or_default();
        let verdict = match wait {
            wait if wait > VERY_LONG => Verdict::Choked,
            wait if wait > LONG => Verdict::Pressed,
            wait if wait < SHORT => Verdict::Calm,
            _ => Verdict::Fair,
        };
        self.restart(now);
        Some(Window { verdict, busy, full: busy > FULL })
    }

    fn restart(&mut self, now: Instant) {
        self.began = Some(now);
        self.waits.clear();
        self.computed = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The verdicts over frames every 33 ms that waited so many milliseconds, and took so much work.
    fn verdicts(waits: impl Iterator<Item = u32>, work: u32) -> Vec<Window> {
        let (mut meter, begun) = (Meter::default(), Instant::now());
        (0u32..).zip(waits).filter_map(|(n, wait)| meter.note(wait * MS, work * MS, begun + n * 33 * MS)).collect()
    }

    #[test]
    fn nine_of_ten_frames_decide() {
        let waits = |long: u32| (0..17).map(move |n| if n < long { 200 } else { 1 });
        let seen = |waits| verdicts(waits, 3).iter().map(|window| (window.verdict, window.full)).collect::<Vec<_>>();
        assert_eq!(seen(waits(1)), [(Verdict::Calm, false)]);
        assert_eq!(seen(waits(3)), [(Verdict::Choked, false)]);
        assert_eq!(verdicts((0..17).map(|_| 30), 3)[0].verdict, Verdict::Pressed);
        assert_eq!(verdicts((0..17).map(|_| 12), 3)[0].verdict, Verdict::Fair);
    }

    #[test]
    fn a_thread_that_always_works_is_full() {
        let window = verdicts((0..17).map(|_| 20), 32)[0];
        assert!(window.full && (0.85..1.1).contains(&window.busy), "{window:?}");
    }

    #[test]
    fn what_was_before_a_pause_does_not_count() {
        let (mut meter, begun) = (Meter::default(), Instant::now());
        for n in 0..10 {
            assert_eq!(meter.note(100 * MS, MS, begun + n * 33 * MS), None);
        }
        let later = begun + Duration::from_secs(9);
        let after = (0..17).filter_map(|n| meter.note(MS, MS, later + n * 33 * MS));
        assert_eq!(after.map(|window| (window.verdict, window.full)).collect::<Vec<_>>(), [(Verdict::Calm, false)]);
    }
}
