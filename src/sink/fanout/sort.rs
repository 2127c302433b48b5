//! Which viewers share an encode, and who gets the original.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::encodes::{Asks, Encodes};
use super::super::frame::{Bitstream, EncodedFrame, VideoChoice};
use super::super::place::Route;
use super::super::tiers::{self, Link, TIERS};
use super::{Entry, NO_LIMIT, State};

/// Links are sorted into tiers this often at most.
const SORT_EVERY: Duration = Duration::from_millis(100);

/// The source's bitrate is measured over this time.
const WEIGHED_OVER: Duration = Duration::from_secs(1);

impl Entry {
    /// The kind of encode that it is given, if any.
    pub(super) fn encode(&self, route: Route, now: Instant) -> Option<Bitstream> {
        match self.place.choice() {
            VideoChoice::Annotated => Some(Bitstream::Annotated),
            VideoChoice::Original => self.place.is_bridged(route, now).then_some(Bitstream::Plain),
        }
    }
}

impl State {
    /// Measures the source's bitrate.
    pub(super) fn weigh(&mut self, frame: &EncodedFrame, now: Instant) {
        let (began, bytes) = self.weight.get_or_insert((now, 0));
        let took = now.saturating_duration_since(*began);
        if took >= WEIGHED_OVER {
            self.source_bps = Some(*bytes as f64 * 8.0 / took.as_secs_f64());
            (*began, *bytes) = (now, 0);
        }
        *bytes += frame.payloads.iter().map(Bytes::len).sum::<usize>();
    }

    /// How many watch each encode, and what the slowest of them takes. Who goes over from one to another counts for both.
    pub(super) fn watched(&self) -> (Encodes<usize>, Encodes<u32>) {
        let (mut watched, mut narrowest) = (Encodes::<usize>::default(), Encodes::each(|| NO_LIMIT));
        for Entry { place, bridged, reach, .. } in &self.entries {
            let bitstream = match place.choice() {
                VideoChoice::Annotated => Bitstream::Annotated,
                VideoChoice::Original if *bridged => Bitstream::Plain,
                VideoChoice::Original => continue,
            };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the cast saturates
            let bps = reach.bps.map_or(NO_LIMIT, |bps| bps as u32);
            let leaves = place.follows().filter(|(its, tier)| *its == bitstream && *tier != place.tier());
            for tier in std::iter::once(place.tier()).chain(leaves.map(|(_, tier)| tier)) {
                if let (Some(watched), Some(least)) =
                    (watched.get_mut(bitstream, tier), narrowest.get_mut(bitstream, tier))
                {
                    *watched += 1;
                    *least = bps.min(*least);
                }
            }
        }
        (watched, narrowest)
    }

    /// Puts viewers whose links are alike together, each kind of picture for itself, and takes the original from those whose links
    /// do not carry it. `full`: what an encode takes at most.
    pub(super) fn sort(&mut self, now: Instant, full: f64, asks: &mut Asks) {
        if self.sorted.is_some_and(|sorted| now.saturating_duration_since(sorted) < SORT_EVERY) {
            return;
        }
        self.sorted = Some(now);
        let (route, source_bps) = (self.route, self.source_bps.filter(|_| self.route.forwards));
        for Entry { place, reach, .. } in &mut self.entries {
            if place.choice() == VideoChoice::Original && reach.turns(place.is_narrow(), source_bps, full, now) {
                place.set_narrow(!place.is_narrow(), now);
            }
        }
        let encodes: Vec<_> = self.entries.iter().map(|entry| entry.encode(route, now)).collect();
        let is_there = |bitstream| encodes.contains(&Some(bitstream));
        let both = is_there(Bitstream::Annotated) && is_there(Bitstream::Plain);
        for bitstream in [Bitstream::Annotated, Bitstream::Plain] {
            let most = match bitstream {
                Bitstream::Annotated if both => TIERS - 1,
                Bitstream::Plain if both => 1,
                _ => TIERS,
            };
            let mut links = Vec::with_capacity(encodes.len());
            let mut of_kind: Vec<&mut Entry> = Vec::with_capacity(encodes.len());
            for (entry, _) in self.entries.iter_mut().zip(&encodes).filter(|(_, its)| **its == Some(bitstream)) {
                let bps = entry.reach.bps.map_or(full, |bps| bps.min(full));
                links.push(Link { bps, tier: entry.place.tier() });
                of_kind.push(entry);
            }
            tiers::assign(&mut links, most);
            for (Entry { place, reach, .. }, link) in of_kind.into_iter().zip(links) {
                if reach.goes(place.tier(), link.tier, now) && place.set_tier(link.tier) {
                    asks.ask(bitstream, link.tier);
                }
            }
        }
    }
}
