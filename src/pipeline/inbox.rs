//! What waits for a stream's video thread: access units, bounded, what the source says of them, and the word that a result
//! or a viewer has come.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ingress::Named;
use crate::media::KeyframeGate;

/// Access units that may wait: what arrives at once when a gap of 150 ms at 120 frames a second is filled, and room to
/// spare. A thread that is further behind will not catch up by decoding everything.
const WAITING_UNITS: usize = 32;

/// What the video thread finds.
#[derive(Debug)]
pub(super) enum Event {
    /// The next access unit.
    Unit(Named),
    /// The source begins anew, before the next unit.
    Epoch,
    /// A unit never came whole, before the next one.
    Lost,
    /// Nothing comes from the source, for this reason; or it may again.
    Signal(Option<String>),
    /// The detector finished a frame.
    Detected,
    /// A viewer waits for a picture.
    Wanted,
    /// It is time.
    Due,
}

/// What became of an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Queued,
    /// It was dropped with so many others, up to the next IDR, which somebody should ask for.
    Dropped(u64),
    /// The thread has ended.
    Closed,
}

/// The bounded queue in front of a video thread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Units, and between them what the source says: [`Event::Epoch`], [`Event::Lost`] and [`Event::Signal`].
    events: VecDeque<Event>,
    units: usize,
    detected: bool,
    wanted: bool,
    /// After an overflow: nothing is of use until an IDR comes.
    waits_for_idr: bool,
    /// Keeps the requests for that IDR apart.
    requests: KeyframeGate,
    closed: bool,
}

impl Inbox {
    /// Puts an access unit at the end. One is never dropped singly, as the next depends on it: on overflow all that wait
    /// go, and all that come until the next IDR.
    pub(super) fn push(&self, named: Named) -> Pushed {
        let mut state = self.lock();
        if state.closed {
            return Pushed::Closed;
        }
        let idr = named.unit.idr;
        if idr {
            state.waits_for_idr = false;
        }
        if state.waits_for_idr {
            return Pushed::Dropped(1);
        }
        let mut dropped = 0;
        if state.units >= WAITING_UNITS {
            dropped = state.units as u64;
            state.drop_units();
            if !idr {
                state.waits_for_idr = true;
                return Pushed::Dropped(dropped + 1);
            }
        }
        state.units += 1;
        state.events.push_back(Event::Unit(named));
        drop(state);
        self.ready.notify_one();
        if dropped > 0 { Pushed::Dropped(dropped) } else { Pushed::Queued }
    }

    /// The source begins anew: what waits of it will not be needed. Returns how many units did.
    pub(super) fn begin_epoch(&self) -> u64 {
        let mut state = self.lock();
        let dropped = state.units as u64;
        state.drop_units();
        state.events.retain(|event| !matches!(event, Event::Epoch));
        state.waits_for_idr = false;
        state.events.push_back(Event::Epoch);
        drop(state);
        self.ready.notify_one();
        dropped
    }

