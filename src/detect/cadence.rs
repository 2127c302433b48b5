//! How often a stream is looked at, told from the looks themselves: what is remembered between two looks depends on it.

use std::time::Duration;

use super::follow::MEMORY;

/// Intervals that are remembered.
const INTERVALS: usize = 5;

/// What is remembered outlasts so many usual intervals: one look may miss an object.
const LOOKS: f32 = 2.5;

/// However seldom looks are, what was there so long ago is somewhere else.
const LONGEST: Duration = Duration::from_secs(6);

/// The cadence of one stream's looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Cadence {
    /// The last ones, at the place of their number.
    intervals: [Duration; INTERVALS],
    count: usize,
}

impl Cadence {
    /// So much time has passed since the last look, and how long is remembered: from [`MEMORY`] to [`LONGEST`].
    ///
    /// The median of the last intervals is the usual one, so that an outage is none; the last alone counts where it was longer, so
    /// that looks may become seldom from one to the next. Without any to compare with, the first is as good as usual.
    pub(super) fn memory_after(&mut self, interval: Duration) -> Duration {
        let known = self.known();
        let usual = match known.iter().max() {
            None => interval,
            Some(_) => self.median().max(self.last()),
        };
        if let Some(place) = self.intervals.get_mut(self.count % INTERVALS) {
            *place = interval;
        }
        self.count += 1;
        usual.min(LONGEST).mul_f32(LOOKS).clamp(MEMORY, LONGEST)
    }

    fn known(&self) -> &[Duration] {
        self.intervals.get(..self.count.min(INTERVALS)).unwrap_or_default()
    }

    fn last(&self) -> Duration {
        let last = self.count.checked_sub(1).and_then(|last| self.intervals.get(last % INTERVALS));
        last.copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        let mut sorted = self.intervals;
        let known = self.known().len();
        let Some(sorted) = sorted.get_mut(..known) else { return Duration::ZERO };
        sorted.sort_unstable();
        sorted.get(known / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(milliseconds: &[u64]) -> Duration {
        let mut cadence = Cadence::default();
        milliseconds.iter().map(|ms| cadence.memory_after(Duration::from_millis(*ms))).last().unwrap()
    }

    #[test]
    fn a_quick_cadence_has_the_usual_memory() {
        assert_eq!(after(&[33; 20]), MEMORY);
    }

    #[test]
    fn seldom_looks_are_remembered_for_longer_from_the_first_on() {
        assert_eq!(after(&[1000]), Duration::from_millis(2500));
        assert_eq!(after(&[1000; 8]), Duration::from_millis(2500));
        assert_eq!(after(&[4000; 8]), LONGEST);
    }

    #[test]
    fn an_outage_is_no_cadence() {
        assert_eq!(after(&[33, 33, 33, 33, 33, 33, 8000]), MEMORY);
        assert_eq!(after(&[33, 33, 33, 33, 33, 33, 8000, 33, 33]), MEMORY);
    }

    #[test]
    fn looks_that_become_seldom_are_followed_from_one_to_the_next() {
        let mut cadence = Cadence::default();
        for ms in [66, 66, 66, 66, 66, 150, 300, 600, 1000, 1000] {
            let interval = Duration::from_millis(ms);
            assert!(cadence.memory_after(interval) >= interval, "{interval:?}");
        }
    }

    proptest! {
        #[test]
        fn the_memory_is_bounded_whatever_comes(milliseconds in prop::collection::vec(any::<u64>(), 1..20)) {
            prop_assert!((MEMORY..=LONGEST).contains(&after(&milliseconds)));
        }
    }
}
