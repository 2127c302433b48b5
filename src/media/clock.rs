//! Media time: RTP timestamps unwrapped, moved into the output's epoch, and joined to the sender's wall clock.

use std::time::{Duration, Instant, SystemTime};

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

/// A source whose timestamps leave the wall clock's pace by more than this has begun a new count.
const JUMP: Duration = Duration::from_secs(10);

/// Gives each frame its output timestamp: the source's plus a constant within an epoch, rising over epochs.
///
/// The first epoch's constant is 0, so that a browser's own `/offer` track comes back with the timestamps that it sent. A new
/// epoch begins where the source says so ([`begin_epoch`](Self::begin_epoch)) and where its timestamps say so: they jumped, or
/// stand still. Between epochs the output goes on by the wall clock.
#[derive(Debug, Default)]
pub struct StreamClock {
    offset: u32,
    newest: Option<Newest>,
    rebase: bool,
    report: Option<SenderReport>,
}

/// The latest timestamp that was given.
#[derive(Clone, Copy, Debug)]
struct Newest {
    output: u32,
    at: Instant,
    /// Made up: the source said nothing.
    synthesised: bool,
}

/// `duration` on the clock of RTP, which wraps.
#[allow(clippy::cast_possible_truncation)] // RTP timestamps wrap by definition.
fn ticks(duration: Duration) -> u32 {
    (duration.as_nanos() * u128::from(VIDEO_CLOCK_HZ) / 1_000_000_000) as u32
}

impl StreamClock {
    /// A clock in its first epoch: output equals source.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a new epoch (the source reconnected or restarted its timestamps): the next frame will leave as long after the
    /// last one as it comes after it, whatever the source's timestamp says. Sender reports of the old epoch are forgotten.
    pub fn begin_epoch(&mut self) {
        self.report = None;
        self.rebase = self.newest.is_some();
    }

    /// The timestamps of a frame that the source stamped `source` and that came at `at`.
    pub fn stamp(&mut self, source: u32, at: Instant) -> RtpTimestamp {
        let mut output = source.wrapping_add(self.offset);
        if let Some(newest) = self.newest {
            let elapsed = at.saturating_duration_since(newest.at);
            if self.rebase || newest.is_left_by(output, elapsed) {
                output = newest.output.wrapping_add(ticks(elapsed).max(1));
                self.offset = output.wrapping_sub(source);
                self.rebase = false;
            }
        }
        self.note(output, at, false);
        RtpTimestamp { output, source }
    }

    /// The timestamps of a frame of our own making, shown at `at`: the wall clock's time since the last frame later.
    pub fn synthesise(&mut self, at: Instant) -> RtpTimestamp {
        let output = self
            .newest
            .map_or(0, |newest| newest.output.wrapping_add(ticks(at.saturating_duration_since(newest.at)).max(1)));
        self.note(output, at, true);
        RtpTimestamp { output, source: output.wrapping_sub(self.offset) }
    }

    /// A picture that is shown before one that came earlier does not turn the clock back.
    fn note(&mut self, output: u32, at: Instant, synthesised: bool) {
        if self.newest.is_none_or(|newest| distance(newest.output, output) > 0) {
            self.newest = Some(Newest { output, at, synthesised });
        }
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

/// How far `to` lies after `from`, of two timestamps that wrap.
#[allow(clippy::cast_possible_wrap)]
fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

impl Newest {
    /// Whether a frame `output`, `elapsed` later, does not belong to the same count. A little back is a B-frame's place.
    fn is_left_by(&self, output: u32, elapsed: Duration) -> bool {
        let step = i64::from(distance(self.output, output));
        let jump = i64::from(ticks(JUMP));
        let pace = i64::try_from(elapsed.as_nanos() * u128::from(VIDEO_CLOCK_HZ) / 1_000_000_000).unwrap_or(i64::MAX);
        let out_of_place = if self.synthesised { step <= 0 } else { step == 0 || step < -jump };
        out_of_place || step.saturating_sub(pace) > jump
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn later(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

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
        assert_eq!(clock.stamp(77, Instant::now()), RtpTimestamp { output: 77, source: 77 });
    }

    #[test]
    fn a_new_epoch_goes_on_by_the_wall_clock() {
        let (mut clock, start) = (StreamClock::new(), Instant::now());
        clock.stamp(1_000_000, start);
        clock.begin_epoch();
        assert_eq!(clock.stamp(5, later(start, 100)), RtpTimestamp { output: 1_009_000, source: 5 });
        assert_eq!(clock.stamp(3005, later(start, 133)).output, 1_012_000);
    }

    #[test]
    fn a_source_that_restarts_or_stops_its_count_begins_an_epoch() {
        let (mut clock, start) = (StreamClock::new(), Instant::now());
        clock.stamp(90_000_000, start);
        assert_eq!(clock.stamp(7, later(start, 40)).output, 90_003_600, "restarted");
        assert_eq!(clock.stamp(7, later(start, 80)).output, 90_007_200, "stands still");
        assert_eq!(clock.stamp(3_000_007, later(start, 120)).output, 90_010_800, "half a minute ahead of the clock");
    }

    #[test]
    fn a_b_frame_keeps_its_place_and_a_pause_its_length() {
        let (mut clock, start) = (StreamClock::new(), Instant::now());
        clock.stamp(9000, start);
        assert_eq!(clock.stamp(6000, later(start, 33)).output, 6000);
        assert_eq!(clock.stamp(9000 + 60 * 90_000, later(start, 60_000)).output, 9000 + 60 * 90_000);
    }

    #[test]
    fn frames_of_our_own_lie_between_the_sources_and_never_after_its_next() {
        let (mut clock, start) = (StreamClock::new(), Instant::now());
        clock.stamp(1000, start);
        assert_eq!(clock.synthesise(later(start, 500)).output, 46_000);
        assert_eq!(clock.stamp(46_500, later(start, 520)).output, 46_500, "the source kept its pace");
        clock.synthesise(later(start, 1000));
        let back = clock.stamp(50_000, later(start, 1010)).output;
        assert!(
            distance(clock.synthesise(later(start, 1010)).output, back) < 0 && back > 89_000,
            "{back}: it had frozen"
        );
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
            let (mut clock, mut now) = (StreamClock::new(), Instant::now());
            clock.stamp(start.wrapping_add(12345), now);
            clock.begin_epoch();
            now += Duration::from_millis(gap_ms);
            let first = clock.stamp(start, now);
            let mut source = start;
            for step in steps {
                source = source.wrapping_add(step);
                now += Duration::from_secs(1);
                let stamp = clock.stamp(source, now);
                prop_assert_eq!(stamp.output.wrapping_sub(first.output), source.wrapping_sub(start));
            }
        }

        #[test]
        fn over_epochs_and_jumps_the_output_only_rises(events in prop::collection::vec((0u8..4, 1u32..5_000_000, 0u64..2000), 1..60)) {
            let (mut clock, mut now, mut source) = (StreamClock::new(), Instant::now(), 0u32);
            let mut last: Option<u32> = None;
            for (kind, step, ms) in events {
                now += Duration::from_millis(ms);
                let output = match kind {
                    0 => clock.synthesise(now).output,
                    1 => {
                        clock.begin_epoch();
                        source = step.wrapping_mul(977);
                        clock.stamp(source, now).output
                    }
                    _ => {
                        source = source.wrapping_add(step);
                        clock.stamp(source, now).output
                    }
                };
                prop_assert!(last.is_none_or(|last| distance(last, output) > 0));
                last = Some(output);
            }
        }
    }
}
