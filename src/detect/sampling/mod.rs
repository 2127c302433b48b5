//! Which frames the detector looks at: all, or those in which something may have happened.
//!
//! Belongs here: the strategies with their parameters ([`Sampling`]), the decision ([`Sampler`]: time and measures in, a verdict
//! out, no clock and no picture of its own), the measure of a picture ([`MotionMeter`]), and what is counted. Does not belong
//! here: the lane that asks, and the model that finds *what* moves (`motion`).

mod config;
mod meter;
mod sampler;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::media::{Frame, Mark};

pub use config::Sampling;
pub use meter::{MotionMeter, Seen};
pub use sampler::{Offer, Reason, Sampler, Verdict};

/// What became of the frames that were offered, by reason. A frame that is sampled may still be skipped for a newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SamplingCounts {
    /// Frames that were judged.
    pub offered: u64,
    /// Frames that the detector was given.
    pub sampled: u64,
    /// Frames that it was spared.
    pub passed_over: u64,
    /// The same two by reason, those that occurred.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl SamplingCounts {
    /// Adds those of another lane of the same stream.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.sampled += other.sampled;
        self.passed_over += other.passed_over;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

/// What is known of a frame that is offered, beside the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// It comes from an IDR access unit.
    pub keyframe: bool,
    /// Somebody waits for its result.
    pub wanted: bool,
}

/// Between two frames that are further apart things may have happened.
const LONGEST_STILL: Duration = Duration::from_millis(500);

/// A sampler with the meter that it needs.
#[derive(Debug)]
pub(super) struct Gate {
    sampler: Sampler,
    meter: MotionMeter,
    before: Option<Instant>,
    still: Duration,
}

impl Gate {
    pub(super) fn new(sampling: Sampling) -> Self {
        Self { sampler: Sampler::new(sampling), meter: MotionMeter::new(), before: None, still: Duration::ZERO }
    }

    pub(super) fn sampling(&self) -> Sampling {
        self.sampler.sampling()
    }

    /// The least rate of looks, whatever the strategy.
    pub(super) fn set_at_least(&mut self, interval: Option<Duration>) {
        self.sampler.set_at_least(interval);
    }

    /// Another strategy from now on; the time of stillness goes on.
    pub(super) fn set_sampling(&mut self, sampling: Sampling) {
        *self = Self { before: self.before, still: self.still, ..Self::new(sampling) };
    }

    /// For how long so far frames were passed over because nothing moved in them.
    pub(super) fn still(&self) -> Duration {
        self.still
    }

    /// Judges a frame. `objects`: in the newest result.
    pub(super) fn judge(&mut self, frame: &Frame, hint: Hint, objects: usize) -> Verdict {
        let at = frame.ledger.at(Mark::LastPacket).unwrap_or_else(Instant::now);
        let seen = self.sampler.needs_measure().then(|| self.meter.look(&frame.picture));
        let Hint { keyframe, wanted } = hint;
        let verdict = self.sampler.decide(&Offer { at, keyframe, wanted, seen, objects });
        if verdict.sampled && seen.is_some() {
            self.meter.keep();
        }
        let gap = self.before.replace(at).map_or(Duration::ZERO, |before| at.saturating_duration_since(before));
        if verdict.reason == Reason::Still {
            // Of a longer gap nobody knows what was in it.
            self.still += gap.min(LONGEST_STILL);
        }
        verdict
    }
}

/// Counts verdicts; shared by whoever offers and whoever asks.
#[derive(Debug, Default)]
pub(super) struct Tally([AtomicU64; Reason::ALL.len()]);

impl Tally {
    pub(super) fn note(&self, reason: Reason) {
        if let Some(count) = self.0.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> SamplingCounts {
        let mut counts = SamplingCounts::default();
        for (reason, count) in Reason::ALL.into_iter().zip(&self.0) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                counts.offered += count;
                *(if reason.samples() { &mut counts.sampled } else { &mut counts.passed_over }) += count;
                counts.reasons.insert(reason.name(), count);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_a_name_of_its_own() {
        let tally = Tally::default();
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| tally.note(reason));
        }
        let mut counts = tally.counts();
        assert_eq!(counts.reasons.len(), Reason::ALL.len());
        assert_eq!(counts.offered, counts.sampled + counts.passed_over);
        assert_eq!(counts.offered, (1..=Reason::ALL.len() as u64).sum::<u64>());
        let once = counts.clone();
        counts.add(&once);
        assert_eq!((counts.offered, counts.reasons["every"]), (2 * once.offered, 2));
    }
}
