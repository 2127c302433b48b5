//! How a source's clock goes against ours, measured on what arrives.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::{Unwrapper, VIDEO_CLOCK_HZ};

/// Arrivals are looked at in spans of this length; of each, the one that was delayed least counts.
const SPAN: Duration = Duration::from_secs(4);

/// The spans that are kept: the last five minutes.
const SPANS: usize = 75;

/// Fewer say nothing: the network's changes are larger than the clock's.
const LEAST_SPANS: usize = 4;

/// The spans that the offset is taken from: the last twenty seconds.
const OFFSET_SPANS: usize = 5;

/// A source's clock against ours. What arrives was delayed, so both figures hold the network's delay and its changes: they
/// are there to be shown, and nothing should be scheduled by them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Skew {
    /// The source's wall clock minus ours at arrival, in seconds: its error less the delay of the least delayed frames.
    /// `None` where the source does not tell the time.
    pub offset: Option<f64>,
    /// How much faster than ours its clock runs, in parts per million.
    pub drift_ppm: f64,
    /// How long it was measured.
    pub measured: Duration,
}

/// Measures a [`Skew`]: the median slope (Theil and Sen) through the least delayed frame of each span, which a few late
/// frames, or even many, do not bend.
#[derive(Debug, Default)]
pub struct SkewMeter {
    begin: Option<Instant>,
    unwrapper: Unwrapper,
    /// RTP time minus the time since the beginning, by the media's own clock.
    media: Series,
    /// The sender's wall clock minus ours.
    wall: Series,
    /// By the spans that are over: it is asked for more often than it changes.
    skew: Option<Skew>,
}

/// The least delayed frame of each span: `(seconds since the beginning, how far its clock is ahead)`.
#[derive(Debug, Default)]
struct Series(VecDeque<(f64, f64)>);

impl Series {
    /// Says whether a new span began.
    fn put(&mut self, at: f64, ahead: f64) -> bool {
        match self.0.back_mut() {
            Some(last) if (last.0 / SPAN.as_secs_f64()).floor() >= (at / SPAN.as_secs_f64()).floor() => {
                // A frame is never early: the clock is as far ahead as the least delayed frame says.
                if ahead > last.1 {
                    *last = (at.max(last.0), ahead);
                }
                false
            }
            _ => {
                if self.0.len() == SPANS {
                    self.0.pop_front();
                }
                self.0.push_back((at, ahead));
                true
            }
        }
    }

    /// Seconds gained in each second; the last span is not over yet and does not count.
    fn slope(&self) -> Option<f64> {
        let whole = self.0.len().checked_sub(1).filter(|&whole| whole >= LEAST_SPANS)?;
        let points: Vec<_> = self.0.iter().take(whole).copied().collect();
        let mut slopes = Vec::with_capacity(whole * whole / 2);
        for (n, a) in points.iter().enumerate() {
            slopes.extend(points.iter().skip(n + 1).filter(|b| b.0 > a.0).map(|b| (b.1 - a.1) / (b.0 - a.0)));
        }
        median(&mut slopes)
    }

    fn newest(&self) -> Option<f64> {
        let mut last: Vec<f64> = self.0.iter().rev().take(OFFSET_SPANS).map(|point| point.1).collect();
        median(&mut last)
    }

    fn measured(&self) -> f64 {
        self.0.front().zip(self.0.back()).map_or(0.0, |(first, last)| last.0 - first.0)
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl SkewMeter {
    /// A meter that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins anew: the source is another one, or its clock was set.
    pub fn begin_epoch(&mut self) {
        *self = Self::default();
    }

    /// Takes a frame that the source stamped `rtp_timestamp` and dated `captured`, and that arrived at `arrived`, which our
    /// wall clock calls `wall`.
    pub fn put(&mut self, rtp_timestamp: u32, captured: Option<SystemTime>, arrived: Instant, wall: SystemTime) {
        let begin = *self.begin.get_or_insert(arrived);
        let at = arrived.saturating_duration_since(begin).as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // exact for three thousand years
        let media = self.unwrapper.unwrap(rtp_timestamp) as f64 / f64::from(VIDEO_CLOCK_HZ);
        let begins = self.media.put(at, media - at);
        if let Some(captured) = captured {
            let ahead = match captured.duration_since(wall) {
                Ok(ahead) => ahead.as_secs_f64(),
                Err(behind) => -behind.duration().as_secs_f64(),
            };
            self.wall.put(at, ahead);
        }
        if begins {
            self.skew = self.measure();
        }
    }

    /// What was found out; `None` before the first quarter of a minute is over.
    #[must_use]
    pub fn skew(&self) -> Option<Skew> {
        self.skew
    }

    fn measure(&self) -> Option<Skew> {
        let drift = self.media.slope()?;
        Some(Skew {
            offset: self.wall.newest(),
            drift_ppm: drift * 1e6,
            measured: Duration::from_secs_f64(self.media.measured().max(0.0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frames at 25 a second for `seconds`, of a clock `ppm` fast and `offset` seconds ahead, delayed as `delay` says.
    fn measured(seconds: u32, ppm: f64, offset: f64, mut delay: impl FnMut(u32) -> f64) -> Option<Skew> {
        let (mut meter, start, wall) = (SkewMeter::new(), Instant::now(), SystemTime::now());
        for n in 0..seconds * 25 {
            let sent = f64::from(n) / 25.0;
            let arrival = Duration::from_secs_f64(sent + delay(n));
            let own = sent * (1.0 + ppm / 1e6);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rtp = (own * 90_000.0) as u64 as u32;
            let captured = wall + Duration::from_secs_f64(own + offset);
            meter.put(rtp.wrapping_add(u32::MAX - 90_000), Some(captured), start + arrival, wall + arrival);
        }
        meter.skew()
    }

    #[test]
    fn a_quarter_of_a_minute_is_needed() {
        assert_eq!(measured(15, 0.0, 0.0, |_| 0.0), None);
        assert!(measured(21, 0.0, 0.0, |_| 0.0).is_some());
    }

    #[test]
    fn a_stall_of_seconds_bends_nothing() {
        let stall = |n: u32| if (2000..2200).contains(&n) { f64::from(2200 - n) / 25.0 } else { 0.005 };
        let skew = measured(240, 40.0, 2.5, stall).unwrap();
        assert!((skew.drift_ppm - 40.0).abs() < 5.0, "{skew:?}");
        assert!((skew.offset.unwrap() - 2.5).abs() < 0.02, "{skew:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn drift_is_found_through_jitter(ppm in -200f64..200.0, offset in 0f64..5.0, seed in any::<u32>()) {
            let mut state = seed | 1;
            let jitter = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                0.002 + f64::from(state >> 16) / 65_536.0 * 0.05
            };
            let skew = measured(180, ppm, offset, jitter).unwrap();
            prop_assert!((skew.drift_ppm - ppm).abs() < 25.0, "{skew:?} for {ppm}");
            prop_assert!((skew.offset.unwrap() - offset).abs() < 0.08);
        }
    }
}
