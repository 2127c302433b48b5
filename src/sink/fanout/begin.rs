//! How a viewer begins: with what is kept since the last IDR, where that shows the present sooner than the next IDR would.

use std::time::{Duration, Instant};

use super::super::feed::Handed;
use super::super::frame::{Bitstream, VideoChoice};
use super::super::gop::Gop;
use super::super::place::Place;
use super::{Entry, State};
use crate::media::IDR_INTERVAL;

/// What an asked source takes to answer with an IDR, roughly: the way there and back, and its encoder.
const ANSWER_TIME: Duration = Duration::from_millis(150);

/// What a bridge takes beyond the next picture, roughly: to begin, decode and encode.
const BRIDGE_TIME: Duration = Duration::from_millis(30);

/// A viewer that asks for an IDR this soon after its first frame has seen none: its first packets came before it could decrypt
/// them. Who lost a later packet waits for its repetition first.
pub(super) const BEGINNING: Duration = Duration::from_millis(250);

/// Between two beginnings of one viewer: what was sent is on its way.
pub(super) const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How often one viewer may begin again.
pub(super) const BEGINNINGS: u8 = 4;

impl State {
    /// What shows a new viewer the present sooner than the next IDR would.
    pub(super) fn cached_for(&self, place: &Place, now: Instant) -> Option<&Gop> {
        // An IDR of an encode comes with the next picture, unless the last is too near.
        let near = |gop: &Gop| gop.began().is_some_and(|began| now.saturating_duration_since(began) < IDR_INTERVAL);
        let is_of_use = |gop: &&Gop| near(gop) && !gop.frames().is_empty();
        if place.choice() == VideoChoice::Annotated {
            return self.encodes.get(Bitstream::Annotated, place.tier()).filter(is_of_use);
        }
        let alternative = if self.route.can_be_asked { ANSWER_TIME } else { self.next_picture(now) + BRIDGE_TIME };
        if self.route.forwards
            && !place.is_narrow()
            && self.source.catching_up().is_some_and(|time| time <= alternative)
        {
            return Some(&self.source);
        }
        let plain = self.encodes.get(Bitstream::Plain, place.tier());
        plain.filter(|gop| place.is_bridged(self.route, now) && is_of_use(gop))
    }

    /// Gives a viewer that has seen nothing yet what it was given, once more: the next IDR may be half a second away. False where
    /// that is not so, or nothing fit is kept.
    pub(super) fn begin_again(&mut self, id: u64, now: Instant) -> bool {
        let Some(at) = self.entries.iter().position(|entry| entry.id == id) else { return false };
        let Some(Entry { place, began: Some(began), beginnings, .. }) = self.entries.get(at) else { return false };
        let since = now.saturating_duration_since(*began);
        if since >= BEGINNING {
            return false;
        }
        if *beginnings > 1 && since < BEGIN_AGAIN_AFTER {
            return true;
        }
        let Some(gop) = self.cached_for(place, now).filter(|_| *beginnings < BEGINNINGS) else { return false };
        let frames = gop.frames().to_vec();
        let Some(entry) = self.entries.get_mut(at) else { return false };
        if entry.frames.try_send(Handed::Again(frames.clone())).is_err() {
            return false;
        }
        frames.iter().for_each(|frame| entry.place.sent(frame));
        entry.began = Some(now);
        entry.beginnings += 1;
        true
    }

    /// How long until the source's next picture, by the pace of its last.
    fn next_picture(&self, now: Instant) -> Duration {
        self.pace.map_or(Duration::ZERO, |(last, interval)| (last + interval).saturating_duration_since(now))
    }
}
