//! Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over the lanes.
//!
//! Every lane has a start, a point of *virtual time*; of the lanes in which a frame waits, the one with the earliest is next.
//! When its frame is done, its start moves on by the time that the frame took a thread, times its priority. So a lane of
//! priority 2 gets half of the time of a lane of priority 1, one of priority 9 a ninth; among equals that use the same model
//! the frames are equally many. What a lane does not need is the others'. Nobody starves: whoever waits stands still in
//! virtual time, and everybody else moves on.
//!
//! It is time that is shared and not frames, so that a slow model, or one that hangs, costs the streams that chose it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much of the detector's time a stream gets beside others: 1 (the highest, and the default) to 9. A stream of priority
/// *n* gets one *n*th of what a stream of priority 1 gets, while there is too little for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Priority(u8);

impl Priority {
    /// The highest.
    pub const HIGHEST: Self = Self(1);
    /// The lowest.
    pub const LOWEST: Self = Self(9);

    /// The priority of that number.
    ///
    /// # Errors
    /// Names the value and what is possible.
    pub fn new(number: u32) -> Result<Self, String> {
        match u8::try_from(number) {
            Ok(number @ 1..=9) => Ok(Self(number)),
            _ => Err(format!("priority = {number}: from 1 (highest) to 9 is possible")),
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.into()
    }

    /// The share of the detector's time against a stream of priority 1.
    #[must_use]
    pub fn weight(self) -> f64 {
        1.0 / f64::from(self.0)
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::HIGHEST
    }
}

impl TryFrom<u32> for Priority {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        Self::new(number)
    }
}

impl From<Priority> for u32 {
    fn from(priority: Priority) -> Self {
        priority.number()
    }
}

/// The lanes that take turns, each named by a number, with what is kept for it.
#[derive(Debug)]
pub(super) struct Turns<T> {
    places: Vec<Place<T>>,
    /// The latest start of a frame that was handed out, in virtual milliseconds.
    now: u64,
    /// Counts the frames handed out.
    turn: u64,
}

#[derive(Debug)]
struct Place<T> {
    id: u64,
    kept: T,
    priority: Priority,
    /// A frame waits.
    ready: bool,
    /// The turn whose frame a thread holds.
    in_work: Option<u64>,
    /// Where the lane's next frame begins, in virtual milliseconds.
    start: u64,
    /// The turn in which the lane was last served.
    served: u64,
}

/// A frame's turn: of which lane, and the number by which it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub lane: u64,
    pub number: u64,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { places: Vec::new(), now: 0, turn: 0 }
    }
}

impl<T> Turns<T> {
    pub(super) fn add(&mut self, id: u64, priority: Priority, kept: T) {
        self.places.push(Place { id, kept, priority, ready: false, in_work: None, start: self.now, served: 0 });
    }

    /// Takes a lane out. The frame that a thread holds no longer matters.
    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let at = self.places.iter().position(|place| place.id == id)?;
        Some(self.places.swap_remove(at).kept)
    }

    /// Holds from the frame on that is next to be done.
    pub(super) fn set_priority(&mut self, id: u64, priority: Priority) {
        if let Some(place) = self.place(id) {
            place.priority = priority;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = &T> {
        self.places.iter().map(|place| &place.kept)
    }

    pub(super) fn kept_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().map(|place| &mut place.kept)
    }

    fn place(&mut self, id: u64) -> Option<&mut Place<T>> {
        self.places.iter_mut().find(|place| place.id == id)
    }

    /// Says that a frame waits in the lane. Returns whether a thread could take it now.
    pub(super) fn ready(&mut self, id: u64) -> bool {
        let now = self.now;
        let Some(place) = self.place(id) else { return false };
        if !place.ready && place.in_work.is_none() {
            // Who was quiet has not saved up for later.
            place.start = place.start.max(now);
        }
        place.ready = true;
        place.in_work.is_none()
    }

    /// Hands out the turn of the lane that is next, with what is kept for it.
    pub(super) fn next(&mut self) -> Option<(Turn, &T)> {
        self.next_if(|_| true)
    }

    /// The same, unless `wanted` does not want what is kept for it: nobody is passed over.
    pub(super) fn next_if(&mut self, wanted: impl FnOnce(&T) -> bool) -> Option<(Turn, &T)> {
        let ready = self.places.iter_mut().filter(|place| place.ready && place.in_work.is_none());
        let place = ready.min_by_key(|place| (place.start, place.served)).filter(|place| wanted(&place.kept))?;
        self.turn += 1;
        self.now = self.now.max(place.start);
        (place.ready, place.in_work, place.served) = (false, Some(self.turn), self.turn);
        Some((Turn { lane: place.id, number: self.turn }, &place.kept))
    }

    /// How many frames a thread could take now.
    pub(super) fn waiting(&self) -> usize {
        self.places.iter().filter(|place| place.ready && place.in_work.is_none()).count()
    }

    /// Whether the turn is still out: neither given back nor taken away with its lane.
    #[cfg(test)]
    fn is_out(&self, turn: Turn) -> bool {
        self.places.iter().any(|place| place.id == turn.lane && place.in_work == Some(turn.number))
    }

    /// Takes a turn back that cost a thread this long. Returns whether another frame of the lane waits. A turn that was taken
    /// back already does not count.
    pub(super) fn done(&mut self, turn: Turn, cost: Duration) -> bool {
        let now = self.now;
        let Some(place) = self.place(turn.lane).filter(|place| place.in_work == Some(turn.number)) else {
            return false;
        };
        place.in_work = None;
        // Whole milliseconds, so that equals take turns whatever the clock's noise; one at least, so that all move on.
        let millis = cost.saturating_add(Duration::from_micros(500)).as_millis();
        let charge = u64::try_from(millis).unwrap_or(u64::MAX).max(1).saturating_mul(place.priority.0.into());
        place.start = place.start.saturating_add(charge);
        if place.ready {
            // One thread may be less than the lane's share. It stays ahead, by no more than what one frame costs.
            place.start = place.start.max(now.saturating_sub(charge));
        }
        place.ready
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
