//! Where one object is in relation to one region: jitter on an edge is no news.

use std::time::{Duration, Instant};

use super::line::{Line, Side};
use crate::detect::zone::Zone;
use crate::media::Direction;

/// What is further than this from an edge is on that side of it, in shares of the picture: boxes jitter by a few pixels.
const CLEAR: f32 = 0.02;

/// What is nearer is on a side when it has been there for this long without a break.
const SETTLED: Duration = Duration::from_secs(1);

/// A side that has to be clear, or to last, before it counts.
#[derive(Clone, Copy, Debug)]
struct Debounced<S> {
    holds: S,
    /// Another side, since when.
    doubt: Option<Instant>,
}

impl<S: PartialEq + Copy> Debounced<S> {
    fn new(holds: S) -> Self {
        Self { holds, doubt: None }
    }

    /// Whether the side that holds has become `seen`, `distance` from the edge.
    fn becomes(&mut self, now: Instant, seen: S, distance: f32) -> bool {
        if seen == self.holds {
            self.doubt = None;
            return false;
        }
        let since = *self.doubt.get_or_insert(now);
        if distance <= CLEAR && now.saturating_duration_since(since) < SETTLED {
            return false;
        }
        (self.holds, self.doubt) = (seen, None);
        true
    }
}

/// One object and one zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct InZone {
    inside: Debounced<bool>,
    /// Since when it is inside.
    pub since: Instant,
    /// Its dwelling was told.
    pub told: bool,
}

/// What an object did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    In,
    Out,
}

impl InZone {
    /// An object that was not there before, and so was outside.
    pub(super) fn new(now: Instant) -> Self {
        Self { inside: Debounced::new(false), since: now, told: false }
    }

    pub(super) fn inside(&self) -> bool {
        self.inside.holds
    }

    /// The object is at `at` now.
    pub(super) fn see(&mut self, now: Instant, zone: &Zone, at: [f32; 2]) -> Option<Moved> {
        let inside = zone.contains(at);
        // Who comes in has been in since the first doubt.
        let since = self.inside.doubt.unwrap_or(now);
        if !self.inside.becomes(now, inside, zone.distance(at)) {
            return None;
        }
        if inside {
            (self.since, self.told) = (since, false);
        }
        Some(if inside { Moved::In } else { Moved::Out })
    }
}

/// One object and one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtLine {
    side: Debounced<Side>,
    at: [f32; 2],
    /// How often it went through from left to right, less the other way, since its side held.
    through: i32,
}

impl AtLine {
    pub(super) fn new(line: &Line, at: [f32; 2]) -> Self {
        Self { side: Debounced::new(line.side(at)), at, through: 0 }
    }

    /// The object is at `at` now. Whether it has crossed is said once it is clear of the line.
    pub(super) fn see(&mut self, now: Instant, line: &Line, at: [f32; 2]) -> Option<Direction> {
        let from = std::mem::replace(&mut self.at, at);
        self.through += match line.passes(from, at) {
            Some(Direction::LeftToRight) => 1,
            Some(Direction::RightToLeft) => -1,
            None => 0,
        };
        let side = line.side(at);
        if !self.side.becomes(now, side, line.offset(at).abs()) {
            if side == self.side.holds && line.offset(at).abs() > CLEAR {
                // Back where it was: round the end, or there and back.
                self.through = 0;
            }
            return None;
        }
        match (side, std::mem::take(&mut self.through)) {
            (Side::Right, 1..) => Some(Direction::LeftToRight),
            (Side::Left, ..=-1) => Some(Direction::RightToLeft),
            // Round the end.
            _ => None,
        }
    }
}
