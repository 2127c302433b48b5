//! What waits for a stream's video thread: access units, bounded, and the word that a result has come.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::media::{AccessUnit, KeyframeGate};

/// Access units that may wait: what arrives at once when a gap of 150 ms at 120 frames a second is filled, and room to
/// spare. A thread that is further behind will not catch up by decoding everything.
const WAITING_UNITS: usize = 32;

/// What the video thread finds.
#[derive(Debug)]
pub(super) enum Event {
    /// The next access unit.
    Unit(AccessUnit),
    /// The detector finished a frame.
    Detected,
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
    units: VecDeque<AccessUnit>,
    detected: bool,
    /// After an overflow: nothing is of use until an IDR comes.
    waits_for_idr: bool,
    /// Keeps the requests for that IDR apart.
    requests: KeyframeGate,
    closed: bool,
}

impl Inbox {
    /// Puts an access unit at the end. One is never dropped singly, as the next depends on it: on overflow all that wait
    /// go, and all that come until the next IDR.
    pub(super) fn push(&self, unit: AccessUnit) -> Pushed {
        let mut state = self.lock();
        if state.closed {
            return Pushed::Closed;
        }
        if unit.idr {
            state.waits_for_idr = false;
        }
        if state.waits_for_idr {
            return Pushed::Dropped(1);
        }
        if state.units.len() >= WAITING_UNITS {
            let dropped = state.units.len() as u64;
            state.units.clear();
            if !unit.idr {
                state.waits_for_idr = true;
                return Pushed::Dropped(dropped + 1);
            }
            state.units.push_back(unit);
            drop(state);
            self.ready.notify_one();
            return Pushed::Dropped(dropped);
        }
        state.units.push_back(unit);
        drop(state);
        self.ready.notify_one();
        Pushed::Queued
    }

    /// Says that the detector finished a frame.
    pub(super) fn notify_detected(&self) {
        self.lock().detected = true;
        self.ready.notify_one();
    }

    /// Whether a newer access unit waits.
    pub(super) fn has_unit(&self) -> bool {
        !self.lock().units.is_empty()
    }

    /// Waits for the next event; `None` when the inbox is closed.
    pub(super) fn take(&self) -> Option<Event> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if std::mem::take(&mut state.detected) {
                return Some(Event::Detected);
            }
            if let Some(unit) = state.units.pop_front() {
                return Some(Event::Unit(unit));
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the thread at its next look.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.units.clear();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::media::VideoCodec;

    fn unit(rtp_timestamp: u32, idr: bool) -> AccessUnit {
        let now = Instant::now();
        AccessUnit {
            codec: VideoCodec::H264,
            data: Bytes::new(),
            rtp_timestamp,
            idr,
            first_packet: now,
            last_packet: now,
            captured: None,
        }
    }

    fn taken(inbox: &Inbox) -> Vec<(u32, bool)> {
        let mut units = Vec::new();
        while inbox.has_unit() {
            if let Some(Event::Unit(unit)) = inbox.take() {
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
            move || inbox.take().is_none()
        });
        inbox.close();
        assert!(waiting.join().unwrap());
        assert_eq!(inbox.push(unit(0, true)), Pushed::Closed);
    }

    #[test]
    fn a_result_wakes_the_thread_without_a_unit() {
        let inbox = Inbox::default();
        inbox.notify_detected();
        assert!(matches!(inbox.take(), Some(Event::Detected)));
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
