//! From tracked objects to events and counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::place::{AtLine, InZone, Moved};
use super::{Region, RegionKind, RegionSet, Shape};
use crate::media::{Detection, Direction, RegionEvent, RegionEventKind};

/// An object that has not been seen for this long has left, unless the tracker remembers it for longer: it must not come back under
/// its name.
const FORGOTTEN: Duration = Duration::from_millis(1500);

/// The most events of one picture; what is more is counted, and not told.
const MOST_EVENTS: usize = 200;

/// What happened at a region so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionCount {
    /// What it is for.
    pub kind: RegionKind,
    /// Objects inside now: `enters` less `leaves`.
    pub inside: u64,
    /// Objects that came in.
    pub enters: u64,
    /// Objects that left.
    pub leaves: u64,
    /// Objects that stayed for as long as was asked for.
    pub dwells: u64,
    /// Objects that crossed the line one way.
    pub left_to_right: u64,
    /// Objects that crossed it the other way.
    pub right_to_left: u64,
}

impl RegionCount {
    fn new(kind: RegionKind) -> Self {
        Self { kind, inside: 0, enters: 0, leaves: 0, dwells: 0, left_to_right: 0, right_to_left: 0 }
    }

    /// Adds what another lane of the same stream counted.
    pub fn add(&mut self, other: &Self) {
        self.inside += other.inside;
        self.enters += other.enters;
        self.leaves += other.leaves;
        self.dwells += other.dwells;
        self.left_to_right += other.left_to_right;
        self.right_to_left += other.right_to_left;
    }
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Zone(InZone),
    Line(AtLine),
}

#[derive(Debug)]
struct Known {
    class_name: Arc<str>,
    seen: Instant,
    place: Place,
}

/// A region with who is at it.
#[derive(Debug)]
struct Watched {
    region: Region,
    count: RegionCount,
    /// By track id.
    known: HashMap<u64, Known>,
}

/// Watches the zones and lines of one stream.
#[derive(Debug, Default)]
pub struct Engine {
    watched: Vec<Watched>,
    now: Option<Instant>,
    /// How long the tracker remembers objects.
    memory: Duration,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(regions: &RegionSet) -> Self {
        let mut engine = Self::default();
        engine.set(regions);
        engine
    }

    /// Watches these from now on. A region that is as it was goes on with its counts; one that is gone is forgotten.
    pub fn set(&mut self, regions: &RegionSet) {
        let mut before = std::mem::take(&mut self.watched);
        let watches = |region: &&Region| matches!(region.kind, RegionKind::Zone | RegionKind::Line);
        self.watched.extend(regions.iter().filter(watches).map(|region| {
            match before.iter().position(|watched| watched.region == *region) {
                Some(at) => before.swap_remove(at),
                None => Watched { region: region.clone(), count: RegionCount::new(region.kind), known: HashMap::new() },
            }
        }));
    }

    /// The tracker remembers objects for so long.
    pub fn remember(&mut self, memory: Duration) {
        self.memory = memory;
    }

    /// For so long the pictures did not change, and nobody looked at them: who was there still is.
    pub fn rest(&mut self, still: Duration) {
        for known in self.watched.iter_mut().flat_map(|watched| watched.known.values_mut()) {
            known.seen += still;
        }
    }

    /// Takes the objects of the picture of instant `now`, of `width`×`height` pixels. Objects without a track id are not
    /// followed. A `now` before the last one counts as the last one.
    pub fn update(&mut self, now: Instant, width: f32, height: f32, items: &[Detection]) -> Vec<RegionEvent> {
        let now = self.now.map_or(now, |last| last.max(now));
        self.now = Some(now);
        let mut events = Vec::new();
        let memory = FORGOTTEN.max(self.memory);
        for watched in &mut self.watched {
            if width > 0.0 && height > 0.0 {
                for item in items {
                    watched.see(now, [width, height], item, &mut events);
                }
            }
            watched.forget(now, memory, &mut events);
        }
        events.truncate(MOST_EVENTS);
        events
    }

