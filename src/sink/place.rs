//! One viewer's state: which coded bitstream it is in the middle of, and which it may join.
//!
//! A viewer of the annotated video follows its encode. A viewer of the original follows the source's own access units; where
//! it has none to start from, it is bridged: it follows a plain encode of the same pictures until the source's next IDR. So is
//! one whose link does not carry the source's own. Of the encodes of one kind it follows the one of its tier, and goes over to
//! another at an IDR of that.

use std::time::{Duration, Instant};

use super::frame::{Bitstream, EncodedFrame, VideoChoice};
use crate::media::IDR_INTERVAL;

/// How long a source that can be asked for an IDR has until its viewers are bridged.
pub(super) const BRIDGE_PATIENCE: Duration = IDR_INTERVAL;

/// What is true of the source for all viewers of the original.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// Its access units may go to viewers as they are.
    pub forwards: bool,
    /// It can be asked for an IDR.
    pub can_be_asked: bool,
    /// Nothing comes from it.
    pub lost: bool,
}

/// What a viewer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// `original`, `annotated` or `plain`.
    pub video: &'static str,
    /// It asked for the original, and its link does not carry that.
    pub narrow: bool,
}

/// What becomes of a frame for one viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent.
    Send,
    /// It is of a bitstream that the viewer has no use for.
    Pass,
    /// It is of the viewer's bitstream and of no use: something before it is missing.
    Miss,
}

/// A viewer's state.
#[derive(Debug)]
pub(super) struct Place {
    choice: VideoChoice,
    /// The encode that it shall follow, of those of a kind.
    tier: usize,
    /// Its link does not carry the source's own access units.
    narrow: bool,
    /// The bitstream of which it has everything since an IDR, and its tier.
    follows: Option<(Bitstream, usize)>,
    /// The output timestamp of the last frame it got.
    last: Option<u32>,
    /// Since when it waits for an IDR of the source: it has none, or it said that it lost data.
    waits: Option<Instant>,
}

impl Place {
    pub(super) fn new(choice: VideoChoice, now: Instant) -> Self {
        Self { choice, tier: 0, narrow: false, follows: None, last: None, waits: Some(now) }
    }

    pub(super) fn choice(&self) -> VideoChoice {
        self.choice
    }

    /// The encode that it shall follow.
    pub(super) fn tier(&self) -> usize {
        self.tier
    }

    /// The encode that it follows still.
    pub(super) fn follows(&self) -> Option<(Bitstream, usize)> {
        self.follows
    }

    /// From now on it shall follow this one. True where it has to wait for an IDR of it.
    pub(super) fn set_tier(&mut self, tier: usize) -> bool {
        let changed = std::mem::replace(&mut self.tier, tier) != tier;
        changed
            && !matches!(self.follows, Some((Bitstream::Source, _)))
            && self.follows.is_none_or(|(_, its)| its != tier)
    }

    /// Whether its link is too narrow for the source's own.
    pub(super) fn is_narrow(&self) -> bool {
        self.narrow
    }

    /// Says whether its link carries the source's own.
    pub(super) fn set_narrow(&mut self, narrow: bool, now: Instant) {
        self.narrow = narrow;
        if narrow {
            self.source_ended(now);
        }
    }

    /// What it is sent.
    pub(super) fn sending(&self) -> Option<Sending> {
        let video = match self.follows?.0 {
            Bitstream::Source => "original",
            Bitstream::Annotated => "annotated",
            Bitstream::Plain => "plain",
        };
        Some(Sending { video, narrow: self.narrow })
    }

    /// Whether it waits for an IDR of whatever it can follow.
    pub(super) fn needs_idr(&self) -> bool {
        self.follows.is_none()
    }

    /// Whether a frame of this output timestamp is later than all that it got.
    pub(super) fn lacks(&self, output: u32) -> bool {
        self.last.is_none_or(|last| is_after(output, last))
    }

    /// Whether an IDR of the source would serve it.
    pub(super) fn wants_source(&self) -> bool {
        self.choice == VideoChoice::Original && !self.narrow && self.waits.is_some()
    }

