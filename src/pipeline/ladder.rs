//! How large an encode's pictures are, and how many of them it takes: what the rate is enough for.
//!
//! Below some bits for each pixel a picture is better seen smaller than in blocks. First the size goes down, then the frame rate:
//! who watches follows a small picture that moves rather than a large one that stands.

use std::time::{Duration, Instant};

/// Below so many bits for each pixel it goes down.
const FLOOR: f64 = 0.035;

/// Where it goes down to there are at least so many times that, and where it goes up to so many: that it does not come back.
const AFTER_DOWN: f64 = 1.2;
const BEFORE_UP: f64 = 1.5;

/// It has to be too little for this long: one estimate is none.
const DOWN_AFTER: Duration = Duration::from_millis(200);

/// And enough for this long, twice that for each time that going up was soon taken back, up to the longest.
const UP_AFTER: Duration = Duration::from_secs(1);
const MOST_UP_AFTER: Duration = Duration::from_secs(16);

/// Going down this soon after going up was to go up too early; after as long without, that is forgotten.
const TOO_EARLY: Duration = Duration::from_secs(8);

/// The sizes, in eighths of each side.
const SIZES: [usize; 5] = [8, 6, 4, 3, 2];

/// No side gets shorter than this by it.
const LEAST_SIDE: usize = 120;

/// At the smallest size, one picture in so many.
const RARER: [u32; 2] = [2, 3];

/// What an encode makes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rung {
    /// Of each side.
    eighths: usize,
    /// One picture in so many is encoded.
    pub(super) every: u32,
}

/// As the source has it.
const WHOLE: Rung = Rung { eighths: 8, every: 1 };

impl Default for Rung {
    fn default() -> Self {
        WHOLE
    }
}

impl Rung {
    /// The size of a picture of `width`×`height` here; even, as 4:2:0 has no half samples.
    pub(super) fn size(self, width: usize, height: usize) -> (usize, usize) {
        if self.eighths == WHOLE.eighths {
            return (width, height);
        }
        let side = |side: usize| (side * self.eighths / 8) & !1;
        (side(width).max(2), side(height).max(2))
    }

    /// The same, each side at most so many quarters of the source's.
    pub(super) fn no_larger(self, quarters: u32) -> Self {
        Self { eighths: self.eighths.min(usize::try_from(quarters).unwrap_or(4) * 2), ..self }
    }

    fn is_above(self, other: Self) -> bool {
        (self.eighths, other.every) > (other.eighths, self.every)
    }

    /// Bits for each pixel.
    fn density(self, bps: f64, (width, height): (usize, usize), fps: f64) -> f64 {
        let (width, height) = self.size(width, height);
        bps / ((width * height) as f64 * fps / f64::from(self.every))
    }
}

/// The rungs for a picture of this size, from the whole one down.
fn rungs((width, height): (usize, usize)) -> impl DoubleEndedIterator<Item = Rung> {
    let fits = move |eighths: &usize| *eighths == WHOLE.eighths || width.min(height) * eighths / 8 >= LEAST_SIDE;
    let smallest = SIZES.into_iter().rfind(fits).unwrap_or(WHOLE.eighths);
    let sizes = SIZES.into_iter().filter(fits).map(|eighths| Rung { eighths, every: 1 });
    sizes.chain(RARER.into_iter().map(move |every| Rung { eighths: smallest, every }))
}

/// Where one encode stands.
#[derive(Debug)]
pub(super) struct Ladder {
    rung: Rung,
    source: (usize, usize),
    low_since: Option<Instant>,
    high_since: Option<Instant>,
    went_up: Option<Instant>,
    up_after: Duration,
}

impl Default for Ladder {
    fn default() -> Self {
        let (low_since, high_since, went_up) = (None, None, None);
        Self { rung: WHOLE, source: (0, 0), low_since, high_since, went_up, up_after: UP_AFTER }
    }
}