    /// What happened so far, by the region's name.
    pub fn counts(&self) -> impl Iterator<Item = (&Arc<str>, &RegionCount)> {
        self.watched.iter().map(|watched| (&watched.region.name, &watched.count))
    }
}

impl Watched {
    fn see(&mut self, now: Instant, [width, height]: [f32; 2], item: &Detection, events: &mut Vec<RegionEvent>) {
        let Some(track_id) = item.track_id.filter(|_| item.bbox.is_finite()) else { return };
        if !self.region.is_for(&item.class_name) {
            return;
        }
        let at = [item.bbox.centre().0 / width, item.bbox.y2 / height];
        let shape = &self.region.shape;
        let known = self.known.entry(track_id).or_insert_with(|| Known {
            class_name: Arc::clone(&item.class_name),
            seen: now,
            place: match shape {
                Shape::Polygon(_) => Place::Zone(InZone::new(now)),
                Shape::Line(line) => Place::Line(AtLine::new(line, at)),
            },
        });
        known.seen = now;
        let event = event(&self.region.name, track_id, &known.class_name);
        match (shape, &mut known.place) {
            (Shape::Polygon(zone), Place::Zone(place)) => {
                let moved = place.see(now, zone, at);
                let inside_s = now.saturating_duration_since(place.since).as_secs_f32();
                match moved {
                    Some(Moved::In) => {
                        self.count.enters += 1;
                        self.count.inside += 1;
                        events.push(RegionEvent { count: Some(self.count.inside), ..event(RegionEventKind::Enter) });
                    }
                    Some(Moved::Out) => events.push(self.count.leave(event(RegionEventKind::Leave), inside_s)),
                    None => {}
                }
                if place.inside() && !place.told && self.region.dwell_s.is_some_and(|dwell_s| inside_s >= dwell_s) {
                    place.told = true;
                    self.count.dwells += 1;
                    events.push(RegionEvent { dwell_s: Some(inside_s), ..event(RegionEventKind::Dwell) });
                }
            }
            (Shape::Line(line), Place::Line(place)) => {
                if let Some(direction) = place.see(now, line, at) {
                    let count = match direction {
                        Direction::LeftToRight => &mut self.count.left_to_right,
                        Direction::RightToLeft => &mut self.count.right_to_left,
                    };
                    *count += 1;
                    let (direction, count) = (Some(direction), Some(*count));
                    events.push(RegionEvent { direction, count, ..event(RegionEventKind::Cross) });
                }
            }
            // A place is made for its region's shape.
            _ => {}
        }
    }

    /// Who has not been seen for long has left.
    fn forget(&mut self, now: Instant, memory: Duration, events: &mut Vec<RegionEvent>) {
        let gone = |known: &Known| now.saturating_duration_since(known.seen) > memory;
        let mut left: Vec<u64> = self.known.iter().filter(|(_, known)| gone(known)).map(|(id, _)| *id).collect();
        left.sort_unstable();
        for track_id in left {
            let Some(known) = self.known.remove(&track_id) else { continue };
            if let Place::Zone(place) = known.place
                && place.inside()
            {
                let event = event(&self.region.name, track_id, &known.class_name);
                let inside_s = known.seen.saturating_duration_since(place.since).as_secs_f32();
                events.push(self.count.leave(event(RegionEventKind::Leave), inside_s));
            }
        }
    }
}

impl RegionCount {
    fn leave(&mut self, event: RegionEvent, inside_s: f32) -> RegionEvent {
        self.leaves += 1;
        self.inside = self.inside.saturating_sub(1);
        RegionEvent { dwell_s: Some(inside_s), count: Some(self.inside), ..event }
    }
}

fn event(region: &Arc<str>, track_id: u64, class_name: &Arc<str>) -> impl Fn(RegionEventKind) -> RegionEvent {
    let (region, class_name) = (Arc::clone(region), Arc::clone(class_name));
    move |kind| RegionEvent {
        kind,
        region: Arc::clone(&region),
        track_id,
        class_name: Arc::clone(&class_name),
        direction: None,
        dwell_s: None,
        count: None,
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