    /// Whether it gets the plain encode of a source like this, or would if there were one.
    pub(super) fn is_bridged(&self, route: Route, now: Instant) -> bool {
        if self.choice != VideoChoice::Original {
            return false;
        }
        if self.narrow {
            return true;
        }
        if self.follows_a(Bitstream::Source) {
            return false;
        }
        let patient = self.waits.is_some_and(|since| now.saturating_duration_since(since) < BRIDGE_PATIENCE);
        self.follows_a(Bitstream::Plain) || !route.forwards || route.lost || !route.can_be_asked || !patient
    }

    /// What becomes of `frame`. Each frame that is sent is an IDR or follows its predecessor in the same bitstream, and is later
    /// than all before it.
    pub(super) fn judge(&self, frame: &EncodedFrame, route: Route, now: Instant) -> Verdict {
        let concerned = match (self.choice, frame.bitstream) {
            (VideoChoice::Annotated, Bitstream::Annotated) => self.takes(frame),
            (VideoChoice::Original, Bitstream::Source) => {
                let follows = self.follows_a(Bitstream::Source);
                !self.narrow && (frame.idr || follows || !self.is_bridged(route, now))
            }
            (VideoChoice::Original, Bitstream::Plain) => self.is_bridged(route, now) && self.takes(frame),
            _ => false,
        };
        if !concerned {
            return Verdict::Pass;
        }
        let continues = frame.idr || self.follows == Some((frame.bitstream, frame.tier));
        if continues && self.lacks(frame.rtp_timestamp.output) {
            return Verdict::Send;
        }
        // It has the picture already by the encode that it follows until it can go over.
        let goes_on = self.follows.is_some_and(|(bitstream, tier)| bitstream == frame.bitstream && tier != frame.tier);
        if goes_on { Verdict::Pass } else { Verdict::Miss }
    }

    /// Whether a frame of an encode is of the one that it follows, or one at which it goes over to that which it shall follow.
    fn takes(&self, frame: &EncodedFrame) -> bool {
        match self.follows {
            Some((bitstream, tier)) if bitstream == frame.bitstream => {
                frame.tier == tier || (frame.tier == self.tier && frame.idr)
            }
            _ => frame.tier == self.tier,
        }
    }

    /// Whether a frame is of the encode that it shall go over to.
    pub(super) fn wants(&self, frame: &EncodedFrame) -> bool {
        let of_kind = self.follows.is_some_and(|(bitstream, _)| bitstream == frame.bitstream);
        of_kind && frame.tier == self.tier && self.follows != Some((frame.bitstream, frame.tier))
    }

    fn follows_a(&self, bitstream: Bitstream) -> bool {
        self.follows.is_some_and(|(its, _)| its == bitstream)
    }

    /// It got `frame`.
    pub(super) fn sent(&mut self, frame: &EncodedFrame) {
        self.last = Some(frame.rtp_timestamp.output);
        self.follows = Some((frame.bitstream, frame.tier));
        // Whoever follows the plain encode waits on for the source.
        if frame.idr && frame.bitstream != Bitstream::Plain {
            self.waits = None;
        }
    }

    /// A frame of what it follows did not reach it.
    pub(super) fn broke(&mut self, now: Instant) {
        self.follows = None;
        self.waits.get_or_insert(now);
    }

    /// It says that it lost data. While a source can be asked, it gets what comes meanwhile, which may be all it needs.
    pub(super) fn complained(&mut self, route: Route, now: Instant) {
        if self.follows_a(Bitstream::Source) {
            if route.can_be_asked && route.forwards && !route.lost {
                self.waits.get_or_insert(now);
            } else {
                self.broke(now);
            }
        }
    }

    /// What the source sent until now is over; its next frame is an IDR.
    pub(super) fn source_ended(&mut self, now: Instant) {
        if self.follows_a(Bitstream::Source) {
            self.broke(now);
        }
    }

    /// Gives the source up: nothing comes from it, or it did not answer in time.
    pub(super) fn leave_source(&mut self, route: Route, now: Instant) {
        let impatient = self.waits.is_some_and(|since| now.saturating_duration_since(since) >= BRIDGE_PATIENCE);
        if self.follows_a(Bitstream::Source) && (route.lost || !route.forwards || impatient) {
            self.broke(now);
        }
    }
}

/// Whether a timestamp is later than another; they wrap.
#[allow(clippy::cast_possible_wrap)]
fn is_after(timestamp: u32, other: u32) -> bool {
    timestamp.wrapping_sub(other) as i32 > 0
}
