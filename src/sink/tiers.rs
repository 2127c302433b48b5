//! Which viewers share an encode: those whose links carry about as much.

use std::time::{Duration, Instant};

/// The most encodes of one kind of picture.
pub const TIERS: usize = 3;

/// Who gets less than this share of what the widest link of a tier carries belongs to the next one, where it stays until it gets
/// the larger share.
const APART: f64 = 0.5;
const TOGETHER: f64 = 0.65;

/// A viewer's link, and the tier that it is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Link {
    /// Bits a second of video; infinite where nobody knows.
    pub(super) bps: f64,
    pub(super) tier: usize,
}

/// Puts links into `most` tiers, the widest first: tier 0 is there whenever anybody is. The tier of the last takes all that are
/// left.
pub(super) fn assign(links: &mut [Link], most: usize) {
    let most = most.clamp(1, TIERS);
    let mut left: Vec<&mut Link> = links.iter_mut().collect();
    for tier in 0..most {
        let widest = left.iter().map(|link| link.bps).fold(0.0, f64::max);
        let last = tier + 1 == most;
        left.retain_mut(|link| {
            let share = if link.tier <= tier { APART } else { TOGETHER };
            // Of two that nobody knows neither is narrower.
            let belongs = last || link.bps >= widest || (widest.is_finite() && link.bps >= widest * share);
            if belongs {
                link.tier = tier;
            }
            !belongs
        });
    }
}

/// A viewer changes its tier when it has belonged to another for this long.
const SORTED_FOR: Duration = Duration::from_secs(1);

/// A link that carries less than this share of the source's bitrate for as long is too narrow for it.
const TOO_NARROW: f64 = 0.9;

/// What is more than enough for whatever is sent now.
const WIDE: f64 = 1.1;

/// Whose link was too narrow tries the source's own again after this long, and after twice as long each time.
const TRY_AGAIN: Duration = Duration::from_secs(10);
const MOST_TRY_AGAIN: Duration = Duration::from_secs(160);

/// The way to one viewer, as the fan-out knows it.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Bits a second of video, once known.
    pub(super) bps: Option<f64>,
    /// To which other tier it belongs, and since when.
    elsewhere: Option<(usize, Instant)>,
    /// Since when it has looked otherwise than it is taken for.
    wavers: Option<Instant>,
    /// How long it waits before it tries the source again.
    try_again: Option<Duration>,
}

impl Reach {
    /// Whether it goes over from one tier to another to which it belongs now.
    pub(super) fn goes(&mut self, from: usize, to: usize, now: Instant) -> bool {
        let since = match self.elsewhere.filter(|(tier, _)| *tier == to) {
            _ if from == to => None,
            Some((_, since)) => Some(since),
            None => Some(now),
        };
        self.elsewhere = since.map(|since| (to, since));
        since.is_some_and(|since| now.saturating_duration_since(since) >= SORTED_FOR)
    }

    /// Whether the link is to be taken for another than it `is`: too narrow for a source of so many bits a second, or not.
    /// `full`: what an encode of the same pictures takes at most.
    pub(super) fn turns(&mut self, is_narrow: bool, source: Option<f64>, full: f64, now: Instant) -> bool {
        let looks_otherwise = match (self.bps, source) {
            (Some(bps), Some(source)) if is_narrow => bps > source.min(full) * WIDE,
            (Some(bps), Some(source)) => bps < source * TOO_NARROW,
            _ => false,
        };
        if !looks_otherwise {
            self.wavers = None;
            return false;
        }
        let since = *self.wavers.get_or_insert(now);
        let patience = if is_narrow { self.try_again.unwrap_or(TRY_AGAIN) } else { SORTED_FOR };
        if now.saturating_duration_since(since) < patience {
            return false;
        }
        self.wavers = None;
        if !is_narrow {
            self.try_again = Some(self.try_again.map_or(TRY_AGAIN, |last| (last * 2).min(MOST_TRY_AGAIN)));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assigned(bps: &[f64], tiers: &[usize], most: usize) -> Vec<usize> {
        let mut links: Vec<_> = bps.iter().zip(tiers).map(|(&bps, &tier)| Link { bps, tier }).collect();
        assign(&mut links, most);
        links.iter().map(|link| link.tier).collect()
    }

    #[test]
    fn links_that_are_alike_share_and_others_do_not() {
        assert_eq!(assigned(&[3e6, 2e6, 1.6e6], &[0; 3], 3), [0, 0, 0]);
        assert_eq!(assigned(&[3e6, 300e3, 1e6, 2.5e6], &[0; 4], 3), [0, 2, 1, 0]);
        assert_eq!(assigned(&[3e6, 300e3, 1e6, 2.5e6], &[0; 4], 2), [0, 1, 1, 0]);
        assert_eq!(assigned(&[3e6, 300e3], &[0; 2], 1), [0, 0]);
        assert_eq!(assigned(&[300e3], &[2], 3), [0], "alone");
    }

    #[test]
    fn who_is_at_the_edge_stays_where_it_is() {
        assert_eq!(assigned(&[3e6, 1.7e6], &[0, 0], 3), [0, 0]);
        assert_eq!(assigned(&[3e6, 1.7e6], &[0, 1], 3), [0, 1]);
        assert_eq!(assigned(&[3e6, 2.1e6], &[0, 1], 3), [0, 0]);
    }

    #[test]
    fn a_tier_is_changed_when_another_has_fitted_for_a_second() {
        let (mut reach, start) = (Reach::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!reach.goes(0, 1, at(0)) && !reach.goes(0, 1, at(900)));
        assert!(!reach.goes(0, 0, at(950)) && !reach.goes(0, 1, at(1000)) && !reach.goes(0, 2, at(1900)));
        assert!(reach.goes(0, 2, at(2900)));
    }

    #[test]
    fn the_source_is_given_up_in_a_second_and_tried_again_ever_later() {
        let (mut reach, mut now) = (Reach::default(), Instant::now());
        let mut turned = |reach: &mut Reach, narrow: bool, bps: f64| {
            reach.bps = Some(bps);
            let start = now;
            while !reach.turns(narrow, Some(4e6), 1.5e6, now) {
                now += Duration::from_millis(100);
                assert!(now - start < Duration::from_secs(200));
            }
            (now - start).as_secs()
        };
        let waits = [(false, 2e6), (true, 2e6), (false, 2e6), (true, 2e6), (false, 2e6), (true, 5e6)];
        assert_eq!(waits.map(|(narrow, bps)| turned(&mut reach, narrow, bps)), [1, 10, 1, 20, 1, 40]);
        reach.bps = Some(1.6e6);
        assert!(!reach.turns(true, Some(4e6), 1.5e6, now), "hardly more than the encode takes");
    }

    proptest! {
        #[test]
        fn each_tier_is_wider_than_the_next_and_the_first_is_there(links in prop::collection::vec((1e4..1e8f64, 0usize..3), 1..30), most in 1usize..4) {
            let (bps, tiers): (Vec<_>, Vec<_>) = links.into_iter().unzip();
            let after = assigned(&bps, &tiers, most);
            prop_assert!(after.contains(&0) && after.iter().all(|tier| *tier < most));
            for tier in 1..most {
                let of = |tier: usize| bps.iter().zip(&after).filter(move |(_, its)| **its == tier).map(|(bps, _)| *bps);
                prop_assert!(of(tier).fold(0.0, f64::max) <= of(tier - 1).fold(f64::INFINITY, f64::min) / TOGETHER);
            }
        }
    }
}