    /// Says that a unit never came whole.
    pub(super) fn unit_lost(&self) {
        let mut state = self.lock();
        // Two in a row are one.
        if !matches!(state.events.back(), Some(Event::Lost)) {
            state.events.push_back(Event::Lost);
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Says why nothing comes, after what waits already; or that something may come again.
    pub(super) fn signal(&self, lost: Option<String>) {
        let mut state = self.lock();
        // The last holds.
        state.events.retain(|event| !matches!(event, Event::Signal(_)));
        state.events.push_back(Event::Signal(lost));
        drop(state);
        self.ready.notify_one();
    }

    /// Says that a viewer waits for a picture.
    pub(super) fn notify_wanted(&self) {
        self.lock().wanted = true;
        self.ready.notify_one();
    }

    /// Says that the detector finished a frame.
    pub(super) fn notify_detected(&self) {
        self.lock().detected = true;
        self.ready.notify_one();
    }

    /// Whether a newer access unit waits.
    pub(super) fn has_unit(&self) -> bool {
        self.lock().units > 0
    }

    /// Waits for the next event, until `due` at the longest; `None` when the inbox is closed.
    pub(super) fn take(&self, due: Option<Instant>) -> Option<Event> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if std::mem::take(&mut state.detected) {
                return Some(Event::Detected);
            }
            if let Some(event) = state.events.pop_front() {
                state.units -= usize::from(matches!(event, Event::Unit(_)));
                return Some(event);
            }
            if std::mem::take(&mut state.wanted) {
                return Some(Event::Wanted);
            }
            state = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Some(Event::Due),
                Some(left) => self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Ends the thread at its next look.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.events.clear();
        state.units = 0;
        drop(state);
        self.ready.notify_all();
    }

    /// Whether a keyframe should be asked for now, after an overflow: at most twice a second.
    pub(super) fn should_ask(&self, now: Instant) -> bool {
        let mut state = self.lock();
        if !state.waits_for_idr {
            return false;
        }
        state.requests.ask();
        state.requests.take(now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_units(&mut self) {
        self.events.retain(|event| !matches!(event, Event::Unit(_) | Event::Lost));
        self.units = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::media::{AccessUnit, RtpTimestamp, VideoCodec};
    use crate::pipeline::ingress::Name;

    fn unit(rtp_timestamp: u32, idr: bool) -> Named {
        let now = Instant::now();
        let unit = AccessUnit {
            codec: VideoCodec::H264,
            data: Bytes::new(),
            rtp_timestamp,
            idr,
            first_packet: now,
            last_packet: now,
            captured: None,
        };
        let rtp_timestamp = RtpTimestamp { output: rtp_timestamp, source: rtp_timestamp };
        Named { unit, name: Name { id: 0, rtp_timestamp, captured: None, arrived: now, idr: false }, forwarded: false }
    }

    fn taken(inbox: &Inbox) -> Vec<(u32, bool)> {
        let mut units = Vec::new();
        while inbox.has_unit() {
            if let Some(Event::Unit(Named { unit, .. })) = inbox.take(None) {
                units.push((unit.rtp_timestamp, unit.idr));
            }
        }
        units
    }

    #[test]
    fn an_overflow_drops_up_to_the_next_idr_and_asks_for_one() {
        let inbox = Inbox::default();
        let full = u32::try_from(WAITING_UNITS).unwrap();
        for n in 0..full {
            assert_eq!(inbox.push(unit(n, n == 0)), Pushed::Queued);
        }
        assert_eq!(inbox.push(unit(100, false)), Pushed::Dropped(u64::from(full) + 1));
        assert!(inbox.should_ask(Instant::now()));
        assert!(!inbox.should_ask(Instant::now()), "once, not for each unit");
        assert_eq!(inbox.push(unit(101, false)), Pushed::Dropped(1));
        assert_eq!(inbox.push(unit(102, true)), Pushed::Queued);
        assert_eq!(inbox.push(unit(103, false)), Pushed::Queued);
        assert_eq!(taken(&inbox), [(102, true), (103, false)]);
    }

    #[test]
    fn closing_wakes_the_thread_that_waits() {
        let inbox = Arc::new(Inbox::default());
        let waiting = thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || inbox.take(None).is_none()
        });
        inbox.close();
        assert!(waiting.join().unwrap());
        assert_eq!(inbox.push(unit(0, true)), Pushed::Closed);
    }

    #[test]
    fn a_result_wakes_the_thread_without_a_unit() {
        let inbox = Inbox::default();
        inbox.notify_detected();
        assert!(matches!(inbox.take(None), Some(Event::Detected)));
    }

    #[test]
    fn what_the_source_says_keeps_its_place_between_the_units() {
        let inbox = Inbox::default();
        inbox.push(unit(0, true));
        assert_eq!(inbox.begin_epoch(), 1);
        inbox.push(unit(1, true));
        inbox.signal(Some("lost".into()));
        inbox.signal(Some("still lost".into()));
        assert!(matches!(inbox.take(None), Some(Event::Epoch)), "what was before it is of no use");
        assert!(matches!(inbox.take(None), Some(Event::Unit(Named { unit, .. })) if unit.rtp_timestamp == 1));
        assert!(matches!(inbox.take(None), Some(Event::Signal(Some(text))) if text == "still lost"));
        assert!(matches!(inbox.take(Some(Instant::now())), Some(Event::Due)));
        inbox.notify_wanted();
        assert!(matches!(inbox.take(None), Some(Event::Wanted)));
    }

    proptest! {
        /// What comes out could be decoded: each unit follows its predecessor or is an IDR.
        #[test]
        fn no_unit_comes_out_without_the_one_before_it(steps in prop::collection::vec((any::<bool>(), 0u8..10), 1..200)) {
            let inbox = Inbox::default();
            let mut expected_after = None;
            for (n, (drain, kind)) in (0..).zip(steps) {
                inbox.push(unit(n, n == 0 || kind == 0));
                if drain {
                    for (timestamp, idr) in taken(&inbox) {
                        prop_assert!(idr || expected_after == Some(timestamp));
                        expected_after = Some(timestamp + 1);
                    }
                }
            }
        }
    }
}