impl Ladder {
    /// Where it stands now that `bps` bits a second are there (`None`: as many as it likes) for pictures of `source` pixels that
    /// come `fps` times a second.
    pub(super) fn choose(&mut self, now: Instant, bps: Option<u32>, source: (usize, usize), fps: f64) -> Rung {
        if self.source != source {
            *self = Self { source, ..Self::default() };
        }
        let density = |rung: Rung| bps.map_or(f64::INFINITY, |bps| rung.density(f64::from(bps), source, fps.max(1.0)));
        let best = |least: f64| rungs(source).find(|rung| density(*rung) >= least);
        if density(self.rung) < FLOOR {
            self.high_since = None;
            let since = *self.low_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= DOWN_AFTER
                && let Some(rung) = best(FLOOR * AFTER_DOWN).or_else(|| rungs(source).next_back())
                && rung != self.rung
            {
                if self.went_up.take().is_some_and(|up| now.saturating_duration_since(up) < TOO_EARLY) {
                    self.up_after = (self.up_after * 2).min(MOST_UP_AFTER);
                }
                self.rung = rung;
            }
            return self.rung;
        }
        self.low_since = None;
        if self.went_up.is_some_and(|up| now.saturating_duration_since(up) >= TOO_EARLY) {
            self.went_up = None;
            self.up_after = UP_AFTER;
        }
        let up = best(FLOOR * BEFORE_UP).filter(|rung| rung.is_above(self.rung));
        match (up, self.high_since) {
            (None, _) => self.high_since = None,
            (Some(_), None) => self.high_since = Some(now),
            (Some(rung), Some(since)) if now.saturating_duration_since(since) >= self.up_after => {
                (self.rung, self.went_up, self.high_since) = (rung, Some(now), None);
            }
            _ => {}
        }
        self.rung
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: Duration = Duration::from_micros(33_333);
    const HD: (usize, usize) = (1280, 720);

    /// Holds a rate for a while; the sizes and rates that were chosen, without repetitions.
    fn hold(ladder: &mut Ladder, now: &mut Instant, bps: Option<u32>, seconds: f64) -> Vec<((usize, usize), u32)> {
        let mut seen = Vec::new();
        for _ in 0..(seconds * 30.0) as u32 {
            *now += FRAME;
            let rung = ladder.choose(*now, bps, HD, 30.0);
            seen.push((rung.size(HD.0, HD.1), rung.every));
        }
        seen.dedup();
        seen
    }

    #[test]
    fn the_size_goes_down_first_and_then_the_frame_rate_and_both_come_up_again() {
        let (mut ladder, mut now) = (Ladder::default(), Instant::now());
        assert_eq!(hold(&mut ladder, &mut now, None, 2.0), [(HD, 1)]);
        assert_eq!(hold(&mut ladder, &mut now, Some(250_000), 2.0), [(HD, 1), ((480, 270), 1)]);
        assert_eq!(hold(&mut ladder, &mut now, Some(50_000), 2.0), [((480, 270), 1), ((320, 180), 2)]);
        assert_eq!(hold(&mut ladder, &mut now, Some(30_000), 2.0).last(), Some(&((320, 180), 3)));
        assert_eq!(hold(&mut ladder, &mut now, Some(900_000), 2.0).last(), Some(&((960, 540), 1)));
        assert_eq!(hold(&mut ladder, &mut now, None, 2.0).last(), Some(&(HD, 1)));
    }

    #[test]
    fn a_moment_changes_nothing() {
        let (mut ladder, mut now) = (Ladder::default(), Instant::now());
        for _ in 0..50 {
            assert_eq!(hold(&mut ladder, &mut now, Some(100_000), 0.15), [(HD, 1)]);
            assert_eq!(hold(&mut ladder, &mut now, Some(2_000_000), 0.15), [(HD, 1)]);
        }
    }

    #[test]
    fn who_goes_up_too_early_waits_longer_each_time() {
        let (mut ladder, mut now) = (Ladder::default(), Instant::now());
        let mut changes = 0;
        for _ in 0..20 {
            changes += hold(&mut ladder, &mut now, Some(400_000), 1.5).len() - 1;
            changes += hold(&mut ladder, &mut now, Some(1_500_000), 1.5).len() - 1;
        }
        assert!(changes < 8, "{changes} changes in a minute");
    }

    #[test]
    fn a_small_picture_is_not_made_tiny() {
        let least = rungs((320, 240)).map(|rung| rung.size(320, 240).1).min();
        assert_eq!(least, Some(LEAST_SIDE));
        assert_eq!(rungs((64, 48)).map(|rung| rung.size(64, 48)).collect::<Vec<_>>(), [(64, 48); 3]);
    }

    proptest! {
        #[test]
        fn the_rung_is_one_of_the_sources_and_holds_its_floor_where_one_does(width in 1usize..4000, height in 1usize..4000, rates in prop::collection::vec(prop::option::of(10_000u32..5_000_000), 1..20)) {
            let (mut ladder, mut now) = (Ladder::default(), Instant::now());
            for bps in rates {
                let mut rung = WHOLE;
                for _ in 0..60 {
                    now += FRAME;
                    rung = ladder.choose(now, bps, (width, height), 30.0);
                    prop_assert!(rungs((width, height)).any(|known| known == rung));
                    let (w, h) = rung.size(width, height);
                    prop_assert!(w > 0 && h > 0 && w <= width.max(2) && h <= height.max(2));
                }
                let density = |rung: Rung| bps.map_or(f64::INFINITY, |bps| rung.density(f64::from(bps), (width, height), 30.0));
                let last = rungs((width, height)).next_back().unwrap();
                prop_assert!(density(rung) >= FLOOR || rung == last);
            }
        }
    }
}
