//! The encodes of one stream: with boxes and without, for wide links and for narrower ones, each there while somebody needs it.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::inbox::Inbox;
use super::metrics::DropReason;
use super::overload::Relief;
use super::rendition::Rendition;
use super::shared::Shared;
use super::status::RenditionStatus;
use super::video::lock;
use crate::encode::Config;
use crate::media::{I420Frame, KeyframeGate, KeyframeRequest};
use crate::sink::{Bitstream, Fanout, TIERS};

/// What a browser's camera gives when nothing else is asked of it, and what ours is asked for.
const USUAL: (usize, usize) = (640, 480);

/// Tiers of one kind of picture, in the order in which they are encoded.
pub(super) type Tiers = [Option<usize>; TIERS];

/// How the encodes were at their last pictures.
pub(super) type Statuses = [[Option<RenditionStatus>; TIERS]; 2];

/// The gates at which IDRs are asked for, by tier.
#[derive(Debug)]
pub(super) struct Gates {
    annotated: [Arc<Mutex<KeyframeGate>>; TIERS],
    plain: [Arc<Mutex<KeyframeGate>>; TIERS],
}

impl Gates {
    /// Gates, and the requests that knock at them and wake the thread: annotated, plain.
    pub(super) fn new(inbox: &Arc<Inbox>) -> (Self, [KeyframeRequest; TIERS], [KeyframeRequest; TIERS]) {
        let gates = || std::array::from_fn(|_| Arc::new(Mutex::new(KeyframeGate::default())));
        let gates = Self { annotated: gates(), plain: gates() };
        let request = |gate: &Arc<Mutex<KeyframeGate>>| {
            let (asked, inbox) = (Arc::clone(gate), Arc::clone(inbox));
            KeyframeRequest::new(move || {
                lock(&asked).ask();
                inbox.notify_wanted();
            })
        };
        let (annotated, plain) = (gates.annotated.each_ref().map(request), gates.plain.each_ref().map(request));
        (gates, annotated, plain)
    }
}

/// The encodes.
pub(super) struct Encodes {
    annotated: [Rendition; TIERS],
    plain: [Rendition; TIERS],
    config: Config,
}

impl Encodes {
    pub(super) fn new(gates: &Gates, config: &Config) -> Self {
        let of = |bitstream, gates: &[Arc<Mutex<KeyframeGate>>; TIERS]| {
            let mut tier = 0..TIERS;
            gates
                .each_ref()
                .map(|gate| Rendition::new(bitstream, tier.next().unwrap_or(0), config.clone(), Arc::clone(gate)))
        };
        Self {
            annotated: of(Bitstream::Annotated, &gates.annotated),
            plain: of(Bitstream::Plain, &gates.plain),
            config: config.clone(),
        }
    }

    /// Makes ready the encode that a publisher gets back first.
    pub(super) fn prewarm(&mut self) {
        if let Some(first) = self.annotated.first_mut() {
            first.prewarm(USUAL);
        }
    }

    fn of(&self, bitstream: Bitstream) -> &[Rendition; TIERS] {
        if bitstream == Bitstream::Plain { &self.plain } else { &self.annotated }
    }

    /// One of them.
    pub(super) fn get(&mut self, bitstream: Bitstream, tier: usize) -> Option<&mut Rendition> {
        if bitstream == Bitstream::Plain { self.plain.get_mut(tier) } else { self.annotated.get_mut(tier) }
    }

    /// What an encode of a picture of this size takes at most, in bits a second.
    pub(super) fn full(&self, (width, height): (usize, usize)) -> u32 {
        self.config.bitrate(width, height)
    }

    /// Those that somebody watches. One that owes an IDR comes first: a viewer that goes over to it does not have that picture
    /// yet then.
    pub(super) fn in_use(&self, bitstream: Bitstream, fanout: &Fanout, now: Instant) -> Tiers {
        let is_used = |tier: &usize| fanout.watched(bitstream, *tier) > 0;
        let owes = |tier: &usize| self.of(bitstream).get(*tier).is_some_and(|encode| encode.has_to_begin(now));
        let first = (0..TIERS).filter(is_used).filter(owes);
        let then = (0..TIERS).filter(is_used).filter(|tier| !owes(tier));
        let mut tiers = first.chain(then);
        std::array::from_fn(|_| tiers.next())
    }

    /// Those of them that take a picture now; each that does not, because the links to its viewers do not carry it, is counted. `None` if
    /// none does.
    pub(super) fn admitting(
        &mut self,
        bitstream: Bitstream,
        picture: &I420Frame,
        shared: &Shared,
        relief: Relief,
    ) -> Option<Tiers> {
        let admitting = self.in_use(bitstream, &shared.fanout, Instant::now()).map(|tier| {
            let tier = tier?;
            let admits = self.get(bitstream, tier)?.admits(picture, shared.fanout.narrowest(bitstream, tier), relief);
            if !admits {
                shared.metrics.dropped(DropReason::Bandwidth, 1);
            }
            admits.then_some(tier)
        });
        admitting.iter().any(Option::is_some).then_some(admitting)
    }

    /// Whether one that somebody watches owes an IDR that may be made now.
    pub(super) fn has_to_begin(&self, bitstream: Bitstream, fanout: &Fanout, now: Instant) -> bool {
        let of = self.of(bitstream).iter().enumerate();
        of.filter(|(tier, _)| fanout.watched(bitstream, *tier) > 0).any(|(_, encode)| encode.has_to_begin(now))
    }

    /// Gives up the encoders that nobody needed for a while.
    pub(super) fn rest(&mut self, now: Instant) {
        self.annotated.iter_mut().chain(&mut self.plain).for_each(|encode| encode.rest(now));
    }
}
