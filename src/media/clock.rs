//! Media time: RTP timestamps unwrapped, moved into the output's epoch, and joined to the sender's wall clock.

use std::time::{Duration, SystemTime};

/// The RTP clock rate of video (RFC 6184 §8.1).
pub const VIDEO_CLOCK_HZ: u32 = 90_000;

/// The timestamps of one frame: what the source said, and what leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpTimestamp {
    /// As sent to viewers: monotonic over the source's epochs. The name of the frame for whoever consumes it.
    pub output: u32,
    /// As it arrived from the source.
    pub source: u32,
}

/// Extends 32-bit RTP timestamps to 64 bits: each value is taken as the nearest to the one before (RFC 3550 §A.1 does
/// the same for sequence numbers), so that reordering and wrap-around both come out right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwrapper {
    last: Option<i64>,
}

impl Unwrapper {
    /// The 64-bit value nearest to the last one whose low 32 bits are `timestamp`.
    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let extended = match self.last {
            None => i64::from(timestamp),
            // Truncation is the point: the low 32 bits of the last value, and the signed distance from them.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]
            Some(last) => last + i64::from(timestamp.wrapping_sub(last as u32) as i32),
        };
        self.last = Some(extended);
        extended
    }
}

/// The sender's statement of which wall-clock instant an RTP timestamp stands for (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug)]
pub struct SenderReport {
    /// NTP time, 32.32 fixed point, seconds since 1900-01-01.
    pub ntp: u64,
    /// The RTP timestamp of the same instant.
    pub rtp_timestamp: u32,
}

/// Seconds from 1900-01-01 (NTP) to 1970-01-01 (Unix).
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

impl SenderReport {
    /// The report's NTP time as a system time; `None` before 1970, which senders without a clock send.
    #[must_use]
    pub fn wall_clock(&self) -> Option<SystemTime> {
        let seconds = (self.ntp >> 32).checked_sub(NTP_TO_UNIX_SECONDS)?;
        let nanos = ((self.ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, u32::try_from(nanos).ok()?))
    }
}

/// Gives each frame its output timestamp: the source's plus a constant within an epoch, monotonic over epochs.
///
/// The first epoch's constant is 0, so that a browser's own `/offer` track comes back with the timestamps that it sent.
#[derive(Debug, Default)]
pub struct StreamClock {
    offset: u32,
    last_output: Option<u32>,
    rebase: Option<Duration>,
    report: Option<SenderReport>,
}

impl StreamClock {
    /// A clock in its first epoch: output equals source.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a new epoch (the source reconnected or restarted its timestamps): the next frame will leave `gap` after
    /// the last one that left, whatever the source's timestamp says. Sender reports of the old epoch are forgotten.
    pub fn begin_epoch(&mut self, gap: Duration) {
        self.report = None;
        if self.last_output.is_some() {
            self.rebase = Some(gap);
        }
    }

    /// The timestamps of a frame that the source stamped `source`.
    pub fn stamp(&mut self, source: u32) -> RtpTimestamp {
        if let (Some(gap), Some(last)) = (self.rebase.take(), self.last_output) {
            let ticks = (gap.as_nanos() * u128::from(VIDEO_CLOCK_HZ) / 1_000_000_000).max(1);
            #[allow(clippy::cast_possible_truncation)] // RTP timestamps wrap by definition.
            let next = last.wrapping_add(ticks as u32);
            self.offset = next.wrapping_sub(source);
        }
        let output = source.wrapping_add(self.offset);
        self.last_output = Some(output);
        RtpTimestamp { output, source }
    }

    /// Takes the newest sender report of the source.
    pub fn on_sender_report(&mut self, report: SenderReport) {
        self.report = Some(report);
    }

    /// The sender's wall-clock time for a source timestamp, once a sender report has come.
    #[must_use]
    pub fn captured(&self, source: u32) -> Option<SystemTime> {
        let report = self.report?;
        let base = report.wall_clock()?;
        #[allow(clippy::cast_possible_wrap)] // the signed distance between two wrapping timestamps
        let ticks = source.wrapping_sub(report.rtp_timestamp) as i32;
        let distance =
            Duration::from_nanos(u64::from(ticks.unsigned_abs()) * 1_000_000_000 / u64::from(VIDEO_CLOCK_HZ));
        if ticks >= 0 { base.checked_add(distance) } else { base.checked_sub(distance) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamps_unwrap_across_the_wrap_and_back() {
        let mut unwrapper = Unwrapper::default();
        assert_eq!(unwrapper.unwrap(u32::MAX - 10), i64::from(u32::MAX - 10));
        assert_eq!(unwrapper.unwrap(20), i64::from(u32::MAX) + 21);
        assert_eq!(unwrapper.unwrap(u32::MAX), i64::from(u32::MAX));
    }

    #[test]
    fn the_first_epoch_passes_timestamps_through() {
        let mut clock = StreamClock::new();
        assert_eq!(clock.stamp(77), RtpTimestamp { output: 77, source: 77 });
    }

    #[test]
    fn a_new_epoch_continues_after_the_last_output() {
        let mut clock = StreamClock::new();
        clock.stamp(1_000_000);
        clock.begin_epoch(Duration::from_millis(100));
        assert_eq!(clock.stamp(5), RtpTimestamp { output: 1_009_000, source: 5 });
        assert_eq!(clock.stamp(3005).output, 1_012_000);
    }

    #[test]
    fn a_sender_report_dates_frames_before_and_after_it() {
        let mut clock = StreamClock::new();
        assert_eq!(clock.captured(0), None);
        clock.on_sender_report(SenderReport { ntp: (NTP_TO_UNIX_SECONDS + 100) << 32, rtp_timestamp: 90_000 });
        let at = |s: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(s);
        assert_eq!(clock.captured(90_000), Some(at(100.0)));
        assert_eq!(clock.captured(180_000), Some(at(101.0)));
        assert_eq!(clock.captured(0), Some(at(99.0)));
    }

    proptest! {
        #[test]
        fn unwrapping_keeps_the_low_bits_and_never_jumps_far(values in prop::collection::vec(any::<u32>(), 1..50)) {
            let mut unwrapper = Unwrapper::default();
            let mut last: Option<i64> = None;
            for value in values {
                let wide = unwrapper.unwrap(value);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                { prop_assert_eq!(wide as u32, value); }
                if let Some(last) = last { prop_assert!((wide - last).abs() <= 1 << 31); }
                last = Some(wide);
            }
        }

        #[test]
        fn output_is_source_plus_a_constant_within_an_epoch(start in any::<u32>(), gap_ms in 1u64..10_000, steps in prop::collection::vec(1u32..100_000, 1..20)) {
            let mut clock = StreamClock::new();
            clock.stamp(start.wrapping_add(12345));
            clock.begin_epoch(Duration::from_millis(gap_ms));
            let first = clock.stamp(start);
            let mut source = start;
            for step in steps {
                source = source.wrapping_add(step);
                let stamp = clock.stamp(source);
                prop_assert_eq!(stamp.output.wrapping_sub(first.output), source.wrapping_sub(start));
            }
        }
    }
}
