//! How much one encode may send, and how it keeps to it.
//!
//! The codec aims at a rate over seconds; a link that is full notices in tenths. What the codec has taken too much is a debt, and
//! while that is large pictures are left out before they are encoded: they would stand in a queue on the way.

use std::time::{Duration, Instant};

/// A debt that the link needs longer for than this holds the next picture back.
const MOST_DEBT: Duration = Duration::from_millis(250);

/// However large the debt, a picture is encoded this long after the last: a moving picture is what viewers wait for.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// An IDR that the link needs longer for than this is too large. The codec aims at four pictures' worth, 133 ms of 30.
const MOST_IDR: Duration = Duration::from_millis(200);

/// The codec is told of a change by more than one in so many parts: each starts its reckoning anew.
const STEP: u32 = 25;

/// The codec shares its bitrate out among the pictures that it was told to expect. Where fewer come, each may have more, by this
/// factor at most.
const MOST_SHARE: f64 = 3.0;

/// The rate of one encode.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// What the codec aims at.
    aim: Option<u32>,
    debt: f64,
    /// When the debt was reckoned.
    at: Option<Instant>,
    encoded: Option<Instant>,
}

/// How often something comes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    /// The mean time between two, in seconds.
    interval: Option<f64>,
}

impl Pace {
    /// It comes.
    pub(super) fn put(&mut self, now: Instant) {
        let since = self.last.replace(now).map(|last| now.saturating_duration_since(last).as_secs_f64());
        // A pause says nothing of the pace.
        if let Some(since) = since.filter(|since| *since < 1.0) {
            let interval = self.interval.unwrap_or(since);
            // That it has become faster is believed soon, as what is too much stands in a queue; that it has become slower late.
            let share = if since < interval { 4.0 } else { 32.0 };
            self.interval = Some(interval + (since - interval) / share);
        }
    }

    /// Times a second, once it came twice.
    pub(super) fn fps(&self) -> Option<f64> {
        self.interval.map(|interval| 1.0 / interval.max(0.001))
    }
}

impl Rate {
    /// Whether the debt allows a picture now. `limit`: what the way to the slowest viewer carries; `full`: what suits the picture.
    pub(super) fn admits(&mut self, now: Instant, limit: Option<u32>, full: u32) -> bool {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        let Some(limit) = limit.filter(|limit| *limit < full) else {
            self.debt = 0.0;
            return true;
        };
        self.debt = (self.debt - f64::from(limit) * since.as_secs_f64()).max(0.0);
        let paused = self.encoded.is_none_or(|at| now.saturating_duration_since(at) >= LONGEST_PAUSE);
        paused || self.debt <= f64::from(limit) * MOST_DEBT.as_secs_f64()
    }

    /// What the codec is to aim at for the next picture, where that is another rate than before. `expected`: the pictures a second
    /// that it was told of; `pace`: those that are to come. Pictures that a debt holds back are no reason for larger ones.
    pub(super) fn aim(&mut self, limit: Option<u32>, full: u32, expected: u32, pace: Option<f64>) -> Option<u32> {
        let aim = match limit.filter(|limit| *limit < full) {
            None => full,
            Some(limit) => {
                let share = pace.map_or(1.0, |pace| (f64::from(expected) / pace.max(1.0)).clamp(1.0, MOST_SHARE));
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the cast saturates
                let bps = (f64::from(limit) * share) as u32;
                bps.min(full)
            }
        };
        let differs =
            self.aim.is_none_or(|before| aim.abs_diff(before) > before / STEP || (aim == full && aim != before));
        differs.then(|| *self.aim.insert(aim))
    }

    /// Whether an IDR of so many bytes would stand in a queue by itself on a link of `limit` bits a second.
    pub(super) fn is_too_large(bytes: usize, limit: Option<u32>) -> bool {
        limit.is_some_and(|limit| bytes as f64 * 8.0 > f64::from(limit) * MOST_IDR.as_secs_f64())
    }

    /// What the codec aims at, in bits a second.
    pub(super) fn aimed(&self) -> u32 {
        self.aim.unwrap_or(0)
    }

    /// A picture of so many bytes was encoded.
    pub(super) fn spent(&mut self, bytes: usize, now: Instant) {
        self.debt += bytes as f64 * 8.0;
        self.encoded = Some(now);
    }

    /// The codec begins anew: it knows of no rate.
    pub(super) fn forget(&mut self) {
        self.aim = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: Duration = Duration::from_micros(33_333);
    const FULL: u32 = 1_500_000;

    #[test]
    fn without_a_limit_every_picture_goes_at_the_full_rate() {
        let (mut rate, mut now) = (Rate::default(), Instant::now());
        for n in 0..100 {
            assert!(rate.admits(now, None, FULL));
            assert_eq!(rate.aim(None, FULL, 30, None), (n == 0).then_some(FULL));
            rate.spent(1_000_000, now);
            now += FRAME;
        }
    }

    #[test]
    fn a_codec_that_takes_too_much_is_held_to_the_limit_by_pauses_that_end() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let (mut spent, mut last, mut longest) = (0, start, Duration::ZERO);
        for n in 0..300 {
            let now = start + FRAME * n;
            if rate.admits(now, Some(300_000), FULL) {
                longest = longest.max(now - last);
                last = now;
                // Three times what it should, and an IDR at first.
                let bytes = if n == 0 { 30_000 } else { 3750 };
                rate.spent(bytes, now);
                spent += bytes;
            }
        }
        let bps = f64::from(spent as u32) * 8.0 / 10.0;
        assert!(bps < 330_000.0, "{bps}");
        assert!(longest < LONGEST_PAUSE + FRAME, "{longest:?}");
    }

    #[test]
    fn an_idr_is_too_large_by_the_time_that_the_link_needs_for_it() {
        assert!(!Rate::is_too_large(1_000_000, None));
        assert_eq!([7000, 8000].map(|bytes| Rate::is_too_large(bytes, Some(300_000))), [false, true]);
    }

    #[test]
    fn a_slower_camera_gets_more_for_each_picture() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.fps(), None);
        (0..100).for_each(|n| pace.put(start + FRAME * 2 * n));
        let (mut rate, pace) = (Rate::default(), pace.fps());
        let aim = rate.aim(Some(300_000), FULL, 30, pace).unwrap();
        assert!((590_000..610_000).contains(&aim), "{aim}");
        assert_eq!(rate.aim(Some(302_000), FULL, 30, pace), None, "as good as the same");
        assert_eq!(rate.aim(None, FULL, 30, None), Some(FULL));
        rate.forget();
        assert_eq!(rate.aim(None, FULL, 30, None), Some(FULL));
    }

    proptest! {
        #[test]
        fn whatever_comes_out_the_limit_holds_over_time(sizes in prop::collection::vec(100usize..8000, 300..600), limit in 50_000u32..1_000_000) {
            let (mut rate, start) = (Rate::default(), Instant::now());
            let mut spent = 0;
            for (n, size) in sizes.iter().enumerate() {
                let now = start + FRAME * n as u32;
                if rate.admits(now, Some(limit), FULL) {
                    rate.spent(*size, now);
                    spent += size * 8;
                }
            }
            let seconds = FRAME.as_secs_f64() * sizes.len() as f64;
            // The debt that is allowed, the picture that made it, and one picture for each of the longest pauses.
            let most = f64::from(limit) * (seconds + 0.25) + 64_000.0 * (1.0 + seconds / LONGEST_PAUSE.as_secs_f64());
            prop_assert!((spent as f64) < most);
        }
    }
}
